"""The chapters' runs: which are still good, which must be made again."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from gfgd.book.claims import Claim
from gfgd.book.execute import execute_chapter, read_claims
from gfgd.book.fingerprint import fingerprint
from gfgd.book.parameters import read_parameters, validate


@dataclass(frozen=True)
class Run:
    """A chapter's executed notebook, the parameters it ran with, and whether it ran just now."""

    chapter: Path
    executed: Path
    parameters: dict[str, Any]
    fresh: bool
    seconds: float

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims of the executed notebook."""
        return read_claims(nbformat.read(self.executed, as_version=4))


def run_chapter(chapter: Path, executed: Path, overrides: Mapping[str, Any], *, root: Path) -> Run:
    """Return the chapter's run, made anew only if something that it depends on has changed.

    Parameters
    ----------
    chapter
        The notebook.
    executed
        Where its executed notebook lies or will lie; its fingerprint lies beside it.
    overrides
        Values for its parameters; all others keep their defaults.
    root
        The checkout; also the working directory of the run.

    Raises
    ------
    ParameterError, ChapterError
        As `execute_chapter` does.
    """
    values = validate(chapter, overrides)
    defaults = {name: entry.default for name, entry in read_parameters(chapter).items()}
    parameters = defaults | values
    now = fingerprint(chapter, root, parameters, data=archive(root))
    record = executed.with_suffix(".json")
    if executed.is_file() and _recorded(record) == now:
        return Run(chapter, executed, parameters, fresh=False, seconds=0.0)
    record.unlink(missing_ok=True)
    started = time.perf_counter()
    execute_chapter(chapter, executed, values, directory=root)
    _write(record, json.dumps({"fingerprint": now}))
    return Run(chapter, executed, parameters, True, time.perf_counter() - started)


def archive(root: Path) -> list[Path]:
    """Return the archived results of long runs, which chapters may read."""
    return [path for path in (root / "data" / "archive").rglob("*") if path.is_file()]


def _recorded(record: Path) -> str | None:
    try:
        return json.loads(record.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
