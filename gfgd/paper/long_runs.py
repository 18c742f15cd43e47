"""The paper's experiments at full length, into the archive.

Each run is cut into pieces. After a piece the trajectory so far is written under ``_build/archive``
(at most once in `CHECKPOINT_SECONDS`), so that a run that was killed goes on where it was; GD takes
the same iterates then as without the interruption. After each run the results that chapters read
are written anew to ``data/archive``. What stands there already stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
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
from gfgd.descent import gradient_descent
from gfgd.files import MODIFIED, commit, replacing
from gfgd.flow import LOOSENING, gradient_flow
from gfgd.paper import starts
from gfgd.paper.archive import (
    FLOW,
    RATIOS,
    Archived,
    ArchiveError,
    descent_name,
    flow_name,
    merged,
    path_of,
    read,
    write,
)
from gfgd.problems import datasets
from gfgd.spectrum import Spectrum, spectrum_along
from gfgd.trajectory import Trajectory

DTYPES = ("float64", "float32")
#: The flow is integrated at its tolerances times each of these.
FLOWS = (1.0, LOOSENING)
CHECKPOINT_SECONDS = 30.0
#: Recorded intervals of the flow in a piece: each piece chooses its first step anew.
FLOW_PIECE = 5
#: Times at which eigenvalues are computed before they are kept: each piece starts anew.
SPECTRUM_PIECE = 10
# What stands for the slash of a run's name in a file's.
_SLASH = " over "
_RESULTS = Path("data") / "archive"


@dataclass(frozen=True)
class Protocol:
    """The experiment of the paper; see chapter 11. Smaller ones serve as tests."""

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
    start: str
    protocol: Protocol
    scratch: Path

    @property
    def title(self) -> str:
        """What a progress bar calls it."""
        return f"{self.network}, {starts.described(self.start)}"

    def objective(self, dtype: str, order: int = 0) -> networks.Network:
        """Return the network's loss, on a GPU where there is one.

        The same function of θ for every `order` of the samples; its sums are rounded differently.
        """
        images, labels = datasets.load(self.protocol.dataset)
        if order:
            generator = torch.Generator().manual_seed(order)
            places = torch.randperm(len(images), generator=generator)
            images, labels = images[places], labels[places]
        architecture = ARCHITECTURES[self.network]
        return architecture.make(
            images, labels, dtype=getattr(torch, dtype), device=_device(), **architecture.arguments
        )

    def file(self, run: str) -> Path:
        """Return where a run's trajectory lies while weights are needed."""
        return self.scratch / f"{run.replace('/', _SLASH)}.npz"

    def weights(self, run: str) -> Trajectory | None:
        """Return a run with its weights, if it is done and they are still there."""
        path = self.file(run)
        if not path.with_suffix(".json").exists():  # written when a run is done
            return None
        return Trajectory.load(path)


def experiment(root: Path, network: str, start: str, protocol: Protocol) -> Experiment:
    """Return an experiment of a checkout; its folder for trajectories is made."""
    key = hashlib.sha256(json.dumps(asdict(protocol), sort_keys=True).encode()).hexdigest()[:8]
    scratch = root / "_build" / "archive" / f"{path_of(network, start).stem}-{key}"
    scratch.mkdir(parents=True, exist_ok=True)
    return Experiment(network, start, protocol, scratch)


def complete_runs(scratch: Path) -> dict[str, Path]:
    """Return the files of the runs in an experiment's folder that are done, by name."""
    notes = sorted(scratch.glob("*.json"))
    return {note.stem.replace(_SLASH, "/"): note.with_suffix(".npz") for note in notes}


@dataclass(frozen=True)
class Descent:
    """A run of GD with step size η₀/ratio; see :meth:`Experiment.objective` for `order`."""

    ratio: int
    dtype: str
    order: int = 0
    piece = 1

    @property
    def name(self) -> str:
        """The run's name in the archive."""
        return descent_name(self.ratio, self.dtype, self.order)

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
    order = 0
    piece = FLOW_PIECE

    @property
    def name(self) -> str:
        """The run's name in the archive."""
        return flow_name(self.loosening)

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


