"""The language of the book's figures: roles, sizes, labels, and a rendering for each width.

Colour says who, position says what. A line has a *role*: gradient flow is blue, gradient descent
orange, a bound purple, a prediction green, numerical error grey, a threshold black, everywhere in
the book. Lines with the same role, and lines without one, are tints of one hue, with other dashes.
Sizes are CSS pixels: text of 12 to 13 pixels, on a wide page and on a phone alike, because each
figure is drawn once for either.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import chain
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, Formatter, LogFormatter
from matplotlib.transforms import Bbox

from gfgd.typography import power_of_ten

P = ParamSpec("P")

#: Inches in a CSS pixel; matplotlib's lengths are inches, and its points 4/3 pixels.
PX = 1 / 96
#: Widths in pixels of the two renderings: a page's column, and a phone's.
WIDE, NARROW = 760, 358
#: Width of a wide figure in inches.
WIDTH = WIDE * PX
#: How high all rows of panels of a wide figure are at most, in inches, so that a chapter's key
#: picture fits on its first screen; and how high a panel is at least.
TALLEST, LOWEST = 470 * PX, 1.35

#: Roles and their colours on white: 4.5 to 1 or better, so that they serve for text.
ROLES = {
    "flow": "#0069a8",
    "descent": "#bf4a00",
    "bound": "#8a2f7b",
    "prediction": "#007a58",
    "error": "#6e7781",
    "threshold": "#1f2328",
    "series": "#4b4fb3",
}
INK, MUTED, HAIR, CONTOUR, PAPER = "#1f2329", "#59636e", "#d5dbe1", "#a8b4c0", "#fffffe"

# How wide a role's lines are, in points, and their dashes where a figure does not say.
_WIDTHS = {"flow": 2.4, "bound": 1.7, "prediction": 1.5, "descent": 1.4, "threshold": 0.8}
_DASHES = ("-", *((0, gaps) for gaps in ((5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (9, 2))))
_FIRST_DASHES = {"prediction": (0, (4, 2)), "error": (0, (1.5, 1.5))}
_TINTS = (1.0, 0.72, 0.5, 0.85, 0.6, 0.42)  # with five patterns: no two alike among 30

# What a label must hold to have a role, in the order in which they are tried.
_WORDS = {
    "threshold": r"^2/η|^ε$|threshold|limit$",
    "bound": r"\bbounds?\b|guarant|certif|theorem",
    "prediction": r"predict|leading order|central flow|modified|Barrett|next order|principal|"
    r"pair flow|rod flow|edge flow|closed form|\blaws?\b",
    "error": r"\berrors?\b|rounding|estimate",
    "flow": r"^GF\b|gradient flow|^flow\b|^exact",
    "descent": r"\bGD\b|gradient descent|measured|Euler",
}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.75,  # 13 pixels
    "axes.titlesize": 9.75,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,  # 12 pixels
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "text.color": INK,
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": HAIR,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": "linecolor",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
    "svg.hashsalt": "gfgd",  # the same picture gives the same file
    "path.simplify_threshold": 0.2,
}

#: The type of output that holds the narrow rendering and the caption, beside the wide one's SVG.
MIME_TYPE = "application/vnd.gfgd.figure+json"

_width: ContextVar[int] = ContextVar("width", default=WIDE)


def use_style() -> None:
    """Set the book's style for all figures of matplotlib."""
    mpl.rcParams.update(STYLE)


class Picture(Figure):
    """A figure that can be drawn again for a phone, and that a notebook shows as SVG.

    `again` draws the same for the width that is current; None where there is no other rendering.
    """

    again: Callable[[], Figure] | None = None
    caption: str | None = None

    def captioned(self, caption: str) -> Picture:
        """Set what stands below the figure in the book, a line of Markdown, and return it."""
        self.caption = caption
        return self

    def narrow(self) -> Figure | None:
        """Return the rendering for a phone."""
        return None if self.again is None else _at_width(NARROW, self.again)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        narrow = self.narrow()
        extra = {"narrow": narrow and svg(narrow), "caption": self.caption}
        return {"image/svg+xml": svg(self), "text/plain": "[figure]", MIME_TYPE: extra}


