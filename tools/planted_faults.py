"""Show that claims can fail: plant one fault at a time, and record which claims and tests notice.

Each fault changes one line of the library, in a copy of the checkout. The chapter that the line
belongs to is run there, and the tests that look at it. A fault that neither notices is one that
the book would not have caught.

    python -m tools.planted_faults [--jobs 2] [--only NAME …] [--skip-tests]

Results are kept in ``_build/planted_faults.json``, so that an interrupted run goes on. A result
counts as long as the copy that it came from would be the same today.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat

from gfgd.book.running.execute import read_claims
from gfgd.book.running.fingerprint import fingerprint
from gfgd.files import replacing
from tools.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "_build" / "planted_faults.json"
#: Seconds after which a chapter with a fault is stopped: a fault may make a loop long.
LONGEST = 3600


@dataclass(frozen=True)
class Noticed:
    """Which claims did not hold, what stopped the chapter (or None), and how many tests failed."""

    claims: list[str]
    stopped: str | None
    tests: int | None
    state: str


def plant(fault: Fault, root: Path) -> None:
    """Change the fault's line in the checkout under `root`.

    Raises
    ------
    ValueError
        If the line is not there exactly once: the code has changed, and the fault must follow.
    """
    path = root / fault.file
    text = path.read_text(encoding="utf-8")
    if (count := text.count(fault.before)) != 1:
        raise ValueError(f"{fault.name}: {fault.before!r} is {count} times in {fault.file}")
    path.write_text(text.replace(fault.before, fault.after), encoding="utf-8")


def chapter_of(fault: Fault, root: Path) -> Path:
    """Return the notebook of the fault's chapter."""
    (path,) = (root / "chapters").glob(f"{fault.chapter}_*.ipynb")
    return path


def notice(fault: Fault, *, with_tests: bool = True) -> Noticed:
    """Plant a fault in a copy of the checkout, run its chapter and its tests, and see."""
    with tempfile.TemporaryDirectory(prefix="gfgd-fault-") as folder:
        copy = Path(folder) / "checkout"
        _copy_checkout(copy)
        plant(fault, copy)
        claims, stopped = _run_chapter(fault, copy)
        failed = _run_tests(fault, copy) if with_tests else None
        return Noticed(claims, stopped, failed, _state(fault, copy))


def _copy_checkout(target: Path) -> None:
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    names = subprocess.run([*listing, "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _environment(copy: Path) -> dict[str, str]:
    """Return an environment in which Python finds the copy ahead of the checkout."""
    data = os.environ.get("GFGD_DATA", str(ROOT / "data"))
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return os.environ | threads | {"PYTHONPATH": str(copy), "GFGD_DATA": data}


def _run_chapter(fault: Fault, copy: Path) -> tuple[list[str], str | None]:
    """Return the claims that do not hold, and what stopped the chapter, if anything did."""
    output = copy / "run.ipynb"
    command = [sys.executable, "-m", "gfgd.book.cli", "run", str(chapter_of(fault, copy))]
    for name, value in fault.parameters:
        command += ["-p", name, value]
    try:
        run = subprocess.run(
            [*command, "--output", str(output)],
            cwd=copy,
            env=_environment(copy),
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        return [], f"not done after {LONGEST} s"
    failed = output.with_name("run.failed.ipynb")
    claims: list[str] = []
    for path in (output, failed):
        if path.is_file():
            stated = read_claims(nbformat.read(path, as_version=4))
            claims = [claim.name for claim in stated if not claim.holds]
    if output.is_file():
        return claims, None
    lines = run.stderr.strip().splitlines() or ["no message"]
    said = [line for line in lines if re.search(r"\w*(Error|Exception)\b", line)] or lines
    return claims, said[0][:200]


def _run_tests(fault: Fault, copy: Path) -> int:
    """Return how many of the fault's tests fail (an error while collecting counts)."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            fault.tests,
        ],
        cwd=copy,
        env=_environment(copy),
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    summary = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
    counts = re.findall(r"(\d+) (?:failed|error)", summary)
    return sum(map(int, counts)) if counts else int(run.returncode != 0)


def _state(fault: Fault, copy: Path) -> str:
    """Return the fingerprint of what the chapter would run with the fault in place."""
    return fingerprint(chapter_of(fault, copy), copy, dict(fault.parameters))


def _still_good(fault: Fault, kept: dict, with_tests: bool) -> bool:
    if fault.name not in kept or (with_tests and kept[fault.name]["tests"] is None):
        return False
    with tempfile.TemporaryDirectory(prefix="gfgd-fault-") as folder:
        copy = Path(folder) / "checkout"
        _copy_checkout(copy)
        plant(fault, copy)
        return kept[fault.name]["state"] == _state(fault, copy)


def _kept() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def _keep(name: str, noticed: Noticed) -> None:
    results = _kept() | {name: asdict(noticed)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with replacing(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def table(faults: Iterable[Fault], results: dict) -> str:
    """Return the results as a Markdown table, one fault a row."""
    rows = ["| fault | chapter | claims that fail | tests that fail |", "|---|---|---|---|"]
    for fault in faults:
        if fault.name in results:
            found = results[fault.name]
            claims = ", ".join(found["claims"])
            stopped = f"stopped: {found['stopped']}" if found["stopped"] else ""
            noticed = "; ".join(filter(None, [claims, stopped])) or "**none**"
            tests = "not run" if found["tests"] is None else found["tests"]
            rows.append(f"| {fault.name}: {fault.what} | {fault.chapter} | {noticed} | {tests} |")
    return "\n".join(rows)


def main() -> int:
    """Plant the faults, print the table, and return 1 if one was noticed by no claim."""
    parser = argparse.ArgumentParser(description="Plant faults, one at a time.")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    with_tests = not options.skip_tests
    kept = _kept()
    due = [fault for fault in chosen if not _still_good(fault, kept, with_tests)]

    def done(fault: Fault) -> tuple[str, Noticed]:
        return fault.name, notice(fault, with_tests=with_tests)

    with ThreadPoolExecutor(options.jobs) as pool:
        for name, noticed in pool.map(done, due):
            _keep(name, noticed)
            print(f"{name}: {noticed.claims or noticed.stopped or 'no claim'}", file=sys.stderr)
    results = _kept()
    print(table(chosen, results))
    return int(any(not results[fault.name]["claims"] for fault in chosen))


if __name__ == "__main__":
    sys.exit(main())
