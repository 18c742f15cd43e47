"""Oracles: objectives whose central flow has a closed form, gradient flow, finite differences."""

import math
from functools import partial

import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.flow import gradient_flow
from gfgd.large_steps import central
from gfgd.large_steps.central import (
    StopCause,
    central_flow,
    oscillation,
    smoothed,
    time_average,
)
from gfgd.large_steps.complementarity import solve_complementarity
from gfgd.objective import Objective
from gfgd.problems import landscapes
from gfgd.trajectory import Trajectory
from tests.small_problems import quadratic, small_network

ETA = 0.1
EDGE = 2 / ETA


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def sharpening_valley(drift):
    """½ y x² − c y: y' = c until y = 2/η, then y = 2/η and the variance of x is 2c."""
    return landscapes.sharpening_valley(drift).objective


def matrix_valley(drift):
    """½ xᵀYx − ⟨C, Y⟩, θ = (x_1, x_2, Y_11, √2 Y_12, Y_22); at x = 0 Y' = C − ½Σ."""

    def value(p):
        x = p[..., :2]
        mixed = p[..., 3] / math.sqrt(2)
        matrix = torch.stack([p[..., 2], mixed, mixed, p[..., 4]], -1)
        matrix = matrix.reshape(*p.shape[:-1], 2, 2)
        quadratic_form = (x[..., None, :] @ matrix @ x[..., :, None])[..., 0, 0]
        return 0.5 * quadratic_form - (drift * matrix).sum((-1, -2))

    return Objective(value, dimension=5)


def flat(matrix):
    return vector(0, 0, matrix[0, 0], math.sqrt(2) * matrix[0, 1], matrix[1, 1])


def unflat(points):
    mixed = points[..., 3] / math.sqrt(2)
    return torch.stack([points[..., 2], mixed, mixed, points[..., 4]], -1).reshape(-1, 2, 2)


def covariance(flow):
    """Σ in the coordinates of θ."""
    return torch.einsum("tm,tmi,tmj->tij", flow.variances, flow.directions, flow.directions)


def curved_edge():
    """½ h x² − y with h = ½(y² + z²): confined to a circle, tan(φ/2) decays as e^{−t/R}."""

    def value(p):
        x, y, z = p.unbind(-1)
        return 0.25 * (y**2 + z**2) * x**2 - y

    return Objective(value, dimension=3)


@pytest.mark.parametrize("substeps", [2, 3, 8])
def test_one_critical_eigenvalue(substeps):
    drift, first = 0.3, 19.05
    flow = central_flow(
        sharpening_valley(drift),
        vector(0, first),
        step_size=ETA,
        iterations=60,
        substeps=substeps,
    )
    assert flow.completed
    exact = (first + drift * flow.times).clamp_max(EDGE)
    torch.testing.assert_close(flow.points[:, 1], exact, rtol=0, atol=1e-9)
    at_edge = flow.times > (EDGE - first) / drift + ETA
    assert at_edge.any() and not at_edge.all()
    torch.testing.assert_close(
        flow.variances[at_edge, 0], torch.full((int(at_edge.sum()),), 2 * drift).double()
    )
    assert not flow.variances[flow.times < (EDGE - first) / drift - ETA].any()
    assert not flow.variances[:, 1:].any()
    torch.testing.assert_close(flow.sharpness, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        flow.predicted_losses - flow.losses, flow.variances[:, 0] * flow.sharpness / 2
    )
    along_x = flow.directions[at_edge][:, 0, 0].abs()
    torch.testing.assert_close(along_x, torch.ones_like(along_x))


def test_time_average_of_descent_is_predicted():
    # Exactly, for GD: the mean of x² over K steps is 2c − 2(y_K − y_0)/(ηK).
    drift = 0.05
    descent = gradient_descent(
        sharpening_valley(drift), vector(0.1, 19.9), step_size=ETA, iterations=4000
    )
    x, y = descent.points.unbind(-1)
    mean = x[:-1].square().mean()
    exact = 2 * drift - 2 * (y[-1] - y[0]) / (ETA * 4000)
    assert mean.item() == pytest.approx(exact.item(), rel=1e-9)
    assert mean.item() == pytest.approx(2 * drift, rel=0.1)
    assert y.mean().item() == pytest.approx(EDGE, rel=0.01)


