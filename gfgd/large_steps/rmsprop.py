"""RMSProp with one step size for all parameters, and its central flow.

    ν_{k+1} = β₂ν_k + (1 − β₂)‖∇f(x_k)‖²,    x_{k+1} = x_k − η∇f(x_k)/√ν_{k+1}.

It is gradient descent with the step size η/√ν, and its edge of stability is at ηS/√ν = 2, with the
sharpness S = λmax(H). At the edge it oscillates along the top eigenvector u with a variance σ², and
both its equations feel that: E‖∇f‖² = ‖∇f‖² + σ²S², and the mean gradient is ∇f + ½σ²∇S. So the
central flow, per step, is (Cohen et al. 2025)

    w' = −(η/√ν)(∇f + ½σ²∇S),    ν' = r(‖∇f‖² + σ²S² − ν),    r = (1 − β₂)/β₂,

with S ≤ 2√ν/η, σ² ≥ 0, and one of the two an equality. (r and not 1 − β₂, since ν is renewed
before it is used.) Along the edge d/dt(2√ν/η − S) = 0, with ∇S = D³f[u, u], gives

    σ² = [−2⟨∇S, ∇f⟩/S² + (r/2)(1 − ‖∇f‖²/ν)] / [‖∇S‖²/S² + 2r/η²],

where it is positive. Unlike gradient descent it can raise the edge: an oscillation enlarges ν.

RMSProp with one ν for each parameter is not here. Its edge is that of P^{−1/2} H P^{−1/2} with
P = diag(√ν), a metric that moves along the flow; the solver of :mod:`gfgd.large_steps.central`
works in one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gfgd import checks
from gfgd.large_steps._along_path import EDGE, remarks_on
from gfgd.objective import Objective, Point
from gfgd.spectrum import extreme_eigenvalues
from gfgd.trajectory import COMPLETED, Trajectory, starting_point


@dataclass(frozen=True, eq=False)
class AdaptiveRun:
    """A run of RMSProp, or of its central flow, at T recorded steps.

    Attributes
    ----------
    path
        The points, and f there. Its times are *steps* k: the step size changes on the way.
    second_moments
        ν, shape ``(T,)``: for RMSProp the one with which x_k was reached.
    sharpness
        S, shape ``(T,)``; NaN for RMSProp itself, which computes none.
    variances
        σ², shape ``(T,)``; NaN for RMSProp itself.
    remarks
        What a reader of the central flow must know, in words: that the edge was never reached, that
        f has kinks.
    """

    path: Trajectory
    second_moments: Tensor
    sharpness: Tensor
    variances: Tensor
    remarks: tuple[str, ...] = ()

    @property
    def points(self) -> Tensor:
        """The points, shape ``(T, d)``."""
        return self.path.points

    @property
    def status(self) -> str:
        """``"completed"``, or where the run stopped, why, and what can be done."""
        return self.path.status


def rmsprop(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    decay: float,
    iterations: int,
    second_moment: float | None = None,
) -> AdaptiveRun:
    """Run RMSProp with one ν for all parameters, and record every iterate.

    Parameters
    ----------
    objective, start
        f and x_0, shape ``(d,)``.
    step_size, decay
        η > 0 and β₂ in (0, 1).
    second_moment
        ν_0 > 0; None: ‖∇f(x_0)‖².

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    point, nu = _checked(objective, start, step_size, decay, second_moment)
    checks.whole(1, iterations=iterations)
    rows: list[tuple[Tensor, float, Tensor]] = []
    status = COMPLETED
    for k in range(iterations + 1):
        value, gradient = objective.value_and_gradient(point)
        if not (value.isfinite() and gradient.isfinite().all()):
            status = f"diverged: the loss is not finite at iteration {k}; try a smaller step size"
            break
        rows.append((point, nu, value))
        nu = decay * nu + (1 - decay) * float(gradient.square().sum())
        point = point - step_size / math.sqrt(nu) * gradient
    empty = [math.nan] * len(rows)
    return _run(range(len(rows)), rows, empty, empty, {"gradients": len(rows)}, status)