def picture(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    """Let a function that draws a figure do so in the book's style, and for two widths."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        def again() -> Figure:
            with mpl.rc_context(STYLE):
                figure = draw(*args, **kwargs)
                figure.draw_without_rendering()  # lays the panels out
            # What is laid out stays: another pass would move it by a rounding error.
            figure.set_layout_engine("none")
            for axes in figure.axes:
                _thin_ticks(axes)
            return figure

        figure = again()
        assert isinstance(figure, Picture)
        figure.again = again
        return figure

    return drawn


def _at_width(width: int, draw: Callable[[], Figure]) -> Figure:
    token = _width.set(width)
    try:
        return draw()
    finally:
        _width.reset(token)


def is_narrow() -> bool:
    """Whether what is drawn now is drawn for a phone."""
    return _width.get() < 600


def new_figure(height: float) -> Picture:
    """Return an empty figure of the current width, `height` inches high."""
    return Picture(figsize=(_width.get() * PX, height))


def grid(
    count: int,
    columns: int,
    *,
    margin: float,
    height: float,
    sharex: bool = False,
    on_a_phone: int = 1,
) -> tuple[Picture, np.ndarray]:
    """Return a figure and its panels (rows, columns), of which only the first `count` are shown.

    A panel is `height` inches high, or less where several rows would otherwise be higher than a
    screen together; `margin` is left for legends and labels. For a phone at most `on_a_phone`
    panels stand side by side.
    """
    columns = min(columns, on_a_phone) if is_narrow() else columns
    rows = -(-count // columns)
    if not is_narrow() and rows > 1:
        height = min(height, max(LOWEST, (TALLEST - margin) / rows))
    figure = new_figure(margin + rows * height)
    panels = figure.subplots(rows, columns, sharex=sharex, squeeze=False)
    for axes in panels.ravel()[count:]:
        axes.set_axis_off()
    return figure, panels


class Look(NamedTuple):
    """How a line is drawn: its colour, dash pattern, width in points and opacity."""

    colour: str
    dashes: Any
    width: float
    alpha: float

    def line(self, **changes: Any) -> dict[str, Any]:
        """Return the look as arguments of matplotlib's ``plot``."""
        return {
            "color": self.colour,
            "ls": self.dashes,
            "lw": self.width,
            "alpha": self.alpha,
        } | changes


def role_of(label: str, values: str = "") -> str:
    """Return the role that a label tells: a key of `ROLES`, ``"series"`` where it tells none.

    Of lines whose label tells none, distances are gradient descent's; `values` names the axis.
    """
    found = (role for role, words in _WORDS.items() if re.search(words, label))
    return next(found, "descent" if "distance" in values else "series")


def looks(
    groups: Iterable[Iterable[str]], roles: Mapping[str, str] | None = None, values: str = ""
) -> dict[str, Look]:
    """Return the look of each label of some groups: its role's, told from others of that role.

    `roles` maps labels to keys of `ROLES`; the others are read off the labels, and off the name
    of the axis of their values, by `role_of`.
    """
    given = roles or {}
    found: dict[str, Look] = {}
    many: dict[str, int] = {}
    for label in dict.fromkeys(chain(*groups)):
        role = given.get(label) or role_of(label, values)
        place = many.get(role, 0)
        many[role] = place + 1
        dashes = _DASHES[place % len(_DASHES)]
        if place == 0:
            dashes = _FIRST_DASHES.get(role, dashes)
        width = _WIDTHS.get(role, 1.5) if place == 0 else 1.5
        found[label] = Look(ROLES[role], dashes, width, _TINTS[place % len(_TINTS)])
    return found


def numbers(values: Any) -> np.ndarray:
    """Return tensors and lists as a numpy array on the CPU."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def set_titles(
    axes: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "", beside: str = ""
) -> None:
    """Name a panel and its axes: all at its upper left, but the x axis at its lower right.

    `beside` is the `ylabel` of a panel beside this one, so that the two titles are equally high.
    """
    axes.set_xlabel(xlabel, loc="right")
    axes.set_ylabel(wrapped(ylabel, 46 if is_narrow() else 90), rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(0.0, 1.015)
    above = wrapped(ylabel or beside, 46 if is_narrow() else 90)
    lines = above.count("\n") + 1 if above else 0
    text = wrapped(title, 40 if is_narrow() else 90)  # bold letters are wide
    axes.set_title(text, pad=6 + 12 * lines, loc="left")
    if ylabel and not title:
        # The layout measures letters a little lower than browsers draw them. A title keeps room
        # enough, and an empty one counts for nothing.
        axes.set_title("\N{NO-BREAK SPACE}", pad=3 + 12 * lines, fontsize=1, loc="left")


def wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most so many characters, broken at spaces.

    No line begins with a bare number, such as that of a seed.
    """
    lines = [""]
    for word in re.split(r" (?!\d+(?: |$))", text):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


class PowerFormatter(Formatter):
    """Ticks of a log axis: 0.01 to 100 as they are, others as powers of ten in Unicode."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick; nothing between the powers."""
        if x <= 0 or not np.isfinite(x):
            return f"{x:g}".replace("-", "−")
        exponent = np.log10(x)
        if abs(exponent - round(exponent)) > 1e-6:
            return ""
        if -2 <= round(exponent) <= 3:
            return f"{x:g}"
        return power_of_ten(round(exponent))


class BetweenPowers(LogFormatter):
    """Ticks between the powers where a log axis spans little more than a decade: 0.6, 6 × 10⁻⁵.

    Which of them are labelled is matplotlib's choice.
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick, or nothing."""
        if x <= 0 or not super().__call__(x, pos):
            return ""
        factor, exponent = f"{x:.0e}".split("e")
        if -3 <= int(exponent) <= 3:
            return f"{float(f'{x:.0e}'):g}"
        return f"{factor} × {power_of_ten(int(exponent))}"


def set_scales(axes: Axes, *, xscale: str = "linear", yscale: str = "linear") -> None:
    """Set the scales, with five or so plain ticks on each."""
    axes.set(xscale=xscale, yscale=yscale)
    for axis, scale in ((axes.xaxis, xscale), (axes.yaxis, yscale)):
        if scale == "log":
            axis.set_major_formatter(PowerFormatter())
            axis.set_minor_formatter(BetweenPowers())


def set_ticks_at(axes: Axes, values: np.ndarray) -> None:
    """Label the x axis at the few values that were taken, unless they are many or tiny."""
    sizes = np.unique(values)
    if len(sizes) <= 6 and sizes[0] >= 1e-4:
        axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes])
        axes.xaxis.set_minor_formatter(FixedFormatter([]))


