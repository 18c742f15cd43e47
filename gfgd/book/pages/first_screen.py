"""The order of a chapter on its page: the answer and the key picture first, the plumbing last.

A notebook runs from top to bottom, so that imports and parameters come first and what was found
comes last. A reader wants it the other way round. On the page a chapter begins with its title and
question, then the answer (the cell tagged ``answer``), the key picture (``first-screen``) and a box
"In short". Imports, parameters and their check stand at the end, folded, as longer code is.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile

import nbformat
from nbformat import NotebookNode

from gfgd.book.claims import KINDS
from gfgd.book.pages.typeset import as_read
from gfgd.book.running.execute import PROVENANCE_TAG, read_claims

ANSWER, PICTURE, PARAMETERS, FOLD = "answer", "first-screen", "parameters", "hide-input"
SETUP_HEADING = "## Parameters"
FOUND_HEADING = "## What was found"
#: Words that one reads in a minute, where each needs some thought.
WORDS_A_MINUTE = 150
#: How many of the findings the box shows.
FINDINGS = 3
#: Code of more lines than this is folded: more would stand between the sentences.
LINES_SHOWN = 12


def arranged(notebook: NotebookNode, number: int) -> NotebookNode:
    """Return an executed chapter, and its number, in the order of its page."""
    cells = list(notebook.cells)
    setup = _setup(cells)
    lifted = [cell for tag in (ANSWER, PICTURE) for cell in _tagged(cells, tag)]
    opening, rest = _split(cells[0])
    provenance = _tagged(cells, PROVENANCE_TAG)
    for cell in _tagged(lifted, ANSWER):  # a fold ahead of the answer would only be in the way
        cell.metadata.tags = [*_tags(cell), "remove-input"]
    for cell in _tagged(setup, PARAMETERS):  # their values stand at the page's foot, too
        cell.metadata.tags = [*_tags(cell), FOLD]
    body = [
        _pointer() if PICTURE in _tags(cell) else cell
        for cell in cells[1:]
        if not _among(cell, [*setup, *_tagged(lifted, ANSWER), *provenance])
    ]
    for cell in body:
        if cell.cell_type == "code" and len(cell.source.splitlines()) > LINES_SHOWN:
            cell.metadata.tags = [*dict.fromkeys([*_tags(cell), FOLD])]
    page = [opening, *lifted, in_short(notebook, number), *rest, *body, *setup, *provenance]
    made = nbformat.v4.new_notebook(cells=page, metadata=notebook.metadata)
    made.nbformat_minor = notebook.nbformat_minor
    return made


def in_short(notebook: NotebookNode, number: int) -> NotebookNode:
    """Return the box "In short": findings, how many claims of each kind, minutes, what it needs."""
    counts = Counter(claim.kind for claim in read_claims(notebook))
    claims = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    minutes = math.ceil(words / WORDS_A_MINUTE)
    facts = [f"{minutes} min to read", f"claims: {claims}" if claims else ""]
    if needs := _needs(notebook, number):
        facts.append(f"builds on chapter{'s' * (len(needs) > 1)} {', '.join(needs)}")
    findings = map(as_read, _findings(notebook.cells)[:FINDINGS])
    lines = [":::{admonition} In short", ":class: gfgd-in-short", "", *findings, ""]
    lines += [" · ".join(filter(None, facts)), ":::"]
    return _words("in-short", "\n".join(lines))


def _findings(cells: list[NotebookNode]) -> list[str]:
    """Return the list that stands under "What was found", an entry a string."""
    places = [place for place, cell in enumerate(cells) if _last_heading(cell) == FOUND_HEADING]
    if not places:
        return []
    below = takewhile(lambda cell: not _is_heading(cell), cells[places[0] + 1 :])
    texts = (
        "".join(output.data["text/markdown"])
        for cell in below
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    )
    return [entry for text in texts for entry in re.split(r"\n(?=- )", text) if entry[:2] == "- "]


def _needs(notebook: NotebookNode, number: int) -> list[str]:
    """Return links to the earlier chapters that this one's introduction points to.

    What it builds on is said there; further down a chapter also points to what it only mentions.
    """
    title, *others = notebook.cells
    opening = [title, *takewhile(lambda cell: not _is_heading(cell), others)]
    text = "\n".join(cell.source for cell in opening if cell.cell_type == "markdown")
    found = re.findall(r"\{doc\}`[^`]*?/?(chapters/(\d\d)_\w+)>?`", text)
    earlier = sorted({(int(digits), path) for path, digits in found if int(digits) < number})
    return [f"{{doc}}`{digits} </{path}>`" for digits, path in earlier]


def _setup(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return the cells before the first section: imports, the parameters and their check."""
    headings = [place for place, cell in enumerate(cells) if place and _is_heading(cell)]
    if not headings or not cells[headings[0]].source.startswith(SETUP_HEADING):
        return []
    end = headings[1] if len(headings) > 1 else len(cells)
    imports, section = cells[1 : headings[0]], cells[headings[0] : end]
    return [*section[:1], *imports, *section[1:]]


def _split(cell: NotebookNode) -> tuple[NotebookNode, list[NotebookNode]]:
    """Return the title with the question, and what the opening says after it."""
    paragraphs = cell.source.split("\n\n")
    heads = [p for p in paragraphs if p.startswith(("# ", "(", "**Question", "**Answer"))]
    count = len(list(takewhile(lambda p: p in heads, paragraphs)))
    first = _words("opening", "\n\n".join(paragraphs[:count]))
    rest = "\n\n".join(paragraphs[count:])
    return first, [_words("introduction", rest)] if rest else []


def _pointer() -> NotebookNode:
    return _words("pointer", "*The figure at the head of this page belongs here.*")


def _words(name: str, text: str) -> NotebookNode:
    """Return a cell of Markdown with an id of its own: a random one would change each build."""
    return nbformat.v4.new_markdown_cell(text, id=f"gfgd-{name}")


def _tagged(cells: Iterable[NotebookNode], tag: str) -> list[NotebookNode]:
    return [cell for cell in cells if tag in _tags(cell)]


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _is_heading(cell: NotebookNode) -> bool:
    return cell.cell_type == "markdown" and re.match(r"(\([\w-]+\)=\s*)?#", cell.source) is not None


def _last_heading(cell: NotebookNode) -> str:
    """Return the last heading of a cell of Markdown: what follows the cell stands under it."""
    lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
    headings = [line for line in lines if line.startswith("#")]
    return headings[-1].strip() if headings else ""


def _among(cell: NotebookNode, others: Iterable[NotebookNode]) -> bool:
    return any(cell is other for other in others)
