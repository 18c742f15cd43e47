"""The chapters' runs: which are still good, which must be made again."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
from tqdm import tqdm

from gfgd.book.claims import Claim
from gfgd.book.errors import ChapterError
from gfgd.book.running.ending import end_cleanly
from gfgd.book.running.execute import execute_chapter, read_claims
from gfgd.book.running.fingerprint import fingerprint, notebook_imports
from gfgd.book.running.own_files import own_files_digest
from gfgd.book.running.parameters import read_parameters, validate
from gfgd.files import replacing


@dataclass(frozen=True)
class Run:
    """A chapter's executed notebook, the parameters it ran with, and whether it ran just now."""

    chapter: Path
    executed: Path
    parameters: dict[str, Any]
    fresh: bool
    seconds: float

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims of the executed notebook."""
        return read_claims(nbformat.read(self.executed, as_version=4))


@dataclass(frozen=True)
class Task:
    """A chapter to run: its notebook, where its executed notebook lies, values that it takes.

    The fingerprint of the run lies beside the executed notebook.
    """

    chapter: Path
    executed: Path
    overrides: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """The file of the fingerprint."""
        return self.executed.with_suffix(".json")

    def parameters(self) -> dict[str, Any]:
        """Return the values of all parameters; ParameterError for one that cannot be used."""
        defaults = {name: entry.default for name, entry in read_parameters(self.chapter).items()}
        return defaults | validate(self.chapter, self.overrides)

    def fingerprint(self, root: Path) -> str:
        """Return the fingerprint of what a run would depend on now, a reader's files included."""
        values = self.parameters()
        now = fingerprint(self.chapter, root, values, data=data_of(self.chapter, root))
        return now + own_files_digest(values, root, root)


def run_chapters(
    tasks: Sequence[Task],
    *,
    root: Path,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[Run]:
    """Return the chapters' runs, made anew only where something that they depend on has changed.

    Parameters
    ----------
    tasks
        The chapters, in order.
    root
        The checkout; also the working directory of the runs.
    jobs
        How many chapters may run at the same time, each in processes of its own.
    say
        Is told of each chapter in a line, as soon as it is done.

    Raises
    ------
    ParameterError, ChapterError
        As `execute_chapter` does. Chapters that have not started then do not start.
    """
    runs = [standing_run(task, root) for task in tasks]
    for run in filter(None, runs):
        say(f"{run.chapter.stem}: unchanged")
    stale = [place for place, run in enumerate(runs) if run is None]
    way = _one_by_one if min(jobs, len(stale)) < 2 else partial(_at_once, jobs=jobs)
    for which, run in way([tasks[place] for place in stale], root):
        say(f"{run.chapter.stem}: run in {run.seconds:.0f} s")
        runs[stale[which]] = run
    return [run for run in runs if run is not None]


def standing_run(task: Task, root: Path) -> Run | None:
    """Return the run of last time if it is still good, else None."""
    if task.executed.is_file() and _recorded(task.record) == task.fingerprint(root):
        return Run(task.chapter, task.executed, task.parameters(), fresh=False, seconds=0.0)
    return None


def make_run(task: Task, root: Path, *, progress: bool = True) -> Run:
    """Run a chapter, and note its fingerprint beside the executed notebook."""
    now = task.fingerprint(root)
    task.record.unlink(missing_ok=True)
    started = time.perf_counter()
    execute_chapter(task.chapter, task.executed, task.overrides, directory=root, progress=progress)
    with replacing(task.record) as temporary:
        temporary.write_text(json.dumps({"fingerprint": now}), encoding="utf-8")
    return Run(task.chapter, task.executed, task.parameters(), True, time.perf_counter() - started)


def _one_by_one(tasks: Sequence[Task], root: Path) -> Iterator[tuple[int, Run]]:
    for which, task in enumerate(tasks):
        yield which, make_run(task, root)


def _at_once(tasks: Sequence[Task], root: Path, jobs: int) -> Iterator[tuple[int, Run]]:
    """Run chapters side by side; in processes of their own, so that Ctrl-C ends each."""
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), mp_context=get_context("spawn"), initializer=end_cleanly
    )
    done = set()
    try:
        # The later chapters take longer: begun first, none is left for one core alone at the end.
        futures = {
            pool.submit(_run_or_leave, task, root): which
            for which, task in reversed([*enumerate(tasks)])
        }
        for future in tqdm(as_completed(futures), "chapters", len(futures), leave=False):
            which = futures[future]
            yield which, future.result()
            done.add(which)
    except BrokenProcessPool as error:
        left = [task.chapter.stem for which, task in enumerate(tasks) if which not in done]
        raise ChapterError(
            "a process that ran a chapter was killed, perhaps because memory was short; the same "
            f"command, perhaps with --jobs 1, goes on with {', '.join(left)}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _run_or_leave(task: Task, root: Path) -> Run:
    """Make a run in a worker. Told to end, it leaves: else the pool would hand it the next one."""
    try:
        return make_run(task, root, progress=False)
    except KeyboardInterrupt:  # Ctrl-C, and what `end_cleanly` makes of the other signals
        os._exit(130)


def data_of(chapter: Path, root: Path) -> list[Path]:
    """Return the files that a chapter reads: the archive of long runs, if it imports that."""
    if "gfgd.paper.archive" not in notebook_imports(nbformat.read(chapter, as_version=4)):
        return []
    return [path for path in (root / "data" / "archive").rglob("*") if path.is_file()]


def _recorded(record: Path) -> str | None:
    try:
        return json.loads(record.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
