import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from gfgd import Objective, gradient_descent, gradient_flow, networks
from gfgd.networks.linear import (
    balance_differences,
    balanced_start,
    deep_linear,
    effective_rank,
    end_to_end_velocity,
    gaussian_start,
    hessian_form,
    imbalance,
    leading_time_to_loss,
    orbit_radius,
    radius_and_cosine,
    random_end_to_end,
    reduced_flow,
    reduced_flow_on_clock,
    reduced_velocity,
    time_to_loss,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def completion(depth=3, hidden=4):
    """An objective with a mask, several outputs and one entry in three unseen."""
    mask = (normal(3, 5, seed=8) > -0.4).double()
    return deep_linear(normal(3, 5, seed=9), depth=depth, hidden=hidden, mask=mask)


# The objective


def test_value_is_the_formula():
    objective = completion(hidden=[4, 2])
    point = normal(2, objective.dimension)
    first, second, third = objective.weights(point)
    assert first.shape == (2, 4, 5) and second.shape == (2, 2, 4) and third.shape == (2, 3, 2)
    for i in range(2):
        product = third[i] @ second[i] @ first[i]
        torch.testing.assert_close(objective.end_to_end(point)[i], product)
        difference = (product - objective.target)[objective.mask == 1]
        torch.testing.assert_close(objective.value(point)[i], 0.5 * difference.square().sum())
    assert objective.depth == 3 and objective.widths == (5, 4, 2, 3)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_gradient_written_out_is_that_of_autograd(depth, batch):
    objective = completion(depth)
    point = normal(*batch, objective.dimension)
    value, gradient = objective.value_and_gradient(point)
    by_autograd = Objective.value_and_gradient(objective, point)
    torch.testing.assert_close(value, by_autograd[0])
    torch.testing.assert_close(gradient, by_autograd[1])


def test_whitened_network_is_a_deep_linear_objective():
    target = normal(2, 4)
    network = networks.fully_connected(
        torch.eye(4), target.T, hidden=(3,), activation="linear", loss="half_squared_error"
    )
    objective = deep_linear(target, depth=2, hidden=3)
    point = normal(objective.dimension, seed=2)
    torch.testing.assert_close(objective.value(point), 4 * network.value(point))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_hessian_form_is_that_of_autograd(depth):
    objective = completion(depth)
    point, direction = normal(objective.dimension), normal(6, objective.dimension, seed=1)
    product = objective.hessian_vector_product(point, direction)
    torch.testing.assert_close(
        hessian_form(objective, point, direction), (product * direction).sum(-1)
    )


def test_refuses_what_is_no_network():
    target = torch.ones(1, 3).double()
    for wrong, kwargs in [
        ("target", {"target": torch.ones(3), "depth": 2, "hidden": 2}),
        ("target", {"target": torch.ones(1, 3, dtype=torch.int64), "depth": 2, "hidden": 2}),
        ("target", {"target": target / 0, "depth": 2, "hidden": 2}),
        ("depth", {"target": target, "depth": 0, "hidden": 2}),
        ("hidden", {"target": target, "depth": 2, "hidden": 0}),
        ("hidden", {"target": target, "depth": 3, "hidden": [2]}),
        ("mask", {"target": target, "depth": 2, "hidden": 2, "mask": torch.ones(3, 1)}),
        ("mask", {"target": target, "depth": 2, "hidden": 2, "mask": 0.5 * target}),
        ("mask", {"target": target, "depth": 2, "hidden": 2, "mask": 0 * target}),
    ]:
        with pytest.raises(ValueError, match=wrong):
            deep_linear(**kwargs)


# Starts and balancedness


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(1, 5), (3, 5), (5, 3), (2, 1, 4)])
def test_balanced_start_is_balanced_and_has_the_product(depth, shape):
    matrix = normal(*shape)
    objective = deep_linear(normal(*shape[-2:], seed=3), depth=depth, hidden=4)
    point = balanced_start(matrix, depth, 4)
    assert point.shape == (*shape[:-2], objective.dimension)
    torch.testing.assert_close(objective.end_to_end(point), matrix)
    assert imbalance(objective.weights(point)).max() < 1e-12


