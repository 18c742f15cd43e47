"""Constants of the tube against points drawn in it, and certificates against descent itself."""

import math

import pytest
import torch

from gfgd import gradient_descent, gradient_flow
from gfgd.bounds import certificates
from gfgd.bounds.leading_order import leading_order_error
from gfgd.networks.linear import balanced_start, deep_linear, random_end_to_end, time_to_loss

EPSILON = 1e-2


def setting(depth, outputs=1, cells=200, radius=0.2, epsilon=EPSILON):
    """A net with its flow, leading-order error and tube, from a near-zero balanced start."""
    generator = torch.Generator().manual_seed(depth)
    target = torch.randn(outputs, 4, generator=generator, dtype=torch.float64)
    target = target / target.norm()
    objective = deep_linear(target, depth=depth, hidden=3)
    start = random_end_to_end(target, radius=radius, seed=1, cosine=0.4)
    horizon = float(time_to_loss(radius, 0.4, 1.0, depth, 1e-3)) if outputs == 1 else 3.0
    times = torch.linspace(0, horizon, cells + 1, dtype=torch.float64)
    error = leading_order_error(
        objective, balanced_start(start, depth, 3), times, rtol=1e-9, atol=1e-11
    )
    return objective, error, certificates.tube(objective, error.flow, epsilon)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_constants_hold_in_the_tube(depth, outputs):
    objective, error, known = setting(depth, outputs, cells=100)
    generator = torch.Generator().manual_seed(0)
    # Between the times of the grid too: the flow at the middle of every cell.
    middle = (known.times[1:] + known.times[:-1]) / 2
    both = torch.cat([known.times[:1], middle])
    centres = gradient_flow(objective, error.flow.points[0], both, rtol=1e-9).points[1:]
    for _ in range(2):
        offset = torch.randn(centres.shape, generator=generator, dtype=torch.float64)
        points = centres + EPSILON * offset / offset.norm(dim=-1, keepdim=True)
        identity = torch.eye(objective.dimension, dtype=torch.float64)
        spectra = torch.linalg.eigvalsh(objective.hessian_vector_product(points[:, None], identity))
        assert (objective.gradient(points).norm(dim=-1) <= known.gradient_norm).all()
        assert (spectra.abs().amax(-1) <= known.smoothness).all()
        assert (-spectra[:, 0] <= known.rate).all()
        assert (-spectra[:, 0] <= known.exact_rate).all()
        # D³f[v, v, v] is largest along some v; the top eigenvector of D³f[v, ·, ·] climbs to it.
        direction = torch.randn(points.shape, generator=generator, dtype=torch.float64)
        for _ in range(10):
            direction = direction / direction.norm(dim=-1, keepdim=True)
            direction = objective.third_derivative(points, direction, direction)
        assert (direction.norm(dim=-1) <= known.third).all()


@pytest.mark.parametrize("depth", [2, 3])
def test_gd_keeps_what_was_certified(depth):
    objective, error, known = setting(depth)
    by_method = certificates.each_method(objective, error, known)
    assert list(by_method) == ["uniform", "local", "flow_defect", "second_order"]
    assert all(one.method == name for name, one in by_method.items())
    found = list(by_method.values())
    sizes = [one.step_size for one in found]
    assert sizes == sorted(sizes), "each theorem should allow more than the one before"
    for one in found[2:]:  # the first two take many steps, and allow less
        run = gradient_descent(
            objective, error.flow.points[0], step_size=one.step_size, iterations=one.iterations
        )
        flow = gradient_flow(objective, error.flow.points[0], run.times)
        assert float(run.distance_to(flow).max()) <= EPSILON
        assert float(run.losses[-1]) <= one.final_loss
        assert one.iterations * one.step_size == pytest.approx(one.horizon)


@pytest.mark.parametrize("depth", [2, 3])
def test_second_order_certificate_is_nearly_what_is_needed(depth):
    objective, error, known = setting(depth, epsilon=1e-3)
    one = certificates.second_order(objective, error, known)
    # What the leading order predicts cannot be exceeded, and is reached as ε → 0.
    predicted = float(error.step_size(1e-3))
    assert 0.9 * predicted < one.step_size <= predicted


def test_bound_of_second_order_lies_between_the_distance_and_epsilon():
    objective, error, known = setting(3, epsilon=1e-3)
    one = certificates.second_order(objective, error, known)
    bound = certificates.second_order_bound(objective, error, known, one.step_size)
    assert bound[0] == 0 and float(bound.max()) == pytest.approx(1e-3, rel=0.02)
    run = gradient_descent(
        objective, error.flow.points[0], step_size=one.step_size, iterations=one.iterations
    )
    measured = run.distance_to(gradient_flow(objective, error.flow.points[0], run.times))
    at = torch.searchsorted(known.times, run.times[1:-1])  # the bound at the next time of the grid
    slack = error.distance(one.step_size).diff().abs().max()
    assert (measured[1:-1] <= bound[at] + slack).all()
    # Taking the prediction off leaves what V bounds: of second order in η.
    half = certificates.second_order_bound(objective, error, known, one.step_size / 2)
    left = [bound - error.distance(one.step_size), half - error.distance(one.step_size / 2)]
    assert float(left[0].max() / left[1].max()) == pytest.approx(4, rel=0.1)
    with pytest.raises(ValueError, match="step_size"):
        certificates.second_order_bound(objective, error, known, 2 * one.step_size)


