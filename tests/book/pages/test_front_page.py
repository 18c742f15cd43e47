import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gfgd import figures
from gfgd.book.claims import Claim
from gfgd.book.errors import BookError
from gfgd.book.pages.front_page import cards, chapters_list, filled, hero
from gfgd.book.pages.generated import Gathered


def gathered(measured, below=1.0):
    claim = Claim("a-claim", "s", measured, below=below)
    return [Gathered(claim, "chapters/01_a", "A", "default", None)]


def test_numbers_come_from_the_claims():
    text = "It is [[claim:a-claim|.3g]], or [[claim:a-claim|.1e]]."
    expected = "It is 0.0123, or 1.2\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻²."
    assert filled(text, gathered(0.01234), complete=True) == expected


@pytest.mark.parametrize("claims", [[], gathered(2.0)])
def test_what_was_not_shown_is_not_quoted(claims):
    with pytest.raises(BookError, match="'a-claim'"):
        filled("[[claim:a-claim|g]]", claims, complete=True)
    assert filled("[[claim:a-claim|g]]", claims, complete=False) == "–"


def answered(text, opening=None):
    answer = new_code_cell("report(...)", metadata={"tags": ["answer"]})
    answer.outputs = [new_output("display_data", data={"text/markdown": text})]
    return new_notebook(cells=[opening or new_markdown_cell("# A"), answer])


def test_chapters_have_their_question_and_their_answer():
    opening = new_markdown_cell(
        "# A title\n\n**Question.** Is it\nso? Slides: *S* and *T*.\n\nText."
    )
    first, second = new_notebook(cells=[opening]), answered("**Answer.** Yes, by 0.5.", opening)
    found = {"chapters/01_a": first, "chapters/02_b": second}
    parts = [("One", ["chapters/01_a"]), ("Two", ["chapters/02_b"]), ("Other", ["api"])]
    text = chapters_list(found, parts)
    assert "**1.** {doc}`A title </chapters/01_a>`. Is it so?\n" in text
    assert "**2.** {doc}`A title </chapters/02_b>`. Is it so? Yes, by 0.5.\n" in text
    assert text.index("**One**") < text.index("01_a") < text.index("**Two**")
    assert "Other" not in text


def drawing():
    figure = figures.curves([1, 2, 3], {"GF": [1, 2, 3], "GD": [1, 2, 2]}, ylabel="distance")
    cell = new_code_cell("figure", metadata={"tags": ["first-screen"]})
    cell.outputs = [new_output("display_data", data=figure._repr_mimebundle_())]
    return new_notebook(cells=[new_markdown_cell("# A title"), cell])


def test_a_chapter_with_a_picture_has_a_thumbnail_without_words():
    text = chapters_list({"chapters/01_a": drawing()}, [("", ["chapters/01_a"])])
    (fence,) = [line for line in text.splitlines() if "<svg" in line]
    assert fence.startswith('  <a href="chapters/01_a.html"')
    assert "var(--gfgd-flow)" in fence and "var(--gfgd-descent)" in fence
    assert "<text" not in fence and "xtick" not in fence and "xmlns" not in fence
    # The two lists of pictures of the page share no id.
    (card,) = cards({"chapters/01_a": drawing()}).values()
    ids = [set(re.findall(r'id="([^"]*)"', html)) for html in (fence, card)]
    assert ids[0] and not ids[0] & ids[1]
    used = re.findall(r"url\(#([^)]*)\)", card)
    assert used and set(used) <= ids[1]


def test_findings_end_with_a_sentence_of_a_dozen_words_or_more():
    notebook = answered("**Answer.** Yes, it does. " + "Word " * 12 + "end. Not this.")
    text = chapters_list({"chapters/01_a": notebook}, [("", ["chapters/01_a"])])
    assert text.rstrip().endswith("Word end.") and "Yes, it does." in text


def test_the_picture_that_opens_the_book_asks_no_other_host():
    assert "gfgd-live" in hero() and "http" not in hero()
