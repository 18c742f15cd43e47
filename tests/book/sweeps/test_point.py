import pytest

from gfgd.book.sweeps.point import kept_result, run_point

from ..tiny import point, write_tiny


def test_a_point_is_kept_and_not_run_again(tiny):
    log = tiny / "log"
    one = point(tiny, depth=3, log=str(log))
    assert kept_result(one) is None
    first = run_point(one)
    assert (first.status, first.error, first.recorded) == ("done", None, {"layers": 3.0})
    assert [claim.measured for claim in first.claims] == [pytest.approx(0.3)]
    assert run_point(one) == kept_result(one) == first
    assert len(log.read_text().splitlines()) == 1
    assert {path.suffix for path in one.record.parent.iterdir()} == {".json", ".ipynb"}
    assert not list((one.folder / ".running").iterdir())
    one.record.write_text(one.record.read_text()[:40])
    assert kept_result(one) is None, "a damaged file is no result"


def test_an_error_of_the_chapter_is_kept_and_a_death_is_not(tiny):
    failed, lost = point(tiny, act="raise"), point(tiny, act="die")
    result = run_point(failed)
    assert result.status == "failed"
    assert result.error is not None
    assert "RuntimeError: as it was told" in result.error
    assert str(tiny) not in result.error
    assert kept_result(failed) == result
    assert "as it was told" in failed.notebook.read_text("utf-8")
    assert run_point(lost).status == "lost"
    assert kept_result(lost) is None


def test_other_sources_are_no_result(tiny):
    one = point(tiny)
    write_tiny(one.chapter, "edited = True")
    assert run_point(one).status == "lost"
    assert not one.record.exists()
    assert point(tiny).fingerprint != one.fingerprint
    assert point(tiny).fingerprint != point(tiny, depth=3).fingerprint


def test_a_file_that_has_changed_since_is_no_result(tiny):
    (tiny / "net.py").write_text("")
    one = point(tiny, act="net.py:value")
    assert run_point(one).error == "a file that the parameters name has changed, or is not here"
    assert not one.record.exists()
