"""The central flow: the path that gradient descent follows on average at the edge of stability.

Gradient descent (GD) with step size η is stable where the sharpness λmax(H), H = ∇²f, is below
2/η. Beyond that it oscillates along the top eigenvector, and the oscillation itself lowers the
sharpness. Where training pushes the sharpness up, the two balance: GD zigzags around a path on
which λmax(H) ≤ 2/η. The central flow (Cohen et al. 2025) is an equation for that path.

Derivation, which is heuristic. Write the iterates as θ_k = θ + δ_k: a slow path θ plus an
oscillation of mean 0 and covariance Σ = E[δδᵀ]. Taylor's theorem gives, on average over the
oscillation, E[∇f(θ + δ)] = ∇f + ½ ∇⟨H, Σ⟩ + higher order, where the gradient of ⟨H, Σ⟩ is taken at
fixed Σ. So the path should obey

    θ' = −[∇f(θ) + ½ ∇⟨H(θ), Σ⟩].

Three conditions determine Σ(t): it is a covariance, Σ ⪰ 0; no direction grows, (2/η)I − H ⪰ 0; and
it lives where GD neither grows nor decays, ⟨Σ, (2/η)I − H⟩ = 0. With the critical eigenvectors
U = (u_1, …, u_k), those whose eigenvalue is at 2/η, this means Σ = U X Uᵀ with a k×k matrix X ⪰ 0.

Discretisation. Let G_ij = ∇⟨u_i, H u_j⟩ = D³f[u_i, u_j] ∈ R^d and Λ = UᵀHU. A step of length δt
along θ' = −∇f − ½ Σ_ij X_ij G_ij takes (2/η)I − UᵀHU to first order to

    S(X) = A + B[X],   A_ij = ((2/η)I − Λ)_ij + δt ⟨G_ij, ∇f⟩,
                       B[X]_ij = (δt/2) Σ_lm ⟨G_ij, G_lm⟩ X_lm,

and the conditions at the end of the step are a semidefinite complementarity problem,

    X ⪰ 0,   S(X) ⪰ 0,   ⟨X, S(X)⟩ = 0.

B is positive semidefinite, so these are the optimality conditions of the convex problem: minimise
⟨A, X⟩ + ½⟨X, B[X]⟩ over X ⪰ 0. A holds the true Λ of each step, so what a step misses the next one
mends.

That is Euler's method, and would carry an error of order δt, half of GD's own at δt = η/2: before
the edge, where the central flow is gradient flow, it would pass for nearness to GD. So each step
ends with a second stage, as in Heun's method. With v the velocity above, at θ⁺ = θ + δt v the
velocity v⁺ = −∇f − ½ Σ_ij X⁺_ij G_ij is sought for which the conditions hold at the end
θ + ½δt (v + v⁺), again to first order around θ⁺: the same problem with δt/2 in the place of δt and
⟨G_ij, ∇f + v⟩ in the place of ⟨G_ij, ∇f⟩. This is of order 2 in δt, the moments at which an
eigenvalue arrives included, as long as no eigenvalue waits below the edge while its eigenvector
turns with that of an oscillating one; there the order is 1, with Euler's constant.

The problem has no solution where the sharpness must fall but no oscillation lowers it, as on
a quadratic with η > 2/λmax: there GD itself diverges, and the flow stops and says so.

In the limit δt → 0 the velocity is the projection of −∇f on the directions along which no critical
eigenvalue grows: the central flow is gradient flow confined to {λmax(H) ≤ 2/η}, and f decreases
along it, f' = −‖θ'‖².

References
----------
Cohen, Damian, Talwalkar, Kolter & Lee (2025), Understanding Optimization in Deep Learning with
Central Flows. Damian, Nichani & Lee (2023), Self-Stabilization: The Implicit Bias of Gradient
Descent at the Edge of Stability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from gfgd import checks
from gfgd.flow import FlowStopError
from gfgd.large_steps._along_path import EDGE, AlongPath, remarks_on
from gfgd.large_steps.complementarity import (
    Complementarity,
    coordinate_entries,
    from_coordinates,
    solve_complementarity,
    to_coordinates,
)
from gfgd.objective import Objective, Point
from gfgd.spectrum import NonFiniteHessianError, Spectrum, extreme_eigenvalues
from gfgd.trajectory import COMPLETED, Trajectory, starting_point


class StopCause(Enum):
    """Why a central flow stopped before its last time."""

    NOT_FINITE = "the loss or one of its derivatives is not finite"
    TOO_MANY_CRITICAL = "more than max_critical eigenvalues are critical"
    EIGENPAIRS = "the eigenpairs could not be computed to the tolerance"
    MISSED_EIGENVALUE = "an eigenvalue had risen past 2/η unseen"
    NO_SOLUTION = "no oscillation lowers the sharpness: gradient descent diverges, too"
    NOT_SOLVED = "the complementarity problem was not solved"


class CentralFlowStopError(FlowStopError):
    """Raised inside the central flow where it cannot go on, with its `cause`."""

    def __init__(self, cause: StopCause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, eq=False)
class CentralFlow(AlongPath):
    """The central flow at T recorded times, with the oscillation that it predicts.

    Attributes
    ----------
    path
        θ(t_i) and f(θ(t_i)), as a :class:`Trajectory`, so that distances can be taken; with
        ``counts`` (``gradients``, ``hessian_vector_products``, ``third_derivatives``,
        ``complementarity_iterations``, ``steps``) and ``status``.
    sharpness
        λmax(H(θ(t_i))), shape ``(T,)``.
    critical
        How many eigenvalues were critical, shape ``(T,)``.
    variances
        Eigenvalues of Σ(t_i), largest first, padded with zeros, shape ``(T, m)``: the
        variances of GD's oscillation.
    directions
        The unit eigenvectors of Σ that belong to them, rows of zeros where there is none,
        shape ``(T, m, d)``.
    predicted_losses
        f + ½⟨H, Σ⟩, the prediction for GD's loss averaged over time, shape ``(T,)``.
    residuals
        Relative residuals of the complementarity problems, shape ``(T,)``.
    cause
        Why it stopped early, for programs (``status`` is for people); None where it did not.
    remarks
        What a reader of the result must know, in words: that the edge was never reached, that f
        has kinks.
    """

    sharpness: Tensor
    critical: Tensor
    variances: Tensor
    directions: Tensor
    predicted_losses: Tensor
    residuals: Tensor
    cause: StopCause | None = None
    remarks: tuple[str, ...] = ()

    @property
    def losses(self) -> Tensor:
        """f(θ(t_i)), shape ``(T,)``: on the path itself, without the oscillation."""
        return self.path.losses


def central_flow(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    iterations: int,
    record_every: int = 1,
    substeps: int = 2,
    critical_within: float = 0.05,
    max_critical: int = 6,
    check_every: int = 10,
    tolerance: float = 1e-3,
    max_products: int = 2000,
    dense_below: int = 60,
    estimate_error: bool = False,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> CentralFlow:
    """Integrate the central flow of GD with step size η over the time of `iterations` steps.

    Steps of length δt = η/`substeps` of two stages, each with a complementarity problem (see
    the module's docstring). Order 2 in δt, or 1 where a critical direction does not oscillate
    and turns. A stage costs a gradient, the Hessian-vector products of k + 1 eigenpairs from a
    warm start, and k(k + 1)/2 directional third derivatives, k the number of critical eigenvalues.

    Parameters
    ----------
    objective, start
        f, three times differentiable along the path, and θ(0), shape ``(d,)``.
    step_size
        η > 0: that of the GD which the flow describes.
    iterations, record_every
        As in :func:`gradient_descent`: the flow ends at time `iterations`·η, and is recorded at
        the times of the iterates 0, `record_every`, … and the last.
    substeps
        Steps of the flow for each of GD; at least 2, since one is as unstable as GD itself. With
        `estimate_error` even, and at least 4.
    critical_within
        An eigenvalue λ is critical when λ > (1 − critical_within)·2/η. It must be so wide that no
        eigenvalue crosses the strip in one step, and need not be wider: within it Σ may still be 0.
        Where the sharpness is 4m widths of the strip below it, it is not computed for m steps,
        except at recorded times and for `check_every`: a fourth of what would be safe then.
    max_critical
        m, the largest number of critical eigenvalues that is followed.
    check_every
        The critical eigenvalues are followed from warm starts, which do not see an eigenvector
        that enters from outside. At the start, after every so many steps, and at the end fresh
        random starts look for more (:func:`extreme_eigenvalues`, δ = 1e-4, up to half of
        `critical_within`). What is found there is followed on, or, where it is above
        (1 + critical_within)·2/η already, stops the flow.
    tolerance, max_products, dense_below
        Of the eigenpairs, as in :func:`extreme_eigenvalues`.
    estimate_error
        Integrate a second time with half as many substeps. The largest distance between the two
        up to a time is ``path.error`` then: about 3 times the error where the order is 2.
    progress
        Wraps the range of iterations, as ``tqdm`` does.

    Returns
    -------
    CentralFlow
        Stopped early, with a status that names the time and a remedy and a typed `cause`, where
        a complementarity problem has no solution or is not solved, more than m eigenvalues become
        critical, an eigenpair is not computed to the tolerance, an eigenvalue has risen past the
        limit unseen, or the state is no longer finite.

    Raises
    ------
    ValueError
        If an argument is out of range, or the sharpness at the start is above
        (1 + critical_within)·2/η: no central flow starts there.

    References
    ----------
    Cohen et al. (2025), the central flow of gradient descent.
    """
    checks.positive(step_size=step_size, tolerance=tolerance)
    checks.whole(1, iterations=iterations, record_every=record_every, max_critical=max_critical)
    checks.whole(1, check_every=check_every)
    checks.whole(2, substeps=substeps)
    checks.between(0.0, 0.5, critical_within=critical_within)
    if estimate_error and (substeps < 4 or substeps % 2):
        raise ValueError(
            f"substeps = {substeps}: the error is estimated from a run with half as many, of which "
            "at least 2 are needed; give an even number from 4 on"
        )
    objective.require_derivatives(3)  # now, not when the first eigenvalue becomes critical
    start = objective._check(starting_point(start))
    if start.dim() != 1:
        raise ValueError("start: give one finite point, shape (d,)")

    def run(parts: int) -> CentralFlow:
        stepper = _Stepper(
            objective,
            edge=2 / step_size,
            duration=step_size / parts,
            critical_within=critical_within,
            max_critical=min(max_critical, objective.dimension),
            eigenpairs={
                "tolerance": tolerance,
                "max_products": max_products,
                "dense_below": dense_below,
            },
        )
        point = start.detach().clone()
        try:
            stepper.check_start(point)
        except FlowStopError as cause:
            raise ValueError(f"start: the central flow cannot begin: {cause}") from cause
        kept, status, cause = _followed(
            stepper, point, step_size, iterations, record_every, parts, check_every, progress
        )
        flow = _collected(kept, stepper, status, start)
        largest = EDGE if flow.variances.any() else step_size * float(flow.sharpness.max())
        remarks = remarks_on(objective, start, largest, "the central flow is gradient flow so far")
        return replace(flow, cause=cause, remarks=tuple(remarks))

    finer = run(substeps)
    return _with_error(finer, run(substeps // 2)) if estimate_error else finer


def smoothed(values: Tensor, width: int) -> Tensor:
    """Return the running mean over `width` entries with Hann weights, (T − width + 1, ...).

    Entry i is centred at entry i + (width − 1)/2 of `values`. The weights are
    sin²(πj/(width + 1)), j = 1, …, width, over their sum: a constant stays, a linear trend
    stays, and for width ≥ 3 what alternates in sign is damped strongly (width 3: entirely).

    Raises
    ------
    ValueError
        If `width` is even, or larger than the number of entries.
    """
    checks.whole(1, width=width)
    if width % 2 == 0 or width > len(values):
        raise ValueError(f"width = {width}: must be odd and at most T = {len(values)}")
    weights = torch.hann_window(width + 2, periodic=False, dtype=torch.float64)[1:-1]
    count = len(values) - width + 1
    total = torch.zeros_like(values[:count])
    for j, weight in enumerate((weights / weights.sum()).tolist()):
        total += weight * values[j : j + count]
    return total


def time_average(trajectory: Trajectory, width: int) -> Trajectory:
    """Return GD averaged over a moving window of `width` recorded iterates, width odd.

    Its points are the averages of the points, at the times of the windows' centres. Its losses
    are the averages of the losses (not the losses of the averages): what ½⟨H, Σ⟩ is added for.
    The weights are those of :func:`smoothed`; `trajectory` should hold every iterate.

    Raises
    ------
    ValueError
        As :func:`smoothed`.
    """
    points = smoothed(trajectory.points, width)
    half = (width - 1) // 2
    return Trajectory(
        times=trajectory.times[half : half + len(points)],
        points=points,
        losses=smoothed(trajectory.losses, width),
        counts=dict(trajectory.counts),
        status=trajectory.status,
    )


def oscillation(points: Tensor) -> Tensor:
    """Return δ_k = (2θ_k − θ_{k−1} − θ_{k+1})/4 for k = 1, …, T − 2, shape ``(T − 2, ...)``.

    The part of θ_k that changes sign at every step: θ_k = θ̄_k + δ_k, where
    θ̄_k = (θ_{k−1} + 2θ_k + θ_{k+1})/4. Exact where θ_k is linear in k plus (−1)^k times a
    constant; a motion that turns slowly leaves a fourth of its second difference behind.

    Raises
    ------
    ValueError
        For fewer than three points.
    """
    checks.at_least(3, points=len(points))
    return (2 * points[1:-1] - points[:-2] - points[2:]) / 4


@dataclass(frozen=True, eq=False)
class _State:
    """All that is known at a point of the flow."""

    point: Tensor
    loss: Tensor
    velocity: Tensor
    sharpness: Tensor
    critical: int
    variances: Tensor  # (k,), largest first
    directions: Tensor  # (k, d)
    predicted_loss: Tensor
    residual: float


@dataclass(eq=False)
class _Stepper:
    """Finds the flow's velocity at a point; counts, and keeps eigenvectors for the next point."""

    objective: Objective
    edge: float  # 2/η
    duration: float  # δt
    critical_within: float
    max_critical: int
    eigenpairs: dict
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "gradients": 0,
            "hessian_vector_products": 0,
            "third_derivatives": 0,
            "complementarity_iterations": 0,
            "steps": 0,
        }
    )
    warm: Tensor | None = None
    wanted: int = 1
    quiet: int = 0  # for so many stages no eigenvalue can become critical

    def check_start(self, point: Tensor) -> None:
        """Refuse a start beyond the edge, where no flow confined to it can begin."""
        sharpness = float(self._checked_top(point, 1).largest[0])
        if sharpness > (1 + self.critical_within) * self.edge:
            raise ValueError(
                f"step_size = {2 / self.edge:g}: the sharpness at the start is {sharpness:.4g}, "
                f"above 2/η = {self.edge:.4g}, and the central flow starts at or below it; "
                f"use a step size of at most {2 / sharpness:.4g}, or start elsewhere"
            )

    def state_at(
        self,
        point: Tensor,
        earlier: Tensor | None = None,
        *,
        recorded: bool = False,
        check: bool = False,
    ) -> _State:
        """Return the state at a point; with `check`, look for eigenvalues from outside.

        The sharpness is NaN where none can be critical and the state is not `recorded`.
        In a step's second stage `earlier` is the velocity of the first: the conditions hold at
        the end of the step with the mean of both velocities.
        """
        loss, gradient = self.objective.value_and_gradient(point)
        self.counts["gradients"] += 1
        if not (loss.isfinite() and gradient.isfinite().all()):
            raise CentralFlowStopError(
                StopCause.NOT_FINITE,
                "the loss is not finite; raise substeps, or try a smaller step_size",
            )
        if self.quiet and not (recorded or check):
            self.quiet -= 1
            values, vectors = point.new_empty(0), point.new_empty(0, len(point))
            sharpness = point.new_tensor(math.nan)
        else:
            values, vectors, sharpness = self._critical(point, check)
            self.quiet = self._stages_until_critical(float(sharpness))
        count = len(values)
        velocity, residual = -gradient, 0.0
        covariance = np.zeros((count, count))
        if count:
            slopes = self._slopes(point, vectors)
            solved = self._oscillation(values, slopes, gradient, earlier)
            covariance, residual = solved.solution, solved.residual
            weights = torch.from_numpy(to_coordinates(covariance)).to(slopes)
            velocity = velocity - 0.5 * weights @ slopes
        variances, axes = torch.linalg.eigh(torch.from_numpy(covariance))
        oscillating = 0.5 * (values * torch.from_numpy(covariance).diagonal().to(values)).sum()
        self.counts["steps"] += 1
        return _State(
            point=point,
            loss=loss,
            velocity=velocity,
            sharpness=sharpness,
            critical=count,
            variances=variances.flip(0).clamp_min(0),
            directions=axes.flip(1).T.to(vectors) @ vectors,
            predicted_loss=loss + oscillating,
            residual=residual,
        )

    def _stages_until_critical(self, sharpness: float) -> int:
        """Return for how many stages, two a step, no eigenvalue reaches the critical strip.

        None changes by its width in a step; a margin of 4 is for those that were not followed.
        """
        width = self.critical_within * self.edge
        room = self.edge - width - sharpness
        return max(0, 2 * math.floor(room / (4 * width)) - 1) if width else 0

    def _critical(self, point: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the critical eigenvalues, their eigenvectors as rows, and the sharpness.

        One eigenpair more than the critical ones is computed, to see that it is not critical.
        """
        low = (1 - self.critical_within) * self.edge
        while True:
            top = self._checked_top if check else self._top
            found = top(point, self.wanted)
            count = int((found.largest > low).sum())
            if count > self.max_critical:
                raise CentralFlowStopError(
                    StopCause.TOO_MANY_CRITICAL,
                    f"more than max_critical = {self.max_critical} eigenvalues are within "
                    f"{self.critical_within:.0%} of 2/η = {self.edge:g}; raise max_critical, or "
                    "lower critical_within",
                )
            enough = count < self.wanted or self.wanted == self.objective.dimension
            self.wanted = min(count + 1, self.objective.dimension)
            if enough:
                vectors = found.largest_vectors
                assert vectors is not None
                return found.largest[:count], vectors[:count], found.largest[0]

    def _top(self, point: Tensor, wanted: int) -> Spectrum:
        """Follow the top eigenpairs from those of the point before."""
        found = self._eigenpairs(point, wanted, failure_probability=None)
        if not found.certified:
            worst = float((found.largest_residuals / found.largest.abs()).max())
            raise CentralFlowStopError(
                StopCause.EIGENPAIRS,
                f"the top {wanted} eigenpairs did not reach the tolerance (relative residual "
                f"{worst:.1e}); raise max_products or tolerance",
            )
        return found

    def _checked_top(self, point: Tensor, wanted: int) -> Spectrum:
        """Return the top eigenpairs, after a search for more from fresh random starts.

        A looser tolerance than for the eigenpairs serves: no critical eigenvalue may be missed.
        """
        if self.objective.dimension <= self.eigenpairs["dense_below"]:
            return self._top(point, wanted)
        beginning = self.warm is None
        followed = self._top(point, wanted)
        found = self._eigenpairs(point, wanted, tolerance=self.critical_within / 2)
        if not found.converged:
            raise CentralFlowStopError(
                StopCause.EIGENPAIRS,
                f"no bound on the top {wanted} eigenvalues came within "
                f"{self.critical_within / 2:.1%} of them; raise max_products or critical_within",
            )
        sharpness, seen = float(found.largest[0]), float(followed.largest[0])
        if not beginning and sharpness > max((1 + self.critical_within) * self.edge, 1.01 * seen):
            raise CentralFlowStopError(
                StopCause.MISSED_EIGENVALUE,
                f"the sharpness is {sharpness:.4g}, above 2/η = {self.edge:.4g}, along a direction "
                f"that following from {seen:.4g} had not seen; lower check_every",
            )
        return self._top(point, wanted)

    def _eigenpairs(self, point: Tensor, wanted: int, **options) -> Spectrum:
        try:
            found = extreme_eigenvalues(
                self.objective,
                point,
                smallest=0,
                largest=wanted,
                warm_start=self.warm,
                **{**self.eigenpairs, **options},
            )
        except NonFiniteHessianError as cause:
            raise CentralFlowStopError(
                StopCause.NOT_FINITE, "the Hessian is not finite; try a smaller step_size"
            ) from cause
        self.counts["hessian_vector_products"] += int(found.products)
        self.warm = found.largest_vectors
        return found

    def _slopes(self, point: Tensor, vectors: Tensor) -> Tensor:
        """Return ∇⟨E_p, UᵀHU⟩ for the orthonormal basis E_p of symmetric k×k matrices, (n, d)."""
        rows, columns, weights = coordinate_entries(len(vectors))
        slopes = self.objective.third_derivative(point, vectors[rows], vectors[columns])
        self.counts["third_derivatives"] += len(rows)
        if not slopes.isfinite().all():
            raise CentralFlowStopError(
                StopCause.NOT_FINITE,
                "the third derivative is not finite; the flow needs a smooth f",
            )
        return torch.from_numpy(weights).to(slopes)[:, None] * slopes

    def _oscillation(
        self, values: Tensor, slopes: Tensor, gradient: Tensor, earlier: Tensor | None
    ) -> Complementarity:
        """Solve the stage's complementarity problem for X."""
        duration = self.duration if earlier is None else self.duration / 2
        pull = gradient if earlier is None else gradient + earlier
        offset = np.diag(self.edge - _numbers(values))
        offset += duration * from_coordinates(_numbers(slopes @ pull))
        operator = 0.5 * duration * _numbers(slopes @ slopes.T)
        solved = solve_complementarity(offset, operator)
        self.counts["complementarity_iterations"] += solved.iterations
        if not solved.converged:
            size = f"the complementarity problem of size {len(values)}"
            where = f"the sharpness is {float(values[0]):.4g} and 2/η = {self.edge:.4g}"
            if solved.infeasible:
                raise CentralFlowStopError(
                    StopCause.NO_SOLUTION,
                    f"{size} has no solution, since no oscillation lowers the sharpness: {where}. "
                    "GD diverges too; try a smaller step_size",
                )
            raise CentralFlowStopError(
                StopCause.NOT_SOLVED,
                f"{size} was not solved (relative residual {solved.residual:.1e} after "
                f"{solved.iterations} iterations): {where}. Try more substeps",
            )
        return solved


def _followed(
    stepper: _Stepper,
    point: Tensor,
    step_size: float,
    iterations: int,
    record_every: int,
    substeps: int,
    check_every: int,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> tuple[list[tuple[float, _State]], str, StopCause | None]:
    """Return the recorded times and states, and how it ended, of steps from a point."""
    kept = []
    for k in progress(range(iterations + 1)):
        recorded = k % record_every == 0 or k == iterations
        for part in range(substeps if k < iterations else 1):
            try:
                check = (k * substeps + part) % check_every == 0 or k == iterations
                keep = part == 0 and recorded
                state = stepper.state_at(point, recorded=keep, check=check)
                if keep:
                    kept.append((k * step_size, state))
                if k == iterations:
                    continue
                # Heun's two stages; in the second the conditions are those of the step's end.
                ahead = point + stepper.duration * state.velocity
                later = stepper.state_at(ahead, state.velocity)
            except CentralFlowStopError as stop:
                at = (k + part / substeps) * step_size
                return kept, f"stopped at t = {at:g}: {stop}", stop.cause
            point = point + stepper.duration / 2 * (state.velocity + later.velocity)
    return kept, COMPLETED, None


def _with_error(finer: CentralFlow, coarser: CentralFlow) -> CentralFlow:
    """Add the largest distance up to each time from a run with half as many substeps.

    Where the coarser run stopped early there is no estimate, and NaN says so.
    """
    apart = torch.full((len(finer.times),), math.nan, dtype=torch.float64)
    shared = min(len(finer.times), len(coarser.times))
    gap = (finer.points[:shared] - coarser.points[:shared]).double().norm(dim=-1)
    apart[:shared] = gap.cummax(0).values.to(apart)
    counts = finer.counts | {f"estimate_{name}": n for name, n in coarser.counts.items()}
    return replace(finer, path=replace(finer.path, error=apart, counts=counts))


def _collected(
    kept: list[tuple[float, _State]], stepper: _Stepper, status: str, start: Tensor
) -> CentralFlow:
    if not kept:
        raise ValueError(f"start: the central flow cannot begin; it {status}")
    times = torch.tensor([time for time, _ in kept], dtype=torch.float64, device=start.device)
    states = [state for _, state in kept]
    width = stepper.max_critical
    variances = torch.zeros(len(states), width, dtype=torch.float64)
    directions = torch.zeros(len(states), width, len(start), dtype=start.dtype)
    for i, state in enumerate(states):
        variances[i, : state.critical] = state.variances
        directions[i, : state.critical] = state.directions
    return CentralFlow(
        path=Trajectory(
            times=times,
            points=torch.stack([state.point for state in states]),
            losses=torch.stack([state.loss for state in states]),
            counts=dict(stepper.counts),
            status=status,
        ),
        sharpness=torch.stack([state.sharpness for state in states]),
        critical=torch.tensor([state.critical for state in states]),
        variances=variances,
        directions=directions,
        predicted_losses=torch.stack([state.predicted_loss for state in states]),
        residuals=torch.tensor([state.residual for state in states], dtype=torch.float64),
    )


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()
