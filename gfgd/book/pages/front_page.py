"""What the front page takes from the run: the live picture, numbers of claims, the chapters."""

import re
from collections.abc import Iterable, Mapping

from nbformat import NotebookNode

from gfgd.book import live
from gfgd.book.contents import number_of, title
from gfgd.book.errors import BookError
from gfgd.book.pages.first_screen import ANSWER
from gfgd.book.pages.generated import Gathered
from gfgd.book.pages.thumbnails import key_picture, thumbnail
from gfgd.book.pages.typeset import BETWEEN_SENTENCES, as_read

#: How many words of a chapter's answer the list of chapters has at least, up to a full stop.
WORDS = 12
_CLAIM = re.compile(r"\[\[claim:([a-z0-9-]+)\|([^\]]*)\]\]")


def hero() -> str:
    """Return the live picture that opens the book."""
    picture = live.gradient_paths(
        landscape="valley", start=(-1.0, 2.0), step_size=0.07, horizon=4.5, name="gfgd-hero"
    )
    return f"```{{raw}} html\n{picture.html}\n```\n"


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
            return as_read(f"{claims[name].measured:{form}}")
        if complete:
            raise BookError(f"the front page quotes {name!r}, a claim that was not shown to hold")
        return "–"

    return _CLAIM.sub(number, text)


def chapters_list(
    executed: Mapping[str, NotebookNode], parts: Iterable[tuple[str, Iterable[str]]]
) -> str:
    """Return the list of chapters by part, each with a thumbnail and what it found.

    `executed` maps a chapter's path without suffix to its run, under the prose of now; `parts` are
    those of the table of contents.
    """
    lines = []
    for caption, documents in parts:
        chapters = [document for document in documents if document in executed]
        if not chapters:
            continue
        lines += [f"**{caption}**", ""] if caption else []
        lines += ["```{rst-class} gfgd-chapters", "```", ""]
        for document in chapters:
            lines += _entry(document, executed[document])
        lines.append("")
    return "\n".join(lines)


def _entry(document: str, notebook: NotebookNode) -> list[str]:
    """Return a chapter's item in the list."""
    number = number_of(document)
    picture = _picture(document, notebook, f"list-{number}")
    fence = ["```{raw} html", picture, "```", ""] if picture else [""]
    words = f"**{number}.** {{doc}}`{title(notebook)} </{document}>`. {_summary(notebook)}"
    first, *rest = [*fence, words]
    # All that belongs to an item of a list in Markdown is indented below it.
    return [f"- {first}".rstrip(), *(f"  {line}".rstrip() for line in rest)]


def cards(executed: Mapping[str, NotebookNode]) -> dict[str, str]:
    """Return by file name what the front page's cards include: a chapter's picture, as raw HTML."""
    drawn = {
        document: _picture(document, notebook, f"card-{number_of(document)}")
        for document, notebook in executed.items()
    }
    return {
        f"_generated/picture_{number_of(document)}.md": f"```{{raw}} html\n{picture}\n```\n"
        for document, picture in drawn.items()
        if picture
    }


def _picture(document: str, notebook: NotebookNode, name: str) -> str | None:
    """Return a chapter's thumbnail, whose link leads where the title beside it does."""
    svg = key_picture(notebook)
    if svg is None:
        return None
    link = f'href="{document}.html" tabindex="-1" aria-hidden="true"'
    return f"<a {link}>{thumbnail(svg, name=f'gfgd-{name}')}</a>"


def _summary(notebook: NotebookNode) -> str:
    """Return a chapter's question, and the first sentences of its answer: a dozen words or more."""
    taken: list[str] = []
    for sentence in BETWEEN_SENTENCES.split(_answer(notebook)):
        taken.append(sentence)
        if len(" ".join(taken).split()) >= WORDS:
            break
    return " ".join(filter(None, [_question(notebook), *taken]))


def _question(notebook: NotebookNode) -> str:
    """Return the question under a chapter's title, without the slide that it belongs to."""
    for paragraph in notebook.cells[0].source.split("\n\n"):
        if paragraph.startswith("**Question"):
            return _line(re.split(r"Slides?:", paragraph)[0], "Question")
    return ""


def _answer(notebook: NotebookNode) -> str:
    """Return the chapter's answer from its run, without the word."""
    texts = [
        "".join(output.get("data", {}).get("text/markdown", ""))
        for cell in notebook.cells
        if ANSWER in cell.metadata.get("tags", [])
        for output in cell.outputs
    ]
    return _line("".join(texts), "Answer")


def _line(text: str, word: str) -> str:
    return as_read(" ".join(text.replace(f"**{word}.**", "").split()))
