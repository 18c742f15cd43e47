"""The source tree that jupyter-book reads: the checkout's pages with executed notebooks in place.

Written file by file, and only where the contents differ, so that jupyter-book sees what changed.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode

from gfgd.book.claims import MIME_TYPE, Claim
from gfgd.book.contents import documents, number_of, parts, title
from gfgd.book.pages.boxes import claim_line
from gfgd.book.pages.citation import cite_this
from gfgd.book.pages.downloads import configuration
from gfgd.book.pages.first_screen import arranged
from gfgd.book.pages.front_page import cards, chapters_list, filled, hero
from gfgd.book.pages.generated import Gathered, parameters_page, what_holds
from gfgd.book.pages.mathjax import copy_mathjax
from gfgd.book.pages.merge import with_fresh_prose
from gfgd.book.pages.pictures import with_pictures
from gfgd.book.pages.poster import CHAPTER, poster
from gfgd.book.pages.previews import POSTER
from gfgd.book.pages.thumbnails import key_picture
from gfgd.book.pages.typeset import as_read
from gfgd.book.running.outputs import structured
from gfgd.book.running.parameters import read_parameters
from gfgd.book.running.runs import Run

SETTINGS = ("_toc.yml", "references.bib")


def assemble(
    root: Path,
    source: Path,
    runs: Iterable[Run],
    gathered: Iterable[Gathered],
    *,
    complete: bool = True,
) -> None:
    """Make the source tree hold exactly what the book consists of.

    Every page of the table of contents must be there: see `contents.absent_pages`. A book is
    `complete` if it runs with the chapters' own parameters and data.
    """
    runs, gathered = list(runs), list(gathered)
    files = {name: (root / name).read_bytes() for name in SETTINGS}
    files |= _static(root)
    executed = {_document(root, run): _under_fresh_prose(run) for run in runs}
    files |= _poster(executed, gathered)
    files |= _generated(root, runs, executed, gathered, complete)
    files |= {f"{document}.ipynb": _page_of(document, executed[document]) for document in executed}
    for document in documents(root):
        files |= _page(root, document, files)
    _mirror(source, files)
    if not (source / "_extra" / "mathjax").is_dir():
        copy_mathjax(source / "_extra" / "mathjax")


def _document(root: Path, run: Run) -> str:
    """Return a chapter's path without suffix, as the table of contents has it."""
    return run.chapter.relative_to(root).with_suffix("").as_posix()


def _under_fresh_prose(run: Run) -> NotebookNode:
    chapter, executed = (nbformat.read(path, as_version=4) for path in (run.chapter, run.executed))
    return with_fresh_prose(chapter, executed)


def _page_of(document: str, executed: NotebookNode) -> bytes:
    """Return the notebook of a chapter's page."""
    stem = PurePosixPath(document).name
    page = with_pictures(arranged(executed, int(number_of(stem))), stem)
    for cell in page.cells:
        for output in cell.get("outputs", []):
            _as_read(output.get("data", {}))
    return nbformat.writes(page).encode()


def _as_read(data: dict) -> None:
    """Make a report or a claim what a reader wants, in place: no e-notation, a claim in a line."""
    if MIME_TYPE in data:
        claim = Claim.from_json(structured(data, MIME_TYPE))
        data["text/html"] = as_read(claim_line(claim))
    elif "text/markdown" in data:
        data["text/markdown"] = as_read("".join(data["text/markdown"]))


def _static(root: Path) -> dict[str, bytes]:
    paths = (path for path in (root / "_static").rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _poster(executed: Mapping[str, NotebookNode], gathered: list[Gathered]) -> dict[str, bytes]:
    """Return the picture for previews of links, if the chapter that it shows is in the book."""
    for document, notebook in executed.items():
        svg = key_picture(notebook) if number_of(document) == CHAPTER else None
        if svg:
            return {POSTER: poster(svg, gathered)}
    return {}


def _generated(
    root: Path,
    runs: list[Run],
    executed: Mapping[str, NotebookNode],
    gathered: list[Gathered],
    complete: bool,
) -> dict[str, bytes]:
    chapters = {
        document: (title(executed[document]), read_parameters(run.chapter).values())
        for run in runs
        if (document := _document(root, run))
    }
    claims = json.dumps([entry.to_json() for entry in gathered], indent=1, ensure_ascii=False)
    index = (root / "index.md").read_text(encoding="utf-8")
    pages = {
        "_config.yml": configuration(root),
        "_generated/cite.md": cite_this(root),
        "_generated/hero.md": hero(),
        "_generated/chapters.md": chapters_list(executed, parts(root)),
        "index.md": filled(index, gathered, complete=complete),
        "what_holds.md": what_holds(gathered),
        "parameters.md": parameters_page(chapters),
        "_extra/claims.json": claims + "\n",
    } | cards(executed)
    return {name: text.encode() for name, text in pages.items()}


def _page(root: Path, document: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a page's file and its contents, unless the files hold it already."""
    names = [f"{document}{suffix}" for suffix in (".ipynb", ".md")]
    if any(name in files for name in names):
        return {}
    for name in names:
        if (root / name).is_file():
            return {name: (root / name).read_bytes()}
    raise FileNotFoundError(f"{document}: no {' or '.join(names)}")


def _mirror(source: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder hold these files; MathJax, copied once, stays."""
    keep = source / "_extra" / "mathjax"
    for path in [path for path in source.rglob("*") if path.is_file()]:
        if keep not in path.parents and path.relative_to(source).as_posix() not in files:
            path.unlink()
    for name, contents in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != contents:
            path.write_bytes(contents)
