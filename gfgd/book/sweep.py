"""`gfgd sweep`: run a chapter at every point of a grid, on the processes of a Dask cluster.

Each finished point is kept at once: see `gfgd.book.point`. What is missing is computed, whatever
has ended the sweep before.
"""

import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gfgd.book.contents import UsageError
from gfgd.book.grid import grid
from gfgd.book.locks import exclusive
from gfgd.book.parameters import read_parameters
from gfgd.book.point import RUNNING, Point, Result, kept_result, run_point, sources
from gfgd.book.sweep_table import Row, write_figure, write_table

#: A point whose worker has died this often is given up until the next sweep.
DEATHS = 3
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class SweepError(RuntimeError):
    """A sweep that could not go on; what it had finished is kept."""


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
        The notebook, and the checkout, which is the working directory of the runs.
    axes, fixed
        The values that some parameters take in turn, and others' own: see `grid`.
    folder
        Where the points, the table and the figure lie or will lie.
    workers
        The number of processes of a cluster on this machine, which lasts as long as the sweep; by
        default the number of cores.
    scheduler
        The address of a running Dask scheduler to use instead. Its workers need this environment
        and must see the checkout and the folder under the same paths.
    again
        Whether to run those points again at which the chapter raised an error last time.
    say
        Is told of each step in a line.

    Raises
    ------
    ParameterError, UsageError
        For a mistake in the grid, a package that is missing, or a scheduler that does not answer;
        nothing has run then.
    SweepError
        If the scheduler is lost on the way.
    """
    folder = folder.resolve()
    points = _points(chapter, root, folder, grid(chapter, axes, fixed or {}))
    waiting = "another sweep into this folder is under way; waiting for it"
    with exclusive(folder, say, waiting):
        shutil.rmtree(folder / RUNNING, ignore_errors=True)  # what a killed sweep has left
        results = _kept(points, again)
        missing = [point for point in points if point.fingerprint not in results]
        say(f"{len(points)} points; of these there already: {len(results)}")
        if missing:
            workers = min(workers or cores(), len(missing))
            with _cluster(scheduler, workers, folder / RUNNING) as client:
                results |= _compute(client, missing, chapter.stem, len(points))
        shutil.rmtree(folder / RUNNING, ignore_errors=True)
        rows = tuple(Row(point, results[point.fingerprint]) for point in points)
        table = write_table(rows, folder / f"{chapter.stem}.parquet")
        figure = write_figure(rows, folder / f"{chapter.stem}.svg")
    return Sweep(rows, len(missing), table, figure)


def _points(chapter: Path, root: Path, folder: Path, runs: list[dict[str, Any]]) -> list[Point]:
    defaults = {name: entry.default for name, entry in read_parameters(chapter).items()}
    now = sources(chapter, root)
    where = (chapter.resolve(), root.resolve(), folder)
    return [Point(*where, values, defaults | values, now) for values in runs]


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


def _compute(client: Any, points: list[Point], title: str, total: int) -> dict[str, Result]:
    """Run points on a cluster, with a progress bar over all points of the sweep."""
    results, short = {}, 0
    with tqdm(desc=title, total=total, initial=total - len(points), unit="point") as bar:
        for point, result in _completed(client, points):
            results[point.fingerprint] = result
            short += result.status != "done"
            bar.set_postfix({"not done": short} if short else {}, refresh=False)
            bar.update()
    return results


def _completed(client: Any, points: list[Point]) -> Iterator[tuple[Point, Result]]:
    """Yield points with their results as they are done.

    No more are handed out than there are threads: when a worker dies Dask suspects every point
    that it had been given, and those that only waited there would be given up with the culprit.
    """
    from distributed import as_completed
    from distributed.comm.core import CommClosedError

    waiting, submitted, running = deque(points), {}, as_completed()
    try:
        while waiting or submitted:
            threads = max(1, sum(client.nthreads().values()))
            while waiting and len(submitted) < threads:
                future = client.submit(run_point, waiting[0], pure=False)
                submitted[future.key] = waiting.popleft()
                running.add(future)
            future = next(running)
            yield submitted.pop(future.key), _result(future)
    except CommClosedError as error:
        raise SweepError(f"the scheduler does not answer any more: {error}") from error


def _result(future: Any) -> Result:
    """Return what came of a point; where its run raised an error or killed its workers, that."""
    from distributed import KilledWorker

    if future.cancelled():
        raise SweepError("the scheduler is gone; the same command goes on where this one stopped")
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
    try:
        from dask.config import set as set_config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UsageError(f"a sweep needs more packages: pip install '.[sweep]' ({error})") from None
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
            env=_threads(workers),
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(workers: int) -> dict[str, str]:
    """Return the environment that shares the cores among workers, but for what the user has set."""
    share = str(max(1, cores() // workers))
    return {name: share for name in _THREADS if name not in os.environ}
