"""Proofs are folded, and open by a click, by a link into them, and on paper."""

import pytest
from docutils import nodes

from gfgd.book.pages.proofs import fold_proofs

from ..conftest import HTML
from ..watching import PATIENCE


def page_with(*texts, classes=("proof", "proof")):
    document = nodes.document(None, None)
    for text in texts:
        proof = nodes.admonition("", nodes.paragraph("", text), classes=list(classes))
        document += proof
    return document


def test_a_proof_gets_a_fold_whose_summary_is_its_title():
    page = page_with("Proof. Sum both sides.", "Proof. Induct. Proof. Not this one.")
    fold_proofs(None, page)
    for proof, text in zip(page, ["Sum both sides.", "Induct. Proof. Not this one."], strict=True):
        begin, paragraph, end = proof
        assert begin.astext() == '<details class="gfgd-proof"><summary>Proof</summary>'
        assert paragraph.astext() == text
        assert end.astext() == "</details>"


def test_a_theorem_stays_as_it_is():
    page = page_with("Let f be smooth.", classes=("proof", "theorem"))
    fold_proofs(None, page)
    assert len(page[0]) == 1 and page[0].astext() == "Let f be smooth."


def test_a_proof_in_a_fold_gets_no_other():
    page = page_with("Proof. Sum.")
    fold = nodes.admonition("", page[0].deepcopy(), classes=["dropdown"])
    page.replace(page[0], fold)
    fold_proofs(None, page)
    assert len(fold[0]) == 1


@pytest.mark.browser
@pytest.mark.book
def test_a_proof_opens_by_keyboard_by_a_link_and_on_paper(browser, html):
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto((HTML / "chapters" / "05_rough_convexity.html").as_uri())
    folds = page.locator("details.gfgd-proof")
    assert folds.count() > 5
    first = folds.first
    assert not first.locator("p").first.is_visible()
    first.locator("summary").press("Enter")
    assert first.locator("p").first.is_visible()
    inside = page.evaluate(
        "[...document.querySelectorAll('details.gfgd-proof:not([open]) [id]')][0]?.id"
    )
    if inside:
        page.evaluate("id => (location.hash = id)", inside)
        page.wait_for_function(
            "id => document.getElementById(id).closest('details').open", arg=inside
        )
    page.emulate_media(media="print")
    heights = folds.evaluate_all("all => all.map(fold => fold.getBoundingClientRect().height)")
    assert min(heights) > 40  # closed ones, too, have their content on paper
    context.close()
