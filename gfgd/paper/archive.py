"""The archive: what full-length runs of the paper's experiments found.

A full-length run takes minutes to hours, so a chapter reads its results instead of repeating it.
Kept are losses, distances, spectra and counts at 101 times, not the weights. The files lie in
``data/archive`` of a checkout, one for a network and a seed, and are made by ``make archive``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfgd.files import replacing
from gfgd.spectrum import Spectrum

#: Where a checkout keeps it.
FOLDER = Path(__file__).parents[2] / "data" / "archive"

FLOW = "GF"
LOOSER_FLOW = "GF, looser"


class ArchiveError(Exception):
    """No archived results, and what to do about it."""


def descent_name(ratio: int, dtype: str = "float64") -> str:
    """Return the name of the run of GD with step size η₀/ratio, such as ``"η₀/20, float32"``."""
    return f"{'η₀' if ratio == 1 else f'η₀/{ratio}'}, {dtype}"


@dataclass(frozen=True, eq=False)
class Archived:
    """The runs of one network from one start, R runs at T times.

    Attributes
    ----------
    network, seed
        What was run.
    runs
        Names: `FLOW`, `LOOSER_FLOW` (10 times looser tolerances), and those of `descent_name`.
    times
        Shape ``(T,)``.
    losses
        Training loss, shape ``(R, T)``.
    distances
        ‖θ_a(t) − θ_b(t)‖₂ between runs, over all parameters, shape ``(R, R, T)``.
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
    seed: int
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
                f"{self.network}, seed {self.seed}: has no run {run!r}, only {list(self.runs)}"
            )
        return self.runs.index(run)

    def distance(self, run: str, other: str = FLOW, *, biases: bool = True) -> Tensor:
        """Return the distance between two runs at each time, shape ``(T,)``."""
        distances = self.distances if biases else self.weight_distances
        return distances[self.index(run), self.index(other)]

    def loss(self, run: str) -> Tensor:
        """Return a run's training loss at each time, shape ``(T,)``."""
        return self.losses[self.index(run)]

    def distance_from_start(self, run: str, *, biases: bool = True) -> Tensor:
        """Return how far a run is from its start at each time, shape ``(T,)``."""
        return (self.travelled if biases else self.weights_travelled)[self.index(run)]

    def cost(self, run: str) -> dict[str, Any]:
        """Return a run's provenance: gradients, seconds, status, device, commit, date."""
        return self.provenance[self.runs[self.index(run)]]


def path_of(network: str, seed: int, folder: Path = FOLDER) -> Path:
    """Return where the results of a network and a seed lie."""
    return folder / f"{network}-seed{seed}.npz"


def available(folder: Path = FOLDER) -> list[tuple[str, int]]:
    """Return the (network, seed) that the archive holds, in alphabetical order."""
    stems = sorted(path.stem for path in folder.glob("*-seed*.npz"))
    pairs = (stem.rsplit("-seed", 1) for stem in stems)
    return [(network, int(seed)) for network, seed in pairs]


@dataclass(frozen=True, eq=False)
class Published:
    """What the figures of Elkabetz & Cohen (2021) show of one network, at 101 times.

    Attributes
    ----------
    times
        Shape ``(T,)``.
    travelled
        Distance of GD with step size η₀ from its start.
    distances
        Distance of GD with η₀ from GD with η₀/r, by r. With biases they are left out of both.
    """

    times: Tensor
    travelled: Tensor
    distances: dict[int, Tensor]


def published(network: str, folder: Path = FOLDER) -> Published:
    """Return the published curves of a network; ``published.json`` names their source.

    They are known to the figures' resolution, about 1e-5. The paper does not give its seed.

    Raises
    ------
    ArchiveError
        If the file is not there, or does not have the network.
    """
    path = folder / "published.json"
    if not path.is_file():
        raise ArchiveError(f"{path}: is not there; it comes with a checkout")
    content = json.loads(path.read_text(encoding="utf-8"))
    if network not in content["networks"]:
        raise ArchiveError(f"{network}: {path.name} has {', '.join(content['networks'])}")
    curves = content["networks"][network]
    return Published(
        times=torch.tensor(content["times"], dtype=torch.float64),
        travelled=torch.tensor(curves["travelled"], dtype=torch.float64),
        distances={
            int(ratio): torch.tensor(values, dtype=torch.float64)
            for ratio, values in curves["distances"].items()
        },
    )


def read(network: str, *, seed: int = 1, folder: Path = FOLDER) -> Archived:
    """Return the archived runs of a network, such as ``"fully_connected_relu"``.

    Raises
    ------
    ArchiveError
        If there are none, or the file cannot be read.
    """
    path = path_of(network, seed, folder)
    if not path.is_file():
        raise ArchiveError(
            f"{network}, seed {seed}: is not in the archive ({folder}); it comes with a checkout "
            "of the repository, and `make archive` makes it"
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
    path = path_of(archived.network, archived.seed, folder)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **_packed(archived))
    return path


_SPECTRUM = (
    "smallest",
    "largest",
    "smallest_residuals",
    "largest_residuals",
    "smallest_converged",
    "largest_converged",
    "products",
    "times",
)


def _packed(archived: Archived) -> dict[str, np.ndarray]:
    """Return plain arrays; of the symmetric distances one half."""
    rows, columns = np.triu_indices(len(archived.runs), 1)
    content = {
        "network": np.array(archived.network),
        "seed": np.array(archived.seed),
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
        spectrum = Spectrum(**{name: _tensor(content[f"spectrum_{name}"]) for name in _SPECTRUM})
    return Archived(
        network=str(content["network"]),
        seed=int(content["seed"]),
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


def _symmetric(half: np.ndarray, size: int) -> Tensor:
    whole = np.zeros((size, size, half.shape[-1]))
    rows, columns = np.triu_indices(size, 1)
    whole[rows, columns] = whole[columns, rows] = half
    return _tensor(whole)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)
