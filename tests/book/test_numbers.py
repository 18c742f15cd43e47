"""Numbers in text: rounded right, and never in e-notation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfgd.book import plain

GAP = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0123, 2, "0.012"),
        (0.000999, 2, "0.0010"),
        (-0.000123, 2, "−1.2 × 10⁻⁴"),
        (9.99, 2, "10"),
        (35_000, 2, f"35{GAP}000"),
        (1_234_567, 3, "1.23 × 10⁶"),
        (1.0, 4, "1.000"),
        (5e-300, 1, "5 × 10⁻³⁰⁰"),
        (0, 3, "0"),
        (math.inf, 2, "∞"),
        (math.nan, 2, "no number"),
    ],
)
def test_known_numbers(value, digits, text):
    assert plain(value, digits) == text


@given(st.floats(-1e300, 1e300, allow_nan=False), st.integers(1, 8))
def test_never_in_e_notation_and_near_the_number(value, digits):
    text = plain(value, digits)
    assert "e" not in text
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", GAP)
    head, _, power = text.translate(raised).partition(" × 10")
    read = float(f"{head}e{power or 0}")
    # One unit of the last digit, and where numbers are subnormal one of those.
    assert abs(read - value) <= abs(value) * 10.0 ** (1 - digits) + 5e-324


def test_digits_are_at_least_one():
    with pytest.raises(ValueError, match="digits = 0"):
        plain(1.0, 0)