def rmsprop_central_flow(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    decay: float,
    iterations: int,
    second_moment: float | None = None,
    record_every: int = 1,
    substeps: int = 4,
    critical_within: float = 0.05,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> AdaptiveRun:
    """Integrate the central flow of scalar RMSProp, for one critical eigenvalue.

    Euler steps of 1/`substeps`; σ² is that for which 2√ν/η − S is not negative at the end of the
    step, to first order, so that what a step misses the next one mends. Order 1. A step costs a
    gradient, the products of two eigenpairs from a warm start, and a third derivative at the edge.
    An eigenvector that enters from outside is not looked for, as `central_flow` does.

    Parameters
    ----------
    substeps
        At least 2, as for :func:`gfgd.large_steps.central.central_flow`.
    critical_within
        The run stops, with a status, when a second eigenvalue is as near to the edge as this.

    Raises
    ------
    ValueError
        If an argument is out of range, or the start is beyond the edge.
    """
    point, nu = _checked(objective, start, step_size, decay, second_moment)
    checks.whole(1, iterations=iterations, record_every=record_every)
    checks.whole(2, substeps=substeps)
    checks.between(0.0, 0.5, critical_within=critical_within)
    flow = _Stepper(objective, step_size, (1 - decay) / decay, 1 / substeps, critical_within)
    rows, steps, sharpness, variances = [], [], [], []
    status = COMPLETED
    for k in progress(range(iterations + 1)):
        for part in range(substeps if k < iterations else 1):
            found = flow.velocity(point, nu)
            if isinstance(found, str):
                status = f"stopped at step {k + part / substeps:g}: {found}"
                break
            if part == 0 and (k % record_every == 0 or k == iterations):
                rows.append((point, nu, found.value))
                steps.append(k)
                sharpness.append(found.sharpness)
                variances.append(found.variance)
            point, nu = point + flow.length * found.point, nu + flow.length * found.nu
        if status != COMPLETED:
            break
    if not rows:
        raise ValueError(f"start: the central flow cannot begin; it {status}")
    run = _run(steps, rows, sharpness, variances, flow.counts, status)
    products = step_size * run.sharpness / run.second_moments.sqrt()
    largest = EDGE if run.variances.any() else float(products.max())
    return replace(run, remarks=tuple(remarks_on(objective, point, largest, "σ² = 0 so far")))


@dataclass(frozen=True, eq=False)
class _Velocity:
    point: Tensor
    nu: float
    value: Tensor
    sharpness: float
    variance: float


class _Stepper:
    """Finds the flow's velocity; counts, and keeps the eigenvectors for the next point."""

    def __init__(
        self, objective: Objective, step_size: float, ratio: float, length: float, within: float
    ) -> None:
        self.objective, self.step_size, self.ratio = objective, step_size, ratio
        self.length, self.within = length, within
        self.warm: Tensor | None = None
        self.counts = {"gradients": 0, "hessian_vector_products": 0, "third_derivatives": 0}

    def velocity(self, point: Tensor, nu: float) -> _Velocity | str:
        """Return the velocity, or why there is none."""
        value, gradient = self.objective.value_and_gradient(point)
        self.counts["gradients"] += 1
        if not (value.isfinite() and gradient.isfinite().all() and 0 < nu < math.inf):
            return "the loss or ν is not finite; raise substeps, or try a smaller step_size"
        wanted = min(2, self.objective.dimension)
        found = extreme_eigenvalues(
            self.objective,
            point,
            smallest=0,
            largest=wanted,
            tolerance=1e-3,
            warm_start=self.warm,
            failure_probability=None,  # followed from step to step, not looked for anew
        )
        self.counts["hessian_vector_products"] += int(found.products)
        self.warm = found.largest_vectors
        if self.warm is None or not found.certified:
            return (
                f"the top eigenpairs did not converge in {int(found.products)} products; raise "
                "substeps, so that they are followed in shorter steps"
            )
        edge, sharpness = 2 * math.sqrt(nu) / self.step_size, float(found.largest[0])
        if wanted == 2 and found.largest[1] > (1 - self.within) * edge:
            return (
                f"a second eigenvalue is within {self.within:.0%} of the edge, and this flow is "
                "for one; lower critical_within, or stop earlier"
            )
        squared, slope, variance = float(gradient.square().sum()), 0 * gradient, 0.0
        if sharpness > (1 - self.within) * edge:
            slope = self.objective.third_derivative(point, self.warm[0], self.warm[0])
            self.counts["third_derivatives"] += 1
            variance = self._variance(edge - sharpness, gradient, squared, slope, sharpness, nu)
        rate = self.step_size / math.sqrt(nu)
        return _Velocity(
            point=-rate * (gradient + 0.5 * variance * slope),
            nu=self.ratio * (squared + variance * sharpness**2 - nu),
            value=value,
            sharpness=sharpness,
            variance=variance,
        )

    def _variance(
        self,
        room: float,
        gradient: Tensor,
        squared: float,
        slope: Tensor,
        sharpness: float,
        nu: float,
    ) -> float:
        """Return σ² ≥ 0 with room ≥ 0 at the end of the step, one of them an equality."""
        root, eta = math.sqrt(nu), self.step_size
        drift = self.ratio * (squared - nu) / (eta * root) + eta / root * float(slope @ gradient)
        per_variance = self.ratio * sharpness**2 / (eta * root)
        per_variance += eta / (2 * root) * float(slope @ slope)
        return max(0.0, -(room / self.length + drift) / per_variance)


def _checked(
    objective: Objective,
    start: Point,
    step_size: float,
    decay: float,
    second_moment: float | None,
) -> tuple[Tensor, float]:
    checks.positive(step_size=step_size)
    if not 0 < decay < 1:
        raise ValueError(f"decay = {decay}: must be between 0 and 1")
    start = objective._check(starting_point(start))
    if start.dim() != 1:
        raise ValueError("start: give one finite point, shape (d,)")
    if second_moment is None:
        second_moment = float(objective.gradient(start).square().sum())
    checks.positive(second_moment=second_moment)
    return start.clone(), float(second_moment)


def _run(
    steps: Iterable[int],
    rows: list[tuple[Tensor, float, Tensor]],
    sharpness: list[float],
    variances: list[float],
    counts: dict[str, int],
    status: str,
) -> AdaptiveRun:
    if not rows:
        raise ValueError("start: the loss there is not finite")
    points, moments, losses = zip(*rows, strict=True)
    return AdaptiveRun(
        path=Trajectory(
            times=torch.tensor(list(steps), dtype=torch.float64),
            points=torch.stack(points),
            losses=torch.stack(losses),
            counts=counts,
            status=status,
        ),
        second_moments=torch.tensor(moments, dtype=torch.float64),
        sharpness=torch.tensor(sharpness, dtype=torch.float64),
        variances=torch.tensor(variances, dtype=torch.float64),
    )
