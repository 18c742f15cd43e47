"""The book's generated pages: "What holds" from the claims, "Parameters" from the chapters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from gfgd.book.claims import Claim
from gfgd.book.parameters import Parameter


@dataclass(frozen=True)
class Gathered:
    """A claim with the chapter (path without suffix, and title), preset and dataset of its run."""

    claim: Claim
    chapter: str
    title: str
    preset: str
    dataset: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the claim and its run as plain JSON."""
        run = {"chapter": self.chapter, "preset": self.preset, "dataset": self.dataset}
        return self.claim.to_json() | run


def duplicates(gathered: Iterable[Gathered]) -> list[str]:
    """Return a line for each claim name that is used more than once, with its chapters."""
    chapters: dict[str, list[str]] = {}
    for entry in gathered:
        chapters.setdefault(entry.claim.name, []).append(entry.chapter)
    return [
        f"the claim {name!r} is made {len(places)} times: in {', '.join(places)}"
        for name, places in chapters.items()
        if len(places) > 1
    ]


def what_holds(gathered: Iterable[Gathered]) -> str:
    """Return the page "What holds" in Markdown: a table a slide, in the order of the book."""
    entries = list(gathered)
    held = sum(entry.claim.holds for entry in entries)
    page = [
        "# What holds",
        "",
        f"Claims checked when this book was built: {len(entries)}. Of these hold: {held}.",
        "Each row links to the place in its chapter where the number was measured.",
        "The same list, for programs: <a href='claims.json'>claims.json</a>.",
    ]
    slides = list(dict.fromkeys(entry.claim.slide for entry in entries))
    entries.sort(key=lambda entry: slides.index(entry.claim.slide))
    for slide, rows in groupby(entries, key=lambda entry: entry.claim.slide):
        page += ["", f"## {slide or 'Beyond the slides'}", "", *_claims_table(rows)]
    return "\n".join(page) + "\n"


def _claims_table(entries: Iterable[Gathered]) -> list[str]:
    header = ["Claim", "Chapter", "Measured", "Criterion", "Verdict", "Kind", "Dataset, preset"]
    rows = [_row(header), _row(["---"] * len(header))]
    for entry in entries:
        claim = entry.claim
        link = f"<a href='{entry.chapter}.html#claim-{claim.name}'>{escape(entry.title)}</a>"
        mark = "✓" if claim.holds else "✗"
        run = ", ".join(filter(None, [entry.dataset, entry.preset]))
        cells = [_plain(claim.statement), link, f"{claim.measured:.4g}", claim.criterion]
        rows.append(_row([*cells, f"{mark} {claim.verdict}", claim.kind, run]))
    return rows


def parameters_page(chapters: Mapping[str, tuple[str, Iterable[Parameter]]]) -> str:
    """Return the page "Parameters" in Markdown.

    Parameters
    ----------
    chapters
        By chapter (path without suffix): its title and its parameters.
    """
    page = [
        "# Parameters",
        "",
        "What can be changed in each chapter, read from its `parameters` cell. For example:",
        "`gfgd run CHAPTER -p NAME VALUE`.",
    ]
    header = ["Parameter", "Type", "Default", "Meaning"]
    for path, (title, parameters) in chapters.items():
        page += ["", f"## {title}", "", f"Chapter `{path.split('/')[-1]}`.", ""]
        rows = [
            _row([f"`{p.name}`", f"`{p.type}`", f"`{p.default!r}`", _plain(p.help)])
            for p in parameters
        ]
        page += [_row(header), _row(["---"] * len(header)), *rows] if rows else ["It has none."]
    return "\n".join(page) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Return text as it stands, safe in a Markdown table and free of markup."""
    marks = str.maketrans({mark: "\\" + mark for mark in r"\`*_[]#$|<>~"})
    return text.translate(marks)
