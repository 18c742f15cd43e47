"""Packages that others wrote for the same tasks. None is needed; one that is missing is named."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Peer:
    """A package by the names that its authors, pip and Python's ``import`` give it."""

    name: str
    package: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether Python finds it; what it needs itself may still be missing."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def title(self) -> str:
        """Its name, with the version where it is installed."""
        return f"{self.name} {version(self.package)}" if self.installed else self.name


@dataclass(frozen=True)
class Nothing:
    """Why a peer has no numbers."""

    reason: str


#: The dependency group `peers` of pyproject.toml.
PYHESSIAN = Peer("PyHessian", "pyhessian", "pyhessian")
CURVLINOPS = Peer("curvlinops", "curvlinops-for-pytorch", "curvlinops")
DIFFRAX = Peer("diffrax", "diffrax", "diffrax")
STABLE_SOLVERS = Peer("stable-solvers", "stable-solvers", "stable_solvers")
PEERS = (PYHESSIAN, CURVLINOPS, DIFFRAX, STABLE_SOLVERS)


def attempt(peer: Peer | None, run: Callable[[], Result]) -> Result | Nothing:
    """Return what `run` returns, or why a peer has nothing: it is not there, or it failed.

    Without a peer the code is this library's, and its errors are raised.
    """
    if peer is None:
        return run()
    if not peer.installed:
        return Nothing(f"not installed: pip install {peer.package}")
    try:
        return run()
    except Exception as error:  # any: the peer's own message belongs into the table
        said = str(error).strip().splitlines()
        return Nothing(": ".join(["failed", type(error).__name__, *said[:1]]))
