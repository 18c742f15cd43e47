"""ReLU networks up to the first switch: the truth lies inside, and no planted fault is silent."""

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from gfgd import gradient_descent, gradient_flow, networks
from gfgd.verified import (
    NotVerifiedError,
    Switch,
    enclose,
    enclosure,
    gated_network,
    smooth_enclosure,
    switches,
)
from gfgd.verified.directed import Upper
from gfgd.verified.flow_tube import Settings, tube
from gfgd.verified.gated_network import GatedNetwork
from gfgd.verified.taylor_models import TaylorModel

from .examples import digits_network

#: samples, hidden widths, activation, loss, step size, iterations
SMALL = [
    (2, (3,), "relu", "cross_entropy", 1e-3, 600),
    (10, (4,), "relu", "cross_entropy", 5e-4, 200),
    (10, (4, 4), "leaky_relu", "cross_entropy", 2e-3, 200),
    (10, (4, 3), "relu", "half_squared_error", 1e-3, 200),
]


@cache
def network(samples, hidden, activation, loss):
    return digits_network(hidden, loss, activation, samples)


def arguments(objective, point):
    """Return all preactivations of the hidden layers, in NumPy, one array a layer."""
    steep, flat = objective.activation.slopes
    value, found = objective.inputs.numpy(), []
    for weight in objective.weights(torch.as_tensor(point))[:-1]:
        found.append(value @ weight.numpy().T)
        value = np.where(found[-1] > 0, steep, flat) * found[-1]
    return found


def field(objective, point, signs):
    """Return −∇f by formulas of this file's own, with the gates' signs.

    A solver's stages look past the zero that is sought, where ReLU's field jumps.
    """
    steep, flat = objective.activation.slopes
    weights = [weight.numpy() for weight in objective.weights(torch.as_tensor(point))]
    hidden = arguments(objective, point)
    slopes = [np.where(s > 0, steep, flat) for s in signs]
    values = [objective.inputs.numpy()] + [z * s for z, s in zip(hidden, slopes, strict=True)]
    outputs, targets = values[-1] @ weights[-1].T, objective.targets.numpy()
    if targets.ndim == 1:
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        error = powers / powers.sum(1, keepdims=True) - np.eye(outputs.shape[1])[targets]
    else:
        error = outputs - targets
    error, parts = error / len(outputs), []
    for layer in range(len(weights) - 1, -1, -1):
        parts.append(-(error.T @ values[layer]).ravel())
        if layer:
            error = (error @ weights[layer]) * slopes[layer - 1]
    return np.concatenate(parts[::-1])


@cache
def first_zero(samples, hidden, activation, loss):
    """Return the first time at which a preactivation is 0, by SciPy's solver, and its gate."""
    objective = network(samples, hidden, activation, loss)
    start = objective.initial(1).numpy()
    signs = [np.sign(z) for z in arguments(objective, start)]

    def nearest(_, point):
        return min(
            float((s * z).min()) for s, z in zip(signs, arguments(objective, point), strict=True)
        )

    nearest.terminal, nearest.direction = True, -1  # type: ignore[attr-defined]
    options = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-14, "max_step": 1e-2}
    run = solve_ivp(
        lambda _, x: field(objective, x, signs), (0, 2), start, events=nearest, **options
    )
    (time,), (point,) = run.t_events[0], run.y_events[0]
    margins = [np.abs(z) for z in arguments(objective, point)]
    layer = int(np.argmin([part.min() for part in margins]))
    sample, unit = np.unravel_index(int(margins[layer].argmin()), margins[layer].shape)
    return time, switches.Gate(layer + 1, int(unit), int(sample))


def enclosed(samples, hidden, activation, loss, step_size, iterations, **options):
    objective = network(samples, hidden, activation, loss)
    start = objective.initial(1)
    options = {
        "step_size": step_size,
        "iterations": iterations,
        "keep": range(iterations),
    } | options
    return enclose(objective, start, **options)


