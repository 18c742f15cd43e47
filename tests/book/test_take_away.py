"""The built book as a reader gets it: what a page weighs, what can be downloaded and looked up."""

import gzip
import zipfile
from functools import cache
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.util.inventory import InventoryFile

from gfgd.book.contents import chapters
from gfgd.book.pages.downloads import BOOK_ZIP, notebook_to_run, read_repository

from .conftest import ROOT, built_pages

pytestmark = pytest.mark.book

PAGE_LIMIT, BOOK_LIMIT = 3e6, 60e6  # bytes
TEXT = {".css", ".html", ".js", ".svg"}


@cache
def transferred(path: Path) -> int:
    """Return a file's bytes on the wire: servers compress text."""
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in TEXT else len(data)


def files_of(page: Path, html: Path) -> set[Path]:
    """Return what a browser loads for a page, or more: all fonts, which it loads as needed."""
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    found = [tag["src"] for tag in soup.select("script[src], img[src]")]
    found += [tag["href"] for tag in soup.select("link[rel=stylesheet], link[rel=preload]")]
    local = (str(name).partition("?")[0] for name in found if not str(name).startswith("data:"))
    fonts = {*html.rglob("*.woff"), *html.rglob("*.woff2")}
    return fonts | {page} | {(page.parent / name).resolve() for name in local}


def test_no_page_is_heavy(html):
    weights = {
        page.relative_to(html).as_posix(): sum(map(transferred, files_of(page, html)))
        for page in built_pages()
    }
    heaviest = max(weights, key=weights.__getitem__)
    print(f"\nheaviest page: {heaviest}, {weights[heaviest] / 1e6:.2f} MB compressed")
    assert weights[heaviest] <= PAGE_LIMIT, heaviest


def test_a_link_to_a_page_is_shown_with_its_title_and_words(html):
    for page in built_pages():
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        heading = soup.select_one(".bd-article h1")
        title = soup.select_one('meta[property="og:title"]')
        if heading is None or title is None:
            assert page.name in {"search.html", "404.html", "genindex.html"}, page
            continue
        for link in heading.select(".headerlink"):
            link.decompose()
        assert title["content"].split() == heading.get_text().split(), page
        assert soup.select_one('meta[property="og:description"]'), page


def test_the_book_is_not_heavy(html):
    size = sum(path.stat().st_size for path in html.rglob("*") if path.is_file())
    print(f"\nthe book, its zip included: {size / 1e6:.1f} MB")
    assert size <= BOOK_LIMIT


def test_the_zip_holds_the_book(html):
    files = {path.relative_to(html).as_posix() for path in html.rglob("*") if path.is_file()}
    with zipfile.ZipFile(html / BOOK_ZIP) as archive:
        names = {name.removeprefix("gfgd-book/") for name in archive.namelist()}
    assert names == files - {BOOK_ZIP}
    assert f'href="{BOOK_ZIP}"' in (html / "index.html").read_text("utf-8")


@pytest.mark.parametrize("chapter", chapters(ROOT), ids=lambda path: path.stem)
def test_each_page_offers_its_chapter_as_it_stands(html, chapter):
    place = chapter.relative_to(ROOT)
    offered = html / "_sources" / place
    assert f"_sources/{place}" in (html / place).with_suffix(".html").read_text("utf-8")
    notebook = nbformat.read(offered, as_version=4)
    stale = "the book is older than its chapters: run `make book`"
    assert notebook == notebook_to_run(chapter, read_repository(ROOT)), stale
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_words_and_names_can_be_looked_up(html):
    with (html / "objects.inv").open("rb") as file:
        known = InventoryFile.load(file, "", lambda base, name: name)
    assert {"balanced", "logarithmic norm", "gradient flow (GF)"} <= known["std:term"].keys()
    assert "gfgd.descent.gradient_descent" in known["py:function"]
    assert "gfgd.objective.Objective.gradient" in known["py:method"]
