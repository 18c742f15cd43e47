import itertools
import math

import pytest
import torch

from gfgd import networks
from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.flow import gradient_flow
from gfgd.large_steps.modified import (
    MODIFIED_FLOWS,
    _analytic_derivatives,
    barrett_dherin_flow,
    defect_constants,
    modified_objective,
    next_order_flow,
    one_step_defects,
    principal_flow,
    second_order_flow,
    stochastic_flow,
    tracking_bound,
)
from gfgd.objective import Objective
from gfgd.problems import landscapes
from tests.small_problems import quadratic, quartic, small_network

EIGENVALUES = torch.tensor([3.0, 0.2, 0.0, -0.5], dtype=torch.float64)
START = torch.tensor([1.0, 2.0, 0.7, -0.1], dtype=torch.float64)
TIMES = torch.linspace(0, 2, 5, dtype=torch.float64)
ETA = 0.1
LOOSE = {"rtol": 1e-6, "atol": 1e-8, "estimate_error": False}


def deep_linear_network():
    """½‖W_3 W_2 W_1 − Λ‖² for one output and four inputs."""
    inputs = math.sqrt(4.0) * torch.eye(4, dtype=torch.float64)  # whitened: (1/N) XᵀX = I
    targets = inputs @ torch.tensor([[0.8], [-0.5], [0.3], [0.1]], dtype=torch.float64)
    objective = networks.fully_connected(
        inputs, targets, hidden=(3, 3), activation="linear", loss="half_squared_error"
    )
    return objective, objective.initial(3)


def smooth_problems():
    tanh = small_network()
    return {
        "valley": (
            landscapes.landscape("valley").objective,
            torch.tensor([-1.0, 0.5], dtype=torch.float64),
        ),
        "tanh": (tanh, tanh.initial(0)),
        "deep linear": deep_linear_network(),
    }


def distances_to_descent(flow, objective, start, sizes, horizon=1.0, **options):
    """Largest distance from GD for each η; the flow takes `step_size`."""
    found = []
    for size in sizes:
        descent = gradient_descent(
            objective, start, step_size=size, iterations=round(horizon / size)
        )
        followed = flow(objective, start, descent.times, step_size=size, **options)
        assert followed.completed
        found.append(descent.distance_to(followed).max().item())
    return found


def plain(objective, start, times, *, step_size, **options):
    return gradient_flow(objective, start, times, **options)


def real_principal_flow(*arguments, **options):
    return principal_flow(*arguments, **options).path


# Closed forms on quadratics


@pytest.mark.parametrize(
    ("flow", "rate"),
    [
        (barrett_dherin_flow, lambda x: x * (1 + ETA * x / 2)),
        (next_order_flow, lambda x: x * (1 + ETA * x / 2 + (ETA * x) ** 2 / 3)),
        (real_principal_flow, lambda x: -torch.log(1 - ETA * x) / ETA),
    ],
)
def test_closed_form_on_a_quadratic(flow, rate):
    found = flow(quadratic(*EIGENVALUES.tolist()), START, TIMES, step_size=ETA)
    exact = START * torch.exp(-rate(EIGENVALUES) * TIMES[:, None])
    assert found.completed
    error = (found.points - exact).norm(dim=-1)
    assert error.max() < 1e-6
    assert (error <= found.error + 1e-12).all()
    torch.testing.assert_close(found.losses, 0.5 * (EIGENVALUES * found.points**2).sum(-1))


def test_principal_flow_passes_through_every_iterate_of_descent_on_a_quadratic():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix = root + root.T
    objective = Objective(lambda p: 0.5 * ((p @ matrix) * p).sum(-1), dimension=4)
    size = 0.9 / torch.linalg.eigvalsh(matrix).max().item()
    descent = gradient_descent(objective, START, step_size=size, iterations=10)
    flow = principal_flow(objective, START, descent.times, step_size=size, rtol=1e-9, atol=1e-11)
    assert not flow.imaginary.any()
    assert flow.path.distance_to(descent).max() < 1e-7 * descent.points.norm(dim=-1).max()