def truth_is_inside(kind=SMALL[0]):
    found = enclosed(*kind)
    objective, step_size = network(*kind[:4]), kind[4]
    start = objective.initial(1)
    switch = found.switch
    assert switch is not None
    low, high = switch.time
    assert 0 < low < switch.earliest + Fraction(1, 10**18)
    time, gate = first_zero(*kind[:4])
    assert low - 1e-11 < time < high + 1e-11
    assert high - low < 1e-8 * high
    assert switch.gates == (gate,)
    assert switch.crossed == gate
    # All iterates up to the switch are there, unless GD's own gates change.
    assert found.iterations * found.step_size <= switch.earliest
    assert found.iterates == tuple(range(found.iterations + 1))
    run = gradient_descent(objective, start, step_size=step_size, iterations=found.iterations + 1)
    signs = [np.sign(z) for z in arguments(objective, start)]
    same = [
        all(
            (np.sign(z) == s).all() for z, s in zip(arguments(objective, point), signs, strict=True)
        )
        for point in run.points
    ]
    assert all(same[:-1])
    if (found.iterations + 1) * found.step_size <= switch.earliest:
        assert switch.descent_iterate == found.iterations + 1
        assert not same[-1]
    else:
        assert switch.descent_iterate is None
    looked = np.linspace(0, found.iterations, 6).astype(int)
    flow = gradient_flow(
        objective,
        start,
        run.times[looked],
        method="dopri8",
        rtol=1e-12,
        atol=1e-14,
        estimate_error=False,
    )
    distances = (run.points[looked] - flow.points).norm(dim=1).numpy()
    assert (found.lower[looked] - 1e-12 <= distances).all()
    assert (distances <= found.upper[looked] + 1e-12).all()
    assert found.largest[1] - found.largest[0] < 1e-5 * found.largest[1]
    for k, point in zip(looked, flow.points.numpy(), strict=True):
        assert np.linalg.norm(found.flow_points[k] - point) <= found.flow_error[k] + 1e-11
    return found


@pytest.mark.parametrize("kind", SMALL)
def test_the_truth_lies_inside(kind):
    truth_is_inside(kind)


# ------------------------------------------------------------------------------- solved by hand


def one_unit(weights, wanted, activation="relu"):
    """f = ½(w₂ σ(w₁) − y)²."""
    inputs, targets = torch.ones(1, 1).double(), torch.full((1, 1), wanted).double()
    objective = networks.fully_connected(
        inputs, targets, hidden=(1,), activation=activation, loss="half_squared_error"
    )
    return objective, torch.tensor(weights, dtype=torch.float64)


def solved_by_hand():
    """From w = (½, 3/2) with y = −1, w₂² − w₁² = 2, and w₁ is 0 at a time in closed form.

    w₁ = √2 sinh(s/2), w₂ = √2 cosh(s/2), s' = −2(sinh s + 1), eˢ = (w₁ + w₂)²/2 = 2 at t = 0.
    """
    root = math.sqrt(2)
    time = (math.log((3 - root) / (3 + root)) - math.log((2 - root) / (2 + root))) / (2 * root)
    for activation in ("relu", "leaky_relu"):
        objective, start = one_unit([0.5, 1.5], -1.0, activation)
        found = enclose(objective, start, step_size="1/1000", iterations=400)
        assert found.switch is not None
        low, high = found.switch.time
        assert low - 1e-15 <= time <= high + 1e-15
        assert high - low < 1e-8
        assert found.switch.gates == (switches.Gate(1, 0, 0),)
        # GD descends faster at first than GF, which slows down: it may switch a step earlier.
        assert found.iterations in (int(time * 1000), int(time * 1000) - 1)


def test_one_unit_and_one_sample():
    solved_by_hand()


def test_a_flow_that_switches_never():
    objective, start = one_unit([0.5, 1.5], 2.0)
    found = enclose(objective, start, step_size="1/1000", iterations=300)
    assert found.switch is None
    assert found.iterations == 300
    assert (found.lower[1:] > 0).all()


def test_the_end_before_the_switch():
    kind = SMALL[0]
    found = enclosed(*kind[:5], 100)
    assert found.switch is None
    assert found.iterations == 100


def test_before_the_switch_it_is_the_longer_proofs_beginning():
    long, short = enclosed(*SMALL[0]), enclosed(*SMALL[0][:5], 100)
    assert (short.lower <= long.upper[:101]).all()
    assert (long.lower[:101] <= short.upper).all()


# ----------------------------------------------------------------------------- sharpness, planted


