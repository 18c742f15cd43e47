"""The command ``gfgd``: run or sweep a chapter, report on a network, build the book, get the data.

Exit codes: 0 done; 1 a chapter failed, a page could not be built, or a claim of the book does not
hold; 2 a user's mistake, such as an unknown parameter. Errors go to standard error.
"""

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gfgd.book.errors import CommandError, UsageError
from gfgd.book.running.ending import Ended, ending_cleanly
from gfgd.book.running.machine import cores
from gfgd.files import OutputError
from gfgd.paper import partings
from gfgd.paper.archive import RATIOS, ArchiveError
from gfgd.paper.long_runs import ARCHITECTURES, DTYPES, FLOWS, Plan, make_archive
from gfgd.paper.starts import PAPER
from gfgd.problems.datasets import DatasetError, fetch_mnist

#: Chapters that run at the same time by default, at most: memory is not likely to hold more.
MOST_JOBS = 4

# argparse takes -5 for a value, but -5e-1 and -inf for options; what follows this mark is a value.
_MARK = "\0"
_OTHER_NUMBER = re.compile(r"(?!-\d+$|-\d*\.\d+$)-(\.?\d|inf|nan)", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # ✓ and η where it is not UTF-8
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args([_marked(text) for text in given])
    try:
        with ending_cleanly():
            return options.command(options)
    except CommandError as error:
        return _fail(error, error.exit_code)
    except OutputError as error:
        return _fail(error, UsageError.exit_code)
    except (ArchiveError, DatasetError) as error:
        return _fail(error, 1)
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that was taken away
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt as signal:
        # The interrupted cell's task may end with an error of its own, which asyncio would print.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        if isinstance(signal, Ended):
            return _fail(signal, signal.exit_code)
        return _fail("stopped", 130)


def _fail(error: object, code: int) -> int:
    print(f"gfgd: {error}", file=sys.stderr)
    return code


def _marked(text: str) -> str:
    return f"{_MARK}{text}" if _OTHER_NUMBER.match(text) else text


def _unmarked(text: str) -> str:
    return text.removeprefix(_MARK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gfgd", description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _chapters, "run one chapter, with parameters of your own")
    run.add_argument("chapter", help="a notebook, or a chapter's number, name or its beginning")
    run.add_argument(
        "-p",
        dest="parameters",
        type=_unmarked,
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter; may be repeated; goes before a preset",
    )
    run.add_argument("--preset", help="a file of chapters/presets: quick, paper")
    run.add_argument("--output", type=Path, help="default: _build/runs/CHAPTER.ipynb")
    run.add_argument("--html", action="store_true", help="write one HTML file beside it, too")
    run.add_argument("--open", action="store_true", help="write it and open it in the browser")
    _add_report(commands)
    book = _command(commands, "book", _chapters, "run what has changed and build the book")
    book.add_argument("--preset", help="a file of chapters/presets: quick, paper")
    book.add_argument(
        "--jobs",
        type=_count,
        default=min(cores(), MOST_JOBS),
        help="chapters that run at the same time: %(default)s",
    )
    _add_archive(commands)
    _command(commands, "data", _data, "get MNIST and verify it")
    _add_sweep(commands)
    return parser


def _add_report(commands) -> None:
    report = _command(
        commands, "report", _chapters, "does gradient flow represent GD on a network of yours?"
    )
    report.add_argument("network", help="file.py:function that returns a torch.nn.Module")
    report.add_argument("data", help="file.py:function that returns inputs and targets")
    report.add_argument("--step-size", type=float, required=True, help="of gradient descent")
    report.add_argument(
        "--loss", help="cross_entropy, mse or file.py:function; by default what suits the targets"
    )
    report.add_argument(
        "--iterations", type=_count, default=400, help="a multiple of 50; default: %(default)s"
    )
    report.add_argument(
        "--distance",
        type=float,
        default=0.01,
        help="to keep, as a part of the way that the flow travels; default: %(default)s",
    )
    report.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    report.add_argument(
        "--output", type=Path, default=Path("report.html"), help="default: %(default)s"
    )
    report.add_argument("--open", action="store_true", help="open it in the browser")


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
    sweep = _command(commands, "sweep", _chapters, "run a chapter for every combination of values")
    sweep.add_argument("chapter", help="a notebook, or a chapter's number, name or its beginning")
    sweep.add_argument(
        "-p",
        dest="parameters",
        type=_unmarked,
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
        raise argparse.ArgumentTypeError(f"{number}: must be 1 or more")
    return number


def _command(commands, name: str, function: Callable, help_text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(command=function, name=name)
    return parser


def _chapters(options: argparse.Namespace) -> int:
    """Run a command of `gfgd.book.commands`, if the packages of the extra ``book`` are there."""
    try:
        from gfgd.book import commands
    except ModuleNotFoundError as error:
        raise _lacking(options.name, error) from error
    return commands.COMMANDS[options.name](options)


def _lacking(command: str, error: ModuleNotFoundError) -> UsageError:
    return UsageError(f"gfgd {command} needs more packages: pip install 'gfgd[book]' ({error})")


def _archive(options: argparse.Namespace) -> int:
    try:
        from gfgd.book.contents import find_root
    except ModuleNotFoundError as error:
        raise _lacking(options.name, error) from error
    plan = Plan(
        dtypes=options.dtypes,
        ratios=options.ratios,
        orders=options.orders,
        flows=options.flows,
        spectrum=not options.no_spectrum,
    )
    root = find_root()
    make_archive(root, names=options.networks, of=options.starts, plan=plan, say=_say)
    if partings.NETWORK in options.networks:
        partings.make(root, of=options.starts, say=_say)
    return 0


def _data(options: argparse.Namespace) -> int:
    _say(f"MNIST, verified: {fetch_mnist().resolve()}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
