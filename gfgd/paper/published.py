"""The curves that Elkabetz & Cohen (2021) published, read from their vector graphics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfgd.paper.archive import FOLDER, ArchiveError

FILE = "published.json"


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


def curves(network: str, folder: Path = FOLDER) -> Published:
    """Return the published curves of a network; ``published.json`` names their source.

    Raises
    ------
    ArchiveError
        If the file is not there, or does not have the network.
    """
    path = folder / FILE
    if not path.is_file():
        raise ArchiveError(f"{path}: is not there; it comes with a checkout")
    content = json.loads(path.read_text(encoding="utf-8"))
    if network not in content["networks"]:
        raise ArchiveError(f"{network}: {path.name} has {', '.join(content['networks'])}")
    found = content["networks"][network]
    return Published(
        times=torch.tensor(content["times"], dtype=torch.float64),
        travelled=torch.tensor(found["travelled"], dtype=torch.float64),
        distances={
            int(ratio): torch.tensor(values, dtype=torch.float64)
            for ratio, values in found["distances"].items()
        },
    )