def test_two_critical_eigenvalues_without_coupling():
    def value(p):
        first, second, y, z = p.unbind(-1)
        return 0.5 * y * first**2 + 0.5 * z * second**2 - 0.3 * y - 0.1 * z

    flow = central_flow(
        Objective(value, dimension=4), vector(0, 0, 19.5, 19.8), step_size=ETA, iterations=40
    )
    assert flow.completed
    exact = vector(19.5, 19.8) + flow.times[:, None] * vector(0.3, 0.1)
    torch.testing.assert_close(flow.points[:, 2:], exact.clamp_max(EDGE), rtol=0, atol=1e-6)
    # Here f does not see Σ_12, so that only the diagonal is determined.
    torch.testing.assert_close(
        covariance(flow)[-1].diagonal(), vector(0.6, 0.2, 0, 0), rtol=0, atol=1e-5
    )
    assert flow.critical[-1] == 2


def test_two_critical_eigenvalues_in_a_rotated_basis():
    turn = math.pi / 7
    axes = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64
    )
    drifts, first = vector(0.3, 0.1), vector(19.3, 19.8)
    objective = matrix_valley(axes @ torch.diag(drifts) @ axes.T)
    start = flat(axes @ torch.diag(first) @ axes.T)
    flow = central_flow(objective, start, step_size=ETA, iterations=40)
    assert flow.completed and flow.residuals.max() < 1e-8
    found = axes.T @ unflat(flow.points) @ axes
    exact = torch.diag_embed((first + flow.times[:, None] * drifts).clamp_max(EDGE))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        axes.T @ covariance(flow)[-1, :2, :2] @ axes, torch.diag(2 * drifts), rtol=0, atol=1e-6
    )


def test_two_critical_eigenvalues_that_do_not_commute_with_the_drift():
    drift = torch.tensor([[0.3, 0.12], [0.12, 0.2]], dtype=torch.float64)
    start = flat(torch.diag(vector(19.9, 19.6)))
    flow = central_flow(matrix_valley(drift), start, step_size=ETA, iterations=60, substeps=3)
    assert flow.completed
    assert flow.sharpness.max() <= EDGE * (1 + 1e-6)
    # While one eigenvalue u is at the edge and the other below it: Σ = 2⟨u, Cu⟩ uuᵀ.
    one = (flow.variances > 1e-9).sum(1) == 1
    direction = flow.directions[one, 0, :2]
    expected = 2 * torch.einsum("ti,ij,tj->t", direction, drift, direction)
    assert one.sum() > 10
    torch.testing.assert_close(flow.variances[one, 0][1:], expected[1:], rtol=0.02, atol=0)
    torch.testing.assert_close(covariance(flow)[-1, :2, :2], 2 * drift, rtol=0, atol=1e-5)
    edge = torch.eye(2, dtype=torch.float64) * EDGE
    torch.testing.assert_close(unflat(flow.points)[-1], edge, rtol=0, atol=1e-5)


def test_closed_form_and_order_on_a_curved_edge():
    radius, angle = math.sqrt(2 * EDGE), 1.2
    start = radius * vector(0, math.cos(angle), math.sin(angle))
    sizes, errors = [2, 4, 8], []
    for substeps in sizes:
        flow = central_flow(
            curved_edge(), start, step_size=ETA, iterations=30, record_every=10, substeps=substeps
        )
        angles = 2 * torch.atan(math.tan(angle / 2) * torch.exp(-flow.times / radius))
        exact = radius * torch.stack([0 * angles, angles.cos(), angles.sin()], -1)
        errors.append((flow.points - exact).norm(dim=-1).max().item())
    variance = 2 * angles.cos() / radius
    torch.testing.assert_close(flow.variances[:, 0], variance, rtol=1e-2, atol=0)
    # The second stage knows the end of the step: Euler's error at 2 substeps is 4.6e-3.
    assert fitted_slope([1 / n for n in sizes], errors) == pytest.approx(2, abs=0.2)
    assert errors[0] < 5e-5
    assert flow.sharpness.max() < EDGE * (1 + 1e-9)
    assert (flow.losses.diff() < 0).all()


