"""A long run in a folder: its points lie on disk, and a run that was killed goes on where it was.

The folder has the recorded points in ``points-….npy``, as they are recorded, and in ``state.npz``,
now and then, what the run needs to go on. A kill leaves both whole. Processes that make the same
run together (:mod:`gfgd.sharding`) may share a folder: they write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from gfgd.files import replacing
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: The state is written at most so often, so that a kill costs no more than that.
SECONDS = 30.0
#: Relative difference of f(start) from which on it belongs to another objective.
OTHER_OBJECTIVE = 1e-6
_STATE = "state.npz"


class Checkpoint:
    """The folder of one run.

    Parameters
    ----------
    folder
        Made if need be.
    run
        What tells this run from others: its name, the numbers that it was given. What is in the
        folder already must have been made with the same.
    objective, start
        f and θ_0; f(θ_0) and the bits of θ_0 belong to what must be the same.
    rows
        How many points are recorded at most.

    Attributes
    ----------
    state
        What the run that is in the folder had when its state was last written; empty for a new one.
    points
        The recorded points, in the file, shape ``(rows, *start.shape)``, on the CPU.

    Raises
    ------
    ValueError
        If the folder belongs to another run, cannot be written or is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        run: Mapping[str, object],
        objective: Objective,
        start: Tensor,
        rows: int,
    ) -> None:
        if start.dtype == torch.bfloat16:  # NumPy, which writes the file, has none
            raise ValueError("checkpoint: points in bfloat16 cannot be kept; leave it out")
        self.folder = Path(folder)
        held = np.ascontiguousarray(start.cpu().numpy())
        self._shape, self._dtype = (rows, *start.shape), held.dtype
        bits = hashlib.sha256(held.tobytes()).hexdigest()
        self._run = {**run, "start": f"{tuple(start.shape)}, {start.dtype}, {bits[:16]}"}
        key = hashlib.sha256(json.dumps([self._run, rows]).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / f"points-{key}.npy"
        self._value = objective.value(start).double().cpu()
        self.state = self._checked_state()
        self.points = self._mapped()
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write the state again."""
        return time.monotonic() - self._written > SECONDS

    def save(self, **state: Any) -> None:
        """Write the state, tensors and numbers by name, in place of the last one."""
        content = {
            name: value.detach().cpu().numpy() if isinstance(value, Tensor) else np.array(value)
            for name, value in state.items()
        }
        content["run"] = np.array(json.dumps(self._run))
        content["value_at_start"] = self._value.numpy()
        content["points_file"] = np.array(self._path.name)
        with replacing(self.folder / _STATE) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **content)
        self._written = time.monotonic()

    def recorded(self, count: int) -> Tensor:
        """Return the first points, still in the file; what is done to them does not change it."""
        return torch.from_numpy(np.load(self._path, mmap_mode="c")[:count])

    def _checked_state(self) -> dict[str, np.ndarray]:
        """Return the state in the folder, if there is one and it is this run's."""
        state = _read(self.folder)
        if not state:
            return state
        before = json.loads(str(state["run"]))
        if before != self._run:
            differing = sorted(
                name for name in {**before, **self._run} if before.get(name) != self._run.get(name)
            )
            said = ", ".join(f"{n} was {before.get(n)}, is {self._run.get(n)}" for n in differing)
            raise ValueError(
                f"checkpoint = {self.folder}: belongs to another run ({said}); give another "
                "folder, or delete it"
            )
        old = torch.from_numpy(state["value_at_start"])
        if not torch.allclose(old, self._value, rtol=OTHER_OBJECTIVE, atol=0, equal_nan=True):
            raise ValueError(
                f"checkpoint = {self.folder}: belongs to another objective: f(start) was "
                f"{_few(old)}, is {_few(self._value)}; give another folder, or delete it"
            )
        return state

    def _mapped(self) -> Tensor:
        """Return the file of points as a tensor, all of it; it takes room as it is filled."""
        if not self._path.exists():
            # Made under another name, so that no process sees half of it; a link, unlike a
            # renaming, leaves alone what another process of the same run has made meanwhile.
            temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.part")
            try:
                npy.open_memmap(temporary, mode="w+", dtype=self._dtype, shape=self._shape)
                os.link(temporary, self._path)
            except FileExistsError:
                pass
            except OSError as error:
                raise ValueError(
                    f"checkpoint = {self.folder}: cannot be written ({error.strerror or error}); "
                    "give another folder"
                ) from error
            finally:
                temporary.unlink(missing_ok=True)
        return torch.from_numpy(np.load(self._path, mmap_mode="r+"))


def trajectory_so_far(folder: str | os.PathLike[str]) -> Trajectory:
    """Return what a run with ``checkpoint=folder`` has recorded until its state was last written.

    `status` says whether it is finished. Of a flow losses are NaN: they are computed at the end.

    Raises
    ------
    ValueError
        If there is no such run, or its files are damaged.
    """
    state = _read(Path(folder))
    if not state:
        raise ValueError(f"{folder}: no run has left its state there")
    count = int(state["recorded"])
    points = np.load(Path(folder) / str(state["points_file"]), mmap_mode="c")[:count]
    losses = state["losses"][:count] if "losses" in state else np.full(points.shape[:-1], np.nan)
    finished = bool(state["finished"])
    return Trajectory(
        times=torch.from_numpy(state["times"][:count]),
        points=torch.from_numpy(points),
        losses=torch.from_numpy(losses),
        status=str(state["status"]) if finished else "unfinished: it can go on from its checkpoint",
    )


def refuse_too_many(rows: int, start: Tensor, remedy: str) -> None:
    """Raise ``ValueError`` if `rows` points like `start` do not fit into free memory.

    `remedy` says what to do, with ``{fewer}`` where it names how many times fewer points would fit.
    """
    needed, free = rows * start.numel() * start.element_size(), free_memory(start.device)
    if free is None or needed <= free:
        return
    fewer = -(-2 * needed // max(free, 1))  # so that they take half of what is free
    raise ValueError(
        f"{rows} points of {start.numel()} numbers take {needed / 1e9:.3g} GB, and "
        f"{free / 1e9:.3g} GB are free: {remedy.format(fewer=fewer)}, or keep them on disk with "
        "checkpoint=FOLDER"
    )


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = Path("/proc/meminfo")
    if not known.exists():
        return None
    free = [
        1024 * int(line.split()[1])
        for line in known.read_text().splitlines()
        if line.startswith("MemAvailable")
    ]
    # A container may be allowed less than the machine has.
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free.append(max(0, int(most) - int(used.read_text())))
    return min(free, default=None)


def _read(folder: Path) -> dict[str, np.ndarray]:
    """Return what a state file holds; nothing if there is none."""
    path = folder / _STATE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        return {}
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ValueError(f"{path}: is damaged ({error}); delete the folder") from error


def _few(values: Tensor) -> str:
    shown: Sequence[float] = values.reshape(-1)[:3].tolist()
    return ", ".join(f"{value!r}" for value in shown)
