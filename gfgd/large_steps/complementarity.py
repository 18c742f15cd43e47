"""Semidefinite complementarity problems for small symmetric matrices.

Given a symmetric k×k matrix A and a linear map B on such matrices, symmetric and ⪰ 0, find X with

    X ⪰ 0,   S = A + B[X] ⪰ 0,   ⟨X, S⟩ = 0.

These are the optimality conditions of a convex problem: minimise ⟨A, X⟩ + ½⟨X, B[X]⟩ over X ⪰ 0.
For k = 1 the answer is X = max(0, −A/B). The central flow (``gfgd.large_steps.central``) solves one
a stage.

There may be no solution, and a solver that fails is no proof of it. A matrix D ⪰ 0 with ⟨A, D⟩ < 0
that B maps nearly to 0 is one: for every solution X,

    0 ≤ ⟨S, D⟩ = ⟨A, D⟩ + ⟨X, B[D]⟩ ≤ ⟨A, D⟩ + ‖X‖ ‖B[D]‖,   so   ‖X‖ ≥ −⟨A, D⟩ / ‖B[D]‖,

and with B[D] = 0 there is none: nothing that X can do raises S along D, where A is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float64]

#: At this residual the solver goes over from interior steps to Newton's.
NEAR = 1e-3

#: Newton steps that polish what the fallback found.
POLISHING = 10

#: Projections that improve a certificate.
PROJECTIONS = 200

#: Where every solution has a norm above this times ‖A‖/‖B‖, there is none.
UNREACHABLE = 1e9


@dataclass(frozen=True, eq=False)
class Complementarity:
    """What :func:`solve_complementarity` found.

    Attributes
    ----------
    solution, slack
        X and S = A + B[X], shape ``(k, k)``: the best that was met.
    residual
        See :func:`solve_complementarity`.
    iterations
        Of this module's solver, and of the fallback where that was called.
    converged
        Whether the residual met the tolerance.
    least_norm
        Every solution X has ‖X‖ ≥ this: from a certificate D ⪰ 0 (see the module's docstring),
        infinite where B[D] = 0; 0 where none was found.
    infeasible
        Whether `least_norm` exceeds 10⁹ ‖A‖/‖B‖: there is no solution. Neither converged nor
        infeasible means that the solvers failed, and nothing about the problem.
    """

    solution: Matrix
    slack: Matrix
    residual: float
    iterations: int
    converged: bool
    least_norm: float = 0.0
    infeasible: bool = False


def solve_complementarity(
    offset: Matrix, operator: Matrix, *, tolerance: float = 1e-8, max_iterations: int = 60
) -> Complementarity:
    """Solve X ⪰ 0, S = A + B[X] ⪰ 0, ⟨X, S⟩ = 0 for a symmetric k×k matrix X.

    A primal-dual interior-point method in Nesterov and Todd's scaling, with Mehrotra's choice of
    the centring, until it is near; then a semismooth Newton method, whose accuracy interior
    steps cannot match. An iteration solves one or two linear systems of size n = k(k + 1)/2.
    Where these do not converge, the conic solver Clarabel solves the convex problem, Newton's
    method polishes its answer, or its certificate shows that there is no solution.

    Parameters
    ----------
    offset
        A, symmetric, shape ``(k, k)``.
    operator
        B ⪰ 0, shape ``(n, n)``, in the orthonormal coordinates of :func:`to_coordinates`.
    tolerance
        Bound on the residual ‖X − P(X − S)‖, P the projection on the matrices ⪰ 0, after A and
        B have been divided by their norms. It vanishes exactly at solutions.
    max_iterations
        After so many the fallback is called; if it fails as well, the best X met is returned,
        marked as not converged.

    Raises
    ------
    ValueError
        If the shapes do not belong together or an entry is not finite.

    Examples
    --------
    >>> solve_complementarity(np.array([[-3.0]]), np.array([[2.0]])).solution
    array([[1.5]])

    References
    ----------
    Todd, Toh & Tütüncü (1998), On the Nesterov–Todd direction in semidefinite programming. Qi &
    Sun (1993), A nonsmooth version of Newton's method. Goulart & Chen (2024), Clarabel: an
    interior-point solver for conic programs with quadratic objectives.
    """
    offset, operator = np.asarray(offset, np.float64), np.asarray(operator, np.float64)
    size = len(offset)
    count = size * (size + 1) // 2
    if size == 0 or offset.shape != (size, size) or operator.shape != (count, count):
        raise ValueError(
            f"offset has shape {offset.shape} and operator {operator.shape}: give (k, k) and "
            "(n, n) with n = k(k + 1)/2"
        )
    if not (np.isfinite(offset).all() and np.isfinite(operator).all()):
        raise ValueError("offset, operator: have non-finite entries")
    offset, operator = (offset + offset.T) / 2, (operator + operator.T) / 2
    nothing = np.zeros_like(offset)
    if np.linalg.eigvalsh(offset)[0] >= 0:
        return Complementarity(nothing, offset, 0.0, 0, True)
    scale, strength = np.linalg.norm(offset), np.linalg.norm(operator)
    if strength == 0:
        # D = the eigenvector of the negative eigenvalue, and B[D] = 0.
        return Complementarity(nothing, offset, math.inf, 0, False, math.inf, True)
    problem = _Problem(offset / scale, operator / strength)
    solution, residual, iterations = problem.solve(tolerance, max_iterations)
    least_norm = 0.0
    if residual > tolerance:
        other, more = problem.solved_by_clarabel()
        iterations += more
        least_norm = problem.least_norm(other)  # where there is no solution, X runs off along D
        if least_norm <= UNREACHABLE:
            other, smaller = problem.polished(other, tolerance)
            if smaller < residual:
                solution, residual = other, smaller
    solution = solution * (scale / strength)
    return Complementarity(
        solution=solution,
        slack=offset + from_coordinates(operator @ to_coordinates(solution)),
        residual=residual,
        iterations=iterations,
        converged=residual <= tolerance,
        least_norm=least_norm * float(scale / strength),
        infeasible=residual > tolerance and least_norm > UNREACHABLE,
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """A complementarity problem with ‖A‖ = ‖B‖ = 1."""

    offset: Matrix
    operator: Matrix

    def slack(self, solution: Matrix) -> Matrix:
        return self.offset + self._applied(solution)

    def residual(self, solution: Matrix) -> float:
        wanted = solution - self.slack(solution)
        return float(np.linalg.norm(solution - _positive_part(wanted)))

    def solve(self, tolerance: float, max_iterations: int) -> tuple[Matrix, float, int]:
        """Return the best X met, its residual, and the number of iterations."""
        if len(self.offset) == 1:
            value = np.maximum(-self.offset / self.operator, 0)
            return value, self.residual(value), 0
        solution = slack = np.eye(len(self.offset))
        best, smallest, inside = solution, math.inf, True
        for iteration in range(1, max_iterations + 1):
            try:
                # Interior steps get near the solution from afar; Newton's end on it.
                step = self._interior_step if inside else self._newton_step
                solution, slack = step(solution, slack)
                residual = self.residual(_positive_part(solution))
            except np.linalg.LinAlgError:  # the iterates have run off: there is no solution
                residual = math.inf
            if not math.isfinite(residual):
                return best, smallest, iteration
            if residual < smallest:
                best, smallest = _positive_part(solution), residual
            if smallest <= tolerance:
                return best, smallest, iteration
            inside = inside and residual > NEAR
        return best, smallest, max_iterations

    def solved_by_clarabel(self) -> tuple[Matrix, int]:
        """Minimise ½xᵀBx + aᵀx over svec(X) = x, X ⪰ 0, with the conic solver Clarabel.

        Returns X and the number of iterations. Where the objective has no lower bound, X is a
        direction in which it falls for ever.
        """
        rows, columns, _ = coordinate_entries(len(self.offset))
        count = len(rows)
        order = np.lexsort((rows, columns))  # Clarabel goes through the triangle by columns
        solver: Any = clarabel  # a compiled module, without types
        settings = solver.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
        answer = solver.DefaultSolver(
            sparse.csc_matrix(np.triu(self.operator[np.ix_(order, order)])),
            to_coordinates(self.offset)[order],
            -sparse.identity(count, format="csc"),
            np.zeros(count),
            [solver.PSDTriangleConeT(len(self.offset))],
            settings,
        ).solve()
        coordinates = np.empty(count)
        coordinates[order] = np.array(answer.x)
        if not np.isfinite(coordinates).all():
            coordinates[:] = 0
        return _positive_part(from_coordinates(coordinates)), answer.iterations

    def least_norm(self, direction: Matrix) -> float:
        """Return the lower bound −⟨A, D⟩/‖B[D]‖ on the norm of every solution, or 0.

        Begins with a D ⪰ 0 and improves it by projections, in turn on the kernel of B and on the
        matrices ⪰ 0. Whatever comes out is ⪰ 0, so the bound holds.
        """
        values, vectors = np.linalg.eigh(self.operator)
        kernel = vectors[:, values <= 1e-12 * values[-1]]
        largest = 0.0
        for _ in range(PROJECTIONS):
            size = np.linalg.norm(direction)
            if size == 0 or not np.isfinite(size):
                break
            direction = direction / size
            gain = -float(np.sum(self.offset * direction))
            moved = float(np.linalg.norm(self._applied(direction)))
            if gain > 0:
                largest = max(largest, gain / moved if moved else math.inf)
            if gain <= 0 or largest > UNREACHABLE:
                break
            inside = kernel @ (kernel.T @ to_coordinates(direction))
            direction = _positive_part(from_coordinates(inside))
        return largest

    def polished(self, solution: Matrix, tolerance: float) -> tuple[Matrix, float]:
        """Return the best of a few Newton steps from X, and its residual."""
        best, smallest = solution, self.residual(solution)
        slack = _positive_part(self.slack(solution))
        for _ in range(POLISHING):
            if smallest <= tolerance:
                break
            try:
                solution, slack = self._newton_step(solution, slack)
            except np.linalg.LinAlgError:
                break
            residual = self.residual(solution)
            if residual < smallest:
                best, smallest = solution, residual
        return best, smallest

    def _interior_step(self, solution: Matrix, slack: Matrix) -> tuple[Matrix, Matrix]:
        """Take one predictor–corrector step from inside; X and S stay positive definite."""
        size = len(solution)
        gap = float(np.sum(solution * slack)) / size
        root, inverse_root = _roots(solution)
        slack_inverse_root = _roots(slack)[1]
        # W⁻¹, with W the matrix for which W S W = X.
        inverse_scaling = inverse_root @ _roots(root @ slack @ root)[0] @ inverse_root
        system = self.operator + _congruence(inverse_scaling)
        infeasibility = self.slack(solution) - slack
        inverse = inverse_root @ inverse_root

        def direction(centring: float) -> tuple[Matrix, Matrix, float]:
            right = centring * gap * inverse - slack - infeasibility
            change = from_coordinates(np.linalg.solve(system, to_coordinates(right)))
            slack_change = self._applied(change) + infeasibility
            length = min(_room(inverse_root, change), _room(slack_inverse_root, slack_change))
            return change, slack_change, length

        change, slack_change, length = direction(0.0)
        ahead = np.sum((solution + length * change) * (slack + length * slack_change)) / size
        change, slack_change, length = direction(min(max(ahead / gap, 0.0), 1.0) ** 3)
        length = min(1.0, 0.98 * length)
        return solution + length * change, slack + length * slack_change

    def _newton_step(self, solution: Matrix, slack: Matrix) -> tuple[Matrix, Matrix]:
        """Take one semismooth Newton step on A + B[Z₊] = Z₋, where X = Z₊ and S = Z₋."""
        values, vectors = np.linalg.eigh(solution - slack)
        above = np.maximum(values, 0)
        apart = values[:, None] - values[None, :]
        both = ((values[:, None] > 0) & (values[None, :] > 0)).astype(np.float64)
        slopes = np.divide(above[:, None] - above[None, :], apart, out=both, where=apart != 0)
        turn = _congruence(vectors)
        derivative = (turn * to_coordinates(slopes, weighted=False)) @ turn.T  # of Z ↦ Z₊
        point = to_coordinates(solution - slack)
        positive = to_coordinates((vectors * above) @ vectors.T)
        value = to_coordinates(self.offset) + self.operator @ positive + point - positive
        jacobian = self.operator @ derivative + np.eye(len(derivative)) - derivative
        # B may vanish on some matrices: then X is not unique, and the shortest step serves.
        step = np.linalg.lstsq(jacobian, value, rcond=None)[0]
        moved = from_coordinates(point - step)
        return _positive_part(moved), _positive_part(-moved)

    def _applied(self, matrix: Matrix) -> Matrix:
        return from_coordinates(self.operator @ to_coordinates(matrix))


def to_coordinates(matrix: Matrix, *, weighted: bool = True) -> Matrix:
    """Return the upper triangle row by row, off-diagonal entries times √2, shape ``(n,)``.

    The coordinates in an orthonormal basis E_p of the symmetric matrices: ⟨X, Y⟩ = Σ x_p y_p.
    With ``weighted=False`` the bare entries.
    """
    rows, columns, weights = coordinate_entries(len(matrix))
    entries = matrix[rows, columns]
    return entries * weights if weighted else entries


def from_coordinates(coordinates: NDArray[np.floating]) -> Matrix:
    """Return the symmetric matrix with these coordinates; inverts :func:`to_coordinates`."""
    size = (math.isqrt(8 * len(coordinates) + 1) - 1) // 2
    rows, columns, weights = coordinate_entries(size)
    matrix = np.empty((size, size))
    matrix[rows, columns] = matrix[columns, rows] = coordinates / weights
    return matrix


@cache
def coordinate_entries(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Matrix]:
    """Return row, column and weight (1 or √2) of each coordinate, shape ``(n,)`` each."""
    rows, columns = np.triu_indices(size)
    return rows, columns, np.where(rows == columns, 1.0, math.sqrt(2.0))


def _positive_part(matrix: Matrix) -> Matrix:
    """Project on the matrices ⪰ 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0)) @ vectors.T


def _roots(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return the square root of a positive definite matrix, and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, np.finfo(np.float64).tiny))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _congruence(matrix: Matrix) -> Matrix:
    """Return V ↦ M V Mᵀ in coordinates, shape (n, n)."""
    rows, columns, weights = coordinate_entries(len(matrix))
    straight = matrix[np.ix_(rows, rows)] * matrix[np.ix_(columns, columns)]
    crossed = matrix[np.ix_(rows, columns)] * matrix[np.ix_(columns, rows)]
    return 0.5 * np.outer(weights, weights) * (straight + crossed)


def _room(inverse_root: Matrix, change: Matrix) -> float:
    """Return the largest length ≤ 1 with M + length · change ⪰ 0, given M^(−1/2)."""
    lowest = float(np.linalg.eigvalsh(inverse_root @ change @ inverse_root)[0])
    return 1.0 if lowest >= -1 else -1 / lowest
