"""What the book consists of: the checkout, its table of contents, and the names of chapters."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import nbformat
import yaml

from gfgd.book.errors import UsageError

CONTENTS = "_toc.yml"
GENERATED = ("what_holds", "parameters")


def find_root(start: Path | None = None) -> Path:
    """Return the checkout: the nearest folder upward that has a ``_toc.yml``.

    Without a `start`, looks upward from the current directory, then from this file.

    Raises
    ------
    UsageError
        If there is none.
    """
    starts = [start] if start else [Path.cwd(), Path(__file__).parent]
    for place in starts:
        for folder in (place.resolve(), *place.resolve().parents):
            if (folder / CONTENTS).is_file() and (folder / "chapters").is_dir():
                return folder
    raise UsageError(
        "no checkout of the book here: change into one (the folder with _toc.yml); a notebook that "
        "is named by its path runs without one, given --output FILE and no --preset"
    )


def documents(root: Path) -> list[str]:
    """Return the documents of the table of contents, paths without suffix, in reading order."""
    contents = yaml.safe_load((root / CONTENTS).read_text(encoding="utf-8"))
    return list(_documents(contents))


def chapters(root: Path) -> list[Path]:
    """Return the notebooks of the table of contents, in reading order."""
    paths = (root / f"{document}.ipynb" for document in documents(root))
    return [path for path in paths if path.is_file()]


def parts(root: Path) -> list[tuple[str, list[str]]]:
    """Return the parts of the table of contents: each part's name, and its documents.

    A table of contents without parts is one part without a name.
    """
    contents = yaml.safe_load((root / CONTENTS).read_text(encoding="utf-8"))
    found = contents.get("parts", [contents])
    return [(part.get("caption", ""), list(_documents(part.get("chapters", [])))) for part in found]


def absent_pages(root: Path) -> list[str]:
    """Return the documents of the table of contents that are neither there nor generated."""
    return [
        document
        for document in documents(root)
        if document not in GENERATED
        and not any((root / f"{document}{suffix}").is_file() for suffix in (".ipynb", ".md"))
    ]


def find_chapter(name: str, root: Path) -> Path:
    """Return the notebook that a user means: a path, a number, a file stem, or a stem's beginning.

    ``1`` and ``01`` are the chapter whose name begins with 01.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name)
    known = {path.stem: path for path in sorted((root / "chapters").glob("[!.]*.ipynb"))}
    if name in known:
        return known[name]
    starting = [stem for stem in known if name.isdecimal() and _number(stem) == int(name)]
    starting = starting or [stem for stem in known if stem.startswith(name)]
    if len(starting) == 1:
        return known[starting[0]]
    if starting:
        raise UsageError(f"chapter {name!r}: could be {', '.join(starting)}; give more of it")
    close = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
    raise UsageError(f"there is no chapter {name!r}; there is {', '.join(close) or 'none at all'}")


def _number(stem: str) -> int | None:
    """Return the number that a chapter's name begins with."""
    found = re.match(r"\d+", stem)
    return int(found.group()) if found else None


def title(notebook: nbformat.NotebookNode) -> str:
    """Return the text of the first heading of a notebook."""
    for cell in notebook.cells:
        for line in cell.source.splitlines():
            if cell.cell_type == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return "Untitled"


def _documents(node: Any) -> Iterator[str]:
    """Yield every ``file`` and ``root`` of a table of contents, depth first."""
    if isinstance(node, list):
        for item in node:
            yield from _documents(item)
    elif isinstance(node, dict):
        yield from (node[key] for key in ("root", "file") if key in node)
        for value in node.values():
            if isinstance(value, (list, dict)):
                yield from _documents(value)


def number_of(chapter: str) -> str:
    """Return the number that a chapter's file name, or path, begins with; no zeros in front."""
    return chapter.split("/")[-1].partition("_")[0].lstrip("0")
