"""Every closed form and constant of a landscape against an oracle that does not know it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfgd import gradient_descent, gradient_flow
from gfgd.problems import landscapes
from gfgd.problems.landscapes import LANDSCAPES, landscape

TIMES = torch.linspace(0, 1.5, 7, dtype=torch.float64)
CURVED = [
    landscapes.ripples(1.0, 2.0, dimension=3),
    landscapes.ripples(0.0),
    landscapes.quartic(dimension=3, radius=1.5),
    landscapes.saddle(2.5),
    landscapes.valley(1.0, radius=4.0),
    landscapes.two_layer_net(2.0, radius=1.5),
    landscapes.sharpening_valley(0.05, sharpness=2.0, radius=4.0),
    landscapes.quadratic(-0.5, 0.0, 3.0),
    landscapes.logistic([3.0, 1.0], [-1.0, 2.0], [0.5, 0.5]),
    landscapes.logistic([-1.0], tilt=[0.5], name="slope"),
    landscapes.semicircle(5),
]
EVERY = [*LANDSCAPES.values(), *CURVED]
named = pytest.mark.parametrize("known", EVERY, ids=lambda known: known.name)


def sample(known, count, seed=0):
    """Points of the ball of the known constants, or of a box twice the domain, and its corners."""
    generator = torch.Generator().manual_seed(seed)
    draw = 2 * torch.rand(count, known.dimension, generator=generator, dtype=torch.float64) - 1
    if math.isfinite(known.radius):
        directions = draw / draw.norm(dim=-1, keepdim=True)
        lengths = torch.rand(count, 1, generator=generator, dtype=torch.float64).sqrt()
        lengths[::4] = 1.0  # the sphere itself: extremes lie there
        return known.radius * lengths * directions
    low, high = torch.tensor(known.domain, dtype=torch.float64).unbind(-1)
    return (low + high) / 2 + (high - low) * draw


def eigenvalues(known, points):
    return torch.stack([torch.linalg.eigvalsh(known.objective.hessian(p)) for p in points])


@named
def test_constants_bound_the_dense_hessian(known):
    found = eigenvalues(known, sample(known, 200))
    assert found.min() >= known.convexity_bound - 1e-9
    assert found.abs().max() <= known.smoothness + 1e-9
    domain = torch.tensor(known.domain, dtype=torch.float64)
    assert domain.abs().amax(dim=-1).norm() <= known.radius + 1e-9


@pytest.mark.parametrize(
    ("known", "at"),
    [
        (landscape("bowl"), [0.0, 0.0]),
        (landscape("ripples"), [0.0, math.pi / 3]),
        (landscape("steep_ripples"), [0.0, math.pi / 3]),
        (landscape("bent_saddle"), [0.3, 0.0]),
        (landscape("two_layer_net"), [3 / math.sqrt(2), -3 / math.sqrt(2)]),
        (landscape("quartic"), [0.0, 3.0]),
        (landscape("saddle"), [0.5, 0.5]),
        (
            landscapes.sharpening_valley(0.05, sharpness=2.0, radius=4.0),
            [4 * math.sqrt(2 / 3), -4 / math.sqrt(3)],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_constants_that_are_called_exact_are_attained(known, at):
    found = eigenvalues(known, [torch.tensor(at, dtype=torch.float64)])
    assert found.min().item() == pytest.approx(known.convexity_bound, abs=1e-12)
    assert found.abs().max().item() == pytest.approx(known.smoothness, rel=1e-12)


def test_logistic_is_steepest_at_0_and_flat_far_out():
    known = landscapes.logistic([3.0, 1.0], [-1.0, 2.0], [0.5, 0.5])
    at_zero, far = eigenvalues(known, torch.tensor([[0.0, 0.0], [30.0, 40.0]], dtype=torch.float64))
    assert at_zero.max().item() == pytest.approx(known.smoothness, rel=1e-12)
    assert 0 <= far.min() <= far.max() < 1e-4
    slope = landscapes.logistic([-1.0], tilt=[0.5]).objective
    ends = slope.gradient(torch.tensor([[-40.0], [0.0], [40.0]], dtype=torch.float64))
    torch.testing.assert_close(ends[:, 0], torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64))
    point = torch.tensor([0.7], dtype=torch.float64)
    one = torch.ones_like(point)
    s = torch.sigmoid(point)
    third = s * (1 - s) * (1 - 2 * s)
    torch.testing.assert_close(slope.third_derivative(point, one, one), third)


@named
def test_third_derivative_stays_below_its_constant(known):
    points = sample(known, 300, seed=2)
    generator = torch.Generator().manual_seed(5)
    draw = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    unit = draw / draw.norm(dim=-1, keepdim=True)
    cubic = (known.objective.third_derivative(points, unit, unit) * unit).sum(-1)
    assert cubic.abs().max() <= known.third * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    ("known", "at", "along"),
    [
        (landscapes.ripples(0.8), [math.pi / 6, 0.0], [1.0, 0.0]),
        (landscape("quartic"), [3.0, 0.0], [1.0, 0.0]),
        (landscape("bent_saddle"), [0.0, math.pi / 2], [0.0, 1.0]),
        (landscape("two_layer_net"), [3 / math.sqrt(2)] * 2, [math.sqrt(0.5)] * 2),
        (landscapes.logistic([2.0]), [math.log(2 + math.sqrt(3)) / 2], [1.0]),
        (
            landscapes.sharpening_valley(0.05),
            [0.3, 20.0],
            [math.sqrt(2 / 3), math.sqrt(1 / 3)],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_third_derivatives_that_are_called_exact_are_attained(known, at, along):
    at, along = (torch.tensor(v, dtype=torch.float64) for v in (at, along))
    cubic = (known.objective.third_derivative(at, along, along) * along).sum()
    assert abs(float(cubic)) == pytest.approx(known.third, rel=1e-9)


@pytest.mark.parametrize("name", list(LANDSCAPES))
def test_tube_constants_hold_between_the_recorded_times(name):
    known, radius = landscape(name), 0.05
    start = torch.tensor([0.9, 0.3], dtype=torch.float64)
    coarse = torch.linspace(0, 1, 21, dtype=torch.float64)
    fine = torch.linspace(0, 1, 201, dtype=torch.float64)
    flow = gradient_flow(known.objective, start, fine, rtol=1e-10, atol=1e-12)
    smoothness, rate = landscapes.tube_constants(known, flow.at(coarse), radius)
    assert (smoothness <= known.smoothness).all()
    assert (rate <= -known.convexity_bound).all()
    generator = torch.Generator().manual_seed(1)
    for i, point in enumerate(flow.points[:-1]):
        away = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        found = eigenvalues(known, point + radius * away / away.norm(dim=-1, keepdim=True))
        assert found.abs().max() <= smoothness[i // 10] + 1e-9
        assert -found.min() <= rate[i // 10] + 1e-9


def test_tube_constants_refuse_to_leave_the_ball():
    net = landscape("two_layer_net")
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    flow = gradient_flow(net.objective, torch.tensor([1.9, -0.9], dtype=torch.float64), times)
    with pytest.raises(ValueError, match="radius = 1: the tube may leave"):
        landscapes.tube_constants(net, flow, 1.0)


def test_semicircle_turns_its_gradient_along_half_a_circle():
    known = landscapes.semicircle(6, apart=8.0)
    times = torch.linspace(0, 4000, 400, dtype=torch.float64)
    start = torch.zeros(2, dtype=torch.float64)
    flow = gradient_flow(known.objective, start, times, estimate_error=False)
    gradients = known.objective.gradient(flow.points)
    centre = torch.tensor([0.5, 0.0], dtype=torch.float64)
    off = (gradients - centre).norm(dim=-1)
    # On the chords of a hexagon-like line inside the circle, touching it six times.
    assert off.max() <= 0.5 + 1e-9
    assert off.min() >= 0.5 * math.cos(math.pi / 14) - 1e-3
    assert gradients[-1].norm() == pytest.approx(math.sin(math.pi / 14), abs=1e-3)


@named
def test_gradient_is_that_of_finite_differences(known):
    (point,) = sample(known, 1, seed=3)
    steps = 1e-5 * torch.eye(known.dimension, dtype=torch.float64)
    value = known.objective.value
    differences = (value(point + steps) - value(point - steps)) / 2e-5
    torch.testing.assert_close(known.objective.gradient(point), differences, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "known", [k for k in EVERY if k.flow is not None], ids=lambda known: known.name
)
def test_closed_flow_is_the_integrated_one(known):
    starts = sample(known, 20, seed=1).reshape(4, 5, -1)
    integrated = gradient_flow(
        known.objective,
        starts,
        TIMES,
        method="dopri8",
        rtol=1e-11,
        atol=1e-12,
        estimate_error=False,
    )
    torch.testing.assert_close(known.flow(starts, TIMES), integrated.points, rtol=1e-8, atol=1e-9)


def test_closed_flow_of_the_balanced_two_layer_net():
    s, target = 0.2, 2.0
    start = torch.full((2,), s, dtype=torch.float64)
    net = landscapes.two_layer_net(target)
    run = gradient_flow(net.objective, start, TIMES, rtol=1e-10, atol=1e-12)
    exact = (target / (1 + (target / s**2 - 1) * torch.exp(-2 * target * TIMES))).sqrt()
    torch.testing.assert_close(run.points, torch.stack([exact, exact], -1), rtol=1e-7, atol=1e-8)
    start = torch.tensor([0.5, -1.2], dtype=torch.float64)
    path = gradient_flow(net.objective, start, TIMES, rtol=1e-10, atol=1e-12).points
    conserved = path[:, 0].square() - path[:, 1].square()
    torch.testing.assert_close(conserved, conserved[:1].expand_as(conserved), rtol=0, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-3, 3).filter(lambda v: abs(v) > 1e-3), min_size=1, max_size=4),
    st.floats(0.01, 1.0),
    st.integers(1, 30),
)
def test_closed_descent_of_a_quadratic(values, step_size, iterations):
    known = landscapes.quadratic(*values)
    start = torch.linspace(-1, 2, len(values), dtype=torch.float64)
    run = gradient_descent(known.objective, start, step_size=step_size, iterations=iterations)
    exact = known.descent(start, step_size, iterations)
    torch.testing.assert_close(run.points, exact, rtol=1e-9, atol=1e-12)


@named
def test_minimum_is_a_critical_point_below_every_sample(known):
    if known.minimum is None:
        assert known.convexity == "non-convex" or known.name in ("logistic", "slope", "semicircle")
        return
    assert known.objective.gradient(known.minimum).norm() < 1e-12
    low = known.objective.value(known.minimum)
    assert (known.objective.value(sample(known, 500)) >= low - 1e-12).all()


def test_cases_and_names():
    cases = {name: known.convexity for name, known in LANDSCAPES.items()}
    assert cases == {
        "bowl": "strongly convex",
        "ripples": "strongly convex",
        "steep_ripples": "non-convex",
        "quartic": "convex",
        "saddle": "non-convex",
        "bent_saddle": "non-convex",
        "valley": "non-convex",
        "two_layer_net": "non-convex",
    }
    assert landscapes.ripples(1.0).convexity == "convex"
    assert landscape("bowl").stable_step_size == 0.5
    assert all(known.dimension == 2 and known.formula for known in LANDSCAPES.values())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"landscape = 'bowls'.*did you mean 'bowl'"):
        landscape("bowls")
    with pytest.raises(ValueError, match="amplitude = -1"):
        landscapes.ripples(-1)
    with pytest.raises(ValueError, match="eigenvalues"):
        landscapes.quadratic()
    with pytest.raises(ValueError, match="eigenvalues"):
        landscapes.quadratic(0.0, 0.0)
    with pytest.raises(ValueError, match=r"eigenvalues\[1\]"):
        landscapes.quadratic(1.0, math.nan)
    with pytest.raises(ValueError, match="radius = 1"):
        landscapes.valley(radius=1)
    with pytest.raises(ValueError, match="radius = 5"):
        landscapes.sharpening_valley(0.05, radius=5)
    with pytest.raises(ValueError, match="one length"):
        landscapes.logistic([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="tilt = "):
        landscapes.logistic([1.0], tilt=[0.0, 0.0])
    with pytest.raises(ValueError, match="not all points 0"):
        landscapes.logistic([0.0, 0.0])
    with pytest.raises(ValueError, match="domain has 1"):
        landscapes.Landscape("flat", "", landscape("bowl").objective, 0.0, 1.0, ((0.0, 1.0),))


def test_a_path_that_leaves_the_ball_is_told():
    known = landscapes.landscape("quartic")
    inside, outside = (
        gradient_descent(known.objective, [x, 0.0], step_size=1e-3, iterations=3)
        for x in (0.9 * known.radius, 1.1 * known.radius)
    )
    assert known.contains(inside)
    assert not known.contains(inside, outside)
    assert landscapes.landscape("bowl").contains(outside)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([1.0], "give 2 numbers"),
        ([1.0, 99.0], r"start\[1\] = 99.0"),
        ([0.0, 0.0], "∇f = 0"),
    ],
)
def test_a_start_from_which_nothing_can_be_shown(start, message):
    known = landscapes.landscape("bowl")
    landscapes.check_start(known, start=[1.0, 1.0])
    with pytest.raises(ValueError, match=message):
        landscapes.check_start(known, start=start)
