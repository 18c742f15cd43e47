from fractions import Fraction

import flint
import pytest
import torch
from flint import arb

from gfgd import gradient_descent, gradient_flow
from gfgd.networks import linear
from gfgd.verified import NotVerifiedError, balanced
from gfgd.verified import balanced_certificates as certificates
from gfgd.verified.balanced import BalancedStart
from gfgd.verified.directed import Upper

TARGET = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)


def network(depth, radius=0.1, cosine=0.3):
    """Return the whole network, and its balanced start."""
    objective = linear.deep_linear(TARGET, depth=depth, hidden=3)
    matrix = linear.random_end_to_end(TARGET, radius=radius, seed=0, cosine=cosine)
    return objective, linear.balanced_start(matrix, depth, 3)


def flow_of(depth, horizon=2, order=2, radius="0.1", cells=None):
    start = BalancedStart.of(depth, radius=radius, cosine=0.3)
    return balanced.enclosed_flow(start, horizon, order=order, cells=cells)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_distance_of_descent_from_flow_on_the_whole_network(depth):
    objective, start = network(depth)
    run = gradient_descent(objective, start, step_size=2 / 50, iterations=50)
    flow = gradient_flow(
        objective, start, run.times, method="dopri8", rtol=1e-12, atol=1e-14, estimate_error=False
    )
    low, high = balanced.descent_distance(flow_of(depth, order=0), 50)
    assert 0 <= high - low < 1e-12
    assert float(run.distance_to(flow).max()) == pytest.approx(high, abs=1e-11)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_corrections_cancel_order_by_order(depth):
    """The defect of θ + ηu_1 + … + η^q u_q under a step of GD is O(η^{q+2}), in balls."""
    for order in (0, 1, 2, 3):
        flow = flow_of(depth, horizon=1, order=order, cells=25)
        sizes = []
        with flint.ctx.workprec(192):
            for steps in (100, 200):
                eta = flow.horizon / steps
                y, after = (
                    [
                        sum((u[c] * balanced.ball(eta**i) for i, u in enumerate(states)), arb(0))
                        for c in range(3)
                    ]
                    for states in (flow.at(Fraction(1, 2)), flow.at(Fraction(1, 2) + eta))
                )
                stepped = balanced.descent_step(flow.start, arb(1), balanced.ball(eta), y)
                missed = [p - q for p, q in zip(after, stepped, strict=True)]
                sizes.append(float(flow.start.length(missed).mid()))
        assert sizes[0] / sizes[1] == pytest.approx(2 ** (order + 2), rel=0.05)


def test_the_curve_misses_as_little_as_bounded():
    """‖y(t + η) − y(t) + η∇f(y(t))‖/η^{q+2} against the bound of its cell, q = 1."""
    flow, eta = flow_of(3, horizon=4, order=1), Fraction(1, 1000)
    shares, bends = [], []
    with flint.ctx.workprec(192):
        size = balanced.ball(eta)

        def step(x):
            return balanced.descent_step(flow.start, arb(1), size, x)

        for cell in flow.cells[:-1]:
            theta, u = flow.at(cell.start)
            y, after = (
                [a + size * b for a, b in zip(*flow.at(time), strict=True)]
                for time in (cell.start, cell.start + eta)
            )
            missed = flow.start.length([p - q for p, q in zip(after, step(y), strict=True)])
            drift, left = certificates.cell_defect(cell, size)
            shares.append(float((missed / size**3).mid()) / (drift + left))
            # ½ D³f[u, u], which is all that is left of the gradient at small η
            back = [a - size * b for a, b in zip(theta, u, strict=True)]
            second = [
                (p + q - 2 * r) / (2 * size**3)
                for p, q, r in zip(step(y), step(back), step(theta), strict=True)
            ]
            bends.append(float(flow.start.length(second).mid()) / (left + 1e-9))
    assert 0.5 < max(shares) <= 1
    assert 0.5 < max(bends) <= 1


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_hessian_of_three_coordinates(depth):
    """Its eigenvalues are among those of the whole Hessian, and are enclosed."""
    objective, point = network(depth)
    whole = torch.linalg.eigvalsh(objective.hessian(point))
    a1, a2, b = BalancedStart.of(depth, radius=0.1, cosine=0.3).state()
    e = [b ** (depth - 1) * a1 - 1, b ** (depth - 1) * a2]
    lowest, highest = certificates.hessian_range(depth, a1, a2, b, e)
    assert min(abs(float(value) + lowest) for value in whole) < 1e-9
    assert min(abs(float(value) - highest) for value in whole) < 1e-9
    assert highest <= float(whole[-1]) + 1e-9


def test_third_derivative_is_bounded():
    depth = 3
    objective, point = network(depth)
    generator = torch.Generator().manual_seed(0)
    size = float(point[:3].norm())
    near = certificates._Near(
        gap=0,
        lowest=0,
        highest=0,
        first=size,
        other=size,
        residual=float(objective.residual(point).norm()),
    )
    bound = certificates.third_derivative(depth, near, Upper(0.0))
    largest = 0.0
    for _ in range(200):
        u = torch.randn(objective.dimension, generator=generator, dtype=torch.float64)
        u /= u.norm()
        largest = max(largest, float(objective.third_derivative(point, u, u) @ u))
    assert 0.02 * bound < largest <= bound


