"""Which gate parts the archive's runs of the ReLU network: ``data/archive/partings.json``.

``python -m gfgd.paper.partings`` reads the trajectories that ``gfgd archive`` leaves under
``_build/archive``, for they have the weights, and writes what it finds to ``data/archive``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from gfgd.files import commit, replacing
from gfgd.imperfections import gates
from gfgd.networks import FullyConnected, fully_connected
from gfgd.paper import archive
from gfgd.paper.long_runs import complete_runs
from gfgd.problems import datasets
from gfgd.trajectory import Trajectory

FILE = "partings.json"
NETWORK = "fully_connected_relu"
HIDDEN = (50, 50)
#: Recorded times, of 101, for which two runs must hold a gate differently.
AT_LEAST = 5


def parted(network: FullyConnected, runs: Mapping[str, Trajectory]) -> dict[str, Any]:
    """Return, for runs from one start, the deciding gate of each pair, and how each run meets it.

    ``"pairs"``: for every two runs their names, their distance at the end and the deciding gate,
    or None; ``"inputs"``: for every such gate z at the recorded times in every run.
    """
    pairs, met = [], {}
    for left, right in combinations(runs, 2):
        distance = runs[left].distance_to(runs[right])
        found = gates.partings(network, runs[left], runs[right], at_least=AT_LEAST)
        decides = gates.deciding_parting(found, distance, runs[left].times)
        row: dict[str, Any] = {"left": left, "right": right, "distance": float(distance[-1])}
        row["gate"] = None
        if decides is not None:
            difference = runs[left].points[-1] - runs[right].points[-1]
            row["gate"] = _described(network, decides, difference, runs[left].times)
            where = (decides.difference.sample, decides.difference.column)
            met[f"{where[0]}, {where[1]}"] = where
        pairs.append(row)
    inputs = {
        gate: {
            name: gates.unit_input(network, run.points.double(), *where).tolist()
            for name, run in runs.items()
        }
        for gate, where in met.items()
    }
    return {"pairs": pairs, "inputs": inputs}


def _described(
    network: FullyConnected, parting: gates.Parting, difference: torch.Tensor, times: torch.Tensor
) -> dict[str, Any]:
    layer, unit = gates.layer_and_unit(network, parting.difference.column)
    return {
        "sample": parting.difference.sample,
        "column": parting.difference.column,
        "layer": layer,
        "unit": unit,
        "time": float(times[parting.difference.first]),
        "jump": parting.jump,
        "velocity_on": parting.velocity_on,
        "velocity_off": parting.velocity_off,
        "share": float(gates.unit_shares(network, difference)[layer - 1][unit]),
    }


def make(root: Path) -> Path:
    """Write the file from all complete float64 runs that there are, whole or not at all."""
    images, labels = datasets.load("mnist_subset")
    network = fully_connected(images, labels, hidden=HIDDEN, activation="relu")
    seeds = {}
    for folder in sorted((root / "_build" / "archive").glob(f"{NETWORK}-seed*-*")):
        seed = folder.name.removeprefix(f"{NETWORK}-seed").partition("-")[0]
        runs = {
            run: Trajectory.load(path)
            for run, path in complete_runs(folder).items()
            if not run.endswith("float32")
        }
        seeds[seed] = parted(network, runs)
        seeds[seed]["times"] = next(iter(runs.values())).times.tolist()
    if not seeds:
        raise archive.ArchiveError(f"{root / '_build' / 'archive'}: has no runs of {NETWORK}")
    content = {
        "network": NETWORK,
        "at_least": AT_LEAST,
        "commit": commit(root),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seeds": seeds,
    }
    path = root / "data" / "archive" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return path


if __name__ == "__main__":
    print(make(Path.cwd()))
