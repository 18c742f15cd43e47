"""How to cite the book and its paper, in BibTeX, from where each is recorded already."""

import re
from pathlib import Path

import yaml

from gfgd.book.pages.downloads import read_repository

PAPER = "elkabetz2021continuous"


def cite_this(root: Path) -> str:
    """Return the section "Cite this" in Markdown: the book and the paper that it rests on.

    The book's entry is made from ``CITATION.cff``, the paper's stands in ``references.bib``.
    """
    bibtex = f"{_book(root)}\n\n{_paper(root)}"
    return (
        f"## Cite this\n\nThe book, and the paper that it rests on:\n\n```bibtex\n{bibtex}\n```\n"
    )


def _book(root: Path) -> str:
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    # An inner pair of braces: the name of a group is not split into first and last name.
    authors = " and ".join(
        f"{{{author['name']}}}"
        if "name" in author
        else f"{author['family-names']}, {author['given-names']}"
        for author in citation["authors"]
    )
    fields = {
        "title": f"{{{citation['title']}}}",
        "author": authors,
        "year": config["copyright"],
        "version": citation["version"],
    }
    repository = read_repository(root)
    if repository:
        fields["url"] = repository.url
    lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    return f"@software{{gfgd,\n{lines}}}"


def _paper(root: Path) -> str:
    text = (root / "references.bib").read_text(encoding="utf-8")
    found = re.search(rf"^@\w+{{{PAPER},.*?^}}", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"references.bib has no entry {PAPER}: give it one")
    return found.group()