@pytest.mark.parametrize(
    ("depth", "distance", "order", "factor"),
    [(2, "0.1", 4, 1.001), (3, "0.1", 4, 1.001), (3, "0.01", 2, 1.01), (4, "0.001", 2, 1.01)],
)
def test_certificate_is_nearly_what_is_needed(depth, distance, order, factor):
    flow = flow_of(depth, horizon=3, order=order, cells=75)
    plan = certificates.certificate(flow, distance)
    needed = balanced.fewest_steps(flow, distance, guess=plan.iterations)
    assert needed <= plan.iterations <= factor * needed
    low, high = balanced.descent_distance(flow, plan.iterations)
    assert plan.predicted - plan.left <= 1.01 * high
    assert high <= float(Fraction(distance))
    assert low > 0.8 * float(Fraction(distance))


def test_both_ways_to_certify_agree(monkeypatch):
    flow = flow_of(3, horizon=3, cells=75)
    singly = certificates.certificate(flow, "0.01").iterations
    monkeypatch.setattr(certificates, "SINGLY", 0)
    together = certificates.certificate(flow, "0.01").iterations
    assert singly <= together <= 1.02 * singly


def test_the_remainder_covers_what_it_must():
    """‖θ_k − y(kη)‖, computed, is below the certificate's bound, and not far below."""
    flow = flow_of(3, horizon=4, order=1)
    plan = certificates.certificate(flow, "0.02")
    start, eta = flow.start, plan.step_size
    with flint.ctx.workprec(192):
        x, worst = start.state(), 0.0
        for k in range(1, plan.iterations + 1):
            x = balanced.descent_step(start, arb(1), balanced.ball(eta), x)
            theta, u = flow.at(k * eta)
            gap = [a - t - balanced.ball(eta) * c for a, t, c in zip(x, theta, u, strict=True)]
            worst = max(worst, float(start.length(gap).mid()))
    assert 0.05 * plan.left < worst <= plan.left


def test_convergence():
    flow = flow_of(3, horizon="5.5", order=0)
    found = balanced.convergence(flow, 400)
    assert found.radius < 0.2
    assert 0.5 < found.rate < 1
    objective, start = network(3)
    run = gradient_descent(objective, start, step_size=5.5 / 400, iterations=1600, record_every=400)
    assert (run.points[1:] - run.points[1]).norm(dim=1).max() < found.radius
    assert run.losses[1] == pytest.approx(found.loss, rel=1e-6)
    assert run.losses[-1] < found.loss * 0.95**400 * 1e3
    with pytest.raises(NotVerifiedError, match="smaller loss"):
        balanced.convergence(flow_of(3, horizon=1, order=0), 100)


@pytest.mark.slow
def test_what_cannot_be_proved_is_refused():
    flow = flow_of(3, horizon=4)
    with pytest.raises(NotVerifiedError, match="take more steps"):
        balanced.descent_distance(flow_of(2, horizon=32, order=0), 12)
    with pytest.raises(NotVerifiedError, match="more cells"):
        flow_of(3, horizon=4, cells=2)
    with pytest.raises(ValueError, match="order=1"):
        certificates.certificate(flow_of(3, order=0), 0.1)
    with pytest.raises(ValueError, match="distance"):
        certificates.certificate(flow, 0)


@pytest.mark.parametrize(
    "change", [{"depth": 1}, {"radius": 0}, {"cosine": -1}, {"cosine": 1.5}, {"target_norm": -2}]
)
def test_bad_starts(change):
    arguments = {"depth": 3, "radius": 0.1, "cosine": 0.3} | change
    with pytest.raises(ValueError, match=next(iter(change))):
        BalancedStart.of(arguments.pop("depth"), **arguments)


def test_the_first_cells_are_the_shorter_flow():
    whole, short = flow_of(3, horizon=3, cells=75), flow_of(3, horizon=2, cells=50)
    first = whole.first(50)
    assert first.horizon == short.horizon
    assert balanced.descent_distance(first, 60) == balanced.descent_distance(short, 60)
    with pytest.raises(ValueError, match="cells = 76"):
        whole.first(76)


def test_convergence_known_in_advance():
    """The ball that holds for all points within ε holds for GD's own, and is little wider."""
    flow = flow_of(3, horizon="5.5", order=0)
    away = Fraction(balanced.descent_distance(flow, 400)[1])
    promised = balanced.convergence(flow, 400, within=away)
    found = balanced.convergence(flow, 400)
    assert found.radius <= promised.radius < 3 * found.radius
    assert found.loss < promised.loss
    assert found.rate <= promised.rate < 1
    # Within ε of θ(T) in the metric of the network, farthest from the minimum: not covered if
    # the surroundings were left out.
    assert promised.loss > 1.5 * balanced.convergence(flow, 400, within=1e-9).loss
    with pytest.raises(ValueError, match="within"):
        balanced.convergence(flow, 400, within=0)