def polynomials_are_judged_exactly():
    generator = np.random.default_rng(1)
    for degree in (1, 4, 9):
        floats = generator.standard_normal(degree + 1)
        exact = [Fraction(part) for part in floats.tolist()]
        first, last = Fraction(1, 8), Fraction(7, 8)
        points = switches.bernstein(exact, first, last)
        taus = np.linspace(0.125, 0.875, 101)
        values = np.polyval(floats[::-1], taus)
        assert float(min(points)) <= values.min() + 1e-12
        assert float(max(points)) >= values.max() - 1e-12
        assert abs(float(points[0]) - values[0]) < 1e-12
        assert abs(float(points[-1]) - values[-1]) < 1e-12
        degree_raised = sum(points) / len(points)  # the mean is that of the polynomial
        mean = sum(
            c * (last ** (k + 1) - first ** (k + 1)) / (k + 1) for k, c in enumerate(exact)
        ) / (last - first)
        assert degree_raised == mean
    # (τ − ½)(τ − ¾): 0 first at ½. It is above 1/100 until shortly before, and below after.
    parabola = [Fraction(3, 8), Fraction(-5, 4), Fraction(1)]
    bound = Fraction(1, 100)
    until = switches.above_until(parabola, bound)
    assert until is not None
    after = switches.below_at(parabola, bound, until)
    assert after is not None
    root = [0.625 - math.sqrt(0.0625 / 4 + sign * 0.01) for sign in (1, -1)]
    assert until < root[0] < until + Fraction(1, 10**10)
    assert after - Fraction(1, 10**10) < root[1] < after + Fraction(1, 10**14)


@cache
def cells(kind):
    objective = network(*kind[:4])
    start = objective.initial(1).numpy()
    found = smooth_enclosure.network_of(objective, start)
    assert isinstance(found, GatedNetwork)
    return found, list(tube(found, found.weights(start), Fraction(9, 20), Settings()))


def lowered(models, tau, gate, sign, radius):
    """Return sign × z of a gate of layer 1 at the worst point of a ball around v(τ)."""
    values = [part.values_at(np.array([tau]))[0] for part in models.weights]
    x = models.values[0].coefficients[0][gate.sample]
    return sign * float(values[0][gate.unit] @ x) - radius * float(np.linalg.norm(x))


def margins_hold_in_the_whole_ball():
    """In a tube made wide by hand, the worst point of layer 1 has no other sign, and nearly one."""
    kind = SMALL[0]
    data, tubes = cells(kind)
    ratios = []
    for radius in (1e-3, 1e-2):
        watch = switches.Watch(data)
        for cell in tubes:
            wide = replace(cell, radius=Upper(radius))
            for found in watch._near(wide):
                sign = int(data.gates[0].signs[found.gate.sample, found.gate.unit])
                if found.until:
                    worst = lowered(cell.models, float(found.until), found.gate, sign, radius)
                    assert worst > -1e-9
                    x = data.inputs[found.gate.sample]
                    ratios.append(worst / (radius * np.linalg.norm(x)))
                crossed = switches.below_at(found.coefficients, found.bound, Fraction(0))
                if crossed is not None:
                    best = lowered(cell.models, float(crossed), found.gate, sign, -radius)
                    assert best < 1e-9
    assert min(ratios) < 0.2


def remainders_are_part_of_the_margin():
    data, tubes = cells(SMALL[0])
    cell = tubes[0]
    z = cell.models.arguments[0]
    margin = float((data.gates[0].signs * z.coefficients[0]).min())
    off = TaylorModel(z.coefficients, Upper(2 * margin), z.order)
    models = replace(cell.models, arguments=[off])
    assert switches.Watch(data)._near(replace(cell, models=models))


def gates_of_descent_hold_in_its_ball():
    """With a radius that is more than the margin, no gate of GD is proved; with less, all are."""
    data, tubes = cells(SMALL[0])
    cell = tubes[0]
    run = smooth_enclosure.GatedDescent(
        data, [part.coefficients[0] for part in cell.weights], Fraction(1, 1000)
    )
    ball = run.ball(cell, Upper(1e-2))
    z = data.passes(run.weights).arguments[0]
    lengths = np.linalg.norm(data.inputs, axis=1)[:, None]
    margin = float((np.abs(z) / lengths).min())
    run.radius = Upper(margin * 1.01)
    assert not run.gates_proved(ball)
    run.radius = Upper(margin * 0.2)
    assert run.gates_proved(ball)


