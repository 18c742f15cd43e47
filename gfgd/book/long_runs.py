"""`gfgd archive`: the paper's experiments at full length, into the archive.

Each run is cut into pieces. After a piece the trajectory so far is written under ``_build/archive``
(at most once in `CHECKPOINT_SECONDS`), so that a run that was killed goes on where it was; GD takes
the same iterates then as without the interruption. After each run the results that chapters read
are written anew to ``data/archive``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from gfgd import networks
from gfgd.book.execute import commit
from gfgd.descent import gradient_descent
from gfgd.files import replacing
from gfgd.flow import LOOSENING, gradient_flow
from gfgd.paper.archive import (
    FLOW,
    LOOSER_FLOW,
    Archived,
    descent_name,
    path_of,
    read,
    write,
)
from gfgd.problems import datasets
from gfgd.spectrum import Spectrum, spectrum_along
from gfgd.trajectory import Trajectory

#: The step sizes η₀/ratio of the paper.
RATIOS = (1, 2, 5, 10, 20)
DTYPES = ("float64", "float32")
CHECKPOINT_SECONDS = 30.0
#: Recorded intervals of the flow in a piece: each piece chooses its first step anew.
FLOW_PIECE = 5
#: Times at which eigenvalues are computed before they are kept: each piece starts anew.
SPECTRUM_PIECE = 10
#: What stands for the slash of a run's name in a file's.
_SLASH = " over "


@dataclass(frozen=True)
class Protocol:
    """The experiment of the paper; see chapter 09. Smaller ones serve as tests."""

    dataset: str = "mnist_subset"
    step_size: float = 1e-3
    iterations: int = 10_000
    recordings: int = 100

    @property
    def times(self) -> Tensor:
        """The recorded times, shape ``(recordings + 1,)``."""
        every = self.iterations // self.recordings
        steps = torch.arange(0, self.iterations + 1, every, dtype=torch.float64)
        return steps * self.step_size


@dataclass(frozen=True)
class FlowMethod:
    """How the flow of a network is integrated."""

    method: str
    rtol: float
    atol: float


_SMOOTH = FlowMethod("dopri5", 1e-7, 1e-9)


@dataclass(frozen=True)
class Architecture:
    """A network of the paper: a factory of :mod:`gfgd.networks`, its arguments, its flow."""

    make: Callable[..., networks.Network]
    arguments: dict[str, Any]
    flow: FlowMethod


#: The networks of the archive, by name. Across kinks a method of order 3 is the cheapest.
ARCHITECTURES = {
    "fully_connected_linear": Architecture(
        networks.fully_connected, {"hidden": (50, 50), "activation": "linear"}, _SMOOTH
    ),
    "fully_connected_relu": Architecture(
        networks.fully_connected,
        {"hidden": (50, 50), "activation": "relu"},
        FlowMethod("bosh3", 1e-6, 1e-8),
    ),
    "convolutional_adapted": Architecture(
        networks.convolutional, {"variant": "adapted"}, FlowMethod("bosh3", 1e-5, 1e-7)
    ),
    "convolutional_off_the_shelf": Architecture(
        networks.convolutional, {"variant": "off_the_shelf"}, FlowMethod("bosh3", 1e-5, 1e-7)
    ),
}


@dataclass(frozen=True)
class Experiment:
    """A network from one start: its objectives by precision, and where its runs are kept."""

    network: str
    seed: int
    protocol: Protocol
    scratch: Path

    def objective(self, dtype: str) -> networks.Network:
        """Return the network's loss, on a GPU where there is one."""
        images, labels = datasets.load(self.protocol.dataset)
        architecture = ARCHITECTURES[self.network]
        return architecture.make(
            images, labels, dtype=getattr(torch, dtype), device=_device(), **architecture.arguments
        )

    def file(self, run: str) -> Path:
        """Return where a run's trajectory lies while weights are needed."""
        return self.scratch / f"{run.replace('/', _SLASH)}.npz"


