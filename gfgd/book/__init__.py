"""The pipeline that makes the book, apart from the mathematics.

A chapter needs a few names of it: ``from gfgd.book import claims_on, plain, report, table``.
All but `plain` are imported when they are asked for: they need IPython, and ``gfgd data`` does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gfgd.typography import plain

if TYPE_CHECKING:
    from gfgd.book.claims import Claim, claim, claims_on, maximum, minimum, record, report, table

__all__ = [
    "Claim",
    "claim",
    "claims_on",
    "maximum",
    "minimum",
    "plain",
    "record",
    "report",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("gfgd.book.claims"), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{__name__}.{name} shows itself in a notebook and needs more packages: "
            f"pip install 'gfgd[book]' ({error})",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    """Return the public names, the late ones too: Sphinx goes by this list."""
    return sorted(__all__)