def several_gates_in_one_cell():
    """The first of two that switch in one cell is the one that counts."""
    # Two samples and two units, uncoupled: each pair is the problem solved by hand.
    inputs = torch.eye(2).double()
    for order in ([0, 1], [1, 0]):
        rows = torch.tensor([[0.5, -1.0], [-1.0, 0.49]])[order].double()
        columns = torch.tensor([[1.5, 0.0], [0.0, 1.5]])[:, order].double()
        objective = networks.fully_connected(
            inputs,
            -torch.eye(2).double(),
            hidden=(2,),
            activation="relu",
            loss="half_squared_error",
        )
        start = torch.cat([rows.ravel(), columns.ravel()])
        found = enclose(objective, start, step_size="1/1000", iterations=900)
        assert found.switch is not None
        assert found.switch.crossed == switches.Gate(1, order.index(1), 1)
        assert found.switch.gates == (found.switch.crossed,)
        signs = [np.sign(z) for z in arguments(objective, start)]
        flow = gradient_flow(
            objective, start, [0.0, found.switch.time[0]], method="dopri8", rtol=1e-12, atol=1e-14
        )
        margin = signs[0] * arguments(objective, flow.points[-1])[0]
        assert 0 < margin.min() < 1e-6
        assert np.sort(margin.ravel())[1] > 1e-3


def zero_preactivations_are_refused():
    objective = digits_network((3,), "cross_entropy", "relu", 4)
    start = objective.initial(1)
    start[: 64 * 3] = start[: 64 * 3].reshape(3, 64).index_fill(0, torch.tensor(1), 0).ravel()
    with pytest.raises(NotVerifiedError, match=r"no gate can be told.*sample 0, layer 1, unit 1"):
        enclose(objective, start, step_size=1e-3, iterations=3)