def complete_runs(scratch: Path) -> dict[str, Path]:
    """Return the files of the runs in an experiment's folder that are done, by name."""
    notes = sorted(scratch.glob("*.json"))  # written when a run is done
    return {note.stem.replace(_SLASH, "/"): note.with_suffix(".npz") for note in notes}


@dataclass(frozen=True)
class Descent:
    """A run of GD with step size η₀/ratio."""

    ratio: int
    dtype: str
    piece = 1

    @property
    def name(self) -> str:
        """The run's name in the archive."""
        return descent_name(self.ratio, self.dtype)

    def advance(
        self, objective: networks.Network, protocol: Protocol, start: Tensor, times: Tensor
    ) -> Trajectory:
        """Run GD from the first of the recorded times to the last."""
        every = self.ratio * protocol.iterations // protocol.recordings
        run = gradient_descent(
            objective,
            start,
            step_size=protocol.step_size / self.ratio,
            iterations=every * (len(times) - 1),
            record_every=every,
        )
        return replace(run, times=times[: len(run.times)])


@dataclass(frozen=True)
class Flow:
    """An integration of the flow, at the architecture's tolerances times `loosening`."""

    network: str
    loosening: float = 1.0
    dtype = "float64"
    piece = FLOW_PIECE

    @property
    def name(self) -> str:
        """The run's name in the archive."""
        return FLOW if self.loosening == 1 else LOOSER_FLOW

    def advance(
        self, objective: networks.Network, protocol: Protocol, start: Tensor, times: Tensor
    ) -> Trajectory:
        """Integrate from the first of the recorded times to the last."""
        how = ARCHITECTURES[self.network].flow
        return gradient_flow(
            objective,
            start,
            times,
            method=how.method,
            rtol=how.rtol * self.loosening,
            atol=how.atol * self.loosening,
            estimate_error=False,
        )


Run = Descent | Flow


