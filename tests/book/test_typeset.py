"""What a chapter's code has written, as the page has it."""

import pytest

from gfgd.book.typeset import as_read


@pytest.mark.parametrize("text", ["| a | 1.2 × 10⁻⁵ |", "| a | 1.2e-5 |"])
def test_a_number_in_a_narrow_column_keeps_to_one_line(text):
    assert as_read(text) == "| a | 1.2\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁵ |"


@pytest.mark.parametrize("text", ["images of 28 × 28 pixels", "a 3 × 10 matrix", "(× 10⁴)"])
def test_where_no_number_is_a_line_may_end(text):
    assert as_read(text) == text
