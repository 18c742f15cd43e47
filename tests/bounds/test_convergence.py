"""Each constant of the theorem against an evaluation that does not use its formula."""

import math

import pytest
import torch

from gfgd import gradient_descent, gradient_flow
from gfgd.bounds import convergence
from gfgd.networks.linear import (
    balanced_start,
    deep_linear,
    lowest_radius_bound,
    orbit_constant,
    orbit_radius,
    radius_and_cosine,
    random_end_to_end,
    reduced_flow,
    time_bound,
    time_to_loss,
)

DEPTHS = [2, 3, 4, 6]
#: Starts r₀, c₀: away from the target and towards it, r₀ above and below c₀, near-zero and not.
STARTS = [
    (radius, cosine) for radius in (1e-3, 0.1, 0.6, 1.0) for cosine in (-0.99, -0.6, 0.0, 0.4, 0.95)
]
RADIUS, COSINE = torch.tensor(STARTS, dtype=torch.float64).T


def in_plane(coordinates, depth):
    """f in the three coordinates a (two of them) and y = √(n−1) b: ½|bⁿ⁻¹ a − (1, 0)|²."""
    first, second, y = coordinates.unbind(-1)
    power = (y / math.sqrt(depth - 1)) ** (depth - 1)
    return 0.5 * ((power * first - 1) ** 2 + (power * second) ** 2)


def at(radius, cosine, depth):
    """The balanced point with w of this length and cosine, in the three coordinates."""
    rho = radius ** (1 / depth)
    sine = (1 - cosine**2).sqrt()
    return torch.stack([rho * cosine, rho * sine, (depth - 1) ** 0.5 * rho], dim=-1)


@pytest.mark.parametrize("depth", DEPTHS)
def test_descent_of_the_network_stays_in_the_three_coordinates(depth):
    target = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    network = deep_linear(target, depth=depth, hidden=3)
    matrix = random_end_to_end(target, radius=0.5, seed=depth, cosine=-0.3)
    run = gradient_descent(network, balanced_start(matrix, depth, 3), step_size=0.05, iterations=40)
    point = at(
        torch.tensor(0.5, dtype=torch.float64), torch.tensor(-0.3, dtype=torch.float64), depth
    ).requires_grad_()
    found = convergence.three_coordinates(network, run.points)
    for loss, weights, coordinates in zip(
        run.losses, zip(*network.weights(run.points), strict=True), found, strict=True
    ):
        value = in_plane(point, depth)
        assert float(value.detach()) == pytest.approx(float(loss), rel=1e-10)
        norms = [float(weight.norm()) for weight in weights]
        assert norms[0] == pytest.approx(float(point[:2].detach().norm()), rel=1e-10)
        assert norms[1:] == pytest.approx(
            [float(point[2].detach()) / (depth - 1) ** 0.5] * (depth - 1)
        )
        reduced = point.detach() / torch.tensor([1, 1, (depth - 1) ** 0.5], dtype=torch.float64)
        torch.testing.assert_close(coordinates, reduced, rtol=1e-10, atol=1e-12)
        (slope,) = torch.autograd.grad(value, point)
        point = (point - 0.05 * slope).detach().requires_grad_()