@pytest.mark.parametrize("velocity", ["slow", "gradient", "rest", "tensor"])
def test_second_order_flow_has_its_closed_form_on_a_quadratic(velocity):
    values = torch.tensor([3.0, 8.0, -0.5], dtype=torch.float64)  # 2ηλ below and above 1
    start = torch.tensor([1.0, 2.0, -0.1], dtype=torch.float64)
    slopes = {
        "slow": -values * (1 + ETA * values / 2) * start,
        "gradient": -values * start,
        "rest": torch.zeros(3, dtype=torch.float64),
        "tensor": torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64),
    }
    given = slopes["tensor"] if velocity == "tensor" else velocity
    found = second_order_flow(
        quadratic(*values.tolist()), start, TIMES, step_size=ETA, velocity=given
    )
    root = torch.sqrt((1 - 2 * ETA * values).to(torch.complex128))
    fast, slow = (-1 - root) / ETA, (-1 + root) / ETA
    share = (slopes[velocity] - slow * start) / (fast - slow)
    exact = share * torch.exp(fast * TIMES[:, None]) + (start - share) * torch.exp(
        slow * TIMES[:, None]
    )
    assert exact.imag.abs().max() < 1e-12
    torch.testing.assert_close(found.points, exact.real, rtol=0, atol=1e-6)
    assert found.points.shape == (5, 3)
    assert found.counts["hessian_vector_products"] == (velocity == "slow")


# Orders of agreement with gradient descent


@pytest.mark.parametrize(
    ("flow", "order"),
    [
        (plain, 1),
        (barrett_dherin_flow, 2),
        (second_order_flow, 2),
        (next_order_flow, 3),
    ],
)
def test_order_on_a_quadratic(flow, order):
    sizes = [0.05, 0.035, 0.025]
    found = distances_to_descent(
        flow, quadratic(*EIGENVALUES.tolist()), START, sizes, rtol=1e-9, atol=1e-11
    )
    assert fitted_slope(sizes, found) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", ["valley", "tanh", "deep linear"])
@pytest.mark.parametrize(
    ("flow", "order"),
    [
        (plain, 1),
        (barrett_dherin_flow, 2),
        (real_principal_flow, 2),
        (second_order_flow, 2),
        (next_order_flow, 3),
    ],
)
def test_order(name, flow, order):
    objective, start = smooth_problems()[name]
    sizes = {"valley": [0.004, 0.002, 0.001], "tanh": [0.04, 0.02], "deep linear": [0.01, 0.005]}
    options = {"rtol": 1e-8, "atol": 1e-10, "estimate_error": False}
    found = distances_to_descent(flow, objective, start, sizes[name], horizon=0.4, **options)
    assert fitted_slope(sizes[name], found) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("velocity", "order"), [("slow", 2), ("gradient", 2), ("rest", 1)])
def test_the_initial_velocity_decides_the_order(velocity, order):
    objective, start = deep_linear_network()
    sizes = [0.02, 0.01, 0.005]
    found = distances_to_descent(
        second_order_flow, objective, start, sizes, velocity=velocity, **LOOSE
    )
    assert fitted_slope(sizes, found) == pytest.approx(order, abs=0.2)


def test_another_velocity_displaces_the_slow_motion_by_half_a_step_of_it():
    objective, start = quadratic(1.0), torch.tensor([1.0], dtype=torch.float64)
    size, times = 1e-3, torch.tensor([0.0, 0.02], dtype=torch.float64)  # e^{−2t/η} = e^{−40}
    ends = {
        name: second_order_flow(objective, start, times, step_size=size, velocity=name).points[-1]
        for name in ("slow", "rest")
    }
    slow_velocity = -(1 + size / 2)
    shift = (ends["rest"] - ends["slow"]).item()
    assert shift == pytest.approx(-size / 2 * slow_velocity, rel=0.05)


# Fields


def test_next_order_field_in_one_variable():
    objective = Objective(lambda p: p.pow(4).sum(-1) / 4, dimension=1)
    x = torch.tensor([1.3], dtype=torch.float64)
    gradient, second, third = x**3, 3 * x**2, 6 * x
    expected = -(
        gradient
        + ETA / 2 * second * gradient
        + ETA**2 * (second**2 * gradient / 3 + third * gradient**2 / 12)
    )
    found = MODIFIED_FLOWS["next_order"].field(objective, x, ETA)
    torch.testing.assert_close(found, expected)


def test_flows_take_many_starts_at_once():
    starts = torch.tensor([[1.0, 0.5], [0.3, -0.2]], dtype=torch.float64)
    for flow in (barrett_dherin_flow, next_order_flow, second_order_flow):
        together = flow(quartic(), starts, TIMES, step_size=ETA)
        assert together.losses.shape == together.error.shape == (5, 2)
        alone = flow(quartic(), starts[1], TIMES, step_size=ETA)
        torch.testing.assert_close(together.points[:, 1], alone.points, rtol=0, atol=1e-6)


