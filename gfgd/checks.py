"""Checks of a user's arguments: one line each, one clear error each.

Every check takes its values by keyword, so that the error can name the argument::

    checks.positive(step_size=step_size, horizon=horizon)

and raises ``ValueError`` with the argument, its value and the remedy.
"""

import math
from collections.abc import Collection
from difflib import get_close_matches
from numbers import Integral


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