@pytest.mark.parametrize("depth", [2, 3])
def test_gd_converges_at_the_certified_rate(depth):
    objective, error, _ = setting(depth, epsilon=1e-3)
    end, size = error.flow.points[-1], 0.05
    rate = certificates.convergence_rate(objective, end, 0.05, size)
    run = gradient_descent(objective, end, step_size=size, iterations=100)
    assert (run.points - end).norm(dim=-1).max() < 0.05
    falls = run.losses[1:] / run.losses[:-1]
    assert rate - 0.03 < float(falls.max()) <= rate
    # 1 − ημ(2 − ηβ) by hand: W_n ⋯ W_2 is a column here, so μ is its squared norm less the change.
    norms = [float(torch.linalg.matrix_norm(w, 2)) for w in objective.weights(end)]
    above = math.prod(norms[1:]) - (math.prod(w + 0.05 for w in norms[1:]) - math.prod(norms[1:]))
    wide = [w + 0.05 for w in norms]
    residual = float(objective.residual(end).norm()) + math.prod(wide) - math.prod(norms)
    smoothness = sum((math.prod(wide) / w) ** 2 for w in wide)
    smoothness += (depth - 1) * residual * math.prod(sorted(wide)[2:])
    assert rate == pytest.approx(1 - size * above**2 * (2 - size * smoothness), rel=1e-9)


def test_refining_the_grid_changes_little():
    coarse = certificates.second_order(*setting(3, cells=200))
    fine = certificates.second_order(*setting(3, cells=400))
    assert coarse.step_size == pytest.approx(fine.step_size, rel=0.1)


def test_uniform_certificate_is_its_formula():
    _, _, known = setting(3)
    one = certificates.uniform(known)
    worst, total = 0.0, 0.0
    for width, rate in zip(known.times.diff().tolist(), known.rate.tolist(), strict=True):
        total = math.exp(rate * width) * total + math.expm1(rate * width) / rate
        worst = max(worst, total)
    worst *= float(known.smoothness.max() * known.gradient_norm.max())
    assert one.horizon / one.iterations == one.step_size <= EPSILON / worst
    assert one.step_size == pytest.approx(EPSILON / worst, rel=1e-2)
    assert known.stretch() == pytest.approx(
        math.exp(float((known.rate * known.times.diff()).sum()))
    )


def test_gd_stays_in_the_certified_ball_and_converges():
    objective, error, known = setting(2)
    one = certificates.second_order(objective, error, known)
    end = error.flow.points[-1]
    radius = certificates.convergence_radius(objective, end, EPSILON, one.final_loss, one.step_size)
    assert EPSILON < radius < 1
    generator = torch.Generator().manual_seed(0)
    offset = torch.randn(50, len(end), generator=generator, dtype=torch.float64)
    starts = end + EPSILON * offset / offset.norm(dim=-1, keepdim=True)
    run = gradient_descent(objective, starts, step_size=one.step_size, iterations=2000)
    assert (run.points - end).norm(dim=-1).max() <= radius
    assert run.losses[-1].max() < 1e-20


def test_no_ball_is_certified_far_from_a_minimum():
    objective, _, _ = setting(3)
    point = 1e-3 * torch.ones(objective.dimension, dtype=torch.float64)
    assert certificates.convergence_radius(objective, point, 1e-2, 0.5, 1e-3) == math.inf


def test_mistakes_are_named():
    objective, error, _ = setting(2)
    flow = error.flow
    with pytest.raises(ValueError, match="distance = 0"):
        certificates.tube(objective, flow, 0)
    with pytest.raises(ValueError, match="flow: needs to be complete"):
        certificates.tube(objective, flow.at(flow.times[:1]), 0.1)
    with pytest.raises(ValueError, match="2 times are too few"):
        certificates.tube(objective, flow.at(flow.times[[0, -1]]), 0.1)
    one_layer = deep_linear(objective.target, depth=1, hidden=3)
    with pytest.raises(ValueError, match="depth = 1"):
        certificates.tube(one_layer, flow, 0.1)
    mask = torch.ones(1, 4, dtype=torch.float64)
    mask[0, 0] = 0
    masked = deep_linear(objective.target, depth=2, hidden=3, mask=mask)
    with pytest.raises(ValueError, match="has a mask"):
        certificates.convergence_radius(masked, flow.points[-1], 0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match="has a mask"):
        certificates.convergence_rate(masked, flow.points[-1], 0.1, 0.1)
