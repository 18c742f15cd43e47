from html.parser import HTMLParser

import pytest

from gfgd.book.claims import Claim
from gfgd.book.pages.boxes import claim_in_a_list, claim_line


class Folded(HTMLParser):
    """Collects what stands in a summary and what stands outside of it."""

    def __init__(self, html):
        super().__init__()
        self.shown, self.folded, self.inside = "", "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.inside |= tag == "summary"

    def handle_endtag(self, tag):
        self.inside &= tag != "summary"

    def handle_data(self, data):
        if self.inside:
            self.shown += data
        else:
            self.folded += data


@pytest.mark.parametrize("below", [1.0, 0.1])
def test_a_claim_is_a_line_with_its_number_and_the_rest_is_folded(below):
    claim = Claim("a-claim", "x < y holds.", 0.5, below=below, slide="S", kind="check")
    html = claim_line(claim)
    page = Folded(html)
    assert "x < y holds." in page.shown and "0.5" in page.shown
    assert claim.verdict in page.shown
    assert "below" not in page.shown and "a-claim" not in page.shown
    assert f"to be below {below:g}" in page.folded
    assert "check, S" in page.folded and "a-claim" in page.folded
    assert 'id="claim-a-claim"' in html


def test_a_claim_that_fails_stands_open():
    assert " open" not in claim_line(Claim("a", "s", 0.5, below=1.0))
    assert " open" in claim_line(Claim("a", "s", 1.5, below=1.0))


@pytest.mark.parametrize(
    ("statement", "shown", "folded"),
    [
        ("It holds (largest ratio).", "It holds.", "largest ratio"),
        ("f(x) holds (ratio (of f(x)), x < 1).", "f(x) holds.", "ratio (of f(x)), x < 1"),
        ("It holds (at first) later.", "It holds (at first) later.", ""),
        ("It holds (at first), too (later).", "It holds (at first), too.", "later"),
        ("As of Smith et al. (ratio).", "As of Smith et al.", "ratio"),
        ("It holds.", "It holds.", ""),
        ("It is in [0, 1).", "It is in [0, 1).", ""),
    ],
)
def test_in_a_list_how_it_was_measured_is_folded(statement, shown, folded):
    claim = Claim("a-claim", statement, 0.5, below=1.0)
    html = claim_in_a_list(claim, "about", "a.html#claim-a-claim")
    page = Folded(html)
    assert page.shown.split(": ", 1)[1] == f"{shown} 0.5"
    assert page.folded.startswith(f"{folded} · measured" if folded else "measured")
    assert '<a href="a.html#claim-a-claim">a-claim</a>' in html
