"""Figures in the plane: paths on contours, direction fields, phase portraits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from gfgd.figures.style import (
    CONTOUR,
    INK,
    PAPER,
    WIDTH,
    Look,
    grid,
    is_narrow,
    legend_below,
    looks,
    numbers,
    picture,
    set_titles,
)
from gfgd.problems.landscapes import Landscape

#: Paths of at most this many points are drawn with their points.
FEW_POINTS = 80


@picture
def paths_on_contours(
    drawings: Mapping[str, tuple[Landscape, Mapping[str, ArrayLike]]],
    *,
    columns: int = 2,
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw paths in the plane on the contours of a landscape, one panel for each title.

    Parameters
    ----------
    drawings
        Title to a landscape in two variables and its paths: label to points, shape ``(T, 2)``.
        The first is drawn broad, so that others can be seen on it. A path of few points
        (gradient descent) is drawn with them; one that leaves the landscape's domain is cut at
        its border. Equal labels look alike in all panels.
    columns
        Panels side by side.
    roles
        Label to role (:data:`~gfgd.figures.ROLES`), where the label does not tell it.
    """
    columns = min(columns, len(drawings))
    figure, drawn = grid(len(drawings), columns, margin=0.4, height=_side(columns, 0.62))
    styles = looks((paths for _, paths in drawings.values()), roles)
    for axes, (title, (known, paths)) in zip(drawn.ravel(), drawings.items(), strict=False):
        _contours(axes, known)
        for width, (label, points) in zip(chain([3.0], repeat(1.3)), paths.items(), strict=False):
            _path(axes, known, numbers(points), label, styles[label], width)
        set_titles(axes, title=title)
        axes.set_aspect("equal")
    legend_below(figure)
    return figure


def _contours(axes: Axes, known: Landscape, count: int = 41) -> None:
    """Draw level lines that enclose equal shares of the domain, and mark the minimum."""
    (x0, x1), (y0, y1) = known.domain
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = numbers(known.objective.value(torch.from_numpy(grid)))
    levels = np.unique(np.quantile(values, np.linspace(0, 1, 12)[1:-1]))
    axes.contour(x, y, values, levels=levels, colors=CONTOUR, linewidths=0.7, linestyles="-")
    if known.minimum is not None:
        axes.plot(*numbers(known.minimum), "*", color=INK, markersize=9)
    axes.set(xlim=(x0, x1), ylim=(y0, y1))
    axes.grid(False)


def _path(
    axes: Axes, known: Landscape, points: np.ndarray, label: str, look: Look, width: float
) -> None:
    # What is far outside cannot be drawn, and 1e300 breaks the transformation to pixels.
    reach = 100 * max(high - low for low, high in known.domain)
    near = np.cumprod(np.abs(points).max(axis=1) < reach).astype(bool)
    marker = "o" if len(points) <= FEW_POINTS else None
    axes.plot(*points[near].T, **look.line(lw=width, marker=marker, ms=3.5, label=label))
    axes.plot(*points[0], "o", color=PAPER, markeredgecolor=INK, markersize=7, zorder=5)


@dataclass(frozen=True)
class DirectionField:
    """What is drawn in one panel of :func:`direction_fields`.

    Attributes
    ----------
    directions
        Maps points of the plane, shape ``(..., 2)``, to the directions there, same shape. For
        θ' = g(t, θ) with one state, the point (t, θ) has direction (1, g).
    domain
        An interval for each axis.
    paths
        Label to points, shape ``(n, 2)``. Rows of NaN interrupt a path.
    labels
        Of the two axes.
    equal
        Whether both axes have the same unit: a plane of states, drawn with arrowheads.
    """

    directions: Callable[[torch.Tensor], torch.Tensor]
    domain: tuple[tuple[float, float], tuple[float, float]]
    paths: Mapping[str, ArrayLike]
    labels: tuple[str, str] = ("time t", "state θ")
    equal: bool = False


