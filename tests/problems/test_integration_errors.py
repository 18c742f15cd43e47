"""Errors of methods against closed forms that the module does not know."""

import math

import pytest
import torch

from gfgd import figures
from gfgd.figures.problem_fields import problem_field
from gfgd.problems import initial_value_problems as ivp
from gfgd.problems import integration_errors

DECAY = ivp.linear(torch.tensor([[-2.0]], dtype=torch.float64), name="decay")


def test_eulers_error_on_a_decay_is_the_closed_form():
    run = integration_errors.fixed_steps(DECAY, step_size=0.1, horizon=1.0)
    k = torch.arange(11, dtype=torch.float64)
    expected = (0.8**k - torch.exp(-0.2 * k)).abs()
    torch.testing.assert_close(run.error, expected, rtol=1e-12, atol=1e-14)
    local = integration_errors.local_errors(run)
    expected = torch.exp(-0.2 * k[:-1]) * (math.exp(-0.2) - 0.8)
    torch.testing.assert_close(local, expected, rtol=1e-12, atol=1e-14)


def test_both_bounds_on_a_decay_are_what_the_theorem_says():
    run = integration_errors.fixed_steps(DECAY, step_size=0.1, horizon=1.0)
    bound, classical = integration_errors.euler_bounds(run, step_size=0.1)
    # A single linear equation attains its bound; with L = 2 for m = −2 errors grow like e^{2t}.
    torch.testing.assert_close(bound, run.error, rtol=1e-11, atol=1e-14)
    steps = [4 * 0.8**k * (math.exp(0.2) - 1.2) / 4 for k in range(10)]
    last = sum(math.exp(0.2 * (9 - k)) * step for k, step in enumerate(steps))
    assert float(classical[-1]) == pytest.approx(last, rel=1e-11)


def test_adaptive_steps_hold_a_tolerance_on_a_decay():
    run = integration_errors.adaptive_steps(DECAY, tolerance=1e-8, horizon=2.0, count=5)
    assert run.times.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert 0 < float(run.error.max()) < 1e-7
    assert run.run.error is None


def test_a_sampled_bound_is_above_the_error_of_a_curve():
    run = integration_errors.fixed_steps(DECAY, step_size=0.1, horizon=1.0, method="heun2")
    error, bound = integration_errors.sampled_bound(DECAY, run.times, run.states, parts=4)
    assert error.shape == bound.shape == (41,)
    # Heun multiplies by 1 − x + x²/2 in each step of x = 0.2.
    k = torch.arange(11, dtype=torch.float64)
    expected = 0.82**k - torch.exp(-0.2 * k)
    torch.testing.assert_close(error[::4], expected, rtol=1e-11, atol=1e-14)
    assert (bound[1:] >= error[1:]).all()


@pytest.mark.parametrize(("times", "parts"), [([0.0], 4), ([0.0, 1.0], 0)])
def test_a_sampled_bound_refuses_what_it_cannot_use(times, parts):
    times = torch.tensor(times, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"times has 1|parts = 0"):
        integration_errors.sampled_bound(DECAY, times, torch.ones(len(times), 1), parts=parts)


def test_a_run_that_does_not_arrive_is_an_error():
    runs_off = ivp.linear(torch.tensor([[1e3]], dtype=torch.float64), name="runs off")
    with pytest.raises(RuntimeError, match="runs off"):
        integration_errors.fixed_steps(runs_off, step_size=1.0, horizon=200.0)


def test_a_problems_field_has_the_slopes_and_the_arrows():
    slopes = problem_field(ivp.problem("seasonal"), {}, horizon=4.0)
    point = torch.tensor([[1.5, 0.7]], dtype=torch.float64)
    assert slopes.directions(point)[0].tolist() == pytest.approx([1.0, math.cos(1.5) * 0.7])
    assert slopes.domain == ((0.0, 4.0), (0.0, 3.0))
    turning = problem_field(ivp.problem("rotation"), {}, horizon=4.0)
    assert turning.directions(point)[0].tolist() == pytest.approx([-1.4, 3.0])
    assert isinstance(figures.direction_fields({"a": slopes, "b": turning}), figures.Picture)


def test_three_states_cannot_be_drawn():
    with pytest.raises(ValueError, match="3 states"):
        problem_field(ivp.linear(torch.eye(3)), {}, horizon=1.0)
