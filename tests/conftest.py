"""What every test shares."""

import os
import shutil

# One thread in each process, here and in the kernels and commands that tests start: the problems
# are small, and the threads of processes that run side by side would wait for each other. NumPy
# and PyTorch read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)

#: Seconds from which a test is to be marked ``slow``, on a quiet machine.
LONG = 10.0

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, so that it starts as root too; the rest keeps Chromium itself off the network.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync", "--no-first-run"]


def missing(what):
    """Skip, but fail where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser():
    """Chromium. For a module, not for the session: while it runs, no test can run a notebook."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing(f"none of {BROWSERS} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield chromium
        chromium.close()


def pytest_terminal_summary(terminalreporter):
    """Name the tests that took longer than the mark ``slow`` says, and do not have it."""
    reports = [
        entry for group in ("passed", "failed") for entry in terminalreporter.stats.get(group, [])
    ]
    long = [entry for entry in reports if entry.duration > LONG and "slow" not in entry.keywords]
    for entry in sorted(long, key=lambda entry: -entry.duration):
        if not {"browser", "book"} & set(entry.keywords):
            terminalreporter.line(f"{entry.duration:.0f} s and not marked slow: {entry.nodeid}")
