import math

import pytest
import torch

from gfgd import gradient_descent
from gfgd.large_steps.modified import (
    barrett_dherin_flow,
    next_order_flow,
    unmodified_flow,
)
from gfgd.large_steps.tracking import (
    curvature_in_tube,
    flow_distances,
    step_sizes_within,
    tracked,
)
from gfgd.networks import linear
from gfgd.problems import landscapes
from gfgd.trajectory import Trajectory

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
START = torch.tensor([1.0], dtype=torch.float64)


def test_the_distance_from_gradient_flow_is_that_of_the_closed_forms():
    found = flow_distances(
        landscapes.quadratic(2.0).objective,
        START,
        unmodified_flow,
        step_sizes=[0.05, 0.1],
        horizon=1.0,
        **TIGHT,
    )
    assert found.step_sizes.tolist() == [0.1, 0.05]
    for size, distance in zip([0.1, 0.05], found.distances, strict=True):
        steps = range(round(1 / size) + 1)
        expected = max(abs((1 - 2 * size) ** k - math.exp(-2 * size * k)) for k in steps)
        assert distance.item() == pytest.approx(expected, rel=1e-6)
    assert found.finest.times.tolist() == pytest.approx([0.05 * k for k in range(21)])


@pytest.mark.parametrize(
    ("flow", "order"), [(unmodified_flow, 1), (barrett_dherin_flow, 2), (next_order_flow, 3)]
)
def test_the_order_is_that_of_the_flow(flow, order):
    found = flow_distances(
        landscapes.landscape("valley").objective,
        torch.tensor([-1.0, 0.5], dtype=torch.float64),
        flow,
        step_sizes=[0.008, 0.004, 0.002],
        horizon=0.2,
        rtol=1e-8,
        atol=1e-10,
    )
    assert found.order == pytest.approx(order, abs=0.15)


def test_the_error_is_estimated_for_the_smallest_step_size_only():
    asked = []

    def flow(*arguments, estimate_error, **options):
        asked.append(estimate_error)
        return unmodified_flow(*arguments, estimate_error=estimate_error, **options)

    quadratic = landscapes.quadratic(2.0).objective
    flow_distances(quadratic, START, flow, step_sizes=[0.1, 0.2], horizon=1.0, estimate_error=True)
    assert asked == [False, True]


def test_descent_that_diverges_follows_nothing():
    with pytest.raises(RuntimeError, match="η = 2"):
        flow_distances(
            landscapes.quadratic(2.0).objective,
            START,
            unmodified_flow,
            step_sizes=[2.0, 0.1],
            horizon=20.0,
        )


def test_one_step_size_has_no_order():
    quadratic = landscapes.quadratic(2.0).objective
    with pytest.raises(ValueError, match="step_sizes"):
        flow_distances(quadratic, START, unmodified_flow, step_sizes=[0.1, 0.1], horizon=1.0)


def exponential(rate, size, steps, refine):
    times = torch.arange(refine * steps + 1, dtype=torch.float64) * size / refine
    points = torch.exp(-rate * times)[:, None]
    return Trajectory(times, points, points[:, 0].square())


def test_in_one_dimension_with_exact_curvature_the_bound_is_the_distance():
    # The defects have one sign, so that nothing is lost in E_{k+1} = (1 − ηλ) E_k + |d_k|.
    size, steps = 0.1, 12
    landscape = landscapes.quadratic(2.0)
    found = tracked(
        landscape.objective,
        exponential(2.0, size, steps, 3),
        landscape.descent(START, size, steps),
        step_size=size,
        curvature=lambda k, radius: (2.0, 2.0),
    )
    assert found.distances.max() > 0.01
    torch.testing.assert_close(found.bounds, found.distances, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("times", [12, 14, 1])
def test_a_curve_must_refine_the_times_of_descent(times):
    landscape = landscapes.quadratic(2.0)
    curve = exponential(2.0, 0.1, times - 1, 1)
    with pytest.raises(ValueError, match=f"has {times} times"):
        tracked(
            landscape.objective,
            curve,
            landscape.descent(START, 0.1, 12),
            step_size=0.1,
            curvature=lambda k, radius: (2.0, 2.0),
        )


def test_the_curvature_in_the_tube_bounds_sampled_hessians():
    target = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    network = linear.deep_linear(target, depth=3, hidden=2)
    start = linear.gaussian_start(network, seed=3, scale=0.4)
    size, steps, distance = 0.1, 4, 0.2
    times = torch.arange(50 * steps + 1, dtype=torch.float64) * size / 50
    curve = unmodified_flow(network, start, times, step_size=size, estimate_error=False)
    bounds = curvature_in_tube(network, curve, steps, distance=distance)
    generator = torch.Generator().manual_seed(0)
    nearest = math.inf
    for k in range(steps):
        low, high = bounds(k, distance)
        away = torch.randn(200, network.dimension, generator=generator, dtype=torch.float64)
        points = curve.points[50 * k] + distance * away / away.norm(dim=-1, keepdim=True)
        spectra = torch.linalg.eigvalsh(network.hessian(points))
        assert low <= spectra.min() and spectra.max() <= high
        exact = torch.linalg.eigvalsh(network.hessian(curve.points[50 * k]))
        assert bounds(k, 0.0) == pytest.approx((exact[0].item(), exact[-1].item()), rel=1e-12)
        nearest = min(nearest, high - spectra.max().item())
    assert nearest < 50  # not trivially large
    assert bounds(0, 1.01 * distance) == (-math.inf, math.inf)


def test_a_certified_network_stays_within_its_bound():
    target = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    network = linear.deep_linear(target, depth=2, hidden=2)
    start = linear.gaussian_start(network, seed=1, scale=0.4)
    size, steps = 0.01, 50
    times = torch.arange(4 * steps + 1, dtype=torch.float64) * size / 4
    curve = barrett_dherin_flow(network, start, times, step_size=size, estimate_error=False)
    descent = gradient_descent(network, start, step_size=size, iterations=steps).points
    bounds = curvature_in_tube(network, curve, steps, distance=0.1)
    found = tracked(network, curve, descent, step_size=size, curvature=bounds)
    assert (found.distances <= found.bounds * (1 + 1e-9)).all()  # equal after one step
    assert 0 < found.bounds[-1] < 0.1


def test_step_sizes_within_distances_follow_the_order():
    found = step_sizes_within(
        lambda distance, size: 3 * size**2 <= distance, [0.3, 0.03, 0.003], order=2, ceiling=0.25
    )
    assert found[0] == 0.25
    for size, distance in zip(found[1:], [0.03, 0.003], strict=True):
        largest = math.sqrt(distance / 3)
        assert largest / 1.05 < size <= largest
