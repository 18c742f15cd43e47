"""The book's main result as one picture, for previews of links to it.

The curves are those of a chapter's key picture, the number is a claim's, so that the picture says
what the run that built the book has found. Sites that show previews want a PNG of this shape.
"""

import io
import re
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from gfgd.book.pages.generated import Gathered
from gfgd.book.pages.thumbnails import extent, first_panel
from gfgd.figures.style import INK, MUTED, PAPER, ROLES, STYLE
from gfgd.typography import plain

#: Whose key picture it shows, and the claim that it quotes.
CHAPTER, CLAIM = "14", "verified-paper-experiment"
WIDTH, HEIGHT, DPI = 1200, 630, 96
_SVG = "{http://www.w3.org/2000/svg}"
_NAMES = {"bound": "the bound", "descent": "measured"}


def poster(svg: str, gathered: list[Gathered]) -> bytes:
    """Return the poster as PNG: the first panel of a figure's SVG, and words on its left."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
        figure.set_layout_engine("none")
        figure.text(
            0.05, 0.82, "Gradient flow\nand gradient descent", size=30, weight="bold", va="top"
        )
        figure.text(0.05, 0.56, "How far apart do they end?", size=19, color=MUTED)
        figure.text(0.05, 0.40, "\n".join(_result(gathered)), size=17, va="top", linespacing=1.5)
        figure.text(0.05, 0.07, "An executable book", size=13, color=MUTED)
        axes = figure.add_axes((0.57, 0.12, 0.33, 0.74))
        axes.set_axis_off()
        _draw(axes, first_panel(svg))
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _result(gathered: list[Gathered]) -> list[str]:
    """Return the lines of the result, with its number if the claim was shown to hold."""
    lines = ["The paper's own experiment,", "reproduced to six decimals"]
    for entry in gathered:
        if entry.claim.name == CLAIM and entry.claim.holds:
            return [*lines, f"and proved: never farther than {plain(entry.claim.measured, 3)}."]
    return [f"{lines[0]}", f"{lines[1]}."]


def _draw(axes, panel: ElementTree.Element) -> None:
    """Draw the lines of a panel, and name those whose role has a name, once each."""
    x, y, width, height = extent(panel)
    axes.set(xlim=(x, x + width), ylim=(y + height, y))  # SVG counts downwards
    named: set[str] = set()
    for path in _lines(panel):
        style = dict(part.split(": ") for part in path.get("style", "").split("; "))
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path.get("d", ""))]
        xs, ys = numbers[0::2], numbers[1::2]
        look = {"color": style["stroke"], "alpha": float(style.get("stroke-opacity", 1))}
        axes.plot(xs, ys, lw=2.5 * float(style.get("stroke-width", 1)), **look)
        for role, name in _NAMES.items():
            if style["stroke"].lower() == ROLES[role] and name not in named:
                named.add(name)
                at = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(name, (xs[-1], ys[-1]), color=style["stroke"], size=15, **at)
    axes.plot([x, x + width], [y + height] * 2, color=INK, lw=0.8)


def _lines(panel: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the paths of a panel's lines: those that are cut off at its edge, and not filled."""
    return [
        path
        for path in panel.iter(f"{_SVG}path")
        if path.get("clip-path")
        and "fill: none" in path.get("style", "")
        and not re.search("[CQ]", path.get("d", ""))
    ]
