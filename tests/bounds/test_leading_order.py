"""The predicted error of GD against closed forms and against GD itself."""

import math
from itertools import pairwise

import pytest
import torch

from gfgd import gradient_descent, gradient_flow, networks
from gfgd.bounds.leading_order import leading_order_error
from gfgd.problems import landscapes
from tests.small_problems import small_network

TIMES = torch.linspace(0, 2, 11, dtype=torch.float64)


def test_coefficient_on_a_quadratic_has_a_closed_form():
    # θ = e^{−λt}θ_0, so that u' = −λu − ½λ²θ gives u = −½ λ² t e^{−λt} θ_0.
    eigenvalues = torch.tensor([2.0, 0.5, -1.0], dtype=torch.float64)
    start = torch.tensor([[1.0, -2.0, 0.3], [0.1, 0.2, 0.4]], dtype=torch.float64)
    known = landscapes.quadratic(*eigenvalues.tolist())
    found = leading_order_error(known.objective, start, TIMES)
    time = TIMES.reshape(-1, 1, 1)
    exact = -0.5 * eigenvalues**2 * time * torch.exp(-eigenvalues * time) * start
    assert torch.allclose(found.coefficient, exact, rtol=1e-5, atol=1e-8)
    assert torch.allclose(found.flow.points, known.flow(start, TIMES), rtol=1e-5, atol=1e-8)
    assert found.flow.completed
    assert found.flow.counts["gradients"] == found.flow.counts["hessian_vector_products"] > 0


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_what_the_prediction_misses_is_of_second_order(activation):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    objective = networks.fully_connected(
        inputs, targets, hidden=(5, 5), activation=activation, loss="half_squared_error"
    )
    start = objective.initial(0)
    missed = []
    for iterations in (200, 400):
        step_size = 2.0 / iterations
        run = gradient_descent(
            objective, start, step_size=step_size, iterations=iterations,
            record_every=iterations // 10,
        )  # fmt: skip
        found = leading_order_error(objective, start, run.times, rtol=1e-9, atol=1e-11)
        rest = run.points - found.flow.points - step_size * found.coefficient
        missed.append(float(rest.norm(dim=-1).max()))
        measured = run.distance_to(found.flow).max()
        assert float(found.distance(step_size).max() / measured) == pytest.approx(1, abs=0.05)
    assert missed[0] / missed[1] == pytest.approx(4, rel=0.15)


def test_step_size_for_a_distance():
    known = landscapes.landscape("bent_saddle")
    start = torch.tensor([1.0, 0.2], dtype=torch.float64)
    found = leading_order_error(known.objective, start, TIMES)
    step_size = float(found.step_size(1e-3))
    assert float(found.distance(step_size).max()) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="distance = 0"):
        found.step_size(0)
    with pytest.raises(ValueError, match="step_size = -1"):
        found.distance(-1)


def test_on_the_semicircle_the_error_comes_near_a_quarter_of_the_gradient():
    # Between two slopes p and q that are met one after the other H = h d dᵀ, d ∥ p − q. There
    # a = ⟨d, ∇f⟩ falls from ⟨d, p⟩ to ⟨d, q⟩ and ⟨d, u⟩/a changes by −½ ln of their quotient.
    known = landscapes.semicircle(6, apart=9.0)
    angles = torch.arange(1, 7, dtype=torch.float64) * torch.pi / 14
    slopes = angles.cos()[:, None] * torch.stack([angles.cos(), angles.sin()], dim=-1)
    expected = torch.zeros(2, dtype=torch.float64)
    for p, q in pairwise(slopes):
        d = (p - q) / (p - q).norm()
        before, after = d @ p, d @ q
        along = after * (expected @ d / before - 0.5 * torch.log(before / after))
        expected = expected + d * (along - expected @ d)
    start = torch.zeros(2, dtype=torch.float64)
    times = torch.linspace(0, 3000, 3, dtype=torch.float64)
    found = leading_order_error(known.objective, start, times, rtol=1e-8, atol=1e-10)
    first = known.objective.gradient(start).norm()
    assert float(found.coefficient[-1].norm() / first) == pytest.approx(
        float(expected.norm() / slopes[0].norm()), rel=2e-3
    )
    assert 0.22 < float(found.coefficient[-1].norm() / first) < 0.25


def test_a_correction_by_whole_steps_leaves_an_excess_of_second_order():
    """From m steps between two times to m + 1, (distance · m) changes by a part O(1/m²) only.

    So the smallest whole m₂ ≥ m₁ d₁/ε gives at most ε (1 + O(ε²)), and one step fewer at least
    ε (1 − O(ε²)): the proposition on correcting a predicted step size.
    """
    objective = small_network("tanh", hidden=(5,))
    start = 2 * objective.initial(1)
    times = torch.linspace(0, 4, 5, dtype=torch.float64)
    flow = gradient_flow(objective, start, times, method="dopri8", rtol=1e-12, atol=1e-13)

    def distance(steps: int) -> float:
        run = gradient_descent(
            objective, start, step_size=1 / steps, iterations=4 * steps, record_every=steps
        )
        return float(run.distance_to(flow).max())

    changes = [(m + 1) * distance(m + 1) / (m * distance(m)) - 1 for m in (20, 40, 80)]
    orders = [math.log2(abs(a / b)) for a, b in pairwise(changes)]
    assert orders == pytest.approx([2, 2], abs=0.25)
    largest = leading_order_error(objective, start, times, rtol=1e-9, atol=1e-11).distance(1).max()
    for wanted in (0.0125, 0.003):
        first = math.ceil(largest / wanted)
        second = math.ceil(first * distance(first) / wanted)
        assert distance(second) <= wanted * (1 + 10 * wanted**2)
        assert distance(second - 1) > wanted * (1 - 10 * wanted**2)
