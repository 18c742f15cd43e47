"""Oracles: GD itself, the valley's map in two numbers, closed forms on quadratics, central flow."""

import math

import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.large_steps.modified import barrett_dherin_flow, tracking_bound
from gfgd.large_steps.pair_flow import METHODS, pair_flow, pair_map
from gfgd.objective import Objective
from gfgd.problems import landscapes
from tests.small_problems import quadratic, small_network

ETA = 0.1
EDGE = 2 / ETA


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def valley(drift):
    """½ y x² − c y."""
    return landscapes.sharpening_valley(drift).objective


def matrix_valley(drift):
    """½ xᵀYx − ⟨C, Y⟩, θ = (x_1, x_2, Y_11, √2 Y_12, Y_22)."""

    def value(p):
        mixed = p[..., 3] / math.sqrt(2)
        matrix = torch.stack([p[..., 2], mixed, mixed, p[..., 4]], -1).unflatten(-1, (2, 2))
        x = p[..., :2, None]
        return 0.5 * (x.mT @ matrix @ x)[..., 0, 0] - (drift * matrix).sum((-1, -2))

    return Objective(value, dimension=5)


# The pair map


def test_the_pair_map_is_gradient_descent_on_two_points():
    objective = small_network()
    centre = objective.initial(0)
    half = 0.2 * objective.initial(1)
    runs = [
        gradient_descent(objective, centre + sign * half, step_size=0.7, iterations=12).points
        for sign in (1, -1)
    ]
    for k in range(13):
        flip = (-1) ** k
        torch.testing.assert_close(centre + flip * half, runs[0][k], rtol=0, atol=1e-12)
        torch.testing.assert_close(centre - flip * half, runs[1][k], rtol=0, atol=1e-12)
        centre, half = pair_map(objective, centre, half, 0.7)


# Closed forms on quadratics


@pytest.mark.parametrize("order", [1, 2])
def test_multipliers_on_a_quadratic(order):
    products = vector(0.3, 1.2, 1.9, 2.0, 2.2)
    start, half = vector(1, 1, 1, 1, 1), vector(1, 2, 3, 4, 5)
    flow = pair_flow(
        quadratic(*(products / ETA).tolist()),
        start,
        step_size=ETA,
        iterations=3,
        order=order,
        half=half,
        rounding=0,
        substeps=40,
        method="rk4",
    )
    second = 0.5 * (order == 2)
    rate = products - 2
    expected = half * torch.exp(3 * (rate - second * rate**2))
    torch.testing.assert_close(flow.halves[-1], expected, rtol=1e-6, atol=1e-9)
    expected = start * torch.exp(-3 * (products + second * products**2))
    torch.testing.assert_close(flow.points[-1], expected, rtol=1e-5, atol=1e-9)
    assert flow.counts["hessian_vector_products"] == (order == 2) * flow.counts["gradients"]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("product", [2.0, 2.5, 3.4])
def test_resummed_growth_is_exact_on_a_quadratic(order, product):
    flow = pair_flow(
        quadratic(product / ETA),
        vector(0),
        step_size=ETA,
        iterations=4,
        order=order,
        resummed=True,
        half=vector(1),
        rounding=0,
        substeps=20,
        method="rk4",
    )
    descent = gradient_descent(quadratic(product / ETA), vector(1), step_size=ETA, iterations=4)
    torch.testing.assert_close(flow.iterates, descent.points, rtol=1e-5, atol=1e-9)


def test_resumming_changes_nothing_below_the_edge():
    runs = [
        pair_flow(
            quadratic(19.0, 3.0),
            vector(0, 0),
            step_size=ETA,
            iterations=3,
            resummed=resummed,
            half=vector(1, 1),
            rounding=0,
        )
        for resummed in (False, True)
    ]
    assert torch.equal(runs[0].halves, runs[1].halves)


def test_without_an_oscillation_it_is_the_flow_of_barrett_and_dherin():
    objective = small_network()
    start = objective.initial(0)
    flow = pair_flow(objective, start, step_size=0.2, iterations=10, method="rk4")
    other = barrett_dherin_flow(objective, start, flow.times, step_size=0.2)
    assert flow.path.distance_to(other).max() < 1e-5
    assert flow.amplitudes.max() < 1e-14
    assert "never reached" in flow.remarks[0]
    torch.testing.assert_close(flow.mean_losses, flow.path.losses)


