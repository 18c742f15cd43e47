"""What the front page takes from the run: the live picture, numbers of claims, the chapters."""

import re
from collections.abc import Iterable, Mapping

from nbformat import NotebookNode

from gfgd.book.contents import number_of, title
from gfgd.book.errors import BookError
from gfgd.book.first_screen import ANSWER
from gfgd.book.live import gradient_paths_html
from gfgd.book.numbers import without_e_notation
from gfgd.book.pages import Gathered

_CLAIM = re.compile(r"\[\[claim:([a-z0-9-]+)\|([^\]]*)\]\]")


def hero() -> str:
    """Return the live picture that opens the book."""
    html = gradient_paths_html(
        landscape="valley", start=(-1.0, 2.0), step_size=0.07, horizon=4.5, name="gfgd-hero"
    )
    return f"```{{raw}} html\n{html}\n```\n"


def filled(text: str, gathered: Iterable[Gathered], *, complete: bool) -> str:
    """Return a page with ``[[claim:NAME|FORMAT]]`` replaced by what the claim measured.

    In a book that is not `complete`, one of other data or of a preset, a claim may be absent: a
    dash stands for it.

    Raises
    ------
    BookError
        If there is no such claim, or it does not hold.
    """
    claims = {entry.claim.name: entry.claim for entry in gathered}

    def number(found: re.Match[str]) -> str:
        name, form = found.groups()
        if name in claims and claims[name].holds:
            return without_e_notation(f"{claims[name].measured:{form}}").replace("-", "−")
        if complete:
            raise BookError(f"the front page quotes {name!r}, a claim that was not shown to hold")
        return "–"

    return _CLAIM.sub(number, text)


def chapters_list(executed: Mapping[str, NotebookNode]) -> str:
    """Return the list of chapters, each with its answer, or else its question.

    `executed` maps a chapter's path without suffix to its run, under the prose of now.
    """
    lines = ["```{rst-class} gfgd-chapters", "```", ""]
    for document, notebook in executed.items():
        number = number_of(document)
        lines.append(f"- {number}\\. {{doc}}`{title(notebook)} </{document}>`. {_answer(notebook)}")
    return "\n".join(lines) + "\n"


def _answer(notebook: NotebookNode) -> str:
    """Return the chapter's answer from its run, without the word, or else its question."""
    for cell in notebook.cells:
        if ANSWER in cell.metadata.get("tags", []):
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
            return _line("".join(map("".join, texts)), "Answer")
    paragraphs = notebook.cells[0].source.split("\n\n")
    for word in ("Answer", "Question"):
        for paragraph in paragraphs:
            if paragraph.startswith(f"**{word}"):
                return _line(paragraph.partition("Slide:")[0], word)
    return ""


def _line(text: str, word: str) -> str:
    return without_e_notation(" ".join(text.replace(f"**{word}.**", "").split()))
