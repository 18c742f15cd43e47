"""What the search page shows beside a result: the sentences of every page, by section.

Sphinx reads a result's page for an excerpt, which a page that was opened from a folder may not do,
and takes code and formulas along. The sentences are written into one script, which the search page
alone loads (`_static/search_sentences.js`).
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from gfgd.book.pages.typeset import BETWEEN_SENTENCES

SCRIPT = Path("_static") / "search_texts.js"
#: What stands for a formula that plain text cannot show.
UNREADABLE = "…"
#: Characters of a sentence, at most; a longer one is cut at a word.
LONGEST = 400

#: Scripts of Sphinx's search, which the theme has every page load before it shows anything.
_SEARCH = re.compile(
    r'\s*<script src="[./]*(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>'
)
_VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
_BLOCKS = {"p", "li", "dt", "dd", "td", "th", "summary", "figcaption", "section", "div"}
_BLOCKS |= {f"h{level}" for level in range(1, 7)}
# What is no prose: code, drawings, the fold with a claim's criterion, a heading's link to itself.
_SKIPPED_TAGS = {"script", "style", "pre", "svg", "nav", "small", "button", "form"}
_SKIPPED_CLASSES = {"headerlink", "cell_input", "gfgd-live-frame", "toctree-wrapper"}
_SIGNS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "rho": "ρ",
    "sigma": "σ",
    "omega": "ω",
    "varepsilon": "ε",
    "nabla": "∇",
    "Sigma": "Σ",
    "Lambda": "Λ",
    "le": "≤",
    "ge": "≥",
    "approx": "≈",
    "to": "→",
    "infty": "∞",
    "int": "∫",
    "min": "min",
    "max": "max",
    "ln": "ln",
    "log": "log",
    "exp": "exp",
    "cdot": "·",
    "times": "×",
    "ne": "≠",
    "|": "‖",
    ",": " ",
    ";": " ",
}


def drop_search_index(html: Path) -> None:
    """Take the search's index, 400 kB, from all pages under `html` but the one that searches."""
    for page in html.rglob("*.html"):
        if page.name != "search.html" and "_static" not in page.relative_to(html).parts:
            text = page.read_text(encoding="utf-8")
            page.write_text(_SEARCH.sub("", text), encoding="utf-8")


def write_search_texts(html: Path) -> None:
    """Write the sentences of all pages under `html` into `SCRIPT` there."""
    texts = {}
    for page in sorted(html.rglob("*.html")):
        name = page.relative_to(html).with_suffix("").as_posix()
        if not name.startswith("_") and (found := sections(page.read_text(encoding="utf-8"))):
            texts[name] = found
    data = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    (html / SCRIPT).write_text(f"window.gfgdTexts = {data};\n", encoding="utf-8")


def sections(page: str) -> list[tuple[str, list[str]]]:
    """Return the sections of a page's article: the anchor of each, and its sentences."""
    reader = _Article()
    reader.feed(page)
    return [(anchor, lines) for anchor, lines in reader.sections if lines]


def plain_formula(tex: str) -> str:
    r"""Return a short formula of TeX as one reads it, or "…".

    Examples
    --------
    >>> plain_formula(r"\(\lambda_{\min} \le 2/\eta\)")
    'λ_min ≤ 2/η'
    >>> plain_formula(r"\(\frac{1}{2}\)")
    '…'
    """
    inner = re.sub(r"^\\\(|\\\)$", "", tex.strip())
    read = re.sub(r"\\([A-Za-z]+|[|,;])", lambda sign: _SIGNS.get(sign[1], sign[0]), inner)
    read = re.sub(r"([_^])\{([^{}\\]*)\}", r"\1\2", read).replace("'", "′")
    return UNREADABLE if re.search(r"[\\{}]", read) else " ".join(read.split())


class _Article(HTMLParser):
    """Collects the sentences of the article of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[tuple[str, list[str]]] = []
        self._open: list[str] = []
        self._article = 0  # how many tags are open at the article's
        self._skipped = 0  # the same at what is left out, 0 outside
        self._anchors: list[tuple[int, str]] = []
        self._formula: list[str] | None = None
        self._formula_at = 0
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self._words.append(" ")
            return
        self._open.append(tag)
        found = {name: value or "" for name, value in attrs}
        classes = set(found.get("class", "").split())
        if "bd-article" in classes:
            self._article = len(self._open)
        if not self._article or self._skipped:
            return
        if "math" in classes and tag == "span":
            self._formula, self._formula_at = [], len(self._open)
        elif tag in _SKIPPED_TAGS or classes & _SKIPPED_CLASSES or "math" in classes:
            self._skipped = len(self._open)
        if tag in _BLOCKS:
            self._end_of_block()
        if tag == "section":
            self._anchors.append((len(self._open), found.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID or tag not in self._open:
            return
        while self._open:
            self._close(len(self._open))
            if self._open.pop() == tag:
                break

    def _close(self, depth: int) -> None:
        if self._formula is not None and depth == self._formula_at:
            self._words.append(plain_formula("".join(self._formula)))
            self._formula = None
        if depth == self._skipped:
            self._skipped = 0
        elif not self._skipped and self._article and self._open[-1] in _BLOCKS:
            self._end_of_block()
        if self._anchors and self._anchors[-1][0] == depth:
            self._anchors.pop()
        if depth == self._article:
            self._end_of_block()
            self._article = 0

    def handle_data(self, data: str) -> None:
        if not self._article or self._skipped:
            return
        if self._formula is not None:
            self._formula.append(data)
        else:
            self._words.append(data)

    def _end_of_block(self) -> None:
        text = " ".join("".join(self._words).split())
        self._words = []
        if not text:
            return
        anchor = self._anchors[-1][1] if self._anchors else ""
        if not self.sections or self.sections[-1][0] != anchor:
            self.sections.append((anchor, []))
        for sentence in BETWEEN_SENTENCES.split(text):
            whole = sentence if len(sentence) <= LONGEST else sentence[:LONGEST].rsplit(" ", 1)[0]
            # A heading or a number in a table is no sentence.
            if len(whole.split()) >= 4:
                self.sections[-1][1].append(whole + ("" if whole == sentence else " …"))
