import pytest
import yaml
from pybtex.database import parse_file, parse_string

from gfgd.book.pages.citation import PAPER, cite_this

from ..conftest import ROOT


def entries(root):
    """Return the entries that the section shows, as BibTeX reads them."""
    return parse_string(cite_this(root).split("```")[1].removeprefix("bibtex"), "bibtex").entries


def test_the_book_is_cited_as_its_citation_file_says():
    recorded = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    book = entries(ROOT)["gfgd"]
    assert book.type == "software"
    assert book.fields["title"] == f"{{{recorded['title']}}}"
    assert book.fields["version"] == recorded["version"]
    assert book.fields["year"].isdigit()
    assert "url" not in book.fields, "no repository is named yet"
    assert [str(person) for person in book.persons["author"]] == ["{the gfgd authors}"]


def test_the_paper_is_cited_as_in_the_references():
    found = entries(ROOT)
    assert list(found) == ["gfgd", PAPER]
    assert found[PAPER] == parse_file(str(ROOT / "references.bib")).entries[PAPER]


def test_named_authors_and_a_repository(book):
    path = book / "CITATION.cff"
    recorded = yaml.safe_load(path.read_text(encoding="utf-8"))
    recorded["authors"] = [
        {"family-names": "Cauchy", "given-names": "Augustin-Louis"},
        {"name": "a group"},
    ]
    path.write_text(yaml.safe_dump(recorded), encoding="utf-8")
    with (book / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('[project.urls]\nRepository = "https://example.org/a/b"\n')
    found = entries(book)["gfgd"]
    assert [str(person) for person in found.persons["author"]] == [
        "Cauchy, Augustin-Louis",
        "{a group}",
    ]
    assert found.fields["url"] == "https://example.org/a/b"


def test_a_paper_that_is_not_in_the_references(book):
    (book / "references.bib").write_text("@book{other,\n}\n")
    with pytest.raises(ValueError, match=PAPER):
        cite_this(book)
