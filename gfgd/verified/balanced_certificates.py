"""Certificates for balanced deep linear networks: how many steps suffice, from the flow alone.

The theorem and its proof are in :func:`certificate`. All numbers are balls
(:mod:`gfgd.verified.balanced`) or rounded up (:mod:`gfgd.verified.directed`).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from fractions import Fraction
from itertools import pairwise

import flint
import numpy as np
from flint import arb
from scipy.ndimage import maximum_filter1d

from gfgd import checks
from gfgd.verified.balanced import (
    PRECISION,
    BalancedFlow,
    Cell,
    State,
    above,
    ball,
    descent_step,
    smallest,
)
from gfgd.verified.directed import (
    NotVerifiedError,
    Upper,
    check_arithmetic,
    exact,
    length_of,
    product_of,
    total,
)


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a cell: u_0 … u_q and y's surroundings on it, as balls over the part."""

    cell: int
    states: list[State]


@dataclass(frozen=True)
class BalancedCertificate:
    """A number of steps for which ‖θ_k − θ(kη)‖ ≤ ε is proved from the flow alone, η = T/K.

    Attributes
    ----------
    distance
        ε.
    iterations, step_size
        K and η = T/K.
    order
        q: the curve y = θ + ηu_1 + … + η^q u_q was used.
    predicted
        A bound of max ‖y − θ‖.
    left
        A bound of ‖θ_k − y(kη)‖. The two add up to ε at most.
    """

    distance: Fraction
    iterations: int
    step_size: Fraction
    order: int
    predicted: float
    left: float


def certificate(flow: BalancedFlow, distance: float | str | Fraction) -> BalancedCertificate:
    """Return the fewest steps that the theorem below certifies for the distance ε.

    Theorem. Let y = Σ_{i≤q} ηⁱ u_i with the u_i of `jets`, D bound
    ‖y(t + η) − y(t) + η∇f(y(t))‖/η^{q+2}, W_0 = 0 and W_{k+1} = (1 + ηm_k) W_k + η^{q+2} D_k, where
    −m_k ≤ λmin(∇²f), m_k ≥ 0, and λmax(∇²f) ≤ 2/η on the ball of radius W_k around y(kη), in the
    three coordinates in which GD and the flow stay. Then ‖θ_k − y(kη)‖ ≤ W_k. So if
    ‖y(kη) − θ(kη)‖ + W_k ≤ ε for all k, GD stays within ε of GF.

    Proof. GD's step takes the difference θ_k − y(kη) to (I − ηH̄) times itself, less y's defect, H̄
    the mean Hessian on the segment, which lies in the ball.

    For q = 1 this is the second-order certificate, with ‖D³f‖ only where W_k needs it. Nothing but
    the flow and the u_i is used, on whole parts of cells; GD is not run.

    Which q is best depends on η, since the series in η need not converge: at L = 1, r₀ = 0.1 q = 2
    is within 1 % of what is needed for ε ≤ 0.03 (n = 2 to 6), and q = 4 at ε = 0.1 for n ≤ 4. At
    n = 6, ε = 0.1 the step that suffices has ηλmax = 1.6 at the minimum: GD crosses the valley
    in each step, and no smooth curve follows it there. q = 1, 2, 3 ask for 3.0, 1.4 and 1.05 times
    the steps that are needed.

    Raises
    ------
    ValueError
        If ε ≤ 0 or the flow was enclosed without corrections.
    NotVerifiedError
        If no number of steps is certified.
    """
    epsilon = exact(distance, name="distance")
    checks.positive(distance=float(epsilon))
    if flow.order < 1:
        raise ValueError("flow: has no corrections; enclose it with order=1 or more")
    check_arithmetic()
    ranges = _Ranges(flow)
    found: dict[int, tuple[float, float]] = {}

    def enough(iterations: int) -> bool:
        try:
            bounds = ranges.certify(iterations, epsilon)
        except (OverflowError, NotVerifiedError):  # so long a step leaves what can be bounded
            return False
        if bounds is not None:
            found[iterations] = bounds
        return bounds is not None

    iterations = smallest(enough, math.ceil(ranges.leading_order / epsilon))
    return BalancedCertificate(
        epsilon, iterations, flow.horizon / iterations, flow.order, *found[iterations]
    )


#: Up to so many steps are looked at one by one, more of them together on parts of cells.
SINGLY = 500
#: A cell is looked at in so many parts.
PARTS = 8


