"""The files of a reader that a run depends on: those that its parameters name by import path.

`gfgd.book.importing` says what an import path is. A run depends on the file that it names, on the
files that this one imports, and so on; what is installed counts through the lock file instead.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gfgd.book.running.fingerprint import PACKAGE, add_parts, imported_files, imports_of

_IMPORT_PATH = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(\.\w+)*):[^\W\d]\w*")


def own_files_digest(parameters: Mapping[str, Any], directory: Path, root: Path) -> str:
    """Return the SHA-256 of the reader's files that a run depends on; empty where there is none.

    Parameters
    ----------
    parameters
        The values that the chapter runs with.
    directory
        The working directory of the run, in which relative paths and module names begin.
    root
        The checkout, for the modules of gfgd that the reader's files import.
    """
    files = own_files(parameters, directory, root)
    if not files:
        return ""
    digest = hashlib.sha256()
    for path in files:
        add_parts(digest, path.name, path.read_bytes())
    return digest.hexdigest()


def own_files(parameters: Mapping[str, Any], directory: Path, root: Path) -> list[Path]:
    """Return the reader's files that a run depends on, and what they need of gfgd, sorted."""
    matches = [_IMPORT_PATH.fullmatch(text.strip()) for text in _texts(parameters.values())]
    places = [found["place"] for found in matches if found]
    scripts = [(directory / Path(x).expanduser()).resolve() for x in places if x.endswith(".py")]
    scripts = [path for path in scripts if path.is_file()]
    # Where a run looks for modules ahead of what is installed: see `importing`.
    folders = [path.parent for path in scripts] + [directory.resolve()]
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders += [Path(entry).resolve() for entry in path if entry]
    names = {place for place in places if not place.endswith(".py")}
    for path in scripts:
        names |= set(_imports(path, ""))
    return sorted({*scripts, *_followed(names, folders, root)})


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)


def _followed(names: set[str], folders: Sequence[Path], root: Path) -> set[Path]:
    """Return the files that importing some dotted names executes, apart from what is installed."""
    files: set[Path] = set()
    waiting, seen = set(names), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name.split(".")[0] == PACKAGE:
            files |= imported_files({name}, root)
            continue
        for package, path in _module_files(name, folders):
            if path not in files:
                files.add(path)
                waiting |= set(_imports(path, package)) - seen
    return files


def _module_files(name: str, folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files that importing a dotted name executes, each with the package it lies in."""
    parts = name.split(".")
    for folder in [*folders, *_found_elsewhere(parts[0])]:
        if not any(_files(folder / parts[0])):
            continue
        for end in range(1, len(parts) + 1):
            for path in _files(folder.joinpath(*parts[:end])):
                inside = parts[:end] if path.name == "__init__.py" else parts[: end - 1]
                yield ".".join(inside), path
        return


def _files(stem: Path) -> Iterator[Path]:
    yield from (p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file())


def _found_elsewhere(top: str) -> list[Path]:
    """Return the folder of a package installed in place (``pip install -e``), if it is one."""
    if not top or top in sys.stdlib_module_names:
        return []
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None:
        return []
    origin = Path(spec.origin).resolve()
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    if any(folder in origin.parents for folder in installed):
        return []
    return [origin.parent.parent if origin.name == "__init__.py" else origin.parent]


def _imports(path: Path, package: str) -> Iterator[str]:
    try:
        source = path.read_text(encoding="utf-8")
        ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):  # the run will say so
        return iter(())
    return imports_of(source, package)
