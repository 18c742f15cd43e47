"""What a sweep has found: a table in Parquet with a row for each point, and a figure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gfgd.book.claims import Claim
from gfgd.book.sweeps.grid import swept
from gfgd.book.sweeps.point import Point, Result
from gfgd.figures import STYLE
from gfgd.figures.style import WIDTH
from gfgd.files import replacing

#: Values that spread over more than this ratio are drawn on a logarithmic scale.
WIDE = 20
_MARKERS = "osD^v<>P"


@dataclass(frozen=True)
class _Style:
    colour: str
    dashes: Any
    marker: str


@dataclass(frozen=True)
class Row:
    """A point of a sweep and what came of it."""

    point: Point
    result: Result

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value!r}" for name, value in self.point.overrides.items())
        return f"{values}: {self.result.status}: {self.result.error}"

    def columns(self) -> dict[str, Any]:
        """Return the row's entries by column."""
        result = self.result
        parameters = {f"parameters.{key}": value for key, value in self.point.parameters.items()}
        claims = {f"claims.{claim.name}": claim.measured for claim in result.claims}
        claims |= {f"claims.{claim.name}.holds": claim.holds for claim in result.claims}
        recorded = {f"recorded.{name}": value for name, value in result.recorded.items()}
        about = {
            "status": result.status,
            "error": result.error,
            "seconds": result.seconds,
            "notebook": self.point.notebook.relative_to(self.point.folder).as_posix(),
            "fingerprint": self.point.fingerprint,
        }
        return parameters | claims | recorded | about

    def measured(self) -> dict[str, float]:
        """Return the claims' measured values and the recorded numbers by name."""
        claims = {claim.name: claim.measured for claim in self.result.claims}
        return claims | dict(self.result.recorded)


def write_table(rows: Sequence[Row], path: Path) -> Path:
    """Write the rows as Parquet; what a row lacks is null. The swept parameters are metadata."""
    from pyarrow import parquet, string, table

    columns = [row.columns() for row in rows]
    names = list(dict.fromkeys(name for entries in columns for name in entries))
    arrays = {name: _array([entries.get(name) for entries in columns]) for name in names}
    about = {
        "chapter": rows[0].point.chapter.stem,
        "swept": swept([row.point.parameters for row in rows]),
        "sources": rows[0].point.sources,
    }
    made = table(arrays)
    made = made.set_column(names.index("error"), "error", made["error"].cast(string()))
    made = made.replace_schema_metadata({"gfgd": json.dumps(about)})
    with replacing(path) as temporary:
        parquet.write_table(made, temporary)
    return path


