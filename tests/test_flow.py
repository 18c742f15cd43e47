import math

import numpy as np
import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.flow import ADAPTIVE_METHODS, FIXED_METHODS, gradient_flow, integrate
from gfgd.objective import Objective
from tests.small_problems import quadratic, small_network

TIMES = torch.linspace(0, 2, 5, dtype=torch.float64)


def rotation(_, state):
    return torch.stack([-state[..., 1], state[..., 0]], dim=-1)


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_closed_form_on_a_quadratic(method):
    eigenvalues = torch.tensor([3.0, 0.2, -0.5], dtype=torch.float64)
    start = torch.tensor([1.0, 2.0, -0.1], dtype=torch.float64)
    # Tight enough for the tolerances, and not the requested times, to set the steps.
    rtol = {8: 1e-12, 5: 1e-7, 3: 1e-7, 2: 1e-5}[ADAPTIVE_METHODS[method]]
    flow = gradient_flow(quadratic(*eigenvalues), start, TIMES, method=method, rtol=rtol, atol=rtol)
    exact = start * torch.exp(-eigenvalues * TIMES[:, None])
    true_error = (flow.points - exact).norm(dim=-1)
    assert flow.completed
    assert true_error.max() < 100 * rtol
    # At a single time the errors of the two runs may be alike by chance.
    assert true_error.max() <= flow.error.max()
    assert (true_error <= 2 * flow.error + 1e-12).all()
    assert flow.error_doubt is None
    assert (flow.error.diff() >= 0).all()
    torch.testing.assert_close(flow.losses, 0.5 * (eigenvalues * flow.points**2).sum(-1))


def piecewise(value):
    """Return −∇f, f(x, z) = value(x) + z²/2, where value is −x, |x| or −2|x| and the like."""
    return lambda _, y: torch.stack([value(y[..., 0]), -y[..., 1]], dim=-1)


def true_error(found, *exact):
    """Return the largest distance so far from the exact states, given as columns."""
    states = torch.stack(exact, dim=-1)[: len(found.times)]
    return (found.states - states).norm(dim=-1).cummax(dim=0).values


@pytest.mark.parametrize("method", ["dopri5", "bosh3"])
@pytest.mark.parametrize("rtol", [1e-4, 1e-5, 1e-6])
def test_a_jump_that_is_crossed_raises_a_doubt(method, rtol):
    # x' is 1 below 0.3 and 3 above; x reaches 0.3 at t = 1.3.
    field = piecewise(lambda x: torch.where(x < 0.3, 1.0, 3.0).to(x))
    start = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    found = integrate(
        field, start, TIMES, method=method, rtol=rtol, atol=rtol / 100, estimate_error=True
    )
    x = torch.where(TIMES < 1.3, TIMES - 1, 0.3 + 3 * (TIMES - 1.3))
    error = true_error(found, x, torch.exp(-TIMES))
    assert found.error_doubt.startswith("the field seems to jump: ")
    # Step control finds the jump and steps closely around it.
    assert error[-1] < 1000 * rtol and error[-1] < 3 * found.error[-1]


def test_a_flow_that_slides_along_a_jump_raises_a_doubt():
    # f = |x| + z²/2: x falls at speed 1 from ½ to 0, and stays.
    found = integrate(
        piecewise(lambda x: -x.sign()),
        torch.tensor([0.5, 1.0], dtype=torch.float64),
        torch.tensor([0.0, 0.25, 0.55], dtype=torch.float64),
        rtol=1e-3,
        atol=1e-4,
        estimate_error=True,
        max_evaluations=3000,
    )
    assert "jump" in found.error_doubt
    x = (0.5 - found.times).clamp(min=0)
    assert true_error(found, x, torch.exp(-found.times)).max() < 0.05


