import math

import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.flow import ADAPTIVE_METHODS, FIXED_METHODS, gradient_flow, integrate
from tests.problems import quadratic, small_network

TIMES = torch.linspace(0, 2, 5, dtype=torch.float64)


def rotation(_, state):
    return torch.stack([-state[..., 1], state[..., 0]], dim=-1)


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_closed_form_on_a_quadratic(method):
    eigenvalues = torch.tensor([3.0, 0.2, -0.5], dtype=torch.float64)
    start = torch.tensor([1.0, 2.0, -0.1], dtype=torch.float64)
    rtol = 1e-7 if ADAPTIVE_METHODS[method] > 2 else 1e-5
    flow = gradient_flow(quadratic(*eigenvalues), start, TIMES, method=method, rtol=rtol)
    exact = start * torch.exp(-eigenvalues * TIMES[:, None])
    true_error = (flow.points - exact).norm(dim=-1)
    assert flow.completed
    assert true_error.max() < 100 * rtol
    assert (true_error <= flow.error + 1e-12).all()
    torch.testing.assert_close(flow.losses, 0.5 * (eigenvalues * flow.points**2).sum(-1))


@pytest.mark.parametrize(("method", "order"), FIXED_METHODS.items())
def test_order_of_convergence(method, order):
    sizes = [0.2, 0.1, 0.05, 0.025]
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = torch.tensor([math.cos(2), math.sin(2)], dtype=torch.float64)
    errors = []
    for size in sizes:
        states = integrate(rotation, start, TIMES[[0, -1]], method=method, step_size=size).states
        errors.append((states[-1] - end).norm().item())
    assert fitted_slope(sizes, errors) == pytest.approx(order, abs=0.2)


def test_euler_is_gradient_descent():
    objective = small_network()
    start = objective.initial(0)
    descent = gradient_descent(objective, start, step_size=0.1, iterations=20)
    euler = integrate(
        lambda _, point: -objective.gradient(point),
        start,
        descent.times,
        method="euler",
        step_size=0.1,
    )
    torch.testing.assert_close(euler.states, descent.points)
    assert euler.counts["evaluations"] == 20


def test_counts_are_what_was_called():
    calls = 0
    objective = quadratic(1.0, 2.0)
    plain = objective.gradient

    def counted(point):
        nonlocal calls
        calls += 1
        return plain(point)

    objective.gradient = counted
    flow = gradient_flow(objective, torch.ones(2, dtype=torch.float64), TIMES)
    assert flow.counts["gradients"] + flow.counts["estimate_gradients"] == calls
    assert flow.counts["accepted_steps"] > 0


def test_the_estimate_can_be_switched_off():
    start = torch.ones(1, dtype=torch.float64)
    flow = gradient_flow(quadratic(1.0), start, TIMES, estimate_error=False)
    assert flow.error is None and "estimate_gradients" not in flow.counts


def test_a_batch_is_its_members_to_within_its_error():
    objective = small_network()
    starts = torch.stack([objective.initial(seed) for seed in range(3)])
    batch = gradient_flow(objective, starts, TIMES)
    assert batch.error.shape == (5, 3)
    for member in range(3):
        alone = gradient_flow(objective, starts[member], TIMES)
        assert (batch.points[:, member] - alone.points).norm(dim=-1).max() < 1e-6


def test_single_precision_stays_single():
    flow = gradient_flow(quadratic(1.0), torch.ones(1), TIMES, rtol=1e-4, atol=1e-5)
    assert flow.points.dtype == torch.float32
    assert (flow.points[-1] - math.exp(-2)).abs() < 1e-4


def test_a_state_that_explodes_stops_the_run_and_keeps_what_was_reached():
    # y' = y² from y = 1 is 1/(1 − t): no solution from t = 1 on.
    start = torch.ones(1, dtype=torch.float64)
    found = integrate(lambda _, y: y**2, start, torch.tensor([0.0, 0.5, 1.5, 2.0]))
    assert found.times.tolist() == [0.0, 0.5]
    assert found.states[-1].item() == pytest.approx(2.0, rel=1e-6)
    assert found.status.startswith("stopped at t = ")


def test_max_gradients_stops_the_run():
    objective = small_network()
    flow = gradient_flow(
        objective, objective.initial(0), torch.linspace(0, 50, 11), max_gradients=60
    )
    assert "60 evaluations were used" in flow.status
    assert 1 <= len(flow.times) < 11 and len(flow.points) == len(flow.times)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": torch.tensor([0.0, 0.0])}, "strictly increasing"),
        ({"times": torch.zeros(2, 2)}, "list of times"),
        ({"method": "dopri6"}, "method = 'dopri6'.*did you mean"),
        ({"rtol": 0.0}, "rtol = 0.0"),
        ({"start": torch.tensor([float("nan")])}, "start: has non-finite"),
        ({"method": "rk4"}, "step_size: a fixed-step method needs one"),
        ({"method": "rk4", "step_size": 0.3}, "does not divide"),
        ({"method": "rk4", "step_size": 0.1, "max_evaluations": 5}, "is for adaptive methods"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"start": torch.ones(1), "times": TIMES} | change
    with pytest.raises(ValueError, match=message):
        integrate(lambda _, y: -y, **arguments)
