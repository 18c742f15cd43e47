"""Claims: what a chapter asserts, measured in the run that the reader sees.

A claim never raises when it does not hold, because a reader's own parameters may well break it:
it shows its verdict, and leaves a structured output behind. `gfgd book` gathers those outputs and
fails the build where one does not hold.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from typing import Any, Literal, get_args

from IPython.display import Markdown, display

from gfgd.typography import plain

MIME_TYPE = "application/vnd.gfgd.claim+json"
RECORD_TYPE = "application/vnd.gfgd.record+json"
Kind = Literal["theorem", "verified", "check", "measured"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANINGS: dict[Kind, str] = {
    "theorem": "a statement with its proof; the number tests the code",
    "verified": "computed with every error enclosed",
    "check": "an identity, or a solver against a known answer",
    "measured": "an observation on the networks, data and seeds named",
}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Claim:
    """A statement, the number measured for it, and the criterion that the number must meet.

    Exactly one of `below` (measured < below), `above` (measured > above) and `between`
    (low <= measured <= high) is given. `kind` is one of `KINDS`; `MEANINGS` says what each is.

    Raises
    ------
    ValueError
        For a name that is not lower-case words joined by hyphens, an unknown kind, a measured
        value that is no number, or anything but exactly one usable criterion.
    """

    name: str
    statement: str
    measured: float
    below: float | None = None
    above: float | None = None
    between: tuple[float, float] | None = None
    slide: str = ""
    kind: Kind = "measured"
    dataset: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r}: must be one of {KINDS}")
        object.__setattr__(self, "measured", _number("measured", self.measured))
        self._check_criterion()

    def _check_criterion(self) -> None:
        given = [key for key in ("below", "above", "between") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"claim {self.name!r} has the criteria {given}: give exactly one of below, above "
                "and between"
            )
        if self.between is None:
            (key,) = given
            bounds = (_number(key, getattr(self, key)),)
            object.__setattr__(self, key, bounds[0])
        else:
            bounds = tuple(_number("between", bound) for bound in self.between)
            object.__setattr__(self, "between", bounds)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"between = {self.between!r}: must be (low, high), low <= high")
        if any(math.isnan(bound) for bound in bounds):
            raise ValueError(f"{given[0]} = {bounds!r}: must not be NaN")

    @property
    def holds(self) -> bool:
        """Whether the measured value meets the criterion; NaN never does."""
        if self.below is not None:
            return self.measured < self.below
        if self.above is not None:
            return self.measured > self.above
        assert self.between is not None
        return self.between[0] <= self.measured <= self.between[1]

    @property
    def criterion(self) -> str:
        """The criterion in words, such as ``below 0.02``."""
        if self.below is not None:
            return f"below {self.below:.4g}"
        if self.above is not None:
            return f"above {self.above:.4g}"
        assert self.between is not None
        return f"between {self.between[0]:.4g} and {self.between[1]:.4g}"

    @property
    def about(self) -> str:
        """The kind, the slide and the dataset, as far as they are named."""
        return ", ".join(filter(None, [self.kind, self.slide, self.dataset]))

    @property
    def verdict(self) -> str:
        """``holds`` or ``does not hold``."""
        return "holds" if self.holds else "does not hold"

    def to_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON; a number that is not finite becomes its name."""
        fields = {key: _jsonable(value) for key, value in asdict(self).items()}
        return fields | {"criterion": self.criterion, "holds": self.holds}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Claim":
        """Return the claim that `to_json` wrote."""
        known = {key: fields[key] for key in cls.__dataclass_fields__ if key in fields}
        return cls(**known)

    def _ipython_display_(self) -> None:
        """Show nothing: `claim` has shown it, and it may be the last expression of a cell."""

    def to_html(self) -> str:
        """Return the box with the verdict."""
        mark, colour = ("✓", "#2e8b57") if self.holds else ("✗", "#d0402b")
        return (
            f'<div class="gfgd-claim" id="claim-{self.name}" '
            f'style="border-left: 0.4em solid {colour}; padding: 0.4em 0.8em; margin: 0.5em 0">'
            f"<strong>{mark} {self.verdict}</strong>: {escape(self.statement)}<br>"
            f"<small>measured {self.measured:.4g}, to be {self.criterion} · "
            f"<code>{self.name}</code> · {escape(self.about)}</small></div>"
        )

    def __str__(self) -> str:
        mark = "✓" if self.holds else "✗"
        return (
            f"{mark} {self.name} {self.verdict}: {self.statement} "
            f"(measured {self.measured:.4g}, to be {self.criterion})"
        )


