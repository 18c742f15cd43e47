"""Real processes, with gloo on this machine."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from gfgd import gradient_descent
from gfgd.checkpoint import trajectory_so_far
from gfgd.objective import Objective
from gfgd.sharding import fingerprint, sharded
from tests import rank_programs, ranks


@pytest.fixture(scope="module")
def alone():
    return rank_programs.results(
        rank_programs.whole(), rank_programs.whole(reduction="sum"), rank_programs.whole("relu")
    )


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """What each of 2 ranks found, with unequal shards; and of 3, one of which has no data."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    ranks.run("equal", request.param, folder)
    return [dict(np.load(folder / f"rank{rank}.npz")) for rank in range(request.param)]


def test_as_one_process(alone, together):
    for name, value in together[0].items():
        tolerance = 1e-6 if name == "single" else 1e-12
        # Of the flow's error only the difference of two nearly equal numbers is left.
        scale = 1.0 if name == "flow_error" else np.abs(alone[name]).max()
        assert np.abs(value - alone[name]).max() <= tolerance * scale, name
    assert together[0]["single"].dtype == np.float32


def test_the_same_bits_on_all_ranks(together):
    first, *others = together
    for other in others:
        assert first.keys() == other.keys()
        for name in first:
            assert first[name].tobytes() == other[name].tobytes(), name


def test_what_is_refused_is_refused_on_all_ranks(tmp_path):
    said = ranks.run("refused", 2, tmp_path)
    wanted = {
        "negative": "ValueError: rank 1: samples = -1: must not be negative",
        "text": "ValueError: rank 0: samples = '5': is text, must be a number; rank 1: samples",
        "no objective": "ValueError: rank 1: samples = 5 without an objective; give one, or sa",
        "no data": "ValueError: samples = 0 on every rank: there are no data",
        "dimensions": "ValueError: dimension: 3 and 4 on ranks 0 and 1; give each rank the same",
        "starts": "ValueError: start: is not the same on ranks 0 and 1; make the network after",
        "reduction": "ValueError: reduction = 'none': must be one of 'mean', 'sum'",
        "points": "ValueError: the ranks have come apart: rank 0: gradient at ‖θ‖ = 1.7",
        "calls": "ValueError: the ranks have come apart: rank 0: value at ‖θ‖ = 1.73",
        "derivatives": "ValueError: rank 1: wrong second derivatives",
    }
    for rank in range(2):
        lines = dict(line.split(": ", 1) for line in said[rank].splitlines() if ": " in line)
        for name, beginning in wanted.items():
            assert lines[name].startswith(beginning), name
        assert lines["still here"] == "3 of 2"
    assert "raises: ShardError: rank 1 failed: RuntimeError: out of order" in said[0]
    assert "raises: RuntimeError: out of order" in said[1]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_others(tmp_path, victim):
    processes = ranks.start("endless", 3, tmp_path)
    deadline = time.monotonic() + 300
    while not all((tmp_path / f"running{rank}").exists() for rank in range(3)):
        assert time.monotonic() < deadline, ranks.printed(tmp_path, 0)
        time.sleep(0.05)
    os.kill(processes[victim].pid, signal.SIGKILL)
    codes = ranks.ended(processes, 60)
    assert codes[victim] == -signal.SIGKILL
    for rank in {0, 1, 2} - {victim}:
        assert codes[rank] == 1
        last = ranks.printed(tmp_path, rank).strip().splitlines()[-1]
        assert f"ShardError: rank {rank} of 3 lost another: a process was killed" in last
    # The others have left what there was, also if it was the first that died.
    so_far = trajectory_so_far(tmp_path / "run")
    assert len(so_far.times) >= 2 and "unfinished" in so_far.status
    wanted = gradient_descent(
        rank_programs.whole(),
        so_far.points[0],
        step_size=0.1,
        iterations=10 * (len(so_far.times) - 1),
        record_every=10,
    )
    torch.testing.assert_close(so_far.points, wanted.points, rtol=1e-12, atol=1e-12)


def test_needs_torch_distributed():
    bowl = Objective(lambda p: p.square().sum(-1), dimension=3)
    with pytest.raises(ValueError, match=r"call torch.distributed.init_process_group"):
        sharded(bowl, samples=1)


def test_fingerprints():
    points = torch.arange(4.0, dtype=torch.float64)
    other = points.clone()
    other[2] += 2**-51
    found = [
        fingerprint("gradient", [points]),
        fingerprint("value", [points]),
        fingerprint("gradient", [other]),
        fingerprint("gradient", [points.float()]),
        fingerprint("gradient", [points[:3]]),
        fingerprint("gradient", [points, other]),
        fingerprint("gradient", [other, points]),
    ]
    assert len(set(found)) == len(found)
    assert all(0 <= one < 2**62 for one in found)
    assert fingerprint("gradient", [points.flip(0)]) == found[0]  # whatever the order of summation


def test_the_example_prints_the_same_for_one_process_and_two():
    said = []
    for size in ("1", "2"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", size, "examples/many_processes.py"]
        variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ranks.ROOT)}
        done = subprocess.run(
            command, cwd=ranks.ROOT, env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert re.fullmatch(r"distance \S+ at t = 10\nloss \S+, sharpness \S+\n", said[0])
