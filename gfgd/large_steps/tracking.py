"""How near a flow is to gradient descent (GD), and for which step size it stays within a distance.

A *flow* here is a function of an objective, a start and times that takes the step size of the GD
that it models, such as :func:`~gfgd.large_steps.modified.barrett_dherin_flow`. Measured is the
largest distance max_k ‖θ_k − ϑ(kη)‖ (`flow_distances`), and the largest step size for which it is
at most ε (`step_sizes_within`). Bounded it is by the defects of the flow under GD's map
(`tracked`, by :func:`~gfgd.large_steps.modified.tracking_bound`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gfgd import checks
from gfgd.bounds import certificates
from gfgd.descent import gradient_descent
from gfgd.large_steps.modified import one_step_defects, tracking_bound
from gfgd.networks.linear import DeepLinear
from gfgd.objective import Objective, Point
from gfgd.step_size_search import largest_step_size
from gfgd.trajectory import Trajectory

#: GD whose loss ends at more than so many times its first one follows no flow.
LOST = 10.0


@dataclass(frozen=True, eq=False)
class FlowDistances:
    """How far GD is from a flow, for step sizes in falling order.

    Attributes
    ----------
    step_sizes
        η, the largest first, shape ``(S,)``.
    distances
        max_k ‖θ_k − ϑ(kη)‖ up to the horizon, shape ``(S,)``.
    finest
        The flow for the smallest η, at the times kη.
    """

    step_sizes: Tensor
    distances: Tensor
    finest: Trajectory

    @property
    def order(self) -> float:
        """The slope of log distance against log η, by least squares."""
        x, y = self.step_sizes.log(), self.distances.log()
        return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def flow_distances(
    objective: Objective,
    start: Point,
    flow: Callable[..., Trajectory],
    *,
    step_sizes: Iterable[float],
    horizon: float,
    estimate_error: bool = False,
    **options: object,
) -> FlowDistances:
    """Return how far GD is from a flow up to a time, for each of several step sizes.

    Parameters
    ----------
    objective, start
        f, and θ_0 of shape ``(d,)``.
    flow
        Called as ``flow(objective, start, times, step_size=η, estimate_error=…, **options)``.
    step_sizes
        η > 0, two different ones at least.
    horizon
        T: iterates k ≤ T/η are compared.
    estimate_error
        Whether the error of the flow's integration is estimated, for the smallest η: there the
        distance is smallest, and the error counts most.
    **options
        Handed on to `flow`.

    Raises
    ------
    ValueError
        If η or T is not positive, or there are fewer than two step sizes.
    RuntimeError
        If GD diverges, or ends at more than `LOST` times its first loss; or a flow stops early.
    """
    checks.positive(horizon=horizon)
    sizes = sorted(set(step_sizes), reverse=True)
    checks.at_least(2, step_sizes=len(sizes))
    for size in sizes:
        checks.positive(step_sizes=size)
    found = []
    for size in sizes:
        count = math.floor(horizon / size + 1e-9)
        descent = gradient_descent(objective, start, step_size=size, iterations=count)
        if not descent.completed or descent.losses[-1] > LOST * descent.losses[0].abs():
            raise RuntimeError(f"GD follows no flow at η = {size:g}: take smaller step sizes")
        estimated = estimate_error and size == sizes[-1]
        run = flow(
            objective, start, descent.times, step_size=size, estimate_error=estimated, **options
        )
        run.require_completed(f"the flow, η = {size:g}")
        found.append(descent.distance_to(run).max())
    return FlowDistances(torch.tensor(sizes, dtype=torch.float64), torch.stack(found), run)


@dataclass(frozen=True, eq=False)
class Tracking:
    """GD beside a curve at the times kη: the bound E_k and the distance, shape ``(K + 1,)``.

    E_k ≥ ‖θ_k − ϑ_k‖ up to rounding, as far as the bounds on the curvature hold.
    """

    bounds: Tensor
    distances: Tensor


def tracked(
    objective: Objective,
    curve: Trajectory,
    descent: Tensor,
    *,
    step_size: float,
    curvature: Callable[[int, float], tuple[float, float]],
) -> Tracking:
    """Return the bound on how far GD is from a curve, and how far it is.

    Parameters
    ----------
    objective
        f.
    curve
        ϑ at the times jη/r, j = 0 … rK.
    descent
        θ_0 … θ_K, shape ``(K + 1, d)``.
    step_size
        η > 0.
    curvature
        As in :func:`~gfgd.large_steps.modified.tracking_bound`.

    Raises
    ------
    ValueError
        If the curve's times are no refinement of GD's.
    """
    points = curve.points[:: _refinement(curve, len(descent) - 1)]
    defects = one_step_defects(objective, points, step_size).norm(dim=-1)
    bounds = tracking_bound(step_size, defects, curvature)
    return Tracking(bounds, (descent - points).norm(dim=-1))


def curvature_in_tube(
    objective: DeepLinear, curve: Trajectory, steps: int, *, distance: float
) -> Callable[[int, float], tuple[float, float]]:
    """Return the map from k and ρ to bounds on the eigenvalues of ∇²f in a ball around ϑ_k.

    They are λmin(∇²f(ϑ_k)) − M₃ρ and λmax(∇²f(ϑ_k)) + M₃ρ, with M₃ ≥ ‖D³f‖ on the balls of radius
    ε from the norms of the layers (:func:`gfgd.bounds.certificates.tube`); infinite for ρ > ε.

    Parameters
    ----------
    objective
        f, whose Hessian is formed at each ϑ_k.
    curve
        ϑ at the times jη/r, j = 0 … rK.
    steps
        K.
    distance
        ε > 0.

    Raises
    ------
    ValueError
        If the curve has other than rK + 1 times, or for an error of the tube.
    """
    refine = _refinement(curve, steps)
    third = certificates.tube(objective, curve, distance).third
    change = third.reshape(-1, refine).amax(dim=1).tolist()
    spectra = torch.linalg.eigvalsh(objective.hessian(curve.points[:-1:refine]))
    low, high = spectra[:, 0].tolist(), spectra[:, -1].tolist()

    def bounds(k: int, radius: float) -> tuple[float, float]:
        if radius > distance:  # nothing is known there
            return -math.inf, math.inf
        return low[k] - change[k] * radius, high[k] + change[k] * radius

    return bounds


def step_sizes_within(
    stays: Callable[[float, float], bool],
    distances: Iterable[float],
    *,
    order: int,
    ceiling: float,
) -> list[float]:
    """Return for each ε, in the order given, the largest η with which GD stays within ε.

    Each is found by :func:`~gfgd.step_size_search.largest_step_size`, from where ε = C ηᵖ places it
    after the one before.

    Parameters
    ----------
    stays
        Called as ``stays(ε, η)``: whether GD with η stays within ε, measured or by a bound.
    distances
        ε > 0.
    order
        p ≥ 1, the order of the flow.
    ceiling
        The largest η that is asked about.
    """
    found: list[float] = []
    last = math.nan
    for distance in distances:
        checks.positive(distances=distance)
        guess = (
            found[-1] * (distance / last) ** (1 / order) if found else distance ** (1 / order) / 4
        )
        found.append(largest_step_size(partial(stays, distance), guess=guess, ceiling=ceiling))
        last = distance
    return found


def _refinement(curve: Trajectory, steps: int) -> int:
    """Return r for a curve at rK + 1 times."""
    cells = len(curve.times) - 1
    if steps < 1 or cells < steps or cells % steps:
        raise ValueError(
            f"curve: has {cells + 1} times; give rK + 1, r ≥ 1, for the K = {steps} steps of GD"
        )
    return cells // steps
