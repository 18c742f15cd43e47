"""A step size with which gradient descent stays within a distance of gradient flow: by running."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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


def search_step_size(
    objective: Objective,
    flow: Trajectory,
    distance: float,
    *,
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
