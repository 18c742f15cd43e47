"""The book's figures: one style, one function for each kind of picture.

Every function returns a ``matplotlib.figure.Figure`` of its own, outside pyplot's state.
Lines differ in colour and in dash pattern; the colours are those of Okabe & Ito (2008),
which colour-blind readers can tell apart; the background is white, so that a figure can be
read on a dark page too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, repeat
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from gfgd.problems.landscapes import Landscape
from gfgd.spectrum import Spectrum

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))

#: λmin is drawn on a logarithmic scale of either sign, and linearly below this size.
LINEAR_BELOW = 0.01

#: Width of a page's text in inches: a figure is read on a phone, too.
WIDTH = 6.4

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "gfgd",  # the same picture gives the same file
    "figure.constrained_layout.use": True,
}


def use_style() -> None:
    """Set the book's style, and let a notebook show figures as SVG."""
    mpl.rcParams.update(STYLE)
    from IPython import get_ipython

    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})


def curves(
    times: ArrayLike | Mapping[str, ArrayLike],
    lines: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
    title: str = "",
) -> Figure:
    """Draw one line for each entry of `lines` against `times`, with a legend below.

    Parameters
    ----------
    times
        Shape ``(T,)``, or a mapping with the same keys as `lines` where they differ.
    lines
        Label to values, shape ``(T,)``. On a log scale values ≤ 0 are left out.
    ylabel, xlabel, title
        What is drawn, with units.
    yscale, xscale
        ``"log"`` or ``"linear"``.
    """
    return panels(
        times,
        {title: lines},
        ylabel=ylabel,
        xlabel=xlabel,
        yscale=yscale,
        xscale=xscale,
    )


def panels(
    times: ArrayLike | Mapping[str, Any],
    groups: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
) -> Figure:
    """Draw groups of lines, one panel below the other: title to label to values.

    The arguments are those of :func:`curves`; all panels share the time axis and the legend. Equal
    labels look alike. Where they have times of their own in each panel, `times` is title to label
    to times.
    """
    figure, grid = _grid(len(groups), 1, margin=0.5, height=3.0, sharex=True)
    styles = _styles(groups.values())
    for axes, (title, lines) in zip(grid[:, 0], groups.items(), strict=True):
        at = times.get(title, times) if isinstance(times, Mapping) else times
        _draw_lines(axes, at, lines, styles, yscale)
        axes.set(ylabel=ylabel, yscale=yscale, xscale=xscale, title=title)
    grid[-1, 0].set_xlabel(xlabel)
    _common_legend(figure)
    return figure


def order_of_convergence(
    step_sizes: ArrayLike,
    errors: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "step size η",
    title: str = "",
) -> Figure:
    """Draw errors against step sizes on log–log axes, each with its fitted slope."""
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    sizes = _numbers(step_sizes)
    for (label, values), (colour, dashes) in zip(errors.items(), line_styles(), strict=False):
        slope = fitted_slope(sizes, values)
        axes.plot(
            sizes,
            _numbers(values),
            color=colour,
            linestyle=dashes,
            marker="o",
            label=f"{label}: slope {slope:.2f}",
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log", yscale="log", title=title)
    _common_legend(figure)
    return figure


def spectrum(spectra: Mapping[str, Spectrum], *, title: str = "") -> Figure:
    """Draw λmax (top) and λmin (bottom) along trajectories; open circles did not converge."""
    figure = Figure(figsize=(WIDTH, 6.0))
    top, bottom = figure.subplots(2, 1, sharex=True)
    bottom.set_yscale("symlog", linthresh=LINEAR_BELOW)
    for (label, found), (colour, dashes) in zip(spectra.items(), line_styles(), strict=False):
        times = _numbers(found.times)
        for axes, name in ((top, "largest"), (bottom, "smallest")):
            values = _numbers(getattr(found, name))[:, 0]
            failed = ~_numbers(getattr(found, f"{name}_converged"))[:, 0].astype(bool)
            axes.plot(times, values, color=colour, linestyle=dashes, label=label)
            axes.plot(times[failed], values[failed], "o", color=colour, fillstyle="none")
    top.set(ylabel="λmax of the Hessian", title=title, ylim=(0, None))
    bottom.set(ylabel="λmin of the Hessian", xlabel="time t")
    decades = [step * 10.0**k for k in range(-2, 4) for step in (1, 3)]
    bottom.yaxis.set_major_locator(FixedLocator([*(-t for t in decades), 0, *decades]))
    bottom.yaxis.set_major_formatter("{x:g}")
    bottom.yaxis.set_minor_locator(NullLocator())
    _common_legend(figure)
    return figure


def fitted_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(_numbers(x)), np.log(_numbers(y)), 1)[0])