def _thin_ticks(axes: Axes) -> None:
    """Leave out labels of the x axis that come too near to others: there is no room for all."""
    low, high = sorted(axes.get_xlim())
    kept: list[Bbox] = []
    for minor in (False, True):
        ticks = axes.xaxis.get_minor_ticks() if minor else axes.xaxis.get_major_ticks()
        found = [
            (place, tick.label1)
            for place, tick in zip(axes.xaxis.get_ticklocs(minor=minor), ticks, strict=False)
            if low <= place <= high and tick.label1.get_visible() and tick.label1.get_text()
        ]
        boxes = [label.get_window_extent().padded(3) for _, label in found]
        even = not minor and axes.get_xscale() == "linear"
        step = next(n for n in range(1, len(found) + 2) if not even or _clear(boxes[::n]))
        texts = ["" for _ in found]
        zero = next((i for i, (place, _) in enumerate(found) if place == 0), 0)
        for i in range(zero % step, len(found), step):
            if _clear([*kept, boxes[i]]):
                kept.append(boxes[i])
                texts[i] = found[i][1].get_text()
        if found and "" in texts:
            places = FixedLocator([place for place, _ in found])
            if minor:
                axes.xaxis.set_minor_locator(places)
                axes.xaxis.set_minor_formatter(FixedFormatter(texts))
            else:
                axes.xaxis.set_major_locator(places)
                axes.xaxis.set_major_formatter(FixedFormatter(texts))


def _clear(boxes: list[Bbox]) -> bool:
    return not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def name_lines(figure: Figure) -> None:
    """Name the lines: at their right ends where there is room, else in a legend below.

    On a phone, with several columns of panels, or with more than six lines in a panel, names would
    run into each other at the ends.
    """
    panels = [axes for axes in figure.axes if axes.get_legend_handles_labels()[1]]
    labelled = [len(axes.get_legend_handles_labels()[1]) for axes in panels]
    if len({text for axes in panels for text in axes.get_legend_handles_labels()[1]}) < 2:
        return
    columns = {round(axes.get_position().x0, 2) for axes in panels}
    if is_narrow() or len(columns) > 1 or max(labelled) > 6:
        legend_below(figure)
    else:
        _name_ends(figure, panels)


