"""The book's generated pages: "What holds" from the claims, "Parameters" from the chapters."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from gfgd.book.claims import KINDS, MEANINGS, Claim
from gfgd.book.contents import number_of
from gfgd.book.pages.boxes import claim_in_a_list
from gfgd.book.pages.typeset import as_read
from gfgd.book.running.parameters import Parameter

#: The heading of claims that no slide makes.
BEYOND = "Beyond the slides"


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
    """Return the page "What holds" in Markdown: the claims by slide and chapter, in order.

    A claim is an item of a list, with the data that ``_static/filter_claims.js`` filters by.
    """
    entries = list(gathered)
    failed = [entry for entry in entries if not entry.claim.holds]
    page = ["# What holds", "", _totals(entries), ""]
    page += [
        "A claim is a statement with a measured number and a criterion for it. There are four",
        "kinds: " + "; ".join(f"*{kind}*, {meaning}" for kind, meaning in MEANINGS.items()) + ".",
        "The number in bold is what was measured. Open a claim to see of what it is the measure,",
        "the criterion that it must meet, and a link to its place in the chapter.",
        "The same list, for programs: <a href='claims.json'>claims.json</a>.",
    ]
    if failed:
        page += ["", "## What does not hold", "", *_claims_list(failed)]
    page += ["", *_filter(entries)]
    slides = list(dict.fromkeys(entry.claim.slide for entry in entries))
    entries.sort(key=lambda entry: slides.index(entry.claim.slide))
    for slide, of_slide in groupby(entries, key=lambda entry: entry.claim.slide):
        page += ["", f"## {slide or BEYOND}"]
        for heading, rows in groupby(of_slide, key=_chapter_heading):
            page += ["", heading, "", *_claims_list(rows)]
    return as_read("\n".join(page) + "\n")


def _totals(entries: list[Gathered]) -> str:
    held = sum(entry.claim.holds for entry in entries)
    counts = Counter(entry.claim.kind for entry in entries)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return (
        f"**{len(entries)} claims: {held} hold, {len(entries) - held} do not;** "
        f"{kinds}. Checked when this book was built."
    )


def _filter(entries: list[Gathered]) -> list[str]:
    """Return fields that leave some claims on the page; ``_static/filter_claims.js`` heeds them."""
    choices = {
        "kind": [kind for kind in KINDS if any(entry.claim.kind == kind for entry in entries)],
        "chapter": list(dict.fromkeys(number_of(entry.chapter) for entry in entries)),
        "slide": list(dict.fromkeys(entry.claim.slide or BEYOND for entry in entries)),
    }
    fields = []
    for name, values in choices.items():
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        fields.append(
            f'<label>{name} <select data-filter="{name}"><option value="">all</option>'
            f"{options}</select></label>"
        )
    return ['<p class="gfgd-filter" hidden>Show', *fields, "<output></output></p>"]


def _chapter_heading(entry: Gathered) -> str:
    number = f"Chapter {number_of(entry.chapter)}"
    return f"### {{doc}}`{number} <{entry.chapter}>`: {_plain(entry.title)}"


def _claims_list(entries: Iterable[Gathered]) -> list[str]:
    return ['<ul class="gfgd-claims" role="list">', *map(_item, entries), "</ul>"]


def _item(entry: Gathered) -> str:
    claim, number = entry.claim, number_of(entry.chapter)
    about = [claim.kind, entry.dataset, f"preset {entry.preset}", f"chapter {number}"]
    fold = claim_in_a_list(
        claim, " · ".join(filter(None, about)), f"{entry.chapter}.html#claim-{claim.name}"
    )
    return (
        f'<li data-kind="{claim.kind}" data-chapter="{number}"'
        f' data-slide="{escape(claim.slide or BEYOND)}">{fold}</li>'
    )


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