def _array(values: list[Any]) -> Any:
    """Return a column; values that have no type in common, such as mixed tuples, as JSON text."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([None if value is None else json.dumps(value) for value in values])


def write_figure(rows: Sequence[Row], path: Path) -> Path | None:
    """Write the figure as SVG, or remove an earlier one if no point has measured anything."""
    figure = draw(rows)
    if figure is None:
        path.unlink(missing_ok=True)
        return None
    with mpl.rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    return path


@dataclass(frozen=True)
class _Layout:
    """The parameter of the horizontal axis, where its values lie there, and the rows of a line."""

    across: str
    places: dict[str, float]  # by repr() of the value
    numbers: bool
    lines: dict[str, list[Row]]  # by label

    def place(self, row: Row) -> float:
        return self.places[repr(row.point.parameters[self.across])]


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw a panel for each number that was measured, against the parameters that were swept.

    The axis is the parameter with the most values, numbers before others; there is a line for
    each combination of the others. A filled marker: the claim holds there, or the number is no
    claim's; a hollow one: it does not hold. A cross at the foot: no finite number was measured.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.measured()))
    if not names:
        return None
    layout = _layout(rows)
    columns = 1 if len(names) < 4 else 2
    height = math.ceil(len(names) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * (1 + 0.5 * (columns - 1)), 1.4 + 2.6 * height))
        panels = list(figure.subplots(height, columns, squeeze=False).flat)
        for name, axes in zip(names, panels, strict=False):
            _panel(axes, name, layout)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        done = sum(row.result.status == "done" for row in rows)
        figure.suptitle(f"{rows[0].point.chapter.stem}: {done} of {len(rows)} points done")
        _legend(figure, layout, columns)
    return figure


def _layout(rows: Sequence[Row]) -> _Layout:
    points = [row.point.parameters for row in rows]
    names = swept(points) or list(points[0])[:1]
    values = {name: {repr(point[name]): point[name] for point in points} for name in names}
    numbers = {name: all(map(_is_number, known.values())) for name, known in values.items()}
    across = max(names, key=lambda name: (numbers[name], len(values[name])))
    places = {
        text: float(value) if numbers[across] else float(place)
        for place, (text, value) in enumerate(values[across].items())
    }
    lines: dict[str, list[Row]] = {}
    for row in rows:
        others = [name for name in names if name != across]
        label = ", ".join(f"{name} = {row.point.parameters[name]}" for name in others)
        lines.setdefault(label, []).append(row)
    return _Layout(across, places, numbers[across], lines)


def _panel(axes: Axes, name: str, layout: _Layout) -> None:
    rows = [row for line in layout.lines.values() for row in line]
    for line, style in zip(layout.lines.values(), _styles(len(layout.lines)), strict=True):
        _line(axes, name, layout, sorted(line, key=layout.place), style)
    claims = [claim for row in rows for claim in row.result.claims if claim.name == name]
    axes.set_title(name)
    if len({claim.criterion for claim in claims}) == 1:
        axes.set_title(f"{name}, to be {claims[0].criterion}")
        for bound in _bounds(claims[0]):
            axes.axhline(bound, color="#777777", linewidth=1, linestyle=(0, (1, 2)))
    if not layout.numbers:
        axes.set_xticks(list(layout.places.values()), list(layout.places))
    elif _wide(layout.places.values()):
        axes.set_xscale("log")
    if _wide(value for row in rows if math.isfinite(value := row.measured().get(name, math.nan))):
        axes.set_yscale("log")
    axes.set(xlabel=layout.across, ylabel="measured")


def _line(axes: Axes, name: str, layout: _Layout, rows: list[Row], style: _Style) -> None:
    at = [layout.place(row) for row in rows]
    values = [row.measured().get(name, math.nan) for row in rows]
    finite = [value if math.isfinite(value) else math.nan for value in values]
    axes.plot(at, finite, color=style.colour, linestyle=style.dashes, linewidth=1.2)
    for place, value, row in zip(at, values, rows, strict=True):
        if math.isfinite(value):
            broken = any(claim.name == name and not claim.holds for claim in row.result.claims)
            face = "white" if broken else style.colour
            axes.plot(place, value, style.marker, color=style.colour, markerfacecolor=face)
        else:
            foot = axes.get_xaxis_transform()
            axes.plot(place, 0.04, "x", color=style.colour, transform=foot, clip_on=False)


def _styles(count: int) -> list[_Style]:
    """Return a style for each line: shades in order, and other markers."""
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, count))
    return [
        _Style(to_hex(shade), "-", _MARKERS[place % len(_MARKERS)])
        for place, shade in enumerate(shades)
    ]


def _legend(figure: Figure, layout: _Layout, columns: int) -> None:
    """Say below the panels what the lines and the markers are."""
    styles = _styles(len(layout.lines))
    entries = [
        Line2D([], [], color=style.colour, linestyle=style.dashes, marker=style.marker, label=label)
        for label, style in zip(layout.lines, styles, strict=True)
        if label
    ]
    rows = [row for line in layout.lines.values() for row in line]
    about: dict[str, Any] = {"color": "black", "linestyle": ""}
    if any(not claim.holds for row in rows for claim in row.result.claims):
        hollow = Line2D([], [], marker="o", markerfacecolor="white", label="does not hold", **about)
        entries.append(hollow)
    if any(row.result.status != "done" for row in rows):
        entries.append(Line2D([], [], marker="x", label="no number: not done", **about))
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=2 * columns, fontsize=9)


def _bounds(claim: Claim) -> list[float]:
    between = claim.between or ()
    bounds = [claim.below, claim.above, *between]
    return [bound for bound in bounds if bound is not None and math.isfinite(bound)]


def _wide(values: Iterable[float]) -> bool:
    known = list(values)
    return bool(known) and min(known) > 0 and max(known) > WIDE * min(known)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