def make_archive(
    root: Path,
    *,
    names: Sequence[str] = tuple(ARCHITECTURES),
    seeds: Sequence[int] = (1,),
    dtypes: Sequence[str] = DTYPES,
    ratios: Sequence[int] = RATIOS,
    protocol: Protocol | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make what is missing of the archive of a checkout.

    What another process is making is left to it. Archived runs whose weights are no longer there
    are made again where a new run is to be compared with them.

    Parameters
    ----------
    root
        The checkout. Trajectories are kept in its ``_build/archive``.
    names, seeds, dtypes, ratios
        Which networks, starts, precisions and step sizes η₀/ratio. The flow is always made.
    protocol
        By default the paper's.
    folder
        Where the results go; by default ``data/archive``.
    say
        Is told of each experiment in a line.
    """
    protocol = protocol or Protocol()
    folder = folder or root / "data" / "archive"
    key = hashlib.sha256(json.dumps(asdict(protocol), sort_keys=True).encode()).hexdigest()[:8]
    for seed in seeds:
        for name in names:
            scratch = root / "_build" / "archive" / f"{name}-seed{seed}-{key}"
            scratch.mkdir(parents=True, exist_ok=True)
            experiment = Experiment(name, seed, protocol, scratch)
            descents = [Descent(ratio, dtype) for ratio in ratios for dtype in dtypes]
            try:
                with FileLock(scratch / ".lock", timeout=0):
                    made = _make(root, experiment, descents, folder)
            except Timeout:
                made = "another process is making it"
            say(f"{name}, seed {seed}: {made}")


def _make(root: Path, experiment: Experiment, descents: list[Descent], folder: Path) -> str:
    """Make what an experiment misses and write the results after each run; say what was done."""
    archived = _archived(experiment, folder)
    kept = set(archived.runs) if archived else set()
    flows = [Flow(experiment.network), Flow(experiment.network, LOOSENING)]
    wanted: list[Run] = [*flows, *descents]
    missing = [run for run in wanted if run.name not in kept]
    if archived and archived.spectrum and not missing:
        return "all is there"
    names = {run.name for run in wanted}
    again = [run for run in _all_descents() if run.name in kept and run.name not in names]
    made: list[Run] = []
    for run in [*wanted, *again]:
        _complete(root, experiment, run)
        made.append(run)
        # Never replace results by fewer.
        if {one.name for one in made} >= kept:
            write(_results(experiment, made, _stored_spectrum(experiment)), folder)
    write(_results(experiment, made, _spectrum(experiment)), folder)
    return f"{len(missing)} runs added"


def _archived(experiment: Experiment, folder: Path) -> Archived | None:
    if not path_of(experiment.network, experiment.seed, folder).exists():
        return None
    return read(experiment.network, seed=experiment.seed, folder=folder)


def _all_descents() -> Iterable[Descent]:
    return (Descent(ratio, dtype) for ratio in RATIOS for dtype in DTYPES)


def _complete(root: Path, experiment: Experiment, run: Run) -> None:
    """Run what is missing of a run, and note how it was made."""
    note = experiment.file(run.name).with_suffix(".json")
    if note.exists():
        return
    protocol, path = experiment.protocol, experiment.file(run.name)
    objective = experiment.objective(run.dtype)
    so_far = Trajectory.load(path) if path.exists() else None
    done = 0 if so_far is None else len(so_far.times) - 1
    written = before = time.monotonic()
    milliseconds = 0 if so_far is None else so_far.counts["milliseconds"]
    title = f"{experiment.network}, seed {experiment.seed}, {run.name}"
    with tqdm(desc=title, total=protocol.recordings, initial=done, mininterval=5) as bar:
        while done < protocol.recordings and (so_far is None or so_far.completed):
            last = min(done + run.piece, protocol.recordings)
            start = objective.initial(experiment.seed) if so_far is None else so_far.points[-1]
            times = protocol.times[done : last + 1]
            part = run.advance(objective, protocol, start.to(objective.inputs), times.to(_device()))
            so_far = _joined(so_far, _on_cpu(part))
            bar.update(last - done)
            done = last
            now = time.monotonic()
            spent = milliseconds + int(1000 * (now - before))
            so_far = replace(so_far, counts=so_far.counts | {"milliseconds": spent})
            finished = done == protocol.recordings or not so_far.completed
            if finished or now - written > CHECKPOINT_SECONDS:
                so_far.save(path)
                written = now
    assert so_far is not None
    with replacing(note) as temporary:
        temporary.write_text(json.dumps(_provenance(root, so_far)), encoding="utf-8")


def _joined(first: Trajectory | None, second: Trajectory) -> Trajectory:
    """Return one trajectory, then the other, which starts where the first ends."""
    if first is None:
        return second
    counts = {
        name: first.counts.get(name, 0) + second.counts.get(name, 0)
        for name in {**first.counts, **second.counts}
    }
    return Trajectory(
        times=torch.cat([first.times, second.times[1:]]),
        points=torch.cat([first.points, second.points[1:]]),
        losses=torch.cat([first.losses, second.losses[1:]]),
        counts=counts,
        status=second.status,
    )


def _spectrum(experiment: Experiment) -> Spectrum:
    """Return λmin and λmax along the flow; what is missing of them is computed and kept."""
    flow = Trajectory.load(experiment.file(FLOW))
    flow = replace(flow, points=flow.points.to(_device()))
    objective = experiment.objective("float64")
    found = _stored_spectrum(experiment)
    done = 0 if found is None else len(found.products)
    title = f"{experiment.network}, seed {experiment.seed}, λmin and λmax"
    with tqdm(desc=title, total=len(flow.times), initial=done, mininterval=5) as bar:
        while found is None or done < len(flow.times):
            part = spectrum_along(objective, flow.at(flow.times[done : done + SPECTRUM_PIECE]))
            bar.update(len(part.products))
            found = _store_spectrum(experiment, found, part)
            done = len(found.products)
    return found


def _stored_spectrum(experiment: Experiment) -> Spectrum | None:
    """Return as much of the spectrum as there is."""
    path = experiment.scratch / "spectrum.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return Spectrum(**{name: torch.from_numpy(stored[name]) for name in stored.files})


def _store_spectrum(experiment: Experiment, first: Spectrum | None, second: Spectrum) -> Spectrum:
    """Return both parts of a spectrum as one, and keep it for a run that goes on."""
    content = {name: value.cpu() for name, value in vars(second).items() if value is not None}
    if first is not None:
        content = {name: torch.cat([getattr(first, name), v]) for name, v in content.items()}
    path = experiment.scratch / "spectrum.npz"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: v.numpy() for name, v in content.items()})
    return Spectrum(**content)


def _results(experiment: Experiment, runs: Sequence[Run], spectrum: Spectrum | None) -> Archived:
    """Return what the archive keeps of the runs."""
    trajectories = [Trajectory.load(experiment.file(run.name)) for run in runs]
    notes = [experiment.file(run.name).with_suffix(".json").read_text("utf-8") for run in runs]
    mask = _weight_mask(experiment)
    times = experiment.protocol.times
    return Archived(
        network=experiment.network,
        seed=experiment.seed,
        runs=tuple(run.name for run in runs),
        times=times,
        losses=_padded([run.losses.double() for run in trajectories], len(times)),
        distances=_distances(trajectories, len(times)),
        travelled=_padded([run.distance_from_start() for run in trajectories], len(times)),
        weight_distances=_distances([_masked(run, mask) for run in trajectories], len(times)),
        weights_travelled=_padded(
            [_masked(run, mask).distance_from_start() for run in trajectories], len(times)
        ),
        spectrum=spectrum,
        provenance={
            "protocol": asdict(experiment.protocol),
            "flow": asdict(ARCHITECTURES[experiment.network].flow),
            **{run.name: json.loads(note) for run, note in zip(runs, notes, strict=True)},
        },
    )


def _weight_mask(experiment: Experiment) -> Tensor | None:
    """Return which parameters are weights; None where all are."""
    objective = experiment.objective("float64")
    if isinstance(objective, networks.Convolutional) and objective.variant.biases:
        return objective.weight_mask.cpu()
    return None


def _masked(run: Trajectory, mask: Tensor | None) -> Trajectory:
    return run if mask is None else replace(run, points=run.points[:, mask])


def _distances(runs: Sequence[Trajectory], length: int) -> Tensor:
    """Return the distances between all pairs, shape ``(R, R, T)``; NaN behind a run's end."""
    rows = []
    for one in runs:
        common = [min(len(one.times), len(other.times)) for other in runs]
        rows.append(
            _padded(
                [
                    (one.points[:n].double() - other.points[:n].double()).norm(dim=-1)
                    for n, other in zip(common, runs, strict=True)
                ],
                length,
            )
        )
    return torch.stack(rows)


def _padded(series: Sequence[Tensor], length: int) -> Tensor:
    """Stack series, filled up with NaN to a common length."""
    whole = torch.full((len(series), length), torch.nan, dtype=torch.float64)
    for row, values in zip(whole, series, strict=True):
        row[: len(values)] = values
    return whole


def _provenance(root: Path, run: Trajectory) -> dict[str, Any]:
    lock = root / "requirements.lock"
    return {
        **{name: count for name, count in run.counts.items() if name != "milliseconds"},
        "seconds": round(run.counts["milliseconds"] / 1000, 1),
        "status": run.status,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(root),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none",
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _on_cpu(run: Trajectory) -> Trajectory:
    return replace(run, times=run.times.cpu(), points=run.points.cpu(), losses=run.losses.cpu())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
