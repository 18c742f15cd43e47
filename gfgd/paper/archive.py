"""The archive: what full-length runs of the paper's experiments found.

A full-length run takes minutes to hours, so a chapter reads its results instead of repeating it.
Kept are losses, distances, spectra and counts at 101 times, not the weights. The files lie in
``data/archive`` of a checkout, one for a network and a start, and are made by ``make archive``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfgd.files import replacing
from gfgd.flow import LOOSENING
from gfgd.paper.starts import PAPER, described, seed_of
from gfgd.spectrum import Spectrum

#: Where a checkout keeps it.
FOLDER = Path(__file__).parents[2] / "data" / "archive"

FLOW = "GF"
LOOSER_FLOW = "GF, looser"


#: r of the paper's runs at η₀/r, in the order in which its figures draw them.
RATIOS = (1, 2, 5, 10, 20)


class ArchiveError(Exception):
    """No archived results, and what to do about it."""


def descent_name(ratio: int, dtype: str = "float64", order: int = 0) -> str:
    """Return the name of the run of GD with step size η₀/ratio, such as ``"η₀/20, float32"``.

    Runs with another `order` take the samples in another order, so that sums round differently.
    """
    name = f"{'η₀' if ratio == 1 else f'η₀/{ratio}'}, {dtype}"
    return f"{name}, order {order}" if order else name


def flow_name(loosening: float) -> str:
    """Return the name of the flow at its tolerances times a factor."""
    names = {1.0: FLOW, LOOSENING: LOOSER_FLOW}
    return names.get(loosening, f"{FLOW}, tolerances × {loosening:g}")


@dataclass(frozen=True, eq=False)
class Archived:
    """The runs of one network from one start, R runs at T times.

    Attributes
    ----------
    network, start
        What was run, and from where: ``"paper"``, the authors' start, or a seed such as ``"1"``.
    runs
        Names, those of `flow_name` and of `descent_name`.
    times
        Shape ``(T,)``.
    losses
        Training loss, shape ``(R, T)``.
    distances
        ‖θ_a(t) − θ_b(t)‖₂ between runs, over all parameters, shape ``(R, R, T)``; NaN between
        runs that were not compared.
    travelled
        ‖θ(t) − θ(0)‖₂, shape ``(R, T)``.
    weight_distances, weights_travelled
        The same without biases, as the paper's plots have it.
    spectrum
        λmin and λmax at the first of the times along the flow, as many as were computed, or None.
    provenance
        ``"protocol"``: the parameters; each run's name: gradients, seconds, commit, date, machine.
    """

    network: str
    start: str
    runs: tuple[str, ...]
    times: Tensor
    losses: Tensor
    distances: Tensor
    travelled: Tensor
    weight_distances: Tensor
    weights_travelled: Tensor
    spectrum: Spectrum | None
    provenance: dict[str, Any]

    def index(self, run: str) -> int:
        """Return a run's place, or say which runs there are."""
        if run not in self.runs:
            raise ArchiveError(
                f"{self.network}, {described(self.start)}: has no run {run!r}, "
                f"only {list(self.runs)}"
            )
        return self.runs.index(run)

    def distance(self, run: str, other: str = FLOW, *, biases: bool = True) -> Tensor:
        """Return the distance between two runs at each time, shape ``(T,)``."""
        distances = self.distances if biases else self.weight_distances
        return distances[self.index(run), self.index(other)]

    def step_effect(
        self, ratio: int, *, other: int = 1, dtype: str = "float64", biases: bool = True
    ) -> Tensor | None:
        """Return the distance between GD at η₀/ratio and at η₀/other, shape ``(T,)``.

        None where one of the two runs is not in the archive.
        """
        names = descent_name(ratio, dtype), descent_name(other, dtype)
        return self.distance(*names, biases=biases) if set(names) <= set(self.runs) else None

    def step_effects(self, *, dtype: str = "float64", biases: bool = True) -> dict[int, Tensor]:
        """Return `step_effect` for each r among the published ones whose run is there."""
        effects = {r: self.step_effect(r, dtype=dtype, biases=biases) for r in RATIOS if r > 1}
        return {r: effect for r, effect in effects.items() if effect is not None}

    def loss(self, run: str) -> Tensor:
        """Return a run's training loss at each time, shape ``(T,)``."""
        return self.losses[self.index(run)]

    def distance_from_start(self, run: str, *, biases: bool = True) -> Tensor:
        """Return how far a run is from its start at each time, shape ``(T,)``."""
        return (self.travelled if biases else self.weights_travelled)[self.index(run)]

    def cost(self, run: str) -> dict[str, Any]:
        """Return a run's provenance: gradients, seconds, status, device, commit, date."""
        return self.provenance[self.runs[self.index(run)]]


def path_of(network: str, start: str, folder: Path = FOLDER) -> Path:
    """Return where the results of a network and a start lie."""
    suffix = start if start == PAPER else f"seed{seed_of(start)}"
    return folder / f"{network}-{suffix}.npz"


