"""The generated pages as Markdown and as HTML parts: what a reader must find on them."""

import math

from bs4 import BeautifulSoup

from gfgd.book import Claim
from gfgd.book.pages.generated import Gathered, what_holds


def gathered(name, measured=0.5, *, chapter="chapters/04_bowls", slide="Convexity", dataset=None):
    claim = Claim(name, "1 < 2 & so on.", measured, below=1, slide=slide, kind="theorem")
    return Gathered(claim, chapter, "Bowls | and *rims*", "quick", dataset)


def items(page, start=""):
    """Return the claims on a page from a heading on, each as one line of text."""
    soup = BeautifulSoup(page[page.index(start) :], "html.parser")
    return [" ".join(item.get_text().split()) for item in soup.select(".gfgd-claims li")]


def test_a_claim_shows_all_that_is_known_of_it():
    page = what_holds([gathered("a-claim", dataset="digits")])
    assert items(page) == [
        "✓ holds: 1 < 2 & so on. 0.5measured 0.5, to be below 1 · "
        "theorem · digits · preset quick · chapter 4 · a-claim"
    ]
    assert 'href="chapters/04_bowls.html#claim-a-claim"' in page
    assert page.splitlines()[2].startswith("**1 claims: 1 hold, 0 do not;** 1 theorem. Checked")
    assert "What does not hold" not in page


def test_what_does_not_hold_comes_first_and_stands_out_in_words():
    page = what_holds([gathered("a-claim"), gathered("b-claim", 1), gathered("c-claim", math.nan)])
    assert "3 claims: 1 hold, 2 do not" in page
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## What does not hold", "## Convexity"]
    lines = items(page)
    assert len(lines) == 5, "those that do not hold stand in their chapters, too"
    assert [line.startswith("✗ does not hold") for line in lines] == [True, True, False, True, True]
    assert page.count('class="gfgd-claim gfgd-failed" open') == 4


def test_claims_stand_by_slide_then_by_chapter():
    page = what_holds(
        [
            gathered("a-claim"),
            gathered("b-claim", slide=""),
            gathered("c-claim", chapter="chapters/11_more"),
        ]
    )
    headings = [line for line in page.splitlines() if line.startswith("#")]
    bowls = r"Bowls \| and \*rims\*"
    assert headings == [
        "# What holds",
        "## Convexity",
        f"### {{doc}}`Chapter 4 <chapters/04_bowls>`: {bowls}",
        f"### {{doc}}`Chapter 11 <chapters/11_more>`: {bowls}",
        "## Beyond the slides",
        f"### {{doc}}`Chapter 4 <chapters/04_bowls>`: {bowls}",
    ]
    assert [line.split()[-1] for line in items(page)] == ["a-claim", "c-claim", "b-claim"]
