"""Gradient descent beside gradient flow, from one start."""

from __future__ import annotations

import math
from typing import Any

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
    descent = gradient_descent(objective, begin, step_size=step_size, iterations=iterations)
    return descent, gradient_flow(objective, begin, descent.times, **flow_options)
