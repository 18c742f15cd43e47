"""What a chapter's code has written, as the page has it."""

import pytest

from gfgd.book.pages.typeset import as_read


@pytest.mark.parametrize("text", ["| a | 1.2 × 10⁻⁵ |", "| a | 1.2e-5 |"])
def test_a_number_in_a_narrow_column_keeps_to_one_line(text):
    assert as_read(text) == "| a | 1.2\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁵ |"


def test_a_sign_keeps_its_number_and_a_number_its_percent_sign():
    text = as_read("η₀ = 0.001 of T = −5, or 3.2 % where f(x) = y, `a = 3`, $b = 3$, step_size = 3")
    assert text.replace("\N{NO-BREAK SPACE}", "~") == (
        "η₀~=~0.001 of T~=~−5, or 3.2~% where f(x) = y, `a = 3`, $b = 3$, step_size = 3"
    )


def test_per_cents_are_spelt_in_one_way():
    written = as_read("0.037%, 1 % of 5%.")
    assert written.replace("\N{NO-BREAK SPACE}", "~") == "0.037~%, 1~% of 5~%."
    assert as_read("`width: 50%`, <i style='width: 50%'>") == "`width: 50%`, <i style='width: 50%'>"


def test_no_line_ends_within_a_fraction():
    assert as_read("2/λmax, and/or 1/2 of η₀/2, see 3/x") == (
        "2/\N{WORD JOINER}λ<sub>max</sub>, and/or 1/2 of η₀/2, see 3/x"
    )


@pytest.mark.parametrize("text", ["images of 28 × 28 pixels", "a 3 × 10 matrix", "(× 10⁴)"])
def test_where_no_number_is_a_line_may_end(text):
    assert as_read(text) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "60,000, of -0.5 or (-3, 1,234,567).",
            "60\u202f000, of −0.5 or (−3, 1\u202f234\u202f567).",
        ),
        (
            "|λmin| ≤ 2/λmax, λ_max; `λmin`, $λmin$ and λminus",
            "|λ<sub>min</sub>| ≤ 2/\u2060λ<sub>max</sub>, λ<sub>max</sub>; "
            "`λmin`, $λmin$ and λminus",
        ),
        ("`-p rtol -1` and `1,000`", "`-p rtol -1` and `1,000`"),
        ("$x-1$, <a href='x -1'>2-3</a>", "$x-1$, <a href='x -1'>2-3</a>"),
        ("21007 of 1/10000 in 2022", "21\u202f007 of 1/10\u202f000 in 2022"),
        ("0.12345, 12345.6, a12345, `12345`", "0.12345, 12345.6, a12345, `12345`"),
        ("2026-11-27, 1e-05, 3,20 and 1.5,300", "2026-11-27, 10⁻⁵, 3,20 and 1.5,300"),
    ],
)
def test_numbers_look_alike_wherever_they_come_from(text, read):
    assert as_read(text) == read
