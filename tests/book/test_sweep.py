"""Sweeps with real worker processes and real kills; the chapter does next to nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from gfgd.book.claims import MIME_TYPE, RECORD_TYPE, Claim
from gfgd.book.cli import main
from gfgd.book.errors import ParameterError
from gfgd.book.grid import grid
from gfgd.book.point import Point, Result, kept_result, run_point, sources
from gfgd.book.sweep import run_sweep
from gfgd.book.sweep_table import Row, draw, write_figure, write_table

from .conftest import ROOT, write_notebook

PARAMETERS = """\
depth: int = 2  # layers
scale: float = 0.1  # of the start
act: str = "none"  # what happens on the way
seconds: float = 0.0  # to sleep
log: str = ""  # a file that is told of each run"""
CHECK = "if depth < 0:\n    raise ValueError(f'depth = {depth}: must be 0 or more')"
# Says what `claim` and `record` say, but does not import torch.
WORK = f"""\
import os, signal, time
from pathlib import Path
from IPython.display import display
if log:
    with open(log, "a") as file:
        print(os.getpid(), depth, scale, act, file=file)
time.sleep(seconds)
if act == "raise":
    raise RuntimeError("as it was told")
marker = Path(log + ".killed")
if act == "kill" or (act == "kill once" and not marker.exists()):
    if act == "kill once":
        marker.touch()
    os.kill(int(os.environ["JPY_PARENT_PID"]), signal.SIGKILL)  # the worker, and nothing else
    time.sleep(60)
if act == "die":
    os._exit(1)
stated = {{"name": "small-steps", "statement": "So.", "measured": depth * scale, "below": 0.25}}
display({{{MIME_TYPE!r}: stated, "text/plain": ""}}, raw=True)
display({{{RECORD_TYPE!r}: {{"name": "layers", "value": depth}}, "text/plain": ""}}, raw=True)"""

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


@pytest.fixture
def tiny(book):
    """A checkout whose only chapter takes its orders from its parameters."""
    write_notebook(book / "chapters" / "01_tiny.ipynb", WORK, parameters=PARAMETERS, check=CHECK)
    return book


