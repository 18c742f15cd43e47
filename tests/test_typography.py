"""Numbers in text: rounded right, and never in e-notation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfgd.book import plain
from gfgd.typography import outward, rounded_down, rounded_up

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


@given(st.floats(-1e6, 1e6), st.integers(1, 12))
def test_rounding_up_and_down_encloses_within_one_unit(number, digits):
    low, high = rounded_down(number, digits), rounded_up(number, digits)
    assert low <= number <= high
    assert float(high - low) <= 10.0 ** (1 - digits) * max(abs(number), 1e-300) * (1 + 1e-9)
    assert number == 0 or len(low.as_tuple().digits) <= digits + 1


def test_an_interval_is_written_outward():
    assert outward(1.2345, 1.2346, 3) == "[1.23, 1.24]"
    assert outward(-2e-9, 5e-9, 1) == "[-0.000000003, 0.000000006]"  # neither is a float
