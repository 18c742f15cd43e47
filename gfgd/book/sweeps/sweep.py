"""`gfgd sweep`: run a chapter at every point of a grid, on the processes of a Dask cluster.

Each finished point is kept at once: see `gfgd.book.sweeps.point`. What is missing is computed,
whatever has ended the sweep before.
"""

import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gfgd.book.errors import SweepError, UsageError
from gfgd.book.running.locks import exclusive
from gfgd.book.running.machine import cores, threads_each
from gfgd.book.running.own_files import own_files_digest
from gfgd.book.running.parameters import read_parameters
from gfgd.book.sweeps.grid import grid
from gfgd.book.sweeps.point import RUNNING, Point, Result, kept_result, run_point, sources
from gfgd.book.sweeps.sweep_table import Row, write_figure, write_table
from gfgd.files import OutputError, check_output

#: A point whose worker has died this often is given up until the next sweep.
DEATHS = 3
#: Seconds without a finished point after which it is looked whether there are workers at all.
PATIENCE = 30.0


@dataclass(frozen=True)
class Sweep:
    """A sweep that has come to its end: its rows in the grid's order, and the files written."""

    rows: tuple[Row, ...]
    computed: int
    table: Path
    figure: Path | None

    def failures(self) -> list[Row]:
        """Return the rows of the points where the chapter did not run to its end."""
        return [row for row in self.rows if row.result.status != "done"]

    def verdicts(self) -> list[str]:
        """Return a line for each claim: at how many points it holds."""
        holds: dict[str, list[bool]] = {}
        for row in self.rows:
            for claim in row.result.claims:
                holds.setdefault(claim.name, []).append(claim.holds)
        return [f"{name}: holds at {sum(v)} of {len(v)} points" for name, v in holds.items()]


