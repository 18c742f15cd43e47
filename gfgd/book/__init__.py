"""The pipeline that makes the book, apart from the mathematics.

A chapter needs three names of it at most: ``from gfgd.book import claim, record, report``.
"""

from gfgd.book.claims import Claim, claim, record, report

__all__ = ["Claim", "claim", "record", "report"]