def available(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """Return the (network, start) that the archive holds, in alphabetical order."""
    pairs = (path.stem.rsplit("-", 1) for path in folder.glob("*-*.npz"))
    return sorted((network, suffix.removeprefix("seed")) for network, suffix in pairs)


def merged(old: Archived, new: Archived) -> Archived:
    """Return the runs of both, from the same start; where both have a number, the old one."""
    runs = tuple(dict.fromkeys([*old.runs, *new.runs]))
    length = len(old.times)
    both = {
        name: torch.full((len(runs),) * axes + (length,), torch.nan, dtype=torch.float64)
        for name, axes in _SERIES.items()
    }
    for part in (new, old):
        places = torch.tensor([runs.index(run) for run in part.runs])
        for name, axes in _SERIES.items():
            values = getattr(part, name)
            where = (places,) if axes == 1 else (places[:, None], places[None, :])
            both[name][where] = torch.where(values.isnan(), both[name][where], values)
    return replace(
        old,
        runs=runs,
        **both,
        spectrum=old.spectrum or new.spectrum,
        provenance=new.provenance | old.provenance,
    )


# The numbers of the runs, by how many axes of runs they have.
_SERIES = {
    "losses": 1,
    "distances": 2,
    "travelled": 1,
    "weight_distances": 2,
    "weights_travelled": 1,
}


def read(network: str, *, start: str = PAPER, folder: Path = FOLDER) -> Archived:
    """Return the archived runs of a network, such as ``"fully_connected_relu"``.

    They start where the authors' did, or from a seed, such as ``start="1"``.

    Raises
    ------
    ArchiveError
        If there are none, or the file cannot be read.
    """
    path = path_of(network, start, folder)
    if not path.is_file():
        raise ArchiveError(
            f"{network}, {described(start)}: is not in the archive ({folder}); it comes with a "
            "checkout of the repository, and `make archive` makes it"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
        return _unpacked(content)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ArchiveError(f"{path}: cannot be read ({error}); restore it from git") from error


def write(archived: Archived, folder: Path = FOLDER) -> Path:
    """Write the results to their file (``.npz``, no pickle), whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(archived.network, archived.start, folder)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **_packed(archived))
    return path


_SPECTRUM = (
    "smallest",
    "largest",
    "smallest_residuals",
    "largest_residuals",
    "smallest_certified",
    "largest_certified",
    "smallest_bounds",
    "largest_bounds",
    "smallest_converged",
    "largest_converged",
    "failure_probability",
    "products",
    "times",
)


def _packed(archived: Archived) -> dict[str, np.ndarray]:
    """Return plain arrays; of the symmetric distances one half."""
    rows, columns = np.triu_indices(len(archived.runs), 1)
    content = {
        "network": np.array(archived.network),
        "start": np.array(archived.start),
        "runs": np.array(archived.runs, dtype=str),
        "provenance": np.array(json.dumps(archived.provenance, ensure_ascii=False)),
        "distances": archived.distances.numpy()[rows, columns],
        "weight_distances": archived.weight_distances.numpy()[rows, columns],
    }
    for name in ("times", "losses", "travelled", "weights_travelled"):
        content[name] = getattr(archived, name).numpy()
    if archived.spectrum is not None:
        for name in _SPECTRUM:
            content[f"spectrum_{name}"] = getattr(archived.spectrum, name).numpy()
    return content


def _unpacked(content: dict[str, np.ndarray]) -> Archived:
    runs = tuple(str(run) for run in content["runs"])
    spectrum = None
    if "spectrum_times" in content:
        found = _with_bounds(content)
        spectrum = Spectrum(**{name: _tensor(found[f"spectrum_{name}"]) for name in _SPECTRUM})
    return Archived(
        network=str(content["network"]),
        start=str(content["start"]),
        runs=runs,
        times=_tensor(content["times"]),
        losses=_tensor(content["losses"]),
        distances=_symmetric(content["distances"], len(runs)),
        travelled=_tensor(content["travelled"]),
        weight_distances=_symmetric(content["weight_distances"], len(runs)),
        weights_travelled=_tensor(content["weights_travelled"]),
        spectrum=spectrum,
        provenance=json.loads(str(content["provenance"])),
    )


def _with_bounds(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a spectrum; those from before there were bounds have none.

    What such a file calls converged is a residual within the tolerance: certified.
    """
    if "spectrum_smallest_certified" in content:
        return content
    added: dict[str, np.ndarray] = {
        "spectrum_failure_probability": np.ones(len(content["spectrum_times"]))
    }
    for end, bound in (("smallest", -np.inf), ("largest", np.inf)):
        certified = content[f"spectrum_{end}_converged"]
        added[f"spectrum_{end}_certified"] = certified
        added[f"spectrum_{end}_converged"] = np.zeros_like(certified)
        added[f"spectrum_{end}_bounds"] = np.full(certified.shape, bound)
    return content | added


def _symmetric(half: np.ndarray, size: int) -> Tensor:
    whole = np.zeros((size, size, half.shape[-1]))
    rows, columns = np.triu_indices(size, 1)
    whole[rows, columns] = whole[columns, rows] = half
    return _tensor(whole)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)
