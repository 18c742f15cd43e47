"""The built book as HTML, without a browser: headings, pictures' words, links between pages."""

from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import unquote, urlsplit

import pytest

from gfgd.book.contents import documents
from gfgd.book.pages.alt_text import missing_alt_text

from .conftest import HTML, ROOT, built_pages

pytestmark = pytest.mark.book

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
# The theme repeats a page's title for print; on the screen that part is not there.
PRINT_ONLY = "onlyprint"


class Page(HTMLParser):
    """Collects a page's language, headings, identifiers and links."""

    def __init__(self, path):
        super().__init__()
        self.headings, self.identifiers, self.links = [], set(), []
        self.language, self.following = None, None
        self.open = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        self.identifiers |= {values.get("id"), values.get("name") if tag == "a" else None}
        if tag == "html":
            self.language = values.get("lang")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
            if "right-next" in classes:
                self.following = values["href"]
        if tag not in VOID:
            self.open.append(PRINT_ONLY in classes)
        if tag in {"h1", "h2", "h3", "h4", "h5", "h6"} and not any(self.open):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        if tag not in VOID and self.open:
            self.open.pop()


@pytest.fixture(scope="module")
def pages(html):
    return {path: Page(path) for path in built_pages()}


each_page = pytest.mark.parametrize(
    "path",
    built_pages() or [HTML / "index.html"],
    ids=lambda path: path.relative_to(HTML).as_posix(),
)


@each_page
def test_headings_are_in_order(pages, path):
    levels = pages[path].headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    steps = pairwise(levels)
    assert all(after <= before + 1 for before, after in steps), levels


@each_page
def test_links_inside_the_book_lead_somewhere(pages, path):
    for link in pages[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link in ("#", ""):
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.is_file(), link
        if parts.fragment and target in pages:
            assert unquote(parts.fragment) in pages[target].identifiers, link


def test_every_picture_says_what_it_shows(html):
    assert missing_alt_text(html) == []


def test_every_page_says_its_language(pages):
    assert {page.language for page in pages.values()} == {"en"}


def test_next_leads_through_the_whole_book_in_order(html, pages):
    path, order = html / "index.html", []
    while True:
        order.append(path.relative_to(html).with_suffix("").as_posix())
        if pages[path].following is None:
            break
        path = (path.parent / pages[path].following).resolve()
    assert order == documents(ROOT)
