"""GD at the edge of stability: bursts of known maps, and runs beside what makes them."""

import pytest
import torch

from gfgd import gradient_descent, gradient_flow
from gfgd.large_steps.bursts import first_burst, onset, runs_at_the_edge, sharpness_at
from gfgd.large_steps.central import time_average
from gfgd.problems.landscapes import sharpening_valley
from tests.small_problems import small_network

STEP = 0.1
VALLEY = sharpening_valley(0.05).objective


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def test_onset_is_the_first_entry_above_a_fifth_of_the_largest():
    amplitudes = torch.stack([vector(0.1, 0.21, 1.0, 0.0), vector(3.0, 1.0, 0.0, 0.0)], dim=1)
    assert onset(amplitudes).tolist() == [1, 0]


def test_the_burst_of_the_valley():
    # y rises by ηc a step from below the edge; x, tiny at first, is multiplied by 1 − ηy.
    descent = gradient_descent(VALLEY, vector(1e-3, 19.5), step_size=STEP, iterations=400)
    burst = first_burst(VALLEY, descent, STEP)
    x, y = descent.points.unbind(-1)
    assert abs(x[burst.iterate]) > 0.19 * abs(x).max() > abs(x[burst.iterate - 2])
    # Along x, the top eigenvector up to x / y, the oscillation is x itself while x grows slowly.
    assert burst.near.tolist() == list(range(burst.iterate - 30, burst.iterate + 21))
    torch.testing.assert_close(burst.along.abs(), x[burst.near].abs(), rtol=0.02, atol=2e-3)
    # The middle lies near the floor, where the Hessian's top eigenvalue is y.
    torch.testing.assert_close(burst.middle_sharpness, y[burst.near] * STEP / 2, rtol=3e-3, atol=0)
    iterate, height = burst.peak
    assert abs(iterate - int(y[: burst.iterate + 20].argmax())) <= 1
    assert height == pytest.approx(float(y.max()) * STEP / 2, rel=3e-3)


def test_what_never_oscillates_has_no_burst():
    descent = gradient_descent(VALLEY, vector(0.3, 5.0), step_size=STEP, iterations=100)
    with pytest.raises(ValueError, match=r"no burst .* of 100; take more iterations.*η = 0.1"):
        first_burst(VALLEY, descent, STEP)


def test_sharpness_is_the_dense_one_also_where_two_eigenvalues_cross():
    objective = small_network("tanh")
    ends = objective.initial(1), objective.initial(2)
    points = torch.stack([torch.lerp(*ends, t) for t in torch.linspace(0, 1, 9).tolist()])
    dense = torch.linalg.eigvalsh(objective.hessian(points))[:, -1]
    torch.testing.assert_close(sharpness_at(objective, points), dense, rtol=1e-8, atol=0)


def test_runs_are_those_of_their_parts():
    starts = torch.stack([vector(0.1, 19.8), vector(0.2, 19.9)])
    runs = runs_at_the_edge(
        VALLEY, starts, step_size=STEP, iterations=60, record_every=6, window=11, rtol=1e-8
    )
    descent = gradient_descent(VALLEY, starts, step_size=STEP, iterations=60)
    flow = gradient_flow(VALLEY, starts, descent.times[::6], rtol=1e-8, atol=1e-10)
    assert torch.equal(runs.descent.points, descent.points)
    assert torch.equal(runs.flow.points, flow.points)
    assert torch.equal(runs.average.points, time_average(descent, 11).points)


def test_descent_that_diverges_says_where():
    with pytest.raises(RuntimeError, match=r"GD, η = 1.*iteration"):
        runs_at_the_edge(
            VALLEY, vector(2.0, 30.0)[None], step_size=1.0, iterations=50, record_every=1, window=5
        )


def test_record_every_is_checked():
    with pytest.raises(ValueError, match="record_every = 0"):
        runs_at_the_edge(
            VALLEY, torch.ones(1, 2), step_size=0.1, iterations=20, record_every=0, window=5
        )
