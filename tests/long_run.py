"""A run for tests to kill: `python -m tests.long_run KIND FOLDER`; its state is written often."""

import sys
import time
from pathlib import Path

import torch

from gfgd import checkpoint, gradient_descent, gradient_flow
from tests.small_problems import small_network


def run(kind, folder, progress=iter, objective=None, **changes):
    """The run `kind`, with or without a folder."""
    objective = objective or small_network()
    start = objective.initial(0)
    if kind == "descent":
        settings = {"step_size": 0.05, "iterations": 200, "record_every": 7} | changes
        return gradient_descent(objective, start, **settings, progress=progress, checkpoint=folder)
    times = torch.linspace(0, 12, 9, dtype=torch.float64)
    return gradient_flow(objective, start, times, **changes, progress=progress, checkpoint=folder)


def halting(folder, place):
    """Show a file at one item, and wait there to be killed."""

    def shown(items):
        for count, item in enumerate(items):
            if count == place:
                (folder / "running").touch()
                time.sleep(1000)
            yield item

    return shown


def main(kind, folder):
    torch.set_num_threads(1)
    checkpoint.SECONDS = 0.0
    folder = Path(folder)
    run(kind, folder / "run", halting(folder, 40 if kind == "descent" else 4))


if __name__ == "__main__":
    main(*sys.argv[1:])
