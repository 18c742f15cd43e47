"""`gfgd book`: run the chapters that need it, gather the claims, build the HTML."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from gfgd.book.contents import absent_pages, chapters, title
from gfgd.book.errors import BookError
from gfgd.book.pages.assemble import assemble
from gfgd.book.pages.downloads import add_downloads
from gfgd.book.pages.generated import Gathered, duplicates
from gfgd.book.pages.html import build_html
from gfgd.book.pages.previews import add_previews
from gfgd.book.pages.search_texts import drop_search_index, write_search_texts
from gfgd.book.running.locks import exclusive
from gfgd.book.running.parameters import read_parameters, read_preset
from gfgd.book.running.runs import Run, Task, run_chapters

DEFAULT_PRESET = "default"


@dataclass(frozen=True)
class Book:
    """A built book: its front page, its chapters' runs, its claims, and whether HTML was built."""

    index: Path
    runs: tuple[Run, ...]
    claims: tuple[Gathered, ...]
    html_built: bool

    def failures(self) -> list[str]:
        """Return a line for each claim that does not hold, with its chapter."""
        return [f"{entry.chapter}: {entry.claim}" for entry in self.claims if not entry.claim.holds]


def build_book(
    root: Path,
    *,
    preset: str | None = None,
    dataset: str | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Book:
    """Build the book of a checkout into ``_build/html``, doing only what has changed.

    A second build of the same checkout waits for the first. A claim that does not hold is no
    error here: see `Book.failures`.

    Parameters
    ----------
    root
        The checkout.
    preset
        The name of a preset; by default every chapter runs with its own defaults.
    dataset
        A dataset for every chapter that has a parameter ``dataset``; by default the chapter's.
    jobs
        How many chapters may run at the same time.
    say
        Is told of each step in a line.

    Raises
    ------
    ParameterError, ChapterError, BookError
        For a mistake in the parameters, a chapter that fails, and a page that cannot be built.
    """
    absent = absent_pages(root)
    if absent:
        raise BookError(f"_toc.yml names {absent}, but there is no such .ipynb or .md")
    paths = chapters(root)
    stems = [path.stem for path in paths]
    presets = read_preset(preset_path(root, preset), stems) if preset else {}
    with build_lock(root, say):
        executed = root / "_build" / "executed" / (preset or DEFAULT_PRESET)
        tasks = [
            Task(path, executed / path.name, overrides(path, presets.get(path.stem, {}), dataset))
            for path in paths
        ]
        runs = run_chapters(tasks, root=root, jobs=jobs, say=say)
        gathered = gather(root, runs, preset or DEFAULT_PRESET)
        source = root / "_build" / "source"
        assemble(root, source, runs, gathered, complete=not preset and not dataset)
        _write_claims(root, gathered)
        html = root / "_build" / "html"
        built = build_html(
            source,
            root / "_build" / "jupyter-book",
            html,
            library=root / "gfgd",
            finish=lambda pages: _finish(root, pages),
        )
    return Book(html / "index.html", tuple(runs), tuple(gathered), built)


def preset_path(root: Path, name: str) -> Path:
    """Return the file of a preset."""
    return root / "chapters" / "presets" / f"{name}.yaml"


def build_lock(root: Path, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the checkout's build to oneself; wait, and say so, while another build has it."""
    waiting = "another build of this checkout is under way; waiting for it"
    return exclusive(root / "_build", say, waiting)


def gather(root: Path, runs: list[Run], preset: str) -> list[Gathered]:
    """Return the claims of all chapters, in their order.

    Raises
    ------
    BookError
        If two claims have the same name.
    """
    gathered = []
    for run in runs:
        chapter = run.chapter.relative_to(root).with_suffix("").as_posix()
        heading = title(nbformat.read(run.chapter, as_version=4))
        default = run.parameters.get("dataset")
        gathered += [
            Gathered(claim, chapter, heading, preset, claim.dataset or default)
            for claim in run.claims()
        ]
    repeated = duplicates(gathered)
    if repeated:
        raise BookError("\n".join([*repeated, "give each claim a name of its own"]))
    return gathered


def overrides(chapter: Path, preset: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """Return what a chapter runs with instead of its defaults: the preset, then the dataset."""
    values = dict(preset)
    if dataset is not None and "dataset" in read_parameters(chapter):
        values["dataset"] = dataset
    return values


def _finish(root: Path, pages: Path) -> None:
    """Add to new pages what jupyter-book does not make; the zip, of all of them, comes last."""
    add_previews(root, pages)
    drop_search_index(pages)
    write_search_texts(pages)
    add_downloads(root, pages)


def _write_claims(root: Path, gathered: list[Gathered]) -> None:
    claims = json.dumps([entry.to_json() for entry in gathered], indent=1, ensure_ascii=False)
    (root / "_build" / "claims.json").write_text(claims + "\n", encoding="utf-8")
