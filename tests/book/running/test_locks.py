import os
import subprocess
import sys

from gfgd.book.build import build_lock

from ..conftest import ROOT


def test_lock_is_exclusive_across_processes(book):
    (book / "_build").mkdir()
    script = (
        "import sys; from pathlib import Path; from gfgd.book.build import build_lock\n"
        "with build_lock(Path(sys.argv[1]), lambda line: print(line, flush=True)):\n"
        "    print('mine', flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with build_lock(book, print):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(book)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert other.stdout is not None
        assert "waiting" in other.stdout.readline()
        assert other.poll() is None
    rest, _ = other.communicate(timeout=300)
    assert rest.strip() == "mine"