def claim(
    name: str,
    statement: str,
    *,
    measured: float,
    below: float | None = None,
    above: float | None = None,
    between: tuple[float, float] | None = None,
    slide: str,
    kind: Kind = "measured",
    dataset: str | None = None,
) -> Claim:
    """Show a claim with its verdict, leave it as a structured output, and return it.

    Parameters
    ----------
    name
        Lower-case words joined by hyphens; unique in the book.
    statement
        One plain sentence (no markup).
    measured
        The number that this run found; anything that ``float()`` takes.
    below, above, between
        The criterion: exactly one of them. ``below`` and ``above`` are strict, ``between``
        includes both ends.
    slide
        The slide of the talk that says so.
    kind
        "theorem": a statement with its proof, where the number tests the code; "verified": computed
        with every error enclosed; "check": an identity, or a solver against a known answer;
        "measured": an observation, on three seeds at least where a seed matters.
    dataset
        The dataset that the number comes from, where there is one.

    Raises
    ------
    ValueError
        For a malformed claim. Never for one that does not hold.
    """
    stated = Claim(name, statement, measured, below, above, between, slide, kind, dataset)
    bundle = {
        MIME_TYPE: stated.to_json(),
        "text/html": stated.to_html(),
        "text/plain": str(stated),
    }
    display(bundle, raw=True)
    return stated


def claims_on(slide: str) -> Callable[..., Claim]:
    """Return :func:`claim` for a chapter that is on one slide of the talk: without `slide`.

    A claim that is on another slide still says so.
    """
    return partial(claim, slide=slide)


def maximum(*numbers: Any, **options: Any) -> Any:
    """Return what ``max`` returns, but NaN if one of the numbers is: no claim may hold without it.

    Python's ``max(0.1, nan)`` is 0.1, and ``max(nan, 0.1)`` is NaN.
    """
    return _extreme(max, numbers, options)


def minimum(*numbers: Any, **options: Any) -> Any:
    """Return what ``min`` returns, but NaN if one of the numbers is; see :func:`maximum`."""
    return _extreme(min, numbers, options)


def record(name: str, value: float) -> None:
    """Show a number that is no claim, and leave it as a structured output for sweeps to gather.

    Parameters
    ----------
    name
        Lower-case words joined by hyphens. A name recorded again in the same run replaces its
        value.
    value
        Anything that ``float()`` takes.

    Raises
    ------
    ValueError
        For a malformed name, or a value that is no number.
    """
    _check_name(name)
    number = _number("value", value)
    bundle = {
        RECORD_TYPE: {"name": name, "value": _jsonable(number)},
        "text/plain": f"{name}: {number:.6g}",
    }
    display(bundle, raw=True)


def report(markdown_text: str) -> None:
    """Show Markdown text, so that the numbers in a chapter's prose come from the run itself."""
    display(Markdown(markdown_text))


def table(text: str, heads: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """Show a table below a text, in Markdown.

    Parameters
    ----------
    text
        What the table says; empty for none.
    heads
        The heading of each column.
    rows
        Their cells. Text stays as it is, a bar in it too; a number is written by `plain`, whole
        ones in full.

    Raises
    ------
    ValueError
        For a row that has not one cell for each heading.
    """
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(
                f"row {list(row)}: has {len(row)} cells, and there are {len(heads)} heads"
            )
        lines.append(_line([_cell(cell) for cell in row]))
    report("\n".join([text, "", *lines] if text else lines))


#: A bar that would end a cell.
_BAR = re.compile(r"(?<!\\)\|")


def _line(cells: Sequence[str]) -> str:
    bars = (_BAR.sub(r"\\|", cell) for cell in cells)
    return f"| {' | '.join(bars)} |"


def _cell(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else plain(cell)


def _extreme(pick: Callable[..., Any], numbers: Sequence[Any], options: dict[str, Any]) -> Any:
    several = list(numbers[0]) if len(numbers) == 1 else list(numbers)
    if any(math.isnan(number) for number in several):
        return math.nan
    return pick(several, **options)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name = {name!r}: must be lower-case words joined by hyphens, "
            "such as 'flow-matches-descent'"
        )


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} = {value!r}: must be a single number") from None


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
