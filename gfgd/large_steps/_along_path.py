"""What the results of all flows for large steps share: a path, and what else is known along it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfgd.trajectory import Trajectory


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
