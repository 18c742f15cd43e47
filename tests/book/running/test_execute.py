from pathlib import Path

import nbformat
import pytest

from gfgd.book.errors import ChapterError, ParameterError
from gfgd.book.running.execute import execute_chapter, read_records

from ..conftest import CLAIM, write_notebook


def test_success(chapter, tmp_path):
    source = chapter.read_bytes()
    output = tmp_path / "out" / "done.ipynb"
    done = execute_chapter(chapter, output, {"step_size": "0.5"})
    assert chapter.read_bytes() == source
    assert [path.name for path in output.parent.iterdir()] == ["done.ipynb"]
    (claim,) = done.claims
    assert (claim.name, claim.measured, claim.holds) == ("small-steps", 0.5, False)
    last = nbformat.read(output, as_version=4).cells[-1]
    assert "How this page was made" in last.source
    assert "step_size = 0.5, widths = [50, 50]" in last.source
    assert str(tmp_path) not in output.read_text(encoding="utf-8")


def test_a_failing_cell_is_named_and_the_last_good_run_stays(tmp_path):
    path = write_notebook(tmp_path / "02_bad.ipynb", CLAIM, "\nx = 0\n1 / x")
    output = tmp_path / "out" / "bad.ipynb"
    output.parent.mkdir()
    output.write_text("the last good run")
    with pytest.raises(ChapterError, match=r"02_bad: cell 4 \(id .*'x = 0': ZeroDivisionError"):
        execute_chapter(path, output, {})
    assert output.read_text() == "the last good run"
    assert sorted(p.name for p in output.parent.iterdir()) == ["bad.failed.ipynb", "bad.ipynb"]
    assert "ZeroDivisionError" in (output.parent / "bad.failed.ipynb").read_text("utf-8")


def test_a_dying_kernel_is_an_error(tmp_path):
    path = write_notebook(tmp_path / "03_dead.ipynb", "import os; os._exit(1)")
    with pytest.raises(ChapterError, match="03_dead"):
        execute_chapter(path, tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


def test_nothing_runs_with_a_bad_parameter(chapter, tmp_path):
    with pytest.raises(ParameterError, match="greater than 0"):
        execute_chapter(chapter, tmp_path / "out.ipynb", {"step_size": 0})
    assert list(tmp_path.iterdir()) == [chapter]


def test_the_chapter_itself_is_never_overwritten(chapter):
    with pytest.raises(ParameterError, match="the chapter itself"):
        execute_chapter(chapter, chapter, {})


def test_a_run_leaves_nothing_and_works_where_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "private"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "private").mkdir()
    there = tmp_path / "there"
    there.mkdir()
    path = write_notebook(
        tmp_path / "04_where.ipynb",
        "import os\nprint(os.getcwd())",
        "from gfgd.book import record\nrecord('a', 1)\nrecord('b', float('nan'))\nrecord('a', 2)",
    )
    before = Path.cwd()
    done = execute_chapter(path, tmp_path / "out.ipynb", {}, directory=there, progress=False)
    executed = nbformat.read(done.path, as_version=4)
    (output,) = executed.cells[3].outputs
    assert str(read_records(executed)) == "{'a': 2.0, 'b': nan}"
    assert Path(output["text"].strip()).resolve() == there.resolve()
    assert Path.cwd() == before
    assert not list(there.iterdir()) and not list((tmp_path / "private").iterdir())