def test_balanced_start_needs_room_for_the_rank():
    matrix = normal(4, 2) @ normal(2, 4, seed=1)
    point = balanced_start(matrix, 3, [2, 3])
    objective = deep_linear(matrix, depth=3, hidden=[2, 3])
    torch.testing.assert_close(objective.end_to_end(point), matrix)
    with pytest.raises(ValueError, match="at least 2, the rank"):
        balanced_start(matrix, 3, [1, 3])
    with pytest.raises(ValueError, match="shape"):
        balanced_start(torch.ones(3).double(), 3, 2)


def test_imbalance_is_the_largest_difference():
    first, second, third = normal(3, 4), normal(2, 3, seed=1), normal(2, 2, seed=2)
    expected = max(
        (second.T @ second - first @ first.T).norm(), (third.T @ third - second @ second.T).norm()
    )
    torch.testing.assert_close(imbalance([first, second, third]), expected)
    assert imbalance([normal(2, 3, 4)]).tolist() == [0, 0]


def test_a_step_changes_the_balance_by_that_of_the_gradients():
    """For every η and M, since the terms of first order in η cancel."""
    objective, size = completion(depth=4), 0.3
    point = normal(2, objective.dimension)
    gradient = objective.gradient(point)
    before, after, of_gradients = (
        balance_differences(objective.weights(at))
        for at in (point, point - size * gradient, gradient)
    )
    assert [apart.shape for apart in before] == [(2, 4, 4)] * 3
    for old, new, change in zip(before, after, of_gradients, strict=True):
        assert change.norm() > 1e-3
        torch.testing.assert_close(new - old, size**2 * change, rtol=1e-10, atol=1e-12)


def test_flow_conserves_what_descent_lets_drift_in_first_order():
    objective = deep_linear(normal(2, 3), depth=3, hidden=3)
    start = gaussian_start(objective, seed=1, scale=0.5)
    before = objective.weights(start)
    flow = gradient_flow(objective, start, torch.tensor([0.0, 2.0]), rtol=1e-11, atol=1e-12)

    def drift(point):
        after = objective.weights(point)
        return max(
            (b.T @ b - a @ a.T - (d.T @ d - c @ c.T)).norm().item()
            for (a, b), (c, d) in zip(pairwise(before), pairwise(after), strict=True)
        )

    assert drift(flow.points[-1]) < 1e-8
    drifts = []
    for size in (0.02, 0.01):
        steps = round(2 / size)
        run = gradient_descent(objective, start, step_size=size, iterations=steps)
        drifts.append(drift(run.points[-1]))
    assert math.log2(drifts[0] / drifts[1]) == pytest.approx(1, abs=0.2)


def test_gaussian_start_is_reproducible():
    objective = completion()
    point = gaussian_start(objective, seed=1, scale=1e-3, batch=(400,))
    assert torch.equal(point, gaussian_start(objective, seed=1, scale=1e-3, batch=(400,)))
    assert point.shape == (400, objective.dimension)
    assert point.std().item() == pytest.approx(1e-3, rel=0.05)


def test_random_end_to_end_has_its_radius_and_cosine():
    target = normal(1, 4)
    drawn = random_end_to_end(target, radius=0.1, seed=0, batch=(2000,))
    radius, cosine = radius_and_cosine(drawn, target)
    torch.testing.assert_close(radius, torch.full_like(radius, 0.1))
    # On the sphere in R⁴ a coordinate has mean 0 and variance 1/4.
    assert abs(cosine.mean().item()) < 0.05
    assert cosine.var().item() == pytest.approx(0.25, rel=0.1)
    for wanted in (-1.0, -0.3, 0.7, 1.0):
        drawn = random_end_to_end(target, radius=0.1, seed=0, batch=(50,), cosine=wanted)
        radius, cosine = radius_and_cosine(drawn, target)
        torch.testing.assert_close(radius, torch.full_like(radius, 0.1))
        torch.testing.assert_close(cosine, torch.full_like(cosine, wanted))
    with pytest.raises(ValueError, match="cosine"):
        random_end_to_end(torch.ones(1, 1), radius=1, seed=0, cosine=0.5)
    with pytest.raises(ValueError, match="target"):
        random_end_to_end(torch.zeros(1, 2), radius=1, seed=0, cosine=0.5)