@pytest.mark.parametrize("rtol", [1e-5, 1e-6, 1e-7])
def test_a_fork_raises_a_doubt_where_both_runs_take_the_wrong_branch(rtol):
    # Up to t = 1 the flow runs down to x = 1e-10; from then on x' = sign(x): it goes up.
    # Whoever arrives below 0 goes down.
    def field(time, y):
        if time >= 1:
            return y.sign()
        return torch.full_like(y, -0.5 * math.pi * math.cos(0.5 * math.pi * time))

    above = 1e-10
    found = integrate(
        field,
        torch.tensor([1 + above], dtype=torch.float64),
        TIMES,
        rtol=rtol,
        atol=rtol / 100,
        estimate_error=True,
    )
    exact = torch.where(TIMES < 1, 1 + above - torch.sin(0.5 * math.pi * TIMES), above + TIMES - 1)
    error = true_error(found, exact)
    assert found.error_doubt is not None or (error <= found.error).all()


@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_on_a_relu_network_the_error_is_always_doubted(rtol):
    times = torch.linspace(0, 0.5, 3, dtype=torch.float64)
    for activation in ("relu", "leaky_relu", "tanh", "softplus", "linear"):
        objective = small_network(activation)
        flow = gradient_flow(
            objective, objective.initial(0), times, rtol=rtol, atol=rtol / 100, max_gradients=1000
        )
        assert (flow.error_doubt is None) == (activation not in ("relu", "leaky_relu"))


def test_steps_that_the_requested_times_set_raise_a_doubt():
    # The true solution is followed to 1e-10, and both runs take the same steps.
    times = torch.linspace(0, 2, 21, dtype=torch.float64)
    start = torch.ones(1, dtype=torch.float64)
    flow = gradient_flow(quadratic(1.0), start, times, method="dopri8", rtol=1e-5)
    assert flow.error_doubt == "most steps ended at requested times, in both integrations alike"


def test_the_doubt_of_a_fixed_step():
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = integrate(rotation, start, TIMES, method="rk4", step_size=0.25, estimate_error=True)
    assert "fixed step" in found.error_doubt


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
    assert flow.error is None and flow.error_doubt is None
    assert "estimate_gradients" not in flow.counts


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
    assert found.status.startswith("stopped at t = 1: ")
    assert "runs off to infinity" in found.status and "earlier times" in found.status
    assert "dt" not in found.status and not found.spent


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_a_field_that_ends_is_not_called_a_short_step(method):
    # y' = −1/(2√y) from y = 1 has y^(3/2) = 1 − 3t/4: the field is not a number past t = 4/3.
    start = torch.ones(1, dtype=torch.float64)
    found = integrate(
        lambda _, y: -0.5 / y.sqrt(), start, [0.0, 0.5, 2.0], method=method, rtol=1e-4, atol=1e-6
    )
    assert found.times.tolist() == [0.0, 0.5]
    assert found.states[-1].item() == pytest.approx(0.625 ** (2 / 3), rel=1e-3)
    # A step that leads past the end is not tried a second time, so long steps stop early.
    assert 0.5 <= float(found.status.split()[4].rstrip(":")) <= 4 / 3 + 1e-3
    assert "the field is not finite" in found.status and "earlier times" in found.status


def test_a_state_that_overflows_says_so():
    start = torch.ones(1, dtype=torch.float64)
    far = integrate(lambda _, y: y**3, start, [0.0, 0.5, 4.0], method="rk4", step_size=0.5)
    assert far.status.startswith("stopped at t = 0.5: the state is not finite")
    assert "shorter step" in far.status


def test_max_gradients_stops_the_run():
    objective = small_network()
    flow = gradient_flow(
        objective, objective.initial(0), torch.linspace(0, 50, 11), max_gradients=60
    )
    assert "60 evaluations were used; allow more" in flow.status
    assert 1 <= len(flow.times) < 11 and len(flow.points) == len(flow.times)


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_a_stop_costs_no_second_integration(method):
    objective, times = small_network(), torch.linspace(0, 5, 21, dtype=torch.float64)
    start, options = objective.initial(0), {"method": method, "rtol": 1e-4, "atol": 1e-5}
    whole = gradient_flow(objective, start, times, **options)
    cap = whole.counts["gradients"] // 2
    flow = gradient_flow(objective, start, times, max_gradients=cap, **options)
    assert flow.counts["gradients"] == cap
    reached = len(flow.times)
    assert 1 < reached < 21 and not flow.completed
    torch.testing.assert_close(flow.points, whole.points[:reached], rtol=0, atol=0)