class _Ranges:
    """The flow on parts of cells, and the certificate's conditions there for any η."""

    def __init__(self, flow: BalancedFlow) -> None:
        self.flow = flow
        self.part = flow.length / PARTS
        with flint.ctx.workprec(PRECISION):
            edges = [ball(self.part * j) for j in range(PARTS + 1)]
            spans = [first.union(last) for first, last in pairwise(edges)]
            self.pieces = [
                Piece(i, cell.at(span)) for i, cell in enumerate(flow.cells) for span in spans
            ]
            sizes = [above(flow.start.length(piece.states[1])) for piece in self.pieces]
        #: T max ‖u_1‖: so many steps per 1/ε are needed to leading order.
        self.leading_order = flow.horizon * Fraction(max(sizes))

    def certify(self, iterations: int, epsilon: Fraction) -> tuple[float, float] | None:
        """Return bounds of max ‖y − θ‖ and of W, if ε is certified with so many steps."""
        eta = self.flow.horizon / iterations
        if iterations <= SINGLY:
            return self._step_by_step(iterations, epsilon)
        with flint.ctx.workprec(PRECISION):
            size = ball(eta)
            near = np.array([astuple(self._near(p.states, size)[1]) for p in self.pieces])
            drifts, lefts = zip(*(cell_defect(cell, size) for cell in self.flow.cells), strict=True)
            power = size
            for _ in range(self.flow.order):
                power = power * size
            step, scale = above(size), above(power)
        # A step that is in progress at a time has its ends at most η away.
        window = 2 * (math.ceil(eta / self.part) + 1) + 1

        def nearby(values: np.ndarray) -> np.ndarray:
            return maximum_filter1d(values, window, axis=0, mode="nearest")

        cells = [piece.cell for piece in self.pieces]
        defects = [
            float((Upper(drift) + left) * scale)
            for drift, left in zip(
                nearby(np.array(drifts)[cells]), nearby(np.array(lefts)[cells]), strict=True
            )
        ]
        return self._recursion(near[:, 0], nearby(near), defects, step, epsilon)

    def _near(self, states: list[State], size: arb) -> tuple[State, _Near]:
        """Return y = Σ ηⁱ u_i, and what is needed of its surroundings."""
        start = self.flow.start
        gap = [arb(0)] * 3
        for state in reversed(states[1:]):
            gap = [(g + u) * size for g, u in zip(gap, state, strict=True)]
        y = [u + g for u, g in zip(states[0], gap, strict=True)]
        a1, a2, b = y
        power = arb(1)
        for _ in range(start.depth - 1):
            power = power * b
        e = [power * a1 - ball(start.target_norm), power * a2]
        lowest, highest = hessian_range(start.depth, a1, a2, b, e)
        return y, _Near(
            gap=above(start.length(gap)),
            lowest=lowest,
            highest=highest,
            first=above((a1 * a1 + a2 * a2).nonnegative_part().sqrt()),
            other=above(abs(b)),
            residual=above((e[0] * e[0] + e[1] * e[1]).nonnegative_part().sqrt()),
        )

    def _step_by_step(self, iterations: int, epsilon: Fraction) -> tuple[float, float] | None:
        """Follow W over single steps, with y's defect in each as it is; None where one fails."""
        flow = self.flow
        eta = flow.horizon / iterations
        left, largest = Upper(0.0), 0.0
        with flint.ctx.workprec(PRECISION):
            size, target = ball(eta), ball(flow.start.target_norm)
            step = above(size)
            y, near = self._near(flow.at(Fraction(0)), size)
            for k in range(1, iterations + 1):
                third = third_derivative(flow.start.depth, near, left)
                if not (Upper(near.highest) + third * left) * step <= 2:
                    return None
                stepped = descent_step(flow.start, target, size, y)
                growth = (Upper(near.lowest) + third * left) * step + 1
                y, near = self._near(flow.at(k * eta), size)
                missed = flow.start.length([p - q for p, q in zip(y, stepped, strict=True)])
                left, largest = growth * left + above(missed), max(largest, near.gap)
                if not Fraction(Upper(near.gap) + left) <= epsilon:
                    return None
        return largest, float(left)

    def _recursion(
        self,
        gaps: np.ndarray,
        around: np.ndarray,
        defects: list[float],
        step: float,
        epsilon: Fraction,
    ) -> tuple[float, float] | None:
        """Follow W over the parts; None where a condition fails."""
        part, left = Upper(above(ball(self.part))), Upper(0.0)
        for gap, values, defect in zip(gaps.tolist(), around.tolist(), defects, strict=True):
            widest = _Near(*values)
            radius = (left + part * defect) * 1.5 + 1e-300
            third = third_derivative(self.flow.start.depth, widest, radius)
            exponent = part * (Upper(widest.lowest) + third * radius)
            if exponent > 1:
                return None
            left = exponent.exp() * (left + part * defect)
            steep = (Upper(widest.highest) + third * radius) * step
            if not (left <= radius and steep <= 2 and Fraction(Upper(gap) + left) <= epsilon):
                return None
        return float(gaps.max()), float(left)


