"""What :func:`~gfgd.figures.direction_fields` draws of an initial value problem."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gfgd.figures.planes import DirectionField
from gfgd.problems.initial_value_problems import InitialValueProblem


def problem_field(
    problem: InitialValueProblem, paths: Mapping[str, tuple[Tensor, Tensor]], *, horizon: float
) -> DirectionField:
    """Return a problem's field with paths in it.

    With one state the picture is the plane of time and state, with two the plane of states.

    Parameters
    ----------
    problem
        θ' = g(t, θ) with d = 1 or 2.
    paths
        Label to times, shape ``(T,)``, and states, shape ``(T, d)``. Rows of NaN interrupt a path.
    horizon
        Up to which time is drawn, with one state.

    Raises
    ------
    ValueError
        If the problem has more than two states.
    """
    if problem.dimension == 2:
        return DirectionField(
            directions=lambda points: problem.field(0.0, points),
            domain=(problem.domain[0], problem.domain[1]),
            paths={label: states for label, (_, states) in paths.items()},
            labels=("θ₁", "θ₂"),
            equal=True,
        )
    if problem.dimension != 1:
        raise ValueError(f"problem has {problem.dimension} states: one or two can be drawn")

    def directions(points: Tensor) -> Tensor:
        # A field takes one time and its states, and here each point has a time of its own.
        flat = points.reshape(-1, 2)
        slopes = torch.cat([problem.field(at[0].item(), at[1:]) for at in flat])
        return torch.stack([torch.ones_like(slopes), slopes], dim=-1).reshape(points.shape)

    return DirectionField(
        directions=directions,
        domain=((0.0, horizon), problem.domain[0]),
        paths={
            label: torch.stack([times, states[:, 0]], dim=-1)
            for label, (times, states) in paths.items()
        },
        labels=("time t", "θ"),
    )
