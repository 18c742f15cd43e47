"""The command ``gfgd``: run a chapter, sweep one, build the book, make the archive, get the data.

Exit codes: 0 done; 1 a chapter failed, a page could not be built, or a claim of the book does not
hold; 2 a user's mistake, such as an unknown parameter. Errors go to standard error.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gfgd.book.build import build_book, preset_path
from gfgd.book.contents import BookError, UsageError, chapters, find_chapter, find_root
from gfgd.book.execute import ChapterError, execute_chapter
from gfgd.book.parameters import ParameterError, read_preset
from gfgd.book.sweep import SweepError, cores, run_sweep
from gfgd.paper.archive import ArchiveError
from gfgd.paper.long_runs import ARCHITECTURES, DTYPES, FLOWS, RATIOS, Plan, make_archive
from gfgd.paper.starts import PAPER
from gfgd.problems.datasets import DatasetError, fetch_mnist

#: Chapters that run at the same time by default, at most: memory is not likely to hold more.
MOST_JOBS = 4


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ParameterError, UsageError) as error:
        return _fail(error, 2)
    except (ArchiveError, ChapterError, BookError, DatasetError, SweepError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped", 130)


def _fail(error: object, code: int) -> int:
    print(f"gfgd: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gfgd", description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _run, "run one chapter, with parameters of your own")
    run.add_argument("chapter", help="a notebook, or the beginning of a chapter's name")
    run.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter; may be repeated; goes before a preset",
    )
    run.add_argument("--preset", help="a file of chapters/presets: quick, paper")
    run.add_argument("--output", type=Path, help="default: _build/runs/CHAPTER.ipynb")
    book = _command(commands, "book", _book, "run what has changed and build the book")
    book.add_argument("--preset", help="a file of chapters/presets: quick, paper")
    book.add_argument(
        "--jobs",
        type=int,
        default=min(cores(), MOST_JOBS),
        help="chapters that run at the same time: %(default)s",
    )
    _add_archive(commands)
    _command(commands, "data", _data, "get MNIST and verify it")
    _add_sweep(commands)
    return parser


def _add_archive(commands) -> None:
    long = _command(commands, "archive", _archive, "make what is missing in data/archive")
    names = list(ARCHITECTURES)
    long.add_argument("--networks", nargs="+", choices=names, default=names)
    long.add_argument(
        "--starts",
        nargs="+",
        default=[PAPER],
        metavar="START",
        help="%(default)s: the authors' own start; or seeds",
    )
    long.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    long.add_argument(
        "--ratios",
        nargs="*",
        type=int,
        choices=RATIOS,
        default=list(RATIOS),
        help="step sizes η₀/RATIO",
    )
    long.add_argument(
        "--orders",
        nargs="+",
        type=int,
        default=[0],
        metavar="ORDER",
        help="of the samples: another one rounds sums differently",
    )
    long.add_argument(
        "--flows",
        nargs="*",
        type=float,
        default=list(FLOWS),
        metavar="FACTOR",
        help="integrate the flow at its tolerances times each of these",
    )
    long.add_argument("--no-spectrum", action="store_true", help="without λmin and λmax")


def _add_sweep(commands) -> None:
    sweep = _command(commands, "sweep", _sweep, "run a chapter for every combination of values")
    sweep.add_argument("chapter", help="a notebook, or the beginning of a chapter's name")
    sweep.add_argument(
        "-p",
        dest="parameters",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "VALUE"),
        help="a parameter and all its values; may be repeated; goes before a preset",
    )
    sweep.add_argument("--preset", help="a file of chapters/presets: quick, paper")
    sweep.add_argument("--output", type=Path, help="a folder; default: _build/sweeps/CHAPTER")
    where = sweep.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_count, help="processes; default: one for each core")
    where.add_argument("--scheduler", help="the address of a running Dask scheduler to use")
    sweep.add_argument(
        "--again", action="store_true", help="run points again where the chapter raised an error"
    )


def _count(text: str) -> int:
    """Return a whole number from 1; argparse says so where it is none."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return number


def _command(commands, name: str, function: Callable, help_text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(command=function)
    return parser


def _run(options: argparse.Namespace) -> int:
    # A notebook by its path, with an output, needs no checkout: the package may be all there is.
    alone = options.chapter.endswith(".ipynb") and options.output and not options.preset
    root = Path.cwd() if alone else find_root()
    chapter = find_chapter(options.chapter, root)
    overrides = _preset(options.preset, chapter, root) | dict(options.parameters)
    output = options.output or root / "_build" / "runs" / chapter.name
    done = execute_chapter(chapter, output, overrides)
    for claim in done.claims:
        print(claim)
    print(f"{done.seconds:.0f} s; the executed notebook: {done.path.resolve()}")
    return 0


def _preset(name: str | None, chapter: Path, root: Path) -> dict[str, Any]:
    """Return a chapter's parameters in a preset, if one is given."""
    if name is None:
        return {}
    stems = [path.stem for path in chapters(root)]
    return read_preset(preset_path(root, name), stems).get(chapter.stem, {})


def _sweep(options: argparse.Namespace) -> int:
    root = find_root()
    chapter = find_chapter(options.chapter, root)
    axes = [(name, values) for name, *values in options.parameters]
    empty = [name for name, values in axes if not values]
    if empty:
        raise UsageError(f"-p {empty[0]}: give the parameter's values, too")
    sweep = run_sweep(
        chapter,
        root,
        axes,
        options.output or root / "_build" / "sweeps" / chapter.stem,
        fixed=_preset(options.preset, chapter, root),
        workers=options.workers,
        scheduler=options.scheduler,
        again=options.again,
        say=_say,
    )
    for line in sweep.verdicts():
        print(line)
    print(f"The table: {sweep.table.resolve()}")
    print(f"The figure: {sweep.figure.resolve() if sweep.figure else 'none, nothing was measured'}")
    failures = sweep.failures()
    if failures:
        lines = "\n".join(f"  {row}" for row in failures)
        return _fail(f"{len(failures)} of {len(sweep.rows)} points are not done:\n{lines}", 1)
    return 0


def _book(options: argparse.Namespace) -> int:
    root = find_root()
    # One thread a chapter: then numbers do not depend on how many run beside it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    book = build_book(root, preset=options.preset, dataset=_dataset(), jobs=options.jobs, say=_say)
    failures = book.failures()
    print(f"Claims: {len(book.claims)}; of these hold: {len(book.claims) - len(failures)}")
    print(f"The book: {book.index.resolve().as_uri()}")
    if failures:
        lines = "\n".join(f"  {line}" for line in failures)
        return _fail(f"these claims do not hold:\n{lines}", 1)
    return 0


def _dataset() -> str | None:
    """Return the dataset to build with instead of MNIST, where MNIST is not to be had."""
    try:
        fetch_mnist()
    except DatasetError as error:
        _say(f"MNIST is not to be had: {error}")
        _say("Building with scikit-learn's embedded digits instead; the pages say so.")
        return "digits"
    return None


def _archive(options: argparse.Namespace) -> int:
    plan = Plan(
        dtypes=options.dtypes,
        ratios=options.ratios,
        orders=options.orders,
        flows=options.flows,
        spectrum=not options.no_spectrum,
    )
    make_archive(find_root(), names=options.networks, of=options.starts, plan=plan, say=_say)
    return 0


def _data(options: argparse.Namespace) -> int:
    _say(f"MNIST, verified: {fetch_mnist().resolve()}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
