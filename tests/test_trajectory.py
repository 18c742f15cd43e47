from dataclasses import replace

import numpy as np
import pytest
import torch

from gfgd.bounds.leading_order import leading_order_error
from gfgd.large_steps.central import central_flow
from gfgd.large_steps.modified import (
    barrett_dherin_flow,
    next_order_flow,
    principal_flow,
    second_order_flow,
    stochastic_flow,
)
from gfgd.large_steps.momentum import momentum_descent, momentum_flow, momentum_flow_start
from gfgd.large_steps.pair_flow import pair_flow
from gfgd.large_steps.rmsprop import rmsprop, rmsprop_central_flow
from gfgd.large_steps.rod_flow import rod_flow
from gfgd.trajectory import Trajectory
from tests.small_problems import quadratic


def line(times=(0.0, 0.1, 0.2), dimension=2, **more) -> Trajectory:
    times = torch.tensor(times, dtype=torch.float64)
    points = times[:, None] * torch.ones(dimension, dtype=torch.float64)
    return Trajectory(times, points, points.sum(-1), **more)


def test_distances():
    right = line()
    up = Trajectory(right.times, right.points * torch.tensor([1.0, -1.0]), right.losses)
    torch.testing.assert_close(right.distance_to(up), 2 * right.times)
    torch.testing.assert_close(right.distance_from_start(), 2**0.5 * right.times)


def test_distance_is_taken_in_float64():
    single = Trajectory(torch.zeros(1), torch.full((1, 1), 1.0), torch.zeros(1))
    double = Trajectory(torch.zeros(1), torch.full((1, 1), 1 + 1e-12).double(), torch.zeros(1))
    assert single.distance_to(double).item() == pytest.approx(1e-12, rel=1e-3)


def test_what_did_not_complete_says_why():
    whole = line()
    assert whole.require_completed("the flow") is whole
    with pytest.raises(RuntimeError, match="depth 3: diverged at 7"):
        line(status="diverged at 7").require_completed("depth 3")


def test_times_that_differ_by_rounding_are_the_same():
    assert line((0.0, 0.3)).distance_to(line((0.0, 3 * 0.1))).abs().max() < 1e-15


def test_other_times_or_dimensions_are_refused():
    with pytest.raises(ValueError, match="other times"):
        line().distance_to(line((0.0, 0.1, 0.3)))
    with pytest.raises(ValueError, match="other times"):
        line().distance_to(line((0.0, 0.1)))
    with pytest.raises(ValueError, match="dimension 3"):
        line().distance_to(line(dimension=3))


def test_times_rounded_to_float32_are_refused_with_the_remedy():
    rough = Trajectory(line().times.float().double(), line().points, line().losses)
    with pytest.raises(ValueError, match="give times in float64"):
        line().distance_to(rough)


def test_at_picks_recorded_times_only():
    picked = line(error=torch.tensor([0.0, 1.0, 2.0])).at(
        torch.tensor([0.2, 0.0], dtype=torch.float64)
    )
    assert picked.times.tolist() == [0.2, 0.0]
    assert picked.error.tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match=r"0\.15 was not recorded"):
        line().at(torch.tensor([0.15]))


def test_a_member_of_a_batch_is_one_of_its_curves():
    times = torch.arange(3, dtype=torch.float64)
    points = torch.arange(12, dtype=torch.float64).reshape(3, 2, 2)
    batch = Trajectory(times, points, points[..., 0], {"gradients": 3}, error=points[..., 1])
    one = batch.member(1)
    assert torch.equal(one.points, points[:, 1]) and torch.equal(one.losses, points[:, 1, 0])
    assert torch.equal(one.error, points[:, 1, 1]) and one.counts == {"gradients": 3}
    with pytest.raises(ValueError, match="index = 2"):
        batch.member(2)
    with pytest.raises(ValueError, match="single curve"):
        one.member(0)


