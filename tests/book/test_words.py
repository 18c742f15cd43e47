"""Nothing internal stands on a page of the built book: no class names, raw LaTeX, e-notation."""

import re
from functools import cache

import pytest
from bs4 import BeautifulSoup

from .conftest import HTML, built_pages

pytestmark = pytest.mark.book

INTERNAL = {
    "a class of Python": r"<class '|\bobject at 0x|<function |<gfgd\.|(?<![\w.])_[A-Z]\w+",
    "a private name": r"(?<!\w)__\w+__",
    "what was not run": r"\bnot run\b(?! again)|[Nn]ot made yet|\bTODO\b|\bFIXME\b|\bXXX\b",
    "raw LaTeX": r"\\(?:frac|theta|eta|lambda|nabla|int|exp|lVert|le|ge|mathbb|top)\b|\$\S[^$]*\$"
    r"|\w_\{|\w\^\{|(?<!\w)[A-Za-z]_[a-zθ]∇",
    "e-notation": r"(?<![\w.#-])\d+(?:\.\d+)?e[+-]?\d+(?!\w|\.\d)",
    "a number that is none": r"(?<!\w)(?:nan|NaN|inf)(?!\w)",
    "a tensor": r"\btensor\(|\bdtype=|\barray\(\[",
    "the build's folders": r"/tmp/|/home/|_build/|/site-packages/",
    "raw Markdown": r"\*\*\w|\{doc\}|\{ref\}|\[\[claim:|\]\(https?:",
}


@cache
def words(path):
    """Return what a reader reads: no code, no formulas, no parameters' defaults."""
    soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    article = soup.find("article") or soup.find("main")
    assert article is not None
    for part in article.select("pre, code, script, style, .math, dl.py, svg style, .highlight"):
        part.decompose()
    return " ".join(article.get_text(" ").split())


@pytest.mark.parametrize(
    "path",
    [path for path in built_pages() if path.parent.name != "api"] or [HTML / "index.html"],
    ids=lambda path: path.stem,
)
@pytest.mark.usefixtures("html")
def test_nothing_internal_stands_on_a_page(path):
    text = words(path)
    found = {
        what: [
            text[max(0, hit.start() - 40) : hit.end() + 20] for hit in re.finditer(pattern, text)
        ]
        for what, pattern in INTERNAL.items()
    }
    assert {what: hits[:3] for what, hits in found.items() if hits} == {}


@pytest.mark.parametrize("what", INTERNAL)
def test_the_patterns_find_what_they_are_for(what):
    examples = {
        "a class of Python": "f is computed with Relu, _Largest",
        "a private name": "its __init__ says",
        "what was not run": "this is not run",
        "raw LaTeX": "at e^{−t} and H_b∇f",
        "e-notation": "about 9.71e-01.",
        "a number that is none": "was nan there",
        "a tensor": "is tensor(3.0)",
        "the build's folders": "in /tmp/a",
        "raw Markdown": "a **bold word**",
    }
    assert re.search(INTERNAL[what], examples[what])
    plain = "The class of 2 × 10⁻⁵, x_1 and θ_k: information, 3e and 10 000 steps cost $5."
    assert not re.search(INTERNAL[what], plain)
