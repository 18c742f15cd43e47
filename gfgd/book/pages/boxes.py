"""Claims on a page: a line each, and the rest folded.

A notebook shows a box in full (`gfgd.book.claims.Claim.to_html`). On the pages of the book, where
a chapter may have thirty, the line says what holds and what was measured. The criterion, the kind
and the name are in the fold.
"""

from html import escape
from itertools import accumulate

from gfgd.book.claims import Claim


def claim_line(claim: Claim) -> str:
    """Return a claim of a chapter as HTML: its verdict, statement and number, and the rest."""
    rest = f"{_measured(claim)} · {escape(claim.about)} · <code>{claim.name}</code>"
    return _folded(claim, claim.statement, rest, f' id="claim-{claim.name}"')


def claim_in_a_list(claim: Claim, about: str, link: str) -> str:
    """Return a claim of the page "What holds": as `claim_line`, but shorter.

    How the number was made is in the fold, too, with what is known `about` the claim and the
    `link` to its place.
    """
    statement, how = _divided(claim.statement)
    rest = [escape(how), _measured(claim), escape(about), f'<a href="{link}">{claim.name}</a>']
    return _folded(claim, statement, " · ".join(filter(None, rest)))


def _divided(statement: str) -> tuple[str, str]:
    """Return a statement, and what stands in parentheses at its end: how the number was made."""
    signs = ({")": 1, "(": -1}.get(sign, 0) for sign in reversed(statement[:-1]))
    depths = list(accumulate(signs))
    if not statement.endswith(").") or 0 not in depths:
        return statement, ""
    length = depths.index(0) + 1  # back to where the last parenthesis opens
    text, inner = statement[: -1 - length], statement[-length:-2]
    text = text.rstrip()
    return text if text.endswith(".") else f"{text}.", inner


def _folded(claim: Claim, statement: str, rest: str, attributes: str = "") -> str:
    kind, mark = ("gfgd-held", "✓") if claim.holds else ("gfgd-failed", "✗")
    # A claim that fails stands open: its criterion is what the reader needs.
    return (
        f'<details class="gfgd-claim {kind}"{attributes}'
        f"{'' if claim.holds else ' open'}><summary>"
        f'<strong title="{claim.verdict}">{mark}<span class="visually-hidden"> {claim.verdict}:'
        f"</span></strong> {escape(statement)} "
        f'<span class="gfgd-measured">{claim.measured:.4g}</span></summary>'
        f"<small>{rest}</small></details>"
    )


def _measured(claim: Claim) -> str:
    return f"measured {claim.measured:.4g}, to be {claim.criterion}"
