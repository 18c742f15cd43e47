"""The pipeline that makes the book, apart from the mathematics.

A chapter needs two names of it: ``from gfgd.book import claim, report``.
"""

from gfgd.book.claims import Claim, claim, report

__all__ = ["Claim", "claim", "report"]