class Counting(Objective):
    """An objective that counts what it is asked for."""

    def __init__(self, base):
        super().__init__(*base.terms, dimension=base.dimension)
        self.calls = {"gradients": 0, "hessian_vector_products": 0, "third_derivatives": 0}

    def gradient(self, point):
        self.calls["gradients"] += 1
        return super().gradient(point)

    def hessian_vector_product(self, point, vector):
        self.calls["hessian_vector_products"] += 1
        return super().hessian_vector_product(point, vector)

    def third_derivative(self, point, first, second):
        self.calls["third_derivatives"] += 1
        return super().third_derivative(point, first, second)


@pytest.mark.parametrize(
    "flow", [barrett_dherin_flow, next_order_flow, real_principal_flow, second_order_flow]
)
def test_counts_are_what_was_called(flow):
    objective = Counting(quartic())
    start = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = flow(objective, start, TIMES, step_size=ETA, estimate_error=True)
    for name, called in objective.calls.items():
        assert called == found.counts[name] + found.counts[f"estimate_{name}"]
    assert found.counts["gradients"] >= found.counts["evaluations"]


# The modified objective


def test_gradient_flow_of_the_modified_objective_is_the_flow_of_barrett_and_dherin():
    objective, start = deep_linear_network()
    modified = modified_objective(objective, ETA)
    field = MODIFIED_FLOWS["barrett_dherin"].field
    torch.testing.assert_close(modified.gradient(start), -field(objective, start, ETA))
    one = gradient_flow(modified, start, TIMES)
    other = barrett_dherin_flow(objective, start, TIMES, step_size=ETA)
    assert one.distance_to(other).max() < 1e-6
    assert (one.losses.diff() < 0).all()


def test_modified_objective_on_a_batch_and_with_several_terms():
    parts = [quartic().terms[0], quadratic(1.0, -0.5).terms[0]]
    objective = Objective(*parts, dimension=2)
    points = torch.tensor([[1.0, 0.5], [0.3, -0.2]], dtype=torch.float64)
    modified = modified_objective(objective, ETA)
    expected = objective.value(points) + ETA / 4 * objective.gradient(points).square().sum(-1)
    torch.testing.assert_close(modified.value(points), expected)
    assert not modified.value(points).requires_grad
    vector = torch.tensor([0.2, -1.0], dtype=torch.float64)
    h = 1e-5
    ahead, behind = modified.gradient(points + h * vector), modified.gradient(points - h * vector)
    product = modified.hessian_vector_product(points, vector)
    torch.testing.assert_close(product, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        modified_objective(objective, 0).value(points), objective.value(points)
    )


def test_modified_objective_of_a_linear_function():
    objective = Objective(lambda p: 3 * p.sum(-1), dimension=2)
    point = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert modified_objective(objective, ETA).value(point) == pytest.approx(9 + ETA / 4 * 18)
    torch.testing.assert_close(
        modified_objective(objective, ETA).gradient(point), objective.gradient(point)
    )


# Stochastic gradient descent


def minibatches():
    """Three quadratics that do not commute, with different minima: A_b, a_b, f_b."""
    generator = torch.Generator().manual_seed(1)
    roots = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    matrices = roots @ roots.mT
    centres = torch.randn(3, 2, generator=generator, dtype=torch.float64)

    def part(matrix, centre):
        return Objective(
            lambda p: 0.5 * (((p - centre) @ matrix) * (p - centre)).sum(-1), dimension=2
        )

    parts = [part(*pair) for pair in zip(matrices, centres, strict=True)]
    return matrices, centres, parts


def test_stochastic_flow_has_its_closed_form_on_quadratics():
    matrices, centres, parts = minibatches()
    stretched = matrices + ETA / 2 * matrices @ matrices
    generator = stretched.mean(0)
    rest = torch.linalg.solve(generator, (stretched @ centres[..., None]).mean(0))[:, 0]
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    found = stochastic_flow(parts, start, TIMES, step_size=ETA)
    exact = torch.stack(
        [rest + torch.linalg.matrix_exp(-time * generator) @ (start - rest) for time in TIMES]
    )
    torch.testing.assert_close(found.points, exact, rtol=0, atol=1e-6)
    losses = torch.stack([part.value(found.points) for part in parts]).mean(0)
    torch.testing.assert_close(found.losses, losses)
    assert found.counts["hessian_vector_products"] == 3 * found.counts["evaluations"]


