"""The curves that Elkabetz & Cohen (2021) published, and how they are read from the figures.

The authors' repository has each figure as a PDF. A line of a PDF is a list of vertices, in points
with six decimals; this is how the curves are known to about 1e-8. ``python -m gfgd.paper.published
FOLDER`` reads the figures in a folder and writes ``data/archive/published.json``.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfgd.files import replacing
from gfgd.paper.archive import FOLDER, RATIOS, ArchiveError

FILE = "published.json"
SOURCE = (
    "Figures of Elkabetz & Cohen (2021) as the authors published them: "
    "github.com/elkabzo/cont_disc_opt_dnn, commit 4dd90894a0c36ba88cf3fb49786feaa9df628d61, "
    "plots/Graph_*.pdf. The numbers are the vertices of each line, in units of its axis, read by "
    "gfgd.paper.published. Losses are those that the authors' code notes: of the iterate before "
    "the one whose weights it notes at the same time."
)
#: The figures' names, by network.
FIGURES = {
    "fully_connected_linear": "Graph_linear.pdf",
    "fully_connected_relu": "Graph_relu.pdf",
    "convolutional_adapted": "Graph_conv_subsample.pdf",
    "convolutional_off_the_shelf": "Graph_conv_max_pool.pdf",
}
_DECIMALS = 9


@dataclass(frozen=True, eq=False)
class Published:
    """What the figures of Elkabetz & Cohen (2021) show of one network, at 101 times.

    Attributes
    ----------
    times
        Shape ``(T,)``.
    losses
        Training loss of GD with η₀/r, by r. At t > 0 it is that of the iterate before, at time
        t − η₀/r: the authors' code notes the loss before a step and the weights after it.
    travelled
        Distance of GD with step size η₀ from its start.
    distances
        Distance of GD with η₀ from GD with η₀/r, by r. With biases they are left out of both.
    """

    times: Tensor
    losses: dict[int, Tensor]
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
    figure = content["networks"][network]
    return Published(
        times=_tensor(content["times"]),
        losses={int(ratio): _tensor(values) for ratio, values in figure["losses"].items()},
        travelled=_tensor(figure["travelled"]),
        distances={int(ratio): _tensor(values) for ratio, values in figure["distances"].items()},
    )


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def read_figure(pdf: bytes) -> dict[str, Any]:
    """Return what one of the figures shows: its two panels' curves, in units of their axes.

    Raises
    ------
    ValueError
        If it is not such a figure.
    """
    panels = _panels(_drawing(pdf))
    if [len(curves) for curves in panels] != [len(RATIOS), len(RATIOS)]:
        raise ValueError(
            f"pdf: has panels with {[len(curves) for curves in panels]} curves, not two with "
            f"{len(RATIOS)} each"
        )
    losses, (travelled, *distances) = panels
    return {
        "losses": dict(zip(RATIOS, losses, strict=True)),
        "travelled": travelled,
        "distances": dict(zip(RATIOS[1:], distances, strict=True)),
    }


def _drawing(pdf: bytes) -> str:
    """Return the page's drawing operators: the longest of the compressed streams that has lines."""
    streams = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            streams.append(zlib.decompress(match.group(1)).decode("latin-1"))
        except zlib.error:
            continue  # a stream that is not compressed, such as a font
    if not streams:
        raise ValueError("pdf: has no compressed streams")
    return max(streams, key=len)


_NUMBER = r"(-?[\d.]+)"
# A label at (x, y): a number in pieces, [ (0.) 0.3 (5) ] TJ, with the spaces between them.
_LABEL = re.compile(
    rf"1 0 -0 1 {_NUMBER} {_NUMBER} cm\nBT\s/F1 10 Tf\n0 0 Td\n\[ (\([\d.]+\)[^\]]*) \] TJ"
)
# The axes' rectangle, to which all curves of a panel are clipped: x, y, width, height.
_CLIP = re.compile(rf"{_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} re W n")
# A path of one subpath: "x y m", then "x y l" often.
_PATH = re.compile(rf"{_NUMBER} {_NUMBER} m\n((?:{_NUMBER} {_NUMBER} l\n){{50,}})")


def _panels(drawing: str) -> list[list[list[float]]]:
    """Return the long curves of each panel as heights in units of its vertical axis.

    A panel's vertical axis begins at 0, at the bottom of its rectangle. Its unit follows from the
    labels at its left, the heights of which have ten digits.
    """
    clips = {match.groups(): None for match in _CLIP.finditer(drawing)}  # in order of appearance
    labels = [
        (float(x), float(y), float("".join(re.findall(r"\(([\d.]+)\)", pieces))))
        for x, y, pieces in _LABEL.findall(drawing)
    ]
    panels = []
    for left, bottom, width, _ in (tuple(map(float, clip)) for clip in clips):
        # Labels of the vertical axis end left of it, and not far: 45 pt is less than to the next.
        beside = [(y, value) for x, y, value in labels if left - 45 < x < left and y > bottom - 8]
        (low, first), (high, last) = min(beside), max(beside)
        unit = (high - low) / (last - first)
        paths = []
        for match in _PATH.finditer(drawing):
            if left - 1 < float(match.group(1)) < left + width:
                heights = [match.group(2), *re.findall(rf"{_NUMBER} l\n", match.group(3))]
                paths.append([round((float(y) - bottom) / unit, _DECIMALS) for y in heights])
        panels.append(paths)
    return panels


def make(figures: Path, path: Path = FOLDER / FILE) -> Path:
    """Read the four figures in a folder and write their curves, whole or not at all."""
    networks = {name: read_figure((figures / file).read_bytes()) for name, file in FIGURES.items()}
    length = len(networks["fully_connected_linear"]["travelled"])
    content = {
        "source": SOURCE,
        "times": [round(0.1 * place, 1) for place in range(length)],
        "networks": networks,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
