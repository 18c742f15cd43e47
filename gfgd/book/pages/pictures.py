"""A chapter's figures inside its page: in the theme's colours, one rendering for each width.

A notebook holds a figure as SVG in the colours of a white page. In the book it stands inline, its
colours are CSS variables, so that it follows the theme at once, and CSS shows the rendering that
fits the page.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any

import nbformat
from markdown_it import MarkdownIt

from gfgd.book.contents import number_of
from gfgd.book.errors import BookError
from gfgd.book.pages.typeset import as_read
from gfgd.book.running.outputs import structured
from gfgd.figures.style import CONTOUR, HAIR, INK, MIME_TYPE, MUTED, PAPER, ROLES
from gfgd.typography import without_e_notation

#: What colours the figures have, by the names of the CSS variables in ``_static/gfgd.css``.
COLOURS = ROLES | {
    "ink": INK,
    "muted": MUTED,
    "hair": HAIR,
    "contour": CONTOUR,
    "paper": PAPER,
}
#: Literal colours of the figures, and their variables.
VARIABLES = {colour: f"var(--gfgd-{name})" for name, colour in COLOURS.items()}
_COLOUR = re.compile("|".join(VARIABLES), re.IGNORECASE)
# Words of a caption that have the colour of a role, if the figure shows it.
_COLOURED = {
    "flow": r"\bGF\b|[Gg]radient flow\b",
    "descent": r"\bGD\b|[Gg]radient descent\b",
    "bound": r"\bbounds?\b",
    "prediction": r"\bpredictions?\b",
}


def with_pictures(notebook: nbformat.NotebookNode, stem: str) -> nbformat.NotebookNode:
    """Return an executed chapter, of that file name, with its figures as HTML.

    Raises
    ------
    BookError
        If a figure has no alt text.
    """
    number = number_of(stem)
    count = 0
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if MIME_TYPE not in data:
                continue
            count += 1
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()
            if not alt:
                raise BookError(
                    f"{stem}: cell {place}: its figure has no alt text; set it in the cell's "
                    'metadata: "mystnb": {"image": {"alt": "…"}}'
                )
            # Taken out: myst-nb would make a second figure around this one.
            caption = cell.metadata.mystnb.pop("figure", {}).get("caption")
            html = figure_html(
                data, alt=alt, number=f"{number}.{count}", caption=caption or _first_sentence(alt)
            )
            output["data"] = nbformat.from_dict({"text/html": html, "text/plain": alt})
    return notebook


def figure_html(data: Any, *, alt: str, number: str, caption: str = "") -> str:
    """Return the ``<figure>`` of an output: its renderings, and its caption if it has one.

    `caption`, a line of Markdown, is that of a figure that brings none of its own.
    """
    extra = structured(data, MIME_TYPE)
    key = f"figure-{number.replace('.', '-')}"
    renderings = {"wide": data["image/svg+xml"], "narrow": extra["narrow"]}
    drawn = [
        _inline(svg, f"{key}-{width}", alt, f"gfgd-{width}" if extra["narrow"] else "")
        for width, svg in renderings.items()
        if svg
    ]
    caption = extra.get("caption") or caption
    if caption:
        words = MarkdownIt("commonmark").renderInline(as_read(caption))
        words = _coloured(words, [role for role in _COLOURED if f"--gfgd-{role})" in drawn[0]])
        drawn.append(f"<figcaption>Figure\N{NO-BREAK SPACE}{number}. {words}</figcaption>")
    return f'<figure class="gfgd-figure" id="{key}">{"".join(drawn)}</figure>'


def _first_sentence(text: str) -> str:
    """Return a text up to the first full stop before a capital."""
    return re.split(r"(?<=\.)\s+(?=[A-Z])", text, maxsplit=1)[0]


def _coloured(html: str, roles: Iterable[str]) -> str:
    """Return a caption with the names of some roles in their colours."""
    for role in roles:
        html = re.sub(_COLOURED[role], rf'<span class="gfgd-{role}">\g<0></span>', html)
    return html


def themed(svg: str) -> str:
    """Return an SVG with the theme's colours in place of those of a white page."""
    return _COLOUR.sub(lambda found: VARIABLES[found[0].lower()], svg)


def _inline(svg: str | list[str], prefix: str, alt: str, kind: str) -> str:
    """Return an SVG for use inside a page: its ids are its own, its colours the theme's."""
    text = svg if isinstance(svg, str) else "".join(svg)
    text = re.sub(r">[^<]+<", lambda words: without_e_notation(words[0]), themed(text))
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    # The stylesheet of an inline SVG is the page's; the book's own says the same.
    text = re.sub(r"<style\b.*?</style>", "", text, flags=re.DOTALL)
    named = f'<svg class="{kind}" role="img" aria-label="{escape(alt)}"'
    # A blank line would end the HTML block.
    return re.sub(r"\n+", "\n", text.replace("<svg", named, 1).strip())
