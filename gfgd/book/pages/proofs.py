"""Sphinx extension: the proofs of the book's pages are folded.

A theorem stands on the page, and its proof opens with a click, by a link into it, or on paper.
"""

from typing import Any

from docutils import nodes

_FOLD = '<details class="gfgd-proof"><summary>Proof</summary>'
# What sphinx-proof puts ahead of a proof's text; the fold's summary says it.
_TITLE = "Proof. "


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("doctree-read", fold_proofs)
    return {"parallel_read_safe": True}


def fold_proofs(app: Any, doctree: nodes.document) -> None:
    """Put each proof of a page into a fold."""
    for proof in [box for box in doctree.findall(nodes.admonition) if _is_proof(box)]:
        _drop_title(proof)
        proof.insert(0, nodes.raw("", _FOLD, format="html"))
        proof.append(nodes.raw("", "</details>", format="html"))


def _is_proof(node: nodes.admonition) -> bool:
    """Whether it is a proof, and not in a fold already."""
    if node["classes"][:2] != ["proof", "proof"]:
        return False
    above = node.parent
    while isinstance(above, nodes.Element) and "dropdown" not in above.get("classes", ()):
        above = above.parent
    return not isinstance(above, nodes.Element)


def _drop_title(proof: nodes.Element) -> None:
    first = next(iter(proof.findall(nodes.Text)), None)
    if first is not None and first.startswith(_TITLE):
        first.parent.replace(first, nodes.Text(first[len(_TITLE) :]))
