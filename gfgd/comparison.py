"""Gradient descent beside gradient flow, from one start; its distance from the flow's path."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gfgd import checks
from gfgd.descent import gradient_descent
from gfgd.flow import gradient_flow
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory, starting_point


def descent_and_flow(
    objective: Objective,
    start: Tensor | ArrayLike,
    *,
    step_size: float,
    horizon: float,
    record_every: int = 1,
    **flow_options: Any,
) -> tuple[Trajectory, Trajectory]:
    """Run GD for a time, and GF to the times of its iterates.

    GD takes as many steps as fit, ⌊T/η⌋, at least one; its iterate k stands at time kη. Where it
    diverges the flow goes as far as GD did.

    Parameters
    ----------
    objective
        f.
    start
        θ(0), shape ``(d,)``, or ``(..., d)`` for many starts at once.
    step_size
        η > 0, in units of time.
    horizon
        T > 0.
    record_every
        Record every so manieth iterate, and the last; the flow at the same times.
    flow_options
        Further arguments of :func:`~gfgd.gradient_flow`, such as ``rtol``.

    Returns
    -------
    tuple[Trajectory, Trajectory]
        GD and GF; ``gd.distance_to(gf)`` is the distance at each iterate.

    Raises
    ------
    ValueError
        If η or T is not positive, or as :func:`~gfgd.gradient_descent` and
        :func:`~gfgd.gradient_flow` do.
    """
    checks.positive(step_size=step_size, horizon=horizon)
    begin = starting_point(start)
    iterations = max(1, math.floor(horizon / step_size + 1e-9))  # T = kη may round below kη
    descent = gradient_descent(
        objective,
        begin,
        step_size=step_size,
        iterations=iterations,
        record_every=record_every,
    )
    return descent, gradient_flow(objective, begin, descent.times, **flow_options)


def distance_from_path(points: Tensor, path: Tensor) -> Tensor:
    """Return min_q ‖point − q‖ over the broken line through `path`, for each point: ``(T,)``.

    The distance at equal times, `Trajectory.distance_to`, also counts being early or late on the
    same path; this one does not.

    Parameters
    ----------
    points
        Shape ``(T, d)``, such as the iterates of gradient descent.
    path
        Two points or more in their order, shape ``(S, d)``, such as those of a flow. The broken
        line stands for the curve through them: record it often.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the path is a single point.
    """
    if points.dim() != 2 or path.dim() != 2 or points.shape[-1] != path.shape[-1]:
        raise ValueError(
            f"points has shape {tuple(points.shape)} and path {tuple(path.shape)}: give (T, d) "
            "and (S, d)"
        )
    if len(path) < 2:
        raise ValueError("path: needs two points or more")
    origin, step = path[:-1], path.diff(dim=0)
    squares = step.square().sum(-1)
    found = []
    for point in points:  # one at a time: all at once take T · S · d numbers
        along = ((point - origin) * step).sum(-1) / squares.clamp_min(1e-300)
        nearest = origin + along.clamp(0, 1)[:, None] * step
        found.append((nearest - point).norm(dim=-1).min())
    return torch.stack(found)
