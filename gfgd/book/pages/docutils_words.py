"""What Sphinx knows and docutils does not, said in words on a page of its own.

Theorems, exercises and numbered formulas count from 1 on the page; a reference to one of them gives
its number. A link to another page, a term and a citation become the words that name them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.directives.body import MathBlock
from nbformat import NotebookNode

STATEMENTS = ("theorem", "lemma", "proposition", "corollary", "definition", "proof")
EXERCISES = ("exercise", "solution")
_UNNUMBERED = ("proof", "solution")
_OPENED = re.compile(
    r"^\s*[`:]{3,}\{(?:prf:)?(?P<kind>\w+)\}.*\n(?:\s*:(?!label)\w+:.*\n)*(?:\s*:label:\s*(?P<label>\S+))?",
    re.MULTILINE,
)
_TARGETED = re.compile(r"(?P<text>.*?)\s*<(?P<target>[^<>]+)>", re.DOTALL)


def numbers(notebook: NotebookNode) -> dict[str, str]:
    """Return what a reference to each label says, such as ``Theorem 2`` or ``(3)``."""
    counts: Counter[str] = Counter()
    said = {}
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for found in _OPENED.finditer(cell.source):
            kind, label = found["kind"], found["label"]
            if kind not in (*STATEMENTS, *EXERCISES, "math") or (kind == "math" and not label):
                continue
            counts[kind] += 1
            if label:
                number = counts[kind]
                said[label] = f"({number})" if kind == "math" else f"{kind.capitalize()} {number}"
    return said


def register(said: Mapping[str, str]) -> None:
    """Let docutils know the book's directives and roles; `said` is what references say."""
    counts: Counter[str] = Counter()
    for kind in (*STATEMENTS, *EXERCISES):
        name = f"prf:{kind}" if kind in STATEMENTS else kind
        directives.register_directive(name, _statement(kind, counts))
    directives.register_directive("math", _formula(said))

    def reference(role: str, raw: str, text: str, *rest: Any, **more: Any) -> Any:
        words, target = _split(text)
        return [nodes.inline(raw, said.get(target, words or target), classes=["reference"])], []

    for role in ("prf:ref", "eq", "ref", "numref"):
        roles.register_local_role(role, reference)
    for role in ("doc", "term", "cite:p", "cite:t"):
        roles.register_local_role(role, _words)


def _split(text: str) -> tuple[str, str]:
    """Return the words and the target of ``words <target>``; of a bare target both are it."""
    found = _TARGETED.fullmatch(text)
    return (found["text"], found["target"]) if found else ("", text)


def _words(role: str, raw: str, text: str, *rest: Any, **more: Any) -> Any:
    words, target = _split(text)
    if not words:
        words = target.rpartition("/")[2].replace("_", " ")
    return [nodes.inline(raw, f"[{words}]" if role.startswith("cite") else words)], []


def _statement(kind: str, counts: Counter[str]) -> type[Directive]:
    class Statement(Directive):
        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec = dict.fromkeys(("label", "class", "nonumber", "hidden"), directives.unchanged)

        def run(self) -> list[nodes.Node]:
            counts[kind] += 1
            number = "" if kind in _UNNUMBERED else f" {counts[kind]}"
            words = self.arguments[0] if self.arguments and kind != "solution" else ""
            box = nodes.container(classes=["statement", kind])
            head = nodes.paragraph()
            head += nodes.strong("", f"{kind.capitalize()}{number}.")
            if words:
                told, _ = self.state.inline_text(words, self.lineno)
                head += [nodes.Text(" "), *told]
            box += head
            self.state.nested_parse(self.content, self.content_offset, box)
            return [box]

    return Statement


def _formula(said: Mapping[str, str]) -> type[Directive]:
    class Formula(MathBlock):
        option_spec = {**(MathBlock.option_spec or {}), "label": directives.unchanged}  # noqa: RUF012

        def run(self) -> list[nodes.Node]:
            number = said.get(self.options.pop("label", ""))
            shown = list(super().run())
            if number:
                shown.insert(
                    0, nodes.container("", nodes.Text(number), classes=["equation-number"])
                )
            return shown

    return Formula
