"""What is no use to any flow for large steps is refused, or told with the place and the remedy."""

import pytest
import torch

from gfgd.large_steps.central import central_flow
from gfgd.large_steps.momentum import (
    momentum_descent,
    momentum_flow,
    momentum_flow_start,
    stability_threshold,
)
from gfgd.large_steps.pair_flow import pair_flow
from gfgd.large_steps.rmsprop import rmsprop_central_flow
from gfgd.large_steps.rod_flow import rod_flow
from gfgd.objective import Objective
from tests.small_problems import quadratic, small_network

FLOWS = {
    "central": central_flow,
    "pair": pair_flow,
    "rod": rod_flow,
    "rmsprop": lambda *given, **options: rmsprop_central_flow(
        *given, decay=0.9, second_moment=1.0, **options
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_an_edge_that_is_never_reached_is_remarked(name):
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    flow = FLOWS[name](quadratic(2.0, 1.0), start, step_size=0.1, iterations=5)
    assert flow.status == "completed"
    (remark,) = flow.remarks
    assert "never reached" in remark and "larger step_size" in remark


@pytest.mark.parametrize("name", FLOWS)
def test_a_network_with_kinks_is_remarked(name):
    objective = small_network(activation="relu")
    flow = FLOWS[name](objective, objective.initial(0), step_size=0.01, iterations=3)
    assert any("Relu" in remark and "kinks" in remark for remark in flow.remarks)
    smooth = small_network(activation="tanh")
    flow = FLOWS[name](smooth, smooth.initial(0), step_size=0.01, iterations=3)
    assert not any("kinks" in remark for remark in flow.remarks)


def test_two_equal_critical_eigenvalues_are_followed_or_refused_with_the_remedy():
    # ½ y (x₁² + x₂²) − c y: both eigenvalues are y, and at the edge Σ = c I splits 2c.
    c, eta = 0.05, 0.1
    valley = Objective(
        lambda p: 0.5 * p[..., 2] * p[..., :2].square().sum(-1) - c * p[..., 2], dimension=3
    )
    start = torch.tensor([0.0, 0.0, 19.9], dtype=torch.float64)
    flow = central_flow(valley, start, step_size=eta, iterations=60)
    assert flow.completed and flow.critical[-1] == 2 and not flow.remarks
    assert float(flow.variances[-1].sum()) == pytest.approx(2 * c, rel=1e-8)
    assert float(flow.points[-1, 2]) == pytest.approx(2 / eta, rel=1e-8)
    half = torch.tensor([1e-3, 2e-3, 0.0], dtype=torch.float64)
    pair = pair_flow(valley, start, step_size=eta, iterations=60, half=half, rounding=0)
    assert pair.completed
    lower = torch.tensor([0.0, 0.0, 18.9], dtype=torch.float64)
    one = rmsprop_central_flow(
        valley, lower, step_size=0.005, decay=0.95, iterations=60, second_moment=c**2
    )
    assert one.status.startswith("stopped at step ") and "lower critical_within" in one.status


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan")])
def test_momentum_outside_the_unit_interval_is_refused(momentum):
    bowl, start = quadratic(1.0), torch.ones(1, dtype=torch.float64)
    options = {"step_size": 0.1, "momentum": momentum}
    for call in (
        lambda: momentum_descent(bowl, start, iterations=2, **options),
        lambda: momentum_flow(bowl, start, torch.tensor([0.0, 1.0]), **options),
        lambda: momentum_flow_start(bowl, start, **options),
        lambda: stability_threshold(momentum),
    ):
        with pytest.raises(ValueError, match=r"momentum = .*must be in \[0, 1\)"):
            call()
