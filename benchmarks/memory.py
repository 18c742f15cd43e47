"""(e) Peak memory of a full-batch gradient, each time in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Measured, Table, shown
from gfgd import networks
from gfgd.problems import datasets

SAMPLES = (1_000, 5_000, 20_000, 60_000)
CHUNK = 1_000
#: A wide network: what it keeps for a chunk stands out from what Python and PyTorch take.
HIDDEN = (800, 800)
#: Bytes in the GB of the tables.
GB = 1e9


def memory(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    hidden: Sequence[int] = HIDDEN,
    samples: Sequence[int] = SAMPLES,
    chunk_size: int = CHUNK,
) -> Table:
    """Measure peak memory in chunks, of one batch for comparison, and over all of MNIST.

    The processes make their own data: `images`, `labels` and `rounds` play no part.
    """
    second = samples[1]
    cases: list[tuple[int | None, int | None]] = [(count, chunk_size) for count in samples]
    cases += [(second, None), (None, chunk_size)]
    found = {
        (count, chunk): measure_apart(count, hidden, chunk)
        for count, chunk in shown(cases, "(e) memory")
    }
    added = {case: after - before for case, (before, after) in found.items()}
    largest = (samples[-1], chunk_size)
    return Table(
        f"(e) Peak memory of a process with a gradient of 784-{'-'.join(map(str, hidden))}-10, "
        "float64",
        ("data", "chunk", "MB before", "MB more with a gradient"),
        [
            (
                "MNIST, 60000" if count is None else f"random, {count}",
                "all" if chunk is None else str(chunk),
                f"{before / 1e6:.0f}",
                f"{added[count, chunk] / 1e6:.0f}",
            )
            for (count, chunk), (before, _) in found.items()
        ],
        [
            Measured.count(
                f"(e) memory of a gradient, {samples[-1]} / {second} samples",
                added[largest] / added[second, chunk_size],
                at_most=1.1,
            ),
            Measured.count(
                "(e) GB of the process, 60 000 images of MNIST",
                found[None, chunk_size][1] / GB,
                at_most=2.0,
            ),
        ],
        ("Reading MNIST takes more for a moment than a gradient in chunks, which hides in it.",),
    )


def measure_apart(
    samples: int | None, hidden: Sequence[int], chunk_size: int | None
) -> tuple[int, int]:
    """Return what `measure` returns, from a new process."""
    request = json.dumps([samples, list(hidden), chunk_size])
    command = [sys.executable, "-m", "benchmarks.memory", request]
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder)
    before, after = json.loads(done.stdout)
    return before, after


def measure(samples: int | None, hidden: Sequence[int], chunk_size: int | None) -> tuple[int, int]:
    """Return this process's peak memory before and after a gradient of a ReLU network, in bytes.

    `samples` random images, made in place, or all of MNIST for None.
    """
    if samples is None:
        images, labels = datasets.mnist()
    else:
        images = torch.randn(samples, 784, dtype=torch.float64)
        labels = torch.arange(samples) % 10
    objective = networks.fully_connected(images, labels, hidden=hidden, chunk_size=chunk_size)
    start = objective.initial(1)
    before = peak()
    objective.gradient(start)
    return before, peak()


def peak() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage also counts the process that started this one.
        (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
