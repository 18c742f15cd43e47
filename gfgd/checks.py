"""Checks of a user's arguments: one line each, one clear error each.

Every check takes its values by keyword, so that the error can name the argument::

    checks.positive(step_size=step_size, horizon=horizon)

and raises ``ValueError`` with the argument, its value and the remedy. :func:`each` applies a check
to the members of lists.
"""

import math
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from numbers import Integral

import torch


def _number(name: str, value: object) -> float:
    """Return `value` as a float, or say that it is no finite number."""
    if isinstance(value, (str, bytes)):  # float() would take it; what follows would not
        raise ValueError(f"{name} = {value!r}: is text, must be a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r}: must be a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value!r}: must be finite")
    return number


def positive(**values: object) -> None:
    """Each value is a finite number > 0."""
    for name, value in values.items():
        if _number(name, value) <= 0:
            raise ValueError(f"{name} = {value!r}: must be greater than 0")


def non_negative(**values: object) -> None:
    """Each value is a finite number >= 0."""
    for name, value in values.items():
        if _number(name, value) < 0:
            raise ValueError(f"{name} = {value!r}: must not be negative")


def at_least(minimum: float, **values: object) -> None:
    """Each value is a finite number >= `minimum`."""
    for name, value in values.items():
        if _number(name, value) < minimum:
            raise ValueError(f"{name} = {value!r}: must be at least {minimum}")


def between(low: float, high: float, **values: object) -> None:
    """Each value is a finite number in the closed interval [low, high]."""
    for name, value in values.items():
        if not low <= _number(name, value) <= high:
            raise ValueError(f"{name} = {value!r}: must lie between {low} and {high}")


def whole(minimum: int = 0, **values: object) -> None:
    """Each value is a whole number >= `minimum`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} = {value!r}: must be a whole number")
        if value < minimum:
            raise ValueError(f"{name} = {value!r}: must be at least {minimum}")


def one_of(allowed: Collection[str], **values: object) -> None:
    """Each value is one of the names in `allowed`."""
    for name, value in values.items():
        if value not in allowed:
            folded = {choice.casefold(): choice for choice in allowed}
            close = get_close_matches(str(value).casefold(), list(folded), n=1)
            hint = f" (did you mean {folded[close[0]]!r}?)" if close else ""
            choices = ", ".join(repr(choice) for choice in allowed)
            raise ValueError(f"{name} = {value!r}: must be one of {choices}{hint}")


def each(check: Callable[..., None], *limits: object, **lists: Sequence[object]) -> None:
    """Each member of each list passes a check: ``each(whole, 1, hidden=hidden)``."""
    for name, values in lists.items():
        check(*limits, **{f"{name}[{i}]": value for i, value in enumerate(values)})


def different(minimum: int, **lists: Sequence[object]) -> None:
    """Each list holds at least `minimum` different values."""
    for name, values in lists.items():
        if len(set(values)) < minimum:
            raise ValueError(f"{name} = {values!r}: give at least {minimum} different values")


def increasing(**lists: Sequence[float]) -> None:
    """Each list is in increasing order, its values all different."""
    for name, values in lists.items():
        if sorted(set(values)) != list(values):
            raise ValueError(f"{name} = {values!r}: must be different and in increasing order")


def same_length(**lists: Sequence[object]) -> None:
    """All lists are of one length, and not empty."""
    if len({len(values) for values in lists.values()}) != 1 or not all(lists.values()):
        named = ", ".join(f"{name} = {values!r}" for name, values in lists.items())
        raise ValueError(f"{named}: give lists of the same length, one entry or more")


def multiple(unit: int, **values: object) -> None:
    """Each value is a whole multiple of `unit`."""
    for name, value in values.items():
        whole(1, **{name: value})
        if value % unit:  # type: ignore[operator]
            raise ValueError(f"{name} = {value!r}: must be a multiple of {unit}")


def device(**values: str) -> None:
    """Each value is "cpu", or "cuda" where PyTorch finds a GPU."""
    one_of(["cpu", "cuda"], **values)
    for name, value in values.items():
        if value == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"{name} = 'cuda': PyTorch finds no GPU here; use 'cpu'")