def line_styles() -> cycle[tuple[str, str | tuple[int, Sequence[int]]]]:
    """Return pairs of a colour and a dash pattern, no two alike among the first 49."""
    many = len(COLOURS)
    return cycle((COLOURS[i % many], DASHES[(i + i // many) % many]) for i in range(many**2))


def _styles(groups: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Return a colour and a dash pattern for each label of some groups."""
    return dict(zip(dict.fromkeys(chain(*groups)), line_styles(), strict=False))


def _numbers(values) -> np.ndarray:
    """Return tensors and lists as a numpy array on the CPU."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def _draw_lines(
    axes: Axes,
    times: ArrayLike | Mapping[str, ArrayLike],
    lines: Mapping[str, ArrayLike],
    styles: Mapping[str, tuple[str, Any]],
    yscale: str,
    broad: Collection[str] = (),
) -> None:
    """Draw lines in the styles of their labels; with their points, if they are few."""
    for label, values in lines.items():
        at = _numbers(times[label] if isinstance(times, Mapping) else times)
        drawn = _numbers(values)
        if yscale == "log":
            drawn = np.where(drawn > 0, drawn, np.nan)
        colour, dashes = styles[label]
        look = {"lw": 5, "alpha": 0.45, "zorder": 1.5} if label in broad else {"ls": dashes}
        marker = {"marker": "o", "ms": 4} if len(at) <= FEW_TIMES else {}
        axes.plot(at, drawn, color=colour, label=label, **look, **marker)


#: Paths of at most this many points are drawn with their points,
FEW_POINTS = 80
#: and so are lines of at most this many values.
FEW_TIMES = 12


def paths_on_contours(
    drawings: Mapping[str, tuple[Landscape, Mapping[str, ArrayLike]]], *, columns: int = 2
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
    """
    columns = min(columns, len(drawings))
    side = WIDTH / columns if columns > 1 else 0.75 * WIDTH
    figure, grid = _grid(len(drawings), columns, margin=0.4, height=side)
    styles = _styles(paths for _, paths in drawings.values())
    for axes, (title, (known, paths)) in zip(grid.ravel(), drawings.items(), strict=False):
        _contours(axes, known)
        for width, (label, points) in zip(chain([3.0], repeat(1.3)), paths.items(), strict=False):
            _path(axes, known, _numbers(points), label, styles[label], width)
        axes.set(title=title, aspect="equal")
    _common_legend(figure)
    return figure


def _contours(axes: Axes, known: Landscape, count: int = 81) -> None:
    """Draw level lines that enclose equal shares of the domain, and mark the minimum."""
    (x0, x1), (y0, y1) = known.domain
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = _numbers(known.objective.value(torch.from_numpy(grid)))
    levels = np.unique(np.quantile(values, np.linspace(0, 1, 15)[1:-1]))
    axes.contour(x, y, values, levels=levels, colors="#a8b4c0", linewidths=0.7)
    if known.minimum is not None:
        axes.plot(*_numbers(known.minimum), "*", color="black", markersize=9)
    axes.set(xlim=(x0, x1), ylim=(y0, y1))
    axes.grid(False)


def _path(axes: Axes, known: Landscape, points: np.ndarray, label: str, style, width) -> None:
    colour, dashes = style
    # What is far outside cannot be drawn, and 1e300 breaks the transformation to pixels.
    reach = 100 * max(high - low for low, high in known.domain)
    near = np.cumprod(np.abs(points).max(axis=1) < reach).astype(bool)
    few = len(points) <= FEW_POINTS
    axes.plot(
        *points[near].T,
        color=colour,
        linestyle=dashes,
        linewidth=width,
        marker="o" if few else None,
        markersize=3.5,
        label=label,
    )
    axes.plot(*points[0], "o", color="white", markeredgecolor="black", markersize=7, zorder=5)


def small_multiples(
    times: ArrayLike | Mapping[str, ArrayLike],
    groups: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
    columns: int = 2,
    height: float = 2.3,
    broad: Collection[str] = (),
) -> Figure:
    """Draw groups of lines, each in a small panel with a scale of its own: title to lines.

    As :func:`panels`, but side by side. Lines with a label in `broad` are broad, pale and solid, so
    that others can be seen on them; `height` is a panel's, in inches.
    """
    figure, grid = _grid(len(groups), columns, margin=0.6, height=height, sharex=True)
    styles = _styles(groups.values())
    for axes, (title, lines) in zip(grid.ravel(), groups.items(), strict=False):
        _draw_lines(axes, times, lines, styles, yscale, broad)
        axes.set(yscale=yscale, xscale=xscale, title=title)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    figure.supylabel(ylabel, fontsize=11)
    _common_legend(figure)
    return figure


def staircase(totals: Mapping[str, float], *, xlabel: str, title: str = "") -> Figure:
    """Draw a chain of bounds, from the first value to the last, with the factor of each step.

    Parameters
    ----------
    totals
        Label to a value > 0, in order. The first is drawn as a line; each other one as a bar on a
        log axis that leads from the value before it to its own.
    xlabel, title
        What the values are, with units.

    Raises
    ------
    ValueError
        If there are fewer than two values or one is not a positive number.
    """
    values = np.array([float(value) for value in totals.values()])
    if len(values) < 2 or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"totals = {dict(totals)!r}: give two or more positive numbers")
    figure = Figure(figsize=(WIDTH, 1.1 + 0.4 * len(values)))
    axes = figure.add_subplot()
    rows = np.arange(len(values))
    axes.barh(rows[1:], values[1:] - values[:-1], left=values[:-1], color=COLOURS[0], height=0.6)
    axes.vlines(values, rows - 0.3, rows + np.append(np.full(len(rows) - 1, 1.3), 0.3), "black")
    for row, factor in zip(rows[1:], values[1:] / values[:-1], strict=True):
        at = (values[row - 1 : row + 1].max(), row)
        text = f"× {factor:.3g}"
        axes.annotate(text, at, (6, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set(xscale="log", xlabel=xlabel, title=title, yticks=rows, yticklabels=list(totals))
    axes.set_xlim(values.min() / 2, values.max() * 12)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    return figure


def raster(
    times: ArrayLike,
    histories: Mapping[str, ArrayLike],
    rows: Sequence[str],
    *,
    xlabel: str = "time t = kη",
    title: str = "",
) -> Figure:
    """Draw when each of several switches is on, in several runs: a bar per run in each row.

    Parameters
    ----------
    times
        Shape ``(T,)``. A switch is drawn from the time at which it is on to the next time.
    histories
        Run to whether each switch is on, shape ``(T, R)``.
    rows
        What each of the R switches is.
    """
    at = _numbers(times)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(rows)))
    axes = figure.add_subplot()
    height = 0.8 / len(histories)
    for place, (label, history) in enumerate(histories.items()):
        padded = np.pad(_numbers(history).astype(int), ((1, 1), (0, 0)))
        change = np.diff(padded, axis=0)
        for row in range(len(rows)):
            begin, end = np.nonzero(change[:, row] > 0)[0], np.nonzero(change[:, row] < 0)[0]
            lasted = at[np.minimum(end, len(at) - 1)] - at[begin]
            axes.broken_barh(
                list(zip(at[begin].tolist(), lasted.tolist(), strict=True)),
                (row - 0.4 + place * height, height),
                color=COLOURS[place],
                label=label if row == 0 else None,
            )
    axes.set(xlabel=xlabel, title=title, yticks=range(len(rows)), yticklabels=rows)
    axes.set_xlim(at[0], at[-1])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    _common_legend(figure)
    return figure


def matrices(entries: Mapping[str, ArrayLike], *, label: str, columns: int = 3) -> Figure:
    """Draw matrices as coloured squares on one scale, symmetric about 0; NaN is left grey.

    Parameters
    ----------
    entries
        Title to a matrix.
    label
        What an entry is, at the colour bar. The scale ends at the largest |entry| of the first
        matrix; beyond it colours are those of the ends.
    columns
        Panels side by side.
    """
    columns = min(columns, len(entries))
    figure, grid = _grid(len(entries), columns, margin=0.3, height=0.95 * WIDTH / columns)
    reach = np.nanmax(np.abs(_numbers(next(iter(entries.values())))))
    colours = mpl.colormaps["RdBu"].with_extremes(bad="#c8c8c8")
    for axes, (title, matrix) in zip(grid.ravel(), entries.items(), strict=False):
        image = axes.imshow(_numbers(matrix), cmap=colours, vmin=-reach, vmax=reach)
        axes.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=list(grid.ravel()), label=label, extend="both", shrink=0.8)
    return figure


def distribution(
    values: Mapping[str, ArrayLike], *, xlabel: str, xscale: str = "log", title: str = ""
) -> Figure:
    """Draw, for each label, the share of its values that are at most x, against x.

    Raises
    ------
    ValueError
        If a label has no values, or one that is not finite.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    for (label, found), (colour, dashes) in zip(values.items(), line_styles(), strict=False):
        numbers = _numbers(found).ravel()
        if not len(numbers) or not np.isfinite(numbers).all():
            raise ValueError(f"values[{label!r}]: must be finite numbers, at least one")
        axes.ecdf(numbers, color=colour, linestyle=dashes, label=label)
    axes.set(xlabel=xlabel, ylabel="share of instances", xscale=xscale, title=title)
    _common_legend(figure)
    return figure


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


def direction_fields(drawings: Mapping[str, DirectionField], *, columns: int = 2) -> Figure:
    """Draw direction fields with paths in them, one panel for each title.

    Paths of few points are drawn with them; the first path lies on top. Equal labels look alike
    in all panels.
    """
    columns = min(columns, len(drawings))
    figure, grid = _grid(len(drawings), columns, margin=0.5, height=0.8 * WIDTH / columns)
    styles = _styles(drawing.paths for drawing in drawings.values())
    for axes, (title, drawing) in zip(grid.ravel(), drawings.items(), strict=False):
        _arrows(axes, drawing, 26 if columns == 1 else 16)
        for depth, (label, points) in enumerate(drawing.paths.items()):
            colour, dashes = styles[label]
            drawn = _numbers(points)
            axes.plot(
                *drawn.T,
                color=colour,
                linestyle=dashes,
                marker="o" if len(drawn) <= FEW_POINTS else None,
                markersize=3.5,
                label=label,
                zorder=3 - depth / len(drawing.paths),
            )
        axes.set(title=title, xlabel=drawing.labels[0], ylabel=drawing.labels[1])
    _common_legend(figure)
    return figure


def phase_portrait(
    drawings: Mapping[str, DirectionField],
    *,
    marks: Mapping[str, ArrayLike] | None = None,
    columns: int = 2,
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
    """
    columns = min(columns, len(drawings))
    figure, grid = _grid(len(drawings), columns, margin=0.5, height=0.85 * WIDTH / columns)
    styles = _styles(drawing.paths for drawing in drawings.values())
    for axes, (title, drawing) in zip(grid.ravel(), drawings.items(), strict=False):
        _streamlines(axes, drawing)
        for label, points in drawing.paths.items():
            (colour, dashes), drawn = styles[label], _numbers(points)
            axes.plot(*drawn.T, color=colour, linestyle=dashes, label=label, zorder=3)
            axes.plot(*drawn[0], "o", color="white", markeredgecolor=colour, ms=7, zorder=4)
        for label, points in (marks or {}).items():
            at = np.atleast_2d(_numbers(points))
            line = {"linewidth": 5, "solid_capstyle": "butt", "alpha": 0.45}
            star = {"linestyle": "none", "marker": "*", "markersize": 13}
            axes.plot(
                *at.T,
                color="black",
                label=label,
                zorder=2,
                clip_on=False,
                **(star if len(at) == 1 else line),
            )
        axes.set(title=title, xlabel=drawing.labels[0], ylabel=drawing.labels[1])
    _common_legend(figure)
    return figure


def _streamlines(axes: Axes, drawing: DirectionField, count: int = 61) -> None:
    (x0, x1), (y0, y1) = drawing.domain
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    at = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1))
    found = _numbers(drawing.directions(at))
    axes.streamplot(
        x,
        y,
        found[..., 0],
        found[..., 1],
        color="#a8b4c0",
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
    found = _numbers(drawing.directions(torch.from_numpy(np.stack([x, y], axis=-1))))
    on_page = found * np.array([1 / width, aspect / height])
    lengths = np.linalg.norm(on_page, axis=-1, keepdims=True)
    on_page = on_page / np.where(lengths > 0, lengths, 1)
    head = 4 if drawing.equal else 0
    axes.quiver(
        *(x, y, on_page[..., 0], on_page[..., 1]),
        color="#a8b4c0",
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


def _grid(
    count: int, columns: int, *, margin: float, height: float, sharex: bool = False
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its panels (rows, columns), of which only the first `count` are shown.

    A panel is `height` inches high; `margin` is left for legends and labels.
    """
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, margin + rows * height))
    grid = figure.subplots(rows, columns, sharex=sharex, squeeze=False)
    for axes in grid.ravel()[count:]:
        axes.set_axis_off()
    return figure, grid


def _common_legend(figure: Figure) -> None:
    """Put one legend below all panels, where it covers no line: each label once, if there are two.

    The figure grows by the legend's height.
    """
    handles = {
        text: line
        for axes in figure.axes
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(handles) < 2:
        return
    width = 0.65 + 0.075 * max(map(len, handles))  # of a column, in inches, at font size 10
    columns = max(1, min(len(handles), int(WIDTH / width)))
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.2 * -(-len(handles) // columns))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=10)
