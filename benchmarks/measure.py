"""Timing side by side, and tables of what was found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


@dataclass(frozen=True)
class Measured:
    """One number of the summary, with its quartiles over the rounds and the number to reach.

    `low` and `high` equal `value` where it is a count, which does not vary.
    """

    name: str
    value: float
    low: float
    high: float
    at_least: float | None = None
    at_most: float | None = None

    @classmethod
    def count(cls, name: str, value: float, **reach: float | None) -> Measured:
        """Return a number that is the same in each run."""
        return cls(name, value, value, value, **reach)

    @classmethod
    def median(cls, name: str, values: Sequence[float], **reach: float | None) -> Measured:
        """Return the median of one value a round, with its quartiles."""
        return cls(name, *quartiles(values), **reach)

    @property
    def reached(self) -> bool | None:
        """Whether the number to reach is reached; None where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None


@dataclass(frozen=True)
class Table:
    """What a part found: rows of text under a heading, and numbers for the summary."""

    title: str
    heading: tuple[str, ...]
    rows: list[tuple[str, ...]]
    measured: list[Measured]
    notes: tuple[str, ...] = ()


def alternate(
    rounds: int, *functions: Callable[[], object], title: str = ""
) -> list[tuple[float, ...]]:
    """Return the seconds of each function in each round, after one round to warm up.

    The functions take turns, so that a machine that is busy for a while slows all of them down and
    ratios within a round stay what they are.
    """
    taken = []
    for _ in shown(range(rounds + 1), title):
        taken.append(tuple(seconds(function) for function in functions))
    return list(zip(*taken[1:], strict=True))


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    before = time.perf_counter()
    function()
    return time.perf_counter() - before


def ratios(many: Sequence[float], few: Sequence[float], factor: float = 1.0) -> list[float]:
    """Return factor · many/few round by round."""
    return [factor * a / b for a, b in zip(many, few, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the lower and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def spread(values: Sequence[float]) -> str:
    """Return the median and the quartiles in words."""
    middle, low, high = quartiles(values)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def shown(items: Iterable[Item], title: str) -> Iterable[Item]:
    """Show a progress bar, on a terminal only."""
    return tqdm(items, desc=title, leave=False, disable=None)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines, the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def text(table: Table) -> str:
    """Return a table to print."""
    return "\n".join([table.title, aligned([table.heading, *table.rows]), *table.notes])


def summary(measured: Sequence[Measured]) -> str:
    """Return the table of ratios: what was measured, its quartiles, what is to be reached."""
    verdicts = {True: "yes", False: "NO", None: ""}
    rows = [("ratio", "measured", "quartiles", "to reach", "reached")]
    for one in measured:
        varies = one.low != one.high
        rows.append(
            (
                one.name,
                f"{one.value:.3g}",
                f"{one.low:.3g} to {one.high:.3g}" if varies else "",
                _to_reach(one),
                verdicts[one.reached],
            )
        )
    return aligned(rows)


def _to_reach(one: Measured) -> str:
    if one.at_least is not None:
        return f"≥ {one.at_least:g}"
    return "" if one.at_most is None else f"≤ {one.at_most:g}"