CHECKS = [
    solved_by_hand,
    polynomials_are_judged_exactly,
    margins_hold_in_the_whole_ball,
    remainders_are_part_of_the_margin,
    gates_of_descent_hold_in_its_ball,
    several_gates_in_one_cell,
    zero_preactivations_are_refused,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_bound_holds_and_is_nearly_attained(check):
    check()


def changed(patch, owner, name, change):
    """Put `change(original, …)` in the place of a function."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *given, **named: change(original, *given, **named))


class GatesWith(gated_network.Gates):
    """Gates whose slopes are changed after they were found."""

    def __init__(self, change, signs, slopes):
        super().__init__(signs, change(slopes))


def slopes_swapped(patch):
    patch.setattr(gated_network, "Gates", lambda *given: GatesWith(lambda s: 1.0 - s, *given))


def gates_of_another_sample(patch):
    patch.setattr(
        gated_network, "Gates", lambda *given: GatesWith(lambda s: np.roll(s, 1, axis=0), *given)
    )


def all_gates_open(patch):
    patch.setattr(gated_network, "Gates", lambda *given: GatesWith(np.ones_like, *given))


def signs_negated(patch):
    patch.setattr(gated_network, "Gates", lambda z, s: FIRST(-z, s))


FIRST = gated_network.Gates


def margin_without_radius(patch):
    def without(original, *given):
        sizes = original(*given)
        return replace(sizes, rows=[Upper(0.0) for _ in sizes.rows])

    original = switches.Sizes.around

    class Without:
        around = staticmethod(lambda *given: without(original, *given))

    patch.setattr(switches, "Sizes", Without)


def margin_without_remainder(patch):
    original = switches.Watch._near

    def without(self, cell):
        bare = [TaylorModel(z.coefficients, Upper(0.0), z.order) for z in cell.models.arguments]
        return original(self, replace(cell, models=replace(cell.models, arguments=bare)))

    patch.setattr(switches.Watch, "_near", without)


def crossing_without_radius(patch):
    changed(patch, switches, "below_at", lambda f, c, bound, after: f(c, Fraction(0), after))


def crossing_not_looked_for(patch):
    changed(patch, switches, "below_at", lambda f, c, bound, after: after)


def binomials_forgotten(patch):
    patch.setattr(switches, "math", type("Math", (), {"comb": lambda *_: 1, "inf": math.inf}))


def interval_not_shifted(patch):
    changed(patch, switches, "bernstein", lambda f, c, first, last: f(c, Fraction(0), last - first))


def positive_at_the_ends_only(patch):
    def ends(original, *given):
        points = original(*given)
        return [points[0], points[-1]]

    changed(patch, switches, "bernstein", ends)


def last_gate_in_place_of_the_first(patch):
    patch.setattr(switches, "min", max, raising=False)


def earliest_of_the_first_suspect(patch):
    changed(patch, switches.Watch, "_near", lambda f, self, cell: f(self, cell)[:1])


def unit_and_sample_swapped(patch):
    changed(patch, switches, "Gate", lambda f, layer, unit, sample: f(layer, sample, unit))


def gates_of_descent_not_looked_at(patch):
    patch.setattr(smooth_enclosure.GatedDescent, "gates_proved", lambda *_: True)


def radius_of_descent_forgotten(patch):
    changed(
        patch,
        smooth_enclosure,
        "margins_proved",
        lambda f, network, z, bounds: f(network, z, [Upper(0.0)] * len(bounds)),
    )


def one_iterate_too_many(patch):
    changed(patch, enclosure._GatedRun, "_end_at", lambda f, self, last: f(self, last + 1))


def start_not_looked_at(patch):
    patch.setattr(gated_network, "_check_margins", lambda *_: None)


MUTANTS = [
    (slopes_swapped, truth_is_inside),
    (gates_of_another_sample, truth_is_inside),
    (all_gates_open, truth_is_inside),
    (signs_negated, truth_is_inside),
    (margin_without_radius, margins_hold_in_the_whole_ball),
    (margin_without_remainder, remainders_are_part_of_the_margin),
    (crossing_without_radius, margins_hold_in_the_whole_ball),
    (crossing_not_looked_for, polynomials_are_judged_exactly),
    (binomials_forgotten, polynomials_are_judged_exactly),
    (interval_not_shifted, polynomials_are_judged_exactly),
    (positive_at_the_ends_only, polynomials_are_judged_exactly),
    (last_gate_in_place_of_the_first, several_gates_in_one_cell),
    (earliest_of_the_first_suspect, several_gates_in_one_cell),
    (unit_and_sample_swapped, truth_is_inside),
    (gates_of_descent_not_looked_at, truth_is_inside),
    (radius_of_descent_forgotten, gates_of_descent_hold_in_its_ball),
    (one_iterate_too_many, truth_is_inside),
    (start_not_looked_at, zero_preactivations_are_refused),
]


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda part: part.__name__)
def test_no_planted_fault_is_silent(mutant, check, monkeypatch):
    first_zero(*SMALL[0][:4])  # not by the mutant
    cells(SMALL[0])
    mutant(monkeypatch)
    with pytest.raises((AssertionError, NotVerifiedError, OverflowError, pytest.fail.Exception)):
        check()


# ------------------------------------------------------------------------------------- bad input


def test_a_preactivation_that_is_zero_at_the_start():
    objective = digits_network((3,), "cross_entropy", "relu", 4)
    with pytest.raises(NotVerifiedError, match="t = 0: no gate can be told at the start"):
        enclose(objective, 0 * objective.initial(1), step_size=1e-3, iterations=3)


def test_a_gate_that_comes_near_and_never_switches():
    """Balanced, w' = −(w² + 1)w: the unit dies in infinite time, and the tube does not know."""
    objective, start = one_unit([1.0, 1.0], -1.0)
    with pytest.raises(NotVerifiedError, match=r"from t = .*layer 1, unit 0, sample 0.*fewer"):
        enclose(objective, start, step_size="1/10", iterations=200)


def test_a_switch_before_the_first_step_is_over():
    objective, start = one_unit([0.002, 1.5], -1.0)
    with pytest.raises(NotVerifiedError, match="before the first step is over"):
        enclose(objective, start, step_size="1/10", iterations=3)


def test_a_step_past_what_can_be_proved():
    with pytest.raises(NotVerifiedError, match=r"step_size = 0.5, iteration 0 \(t = 0\).*<= 0\.0"):
        enclosed(*SMALL[0][:4], 0.5, 3, keep=[])


def test_numbers_that_overflow():
    objective = network(*SMALL[0][:4])
    for scale in (1e5, 1e200):
        with pytest.raises(NotVerifiedError, match="t = 0"):
            enclose(objective, scale * objective.initial(1), step_size=0.01, iterations=2)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_bad_input(activation):
    objective = digits_network((3,), "cross_entropy", activation, 4)
    start = objective.initial(1)
    start[3] = torch.nan
    with pytest.raises(ValueError, match="non-finite"):
        enclose(objective, start, step_size=0.01, iterations=2)
    with pytest.raises(ValueError, match="shape"):
        enclose(objective, start[:7], step_size=0.01, iterations=2)
    flat = digits_network((), "cross_entropy", activation, 4)
    with pytest.raises(ValueError, match="one layer"):
        enclose(flat, flat.initial(1), step_size=0.01, iterations=2)


def test_the_interval_is_rounded_outwards():
    low, high = Fraction(1, 3), Fraction(2, 3)
    gate = switches.Gate(1, 0, 0)
    time = Switch((gate,), low, high, gate).time
    assert Fraction(time[0]) <= low < high <= Fraction(time[1])
    assert time[1] - time[0] < 1 / 3 + 1e-15
