"""The command as a user gives it: its words, its exit codes, its outputs, its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gfgd.book import cli, commands
from gfgd.book.cli import main

from .conftest import CLAIM, ROOT, write_notebook

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def asked(monkeypatch):
    """Run the command line up to its parameters, and return these."""
    found = {}
    monkeypatch.setitem(commands.COMMANDS, "run", lambda options: found.update(vars(options)) or 0)
    monkeypatch.setitem(commands.COMMANDS, "sweep", commands.COMMANDS["run"])

    def ask(*arguments):
        assert main(arguments) == 0
        return found["parameters"]

    return ask


@pytest.mark.parametrize("value", ["-5e-1", "-1", "-.5", "-inf", "-1e3", "-NaN", "-1,2", "[-1]"])
def test_a_value_may_be_negative_however_it_is_written(asked, value):
    assert asked("run", "07", "-p", "cosine", value) == [["cosine", value]]
    parameters = asked("sweep", "07", "-p", "cosine", "0", value, value, "-p", "radius", value)
    assert parameters == [["cosine", "0", value, value], ["radius", value]]


def test_what_is_no_number_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(["run", "07", "-p", "cosine", "--output"])
    assert "expected 2 arguments" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["0", "-2", "many"])
def test_jobs_are_counted(capsys, jobs):
    with pytest.raises(SystemExit):
        main(["book", "--jobs", jobs])
    assert "--jobs" in capsys.readouterr().err


def test_chapters_by_their_number(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    write_notebook(book / "chapters" / "10_other.ipynb", CLAIM)
    (book / "out").mkdir()
    for chapter in ("1", "01"):
        assert main(["run", chapter, "--output", "out"]) == 2, "it got as far as the output"
        assert "out: is a folder" in capsys.readouterr().err


def test_a_preset_that_has_nothing_for_a_chapter_says_so(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    write_notebook(book / "chapters" / "02_other.ipynb", CLAIM)
    with (book / "_toc.yml").open("a") as file:
        file.write("  - file: chapters/02_other\n")
    for chapter, said in (("01", False), ("02", True)):
        main(["run", chapter, "--preset", "quick", "--output", "."])
        line = "'quick' has nothing for 02_other, which runs with its defaults"
        assert (line in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "01", "--output", "folder"], "folder: is a folder"),
        (["run", "01", "--output", "file/out.ipynb"], "file/out.ipynb: cannot be written"),
        (["run", "01", "--output", "/dev/null"], "/dev/null: is no regular file"),
        (["sweep", "01", "-p", "step_size", "1", "--output", "file"], "file: is no folder"),
        (["sweep", "01", "-p", "step_size", "1", "--output", "taken"], "parquet: is a folder"),
        (["run", "01", "-p", "step_size", "x", "--output", "new/out.ipynb"], "of type float"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_runs(
    book, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(book)
    (book / "folder").mkdir()
    (book / "taken" / "01_tiny.parquet").mkdir(parents=True)
    (book / "file").write_text("mine")
    ran = book / "ran"
    write_notebook(book / "chapters" / "01_tiny.ipynb", f"open({str(ran)!r}, 'w')")
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not ran.exists() and not (book / "new").exists()
    assert (book / "file").read_text() == "mine"


def test_a_full_disk_is_a_line(book, monkeypatch, capsys):
    monkeypatch.chdir(book)

    def no_room(*arguments, **more):
        raise OSError(28, "No space left on device", str(book / "out.ipynb"))

    monkeypatch.setattr(commands, "execute_chapter", no_room)
    assert main(["run", "01"]) == 1
    assert capsys.readouterr().err == f"gfgd: {book / 'out.ipynb'}: No space left on device\n"


def test_a_notebook_without_a_checkout_and_an_output_names_the_option(
    chapter, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("gfgd.book.contents.__file__", str(tmp_path / "contents.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(chapter)]) == 2
    assert "given --output FILE" in capsys.readouterr().err


def start(*arguments, at, **environment):
    """Start the command in a process of its own, which Ctrl-C ends.

    A test run in a script's background ignores that signal, and so would all that it starts.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "gfgd.book.cli", *arguments],
        cwd=at,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_signs_that_the_terminal_does_not_have(book):
    ran = start("run", "01", "--output", "out.ipynb", at=book, PYTHONIOENCODING="latin-1")
    printed, wrong = ran.communicate(timeout=600)
    assert ran.returncode == 0, wrong
    assert b"\\u2713 small-steps holds" in printed
    helped = start("archive", "--help", at=book, PYTHONIOENCODING="ascii")
    helped.communicate(timeout=600)
    assert helped.returncode == 0


def test_a_reader_who_has_gone_is_no_traceback(book):
    ran = start("run", "01", "--output", "out.ipynb", at=book)
    ran.stdout.close()
    with ran.stderr:
        wrong = ran.stderr.read().decode()
    ran.wait(timeout=600)
    assert "Traceback" not in wrong and "BrokenPipe" not in wrong
    assert (book / "out.ipynb").is_file()


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_file_and_no_kernel(book, tmp_path, number):
    marker, private = tmp_path / "kernel", tmp_path / "private"
    private.mkdir()
    work = f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    write_notebook(book / "chapters" / "01_tiny.ipynb", work)
    (book / "out").mkdir()
    ran = start("run", "01", "--output", "out/a.ipynb", at=book, TMPDIR=str(private))
    wait_until(lambda: marker.exists() and marker.read_text())
    os.kill(ran.pid, number)
    wrong = ran.communicate(timeout=120)[1].decode()
    assert ran.returncode == (130 if number == signal.SIGINT else 128 + number), wrong
    assert "gfgd/book/cli.py" not in wrong  # the kernel may print a traceback, the command not
    assert "\ngfgd: " in wrong
    assert not list((book / "out").iterdir()) and not list(private.iterdir())
    wait_until(lambda: not Path(f"/proc/{marker.read_text()}").exists())


@posix
def test_a_signal_ends_all_chapters_that_run_side_by_side(book, tmp_path):
    markers = [tmp_path / f"kernel{k}" for k in range(6)]
    for k, marker in enumerate(markers):
        work = (
            f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
        )
        write_notebook(book / "chapters" / f"0{k + 1}_tiny.ipynb", work)
    chapters = "".join(f"  - file: chapters/0{k + 2}_tiny\n" for k in range(5))
    with (book / "_toc.yml").open("a") as file:
        file.write(chapters)
    ran = start("book", "--jobs", "2", at=book)
    begun = markers[-2:]  # the last chapters are begun first
    wait_until(lambda: all(marker.exists() and marker.read_text() for marker in begun))
    os.kill(ran.pid, signal.SIGTERM)
    wrong = ran.communicate(timeout=120)[1].decode()
    assert ran.returncode == 128 + signal.SIGTERM, wrong
    assert [marker.name for marker in markers if marker.exists()] == ["kernel4", "kernel5"]
    pids = [marker.read_text() for marker in begun]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def test_the_handlers_of_signals_are_put_back(book, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(commands.COMMANDS, "run", lambda options: 0)
    assert cli.main(["run", "01"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
