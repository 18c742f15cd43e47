import os

import pytest

from gfgd.book.errors import ChapterError
from gfgd.book.running.runs import Task, run_chapters

from ..conftest import CLAIM, write_notebook

MEETING = """\
import time
from pathlib import Path
here, other = Path({here!r}), Path({other!r})
here.touch()
deadline = time.monotonic() + 300
while not other.exists():
    assert time.monotonic() < deadline, "the other chapter did not run meanwhile"
    time.sleep(0.01)
"""


def test_chapters_run_side_by_side(book, tmp_path):
    ends = [str(tmp_path / name) for name in ("a", "b")]
    paths = [book / "chapters" / name for name in ("01_tiny.ipynb", "02_tiny.ipynb")]
    write_notebook(paths[0], MEETING.format(here=ends[0], other=ends[1]), CLAIM)
    write_notebook(paths[1], MEETING.format(here=ends[1], other=ends[0]))
    tasks = [Task(path, book / "_build" / path.name, {}) for path in paths]
    said: list[str] = []
    runs = run_chapters(tasks, root=book, jobs=2, say=said.append)
    assert [(run.chapter, run.fresh) for run in runs] == [(path, True) for path in paths]
    assert len(runs[0].claims()) == 1
    assert sorted(line.split(":")[0] for line in said) == ["01_tiny", "02_tiny"]


def test_the_last_chapter_is_begun_first(book, tmp_path):
    order = tmp_path / "order"
    paths = [book / "chapters" / f"{number:02}_tiny.ipynb" for number in (1, 2, 3, 4)]
    for path in paths:
        write_notebook(path, f"open({str(order)!r}, 'a').write({path.stem[:2]!r})")
    tasks = [Task(path, book / "_build" / path.name, {}) for path in paths]
    run_chapters(tasks, root=book, jobs=2)
    begun = order.read_text()
    assert {begun[:2], begun[2:4]} == {"04", "03"}


def test_a_failing_chapter_leaves_the_others_runs(book):
    paths = [book / "chapters" / name for name in ("01_tiny.ipynb", "02_tiny.ipynb")]
    write_notebook(paths[1], "raise RuntimeError('no')")
    tasks = [Task(path, book / "_build" / path.name, {}) for path in paths]
    with pytest.raises(ChapterError, match=r"02_tiny: cell .*RuntimeError: no"):
        run_chapters(tasks, root=book, jobs=2)
    write_notebook(paths[1], CLAIM)
    runs = run_chapters(tasks, root=book, jobs=2)
    assert [run.fresh for run in runs] == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_process_is_said_in_a_line_and_the_rest_is_kept(book):
    paths = [book / "chapters" / name for name in ("01_tiny.ipynb", "02_tiny.ipynb")]
    parent = 'import os, signal\nos.kill(int(os.environ["JPY_PARENT_PID"]), signal.SIGKILL)'
    write_notebook(paths[1], f"{parent}\nimport time\ntime.sleep(60)")
    tasks = [Task(path, book / "_build" / path.name, {}) for path in paths]
    with pytest.raises(ChapterError, match=r"was killed.*goes on with .*02_tiny") as raised:
        run_chapters(tasks, root=book, jobs=2)
    assert "\n" not in str(raised.value)
