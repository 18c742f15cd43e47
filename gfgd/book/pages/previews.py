"""What a link to a page shows where it is shared: title, description and picture of each page.

The words come from the page itself. The picture is one for the whole book, `_static/poster.png`.
A preview is made elsewhere and needs the picture's whole address: it is there where the package's
metadata say where the book is published, as ``Documentation`` in ``project.urls``.
"""

import re
import tomllib
from html import escape, unescape
from pathlib import Path

from gfgd.book.pages.search_texts import UNREADABLE, plain_formula

POSTER = "_static/poster.png"
#: Characters of a description, at most.
LENGTH = 200

_ALT = "The distance of gradient descent from gradient flow, and its bound."
# The page has its title a second time, without a link, for print.
_TITLE = re.compile(r"<h1>((?:(?!</h1>).)*?)<a class=\"headerlink\"", re.DOTALL)
_ANSWER = re.compile(r"<p><strong>Answer\.</strong>(.*?)</p>", re.DOTALL)
_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_MATHS = re.compile(r"\\[(\[]")
_FORMULA = re.compile(r"\\\(.*?\\\)", re.DOTALL)


def add_previews(root: Path, html: Path) -> None:
    """Write Open Graph's tags into the pages of the book under `html`; `root` is the checkout."""
    address = published_at(root)
    for page in sorted(html.rglob("*.html")):
        if "_static" in page.relative_to(html).parts:
            continue
        text = page.read_text(encoding="utf-8")
        place = page.relative_to(html).as_posix()
        tags = preview(text, place=place, address=address, picture=(html / POSTER).is_file())
        page.write_text(text.replace("</head>", f"{tags}\n</head>", 1), encoding="utf-8")


def published_at(root: Path) -> str:
    """Return where the book is published, with a slash at its end; "" while nothing says so."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Documentation", "")
    return address.rstrip("/") + "/" if address else ""


def preview(text: str, *, place: str, address: str, picture: bool = True) -> str:
    """Return the tags for a page: its HTML, its path in the book, and the book's address or "".

    `picture` is whether there is one.
    """
    title = _TITLE.search(text)
    # Without an address the picture is named from the page: enough for readers that open folders.
    base = address or "../" * place.count("/")
    found = {
        "og:type": "article" if place.startswith("chapters/") else "website",
        "og:title": _words(title[1]) if title else "",
        "og:description": description(text),
        "og:image": f"{base}{POSTER}" if picture else "",
        "og:image:alt": _ALT if picture else "",
        "og:url": f"{address}{place}" if address else "",
    }
    lines = [
        f'<meta property="{name}" content="{escape(value)}">'
        for name, value in found.items()
        if value
    ]
    if found["og:description"]:
        lines.append(f'<meta name="description" content="{escape(found["og:description"])}">')
    return "\n".join(lines)


def description(text: str) -> str:
    """Return a page's answer, or else its first paragraph that is plain words, cut at a word."""
    answers = _ANSWER.findall(text)
    body = text[title.end() :] if (title := _TITLE.search(text)) else ""
    paragraphs = map(_with_plain_formulas, [*answers, *_PARAGRAPH.findall(body)])
    words = next((_words(part) for part in paragraphs if not _MATHS.search(part)), "")
    if len(words) <= LENGTH:
        return words
    return words[: LENGTH - 1].rsplit(" ", 1)[0].rstrip(",.:;") + "…"


def _words(html: str) -> str:
    """Return HTML as plain text."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def _with_plain_formulas(html: str) -> str:
    """Return HTML with its formulas as one reads them, where that is known."""

    def read(formula: re.Match[str]) -> str:
        words = plain_formula(formula[0])
        return formula[0] if words == UNREADABLE else words

    return _FORMULA.sub(read, html)