def test_one_minibatch_is_the_flow_of_barrett_and_dherin():
    objective, start = deep_linear_network()
    one = stochastic_flow([objective], start, TIMES, step_size=ETA)
    other = barrett_dherin_flow(objective, start, TIMES, step_size=ETA)
    torch.testing.assert_close(one.points, other.points)


def test_the_mean_over_all_orders_of_an_epoch_is_third_order_from_the_stochastic_flow():
    _, _, parts = minibatches()
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    sizes, from_flow, from_plain = [0.02, 0.01, 0.005], [], []
    for size in sizes:
        ends = []
        for order in itertools.permutations(parts):
            point = start
            for part in order:
                point = point - size * part.gradient(point)
            ends.append(point)
        times = torch.tensor([0.0, 3 * size], dtype=torch.float64)
        mean = torch.stack(ends).mean(0)
        tight = {"rtol": 1e-10, "atol": 1e-12}
        flow = stochastic_flow(parts, start, times, step_size=size, **tight)
        whole = Objective(*[t for p in parts for t in p.terms], dimension=2)
        slower = gradient_flow(whole, start, times / 3, **tight)
        from_flow.append((mean - flow.points[-1]).norm().item())
        from_plain.append((mean - slower.points[-1]).norm().item())
    assert fitted_slope(sizes, from_flow) == pytest.approx(3, abs=0.2)
    assert fitted_slope(sizes, from_plain) == pytest.approx(2, abs=0.2)


# Statuses


@pytest.mark.parametrize("product", [1.2, 1.5, 1.9, 2.1])
def test_principal_flow_is_complex_past_one_and_still_exact(product):
    size = product / 12.0
    halves = torch.arange(9, dtype=torch.float64) * size / 2
    flow = principal_flow(
        quadratic(1.0, 12.0), START[:2], halves, step_size=size, rtol=1e-9, atol=1e-11
    )
    assert flow.completed
    factors = 1 - size * torch.tensor([1.0, 12.0], dtype=torch.float64)
    # In the middle of a step it has turned by a right angle along the steep direction.
    expected = START[:2] * factors.to(torch.complex128) ** torch.arange(0, 4.5, 0.5)[:, None]
    torch.testing.assert_close(flow.points, expected, rtol=0, atol=1e-6)
    descent = gradient_descent(quadratic(1.0, 12.0), START[:2], step_size=size, iterations=4)
    torch.testing.assert_close(flow.path.points[::2], descent.points, rtol=0, atol=1e-6)
    assert (flow.points[-1, 1].abs() > flow.points[0, 1].abs()) == (product > 2)


def test_derivatives_at_complex_points():
    # f = x⁴/4 + x²y: ∇f = (x³ + 2xy, x²), H = [[3x² + 2y, 2x], [2x, 0]], for complex x and y too.
    point = torch.tensor([0.4 - 0.7j, 0.2 + 0.5j], dtype=torch.complex128)
    gradient, hessian = _analytic_derivatives(quartic(), point)
    x, y = point
    torch.testing.assert_close(gradient, torch.stack([x**3 + 2 * x * y, x**2]))
    rows = [torch.stack([3 * x**2 + 2 * y, 2 * x]), torch.stack([2 * x, 0 * x])]
    torch.testing.assert_close(hessian, torch.stack(rows))


def test_principal_flow_turns_complex_on_its_way_and_follows_descent():
    # Out of the saddle of ¼θ⁴ − ½θ² to θ = 1, where ηλ = 2η = 1.2.
    objective = Objective(lambda p: (p.pow(4) / 4 - p.square() / 2).sum(-1), dimension=1)
    start, size = torch.tensor([0.1], dtype=torch.float64), 0.6
    descent = gradient_descent(objective, start, step_size=size, iterations=12)
    options = {"step_size": size, **LOOSE}
    flow = principal_flow(objective, start, descent.times, **options)
    other = barrett_dherin_flow(objective, start, descent.times, **options)
    assert flow.completed and flow.imaginary.abs().max() > 1e-3
    assert descent.distance_to(flow.path).mean() < descent.distance_to(other).mean()


