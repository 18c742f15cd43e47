import pytest
import torch

from gfgd.imperfections.gates import unit_input
from gfgd.imperfections.known_causes import branching_gate, rounded_relu
from tests.small_problems import small_network


def test_rounded_relu_is_relu_outside_and_has_a_continuous_slope():
    z = torch.linspace(-2, 2, 4001, dtype=torch.float64).requires_grad_()
    values = rounded_relu(0.5).apply(z)
    outside = z.detach().abs() >= 0.5
    torch.testing.assert_close(values.detach()[outside], z.detach().relu()[outside])
    (slope,) = torch.autograd.grad(values.sum(), z)
    assert float(slope.diff().abs().max()) < 2e-3
    with pytest.raises(ValueError, match="width"):
        rounded_relu(0)


def test_branching_gate_lies_on_its_kink_and_both_sides_lead_away():
    network = small_network("relu", (6, 5))
    point = network.initial(2)
    (sample, column), there, normal = branching_gate(network, point, within=1.0)
    z = unit_input(network, there, sample, column)
    assert float(z) == pytest.approx(0, abs=1e-12)
    for side in (1, -1):
        beside = there + side * 1e-6 * normal
        before = unit_input(network, beside, sample, column)
        assert float(before) == pytest.approx(side * 1e-6, rel=1e-6)
        step = beside - 1e-9 * network.gradient(beside)
        assert side * float(unit_input(network, step, sample, column) - before) > 0


def test_branching_gate_says_where_there_is_none():
    network = small_network("relu", (6, 5))
    with pytest.raises(ValueError, match="within"):
        branching_gate(network, network.initial(2), within=1e-9)