# The induced flow of the product


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (4, 3), (2, 2, 3)])
def test_end_to_end_velocity_is_that_of_the_network(depth, shape):
    matrix = 0.5 * normal(*shape)
    objective = deep_linear(normal(*shape[-2:], seed=1), depth=depth, hidden=4)
    point = balanced_start(matrix, depth, 4)
    change = objective.gradient(point)
    moved = [objective.end_to_end(point - s * 1e-5 * change) for s in (1, -1)]
    velocity = end_to_end_velocity(matrix, objective.residual(point), depth)
    torch.testing.assert_close((moved[0] - moved[1]) / 2e-5, velocity, rtol=1e-6, atol=1e-8)


def test_one_output_agrees_with_the_general_formula():
    row, residual = normal(1, 4), normal(1, 4, seed=1)
    # A second output that is 0 changes nothing, and takes the way through the powers.
    padded = [torch.cat([part, torch.zeros(1, 4).double()]) for part in (row, residual)]
    for depth in (2, 3, 6):
        general = end_to_end_velocity(*padded, depth)
        torch.testing.assert_close(end_to_end_velocity(row, residual, depth), general[:1])
        assert general[1].abs().max() < 1e-14


def test_effective_rank():
    assert effective_rank(torch.eye(4)).item() == pytest.approx(4)
    assert effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0]))).item() == pytest.approx(2)
    halves = torch.diag(torch.tensor([0.75, 0.25])).expand(3, 2, 2)
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(halves).tolist() == pytest.approx([expected] * 3)
    assert effective_rank(torch.zeros(2, 2)).isnan()


