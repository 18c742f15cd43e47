"""(e) Seconds of a gradient with one process and with two, each with half of the images.

The processes of ``torch.distributed`` run beside each other for the whole measurement. In each
round they first compute the gradient together, and then the first one alone while the other waits.
Where others use the cores, seconds say little; therefore the first process's own seconds on a
processor, which leave out what it waits, are compared as well.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from benchmarks.measure import Measured, Table, quartiles, ratios, shown
from benchmarks.scaling import CHUNK, network
from gfgd import Objective
from gfgd.networks import FullyConnected
from gfgd.problems import datasets
from gfgd.sharding import sharded

SAMPLES, WIDTHS = 60_000, (50, 800)
SIZE = 2
#: A gradient of the wide network over all images takes many seconds.
ROUNDS = 3
#: Seconds that a measurement may take before its processes are ended.
PATIENCE = 1800


def processes(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    widths: Sequence[int] = WIDTHS,
    samples: int = SAMPLES,
) -> Table:
    """Time the gradient of ReLU networks in float64 over `samples` images, one thread a process.

    They are MNIST's where more are wanted than given, or those given where MNIST is not there.
    """
    rows, measured = [], []
    images, labels = many(images, labels, samples)
    for width in shown(widths, "(e) processes"):
        times = measure_apart(images, labels, width, min(rounds, ROUNDS))
        name = f"784-{width}-{width}-10"
        faster = ratios(times["alone"], times["together"])
        less = ratios(times["alone, processor"], times["together, processor"])
        rows.append(
            (
                name,
                *(f"{quartiles(times[one])[0]:.3g}" for one in ("alone", "together")),
                *(f"{quartiles(one)[0]:.2f}" for one in (faster, less)),
                f"{times['difference'][0]:.0e}",
            )
        )
        of = f"of a gradient, {name}: 1 process / {SIZE}"
        measured.append(Measured.median(f"(e) seconds {of}", faster))
        measured.append(Measured.median(f"(e) processor's seconds {of}", less))
    return Table(
        f"(e) Seconds of a gradient over {len(images)} images, ReLU, float64, chunks of {CHUNK}, "
        "one thread a process",
        (
            "network",
            "1 process",
            f"{SIZE} processes",
            "times as fast",
            "less work each",
            "relative difference",
        ),
        rows,
        measured,
        (
            f"This machine has {os.cpu_count()} cores; {SIZE} processes are {SIZE} times as fast "
            "at the most, and less where others use the cores. 'Less work each' is the ratio of "
            "the processor's seconds, which leave out waiting.",
        ),
    )


def many(images: Tensor, labels: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return so many images; those given where they suffice, or where there is no MNIST."""
    if samples > len(images):
        try:
            images, labels = datasets.mnist()
        except datasets.DatasetError as error:
            print(f"MNIST is not there, {len(images)} images are taken: {error}", file=sys.stderr)
    return images[:samples], labels[:samples]


def measure_apart(
    images: Tensor, labels: Tensor, width: int, rounds: int
) -> dict[str, list[float]]:
    """Return what `measure` returns on the first of `SIZE` new processes."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.pt"
        torch.save((images.contiguous(), labels.contiguous()), data)
        ranks = [_start(rank, port, [str(data), width, rounds]) for rank in range(SIZE)]
        try:
            printed = [rank.communicate(timeout=PATIENCE)[0] for rank in ranks]
        finally:
            for rank in ranks:  # one that waits for another that failed
                rank.kill()
                rank.wait()
    if failed := [rank.returncode for rank in ranks if rank.returncode]:
        raise RuntimeError(f"a process ended with {failed[0]}; its own messages say more")
    return json.loads(printed[0])


def _start(rank: int, port: int, request: list[object]) -> subprocess.Popen[bytes]:
    variables = {
        "RANK": str(rank),
        "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "benchmarks.processes", json.dumps(request)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env=os.environ | variables,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(data: str, width: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, together and alone, on the clock and on the processor.

    And the relative difference of the two gradients.

    To be called by all processes of the group; the first one's seconds count. A round to warm up
    is left out.
    """
    images, labels = torch.load(data, mmap=True)
    rank, size = dist.get_rank(), dist.get_world_size()
    whole = network(images, labels, (width, width), CHUNK)
    start = whole.initial(1)
    mine = slice(rank * len(images) // size, (rank + 1) * len(images) // size)
    # Of the same widths, also where the labels of a part do not reach the last class.
    part = FullyConnected(
        images[mine], labels[mine], whole.widths, whole.activation, whole.loss, CHUNK
    )
    spread = sharded(part, samples=len(part.inputs))
    times: dict[str, list[float]] = {}
    together = alone = start
    for _ in range(rounds + 1):
        dist.barrier()
        together = _timed(times, "together", spread, start)
        dist.barrier()
        if rank == 0:
            alone = _timed(times, "alone", whole, start)
    difference = float((together - alone).norm() / alone.norm())
    return {name: one[1:] for name, one in times.items()} | {"difference": [difference]}


def _timed(times: dict[str, list[float]], name: str, objective: Objective, point: Tensor) -> Tensor:
    """Return the gradient; add its seconds, and those of this process on a processor."""
    before, before_processor = time.perf_counter(), time.process_time()
    gradient = objective.gradient(point)
    times.setdefault(name, []).append(time.perf_counter() - before)
    times.setdefault(f"{name}, processor", []).append(time.process_time() - before_processor)
    return gradient


def main() -> None:
    """Measure what the command line asks for, and print it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