@pytest.mark.parametrize("depth", DEPTHS)
def test_plane_hessian_and_its_rate(depth):
    radius = torch.tensor([0.01, 0.3, 0.3, 0.9, 1.0], dtype=torch.float64)
    cosine = torch.tensor([-0.9, -0.2, 0.8, 0.5, 0.99], dtype=torch.float64)
    found = convergence.plane_hessian(radius, cosine, depth)
    for i in range(5):
        exact = torch.autograd.functional.hessian(
            lambda p: in_plane(p, depth), at(radius[i], cosine[i], depth)
        )
        torch.testing.assert_close(
            torch.linalg.eigvalsh(found[i]), torch.linalg.eigvalsh(exact), rtol=1e-9, atol=1e-12
        )
    lowest = -torch.linalg.eigvalsh(found)[:, 0]
    assert (lowest <= convergence.plane_rate(radius, cosine, depth)).all()
    # Near zero and aligned nothing is lost but the convex part, which is of order r^{2 − 2/n}.
    tiny, one = torch.tensor([1e-12], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    near = -torch.linalg.eigvalsh(convergence.plane_hessian(tiny, one, depth))[:, 0]
    rate = convergence.plane_rate(tiny, one, depth)
    torch.testing.assert_close(near, rate, rtol=1e-4, atol=0)


def flows(depth, count=3000):
    """The reduced flow of some starts, each on a grid that is fine where it moves."""
    kept = (RADIUS > 0.01) & (COSINE > -0.95)
    for radius, cosine in zip(RADIUS[kept].tolist(), COSINE[kept].tolist(), strict=True):
        end = float(time_to_loss(radius, cosine, 1.0, depth, 1e-4))
        times = end * torch.cat([torch.zeros(1), torch.logspace(-5, 0, count)]).double()
        yield radius, cosine, reduced_flow(radius, cosine, 1.0, depth, times, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("depth", DEPTHS)
def test_rate_and_error_integrals_are_below_their_bounds(depth):
    for radius, cosine, flow in flows(depth):
        rate = convergence.plane_rate(flow.radius, flow.cosine, depth)
        total = torch.cumulative_trapezoid(rate, flow.times, dim=0)
        least = flow.radius.min()
        # An equality: r falls to the least and grows from there, the angle falls throughout.
        exact = (depth - 1) / depth * (flow.radius[-1] / least).log()
        exact += (radius / least).log() / depth
        exact += (depth - 1) ** 0.5 * (math.acos(cosine) - torch.arccos(flow.cosine[-1]))
        assert float(total[-1]) == pytest.approx(float(exact), rel=2e-3)
        # D against ∫ exp(∫_s^t m) ‖H∇f‖ ds with the exact θ'' = H∇f in the three coordinates.
        along, across = flow.radius - flow.cosine, -(1 - flow.cosine**2).clamp(min=0).sqrt()
        slope = flow.radius ** (1 - 1 / depth)
        gradient = torch.stack([along, across, (depth - 1) ** 0.5 * along], -1)
        hessian = convergence.plane_hessian(flow.radius, flow.cosine, depth)
        bend = (hessian @ (slope[:, None] * gradient)[..., None])[..., 0].norm(dim=-1)
        growth = torch.cat([torch.zeros_like(total[:1]), total])
        inner = torch.cumulative_trapezoid((-growth).exp() * bend, flow.times, dim=0)
        measured = float((growth[1:].exp() * inner).max())
        start = torch.tensor([radius, cosine], dtype=torch.float64)
        factor = float(convergence.error_factor(start[0], start[1], depth))
        assert measured <= factor <= 300 * measured
        # The same along the orbit in closed form, without an integrator.
        gap = math.sqrt(2e-4)
        found = convergence.orbit_integrals(radius, cosine, depth, gap)
        assert found.error_integral == pytest.approx(measured, rel=0.01)
        assert found.rate_integral == pytest.approx(found.rate_closed, rel=1e-5)
        assert found.rate_integral == pytest.approx(float(total[-1]), rel=5e-3)
        assert found.lowest_radius == pytest.approx(float(least), rel=1e-3)
        assert found.time == pytest.approx(float(flow.times[-1]), rel=5e-3)


@pytest.mark.parametrize("depth", DEPTHS)
def test_lowest_radius_and_time_are_bounds_and_near(depth):
    lowest = lowest_radius_bound(RADIUS, COSINE, 1.0, depth)
    for bound, (radius, cosine) in zip(lowest.tolist(), STARTS, strict=True):
        z = torch.linspace(math.atanh(cosine), 12, 20_001, dtype=torch.float64)
        orbit = orbit_radius(z.tanh().clamp(max=1 - 1e-12), radius, cosine, 1.0, depth)
        true = float(orbit.min())
        assert bound <= true * (1 + 1e-9)
        assert bound >= true / (4 if cosine < 0 else 1 + depth)
    for gap in (0.3, 1e-3):
        exact = time_to_loss(RADIUS, COSINE, 1.0, depth, gap**2 / 2)
        bound = time_bound(RADIUS, COSINE, 1.0, depth, gap)
        assert (exact <= bound).all()
        assert (bound <= 3 * exact + 12).all()
    small = torch.tensor([1e-10], dtype=torch.float64)
    tight = time_bound(small, -0.4, 1.0, 4, 0.3) / time_to_loss(small, -0.4, 1.0, 4, 0.045)
    assert float(tight) == pytest.approx(1, abs=1e-3)


def test_orbit_constant_is_constant_along_the_flow():
    flow = reduced_flow(0.2, -0.7, 1.5, 4, torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64))
    found = orbit_constant(flow.radius, flow.cosine, 1.5, 4)
    torch.testing.assert_close(found, found[:1].expand(3), rtol=1e-7, atol=0)
    with pytest.raises(ValueError, match="cosine"):
        orbit_constant(0.2, -1.0, 1.5, 4)


@pytest.mark.parametrize("depth", DEPTHS)
def test_inflation_bounds_the_change_of_the_indefinite_part(depth):
    reach = 5 / (32 * depth)
    generator = torch.Generator().manual_seed(depth)
    largest = 0.0
    for _ in range(200):
        cosine, radius = 2 * torch.rand(2, generator=generator, dtype=torch.float64)
        cosine, radius = cosine - 1, radius.clamp(max=1.0)
        centre = at(radius, cosine, depth)
        step = torch.randn(3, generator=generator, dtype=torch.float64)
        moved = centre + reach * step / step.norm()
        change = indefinite(moved, depth) - indefinite(centre, depth)
        size = float(torch.linalg.matrix_norm(change, 2)) / reach
        limit = float(convergence.inflation(radius, cosine, depth))
        assert size <= limit
        largest = max(largest, size / limit)
    assert largest > 0.3


def indefinite(point, depth):
    """∇²f − Dwᵀ Dw in the three coordinates."""

    def product(p):
        return (p[2] / math.sqrt(depth - 1)) ** (depth - 1) * p[:2]

    jacobian = torch.autograd.functional.jacobian(product, point)
    hessian = torch.autograd.functional.hessian(lambda p: in_plane(p, depth), point)
    return hessian - jacobian.T @ jacobian


def test_arithmetic_of_the_last_ball():
    # The proof's numbers for the ball of radius R around θ(T), for every depth that one may meet.
    for n in range(2, 200):
        gap, distance, radius = 1 / (20 * n), 1 / (8 * n), 1 / (3 * math.sqrt(n - 1))
        gain = (1 - gap - radius / math.sqrt(n - 1)) ** (n - 1)
        assert gain >= 2 / 3 - 1 / 20
        wide = (1 + distance) ** (n - 1) * math.sqrt(n)
        assert distance + (gap + wide * distance) / (gain * 0.95) < radius
        assert (gap + wide * distance) ** 2 / 2 < 1 / 100
        # β on both balls: P² + QG with |a| ≤ A and b ≤ B, at most 6n, so that ηβ ≤ 1/10.
        for a, b, residual in (
            (1 + radius, 1 + radius / math.sqrt(n - 1), None),
            (1 + 5 / (32 * n), 1 + 5 / (32 * n), 2.0),
        ):
            slope = b ** (n - 1) * math.sqrt(1 + (n - 1) * (a / b) ** 2)
            inner = (n - 2) * b ** (n - 3) * a
            pair = (inner + math.sqrt(inner**2 + 4 * (n - 1) * b ** (2 * n - 4))) / 2
            reach = radius if residual is None else 5 / (32 * n)
            value = (gap if residual is None else residual) + slope * reach
            assert slope**2 + pair * value <= 6 * n
        assert 1.9 * gain**2 >= 0.72


@pytest.mark.parametrize(("depth", "radius"), [(2, 0.3), (2, 1.0)])
def test_descent_keeps_what_the_theorem_promises(depth, radius):
    target = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    network = deep_linear(target, depth=depth, hidden=2)
    for cosine in (0.9, 0.6):
        promised = convergence.global_convergence(2 * radius, cosine, 2.0, depth, 1e-6)
        size, count = float(promised.step_size), int(promised.iterations)
        matrix = random_end_to_end(target, radius=2 * radius, seed=1, cosine=cosine)
        start = balanced_start(matrix, depth, 2)
        run = gradient_descent(
            network, start, step_size=size, iterations=count, record_every=max(1, count // 200)
        )
        assert float(run.losses[-1]) <= 1e-6
        near = run.times <= float(promised.horizon)
        flow = gradient_flow(network, start, run.times[near], rtol=1e-9, atol=1e-11)
        apart = (run.points[near] - flow.points).norm(dim=-1).max()
        assert float(apart) <= float(promised.distance)


def test_units_of_the_target_and_growth():
    one = convergence.global_convergence(0.1, -0.5, 1.0, 3, 1e-6)
    two = convergence.global_convergence(0.2, -0.5, 2.0, 3, 4e-6)
    for name, power in (("step_size", -4 / 3), ("horizon", -4 / 3), ("distance", 1 / 3)):
        assert float(getattr(two, name)) == pytest.approx(2**power * float(getattr(one, name)))
    assert one.iterations == two.iterations
    # 1/η at most as r₀^{−(1−2/n)} (1+c₀)^{−(n−1)}, but for logarithms.
    near = torch.tensor([1e-5, 1e-6], dtype=torch.float64)
    for depth in DEPTHS:
        sizes = convergence.global_convergence(0.1, near - 1, 1.0, depth, 1e-6).step_size
        assert float(torch.log10(sizes[0] / sizes[1])) == pytest.approx(depth - 1, abs=0.15)
        sizes = convergence.global_convergence(near, -0.5, 1.0, depth, 1e-6).step_size
        assert float(torch.log10(sizes[0] / sizes[1])) == pytest.approx(1 - 2 / depth, abs=0.15)


def test_mistakes_are_named():
    for wrong, arguments in [
        ("loss", (0.1, 0.0, 1.0, 2, 0.0)),
        ("depth", (0.1, 0.0, 1.0, 1, 1e-3)),
        ("radius", (1.1, 0.0, 1.0, 2, 1e-3)),
        ("cosine", (0.1, -1.0, 1.0, 2, 1e-3)),
        ("target_norm", (0.1, 0.0, 0.0, 2, 1e-3)),
    ]:
        with pytest.raises(ValueError, match=wrong):
            convergence.global_convergence(*arguments)
    with pytest.raises(ValueError, match="gap"):
        time_bound(0.1, 0.0, 1.0, 2, 0.5)
    with pytest.raises(ValueError, match="gap"):
        convergence.orbit_integrals(0.1, 0.0, 2, 5.0)


def test_radius_and_cosine_of_a_start_feed_the_theorem():
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    matrix = random_end_to_end(target, radius=0.1, seed=0, batch=(50,))
    promised = convergence.global_convergence(*radius_and_cosine(matrix, target), 1.0, 3, 1e-6)
    assert promised.step_size.shape == (50,) and (promised.step_size > 0).all()
