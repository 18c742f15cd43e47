"""Run one chapter through papermill, to a temporary name first.

What stands under the output's name is always a whole, successful run. A run that fails leaves its
notebook beside it as ``NAME.failed.ipynb``.
"""

import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from gfgd.book.claims import MIME_TYPE, RECORD_TYPE, Claim
from gfgd.book.errors import ChapterError, ParameterError
from gfgd.book.running.outputs import structured
from gfgd.book.running.parameters import read_parameters, validate
from gfgd.files import check_output, commit

PROVENANCE_TAG = "provenance"
_LONGEST_SOCKET = 90  # bytes in a socket's path that every system takes, with room for a number


@dataclass(frozen=True)
class Executed:
    """A chapter's successful run: the notebook written, its claims, and the seconds it took."""

    path: Path
    claims: tuple[Claim, ...]
    seconds: float


def execute_chapter(
    chapter: Path,
    output: Path,
    overrides: Mapping[str, Any],
    *,
    directory: Path | None = None,
    progress: bool = True,
) -> Executed:
    """Run a chapter with papermill, add its provenance, and move it to `output`.

    Parameters
    ----------
    chapter
        The notebook; it is not changed.
    output
        Where the executed notebook goes; an earlier file there is replaced only by success. Whether
        one can be written there is tried before anything runs.
    overrides
        Values for the chapter's parameters.
    directory
        The working directory of the run; by default the current one.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ParameterError, OutputError
        If an override cannot be used, or `output` is the chapter itself or cannot be written;
        nothing has run then.
    ChapterError
        If a cell fails or the kernel dies.
    """
    if output.resolve() == chapter.resolve():
        raise ParameterError(f"output = {output}: is the chapter itself; give another file")
    values = validate(chapter, overrides)
    output = check_output(output)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    started = time.perf_counter()
    try:
        _papermill(chapter, temporary, values, directory, progress)
        seconds = time.perf_counter() - started
        claims = _finish(chapter, temporary, values, seconds)
        temporary.replace(output)
    except (PapermillExecutionError, DeadKernelError, CellTimeoutError) as error:
        kept = temporary.replace(failed) if temporary.exists() else None
        raise ChapterError(_failure(chapter, error), kept) from error
    finally:
        temporary.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    return Executed(output, claims, seconds)


def read_claims(notebook: nbformat.NotebookNode) -> tuple[Claim, ...]:
    """Return the claims that an executed notebook holds, in its order."""
    return tuple(Claim.from_json(fields) for fields in _outputs(notebook, MIME_TYPE))


def read_records(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """Return the numbers that an executed notebook has recorded, by name, in its order."""
    found = _outputs(notebook, RECORD_TYPE)
    return {fields["name"]: float(fields["value"]) for fields in found}


def _outputs(notebook: nbformat.NotebookNode, mime_type: str) -> Iterator[dict[str, Any]]:
    """Yield what the outputs of one kind hold, in the notebook's order."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if mime_type in output.get("data", {}):
                yield structured(output["data"], mime_type)


@contextmanager
def _channel() -> Iterator[Config]:
    """Yield how to speak to a kernel: over files of this user if possible, not over open ports.

    Each run has a folder of its own for them. Jupyter would take the first names that are free in
    the current one, and those are the same for two kernels that start at once.
    """
    with tempfile.TemporaryDirectory(prefix="gfgd-") as folder:
        sockets = f"{folder}/kernel"
        files = os.name == "posix" and len(os.fsencode(sockets)) < _LONGEST_SOCKET
        yield Config({"KernelManager": {"transport": "ipc", "ip": sockets}} if files else {})


def _papermill(
    chapter: Path, output: Path, values: Mapping[str, Any], directory: Path | None, progress: bool
) -> None:
    # The environment's own kernel, not one that the user may have installed under that name.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    with _channel() as channel:
        papermill.execute_notebook(
            str(chapter),
            str(output),
            parameters=dict(values),
            kernel_name="python3",
            # The kernel's alone: papermill's `cwd` would move this process, all threads of it.
            resources={"metadata": {"path": str(directory or Path.cwd())}},
            progress_bar={"desc": chapter.stem} if progress else False,  # type: ignore[arg-type]
            config=channel,
        )


def _finish(
    chapter: Path, path: Path, values: Mapping[str, Any], seconds: float
) -> tuple[Claim, ...]:
    """Add the provenance to an executed notebook, and take this machine's paths out of it."""
    notebook = nbformat.read(path, as_version=4)
    run = notebook.metadata.get("papermill", {})
    for key in ("input_path", "output_path"):
        run[key] = chapter.name
    cell = nbformat.v4.new_markdown_cell(
        provenance(chapter, values, seconds), metadata={"tags": [PROVENANCE_TAG]}
    )
    notebook.cells.append(cell)
    nbformat.write(notebook, path)
    return read_claims(notebook)


def provenance(chapter: Path, overrides: Mapping[str, Any], seconds: float) -> str:
    """Return the section "How this page was made", in Markdown."""
    values = {name: entry.default for name, entry in read_parameters(chapter).items()}
    shown = ", ".join(f"{name} = {value!r}" for name, value in (values | dict(overrides)).items())
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "numpy", "gfgd"))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = {
        "Commit": commit(chapter.parent),
        "Parameters": f"`{shown}`" if shown else "none",
        "Versions": f"Python {platform.python_version()}, {versions}",
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, "
        f"{_accelerator()}",
        "Run": f"{when}, {seconds:.0f} s",
    }
    lines = "".join(f"- **{key}**: {value}\n" for key, value in rows.items())
    return f"## How this page was made\n\n{lines}"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _accelerator() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"


def _failure(chapter: Path, error: Exception) -> str:
    if not isinstance(error, PapermillExecutionError):
        return f"{chapter.stem}: the run stopped: {type(error).__name__}: {error}"
    source = error.source.strip()
    first = source.splitlines()[0] if source else "(empty)"
    numbers = [
        f"{index} (id {cell.get('id', 'none')})"
        for index, cell in enumerate(nbformat.read(chapter, as_version=4).cells)
        if cell.source.strip() == source
    ]
    where = f"cell {numbers[0]}" if numbers else "the cell of injected parameters"
    return f"{chapter.stem}: {where}, {first!r}: {error.ename}: {error.evalue}"
