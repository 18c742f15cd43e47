"""Whether a chapter must run again.

A fingerprint is the SHA-256 of everything that a chapter's outputs depend on: its code cells, the
modules of gfgd that it imports, directly or through another, the lock file, its parameters, and
the data. A cache keyed on the notebook alone would miss an edit of an imported module; and one
keyed on all of the notebook would run minutes of code for a changed sentence.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

PACKAGE = "gfgd"
#: The tags that nbclient and papermill look at; all others are about the page.
RUN_TAGS = frozenset({"parameters", "injected-parameters", "raises-exception", "skip-execution"})


def fingerprint(
    chapter: Path,
    root: Path,
    parameters: Mapping[str, Any],
    *,
    data: Iterable[Path] = (),
) -> str:
    """Return the SHA-256, in hexadecimal, of all that a chapter's run depends on.

    Parameters
    ----------
    chapter
        The notebook. Of its cells the code counts, and the tags that say how it is run; prose,
        outputs, and what only the page shows (alt texts, folds) do not.
    root
        The checkout: the package, and ``requirements.lock`` if it is there.
    parameters
        The values that the chapter runs with, the dataset's name among them.
    data
        Files that chapters read, such as the archive of long runs.
    """
    notebook = nbformat.read(chapter, as_version=4)
    modules = imported_files(notebook_imports(notebook), root)
    # Scripts beside a module, as in gfgd/book/live, end up in the chapter's outputs.
    scripts = {path for module in modules for path in module.parent.glob("*.js")}
    files = sorted(modules | scripts)
    files += [root / "requirements.lock", *sorted(data)]
    digest = hashlib.sha256()
    add_parts(digest, _cells(notebook), json.dumps(dict(parameters), sort_keys=True, default=repr))
    for path in files:
        if path.is_file():
            add_parts(digest, path.relative_to(root).as_posix(), path.read_bytes())
    return digest.hexdigest()


def tree_fingerprint(root: Path, pattern: str = "*") -> str:
    """Return the SHA-256 of every file of that pattern under a folder, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob(pattern) if path.is_file()):
        add_parts(digest, path.relative_to(root).as_posix(), path.read_bytes())
    return digest.hexdigest()


def plain_python(source: str) -> str:
    """Return a cell's source with IPython's magics turned into plain Python."""
    return TransformerManager().transform_cell(source)


def notebook_imports(notebook: nbformat.NotebookNode) -> set[str]:
    """Return the dotted names that a notebook's code cells import."""
    names: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            names |= set(imports_of(plain_python(cell.source), ""))
    return names


def imported_files(names: Iterable[str], root: Path) -> set[Path]:
    """Return the files of the package that importing some dotted names would execute.

    Importing ``gfgd.a.b`` executes ``gfgd/__init__.py``, ``gfgd/a/__init__.py`` and
    ``gfgd/a/b.py``, and all that they import in turn.
    """
    found: set[Path] = set()
    waiting = set(names)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for path in _files(name, root):
            if path not in found:
                found.add(path)
                package = ".".join(path.relative_to(root).parent.parts)
                waiting |= set(imports_of(path.read_text(encoding="utf-8"), package)) - seen
    return found


def _files(name: str, root: Path) -> Iterator[Path]:
    """Yield the files of each prefix of a dotted name that is a module of the package."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                yield path


def imports_of(source: str, package: str) -> Iterator[str]:
    """Yield the dotted names that a source imports; of ``from a import b`` both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join((parents if node.level else []) + [node.module or ""]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the cells that a run executes, in their order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _cells(notebook: nbformat.NotebookNode) -> str:
    cells = [
        [cell.source, sorted(RUN_TAGS.intersection(cell.metadata.get("tags", [])))]
        for cell in code_cells(notebook)
    ]
    return json.dumps(cells)


def add_parts(digest: Any, *parts: str | bytes) -> None:
    """Add parts to a digest, each with its length, so that no two sequences look alike."""
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
