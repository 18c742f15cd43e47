"""Numbers as a reader wants them, in texts and in figures: powers of ten, no e-notation."""

from __future__ import annotations

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import SupportsFloat

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


# Code between backquotes or in tags, which stays, or a number in e-notation.
_E_NOTATION = re.compile(
    r"(`[^`]*`|<[^>]*>)|(?<![\w.])([-−]?)(\d+(?:\.\d+)?)e([+-]?\d+)(?!\w|\.\d)"
)


def power_of_ten(exponent: int) -> str:
    """Return a power of ten in Unicode: 10⁻⁵."""
    return "10" + str(exponent).translate(_RAISED)


def without_e_notation(text: str) -> str:
    """Return a text, in Markdown or HTML, with its numbers in e-notation as a reader writes them.

    Examples
    --------
    >>> without_e_notation("8.6e-04 of 1e+06, by `-p rtol 1e-4`. About 3e+04.")
    '8.6 × 10⁻⁴ of 10⁶, by `-p rtol 1e-4`. About 3 × 10⁴.'
    """

    def written(found: re.Match[str]) -> str:
        code, sign, mantissa, exponent = found.groups()
        if code is not None:
            return code
        power = power_of_ten(int(exponent))
        factor = "" if float(mantissa) == 1 and "." not in mantissa else f"{mantissa} × "
        return f"{'−' if sign else ''}{factor}{power}"

    return _E_NOTATION.sub(written, text)


def plain(value: SupportsFloat, digits: int = 2) -> str:
    """Return a number with so many significant digits, as 0.0012, 35 000 or 1.2 × 10⁻⁵.

    Numbers below 0.001 or from a million on are written with a power of ten.

    Examples
    --------
    >>> plain(0.00123), plain(1.23e-5), plain(345.6, 3), plain(0)
    ('0.0012', '1.2 × 10⁻⁵', '346', '0')

    Raises
    ------
    ValueError
        If digits < 1.
    """
    if digits < 1:
        raise ValueError(f"digits = {digits}: must be at least 1")
    number = float(value)
    if number == 0 or not math.isfinite(number):
        return {0: "0", math.inf: "∞", -math.inf: "−∞"}.get(number, "no number")
    mantissa, exponent = f"{abs(number):.{digits - 1}e}".split("e")
    power, sign = int(exponent), "−" if number < 0 else ""
    if -3 <= power < 6:
        fixed = f"{float(f'{mantissa}e{power}'):,.{max(0, digits - 1 - power)}f}"
        return sign + fixed.replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{sign}{mantissa} × {power_of_ten(power)}"


def rounded_up(number: float, digits: int = 7) -> Decimal:
    """Return the least number of so many significant decimal digits that is not below `number`.

    >>> print(rounded_up(0.12345, 3), rounded_up(-0.12345, 3))
    0.124 -0.123
    """
    return _quantized(number, digits, ROUND_CEILING)


def rounded_down(number: float, digits: int = 7) -> Decimal:
    """Return the largest number of so many significant decimal digits that is not above `number`.

    >>> print(rounded_down(0.12345, 3))
    0.123
    """
    return _quantized(number, digits, ROUND_FLOOR)


def outward(low: float, high: float, digits: int = 7) -> str:
    """Write an interval in decimals that contains the one given: its ends are rounded outward.

    >>> outward(0.00099877401, 0.00099877709)
    '[0.0009987740, 0.0009987771]'
    """
    return f"[{rounded_down(low, digits):f}, {rounded_up(high, digits):f}]"


def _quantized(number: float, digits: int, way: str) -> Decimal:
    unit = Decimal(1).scaleb(Decimal(number).adjusted() - digits + 1)
    return Decimal(number).quantize(unit, way)
