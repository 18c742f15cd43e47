import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gfgd.book.claims import Claim
from gfgd.book.errors import BookError
from gfgd.book.front_page import chapters_list, filled, hero
from gfgd.book.pages import Gathered


def gathered(measured, below=1.0):
    claim = Claim("a-claim", "s", measured, below=below)
    return [Gathered(claim, "chapters/01_a", "A", "default", None)]


def test_numbers_come_from_the_claims():
    text = "It is [[claim:a-claim|.3g]], or [[claim:a-claim|.1e]]."
    assert filled(text, gathered(0.01234), complete=True) == "It is 0.0123, or 1.2 × 10⁻²."


@pytest.mark.parametrize("claims", [[], gathered(2.0)])
def test_what_was_not_shown_is_not_quoted(claims):
    with pytest.raises(BookError, match="'a-claim'"):
        filled("[[claim:a-claim|g]]", claims, complete=True)
    assert filled("[[claim:a-claim|g]]", claims, complete=False) == "–"


def test_chapters_have_their_answer_or_else_their_question(tmp_path):
    opening = new_markdown_cell("# A title\n\n**Question.** Is it\nso? Slide: *S*.\n\nText.")
    answer = new_code_cell("report(...)", metadata={"tags": ["answer"]})
    answer.outputs = [
        new_output("display_data", data={"text/markdown": "**Answer.** Yes, by 0.5."})
    ]
    first, second = new_notebook(cells=[opening]), new_notebook(cells=[opening, answer])
    lines = chapters_list({"chapters/01_a": first, "chapters/02_b": second}).splitlines()
    assert lines[-2:] == [
        "- 1\\. {doc}`A title </chapters/01_a>`. Is it so?",
        "- 2\\. {doc}`A title </chapters/02_b>`. Yes, by 0.5.",
    ]


def test_the_picture_that_opens_the_book_asks_no_other_host():
    assert "gfgd-live" in hero() and "http" not in hero()