@pytest.mark.parametrize("stiffness", [1.0, 1e4])
def test_a_stop_before_the_first_requested_time(stiffness):
    # x' = x² from 1 runs off at t = 1; a stiff bowl uses up its gradients.
    cubic = Objective(lambda p: -(p**3).sum(-1) / 3, dimension=1)
    objective = cubic if stiffness == 1 else quadratic(stiffness)
    start, times = torch.ones(1, dtype=torch.float64), torch.tensor([0.0, 2.0])
    flow = gradient_flow(objective, start, times, max_gradients=200)
    assert flow.times.tolist() == [0.0] and flow.points.tolist() == [[1.0]]
    assert flow.status.startswith("stopped at t = ")
    assert "before the first requested time" in flow.error_doubt


def test_what_came_after_the_last_state_raises_no_doubt():
    # Smooth up to 1.9, where a stop is bound to come: x' = x² from ½ runs off at t = 2.
    cubic = Objective(lambda p: -(p**3).sum(-1) / 3, dimension=1)
    start = torch.tensor([0.5], dtype=torch.float64)
    times = torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64)
    flow = gradient_flow(cubic, start, times)
    assert len(flow.times) == 2 and flow.counts["accepted_steps"] > 50
    assert flow.error_doubt is None
    assert abs(flow.points[-1].item() - 1 / 1.9) < min(1e-6, flow.error[-1].item())


@pytest.mark.parametrize("start", [[1.0], np.ones(1), torch.ones(1).double().requires_grad_()])
def test_a_start_may_be_a_list_an_array_or_a_parameter(start):
    flow = gradient_flow(quadratic(1.0), start, [0.0, 1.0])
    assert flow.points.dtype == torch.float64
    assert flow.points.numpy()[-1, 0] == pytest.approx(math.exp(-1), rel=1e-6)


def test_a_field_that_requires_a_gradient_leaves_no_graph_behind():
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    found = integrate(lambda _, y: -weight * y, torch.ones(1, dtype=torch.float64), TIMES)
    assert not found.states.requires_grad


def test_progress_wraps_the_times_of_both_integrations():
    seen = []

    def progress(places):
        for place in places:
            seen.append(place)
            yield place

    gradient_flow(quadratic(1.0), torch.ones(1, dtype=torch.float64), TIMES, progress=progress)
    assert seen == [1, 2, 3, 4] * 2


def test_a_field_that_is_not_finite_at_the_start():
    root = Objective(lambda p: p.abs().sqrt().sum(-1), dimension=1)
    with pytest.raises(ValueError, match=r"start: the field.* is not finite"):
        gradient_flow(root, torch.zeros(1), TIMES)
    with pytest.raises(ValueError, match=r"start: the field.* is not finite"):
        integrate(lambda _, y: y / 0, torch.ones(1), TIMES, method="euler", step_size=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_gradients": -5}, "max_gradients = -5: must be at least 1"),
        ({"max_gradients": 2.5}, "max_gradients = 2.5: must be a whole number"),
        ({"rtol": "1e-7"}, "rtol = '1e-7': is text"),
        ({"start": torch.ones(1, dtype=torch.float16)}, "start: has dtype torch.float16"),
        ({"start": torch.ones(1, dtype=torch.bfloat16)}, "start: has dtype torch.bfloat16"),
        ({"start": [1]}, "start: has dtype torch.int64"),
        ({"times": "soon"}, "times = 'soon': give a list of times"),
        ({"times": 1.0}, "give a list of times"),
    ],
)
def test_bad_arguments_of_a_flow(change, message):
    arguments = {"start": torch.ones(1), "times": TIMES} | change
    with pytest.raises(ValueError, match=message):
        gradient_flow(quadratic(1.0), **arguments)


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
