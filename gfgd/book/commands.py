"""What the commands do that run chapters; they need the packages of the extra ``book``."""

import argparse
import os
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gfgd.book.build import build_book, preset_path
from gfgd.book.contents import chapters, find_chapter, find_root
from gfgd.book.errors import CommandError, UsageError
from gfgd.book.running.execute import execute_chapter
from gfgd.book.running.parameters import read_preset
from gfgd.book.sweeps.sweep import run_sweep
from gfgd.files import check_output
from gfgd.problems.datasets import DatasetError, fetch_mnist


def run(options: argparse.Namespace) -> int:
    """Run one chapter; `gfgd run`."""
    # A notebook by its path, with an output, needs no checkout: the package may be all there is.
    alone = options.chapter.endswith(".ipynb") and options.output and not options.preset
    root = Path.cwd() if alone else find_root()
    chapter = find_chapter(options.chapter, root)
    overrides = _preset(options.preset, chapter, root) | dict(options.parameters)
    output = options.output or root / "_build" / "runs" / chapter.name
    page = output.with_suffix(".html") if options.html or options.open else None
    if page is not None:
        check_output(page)
    done = execute_chapter(chapter, output, overrides)
    for claim in done.claims:
        say(str(claim))
    say(f"{done.seconds:.0f} s; the executed notebook: {done.path.resolve()}")
    if page is not None:
        _show(done.path, page, open_it=options.open)
    return 0


def report(options: argparse.Namespace) -> int:
    """Run the chapter on a reader's own network, and write what it finds; `gfgd report`."""
    from gfgd.book.one_page.network_report import CHAPTER, RECORDINGS, checked_loss, write_report

    if options.iterations % RECORDINGS:
        more = RECORDINGS * (options.iterations // RECORDINGS + 1)
        raise UsageError(
            f"--iterations {options.iterations}: give a multiple of {RECORDINGS}, such as {more}"
        )
    page = options.output
    if page.suffix != ".html":
        raise UsageError(f"--output {page}: the report is a page; give a name that ends in .html")
    executed, numbers = page.with_suffix(".ipynb"), page.with_suffix(".json")
    for path in (page, numbers, executed):
        check_output(path)
    loss = checked_loss(options.network, options.data, options.loss, seed=options.seed)
    parameters = {
        "network": options.network,
        "data": options.data,
        "loss": loss,
        "step_size": options.step_size,
        "iterations": options.iterations,
        "distance": options.distance,
        "relative": True,
        "seed": options.seed,
    }
    root = find_root()
    execute_chapter(find_chapter(CHAPTER, root), executed, parameters)
    try:
        say(write_report(executed, page, numbers, parameters))
    except OSError as error:
        raise CommandError(
            f"the report cannot be written: {error}; the run is kept in {executed.resolve()}"
        ) from error
    say(f"Its numbers: {numbers.resolve()}; the whole run: {executed.resolve()}")
    say(f"The report: {page.resolve().as_uri()}")
    if options.open and not webbrowser.open(page.resolve().as_uri()):
        raise CommandError("there is no browser to open it with; open the page by hand")
    return 0


def _show(executed: Path, page: Path, *, open_it: bool) -> None:
    """Write a run as one HTML file, and open it in the browser if asked to."""
    from gfgd.book.one_page.single_page import write_single_page  # docutils takes a second to come

    write_single_page(executed, page)
    address = page.resolve().as_uri()
    say(f"The page: {address}")
    if open_it and not webbrowser.open(address):
        raise CommandError("there is no browser to open it with; open the page by hand")


def sweep(options: argparse.Namespace) -> int:
    """Run a chapter at every point of a grid; `gfgd sweep`."""
    root = find_root()
    chapter = find_chapter(options.chapter, root)
    axes = [(name, values) for name, *values in options.parameters]
    empty = [name for name, values in axes if not values]
    if empty:
        raise UsageError(f"-p {empty[0]}: give the parameter's values, too")
    made = run_sweep(
        chapter,
        root,
        axes,
        options.output or root / "_build" / "sweeps" / chapter.stem,
        fixed=_preset(options.preset, chapter, root),
        workers=options.workers,
        scheduler=options.scheduler,
        again=options.again,
        say=say,
    )
    for line in made.verdicts():
        say(line)
    say(f"The table: {made.table.resolve()}")
    say(f"The figure: {made.figure.resolve() if made.figure else 'none, nothing was measured'}")
    failures = made.failures()
    if failures:
        lines = "\n".join(f"  {row}" for row in failures)
        raise CommandError(f"{len(failures)} of {len(made.rows)} points are not done:\n{lines}")
    return 0


def book(options: argparse.Namespace) -> int:
    """Run what has changed and build the book; `gfgd book`."""
    root = find_root()
    # One thread a chapter: then numbers do not depend on how many run beside it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    built = build_book(root, preset=options.preset, dataset=_dataset(), jobs=options.jobs, say=say)
    failures = built.failures()
    say(f"Claims: {len(built.claims)}; of these hold: {len(built.claims) - len(failures)}")
    say(f"The book: {built.index.resolve().as_uri()}")
    if failures:
        lines = "\n".join(f"  {line}" for line in failures)
        raise CommandError(f"these claims do not hold:\n{lines}")
    return 0


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": run,
    "report": report,
    "sweep": sweep,
    "book": book,
}


def _preset(name: str | None, chapter: Path, root: Path) -> dict[str, Any]:
    """Return a chapter's parameters in a preset, if one is given; say so where it has none."""
    if name is None:
        return {}
    stems = [path.stem for path in chapters(root)]
    values = read_preset(preset_path(root, name), stems).get(chapter.stem, {})
    if not values:
        say(f"The preset {name!r} has nothing for {chapter.stem}, which runs with its defaults.")
    return values


def _dataset() -> str | None:
    """Return the dataset to build with instead of MNIST, where MNIST is not to be had."""
    try:
        fetch_mnist()
    except DatasetError as error:
        say(f"MNIST is not to be had: {error}")
        say("Building with scikit-learn's embedded digits instead; the pages say so.")
        return "digits"
    return None


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
