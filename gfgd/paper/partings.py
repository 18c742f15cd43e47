"""What the distances between the archive's ReLU runs are made of: ``data/archive/partings.json``.

The trajectories that ``gfgd archive`` leaves under ``_build/archive`` have the weights. From these
come the budget of each distance (:mod:`gfgd.imperfections.budget`), the input of each gate that it
names in all runs, and a test: GD with these gates, or all, held as in the other run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfgd.files import commit, replacing
from gfgd.imperfections import gates
from gfgd.imperfections.budget import Link, distance_budget
from gfgd.networks import FullyConnected
from gfgd.paper import long_runs, starts
from gfgd.paper.archive import FLOW, FOLDER, ArchiveError, descent_name, path_of
from gfgd.trajectory import Trajectory

FILE = "partings.json"
NETWORK = "fully_connected_relu"
#: The two runs whose gates are held: GD with η₀ follows GD with η₀/2.
HELD = (descent_name(1), descent_name(2))
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs and their budget, as :class:`gfgd.imperfections.budget.Budget` has it."""

    left: str
    right: str
    distance: Tensor
    smooth: Tensor
    apart: Tensor
    together: Tensor
    links: tuple[Link, ...]

    @property
    def rest(self) -> Tensor:
        """What the field does not explain."""
        return self.distance - self.smooth - self.apart - self.together


@dataclass(frozen=True, eq=False)
class Partings:
    """What is kept of the runs from one start.

    Attributes
    ----------
    times
        Shape ``(T,)``.
    pairs
        Pairs of runs, by their names.
    inputs
        z of each gate that is a link of a pair, by (sample, column), then by run, shape ``(T,)``.
    held
        Distance of GD with η₀ from GD with η₀/2, with ``"links"`` or ``"all"`` of the gates held
        as in the latter, shape ``(T,)``; empty if that was not run.
    """

    times: Tensor
    pairs: dict[tuple[str, str], Pair]
    inputs: dict[tuple[int, int], dict[str, Tensor]]
    held: dict[str, Tensor]


def available(folder: Path = FOLDER) -> list[str]:
    """Return the starts of whose runs something is kept, in the order in which they were added."""
    return list(_kept(folder))


def read(start: str = starts.PAPER, folder: Path = FOLDER) -> Partings:
    """Return what is kept of the runs from a start.

    Raises
    ------
    ArchiveError
        If nothing is.
    """
    content = _kept(folder)
    if start not in content:
        raise ArchiveError(
            f"{NETWORK}, {starts.described(start)}: is not in {folder / FILE}; "
            "`make archive` makes it"
        )
    return _unpacked(content[start])


def _kept(folder: Path) -> dict[str, Any]:
    """Return the file's content by start; empty where there is no file."""
    path = folder / FILE
    return json.loads(path.read_text("utf-8"))["starts"] if path.is_file() else {}