@pytest.fixture
def command(tiny):
    """Start `gfgd sweep` in a process of its own, which does not outlive the test."""
    processes = []

    def start(*arguments, chapter="01", at=tiny):
        process = subprocess.Popen(
            [sys.executable, "-m", "gfgd.book.cli", "sweep", str(chapter), *arguments],
            cwd=at,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def rows_of(path):
    return parquet.read_table(path).to_pylist()


# The grid


def test_the_grid_is_typed_and_in_order(tiny):
    chapter = tiny / "chapters" / "01_tiny.ipynb"
    points = grid(chapter, [("depth", ["2", "3"]), ("scale", ["1e-3", 1])], {"act": "die"})
    assert points == [
        {"act": "die", "depth": depth, "scale": scale} for depth in (2, 3) for scale in (0.001, 1.0)
    ]
    assert grid(chapter, [("act", ["x"])], {"act": "die"}) == [{"act": "x"}]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ([("depht", [1])], "did you mean depth"),
        ([("depth", ["2", "2.5"])], r"depth = '2.5': must be of type int"),
        ([("scale", [1]), ("depth", [2, -1])], "depth = -1: must be 0 or more"),
        ([("depth", [2]), ("depth", [3])], "depth: given twice"),
        ([("scale", ["1", "1.0"])], r"scale = 1.0: given twice"),
    ],
)
def test_the_whole_grid_is_checked_before_anything_runs(tiny, tmp_path, axes, message):
    with pytest.raises(ParameterError, match=message):
        run_sweep(tiny / "chapters" / "01_tiny.ipynb", tiny, axes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "depth"], "give the parameter's values"),
        (["-p", "depth", "x"], "must be of type int"),
        (["-p", "depth", "1", "--preset", "slow"], "there is no preset 'slow'"),
    ],
)
def test_a_users_mistake_is_exit_code_2(tiny, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tiny)
    assert main(["sweep", "01", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tiny / "_build").exists()


# One point


def point(book, **overrides):
    chapter = book / "chapters" / "01_tiny.ipynb"
    defaults = {"depth": 2, "scale": 0.1, "act": "none"}
    where = (chapter, book, book, book / "out")
    return Point(*where, overrides, defaults | overrides, sources(chapter, book), "")


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
    write_notebook(one.chapter, "edited = True", WORK, parameters=PARAMETERS, check=CHECK)
    assert run_point(one).status == "lost"
    assert not one.record.exists()
    assert point(tiny).fingerprint != one.fingerprint
    assert point(tiny).fingerprint != point(tiny, depth=3).fingerprint


# The table and the figure


def made(depth, scale, status="done", mode: object = (1, "a"), folder=Path("/sweep")):
    parameters = {"depth": depth, "scale": scale, "widths": [depth] * 2, "mode": mode}
    places = (Path("/book/01_tiny.ipynb"), Path("/book"), Path("/book"), folder)
    where = Point(*places, {}, parameters, "abc", "")
    if status != "done":
        return Row(where, Result(status, 1.0, "it broke"))
    claim = Claim("small-steps", "So.", scale**depth, below=0.01, slide="S")
    return Row(where, Result("done", 2.0, None, (claim,), {"layers": float(depth)}))


def test_the_table_has_a_row_for_each_point(tmp_path):
    rows = [made(1, 0.1), made(2, 0.01), made(3, 0.1, "failed")]
    path = write_table(rows, tmp_path / "a.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.parquet"]
    first, _, last = rows_of(path)
    assert first["parameters.depth"] == 1
    assert first["parameters.widths"] == [1, 1]
    assert first["parameters.mode"] == '[1, "a"]'
    assert (first["claims.small-steps"], first["claims.small-steps.holds"]) == (0.1, False)
    assert (first["recorded.layers"], first["status"], first["error"]) == (1.0, "done", None)
    assert (last["claims.small-steps"], last["status"], last["error"]) == (
        None,
        "failed",
        "it broke",
    )
    about = json.loads(parquet.read_schema(path).metadata[b"gfgd"])
    assert about == {"chapter": "01_tiny", "swept": ["depth", "scale", "widths"], "sources": "abc"}
    assert str(parquet.read_schema(write_table(rows[:2], path)).field("error").type) == "string"


def test_the_figure_shows_what_does_not_hold_and_what_failed(tmp_path):
    rows = [made(d, s) for d in (1, 2, 3) for s in (0.1, 0.01)] + [made(4, 0.1, "failed")]
    rows = [
        Row(
            Point(
                row.point.chapter,
                row.point.root,
                row.point.directory,
                row.point.folder,
                {},
                {key: row.point.parameters[key] for key in ("depth", "scale")},
                "",
                "",
            ),
            row.result,
        )
        for row in rows
    ]
    figure = draw(rows)
    assert figure is not None
    claims, layers = figure.axes
    assert claims.get_title(loc="left") == "small-steps, to be below 0.01"
    assert layers.get_title(loc="left") == "layers"
    assert (claims.get_xlabel(), claims.get_yscale(), layers.get_yscale()) == (
        "depth",
        "log",
        "linear",
    )
    faces = [line.get_markerfacecolor() for line in claims.lines if line.get_marker() in "os"]
    assert faces.count("white") == 3  # 0.1, 0.01 and (0.1)² are not below 0.01
    assert [line.get_marker() for line in claims.lines].count("x") == 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["scale = 0.1", "scale = 0.01", "does not hold", "no number: not done"]
    assert write_figure(rows, tmp_path / "a.svg") == tmp_path / "a.svg"
    assert write_figure([made(4, 0.1, "failed")], tmp_path / "a.svg") is None
    assert not list(tmp_path.iterdir())


def test_words_and_many_lines_can_be_drawn():
    rows = [made(depth, 0.1, mode=mode) for depth in range(1, 10) for mode in ("a", "b")]
    figure = draw(rows)
    assert figure is not None
    words = draw([made(2, 0.1, mode=mode) for mode in ("a", "b")])
    assert words is not None
    assert [tick.get_text() for tick in words.axes[0].get_xticklabels()] == ["'a'", "'b'"]


# Real processes, real kills


@posix
def test_a_killed_sweep_goes_on_where_it_was(tiny, command):
    log = tiny / "log"
    kept = tiny / "out" / "points"
    arguments = ["-p", "depth", *"123456", "-p", "seconds", "0.5", "-p", "log", str(log)]
    arguments += ["--workers", "2", "--output", "out"]
    driver = command(*arguments)
    wait_until(lambda: len(list(kept.glob("*.json"))) >= 2)
    driver.kill()
    driver.communicate()
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    started = [line.split() for line in log.read_text().splitlines()]
    wait_until(lambda: not any(alive(int(entry[0])) for entry in started))
    # Two at once: one of them waits, and finds everything there.
    both = [command(*arguments), command(*arguments)]
    printed = [driver.communicate(timeout=600)[0] for driver in both]
    assert [driver.returncode for driver in both] == [0, 0], printed
    assert any("of these there already: 6" in text for text in printed)
    for path, when in before.items():
        assert path.stat().st_mtime_ns == when, "what was kept was run again"
    runs = [line.split()[1] for line in log.read_text().splitlines()]
    assert len(runs) <= 6 + 2, "at most the two that were under way were run again"
    assert set(runs) == set("123456")
    assert [row["recorded.layers"] for row in rows_of(tiny / "out" / "01_tiny.parquet")] == [
        *map(float, range(1, 7))
    ]
    assert (tiny / "out" / "01_tiny.svg").is_file()
    assert not (tiny / "out" / ".running").exists()


@posix
def test_a_killed_workers_point_is_tried_again_but_not_for_ever(tiny, command):
    log = tiny / "log"
    arguments = ["-p", "act", "kill once", "raise", "kill", "none", "-p", "log", str(log)]
    sweep = command(*arguments, "--workers", "2", "--output", "out")
    printed, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 1
    assert "2 of 4 points are not done" in printed
    rows = {row["parameters.act"]: row for row in rows_of(tiny / "out" / "01_tiny.parquet")}
    statuses = {act: row["status"] for act, row in rows.items()}
    assert statuses == {"kill once": "done", "raise": "failed", "kill": "lost", "none": "done"}
    assert "as it was told" in rows["raise"]["error"]
    assert rows["kill"]["error"] == "each of 3 worker processes that ran it died"
    pids = [int(line.split()[0]) for line in log.read_text().splitlines()]
    wait_until(lambda: not any(map(alive, pids)))
    assert not (tiny / "out" / ".running").exists()


OWN = f"""\
from IPython.display import display
from gfgd.book.importing import load_function
value = load_function(network)()
display({{{RECORD_TYPE!r}: {{"name": "value", "value": value}}, "text/plain": ""}}, raw=True)
"""


def test_a_readers_own_file_begins_in_the_readers_folder_and_counts(tmp_path, command):
    """Named by a relative path and by its module; edited, its points are run again."""
    chapter = write_notebook(
        tmp_path / "elsewhere" / "02_own.ipynb", OWN, parameters='network: str = ""', check=""
    )
    own = tmp_path / "own"
    own.mkdir()
    paths = ["net.py:value", "net:value"]
    for width, there in ((3, 0), (3, 2), (5, 0)):
        (own / "net.py").write_text("from wide import WIDTH\ndef value(): return WIDTH\n")
        (own / "wide.py").write_text(f"WIDTH = {width}\n")
        sweep = command("-p", "network", *paths, "--output", "out", chapter=chapter, at=own)
        printed, _ = sweep.communicate(timeout=600)
        assert sweep.returncode == 0, printed
        assert f"2 points; of these there already: {there}\n" in printed
        rows = rows_of(own / "out" / "02_own.parquet")
        assert [row["recorded.value"] for row in rows] == [width, width]


def test_a_file_that_has_changed_since_is_no_result(tiny):
    (tiny / "net.py").write_text("")
    one = point(tiny, act="net.py:value")
    assert run_point(one).error == "a file that the parameters name has changed, or is not here"
    assert not one.record.exists()


CLUSTER = """\
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=0, threads_per_worker=2, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.readline()
        cluster.scale(1)
        sys.stdin.read()
"""


@posix
def test_a_running_scheduler_can_be_used(tiny, tmp_path, command):
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    cluster = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        sweep = command("-p", "depth", "1", "2", "--scheduler", address, "--output", "out")
        assert any(f"{address} has no workers; waiting" in line for line in sweep.stdout)
        cluster.stdin.write("some\n")
        cluster.stdin.flush()
        printed, _ = sweep.communicate(timeout=600)
        assert sweep.returncode == 0, printed
    finally:
        cluster.communicate("")
    assert [row["status"] for row in rows_of(tiny / "out" / "01_tiny.parquet")] == ["done"] * 2
    with pytest.raises(SystemExit):
        main(["sweep", "01", "-p", "depth", "1", "--scheduler", address, "--workers", "2"])