def test_order_at_the_moment_an_eigenvalue_arrives():
    # Straight on in y to the circle of radius √(2·edge), then along it.
    radius, angle = math.sqrt(2 * EDGE), 1.2
    inside = 0.99 * radius * vector(0, math.cos(angle), math.sin(angle))
    arrival = math.sqrt(radius**2 - inside[2] ** 2) - inside[1]
    angle = math.asin(inside[2] / radius)
    for substeps in (2, 4):
        flow = central_flow(
            curved_edge(), inside, step_size=ETA, iterations=30, record_every=5, substeps=substeps
        )
        angles = 2 * torch.atan(
            math.tan(angle / 2) * torch.exp(-(flow.times - arrival).clamp_min(0) / radius)
        )
        exact = radius * torch.stack([0 * angles, angles.cos(), angles.sin()], -1)
        exact[0] = inside
        assert (flow.points - exact).norm(dim=-1).max() < 1e-4 / substeps**2


def test_error_is_estimated_and_covers_the_true_one():
    radius, angle = math.sqrt(2 * EDGE), 1.2
    start = radius * vector(0, math.cos(angle), math.sin(angle))
    flow = central_flow(
        curved_edge(),
        start,
        step_size=ETA,
        iterations=30,
        record_every=10,
        substeps=4,
        estimate_error=True,
    )
    angles = 2 * torch.atan(math.tan(angle / 2) * torch.exp(-flow.times / radius))
    exact = radius * torch.stack([0 * angles, angles.cos(), angles.sin()], -1)
    true = (flow.points - exact).norm(dim=-1)[1:]
    assert flow.path.error[0] == 0
    ratio = flow.path.error[1:] / true
    assert ((ratio > 2) & (ratio < 4)).all()  # (4 − 1)-fold at order 2
    assert flow.counts["estimate_steps"] == 121


def test_no_estimate_where_the_coarser_run_ended():
    short = central_flow(
        sharpening_valley(0.1), vector(0, 5), step_size=ETA, iterations=2, substeps=2
    )
    long = central_flow(sharpening_valley(0.1), vector(0, 5), step_size=ETA, iterations=4)
    error = central._with_error(long, short).path.error
    assert error[:3].max() == 0 and error[3:].isnan().all()


def test_nothing_critical_is_gradient_flow():
    objective = small_network()
    start = objective.initial(0)
    flows = {
        n: central_flow(objective, start, step_size=0.2, iterations=10, substeps=n)
        for n in (2, 4, 8)
    }
    exact = gradient_flow(objective, start, flows[2].times)
    errors = [flow.path.distance_to(exact).max().item() for flow in flows.values()]
    assert fitted_slope([1 / n for n in flows], errors) == pytest.approx(2, abs=0.2)
    # GD is Euler's method at step η; nearness to it must not come from Euler's error.
    descent = gradient_descent(objective, start, step_size=0.2, iterations=10)
    assert errors[0] < 0.02 * descent.distance_to(exact).max().item()
    assert not flows[8].variances.any() and not flows[8].critical.any()
    torch.testing.assert_close(flows[8].predicted_losses, flows[8].losses)


