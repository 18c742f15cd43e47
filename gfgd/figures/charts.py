"""Figures that are no lines: a staircase of bounds, a raster of switches, matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from gfgd.figures.style import (
    INK,
    ROLES,
    WIDTH,
    grid,
    is_narrow,
    legend_below,
    looks,
    new_figure,
    numbers,
    picture,
    set_scales,
    set_titles,
    wrapped,
)


@picture
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
    figure = new_figure(1.1 + 0.4 * len(values))
    axes = figure.add_subplot()
    rows = np.arange(len(values))
    bar = {"color": ROLES["bound"], "alpha": 0.75, "height": 0.6}
    axes.barh(rows[1:], values[1:] - values[:-1], left=values[:-1], **bar)
    axes.vlines(values, rows - 0.3, rows + np.append(np.full(len(rows) - 1, 1.3), 0.3), INK)
    for row, factor in zip(rows[1:], values[1:] / values[:-1], strict=True):
        at = (values[row - 1 : row + 1].max(), row)
        text = f"× {factor:.3g}"
        axes.annotate(text, at, (6, 0), textcoords="offset points", va="center")
    names = [wrapped(label, 18) if is_narrow() else label for label in totals]
    set_scales(axes, xscale="log")
    axes.set(yticks=rows, yticklabels=names)
    set_titles(axes, title=title, xlabel=xlabel)
    axes.set_xlim(values.min() / 2, values.max() * 12)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    return figure


@picture
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
    at = numbers(times)
    figure = new_figure(1.2 + 0.3 * len(rows))
    axes = figure.add_subplot()
    height = 0.8 / len(histories)
    styles = looks([histories])
    for place, (label, history) in enumerate(histories.items()):
        padded = np.pad(numbers(history).astype(int), ((1, 1), (0, 0)))
        change = np.diff(padded, axis=0)
        for row in range(len(rows)):
            begin, end = np.nonzero(change[:, row] > 0)[0], np.nonzero(change[:, row] < 0)[0]
            lasted = at[np.minimum(end, len(at) - 1)] - at[begin]
            axes.broken_barh(
                list(zip(at[begin].tolist(), lasted.tolist(), strict=True)),
                (row - 0.4 + place * height, height),
                color=styles[label].colour,
                alpha=styles[label].alpha,
                label=label if row == 0 else None,
            )
    axes.set(yticks=range(len(rows)), yticklabels=rows)
    set_titles(axes, title=title, xlabel=xlabel)
    axes.set_xlim(at[0], at[-1])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    legend_below(figure)
    return figure


@picture
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
        Panels side by side; on a phone two at most.
    """
    columns = min(columns, len(entries))
    height = 1.7 if is_narrow() else 0.95 * WIDTH / columns
    figure, drawn = grid(len(entries), columns, margin=0.3, height=height, on_a_phone=2)
    reach = np.nanmax(np.abs(numbers(next(iter(entries.values())))))
    colours = mpl.colormaps["RdBu"].with_extremes(bad="#c8c8c8")
    for axes, (title, matrix) in zip(drawn.ravel(), entries.items(), strict=False):
        image = axes.imshow(numbers(matrix), cmap=colours, vmin=-reach, vmax=reach)
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(False)
    figure.colorbar(image, ax=list(drawn.ravel()), label=label, extend="both", shrink=0.8)
    return figure
