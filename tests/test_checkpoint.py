import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gfgd import checkpoint, gradient_descent
from gfgd.checkpoint import trajectory_so_far
from gfgd.imperfections.rounding import CompensatedSum
from gfgd.objective import Objective
from tests.long_run import run
from tests.small_problems import quadratic, quartic, small_network

ROOT = Path(__file__).resolve().parents[1]
KINDS = ["descent", "flow"]


class BrokenError(Exception):
    pass


class Breaking(Objective):
    """A network whose gradient fails at one evaluation, counted over all calls."""

    def __init__(self, at):
        network = small_network()
        self.initial = network.initial
        self.calls, self.at = 0, at
        super().__init__(*network.terms, dimension=network.dimension)

    def value_and_gradient(self, point):
        self.calls += 1
        if self.calls == self.at:
            raise BrokenError
        return super().value_and_gradient(point)


def assert_same_bits(found, wanted):
    for name in ("times", "points", "losses", "error"):
        left, right = getattr(found, name), getattr(wanted, name)
        assert (left is None) == (right is None)
        if left is not None:
            assert left.dtype == right.dtype
            assert left.numpy().tobytes() == right.numpy().tobytes(), name
    assert (found.counts, found.status) == (wanted.counts, wanted.status)
    assert found.error_doubt == wanted.error_doubt


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_same_bits(kind, tmp_path):
    command = [sys.executable, "-m", "tests.long_run", kind, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "running").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()  # SIGKILL
        assert process.wait() == -signal.SIGKILL
    so_far = trajectory_so_far(tmp_path / "run")
    assert "unfinished" in so_far.status
    wanted = run(kind, None)
    count = len(so_far.times)
    assert 1 <= count < len(wanted.times)
    assert torch.equal(so_far.points, wanted.points[:count])
    used = []
    goes_on = run(kind, tmp_path / "run", progress=lambda left: used.append(len(left)) or left)
    assert_same_bits(goes_on, wanted)
    whole = []
    run(kind, None, progress=lambda left: whole.append(len(left)) or left)
    assert used[0] < whole[0]  # it did not start again


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("descent", {}),
        *(("flow", {"method": name}) for name in ("dopri5", "bosh3", "dopri8")),
        ("flow", {"estimate_error": False}),
        ("flow", {"max_gradients": 60}),
    ],
)
def test_a_run_that_is_interrupted_again_and_again(kind, changes, tmp_path):
    wanted = run(kind, None, **changes)
    total = sum(count for name, count in wanted.counts.items() if "gradients" in name)
    breaks = 0
    while True:
        try:
            found = run(kind, tmp_path, objective=Breaking(37), **changes)
        except BrokenError:
            breaks += 1
            assert breaks < total
        else:
            break
    assert breaks >= total // 37  # in both integrations
    assert_same_bits(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_is_read(kind, tmp_path):
    wanted = run(kind, tmp_path)
    again = Breaking(1)  # no gradient is asked for
    found = run(kind, tmp_path, objective=again)
    assert_same_bits(found, wanted)
    assert again.calls == 0
    assert_same_bits(run(kind, None), wanted)
    stored = trajectory_so_far(tmp_path)
    assert torch.equal(stored.points, wanted.points) and stored.completed
    found.points.zero_()  # a copy: what is in the folder stays
    assert_same_bits(run(kind, tmp_path), wanted)


def test_a_run_that_diverged_or_reached_its_loss(tmp_path):
    start = torch.tensor([10.0, 0.0], dtype=torch.float64)
    for name, settings in {
        "diverged": {"step_size": 1.0, "iterations": 100},
        "reached": {"step_size": 1e-3, "iterations": 10**6, "until_loss": 10.0, "record_every": 9},
    }.items():
        wanted = gradient_descent(quartic(), start, **settings)
        for _ in range(2):
            found = gradient_descent(quartic(), start, **settings, checkpoint=tmp_path / name)
            assert_same_bits(found, wanted)


def test_batches_and_single_precision(tmp_path):
    starts = torch.ones(3, 2)
    wanted = gradient_descent(quadratic(1.0, 2.0), starts, step_size=0.1, iterations=5)
    found = gradient_descent(
        quadratic(1.0, 2.0), starts, step_size=0.1, iterations=5, checkpoint=tmp_path
    )
    assert_same_bits(found, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_size": 0.06}, "step_size was 0.05, is 0.06"),
        ({"record_every": 8}, "record_every was 7, is 8"),
        ({"objective": small_network(seed=1)}, "belongs to another objective: f.start. was"),
        ({"update": CompensatedSum()}, "checkpoint: is for the plain update"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, message, tmp_path):
    run("descent", tmp_path)
    with pytest.raises(ValueError, match=message):
        run("descent", tmp_path, **changes)


def test_another_start_is_refused(tmp_path):
    gradient_descent(quadratic(1.0), [1.0], step_size=0.1, iterations=2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run .start was"):
        gradient_descent(quadratic(1.0), [2.0], step_size=0.1, iterations=2, checkpoint=tmp_path)


def test_damaged_and_missing_states(tmp_path):
    with pytest.raises(ValueError, match="no run has left its state there"):
        trajectory_so_far(tmp_path)
    (tmp_path / "state.npz").write_bytes(b"PK?")
    for attempt in (lambda: trajectory_so_far(tmp_path), lambda: run("descent", tmp_path)):
        with pytest.raises(ValueError, match=r"state.npz: is damaged .*; delete the folder"):
            attempt()
    start = torch.ones(1, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16 cannot be kept"):
        gradient_descent(
            quadratic(1.0), start, step_size=0.1, iterations=2, checkpoint=tmp_path / "other"
        )


def test_a_kill_before_the_first_state_leaves_nothing_in_the_way(tmp_path):
    wanted = run("descent", None)
    run("descent", tmp_path)
    (tmp_path / "state.npz").unlink()
    (points,) = tmp_path.glob("points-*.npy")
    np.load(points, mmap_mode="r+")[:] = 7
    assert_same_bits(run("descent", tmp_path), wanted)


def test_points_that_do_not_fit_are_refused_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "free_memory", lambda device: 10_000)
    bowl, start = quadratic(*range(1, 11)), torch.ones(10, dtype=torch.float64)
    settings = {"step_size": 0.01, "iterations": 200}
    message = (
        r"201 points of 10 numbers take 1.61e-05 GB, and 1e-05 GB are free: record_every = 1: "
        "make it 4 times larger, or keep them on disk with checkpoint=FOLDER"
    )
    with pytest.raises(ValueError, match=message):
        gradient_descent(bowl, start, **settings)
    thinned = gradient_descent(bowl, start, **settings, record_every=4)
    stored = gradient_descent(bowl, start, **settings, checkpoint=tmp_path)
    assert torch.equal(stored.points[::4], thinned.points)


def test_free_memory_is_told_where_it_is_known():
    free = checkpoint.free_memory(torch.device("cpu"))
    assert free is None or 1e6 < free < 1e15