def test_network_at_the_edge_stays_there_and_descends():
    objective = small_network()
    start = objective.initial(0)
    hessian = objective.hessian(start)
    sharpness = torch.linalg.eigvalsh(hessian)[-1].item()
    flow = central_flow(objective, start, step_size=2 / sharpness, iterations=15, substeps=4)
    assert flow.completed
    assert flow.sharpness.max() <= sharpness * (1 + 1e-3)
    assert (flow.losses.diff() < 0).all()
    dense = torch.stack([torch.linalg.eigvalsh(objective.hessian(p))[-1] for p in flow.points])
    torch.testing.assert_close(flow.sharpness, dense, rtol=1e-5, atol=0)


def test_velocity_is_the_projected_gradient():
    """By finite differences: the sharpness does not grow along θ', and θ' is tangent."""
    objective = small_network()
    # Towards larger weights the sharpness grows, so that the constraint binds.
    growing = Objective(
        lambda p: objective.terms[0](p) - 0.1 * p.square().sum(-1), dimension=objective.dimension
    )
    start = objective.initial(0)
    sharpness = torch.linalg.eigvalsh(growing.hessian(start))[-1].item()
    flow = central_flow(growing, start, step_size=2 / sharpness, iterations=1)
    assert flow.variances[0, 0] > 0
    stepper = central._Stepper(growing, sharpness, 1e-6, 0.05, 6, {"dense_below": 1000})
    velocity = stepper.state_at(start).velocity
    rates = []
    for direction in (velocity, -growing.gradient(start)):
        ahead, behind = (growing.hessian(start + h * direction) for h in (1e-3, -1e-3))
        rise = torch.linalg.eigvalsh(ahead)[-1] - torch.linalg.eigvalsh(behind)[-1]
        rates.append(rise.item() / 2e-3)
    assert rates[1] > 0.1
    assert abs(rates[0]) < 1e-4
    difference = velocity + growing.gradient(start)
    assert (velocity @ difference).item() == pytest.approx(0, abs=1e-6)


def test_matrix_free_is_dense():
    objective = small_network(hidden=(4, 4))
    start = objective.initial(1)
    sharpness = torch.linalg.eigvalsh(objective.hessian(start))[-1].item()
    options = {"step_size": 2 / sharpness, "iterations": 4, "tolerance": 1e-6}
    dense = central_flow(objective, start, dense_below=1000, **options)
    free = central_flow(objective, start, dense_below=0, **options)
    torch.testing.assert_close(free.points, dense.points, rtol=0, atol=1e-6)
    torch.testing.assert_close(free.variances, dense.variances, rtol=1e-3, atol=1e-6)


def test_counts_and_times():
    flow = central_flow(
        sharpening_valley(0.1), vector(0, 5), step_size=ETA, iterations=7, record_every=3
    )
    torch.testing.assert_close(flow.times, vector(0, 3, 6, 7) * ETA)
    assert flow.counts["gradients"] == flow.counts["steps"] == 29  # 7 · 2 · 2 stages, and the end
    assert flow.counts["third_derivatives"] == 0
    descent = gradient_descent(
        sharpening_valley(0.1), vector(0, 5), step_size=ETA, iterations=7, record_every=3
    )
    flow.path.distance_to(descent)  # the same times


def test_start_beyond_the_edge_is_refused():
    with pytest.raises(ValueError, match=r"step_size = 0.1: the sharpness at the start is 25"):
        central_flow(quadratic(25.0, 1.0), vector(1, 1), step_size=ETA, iterations=3)


def test_no_oscillation_lowers_the_sharpness_of_a_quadratic():
    with pytest.raises(
        ValueError, match=r"stopped at t = 0: .*no solution.*GD diverges too.*smaller step_size"
    ):
        central_flow(quadratic(20.5, 1.0), vector(1, 1), step_size=ETA, iterations=3)