def test_inconsistent_shapes_are_refused():
    times = torch.arange(3.0)
    with pytest.raises(ValueError, match="points has 2 entries"):
        Trajectory(times, torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="losses has shape"):
        Trajectory(times, torch.zeros(3, 4), torch.zeros(3, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded(tmp_path, dtype):
    times = torch.arange(3, dtype=torch.float64)
    points = torch.randn(3, 5, dtype=dtype)
    kept = Trajectory(
        times, points, points.sum(-1), {"gradients": 7}, "stopped: why", torch.rand(3)
    )
    found = Trajectory.load(kept.save(tmp_path / "run.npz"))
    assert torch.equal(found.points, points) and found.points.dtype == dtype
    assert torch.equal(found.error, kept.error) and found.error_doubt is None
    assert found.counts == {"gradients": 7}
    assert found.status == "stopped: why" and not found.completed
    assert list(tmp_path.iterdir()) == [tmp_path / "run.npz"]


def test_a_doubt_is_saved_and_stays_with_the_times_picked_out(tmp_path):
    kept = replace(line(), error=torch.zeros(len(line().times)), error_doubt="the field jumps")
    found = Trajectory.load(kept.save(tmp_path / "run.npz"))
    assert found.error_doubt == found.at(found.times[:1]).error_doubt == "the field jumps"


def test_a_failed_save_keeps_the_earlier_file(tmp_path, monkeypatch):
    path = line().save(tmp_path / "run.npz")
    good = path.read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="no space"):
        line((0.0, 1.0)).save(path)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_pickled_files_are_refused(tmp_path):
    path = line().save(tmp_path / "run.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"run\.npz: no trajectory can be read"):
        Trajectory.load(path)
    np.savez(path, times=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="no trajectory can be read"):
        Trajectory.load(path)
    with pytest.raises(FileNotFoundError):
        Trajectory.load(tmp_path / "none.npz")


TIMES = torch.tensor([0.0, 0.1], dtype=torch.float64)
STEPS = {"step_size": 0.1, "iterations": 2}
RUNS = {
    "leading order": lambda f, start: leading_order_error(f, start, TIMES).coefficient,
    "Barrett-Dherin": lambda f, start: barrett_dherin_flow(f, start, TIMES, step_size=0.1).points,
    "next order": lambda f, start: next_order_flow(f, start, TIMES, step_size=0.1).points,
    "principal": lambda f, start: principal_flow(f, start, TIMES, step_size=0.1).path.points,
    "slide": lambda f, start: second_order_flow(f, start, TIMES, step_size=0.1).points,
    "stochastic": lambda f, start: stochastic_flow([f], start, TIMES, step_size=0.1).points,
    "central": lambda f, start: central_flow(f, start, **STEPS).points,
    "pair": lambda f, start: pair_flow(f, start, half=start, **STEPS).path.points,
    "rod": lambda f, start: rod_flow(f, start, **STEPS).path.points,
    "RMSProp": lambda f, start: rmsprop(f, start, decay=0.9, **STEPS).path.points,
    "RMSProp, central": lambda f, start: rmsprop_central_flow(f, start, decay=0.9, **STEPS).points,
    "momentum": lambda f, start: (
        momentum_descent(f, start, previous=start, momentum=0.5, **STEPS).points
    ),
    "momentum, flow": lambda f, start: (
        momentum_flow(f, start, TIMES, step_size=0.1, momentum=0.5).points
    ),
    "momentum, shifted": lambda f, start: momentum_flow_start(
        f, start, step_size=0.1, momentum=0.5
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_run_takes_lists_arrays_and_parameters_as_starts(name):
    objective = quadratic(1.0, 2.0)
    expected = RUNS[name](objective, torch.tensor([1.0, 0.5], dtype=torch.float64))
    parameter = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
    for start in ([1.0, 0.5], np.array([1.0, 0.5]), parameter):
        found = RUNS[name](objective, start)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)