# Orders: in the valley the map is id + hΦ with h = η√(2c), exactly


@pytest.mark.parametrize("resummed", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_order_over_a_fixed_time(order, resummed):
    sizes, errors = [0.04, 0.02, 0.01], []
    for h in sizes:
        drift = 0.5 * (h / ETA) ** 2
        x, y = 0.5 * math.sqrt(2 * drift), EDGE  # ξ = ½, ζ = 0
        count = round(2 / h)
        descent = gradient_descent(valley(drift), vector(x, y), step_size=ETA, iterations=count)
        flow = pair_flow(
            valley(drift),
            vector(0, y),
            step_size=ETA,
            iterations=count,
            order=order,
            resummed=resummed,
            half=vector(x, 0),
            rounding=0,
        )
        scaled = (flow.iterates - descent.points).norm(dim=-1) / math.sqrt(2 * drift)
        errors.append(scaled.max().item())
    assert fitted_slope(sizes, errors) == pytest.approx(order, abs=0.2)


def test_follows_the_spiral_of_descent():
    drift, x, y = 0.05, 0.3, EDGE - 0.4
    descent = gradient_descent(valley(drift), vector(x, y), step_size=ETA, iterations=300)
    found = {}
    for order in (1, 2):
        flow = pair_flow(
            valley(drift),
            vector(0, y),
            step_size=ETA,
            iterations=300,
            order=order,
            half=vector(x, 0),
            rounding=0,
        )
        found[order] = (flow.points[:, 1] - descent.points[:, 1]).abs().mean().item()
    assert found[2] < 1e-3 and found[1] > 30 * found[2]


def test_the_first_order_flow_keeps_its_first_integral_and_averages_to_the_central_flow():
    drift, x, y = 0.05, 0.2, EDGE
    flow = pair_flow(
        valley(drift),
        vector(0, y),
        step_size=ETA,
        iterations=600,
        order=1,
        half=vector(x, 0),
        rounding=0,
        method="rk4",
    )
    x, y = flow.amplitudes, flow.points[:, 1]
    energy = (y - EDGE).square() / 2 + x.square() / 4 - drift * x.log()
    assert (energy - energy[0]).abs().max() < 1e-8
    # From one crossing of y = 2/η upwards to the last: whole periods.
    ups = ((y[:-1] < EDGE) & (y[1:] >= EDGE)).nonzero()[:, 0]
    whole = slice(int(ups[0]), int(ups[-1]))
    assert len(ups) >= 2
    assert x[whole].square().mean().item() == pytest.approx(2 * drift, rel=0.02)
    assert y[whole].mean().item() == pytest.approx(EDGE, rel=1e-3)


def test_two_equal_critical_eigenvalues_need_one_vector():
    drift = torch.tensor([[0.06, 0.02], [0.02, 0.04]], dtype=torch.float64)
    start = vector(0, 0, EDGE - 0.1, 0, EDGE - 0.1)
    half = vector(0.2, 0.1, 0, 0, 0)
    descent = gradient_descent(matrix_valley(drift), start + half, step_size=ETA, iterations=150)
    flow = pair_flow(
        matrix_valley(drift), start, step_size=ETA, iterations=150, half=half, rounding=0
    )
    assert flow.completed
    assert (flow.iterates - descent.points).norm(dim=-1).max() < 5e-3
    turned = torch.linalg.vector_norm(descent.points[-1, 2:] - start[2:])
    assert turned > 0.1


# Rounding


def test_rounding_starts_the_oscillation_as_in_descent():
    drift, start = 0.3, vector(0.7, 0, EDGE - 2)

    def value(p):  # the valley, moved off x = 0 so that x is rounded
        z, x, y = p.unbind(-1)
        return 0.5 * y * (x - z) ** 2 - drift * y + 0 * z

    objective = Objective(value, dimension=3)
    onsets = []
    for rounding in (None, 1e-8):
        flow = pair_flow(objective, start, step_size=ETA, iterations=260, rounding=rounding, seed=1)
        onsets.append(int((flow.amplitudes > 0.1).to(torch.int8).argmax()))
    assert 0 < onsets[1] < onsets[0]
    runs = [pair_flow(objective, start, step_size=ETA, iterations=20, seed=n) for n in (1, 1, 2)]
    assert torch.equal(runs[0].halves, runs[1].halves)
    assert not torch.equal(runs[0].halves, runs[2].halves)


def test_an_oscillation_that_underflows_stops_with_the_remedy():
    flow = pair_flow(
        quadratic(12.0, 1.0),
        vector(0, 1),
        step_size=ETA,
        iterations=800,
        half=vector(1e-3, 0),
        rounding=0,
    )
    assert flow.status.startswith("stopped at t = ") and "decayed to nothing" in flow.status
    assert "rounding > 0" in flow.status
    assert flow.points.isfinite().all()


# Bad input


@pytest.mark.parametrize(
    ("order", "method", "substeps", "fewest"),
    [(2, "heun", 2, 3), (1, "heun", 1, 2), (2, "rk4", 1, 2)],
)
def test_an_integrator_at_its_own_edge_is_refused(order, method, substeps, fewest):
    with pytest.raises(ValueError, match=rf"own edge of stability.*take at least {fewest}"):
        pair_flow(
            valley(0.05),
            vector(0, 19),
            step_size=ETA,
            iterations=2,
            order=order,
            method=method,
            substeps=substeps,
        )


def test_the_limit_is_where_the_method_loses_stability():
    for scheme in METHODS.values():
        for rate, stable in ((0.999 * scheme.limit, True), (1.001 * scheme.limit, False)):
            slopes = []
            for row in scheme.rows:
                slopes.append(-rate * (1 + sum(w * s for w, s in zip(row, slopes, strict=True))))
            growth = 1 + sum(w * s for w, s in zip(scheme.weights, slopes, strict=True))
            assert (abs(growth) <= 1) == stable


def test_too_sharp_on_the_way_stops_with_the_place():
    flow = pair_flow(
        valley(0.3),
        vector(0, 19.0),
        step_size=ETA,
        iterations=400,
        half=vector(1e-100, 0),
        rounding=0,
        substeps=3,
    )
    assert flow.status.startswith("stopped at t = ") and "at least 4 substeps" in flow.status
    assert flow.products[-1] < 2.62  # x + x²/2 = 6 at x = 2.606


def test_kinks_are_remarked():
    objective = small_network(activation="relu")
    flow = pair_flow(objective, objective.initial(0), step_size=0.1, iterations=3)
    assert any("kinks" in remark for remark in flow.remarks)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step_size": 0}, "step_size"),
        ({"order": 3}, "order"),
        ({"method": "euler"}, "method"),
        ({"rounding": -1}, "rounding"),
        ({"rounding": 0}, "rounding = 0"),
        ({"half": vector(0)}, "half"),
        ({"start": vector(0, math.nan)}, "start"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_bad_arguments(change, named):
    arguments = {"start": vector(0, 1), "step_size": ETA, "iterations": 2} | change
    with pytest.raises(ValueError, match=named):
        pair_flow(valley(0.1), **arguments)


def test_a_batch_is_its_members():
    starts = torch.stack([vector(0, 19.5), vector(0, 19.8)])
    halves = torch.stack([vector(0.3, 0), vector(0.1, 0)])
    options = {"step_size": ETA, "iterations": 20, "rounding": 0}
    both = pair_flow(valley(0.05), starts, half=halves, **options)
    for i in range(2):
        one = pair_flow(valley(0.05), starts[i], half=halves[i], **options)
        torch.testing.assert_close(both.points[:, i], one.points)
        torch.testing.assert_close(both.iterates[:, i], one.iterates)
        torch.testing.assert_close(both.products[:, i], one.products)


# The bound of the book: any curve of pairs is a curve of points beside GD


def test_distance_bound_holds_over_a_burst():
    drift, start, half = 0.05, vector(0, EDGE), vector(0.3, 0)
    descent = gradient_descent(valley(drift), start + half, step_size=ETA, iterations=60)
    flow = pair_flow(
        valley(drift), start, step_size=ETA, iterations=60, half=half, rounding=0, method="rk4"
    )
    points = flow.iterates
    defects = points[1:] - points[:-1] + ETA * valley(drift).gradient(points[:-1])

    def curvature(k, radius):
        x, y = points[k].tolist()
        root = math.hypot(y, 2 * x)
        change = 2 / math.sqrt(3) * radius  # ‖D³f‖ = 2/√3
        return (y - root) / 2 - change, (y + root) / 2 + change

    bound = tracking_bound(ETA, defects.norm(dim=-1), curvature)
    distance = (descent.points - points).norm(dim=-1)
    assert (distance <= bound + 1e-13).all()
    assert bound[-1] < 50 * distance.max()
