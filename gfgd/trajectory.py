"""Trajectories: what gradient descent and gradient flow return."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gfgd.files import replacing
from gfgd.objective import as_point

COMPLETED = "completed"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A curve in parameter space at T recorded times, and how it was obtained.

    Attributes
    ----------
    times
        t_0 < … < t_{T−1}, shape ``(T,)``, float64. Gradient descent's iterate k with step
        size η has time kη, so that it stands beside the flow at the same time.
    points
        θ(t_i), shape ``(T, ..., d)``.
    losses
        f(θ(t_i)), shape ``(T, ...)``, at the same points.
    counts
        What it cost: ``gradients``, ``hessian_vector_products``, ``accepted_steps``, …
    status
        ``"completed"``, or why the run stopped early, in words; then only the times that
        were reached are recorded.
    error
        Estimate of the largest ‖θ(t) − exact flow‖ up to t_i, shape ``(T, ...)``; None where
        none was made.
    error_doubt
        Why `error` may fall short of the true error, in words; None where nothing speaks
        against it. :func:`gfgd.flow.gradient_flow` says what is looked at.
    """

    times: Tensor
    points: Tensor
    losses: Tensor
    counts: dict[str, int] = field(default_factory=dict)
    status: str = COMPLETED
    error: Tensor | None = None
    error_doubt: str | None = None

    def __post_init__(self) -> None:
        length = len(self.times)
        for name in ("points", "losses", "error"):
            value = getattr(self, name)
            if value is not None and len(value) != length:
                raise ValueError(f"{name} has {len(value)} entries for {length} times")
        if self.losses.shape != self.points.shape[:-1]:
            raise ValueError(
                f"losses has shape {tuple(self.losses.shape)}, points {tuple(self.points.shape)}"
            )

    @property
    def completed(self) -> bool:
        """Whether the run reached its last time with finite values."""
        return self.status == COMPLETED

    def require_completed(self, what: str) -> Trajectory:
        """Return this trajectory, or raise ``RuntimeError``: `what` did not complete, and why."""
        if not self.completed:
            raise RuntimeError(f"{what}: {self.status}")
        return self

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        return self.points.shape[-1]

    def distance_to(self, other: Trajectory) -> Tensor:
        """Return ‖θ(t_i) − other(t_i)‖₂ over all parameters, shape ``(T, ...)``, float64.

        Raises
        ------
        ValueError
            If the two have different dimensions or times: use :meth:`at` to pick out the
            times that both have recorded.
        """
        if self.dimension != other.dimension:
            raise ValueError(
                f"other has dimension {other.dimension}, this trajectory {self.dimension}: "
                "they do not live in the same parameter space"
            )
        if len(self.times) != len(other.times) or not _same(self.times, other.times).all():
            raise ValueError(
                f"other is recorded at other times ({_span(other.times)}) than this trajectory "
                f"({_span(self.times)}); compare self.at(times) with other.at(times), and give "
                "times in float64 (float32 rounds them)"
            )
        return _distance(self.points, other.points)

    def distance_from_start(self) -> Tensor:
        """Return ‖θ(t_i) − θ(t_0)‖₂, shape ``(T, ...)``, float64."""
        return _distance(self.points, self.points[:1])

    def at(self, times: Tensor) -> Trajectory:
        """Return the trajectory at those of its recorded times; nothing is interpolated.

        Raises
        ------
        ValueError
            If a requested time was not recorded.
        """
        times = torch.as_tensor(times, dtype=torch.float64, device=self.times.device)
        match = _same(self.times[None, :], times[:, None])
        if not match.any(dim=1).all():
            missing = times[~match.any(dim=1)][0].item()
            raise ValueError(
                f"times: {missing:g} was not recorded ({_span(self.times)}); "
                "record it, for example with another record_every, and give times in float64"
            )
        index = match.to(torch.int8).argmax(dim=1)
        error = None if self.error is None else self.error[index]
        return replace(
            self,
            times=self.times[index],
            points=self.points[index],
            losses=self.losses[index],
            error=error,
        )

    def member(self, index: int) -> Trajectory:
        """Return one of the curves that were computed together, points of shape ``(T, ..., d)``.

        `index` counts along the first axis after time: the starts of a batch. What the batch cost
        together stays in `counts`.

        Raises
        ------
        ValueError
            If this is a single curve, or it has fewer members.
        """
        if self.points.dim() < 3:
            raise ValueError(
                f"points has shape {tuple(self.points.shape)}: a single curve has no members"
            )
        if not 0 <= index < self.points.shape[1]:
            raise ValueError(f"index = {index}: must be from 0 to {self.points.shape[1] - 1}")
        error = None if self.error is None else self.error[:, index]
        return replace(
            self, points=self.points[:, index], losses=self.losses[:, index], error=error
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the trajectory to `path` (``.npz``, no pickle), whole or not at all."""
        path = Path(path)
        arrays = {"times": self.times, "points": self.points, "losses": self.losses}
        if self.error is not None:
            arrays["error"] = self.error
        content = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
        content["status"] = np.array(self.status)
        if self.error_doubt is not None:
            content["error_doubt"] = np.array(self.error_doubt)
        content["count_names"] = np.array(list(self.counts), dtype=str)
        content["count_values"] = np.array(list(self.counts.values()), dtype=np.int64)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read a trajectory that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or is no trajectory.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                content = {name: stored[name] for name in stored.files}
            names, values = content["count_names"], content["count_values"]
            return cls(
                times=torch.from_numpy(content["times"]),
                points=torch.from_numpy(content["points"]),
                losses=torch.from_numpy(content["losses"]),
                counts={str(n): int(v) for n, v in zip(names, values, strict=True)},
                status=str(content["status"]),
                error=torch.from_numpy(content["error"]) if "error" in content else None,
                error_doubt=str(content["error_doubt"]) if "error_doubt" in content else None,
            )
        except FileNotFoundError:
            raise
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise ValueError(
                f"{os.fspath(path)}: no trajectory can be read from it ({error}); "
                "delete it and make it again"
            ) from error


def starting_point(start: Tensor | ArrayLike, *, any_precision: bool = False) -> Tensor:
    """Return a start as a tensor that no graph of autograd is attached to; it is not copied.

    An array keeps its precision. A list of numbers, which Python holds in double precision, becomes
    float64 (``torch.tensor`` would make it float32).

    Raises
    ------
    ValueError
        If it is no tensor, array or list of numbers, not float32 or float64, or not finite. With
        `any_precision` half precision and bfloat16 will do, too.

    Examples
    --------
    >>> starting_point([1.0, 2.0])
    tensor([1., 2.], dtype=torch.float64)
    """
    start = as_point(start, "start", any_precision=any_precision)
    if not start.isfinite().all():
        raise ValueError("start: has non-finite entries")
    return start.detach()


def _same(left: Tensor, right: Tensor) -> Tensor:
    """Equal up to the rounding of k·η computed in two ways."""
    return torch.isclose(left, right.to(left.device), rtol=1e-9, atol=1e-12)


def _distance(left: Tensor, right: Tensor) -> Tensor:
    """Euclidean distance in float64, whatever the precision of the points."""
    return (left.double() - right.to(left.device).double()).norm(dim=-1)


def _span(times: Tensor) -> str:
    return f"{len(times)} times from {times[0].item():g} to {times[-1].item():g}"