def relevant_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to look at: GD with η₀, then the flow, beside all in their precision."""
    bases = [*(descent_name(1, dtype) for dtype in long_runs.DTYPES), FLOW]
    ordered = [name for name in bases if name in names]
    ordered += sorted(name for name in names if name not in bases)
    return [
        (left, right)
        for left, right in combinations(ordered, 2)
        if left in bases and ("float32" in left) == ("float32" in right)
    ]


def partings(
    network: FullyConnected, runs: Mapping[str, Trajectory], pairs: Iterable[tuple[str, str]]
) -> Partings:
    """Return the budgets of pairs of runs, and the inputs of the gates that they name.

    Parameters
    ----------
    network
        f, in float64.
    runs
        From one start, at the same times, by name.
    pairs
        Of their names; those that do not part are left out.
    """
    budgets: dict[tuple[str, str], Pair] = {}
    for left, right in pairs:
        if float(runs[left].distance_to(runs[right])[-1]) == 0:
            continue
        found = distance_budget(network, runs[left], runs[right])
        parts = found.distance, found.smooth, found.apart, found.together
        budgets[left, right] = Pair(left, right, *parts, found.links)
    named = {(link.sample, link.column) for pair in budgets.values() for link in pair.links}
    inputs = {
        gate: {
            name: gates.unit_input(network, run.points.to(network.inputs), *gate)
            for name, run in runs.items()
        }
        for gate in sorted(named)
    }
    times = next(iter(runs.values())).times
    return Partings(times, budgets, inputs, {})


def held_distances(
    network: FullyConnected,
    start: Tensor,
    other: Trajectory,
    links: Sequence[Link],
    protocol: long_runs.Protocol,
) -> dict[str, Tensor]:
    """Return the distances of GD with η₀ from GD with η₀/2, `other`, with gates held."""
    which = {"links": [(link.sample, link.column) for link in links], "all": None}
    runs = {
        label: gates.descent_with_gates_held(
            network,
            start,
            start,
            step_size=protocol.step_size,
            iterations=protocol.iterations,
            record_every=protocol.iterations // protocol.recordings,
            ratio=2,
            held=held,
        )
        for label, held in which.items()
    }
    return {
        label: (run.points.double() - other.points.double()).norm(dim=-1)
        for label, run in runs.items()
    }


def make(
    root: Path,
    *,
    of: Sequence[str] = (starts.PAPER,),
    protocol: long_runs.Protocol | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Add what is missing to the file, from the runs whose weights a checkout has.

    Parameters
    ----------
    root, of, protocol, folder, say
        As in :func:`gfgd.paper.long_runs.make_archive`.

    Raises
    ------
    ArchiveError
        If tracked files are modified.
    """
    long_runs.check_committed(root)
    protocol, folder = protocol or long_runs.Protocol(), folder or root / "data" / "archive"
    for start in of:
        experiment = long_runs.experiment(root, NETWORK, start, protocol)
        names = list(long_runs.complete_runs(experiment.scratch))
        old = read(start, folder) if start in available(folder) else None
        known = set(old.pairs) if old else set()
        new = [pair for pair in relevant_pairs(names) if pair not in known]
        wanted = sorted({name for pair in new for name in pair})
        runs = {name: run for name in wanted if (run := experiment.weights(name)) is not None}
        network = experiment.objective("float64")
        assert isinstance(network, FullyConnected)
        if new:
            added = partings(network, runs, new)
            old = _joined(old, added)
            _store(root, start, old, folder)
        if old and not old.held and HELD in old.pairs:
            other = experiment.weights(HELD[1])
            if other is not None:
                first = starts.initial(network, NETWORK, start)
                held = held_distances(network, first, other, old.pairs[HELD].links, protocol)
                _store(root, start, Partings(old.times, old.pairs, old.inputs, held), folder)
        say(f"{path_of(NETWORK, start).stem}: {len(new)} pairs of runs looked at")


def _joined(old: Partings | None, new: Partings) -> Partings:
    if old is None:
        return new
    inputs = {
        gate: old.inputs.get(gate, {}) | new.inputs.get(gate, {})
        for gate in {**old.inputs, **new.inputs}
    }
    return Partings(new.times, old.pairs | new.pairs, inputs, old.held)


def _store(root: Path, start: str, content: Partings, folder: Path) -> None:
    """Write one start's part of the file, whole or not at all."""
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    content_of = _kept(folder)
    content_of[start] = _packed(content) | {
        "commit": commit(root, apart_from="data/archive"),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    with replacing(path) as temporary:
        everything = {"network": NETWORK, "starts": content_of}
        temporary.write_text(json.dumps(everything, ensure_ascii=False) + "\n", "utf-8")


_SERIES = ("distance", "smooth", "apart", "together")


def _packed(content: Partings) -> dict[str, Any]:
    pairs = [
        {"left": pair.left, "right": pair.right}
        | {name: _numbers(getattr(pair, name)) for name in _SERIES}
        | {"links": [asdict(link) for link in pair.links]}
        for pair in content.pairs.values()
    ]
    inputs = {
        f"{sample}, {column}": {name: _numbers(z) for name, z in by_run.items()}
        for (sample, column), by_run in content.inputs.items()
    }
    held = {label: _numbers(values) for label, values in content.held.items()}
    times = [round(value, 9) for value in content.times.tolist()]
    return {"times": times, "pairs": pairs, "inputs": inputs, "held": held}


def _unpacked(content: dict[str, Any]) -> Partings:
    pairs = {}
    for row in content["pairs"]:
        series = {name: _tensor(row[name]) for name in _SERIES}
        links = tuple(Link(**link) for link in row["links"])
        pairs[row["left"], row["right"]] = Pair(row["left"], row["right"], **series, links=links)
    inputs = {}
    for gate, by_run in content["inputs"].items():
        sample, column = (int(part) for part in gate.split(", "))
        inputs[sample, column] = {name: _tensor(z) for name, z in by_run.items()}
    held = {label: _tensor(values) for label, values in content["held"].items()}
    return Partings(_tensor(content["times"]), pairs, inputs, held)


def _numbers(values: Tensor) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
