"""Processes of torch.distributed for tests: each runs a function of tests.rank_programs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(rank, size, port):
    """Return what torchrun would set."""
    return os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def start(program, size, folder):
    """Start `size` ranks; what they print lands in files of the folder."""
    port = free_port()
    ranks = []
    for rank in range(size):
        with (folder / f"rank{rank}.txt").open("w") as out:
            command = [sys.executable, "-m", "tests.rank_programs", program, str(folder)]
            ranks.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment(rank, size, port),
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
    return ranks


def ended(ranks, seconds):
    """Wait for all ranks, and return their exit codes; none outlives the test."""
    try:
        return [rank.wait(seconds) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def printed(folder, rank):
    return (folder / f"rank{rank}.txt").read_text()


def run(program, size, folder, seconds=300):
    """Run a program on `size` ranks to its end; return what each printed."""
    codes = ended(start(program, size, folder), seconds)
    said = [printed(folder, rank) for rank in range(size)]
    assert codes == [0] * size, "\n".join(said)
    return said