def _name_ends(figure: Figure, panels: list[Axes]) -> None:
    """Write each line's name beside its right end, pushed apart so that none covers another.

    Names of lines that end together stand as the lines come in: from above, the upper one. From an
    end far from the edge a dotted line leads to the name.
    """
    figure.draw_without_rendering()
    line_height = 15 * PX * figure.dpi
    for axes in panels:
        (left, low), (right, high) = axes.transAxes.transform([(0, 0), (1, 1)])
        across = np.linspace(left, right, 101)
        rows = []
        for line in axes.get_lines():
            label, colour = str(line.get_label()), str(line.get_color())
            points = np.column_stack([np.asarray(data, dtype=float) for data in line.get_data()])
            points = points[np.isfinite(points).all(axis=1)]
            if not label.startswith("_") and len(points):
                points = axes.transData.transform(points)
                x, y = points[np.argsort(points[:, 0], kind="stable")].T
                height = np.average(np.interp(across, x, y), weights=np.arange(1, 102))
                rows.append((y[-1], height, x[-1], wrapped(label, 20), colour))
        rows.sort()
        ends = [row[0] for row in rows]
        apart = np.diff(ends, prepend=ends[:1]) > line_height / 3
        together = zip(np.cumsum(apart), rows, strict=True)
        rows = [row for _, row in sorted(together, key=lambda pair: (pair[0], pair[1][1]))]
        # A name of several lines keeps away from the next, or it would be read as part of it.
        breaks = [text.count("\n") for *_, text, _ in rows]
        halves = [line_height * (count + 1 + min(count, 1) / 3) / 2 for count in breaks]
        places = _apart([np.clip(row[0], low, high) for row in rows], halves)
        to_fraction = axes.transAxes.inverted().transform
        for place, (y, _, x, text, colour) in zip(places, rows, strict=True):
            axes.annotate(
                text,
                (1, to_fraction((0, place))[1]),
                (6, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                va="center",
                color=colour,
                annotation_clip=False,
            )
            if right - x > 0.1 * (right - left) and low <= y <= high:
                lead = to_fraction([(x, y), (right, y)])
                look = {"colors": colour, "linewidths": 0.7, "linestyles": ":"}
                leader = LineCollection([lead], transform=axes.transAxes, **look)
                axes.add_collection(leader, autolim=False)


def _apart(places: list[float], halves: list[float]) -> list[float]:
    """Move rising places apart until each keeps its half height from its neighbours."""
    moved = list(places)
    for _ in range(200):
        for i in range(len(moved) - 1):
            short = halves[i] + halves[i + 1] - (moved[i + 1] - moved[i])
            if short > 0:
                moved[i] -= short / 2
                moved[i + 1] += short / 2
    return moved


def legend_below(figure: Figure) -> None:
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
    width = 0.65 + 0.075 * max(map(len, handles))  # of a column, in inches
    columns = max(1, min(len(handles), int(figure.get_figwidth() / width)))
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.2 * -(-len(handles) // columns))
    # A wrapped name is as wide as the phone, and no wider.
    names = [wrapped(text, 44) for text in handles]
    figure.legend(handles.values(), names, loc="outside lower center", ncols=columns)


def _rounded(tag: str) -> str:
    """Return a tag of SVG with lengths to a hundredth of a point, and paths to a tenth.

    Only tags are rounded: a number in a text is what the figure says.
    """
    rounded = re.sub(r"(\d+\.\d\d)\d+", r"\1", tag)
    return re.sub(r' d="([^"]*)"', lambda path: f' d="{_short(path[1])}"', rounded)


def _short(path: str) -> str:
    rounded = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", path)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded.replace("\n", " ")).strip()


def svg(figure: Figure) -> str:
    """Return a figure as SVG whose size is in pixels, whose text is text, and that is small.

    Words have a halo in the page's colour, so that no line cuts them.
    """
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"\n\s+", "\n", text)
    width, height = (round(size / PX) for size in figure.get_size_inches())
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', rf'\1 height="{height}"', text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', rf'\1 width="{width}"', text, count=1)
    text = re.sub(r"<[^>]*>", lambda tag: _rounded(tag[0]), text)
    halo = f"text{{paint-order:stroke;stroke:{PAPER};stroke-width:2.5px;stroke-linejoin:round}}"
    text = text.replace("</style>", halo + "</style>", 1)
    return re.sub(r"'?DejaVu Sans'?(, [^;\"]*)?", "system-ui, sans-serif", text)