@pytest.mark.parametrize(
    ("term", "cause"),
    [
        (lambda p: 6 * torch.where(p > 0, p, -p).square().sum(-1), "takes no complex numbers"),
        (lambda p: 6 * (p * p.conj()).sum(-1), "not analytic"),
    ],
)
def test_principal_flow_needs_an_analytic_function_where_it_turns_complex(term, cause):
    objective = Objective(term, dimension=1)
    start = torch.ones(1, dtype=torch.float64)
    real = principal_flow(objective, start, TIMES, step_size=0.05)
    assert real.completed and not real.imaginary.any()  # ηλ = 0.6
    found = principal_flow(objective, start, TIMES, step_size=ETA)
    assert not found.completed and cause in found.status


def test_principal_flow_stops_at_the_logarithm_of_zero():
    found = principal_flow(quadratic(10.0, 1.0), START[:2], TIMES, step_size=ETA)
    assert "ηλ = 1" in found.status


def test_a_flow_that_runs_off_says_when_and_what_to_try():
    # θ' = θ³ − (3η/2) θ⁵ + (7η²/2) θ⁷ is infinite after a finite time.
    hill = Objective(lambda p: -p.pow(4).sum(-1) / 4, dimension=1)
    start = torch.tensor([1.0], dtype=torch.float64)
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    found = next_order_flow(hill, start, times, step_size=ETA)
    assert not found.completed
    assert found.points.isfinite().all()
    assert found.times.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert "stopped at t = 0.49" in found.status and "runs off to infinity" in found.status
    assert "smaller step size" in found.status


def test_the_modified_objective_holds_back_what_runs_off():
    # θ' = θ³ − (3η/2) θ⁵ rests at θ² = 2/(3η), and f is unbounded below.
    hill = Objective(lambda p: -p.pow(4).sum(-1) / 4, dimension=1)
    start = torch.tensor([1.0], dtype=torch.float64)
    found = barrett_dherin_flow(hill, start, TIMES, step_size=ETA)
    assert found.completed
    assert found.points[-1].item() ** 2 == pytest.approx(2 / (3 * ETA), rel=1e-6)


def test_too_few_evaluations_are_a_status():
    objective, start = deep_linear_network()
    found = barrett_dherin_flow(objective, start, TIMES, step_size=ETA, max_evaluations=10)
    assert "max_evaluations" in found.status
    assert found.times[0] == 0