@dataclass(frozen=True)
class Plan:
    """Which runs of a network are wanted.

    Attributes
    ----------
    dtypes, ratios, orders
        GD in these precisions, with the step sizes η₀/ratio, for these orders of the samples.
    flows
        The flow at its tolerances times each of these.
    spectrum
        Whether λmin and λmax along the flow are wanted; needs 1 in `flows`.
    """

    dtypes: Sequence[str] = DTYPES
    ratios: Sequence[int] = RATIOS
    orders: Sequence[int] = (0,)
    flows: Sequence[float] = FLOWS
    spectrum: bool = True

    def __post_init__(self) -> None:
        if self.spectrum and 1 not in self.flows:
            raise ValueError(f"flows = {list(self.flows)}: the spectrum is along the flow 1")

    def runs(self, network: str) -> list[Run]:
        """Return the runs, in the order in which they are made."""
        flows = [Flow(network, factor) for factor in self.flows]
        descents = [
            Descent(ratio, dtype, order)
            for order in self.orders
            for dtype in self.dtypes
            for ratio in self.ratios
        ]
        return [*flows, *descents]


def make_archive(
    root: Path,
    *,
    names: Sequence[str] = tuple(ARCHITECTURES),
    of: Sequence[str] = (starts.PAPER,),
    plan: Plan | None = None,
    protocol: Protocol | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make what is missing of the archive of a checkout.

    What another process is making is left to it. Where the weights of archived runs are no longer
    there, as in a fresh clone, a new run is compared with few of them: GD with η₀ in its precision
    and the flow are made again for that, and no other.

    Parameters
    ----------
    root
        The checkout. Trajectories are kept in its ``_build/archive``.
    names, of, plan
        Which networks, from which starts ("paper" or a seed), and which of their runs.
    protocol
        By default the paper's.
    folder
        Where the results go; by default ``data/archive``.
    say
        Is told of each experiment in a line.

    Raises
    ------
    ArchiveError
        If tracked files are modified: a result names the commit that made it.
    """
    check_committed(root)
    protocol, plan = protocol or Protocol(), plan or Plan()
    folder = folder or root / _RESULTS
    for start in of:
        for name in names:
            one = experiment(root, name, start, protocol)
            try:
                with FileLock(one.scratch / ".lock", timeout=0):
                    made = _make(root, one, plan, folder)
            except Timeout:
                made = "another process is making it"
            say(f"{one.title}: {made}")


def check_committed(root: Path) -> None:
    """Raise :class:`ArchiveError` if tracked files, other than results, are modified."""
    if commit(root, apart_from=_RESULTS.as_posix()).endswith(MODIFIED):
        raise ArchiveError(
            f"{root}: has local changes, and an archived result names the commit that made it; "
            "commit them first"
        )


def _make(root: Path, experiment: Experiment, plan: Plan, folder: Path) -> str:
    """Make what an experiment misses and write the results after each run; say what was done."""
    kept = _archived(experiment, folder)
    runs = plan.runs(experiment.network)
    missing = [run for run in runs if kept is None or run.name not in kept.runs]
    spectrum_missing = plan.spectrum and (kept is None or not _whole(kept))
    if not missing and not spectrum_missing:
        return "all is there"
    for run in [*_anchors(missing, kept, experiment), *missing]:
        _complete(root, experiment, run)
        kept = _added(experiment, run, kept)
        write(kept, folder)
    if spectrum_missing:
        _complete(root, experiment, Flow(experiment.network))
        assert kept is not None
        write(replace(kept, spectrum=_spectrum(experiment)), folder)
    return f"{len(missing)} runs added"


def _archived(experiment: Experiment, folder: Path) -> Archived | None:
    if not path_of(experiment.network, experiment.start, folder).exists():
        return None
    return read(experiment.network, start=experiment.start, folder=folder)


def _whole(kept: Archived) -> bool:
    return kept.spectrum is not None and len(kept.spectrum.products) == len(kept.times)


def _anchors(missing: Sequence[Run], kept: Archived | None, experiment: Experiment) -> list[Run]:
    """Return the archived runs that new ones are compared with, if their weights are gone."""
    flow = Flow(experiment.network)
    wanted = [flow, *(Descent(1, run.dtype) for run in missing)] if missing else []
    return [
        run
        for run in dict.fromkeys(wanted)
        if kept is not None and run.name in kept.runs and experiment.weights(run.name) is None
    ]


def _complete(root: Path, experiment: Experiment, run: Run) -> None:
    """Run what is missing of a run, and note how it was made."""
    if experiment.weights(run.name) is not None:
        return
    protocol, path = experiment.protocol, experiment.file(run.name)
    objective = experiment.objective(run.dtype, run.order)
    so_far = Trajectory.load(path) if path.exists() else None
    done = 0 if so_far is None else len(so_far.times) - 1
    written = before = time.monotonic()
    milliseconds = 0 if so_far is None else so_far.counts["milliseconds"]
    title = f"{experiment.title}, {run.name}"
    with tqdm(desc=title, total=protocol.recordings, initial=done, mininterval=5) as bar:
        while done < protocol.recordings and (so_far is None or so_far.completed):
            last = min(done + run.piece, protocol.recordings)
            if so_far is None:
                start = starts.initial(objective, experiment.network, experiment.start)
            else:
                start = so_far.points[-1].to(objective.inputs)
            times = protocol.times[done : last + 1]
            part = run.advance(objective, protocol, start, times.to(_device()))
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
    with replacing(path.with_suffix(".json")) as temporary:
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
    flow = experiment.weights(FLOW)
    assert flow is not None
    flow = replace(flow, points=flow.points.to(_device()))
    objective = experiment.objective("float64")
    spectrum = _stored_spectrum(experiment)
    done = 0 if spectrum is None else len(spectrum.products)
    title = f"{experiment.title}, λmin and λmax"
    with tqdm(desc=title, total=len(flow.times), initial=done, mininterval=5) as bar:
        while spectrum is None or done < len(flow.times):
            part = spectrum_along(objective, flow.at(flow.times[done : done + SPECTRUM_PIECE]))
            bar.update(len(part.products))
            spectrum = _store_spectrum(experiment, spectrum, part)
            done = len(spectrum.products)
    return spectrum


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


def _added(experiment: Experiment, run: Run, kept: Archived | None) -> Archived:
    """Return the archived results and those of one run more, compared where there are weights."""
    trajectory = experiment.weights(run.name)
    assert trajectory is not None
    others = {} if kept is None else {name: experiment.weights(name) for name in kept.runs}
    there = {name: other for name, other in others.items() if other is not None}
    note = json.loads(experiment.file(run.name).with_suffix(".json").read_text("utf-8"))
    new = _results(experiment, {run.name: trajectory, **there}, {run.name: note})
    return new if kept is None else merged(kept, new)


def _results(
    experiment: Experiment, runs: dict[str, Trajectory], notes: dict[str, dict[str, Any]]
) -> Archived:
    """Return what the archive keeps of the runs, the first of which is compared with all."""
    first, *_ = runs.values()
    mask = _weight_mask(experiment)
    weights = [_masked(run, mask) for run in runs.values()]
    times = experiment.protocol.times
    length = len(times)
    return Archived(
        network=experiment.network,
        start=experiment.start,
        runs=tuple(runs),
        times=times,
        losses=_padded([run.losses.double() for run in runs.values()], length),
        distances=_distances(first, list(runs.values()), length),
        travelled=_padded([run.distance_from_start() for run in runs.values()], length),
        weight_distances=_distances(weights[0], weights, length),
        weights_travelled=_padded([run.distance_from_start() for run in weights], length),
        spectrum=None,
        provenance={
            "protocol": asdict(experiment.protocol),
            "flow": asdict(ARCHITECTURES[experiment.network].flow),
            **notes,
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


def _distances(first: Trajectory, runs: Sequence[Trajectory], length: int) -> Tensor:
    """Return the distances of the first of R runs from all, shape ``(R, R, T)``, symmetric.

    NaN behind a run's end, and where neither of two runs is the first.
    """
    rows = []
    for other in runs:
        n = min(len(first.times), len(other.times))
        rows.append((first.points[:n].double() - other.points[:n].double()).norm(dim=-1))
    whole = torch.full((len(runs), len(runs), length), torch.nan, dtype=torch.float64)
    whole[0] = whole[:, 0] = _padded(rows, length)
    return whole


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
        "commit": commit(root, apart_from=_RESULTS.as_posix()),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none",
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _on_cpu(run: Trajectory) -> Trajectory:
    return replace(run, times=run.times.cpu(), points=run.points.cpu(), losses=run.losses.cpu())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
