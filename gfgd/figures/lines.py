"""Figures of lines: against time, in panels, on log–log axes, as distributions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from gfgd.figures.style import (
    Look,
    grid,
    legend_below,
    looks,
    name_lines,
    new_figure,
    numbers,
    picture,
    set_scales,
    set_ticks_at,
    set_titles,
)
from gfgd.spectrum import Spectrum

#: λmin is drawn on a logarithmic scale of either sign, and linearly below this size.
LINEAR_BELOW = 0.01
#: Lines of at most this many values are drawn with their points.
FEW_TIMES = 12


@picture
def curves(
    times: ArrayLike | Mapping[str, ArrayLike],
    lines: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
    title: str = "",
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw one line for each entry of `lines` against `times`, each with its name.

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
    roles
        Label to role (:data:`~gfgd.figures.ROLES`), where the label does not tell it.
    """
    return panels(
        times,
        {title: lines},
        ylabel=ylabel,
        xlabel=xlabel,
        yscale=yscale,
        xscale=xscale,
        roles=roles,
    )


@picture
def panels(
    times: ArrayLike | Mapping[str, Any],
    groups: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw groups of lines, one panel below the other: title to label to values.

    The arguments are those of :func:`curves`; all panels share the time axis. Equal labels look
    alike. Where they have times of their own in each panel, `times` is title to label to times.
    """
    figure, drawn = grid(len(groups), 1, margin=0.5, height=2.9, sharex=True)
    styles = looks(groups.values(), roles, ylabel)
    for place, (axes, (title, lines)) in enumerate(zip(drawn[:, 0], groups.items(), strict=True)):
        at = times.get(title, times) if isinstance(times, Mapping) else times
        _draw_lines(axes, at, lines, styles, yscale)
        set_scales(axes, xscale=xscale, yscale=yscale)
        last = place == len(groups) - 1
        set_titles(axes, title=title, ylabel=ylabel, xlabel=xlabel if last else "")
    name_lines(figure)
    return figure


@picture
def small_multiples(
    times: ArrayLike | Mapping[str, Any],
    groups: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    xlabel: str = "time t = kη",
    yscale: str = "log",
    xscale: str = "linear",
    columns: int = 2,
    height: float = 2.3,
    broad: Collection[str] = (),
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw groups of lines, each in a small panel with a scale of its own: title to lines.

    As :func:`panels`, also in what `times` may be, but side by side. Lines with a label in `broad`
    are broad, pale and solid, so that others can be seen on them; `height` is a panel's, in inches.
    """
    figure, drawn = grid(len(groups), columns, margin=0.6, height=height, sharex=True)
    styles = looks(groups.values(), roles, ylabel)
    across = drawn.shape[1]
    for place, (axes, (title, lines)) in enumerate(
        zip(drawn.ravel(), groups.items(), strict=False)
    ):
        at = times.get(title, times) if isinstance(times, Mapping) else times
        _draw_lines(axes, at, lines, styles, yscale, broad)
        set_scales(axes, xscale=xscale, yscale=yscale)
        lowest = place >= len(groups) - across
        # One name for the values is enough: they are the same in all panels.
        name = {"ylabel": ylabel} if place == 0 else {"beside": ylabel if place < across else ""}
        set_titles(axes, title=title, xlabel=xlabel if lowest else "", **name)
        axes.xaxis.set_tick_params(labelbottom=lowest)
    name_lines(figure)
    return figure


@picture
def order_of_convergence(
    step_sizes: ArrayLike,
    errors: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "step size η",
    title: str = "",
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw errors against step sizes on log–log axes, each with its fitted slope."""
    figure = new_figure(3.6)
    axes = figure.add_subplot()
    sizes = numbers(step_sizes)
    styles = looks([errors], roles, ylabel)
    for label, values in errors.items():
        slope = fitted_slope(sizes, values)
        line = styles[label].line(marker="o", ms=4.5, label=f"{label}: slope {slope:.2f}")
        axes.plot(sizes, numbers(values), **line)
    set_scales(axes, xscale="log", yscale="log")
    set_ticks_at(axes, sizes)
    set_titles(axes, title=title, xlabel=xlabel, ylabel=ylabel)
    name_lines(figure)
    return figure


@picture
def spectrum(
    spectra: Mapping[str, Spectrum], *, title: str = "", roles: Mapping[str, str] | None = None
) -> Figure:
    """Draw λmax (top) and λmin (bottom) along trajectories; open circles are not certified."""
    figure, drawn = grid(2, 1, margin=0.4, height=2.8, sharex=True)
    top, bottom = drawn[:, 0]
    bottom.set_yscale("symlog", linthresh=LINEAR_BELOW)
    styles = looks([spectra], roles)
    for label, one in spectra.items():
        times = numbers(one.times)
        for axes, name in ((top, "largest"), (bottom, "smallest")):
            values = numbers(getattr(one, name))[:, 0]
            failed = ~numbers(getattr(one, f"{name}_certified"))[:, 0].astype(bool)
            axes.plot(times, values, **styles[label].line(label=label))
            axes.plot(
                times[failed], values[failed], "o", color=styles[label].colour, fillstyle="none"
            )
    set_titles(top, title=title, ylabel="λmax of the Hessian")
    set_titles(bottom, ylabel="λmin of the Hessian", xlabel="time t")
    top.set_ylim(0, None)
    decades = [step * 10.0**k for k in range(-2, 4) for step in (1, 3)]
    bottom.yaxis.set_major_locator(FixedLocator([*(-t for t in decades), 0, *decades]))
    bottom.yaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    bottom.yaxis.set_minor_locator(NullLocator())
    name_lines(figure)
    return figure


@picture
def distribution(
    values: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    xscale: str = "log",
    title: str = "",
    roles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw, for each label, the share of its values that are at most x, against x.

    Raises
    ------
    ValueError
        If a label has no values, or one that is not finite.
    """
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    styles = looks([values], roles)
    for label, sample in values.items():
        found = numbers(sample).ravel()
        if not len(found) or not np.isfinite(found).all():
            raise ValueError(f"values[{label!r}]: must be finite numbers, at least one")
        axes.ecdf(found, **styles[label].line(label=label))
    set_scales(axes, xscale=xscale)
    set_titles(axes, title=title, xlabel=xlabel, ylabel="share of instances")
    legend_below(figure)
    return figure


def fitted_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(numbers(x)), np.log(numbers(y)), 1)[0])


def _draw_lines(
    axes: Axes,
    times: ArrayLike | Mapping[str, Any],
    lines: Mapping[str, ArrayLike],
    styles: Mapping[str, Look],
    yscale: str,
    broad: Collection[str] = (),
) -> None:
    """Draw lines in the styles of their labels; with their points, if they are few."""
    for label, values in lines.items():
        at = numbers(times[label] if isinstance(times, Mapping) else times)
        drawn = numbers(values)
        if yscale == "log":
            drawn = np.where(drawn > 0, drawn, np.nan)
        style = styles[label].line(label=label)
        if label in broad:
            style |= {"lw": 5, "alpha": 0.45, "ls": "-", "zorder": 1.5}
        if len(at) <= FEW_TIMES:
            style |= {"marker": "o", "ms": 4}
        axes.plot(at, drawn, **style)
