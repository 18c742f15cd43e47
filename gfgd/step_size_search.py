"""Step sizes with which gradient descent stays within a distance of gradient flow: by running.

Along a flow that is known, :func:`by_trial` makes as many runs of GD as it takes to find the
largest step size that divides the horizon, and :func:`search_step_size` makes few, and ends with
one that is small enough. :func:`fewest_iterations` and :func:`largest_step_size` search for any
condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from gfgd import checks
from gfgd.descent import gradient_descent
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Attempt:
    """A run of GD: its step size, iterations and largest distance from GF (∞ if it diverged)."""

    step_size: float
    iterations: int
    distance: float
    run: Trajectory


def distance_from_flow(run: Trajectory, flow: Trajectory) -> Tensor:
    """Return ‖θ(t) − ϑ(t)‖₂ at the times that both have reached, shape ``(T,)``.

    Both begin at the same time and are recorded at the same times, as far as they go.
    """
    reached = flow.times[: min(len(run.times), len(flow.times))]
    return run.at(reached).distance_to(flow.at(reached))


def fewest_iterations(
    distance: Callable[[int], float], *, within: float, guess: int = 1, limit: int = 10_000_000
) -> int:
    """Return the smallest number K of steps with distance(K) ≤ `within`, by trial.

    From `guess` on goes up until K suffices, or down until it does not, in strides that double, and
    bisects then, so that K suffices and K − 1 does not. That is the smallest K if more steps never
    hurt; else it is one of several such K. A distance that is not finite does not suffice.

    Raises
    ------
    ValueError
        If within ≤ 0, guess < 1, or `limit` steps do not suffice.
    """
    checks.positive(within=within)
    checks.whole(1, limit=limit, guess=guess)
    failing, enough, stride = 0, min(guess, limit), max(1, guess // 50)
    while not distance(enough) <= within:
        if enough >= limit:
            raise ValueError(f"limit = {limit}: so many steps do not keep the distance {within:g}")
        failing, enough, stride = enough, min(enough + stride, limit), 2 * stride
    while failing == 0 and enough > stride:
        if distance(enough - stride) <= within:
            enough, stride = enough - stride, 2 * stride
        else:
            failing = enough - stride
    while enough - failing > 1:
        middle = (failing + enough) // 2
        if distance(middle) <= within:
            enough = middle
        else:
            failing = middle
    return enough


def largest_step_size(
    passes: Callable[[float], bool], *, guess: float, ceiling: float, ratio: float = 1.05
) -> float:
    """Return an η that passes, where ``ratio`` × η fails or exceeds the ceiling.

    By bisection of log η. That is nearly the largest one if every smaller η passes, too.

    Parameters
    ----------
    passes
        Whether a step size will do; any that is small enough must.
    guess
        Where the search begins, > 0.
    ceiling
        The largest η that is asked about, > 0.
    ratio
        How near to the largest η the result is, > 1.

    Raises
    ------
    ValueError
        For a number out of range, or if no step size passes.

    Examples
    --------
    >>> 0.95 < largest_step_size(lambda eta: eta <= 1, guess=0.1, ceiling=2.0) <= 1
    True
    """
    checks.positive(guess=guess, ceiling=ceiling)
    if not ratio > 1:
        raise ValueError(f"ratio = {ratio}: must be greater than 1")
    low = min(guess, ceiling)
    while not passes(low):
        low /= 2
        if low == 0:
            raise ValueError("passes: no step size passes, however small")
    high = low
    while high == low and low < ceiling:
        high = min(2 * low, ceiling)
        low = high if passes(high) else low
    while high > ratio * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def by_trial(objective: Objective, flow: Trajectory, *, distance: float) -> float:
    """Return T/K with the smallest K for which K steps of GD stay within ε of a flow.

    K is found by :func:`fewest_iterations`, and every iterate is compared. Between its times the
    flow is interpolated by cubics with the right slopes, so that it should hold some hundreds of
    times.

    Parameters
    ----------
    objective, flow
        f, and its gradient flow from time 0 to T, points of shape ``(T, d)``.
    distance
        ε > 0.

    Raises
    ------
    ValueError
        If ε is not positive, or no number of steps that can be tried is enough.
    """
    checks.positive(distance=distance)
    horizon = flow.times[-1].item()
    curve = CubicHermiteSpline(flow.times, flow.points, -objective.gradient(flow.points))

    def largest_distance(iterations: int) -> float:
        descent = gradient_descent(
            objective, flow.points[0], step_size=horizon / iterations, iterations=iterations
        )
        if not descent.completed:
            return math.inf
        apart = descent.points - torch.from_numpy(curve(descent.times))
        return apart.norm(dim=-1).max().item()

    return horizon / fewest_iterations(largest_distance, within=distance)


def search_step_size(
    objective: Objective,
    flow: Trajectory,
    *,
    distance: float,
    first: float,
    most: int = 4,
    max_iterations: int | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Attempt]:
    """Run GD, and with more steps again while it is farther from GF than `distance` at a time.

    The number m of steps between two times is at first the smallest whole one with a step size of
    at most `first`. A run whose largest distance is d > ε is followed by one with ⌈m d/ε⌉ steps,
    at most twice as many: to leading order d is proportional to the step size, so that one
    correction suffices up to O(ε²).

    Parameters
    ----------
    objective
        f.
    flow
        GF, at T ≥ 2 equidistant times from 0 on; GD starts where it does.
    distance
        ε > 0, for the distance at these times.
    first
        The largest step size to try, such as ε/max‖u‖ of
        :func:`gfgd.bounds.leading_order.leading_order_error`.
    most
        The number of runs, at most.
    max_iterations
        A run that would take more is not made.
    progress
        Wraps the iterations of each run, as ``tqdm`` does.

    Returns
    -------
    list
        The attempts in order. Only the last one can be within `distance`; none of them is where
        `most` or `max_iterations` ended the search.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(distance=distance, first=first)
    checks.whole(1, most=most)
    if len(flow.times) < 2:
        raise ValueError(f"flow has {len(flow.times)} times: give two or more")
    intervals, spacing = len(flow.times) - 1, float(flow.times[1] - flow.times[0])
    attempts: list[Attempt] = []
    steps = math.ceil(spacing / first - 1e-9)  # rounding must not add a step
    while len(attempts) < most and not (max_iterations and steps * intervals > max_iterations):
        run = gradient_descent(
            objective,
            flow.points[0],
            step_size=spacing / steps,
            iterations=steps * intervals,
            record_every=steps,
            progress=progress,
        )
        far = float(distance_from_flow(run, flow).max()) if run.completed else math.inf
        attempts.append(Attempt(spacing / steps, steps * intervals, far, run))
        if far <= distance:
            break
        steps = max(steps + 1, math.ceil(steps * min(far / distance, 2) - 1e-9))
    return attempts