def test_flows_follow_where_descent_diverges():
    steep, start = quadratic(1.0, 30.0), START[:2]  # ηλmax = 3
    descent = gradient_descent(steep, start, step_size=ETA, iterations=20)
    assert descent.losses[-1] > 1e6
    for flow in (barrett_dherin_flow, next_order_flow, second_order_flow):
        found = flow(steep, start, TIMES, step_size=ETA, **LOOSE)
        assert found.completed
        assert found.losses[-1] < found.losses[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, s: barrett_dherin_flow(f, s, TIMES, step_size=0), "step_size = 0"),
        (lambda f, s: next_order_flow(f, s * math.nan, TIMES, step_size=ETA), "start"),
        (lambda f, s: principal_flow(f, s[None], TIMES, step_size=ETA), "start has shape"),
        (lambda f, s: second_order_flow(f, s, TIMES, step_size=ETA, velocity="slwo"), "'slow'"),
        (lambda f, s: second_order_flow(f, s, TIMES, step_size=ETA, velocity=s[:1]), "velocity"),
        (lambda f, s: stochastic_flow([], s, TIMES, step_size=ETA), "at least one minibatch"),
        (
            lambda f, s: stochastic_flow([f, quadratic(1.0)], s, TIMES, step_size=ETA),
            "dimensions",
        ),
        (lambda f, s: modified_objective(f, -1), "step_size = -1"),
        (lambda f, s: one_step_defects(f, s[None], ETA), "points = 1"),
        (lambda f, s: tracking_bound(ETA, -s, lambda k, r: (0.0, 1.0)), "defects"),
        (lambda f, s: tracking_bound(ETA, s.abs(), lambda k, r: (2.0, 1.0)), "curvature"),
    ],
)
def test_mistakes_are_named(call, message):
    start = torch.tensor([1.0, 0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        call(quartic(), start)


def test_principal_flow_refuses_many_parameters():
    large = Objective(lambda p: p.square().sum(-1), dimension=1001)
    with pytest.raises(ValueError, match="next_order_flow"):
        principal_flow(large, torch.zeros(1001, dtype=torch.float64), TIMES, step_size=ETA)


# Defects and the bound


@pytest.mark.parametrize(
    ("flow", "order"),
    [(plain, 2), (barrett_dherin_flow, 3), (next_order_flow, 4)],
)
def test_order_of_the_defect(flow, order):
    objective, start = deep_linear_network()
    sizes, found = [0.02, 0.01, 0.005], []
    for size in sizes:
        times = torch.tensor([0.0, size], dtype=torch.float64)
        run = flow(objective, start, times, step_size=size, rtol=1e-11, atol=1e-13)
        found.append(one_step_defects(objective, run.points, size).norm().item())
    assert fitted_slope(sizes, found) == pytest.approx(order, abs=0.2)


def test_defect_constants_bound_the_defect_and_are_sharp():
    for objective, start in smooth_problems().values():
        size = 0.02
        times = torch.arange(11, dtype=torch.float64) * size / 10
        run = barrett_dherin_flow(objective, start, times, step_size=size, rtol=1e-11, atol=1e-13)
        defect = one_step_defects(objective, run.points[[0, -1]], size).norm().item()
        bound = size**3 * defect_constants(objective, run.points, size).max().item()
        assert defect <= bound * (1 + 1e-6)
        assert defect >= bound / 6  # the triangle inequality, and the supremum over the step


def test_defect_is_the_integral_of_the_lemma():
    objective, start = smooth_problems()["valley"]
    size = 0.01
    gauss = 0.5 * (1 + torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64))
    weights = torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64) / 18
    nodes = size * gauss
    times = torch.cat([torch.zeros(1), nodes, torch.tensor([size])]).double()
    run = barrett_dherin_flow(objective, start, times, step_size=size, rtol=1e-11, atol=1e-13)
    inner = run.points[1:-1]
    gradient = objective.gradient(inner)
    once = objective.hessian_vector_product(inner, gradient)
    twice = objective.hessian_vector_product(inner, once)
    velocity = gradient + size / 2 * once
    turning = objective.third_derivative(inner, gradient, velocity)
    turning += objective.hessian_vector_product(
        inner, objective.hessian_vector_product(inner, velocity)
    )
    kernel = (nodes * (size - nodes))[:, None] / 2 * turning
    kernel += size / 2 * (size - nodes)[:, None] * twice
    expected = size * (weights[:, None] * kernel).sum(0)
    found = one_step_defects(objective, run.points[[0, -1]], size)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_bound_is_attained_on_a_line():
    for eigenvalue in (-0.8, 0.5, 25.0):  # stretched, contracted, past stability
        objective = quadratic(eigenvalue)
        start = torch.tensor([1.0], dtype=torch.float64)
        descent = gradient_descent(objective, start, step_size=ETA, iterations=20)
        flow = gradient_flow(objective, start, descent.times)
        defects = one_step_defects(objective, flow.points, ETA)[:, 0]
        bound = tracking_bound(ETA, defects.abs(), lambda k, r, at=eigenvalue: (at, at))
        distance = descent.distance_to(flow)
        if eigenvalue < 0:
            torch.testing.assert_close(bound, distance, rtol=1e-9, atol=1e-12)
        assert (distance <= bound * (1 + 1e-9)).all()


def test_bound_holds_where_the_curvature_is_bounded_everywhere():
    known = landscapes.landscape("bent_saddle")  # λ = −1, Λ = 1 for all θ
    start = torch.tensor([1.0, 0.1], dtype=torch.float64)
    found = {}
    for flow in (plain, barrett_dherin_flow):
        descent = gradient_descent(known.objective, start, step_size=ETA, iterations=50)
        curve = flow(known.objective, start, descent.times, step_size=ETA)
        defects = one_step_defects(known.objective, curve.points, ETA).norm(dim=-1)
        bound = tracking_bound(ETA, defects, lambda k, radius: (-1.0, 1.0))
        assert (descent.distance_to(curve) <= bound * (1 + 1e-9)).all()
        found[flow] = bound[-1].item()
    assert found[barrett_dherin_flow] < found[plain] / 3


def test_bound_becomes_infinite_and_not_nan():
    defects = torch.full((3000,), 1.0, dtype=torch.float64)
    bound = tracking_bound(1.0, defects, lambda k, radius: (-1.0, 1.0))
    assert bound[-1] == math.inf
    assert not bound.isnan().any()
