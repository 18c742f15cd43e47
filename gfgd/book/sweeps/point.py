"""One point of a sweep: run the chapter there, and keep what came of it under its fingerprint.

What is kept is JSON and a notebook, each written to a temporary name and renamed, the JSON last:
what stands there is whole, whenever the process was killed.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import nbformat
from papermill.exceptions import PapermillExecutionError

from gfgd.book.claims import Claim
from gfgd.book.errors import ChapterError
from gfgd.book.running.execute import execute_chapter, read_records
from gfgd.book.running.fingerprint import fingerprint
from gfgd.book.running.own_files import own_files_digest
from gfgd.book.running.runs import data_of

KEPT = "points"
RUNNING = ".running"


@dataclass(frozen=True)
class Result:
    """What came of a point.

    "done": the chapter ran to its end. "failed": a cell raised an error; it would do so again.
    "lost": the run was cut short (its kernel or its worker died); it may end otherwise next time.
    """

    status: Literal["done", "failed", "lost"]
    seconds: float | None = None
    error: str | None = None
    claims: tuple[Claim, ...] = ()
    recorded: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON."""
        return {
            "status": self.status,
            "seconds": self.seconds,
            "error": self.error,
            "claims": [claim.to_json() for claim in self.claims],
            "recorded": {name: repr(value) for name, value in self.recorded.items()},
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Result":
        """Return the result that `to_json` wrote."""
        return cls(
            fields["status"],
            fields["seconds"],
            fields["error"],
            tuple(Claim.from_json(claim) for claim in fields["claims"]),
            {name: float(value) for name, value in fields["recorded"].items()},
        )


@dataclass(frozen=True)
class Point:
    """A chapter and the parameters to run it with.

    Attributes
    ----------
    chapter, root
        The notebook, and the checkout.
    directory
        The working directory of the run, in which paths among the parameters begin.
    folder
        The sweep's folder.
    overrides, parameters
        What to run with instead of the defaults, and the values of all parameters.
    sources
        The fingerprint of everything else that the run depends on (see `sources`), but for
    own
        that of the reader's own files, which the parameters name: see `own_files`.
    """

    chapter: Path
    root: Path
    directory: Path
    folder: Path
    overrides: Mapping[str, Any]
    parameters: Mapping[str, Any]
    sources: str
    own: str

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the sources, the reader's files and the parameters."""
        parts = [self.sources, self.own, dict(self.parameters)]
        text = json.dumps(parts, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def record(self) -> Path:
        """The file of the result."""
        return self.folder / KEPT / f"{self.fingerprint}.json"

    @property
    def notebook(self) -> Path:
        """The file of the executed notebook."""
        return self.record.with_suffix(".ipynb")


def sources(chapter: Path, root: Path) -> str:
    """Return the fingerprint of all that a chapter's run depends on apart from its parameters."""
    return fingerprint(chapter, root, {}, data=data_of(chapter, root))


def kept_result(point: Point) -> Result | None:
    """Return what was kept of a point, if anything readable was."""
    try:
        fields = json.loads(point.record.read_text(encoding="utf-8"))
        return Result.from_json(fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_point(point: Point) -> Result:
    """Run a chapter at a point and keep the result, unless one is there already.

    An error of the chapter is a result, too. One that was cut short is not kept.
    """
    kept = kept_result(point)
    if kept is not None:
        return kept
    if sources(point.chapter, point.root) != point.sources:
        return Result("lost", error="the chapter, gfgd or the lock file here is not the sweep's")
    if own_files_digest(point.parameters, point.directory, point.root) != point.own:
        return Result("lost", error="a file that the parameters name has changed, or is not here")
    running = point.folder / RUNNING
    running.mkdir(parents=True, exist_ok=True)
    point.record.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=running) as place:
        return _run(point, Path(place))


def _run(point: Point, place: Path) -> Result:
    started = time.perf_counter()
    notebook: Path | None = place / "run.ipynb"
    try:
        done = execute_chapter(
            point.chapter, notebook, point.overrides, directory=point.directory, progress=False
        )
    except ChapterError as error:
        status = "failed" if isinstance(error.__cause__, PapermillExecutionError) else "lost"
        result = Result(status, time.perf_counter() - started, error.reason)
        notebook = error.notebook
    else:
        recorded = read_records(nbformat.read(notebook, as_version=4))
        result = Result("done", done.seconds, None, done.claims, recorded)
    if notebook is not None:
        notebook.replace(point.notebook)
    if result.status != "lost":
        _keep(point, result, place)
    return result


def _keep(point: Point, result: Result, place: Path) -> None:
    about = {"chapter": point.chapter.stem, "parameters": dict(point.parameters)}
    text = json.dumps(about | result.to_json(), indent=1, ensure_ascii=False, default=repr)
    temporary = place / "record.json"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(point.record)