@picture
def direction_fields(
    drawings: Mapping[str, DirectionField],
    *,
    columns: int = 3,
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw direction fields with paths in them, one panel for each title.

    Paths of few points are drawn with them; the first path lies on top. Equal labels look alike
    in all panels.
    """
    columns = min(columns, len(drawings))
    figure, drawn = grid(len(drawings), columns, margin=0.5, height=_side(columns, 0.55))
    styles = looks((drawing.paths for drawing in drawings.values()), roles)
    for axes, (title, drawing) in zip(drawn.ravel(), drawings.items(), strict=False):
        _arrows(axes, drawing, 26 if columns == 1 and not is_narrow() else 16)
        for depth, (label, points) in enumerate(drawing.paths.items()):
            path = numbers(points)
            marker = "o" if len(path) <= FEW_POINTS else None
            place = {"label": label, "zorder": 3 - depth / len(drawing.paths)}
            axes.plot(*path.T, **styles[label].line(marker=marker, ms=3.5, **place))
        set_titles(axes, title=title, xlabel=drawing.labels[0], ylabel=drawing.labels[1])
    legend_below(figure)
    return figure


@picture
def phase_portrait(
    drawings: Mapping[str, DirectionField],
    *,
    marks: Mapping[str, ArrayLike] | None = None,
    columns: int = 2,
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the streamlines of a flow in the plane with paths on them, one panel for each title.

    Parameters
    ----------
    drawings
        Title to the flow, its domain and its paths. Rings mark where the paths start.
    marks
        Label to points, shape ``(n, 2)``, at which the flow rests: one point is drawn as a
        star, several as a broad line.
    columns
        Panels side by side.
    roles
        Label to role (:data:`~gfgd.figures.ROLES`), where the label does not tell it.
    """
    columns = min(columns, len(drawings))
    figure, drawn = grid(len(drawings), columns, margin=0.5, height=_side(columns, 0.6))
    styles = looks((drawing.paths for drawing in drawings.values()), roles)
    for axes, (title, drawing) in zip(drawn.ravel(), drawings.items(), strict=False):
        _streamlines(axes, drawing)
        axes.locator_params(axis="x", nbins=5)
        for label, points in drawing.paths.items():
            look, path = styles[label], numbers(points)
            axes.plot(*path.T, **look.line(label=label, zorder=3))
            axes.plot(*path[0], "o", color=PAPER, markeredgecolor=look.colour, ms=7, zorder=4)
        for label, points in (marks or {}).items():
            _mark(axes, label, np.atleast_2d(numbers(points)))
        set_titles(axes, title=title, xlabel=drawing.labels[0], ylabel=drawing.labels[1])
    legend_below(figure)
    return figure


def _mark(axes: Axes, label: str, at: np.ndarray) -> None:
    """Draw points at which a flow rests: one as a star, several as a broad line."""
    line = {"linewidth": 5, "solid_capstyle": "butt", "alpha": 0.45}
    star = {"linestyle": "none", "marker": "*", "markersize": 13}
    look = star if len(at) == 1 else line
    axes.plot(*at.T, color=INK, label=label, zorder=2, clip_on=False, **look)


def _side(columns: int, share: float) -> float:
    """Return a panel's height in inches: of one panel alone a share of the page's width."""
    return 3.4 if is_narrow() else share * WIDTH if columns == 1 else 0.95 * WIDTH / columns


def _streamlines(axes: Axes, drawing: DirectionField, count: int = 61) -> None:
    (x0, x1), (y0, y1) = drawing.domain
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    at = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1))
    found = numbers(drawing.directions(at))
    axes.streamplot(
        x,
        y,
        found[..., 0],
        found[..., 1],
        color=CONTOUR,
        density=0.9,
        linewidth=0.8,
        arrowsize=0.9,
        zorder=1,
    )
    axes.set(xlim=(x0, x1), ylim=(y0, y1))
    axes.grid(False)


def _arrows(axes: Axes, drawing: DirectionField, count: int) -> None:
    """Draw the directions on a grid, all of the same length on the page."""
    (x0, x1), (y0, y1) = drawing.domain
    width, height = x1 - x0, y1 - y0
    aspect = height / width if drawing.equal else 0.75
    down = max(5, round(aspect * count))
    x, y = np.meshgrid(
        x0 + width * (np.arange(count) + 0.5) / count, y0 + height * (np.arange(down) + 0.5) / down
    )
    found = numbers(drawing.directions(torch.from_numpy(np.stack([x, y], axis=-1))))
    on_page = found * np.array([1 / width, aspect / height])
    lengths = np.linalg.norm(on_page, axis=-1, keepdims=True)
    on_page = on_page / np.where(lengths > 0, lengths, 1)
    head = 4 if drawing.equal else 0
    axes.quiver(
        *(x, y, on_page[..., 0], on_page[..., 1]),
        color=CONTOUR,
        pivot="mid",
        scale=1.6 * count,
        width=0.08 / count,
        headwidth=head,
        headlength=head,
        headaxislength=head,
    )
    axes.set(xlim=(x0, x1), ylim=(y0, y1))
    axes.set_box_aspect(aspect)
    axes.grid(False)
