"""Claims on a page: a line each, and the rest folded.

A notebook shows a box in full (`gfgd.book.claims.Claim.to_html`). On the pages of the book, where
a chapter may have thirty, the line says what holds and what was measured. The criterion, the kind
and the name are in the fold.
"""

from html import escape

from gfgd.book.claims import Claim


def claim_line(claim: Claim) -> str:
    """Return a claim as HTML: its verdict, statement and number, and a fold with the rest."""
    kind, mark = ("gfgd-held", "✓") if claim.holds else ("gfgd-failed", "✗")
    # A claim that fails stands open: its criterion is what the reader needs.
    return (
        f'<details class="gfgd-claim {kind}" id="claim-{claim.name}"'
        f"{'' if claim.holds else ' open'}><summary>"
        f'<strong title="{claim.verdict}">{mark}<span class="visually-hidden"> {claim.verdict}:'
        f"</span></strong> {escape(claim.statement)} "
        f'<span class="gfgd-measured">{claim.measured:.4g}</span></summary>'
        f"<small>measured {claim.measured:.4g}, to be {claim.criterion} · {escape(claim.about)} · "
        f"<code>{claim.name}</code></small></details>"
    )
