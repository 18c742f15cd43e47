"""The grid of a sweep: every combination of the values given for some of a chapter's parameters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gfgd.book.errors import ParameterError
from gfgd.book.running.parameters import validate


def grid(
    chapter: Path, axes: Sequence[tuple[str, Sequence[Any]]], fixed: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what to run a chapter with at each point, all of it checked; the last axis is fastest.

    Parameters
    ----------
    chapter
        The notebook.
    axes
        Names of parameters, each with the values that it takes in turn; values may be text.
    fixed
        Values of other parameters, the same at every point. An axis goes before them.

    Raises
    ------
    ParameterError
        If the chapter cannot run with some point, as `parameters.validate` says, or a parameter or
        a value is given twice.
    """
    repeated = [name for name, count in Counter(name for name, _ in axes).items() if count > 1]
    if repeated:
        raise ParameterError(f"{', '.join(repeated)}: given twice; give all its values at once")
    names = [name for name, _ in axes]
    combinations = product(*(values for _, values in axes))
    total = prod(len(values) for _, values in axes)
    points = [
        validate(chapter, dict(fixed) | dict(zip(names, values, strict=True)))
        for values in tqdm(combinations, "checking the points", total, leave=False, delay=2)
    ]
    _refuse_repeated_values(names, points)
    return points


def swept(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters that differ between points, in their order."""
    return [name for name in points[0] if len({repr(point[name]) for point in points}) > 1]


def _refuse_repeated_values(names: list[str], points: list[dict[str, Any]]) -> None:
    """Refuse ``1`` beside ``1.0``, which would be two rows for the same run."""
    found = Counter(repr([point[name] for name in names]) for point in points)
    if len(found) < len(points):
        twice = next(text for text, count in found.items() if count > 1)
        raise ParameterError(f"{', '.join(names)} = {twice[1:-1]}: given twice; give it once")