@dataclass(frozen=True)
class _Near:
    """Upper bounds at y on a part: ‖y − θ‖, −λmin and λmax of ∇²f, ‖a‖, b and ‖e‖."""

    gap: float
    lowest: float
    highest: float
    first: float
    other: float
    residual: float


def cell_defect(cell: Cell, size: arb) -> tuple[float, float]:
    """Return bounds of the two parts of ‖y(t + η) − y(t) + η∇f(y(t))‖/η^{q+2} on a cell.

    The first belongs to all times of the step, the second to its start.
    """
    left, power = arb(0), arb(1)
    for coefficient in cell.left:
        left = left + power * coefficient
        power = power * size
    return cell.drift, above(left)


def hessian_range(depth: int, a1: arb, a2: arb, b: arb, e: list[arb]) -> tuple[float, float]:
    """Return upper bounds of max(0, −λmin) and of λmax of ∇²f in the three coordinates.

    In the metric of the whole network, with s = √(n − 1):
    H_aa = b^{2n−2} I, H_ab = s b^{n−2} (e + b^{n−1} a),
    H_bb = (n − 2) b^{n−3} ⟨e, a⟩ + (n − 1) b^{2n−4} ‖a‖².
    """
    powers = [arb(1)]
    for _ in range(2 * depth - 2):
        powers.append(powers[-1] * b)
    root = arb(depth - 1).sqrt()
    corner = (depth - 1) * powers[2 * depth - 4] * (a1 * a1 + a2 * a2)
    if depth > 2:
        corner = corner + (depth - 2) * powers[depth - 3] * (e[0] * a1 + e[1] * a2)
    sides = [
        root * powers[depth - 2] * (p + powers[depth - 1] * a)
        for p, a in zip(e, (a1, a2), strict=True)
    ]
    diagonal = powers[2 * depth - 2]
    entries = [[diagonal, arb(0), sides[0]], [arb(0), diagonal, sides[1]], [*sides, corner]]
    middle = np.array([[float(x.mid()) for x in row] for row in entries])
    # Weyl: the eigenvalues are off those of the middle by the Frobenius norm of the rest.
    away = length_of(
        above(abs(x - m))
        for row, numbers in zip(entries, middle.tolist(), strict=True)
        for x, m in zip(row, numbers, strict=True)
    )
    values = np.linalg.eigvalsh(middle)
    lowest = _shift(middle, float(-values[0])) + away
    highest = _shift(-middle, float(values[-1])) + away
    return float(lowest), float(highest)


def _shift(matrix: np.ndarray, guess: float) -> Upper:
    """Return an s ≥ 0 near the guess for which A + s is verified to be positive definite.

    By Gaussian elimination in balls: all pivots are positive.
    """
    for slack in (1e-13, 1e-10, 1e-7, 1e-4):
        shift = max(guess, 0.0) + slack * (1 + abs(guess))
        (p, q, r), (_, s, t), (_, _, u) = (
            [arb(x) + (shift if i == j else 0) for j, x in enumerate(row)]
            for i, row in enumerate(matrix.tolist())
        )
        if not p > 0:
            continue
        s, t, u = s - q * q / p, t - q * r / p, u - r * r / p
        if s > 0 and u - t * t / s > 0:
            return Upper(shift)
    raise NotVerifiedError("an eigenvalue of a 3 × 3 matrix could not be bounded")


def third_derivative(depth: int, near: _Near, radius: Upper) -> Upper:
    """Return a bound of ‖D³f‖ within `radius` of y, for the whole network.

    With ω_j = ‖W_j‖ + radius and P_J the product of the ω_j with j not in J, and R the residual
    there: 3 (Σ P_j²)^{1/2} (n − 1) max P_jj' + R √n (n − 2) max P_jj'j''.
    """
    norms = [near.first, *[near.other] * (depth - 1)]
    omega = [Upper(size) + radius for size in norms]
    # Π ω − Π ‖W‖ ≤ Σ_j radius Π_{i≠j} ω_i
    singles = [product_of(w for i, w in enumerate(omega) if i != j) for j in range(depth)]
    residual = Upper(near.residual) + total(singles) * radius
    ordered = sorted(omega)
    result = length_of(singles) * 3 * (depth - 1) * product_of(ordered[2:])
    if depth > 2:
        factor = Upper(float(depth)).sqrt() * (depth - 2)
        result = result + residual * factor * product_of(ordered[3:])
    return result
