"""A live picture's first state as a drawing: for paper, and for pages without script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from gfgd.figures.style import ROLES

#: Sides of a panel, and the gap between two.
WIDE, HIGH, GAP = 300, 260, 30


@dataclass(frozen=True)
class Line:
    """A line of a drawing: its points, the role of :mod:`gfgd.figures.style`, and its width."""

    points: Sequence[tuple[float, float]]
    role: str
    width: float = 1.8


@dataclass(frozen=True)
class Panel:
    """A panel: its title below, the ranges that it shows, its lines, and a level across."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    lines: Sequence[Line]
    level: float | None = None


def drawing(panels: Sequence[Panel], *, words: str, names: Mapping[str, str], note: str) -> str:
    """Return an SVG with its legend.

    Parameters
    ----------
    panels
        From left to right.
    words
        What it shows, for who cannot see it.
    names
        What a line of a role is called.
    note
        A sentence on what else there is, in HTML.
    """
    wide = len(panels) * (WIDE + GAP) - GAP
    drawn = "".join(_panel(panel, i * (WIDE + GAP)) for i, panel in enumerate(panels))
    legend = ", ".join(
        f'<b style="color: {_colour(role)}">{escape(name)}</b>' for role, name in names.items()
    )
    return (
        f'<svg viewBox="0 0 {wide} {HIGH + 30}" style="width: 100%; '
        f'max-width: {22 * len(panels)}rem" role="img" aria-label="{escape(words)}">{drawn}</svg>'
        f"<p>{legend}{note} With JavaScript the picture can be steered.</p>"
    )


def _panel(panel: Panel, shift: float) -> str:
    lines = list(panel.lines)
    if panel.level is not None:
        lines.insert(0, Line([(end, panel.level) for end in panel.x], "threshold", 1))
    drawn = "".join(_polyline(line, panel) for line in lines)
    return (
        f'<svg x="{shift}" width="{WIDE}" height="{HIGH}">{drawn}</svg>'
        f'<text x="{shift + WIDE / 2}" y="{HIGH + 20}" font-size="15" text-anchor="middle" '
        f'style="fill: {_colour("threshold")}">{escape(panel.title)}</text>'
    )


def _polyline(line: Line, panel: Panel) -> str:
    """Draw a line; what is far outside the panel is cut."""
    (left, right), (low, high) = panel.x, panel.y
    at = " ".join(
        f"{WIDE * (x - left) / (right - left):.1f},"
        f"{min(2 * HIGH, max(-HIGH, HIGH * (high - y) / (high - low))):.1f}"
        for x, y in line.points
    )
    return (
        f'<polyline points="{at}" fill="none" style="stroke: {_colour(line.role)}" '
        f'stroke-width="{line.width}"/>'
    )


def _colour(role: str) -> str:
    """Return the theme's colour, and that of the figures on a page without its style sheet."""
    name = "ink" if role == "threshold" else role
    return f"var(--gfgd-{name}, {ROLES[role]})"