def run_sweep(
    chapter: Path,
    root: Path,
    axes: Sequence[tuple[str, Sequence[Any]]],
    folder: Path,
    *,
    directory: Path | None = None,
    fixed: Mapping[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Sweep:
    """Run a chapter at every point of a grid; write a table and a figure of what was measured.

    A second sweep into the same folder waits for the first.

    Parameters
    ----------
    chapter, root
        The notebook, and the checkout.
    axes, fixed
        The values that some parameters take in turn, and others' own: see `grid`.
    folder
        Where the points, the table and the figure lie or will lie.
    directory
        The working directory of the runs, in which the paths of a reader's own files begin; by
        default the current one.
    workers
        The number of processes of a cluster on this machine, which lasts as long as the sweep; by
        default the number of cores.
    scheduler
        The address of a running Dask scheduler to use instead. Its workers need this environment
        and must see the checkout, the folder and the working directory under the same paths.
    again
        Whether to run those points again at which the chapter raised an error last time.
    say
        Is told of each step in a line.

    Raises
    ------
    ParameterError, OutputError, UsageError
        For a mistake in the grid, a folder that cannot be written, a package that is missing, or a
        scheduler that does not answer; nothing has run then.
    SweepError
        If the scheduler is lost on the way.
    """
    _check_packages()
    folder, directory = folder.resolve(), (directory or Path.cwd()).resolve()
    points = _points(chapter, root, directory, folder, grid(chapter, axes, fixed or {}))
    table, figure = (folder / f"{chapter.stem}.{suffix}" for suffix in ("parquet", "svg"))
    _check_folder(folder, table, figure)
    waiting = "another sweep into this folder is under way; waiting for it"
    with exclusive(folder, say, waiting):
        shutil.rmtree(folder / RUNNING, ignore_errors=True)  # what a killed sweep has left
        results = _kept(points, again)
        missing = [point for point in points if point.fingerprint not in results]
        say(f"{len(points)} points; of these there already: {len(results)}")
        if missing:
            workers = min(workers or cores(), len(missing))
            # Workers of our own that die come back by themselves: nobody need be told.
            told = say if scheduler else lambda line: None
            try:
                with _cluster(scheduler, workers, folder / RUNNING) as client:
                    results |= _compute(client, missing, chapter.stem, len(points), told)
            finally:
                shutil.rmtree(folder / RUNNING, ignore_errors=True)
        rows = tuple(Row(point, results[point.fingerprint]) for point in points)
        write_table(rows, table)
        drawn = write_figure(rows, figure)
    return Sweep(rows, len(missing), table, drawn)


def _check_packages() -> None:
    """Say at once what the end of a sweep would find missing."""
    try:
        import distributed  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"a sweep needs more packages: pip install 'gfgd[book,sweep]' ({error})"
        ) from None


def _check_folder(folder: Path, *files: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; give the name of one, old or new")
    for file in files:
        check_output(file)


def _points(
    chapter: Path, root: Path, directory: Path, folder: Path, runs: list[dict[str, Any]]
) -> list[Point]:
    defaults = {name: entry.default for name, entry in read_parameters(chapter).items()}
    now = sources(chapter, root)
    where = (chapter.resolve(), root.resolve(), directory, folder)
    return [
        Point(*where, values, every, now, own_files_digest(every, directory, root))
        for values in runs
        if (every := defaults | values)
    ]


def _kept(points: list[Point], again: bool) -> dict[str, Result]:
    """Return the results that are there already, by fingerprint; forget the failed if told to."""
    results = {}
    for point in points:
        result = kept_result(point)
        if result is not None and again and result.status == "failed":
            point.record.unlink()
        elif result is not None:
            results[point.fingerprint] = result
    return results


def _compute(
    client: Any, points: list[Point], title: str, total: int, say: Callable[[str], None]
) -> dict[str, Result]:
    """Run points on a cluster, with a progress bar over all points of the sweep."""
    results, short = {}, 0
    with tqdm(desc=title, total=total, initial=total - len(points), unit="point") as bar:
        for point, result in _completed(client, points, say):
            results[point.fingerprint] = result
            short += result.status != "done"
            bar.set_postfix({"not done": short} if short else {}, refresh=False)
            bar.update()
    return results


def _completed(
    client: Any, points: list[Point], say: Callable[[str], None]
) -> Iterator[tuple[Point, Result]]:
    """Yield points with their results as they are done.

    No more are handed out than there are threads: when a worker dies Dask suspects every point
    that it had been given, and those that only waited there would be given up with the culprit.
    """
    from distributed import wait
    from distributed.client import FuturesCancelledError
    from distributed.comm.core import CommClosedError

    waiting, running, told = deque(points), {}, False
    try:
        while waiting or running:
            threads = sum(client.nthreads().values())
            if threads == 0 and not told:
                say(f"{client.scheduler.address} has no workers; waiting for some (dask worker)")
            told = threads == 0
            while waiting and len(running) < max(1, threads):
                point = waiting.popleft()
                running[client.submit(run_point, point, pure=False)] = point
            try:
                done = wait(list(running), PATIENCE, "FIRST_COMPLETED").done
            except TimeoutError:  # nothing is done yet: look whether the workers are still there
                continue
            for future in done:
                yield running.pop(future), _result(future)
    except CommClosedError as error:
        raise SweepError(f"the scheduler does not answer any more: {error}") from error
    except FuturesCancelledError as error:
        raise SweepError(
            "the scheduler is gone; the same command goes on where this one stopped"
        ) from error


def _result(future: Any) -> Result:
    """Return what came of a point; where its run raised an error or killed its workers, that."""
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result()
    error = future.exception()
    if isinstance(error, KilledWorker):
        text = f"each of {error.allowed_failures + 1} worker processes that ran it died"
        return Result("lost", error=text)
    return Result("lost", error=f"{type(error).__name__}: {error}")


@contextmanager
def _cluster(scheduler: str | None, workers: int, scratch: Path) -> Iterator[Any]:
    """Yield a client of a running scheduler, or of a cluster made here and ended afterwards."""
    from dask.config import set as set_config
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise UsageError(f"scheduler = {scheduler!r}: does not answer: {error}") from error
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        # On a busy machine a worker takes longer to come back than Dask waits for it by default.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        "distributed.scheduler.http.routes": [],
    }
    with (
        set_config(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=True,  # TLS: whoever reached the scheduler could run code as this user
            dashboard_address=None,  # type: ignore[arg-type]  # None is what its docstring says
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # any port, and no pages
            memory_limit=0,  # a chapter's memory is its kernel's, which Dask does not see
            local_directory=str(scratch),
            env=threads_each(workers),
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
