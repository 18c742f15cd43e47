"""Sweeps with real worker processes and real kills; the chapter does next to nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gfgd.book.claims import RECORD_TYPE
from gfgd.book.cli import main

from ..conftest import ROOT, write_notebook
from ..tiny import rows_of

posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
