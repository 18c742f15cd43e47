"""Flows beside an average that is known, and the burst of the valley, whose sharpness is y."""

from dataclasses import replace

import pytest
import torch

from gfgd import Trajectory
from gfgd.large_steps.central import central_flow
from gfgd.large_steps.following import burst_of, following, stretch_at_the_edge
from gfgd.large_steps.pair_flow import pair_flow
from gfgd.problems.landscapes import sharpening_valley
from tests.small_problems import quadratic

STEP = 0.1
VALLEY = sharpening_valley(0.05).objective
TIMES = torch.arange(0, 3, 0.1, dtype=torch.float64)


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def trajectory(times, offset=0.0):
    """Return a curve in the plane, moved by an offset, with losses 2 + t."""
    points = torch.stack([times + offset, times.square()], dim=-1)
    return Trajectory(times=times, points=points, losses=2 + times, counts={}, status="completed")


def test_distances_sharpness_and_loss_are_the_known_ones():
    average = trajectory(TIMES[5:])
    moments = TIMES[::2]  # the model knows the loss at every other time
    found = following(
        quadratic(1.0, 3.0),
        trajectory(TIMES, offset=0.25),
        average,
        (moments, 1.02 * (2 + moments)),
        step_size=STEP,
    )
    torch.testing.assert_close(found.distances, torch.full((25,), 0.25).double())
    assert found.sharpness == pytest.approx(3 * STEP / 2, rel=1e-2)
    assert found.loss_error == pytest.approx(0.02)
    assert found.complete


def test_what_a_flow_did_not_reach_is_no_part_of_it():
    average = trajectory(TIMES)
    short = trajectory(TIMES[:12], offset=1.0)
    found = following(quadratic(1.0, 3.0), short, average, (TIMES, 2 + TIMES), step_size=STEP)
    assert len(found.distances) == 12 and not found.complete
    with pytest.raises(ValueError, match=r"ends at t = 1.1, before .* t = 2"):
        following(
            quadratic(1.0, 3.0), short, trajectory(TIMES[20:]), (TIMES, TIMES), step_size=STEP
        )


def test_the_stretch_begins_where_the_valley_reaches_its_edge():
    # y = 19.5 + c t comes to 2/η = 20 at t = 10, the hundredth step.
    flow = central_flow(VALLEY, vector(0.0, 19.5), step_size=STEP, iterations=200, record_every=5)
    average = trajectory(torch.arange(30, 191, dtype=torch.float64) * STEP)
    stretch = stretch_at_the_edge(flow, average)
    assert 10 <= float(stretch[0]) <= 10 + 5 * STEP + 1e-9
    assert float(stretch[-1]) == pytest.approx(19)
    never = replace(flow, variances=torch.zeros_like(flow.variances))
    with pytest.raises(ValueError, match="does not come to the edge"):
        stretch_at_the_edge(never, average)


def test_the_burst_of_a_pair_flow_is_where_the_valley_is_sharpest():
    start, half = vector(0.0, 19.5)[None], vector(1e-3, 0.0)[None]
    options = {"step_size": STEP, "iterations": 350, "half": half, "rounding": 0}
    flow = pair_flow(VALLEY, start, **options)
    heights = flow.points[:, 0, 1]
    top = int((heights.diff() < 0).nonzero()[0])  # it rises until the oscillation is large
    k, height = burst_of(VALLEY, flow, 0)
    assert abs(k - top) <= 1
    assert height == pytest.approx(float(heights[top]) * STEP / 2, rel=1e-4)
    with pytest.raises(ValueError, match="record_every=1"):
        burst_of(VALLEY, pair_flow(VALLEY, start, record_every=2, **options), 0)