def test_unsolved_complementarity_stops_with_place_and_remedy(monkeypatch):
    monkeypatch.setattr(
        central, "solve_complementarity", partial(solve_complementarity, tolerance=1e-30)
    )
    drift = torch.tensor([[0.3, 0.12], [0.12, 0.2]], dtype=torch.float64)
    start = flat(torch.diag(vector(19.7, 19.8)))
    flow = central_flow(matrix_valley(drift), start, step_size=ETA, iterations=100)
    assert not flow.completed
    assert flow.status.startswith("stopped at t = ")
    assert "complementarity problem of size 2" in flow.status and "substeps" in flow.status
    assert flow.cause is StopCause.NOT_SOLVED
    assert 1 < len(flow.times) < 101 and flow.points.isfinite().all()


def test_too_many_critical_eigenvalues_stop_with_a_remedy():
    drift = 0.3 * torch.eye(2, dtype=torch.float64)
    start = flat(torch.diag(vector(18.9, 18.7)))
    flow = central_flow(matrix_valley(drift), start, step_size=ETA, iterations=100, max_critical=1)
    assert "raise max_critical" in flow.status
    assert flow.cause is StopCause.TOO_MANY_CRITICAL
    assert 1 < len(flow.times) < 101


def test_unconverged_eigenpairs_stop_with_a_remedy():
    objective = small_network(hidden=(8, 6))
    with pytest.raises(ValueError, match="raise max_products"):
        central_flow(
            objective,
            objective.initial(0),
            step_size=0.1,
            iterations=2,
            max_products=2,
            dense_below=0,
        )


def test_blow_up_stops_with_the_time():
    runaway = Objective(lambda p: -p.square().square().sum(-1), dimension=1)
    flow = central_flow(runaway, vector(1.0), step_size=0.1, iterations=50)
    assert flow.status.startswith("stopped at t = ") and "not finite" in flow.status
    assert flow.cause is StopCause.NOT_FINITE
    assert flow.points.isfinite().all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step_size": 0}, "step_size"),
        ({"iterations": 0}, "iterations"),
        ({"substeps": 1}, "substeps"),
        ({"substeps": 2, "estimate_error": True}, "substeps"),
        ({"substeps": 5, "estimate_error": True}, "substeps"),
        ({"record_every": 0}, "record_every"),
        ({"max_critical": 0}, "max_critical"),
        ({"critical_within": 2}, "critical_within"),
        ({"tolerance": 0}, "tolerance"),
        ({"start": torch.zeros(2, 2, dtype=torch.float64)}, "start"),
        ({"start": vector(0, math.nan)}, "start"),
        ({"start": vector(0, 0, 0)}, "point"),
    ],
)
def test_bad_arguments(change, named):
    arguments = {"start": vector(0, 1), "step_size": ETA, "iterations": 2} | change
    with pytest.raises(ValueError, match=named):
        central_flow(sharpening_valley(0.1), **arguments)


def test_oscillation_is_the_alternating_part():
    k = torch.arange(20, dtype=torch.float64)[:, None]
    alternating = (-1) ** k * vector(0.3, -0.1)
    points = vector(1, 2) + k * vector(0.5, -0.2) + alternating
    torch.testing.assert_close(oscillation(points), alternating[1:-1])


@pytest.mark.parametrize("width", [1, 3, 7])
def test_smoothing_keeps_lines_and_removes_alternation(width):
    k = torch.arange(30, dtype=torch.float64)
    half = (width - 1) // 2
    torch.testing.assert_close(smoothed(2 - 3 * k, width), (2 - 3 * k)[half : 30 - half])
    if width > 1:
        assert smoothed((-1) ** k, width).abs().max() < 0.1
    assert smoothed((-1) ** k, 3).abs().max() < 1e-12


def test_time_average_stands_at_the_middle_of_its_window():
    k = torch.arange(11, dtype=torch.float64)
    run = Trajectory(times=k * ETA, points=k[:, None] ** 2, losses=(-1) ** k)
    average = time_average(run, 3)
    torch.testing.assert_close(average.times, run.times[1:-1])
    torch.testing.assert_close(average.points[:, 0], k[1:-1] ** 2 + 0.5)
    assert average.losses.abs().max() < 1e-12


