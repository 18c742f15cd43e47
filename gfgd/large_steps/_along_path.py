"""What the results of all flows for large steps share: a path, and what else is known along it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gfgd.derivative_checks import kinked_operations
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: ηλ at the edge of stability.
EDGE = 2.0


@dataclass(frozen=True, eq=False)
class AlongPath:
    """A result with a `path`, whose times, points, status and counts are its own."""

    path: Trajectory

    @property
    def times(self) -> Tensor:
        """The recorded times kη, shape ``(T,)``."""
        return self.path.times

    @property
    def points(self) -> Tensor:
        """The path's points at those times, shape ``(T, ..., d)``."""
        return self.path.points

    @property
    def status(self) -> str:
        """``"completed"``, or where the flow stopped, why, and what can be done."""
        return self.path.status

    @property
    def completed(self) -> bool:
        """Whether the flow reached its last time."""
        return self.path.completed

    @property
    def counts(self) -> dict[str, int]:
        """What it cost; a batch counts once."""
        return self.path.counts


def remarks_on(objective: Objective, start: Tensor, largest: float, below: str) -> Iterator[str]:
    """Say where a result means less than it seems: the edge was never reached, or f has kinks.

    `largest` is the largest ηλ that the flow saw, `below` what the flow is as long as that is
    below 2.
    """
    if largest < EDGE:
        yield (
            f"ηλ is at most {largest:.3g}: the edge of stability at {EDGE:g} was never reached, "
            f"and {below}; take a larger step_size or more iterations to see the edge"
        )
    if kinked := kinked_operations(objective, start):
        yield (
            f"f has kinks ({', '.join(kinked)}): the flow's order is not proved, and an "
            "oscillation across a kink is not in its derivatives"
        )
