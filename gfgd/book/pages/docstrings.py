"""A Sphinx extension for the pages on the library: shows docstrings as they are meant.

They are numpy-style, with formulas in plain text, for ``help()``. In reStructuredText ``|x|`` would
be the name of a substitution, and an indented formula a quotation whose lines run together: here
the bars are an absolute value and the lines stay. Of ``θ_k`` and ``e^{λt}`` the pages show the
index and the power.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx import addnodes

#: The page on the library, and the folder of those below it.
PAGES = "api"

# What stands between backquotes stays as it is. A prime follows one letter, a bracket, or an index.
_BACKQUOTED = r"``.*?``|`[^`]*`"
_PRIME = r"(?<=\b[A-Za-z])'+(?!\w)|(?<=[)\]}\u0080-\uffff])'+(?!\w)"
_SIGN = re.compile(rf"{_BACKQUOTED}|\||{_PRIME}|_\{{[^{{}}]*\}}|_[A-Za-z]{{1,2}}'(?!\w)")
# "f." at the beginning of a line would be item f of a list.
_ITEM = re.compile(r"^(\s*)(?=[A-Za-z][.)](?:\s|$))")
# x_k, x_ij′, x_{k+1} and max_j, but no name such as max_products; e^t, e^{λt}, e^(λt).
_INDEX_OR_POWER = re.compile(
    r"(?<=\S)(?<![A-Za-z]{3})_(?P<short>[^\W_]+′*)(?!\w)"
    r"|(?<=[A-Za-z]{3})_(?P<letter>[^\W_])(?!\w)"
    r"|(?<=\S)_\{(?P<index>[^{}]*)\}"
    r"|(?<=\S)\^(?:\{(?P<power>[^{}]*)\}|\((?P<round>[^()]*)\)|(?P<bare>[^\W_]+|∞))"
)
_NO_FORMULA = (
    nodes.literal,
    nodes.literal_block,
    nodes.doctest_block,
    nodes.strong,
    nodes.title,
    addnodes.desc_signature,
)


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    for extension in ("autodoc", "autosummary", "napoleon"):
        app.setup_extension(f"sphinx.ext.{extension}")
    # Before napoleon, which turns the sections of a docstring into fields and lists.
    app.connect("autodoc-process-docstring", mark_formulas, priority=400)
    app.connect("doctree-read", set_indices_and_powers)
    return {"parallel_read_safe": True}


def mark_formulas(
    app: Any, what: str, name: str, thing: object, options: Any, lines: list[str]
) -> None:
    """Change the formulas of a docstring's lines in place; literals and examples stay.

    Bars are escaped, apostrophes that mean primes become such, and a paragraph further in than the
    line before it becomes a block of lines.
    """
    marked, last = [], ""
    for empty, group in groupby(lines, key=lambda line: not line.strip()):
        paragraph = list(group)
        if not empty:
            before, last = last, paragraph[-1]
            deeper = bool(before) and _indent(paragraph[0]) > _indent(before)
            code = deeper and before.endswith("::")
            if not (code or paragraph[0].lstrip().startswith(">>>")):
                paragraph = [_ITEM.sub(r"\1\\", _SIGN.sub(_marked, line)) for line in paragraph]
                if deeper:
                    margin = min(map(_indent, paragraph))
                    paragraph = [f"{line[:margin]}| {line[margin:]}" for line in paragraph]
        marked += paragraph
    lines[:] = marked


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _marked(found: re.Match[str]) -> str:
    text = found.group()
    return text if text[0] == "`" else text.replace("|", r"\|").replace("'", "′")


def set_indices_and_powers(app: Any, document: nodes.document) -> None:
    """Lower the indices and raise the powers in the text of the pages on the library."""
    if app.env.docname.split("/")[0] != PAGES:
        return
    for text in list(document.findall(nodes.Text)):
        if not any(isinstance(node, _NO_FORMULA) for node in _above(text)):
            parts = formula(text.astext())
            if len(parts) > 1:
                text.parent.replace(text, parts)


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def formula(text: str) -> list[nodes.Node]:
    """Return text as nodes, with the indices and powers in it lowered and raised."""
    parts: list[nodes.Node] = []
    end = 0
    for found in _INDEX_OR_POWER.finditer(text):
        kind = nodes.superscript if found.group().startswith("^") else nodes.subscript
        inside = formula(found[found.lastgroup or 0])
        parts += [nodes.Text(text[end : found.start()]), kind("", "", *inside)]
        end = found.end()
    return [*parts, nodes.Text(text[end:])]