@pytest.mark.parametrize("width", [0, 4, 13])
def test_bad_width(width):
    with pytest.raises(ValueError, match="width"):
        smoothed(torch.zeros(11), width)


def test_oscillation_needs_three_points():
    with pytest.raises(ValueError, match="points"):
        oscillation(torch.zeros(2, 3))


def test_far_below_the_edge_the_sharpness_is_not_computed_at_every_step(monkeypatch):
    objective = small_network(activation="tanh")
    start = objective.initial(0)
    options = {"step_size": 0.1, "iterations": 40, "record_every": 8, "dense_below": 0}
    flow = central_flow(objective, start, **options)
    assert flow.completed and flow.sharpness.isfinite().all() and flow.critical.max() == 0
    monkeypatch.setattr(central._Stepper, "_stages_until_critical", lambda *_: 0)
    always = central_flow(objective, start, **options)
    torch.testing.assert_close(flow.points, always.points, rtol=0, atol=0)
    torch.testing.assert_close(flow.sharpness, always.sharpness, rtol=1e-3, atol=0)
    key = "hessian_vector_products"
    assert flow.counts[key] < 0.5 * always.counts[key]


def slow_blocks(seed, blocks=50, slow=3):
    """½ Σ (u_i v_i w_i − y_i)²: three blocks leave the origin late, their Hessians decoupled."""
    generator = torch.Generator().manual_seed(seed)
    targets = 0.2 + 0.3 * torch.rand(blocks, generator=generator, dtype=torch.float64)
    targets[:slow] = vector(2.0, 2.1, 2.2)
    sizes = targets ** (1 / 3) * (0.8 + 0.4 * torch.rand(blocks, generator=generator).double())
    sizes[:slow] = 0.03 * vector(1.0, 1.1, 1.2)

    def value(p):
        first, second, third = p.split(blocks, dim=-1)
        return 0.5 * (first * second * third - targets.to(p)).square().sum(-1)

    return Objective(value, dimension=3 * blocks), sizes.repeat(3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_eigenvalues_that_enter_from_outside_are_met_or_stop_the_flow(seed):
    objective, start = slow_blocks(seed)
    edge = 4.0
    flow = central_flow(objective, start, step_size=2 / edge, iterations=36)
    true = torch.stack([torch.linalg.eigvalsh(objective.hessian(p))[-1] for p in flow.points])
    assert flow.completed and flow.cause is None
    assert true.max() < 1.05 * edge  # 1.11 where nothing looks from outside
    assert true.max() > 0.99 * edge and flow.critical[-1] == 3


def test_an_eigenvalue_that_has_risen_past_the_limit_unseen_stops_the_flow():
    # The stepper's own vectors are orthogonal to the direction of λ = 30; no check saw it before.
    values = [30.0, 15.0, *[1.0] * 80]
    stepper = central._Stepper(
        quadratic(*values),
        edge=EDGE,
        duration=0.01,
        critical_within=0.05,
        max_critical=6,
        eigenpairs={"tolerance": 1e-3, "max_products": 2000, "dense_below": 0},
        warm=torch.eye(82, dtype=torch.float64)[1:2],
    )
    with pytest.raises(
        central.CentralFlowStopError, match=r"sharpness is 30.*lower check_every"
    ) as stop:
        stepper.state_at(torch.ones(82, dtype=torch.float64), check=True)
    assert stop.value.cause is StopCause.MISSED_EIGENVALUE


def test_no_solution_is_told_from_no_success():
    # Beyond the edge on a quadratic, where the third derivative vanishes.
    flat_start = central._Stepper(
        quadratic(20.5, 1.0),
        edge=EDGE,
        duration=0.01,
        critical_within=0.05,
        max_critical=2,
        eigenpairs={"tolerance": 1e-3, "max_products": 2000, "dense_below": 60},
    )
    with pytest.raises(central.CentralFlowStopError, match="no oscillation lowers") as stop:
        flat_start.state_at(vector(1, 1))
    assert stop.value.cause is StopCause.NO_SOLUTION