# Two numbers


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_reduced_velocity_is_that_of_the_product(depth):
    row, target = normal(1, 5), normal(1, 5, seed=1)
    velocity = end_to_end_velocity(row, row - target, depth)
    (r, c), length = radius_and_cosine(row, target), target.norm()
    outward = (velocity * row).sum() / r
    turning = (velocity * target).sum() / (r * length) - c * outward / r
    found = reduced_velocity(r, c, length.item(), depth)
    torch.testing.assert_close(found, (outward, turning))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_reduced_flow_is_that_of_the_network(depth):
    target = torch.tensor([[0.6, -0.8, 0.0]]).double()
    objective = deep_linear(target, depth=depth, hidden=2)
    row = random_end_to_end(target, radius=0.1, seed=0, cosine=-0.5)
    times = torch.linspace(0, 10, 6)
    flow = gradient_flow(objective, balanced_start(row, depth, 2), times, rtol=1e-10, atol=1e-12)
    radius, cosine = radius_and_cosine(objective.end_to_end(flow.points), target)
    reduced = reduced_flow(0.1, -0.5, 1.0, depth, times)
    torch.testing.assert_close(reduced.radius, radius, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(reduced.cosine, cosine, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(reduced.loss, flow.losses, rtol=1e-5, atol=1e-7)
    assert reduced.error.max() < 1e-7


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("cosine", [-1.0, -0.6, 0.3, 1.0])
def test_on_its_own_clock_the_reduced_flow_is_the_same(depth, cosine):
    clock, length = torch.linspace(0, 4, 41, dtype=torch.float64), 1.7
    found = reduced_flow_on_clock([1e-3, 0.4], cosine, length, depth, clock, rtol=1e-10, atol=1e-12)
    assert found.times.shape == found.radius.shape == found.error.shape == (41, 2)
    for i, radius in enumerate((1e-3, 0.4)):
        same = reduced_flow(radius, cosine, length, depth, found.times[:, i])
        torch.testing.assert_close(found.radius[:, i], same.radius, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.cosine[:, i], same.cosine, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.loss[:, i], same.loss, rtol=1e-6, atol=1e-12)
    if abs(cosine) < 1:
        expected = (math.atanh(cosine) + clock).tanh()
        torch.testing.assert_close(found.cosine[:, 0], expected, rtol=0, atol=1e-9)


def test_depth_two_in_closed_form():
    # z' = L, so that c(t) is explicit, and 1/r solves a linear equation in z.
    r0, c0, length = 0.01, -0.9, 2.0
    times = torch.linspace(0, 6, 13, dtype=torch.float64)
    z0, z = math.atanh(c0), math.atanh(c0) + length * times
    integral = (z - z0) / 2 + (torch.sinh(2 * z) - math.sinh(2 * z0)) / 4
    inverse = (math.cosh(z0) ** 2 / r0 + 2 / length * integral) / z.cosh() ** 2
    found = reduced_flow(r0, c0, length, 2, times)
    torch.testing.assert_close(found.cosine, z.tanh(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.radius, 1 / inverse, rtol=1e-8, atol=0)
    # The loss at the end is 1 − c to leading order: no cancellation may spoil it.
    assert found.loss[-1].item() == pytest.approx(2 * length**2 * math.exp(-2 * z[-1]), rel=1e-2)


def test_the_saddle_attracts_only_opposite_starts():
    times = torch.tensor([0.0, 40.0, 80.0], dtype=torch.float64)
    cosines = torch.tensor([-1.0, -1 + 1e-9, 1.0], dtype=torch.float64)
    for depth, scale in ((2, None), (3, 3), (4, 2)):
        found = reduced_flow(0.5, cosines, 1.0, depth, times)
        assert (found.cosine[:, 0] == -1).all() and (found.radius[:, 0].diff() < 0).all()
        assert (found.radius[-1, 2] - 1).abs() < 1e-9 and (found.cosine[:, 2] == 1).all()
        if scale is None:  # r' ≈ −2Lr: exponentially
            assert found.radius[-1, 0].log() - found.radius[1, 0].log() == pytest.approx(-80)
            assert (found.radius[-1, 1] - 1).abs() < 1e-9
        else:  # r ≈ ((n − 2) L t)^{−n/(n−2)}
            assert found.radius[-1, 0].log2() - found.radius[1, 0].log2() == pytest.approx(
                -scale, rel=0.05
            )


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_orbits_are_those_of_the_flow(depth):
    radius = torch.tensor([0.01, 0.3, 5.0]).double()
    cosine = torch.tensor([-0.99, 0.2, 0.6]).double()
    found = reduced_flow(radius, cosine, 1.5, depth, torch.tensor([0.0, 0.2, 1.0, 3.0]).double())
    torch.testing.assert_close(
        orbit_radius(found.cosine, radius, cosine, 1.5, depth), found.radius, rtol=1e-7, atol=0
    )


def test_orbit_formula_by_quadrature():
    z0, z = math.atanh(-0.7), math.atanh(0.8)
    for depth in (2, 5):
        integral, _ = quad(lambda s, n=depth: (math.cosh(s) / math.cosh(z)) ** n, z0, z)
        inverse = (math.cosh(z0) / math.cosh(z)) ** depth / 0.2 + depth / 1.5 * integral
        found = orbit_radius(0.8, 0.2, -0.7, 1.5, depth)
        assert found.item() == pytest.approx(1 / inverse, rel=1e-9)
        # Back from there to the start, and to where the orbit comes from.
        assert orbit_radius(-0.7, found, 0.8, 1.5, depth).item() == pytest.approx(0.2, rel=1e-9)
        assert orbit_radius(-0.99, 2.0, 0.5, 1.5, depth).isinf()
    with pytest.raises(ValueError, match="cosine"):
        orbit_radius(-1.0, 0.2, -0.7, 1.5, 2)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_time_to_loss_is_where_the_flow_has_it(depth):
    radius = torch.tensor([1e-2, 0.2, 0.5, 3.0, 1e-2]).double()
    cosine = torch.tensor([0.3, -0.6, 0.9, -0.2, 1.0]).double()
    for loss in (0.3, 1e-9):
        times = time_to_loss(radius, cosine, 1.2, depth, loss)
        at = torch.cat([torch.zeros(1), times.sort().values])
        order = times.argsort()
        reached = reduced_flow(radius[order], cosine[order], 1.2, depth, at).loss[1:].diagonal()
        torch.testing.assert_close(reached, torch.full_like(reached, loss), rtol=1e-6, atol=0)


def test_time_to_loss_at_the_ends():
    assert time_to_loss(1.0, 1.0, 1.0, 3, 1e-3) == 0  # already there
    assert time_to_loss(0.5, -1.0, 1.0, 3, 0.5).isinf()  # the saddle, never passed
    # c = −1, depth 2: r' = −2r(r + L), ln(r/(r + L)) falls by 2Lt.
    loss, r0 = 0.6, 0.5
    r = math.sqrt(2 * loss) - 1
    expected = 0.5 * (math.log(r0 / (r0 + 1)) - math.log(r / (r + 1)))
    assert time_to_loss(r0, -1.0, 1.0, 2, loss).item() == pytest.approx(expected, rel=1e-9)
    # c = +1, depth 2: ln(r/(L − r)) grows by 2Lt.
    r = 1 - math.sqrt(2e-6)
    expected = 0.5 * (math.log(r / (1 - r)) - math.log(0.1 / 0.9))
    assert time_to_loss(0.1, 1.0, 1.0, 2, 1e-6).item() == pytest.approx(expected, rel=1e-9)


def test_small_starts_take_the_time_that_the_leading_order_says():
    # (1/L) r₀^{2/n−1} cosh^{n−2} z₀ ∫_{z₀}^∞ sech^{n−2}: arccos(c)/√(1 − c²) and 1/(1 + c).
    for depth, c, factor in ((3, -0.4, math.acos(-0.4) / math.sqrt(1 - 0.16)), (4, 0.2, 1 / 1.2)):
        radius = torch.tensor([1e-14, 1e-16]).double()
        scaled = time_to_loss(radius, c, 2.0, depth, 0.1) * radius ** (1 - 2 / depth) * 2.0
        assert scaled[-1].item() == pytest.approx(factor, rel=1e-3)


def test_leading_time_near_the_saddle():
    # As N → ∞ the difference is O(ln N), for depth 2 it tends to 0.
    for depth in (3, 4, 5, 6, 7):
        for radius, cosine in ((1e-14, -0.4), (1e-14, 0.8), (0.5, -1 + 1e-10)):
            exact = time_to_loss(radius, cosine, 2.0, depth, 0.1)
            leading = leading_time_to_loss(radius, cosine, 2.0, depth, 0.1)
            assert (leading / exact).item() == pytest.approx(1, abs=2e-3)
    for radius, cosine in ((1e-12, 0.3), (1e-10, -0.9), (0.5, -1 + 1e-12)):
        exact = time_to_loss(radius, cosine, 2.0, 2, 0.1)
        assert leading_time_to_loss(radius, cosine, 2.0, 2, 0.1) - exact == pytest.approx(
            0, abs=1e-6
        )
    with pytest.raises(ValueError, match="cosine"):
        leading_time_to_loss(0.1, -1.0, 1.0, 3, 0.1)
    with pytest.raises(ValueError, match="loss"):
        leading_time_to_loss(0.1, 0.0, 1.0, 3, 0.5)


def test_reduced_arguments_are_checked():
    times = torch.tensor([0.0, 1.0])
    for wrong, arguments in [
        ("radius", (0.0, 0.0, 1.0, 2)),
        ("radius", (torch.tensor([1.0, math.nan]), 0.0, 1.0, 2)),
        ("cosine", (1.0, 1.1, 1.0, 2)),
        ("cosine", (1.0, math.nan, 1.0, 2)),
        ("target_norm", (1.0, 0.0, 0.0, 2)),
        ("depth", (1.0, 0.0, 1.0, 1)),
    ]:
        with pytest.raises(ValueError, match=wrong):
            reduced_flow(*arguments, times)
        with pytest.raises(ValueError, match=wrong):
            time_to_loss(*arguments, 0.1)
    with pytest.raises(ValueError, match="loss"):
        time_to_loss(1.0, 0.0, 1.0, 2, 0.0)
    with pytest.raises(ValueError, match="depth"):
        end_to_end_velocity(torch.ones(1, 2), torch.ones(1, 2), 0)


def test_a_draw_along_the_target_is_drawn_again():
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(1, 5, generator=generator, dtype=torch.float64)  # what seed 3 draws
    found = random_end_to_end(target, radius=0.5, seed=3, cosine=0.2)
    radius, cosine = radius_and_cosine(found, target)
    assert float(radius) == pytest.approx(0.5)
    assert float(cosine) == pytest.approx(0.2)
