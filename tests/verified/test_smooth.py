"""Networks with tanh and softplus: the truth lies inside, and no planted fault is silent."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from gfgd import gradient_descent, gradient_flow
from gfgd.verified import (
    NotVerifiedError,
    activations,
    descent_radius,
    directed,
    enclose,
    flow_tube,
    losses,
    smooth_curvature,
    smooth_enclosure,
)
from gfgd.verified import smooth_network as smooth
from gfgd.verified.directed import Upper
from gfgd.verified.taylor_models import Size, TaylorModel

from . import smooth_sharpness as sharp
from .examples import digits_network
from .smooth_sharpness import CHECKS

#: hidden widths, activation, loss, step size
SMALL = [
    ((5,), "tanh", "cross_entropy", 0.01),
    ((4,), "softplus", "half_squared_error", 0.0005),
    ((4, 3), "tanh", "cross_entropy", 0.005),
    ((3, 4), "softplus", "cross_entropy", 0.004),
]
ITERATIONS = 12


@cache
def network(hidden=(5,), activation="tanh", loss="cross_entropy"):
    return digits_network(hidden, loss, activation, 40)


@cache
def truth(hidden, activation, loss, step_size):
    """Return GD in float64, and the flow to about 1e-12, at the same times."""
    objective = network(hidden, activation, loss)
    start = objective.initial(1)
    run = gradient_descent(objective, start, step_size=step_size, iterations=ITERATIONS)
    flow = gradient_flow(
        objective, start, run.times, method="dopri8", rtol=1e-12, atol=1e-14, estimate_error=False
    )
    return run.points, flow.points


def enclosed(hidden, activation, loss, step_size, **options):
    objective = network(hidden, activation, loss)
    return enclose(
        objective,
        objective.initial(1),
        step_size=step_size,
        iterations=ITERATIONS,
        keep=range(ITERATIONS + 1),
        **options,
    )


def truth_is_inside(kind=SMALL[0]):
    found = enclosed(*kind)
    descent, flow = truth(*kind)
    distances = (descent - flow).norm(dim=1).numpy()
    assert (found.lower - 1e-12 <= distances).all()
    assert (distances <= found.upper + 1e-12).all()
    low, high = found.largest
    assert high - low < 1e-5 * high
    nearest, farthest = found.distances_from_flow(flow)
    assert nearest.max() == 0
    assert farthest.max() < 1e-9
    return found


@pytest.mark.parametrize("kind", SMALL)
def test_the_truth_lies_inside(kind):
    found = truth_is_inside(kind)
    objective = network(*kind[:3])
    point = objective.initial(1)
    lowest = float(np.linalg.eigvalsh(sharp.residual_form(objective, point))[0])
    assert -lowest <= found.node_rates[0] < -lowest * 1.001
    assert set(found.provenance) >= {"inputs", "targets", "start"}


def test_descent_in_80_bits_lies_within_the_radius():
    """GD and its radius against GD in another arithmetic, by other formulas."""
    kind = SMALL[0]
    found = enclosed(*kind)
    objective = network(*kind[:3])
    x = objective.inputs.numpy().astype(np.longdouble)
    y = np.eye(10, dtype=np.longdouble)[objective.targets.numpy()]
    w1, w2 = (w.numpy().astype(np.longdouble) for w in objective.weights(objective.initial(1)))
    eta = np.longdouble(1) / 100
    for _ in range(ITERATIONS):
        a = np.tanh(x @ w1.T)
        error = sharp.long_slope(a @ w2.T, y)
        w1, w2 = w1 - eta * (((error @ w2) * (1 - a * a)).T @ x), w2 - eta * (error.T @ a)
    point = np.concatenate([w1.ravel(), w2.ravel()])
    distance = float(np.linalg.norm((point - found.flow_points[-1]).astype(float)))
    slack = float(found.flow_error[-1])
    assert found.lower[-1] - slack <= distance <= found.upper[-1] + slack
    assert found.descent_radius[-1] < 1e-10


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_bound_holds_and_is_nearly_attained(check):
    check()


# ------------------------------------------------------------------------------- planted faults


def zero(*_, **__):
    return Upper(0.0)


def changed(patch, owner, name, change):
    """Put `change(original, …)` in the place of a function."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *given, **named: change(original, *given, **named))


def logistic_exact(patch):
    changed(patch, activations, "logistic", lambda f, z: (f(z)[0], Upper(0.0)))


def softplus_exact(patch):
    changed(patch, activations, "log_one_plus_exp", lambda f, z: (f(z)[0], Upper(0.0)))


def softplus_series_too_short(patch):
    def short(function, z):
        e = np.exp(-np.abs(z))
        w = e / (2 + e)
        return np.maximum(z, 0) + 2 * w * (1 + w * w / 3 + w**4 / 5), function(z)[1]

    changed(patch, activations, "log_one_plus_exp", short)


def bend_too_small(patch):
    for kind in (activations.Tanh, activations.Softplus):
        patch.setattr(kind, "__init__", lambda s: s.__dict__.update(bend=0.2, third=3.0))
    patch.setattr(sharp, "BOTH", (activations.Tanh(), activations.Softplus()))


def third_too_small(patch):
    for kind in (activations.Tanh, activations.Softplus):
        patch.setattr(kind, "__init__", lambda s: s.__dict__.update(bend=0.77, third=0.09))
    patch.setattr(sharp, "BOTH", (activations.Tanh(), activations.Softplus()))


def defect_dropped(patch):
    patch.setattr(activations, "logistic_defect", lambda slopes, q: np.zeros(q.shape[1:]))


def growth_dropped(patch):
    changed(
        patch,
        activations,
        "exponential",
        lambda f, x: (np.ones_like(x), Upper(0.0)) if x.min() > 0 else f(x),
    )


def tail_dropped(patch):
    patch.setattr(activations, "products_above", lambda first, *_: np.zeros(first.shape[1:]))


def candidate_wrong(patch):
    changed(patch, activations, "logistic_coefficients", lambda f, z: f(z * (1 + 1e-7)))
    patch.setattr(activations, "logistic_error", zero)


def argument_exact(patch):
    changed(
        patch,
        activations,
        "logistic_model",
        lambda f, z: f(TaylorModel(z.coefficients, Upper(0.0), z.order)),
    )


def integral_exact(patch):
    changed(
        patch,
        activations.Softplus,
        "_integrated",
        lambda f, *given: replace(f(*given), remainder=Upper(0.0)),
    )


MULTIPLY = TaylorModel.__mul__


def entrywise_truncation_forgotten(patch):
    def product(a, b):
        whole = MULTIPLY(replace(a, order=a.order + b.order), b)
        return replace(MULTIPLY(a, b), remainder=whole.remainder)

    patch.setattr(TaylorModel, "__mul__", product)


def entrywise_remainders_forgotten(patch):
    def product(a, b):
        return MULTIPLY(replace(a, remainder=Upper(0.0)), replace(b, remainder=Upper(0.0)))

    patch.setattr(TaylorModel, "__mul__", product)


def entrywise_error_forgotten(patch):
    changed(patch, Size, "__mul__", lambda f, a, b: replace(f(a, b), error=Upper(0.0)))


def rows_too_small(patch):
    for module in (directed, sharp):
        changed(patch, module, "largest_row", lambda f, m: f(m) * 0.5)


def slope_forgotten_backwards(patch):
    def wrong(function, weights, inputs, activate, slope, *more):
        def flat(layer, z):
            value, first, second = activate(layer, z)
            return (
                (value, first * 0.999, second)
                if isinstance(z, np.ndarray)
                else (value, first, second)
            )

        return function(weights, inputs, flat, slope, *more)

    changed(patch, smooth, "passes", wrong)


def bends_negated(patch):
    changed(
        patch, activations.Tanh, "models", lambda f, s, z: (*f(s, z)[:2], f(s, z)[2].scaled(-1))
    )


def residual_of_units_dropped(patch):
    """R without the units' second derivatives, as if the network were linear."""

    def without(function, models):
        flat = [part.scaled(0.0) for part in models.curved]
        models.__dict__["curved"] = flat
        return function(models)

    for name in ("_unit_blocks", "_whole"):
        changed(patch, smooth_curvature, name, without)


def coupling_dropped(patch):
    def without(function, models):
        bare = replace(models, errors=[part.scaled(0.0) for part in models.errors])
        bare.__dict__["curved"] = models.curved
        return function(bare)

    for name in ("_unit_blocks", "_whole"):
        changed(patch, smooth_curvature, name, without)


def factors_exact(patch):
    changed(
        patch,
        smooth_curvature.Majorant,
        "__mul__",
        lambda f, a, b: replace(f(a, b), remainder=Upper(0.0)),
    )


def row_sum_halved(patch):
    changed(patch, smooth_curvature, "_largest_row", lambda f, sizes: f(sizes) * 0.5)


def rounding_of_the_form_zero(patch):
    for name in ("_unit_blocks", "_whole"):
        changed(patch, smooth_curvature, name, lambda f, m: (f(m)[0], Upper(0.0)))


def factor_trusted(patch):
    patch.setattr(smooth_curvature, "cholesky_residual", zero)


def rate_halved(patch):
    changed(patch, smooth_curvature, "verified_rate", lambda f, m: f(m) * 0.5)


def rate_of_the_first_unit_only(patch):
    changed(patch, smooth_curvature, "verified_rate", lambda f, m: f(m[:1]))


def lowest_eigenvalue_of_a_guess(patch):
    changed(patch, smooth_curvature, "lowest_eigenvalue", lambda f, m: 0.01 * f(m))


def chord_zero(patch):
    patch.setattr(smooth_curvature, "chord_deviation", zero)


def change_zero(patch):
    patch.setattr(smooth_curvature.Sizes, "change", zero)


def change_of_errors_only(patch):
    def partly(function, self, differences):
        still = [smooth_curvature.Majorant((Upper(0.0),)) for _ in differences.curved]
        return function(self, replace(differences, curved=still, slopes=still))

    changed(patch, smooth_curvature.Sizes, "change", partly)


def sizes_do_not_grow(patch):
    """The ball's constants without what the layers before add to a change."""
    changed(
        patch,
        smooth_curvature,
        "_forward",
        lambda f, norms, sizes, radius: (f(norms, sizes, radius)[0], list(sizes)),
    )


def errors_do_not_move(patch):
    def still(function, network, models, norms, whole, rows, radius):
        nothing = [Upper(0.0)] * len(whole)
        return function(network, models, norms, nothing, nothing, radius)

    changed(patch, smooth_curvature, "_backward", still)


def outputs_do_not_curve(patch):
    patch.setattr(smooth.SmoothNetwork, "smoothness", Upper(0.0))


def step_exact(patch):
    patch.setattr(descent_radius, "_step_rounding", zero)
    changed(
        patch,
        smooth.SmoothNetwork,
        "_activated_size",
        lambda f, *given: tuple(replace(part, error=Upper(0.0)) for part in f(*given)),
    )
    changed(
        patch,
        smooth.SmoothNetwork,
        "_slope_size",
        lambda f, *given: replace(f(*given), error=Upper(0.0)),
    )


def radius_does_not_grow(patch):
    patch.setattr(smooth_enclosure, "between", zero)


def gradient_of_another_layer(patch):
    def wrong(function, self):
        first, *rest = function(self)
        return [first * 1.0001 if isinstance(first, np.ndarray) else first, *rest]

    changed(patch, smooth.Passes, "gradient", wrong)


def flow_of_another_start(patch):
    def off(function, network, weights, order, length):
        found = function(network, weights, order, length)
        found[0][1] *= 1 + 1e-5
        return found

    changed(patch, flow_tube, "flow_coefficients", off)


def labels_shifted(patch):
    changed(
        patch,
        losses.CrossEntropy,
        "__init__",
        lambda f, self, onehot: f(self, np.roll(onehot, 1, axis=0)),
    )


MUTANTS = [
    (logistic_exact, sharp.activations_at_numbers),
    (softplus_exact, sharp.activations_at_numbers),
    (softplus_series_too_short, sharp.activations_at_numbers),
    (bend_too_small, sharp.largest_derivatives),
    (third_too_small, sharp.largest_derivatives),
    (bend_too_small, sharp.lipschitz_of_factors),
    (third_too_small, sharp.lipschitz_of_factors),
    (defect_dropped, sharp.logistic_truncated),
    (growth_dropped, sharp.logistic_stretched),
    (tail_dropped, sharp.logistic_truncated),
    (candidate_wrong, sharp.activation_models),
    (argument_exact, sharp.activation_models),
    (integral_exact, sharp.softplus_along_a_path),
    (entrywise_truncation_forgotten, sharp.entrywise_products),
    (entrywise_remainders_forgotten, sharp.entrywise_products),
    (entrywise_error_forgotten, sharp.entrywise_sizes),
    (rows_too_small, sharp.rows),
    (slope_forgotten_backwards, truth_is_inside),
    (bends_negated, sharp.forms_of_networks),
    (residual_of_units_dropped, sharp.forms_of_networks),
    (coupling_dropped, sharp.forms_of_networks),
    (factors_exact, sharp.majorants),
    (row_sum_halved, sharp.majorants),
    (rounding_of_the_form_zero, sharp.rounding_of_forms),
    (factor_trusted, sharp.rates_with_errors),
    (rate_halved, sharp.growth_of_errors_of_descent),
    (rate_of_the_first_unit_only, sharp.forms_of_networks),
    (lowest_eigenvalue_of_a_guess, truth_is_inside),
    (chord_zero, sharp.chords_of_smooth_networks),
    (change_zero, sharp.lipschitz_of_forms),
    (change_of_errors_only, sharp.lipschitz_of_forms),
    (sizes_do_not_grow, sharp.lipschitz_of_factors),
    (errors_do_not_move, sharp.lipschitz_of_factors),
    (outputs_do_not_curve, sharp.curvature_from_above_smooth),
    (step_exact, sharp.steps_of_smooth_networks),
    (radius_does_not_grow, sharp.growth_of_errors_of_descent),
    (gradient_of_another_layer, truth_is_inside),
    (flow_of_another_start, truth_is_inside),
    (labels_shifted, truth_is_inside),
]


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda part: part.__name__)
def test_no_planted_fault_is_silent(mutant, check, monkeypatch):
    truth(*SMALL[0])  # not by the mutant
    mutant(monkeypatch)
    sharp.example.cache_clear()
    with pytest.raises((AssertionError, NotVerifiedError, OverflowError)):
        check()
    sharp.example.cache_clear()


# ------------------------------------------------------------------------------------- bad input


def test_a_step_past_what_can_be_proved():
    objective = network()
    with pytest.raises(NotVerifiedError, match=r"step_size = 0.5, iteration 0 \(t = 0\).*<= 0\.0"):
        enclose(objective, objective.initial(1), step_size=0.5, iterations=3)


def test_an_enclosure_that_is_too_wide_is_refused():
    with pytest.raises(NotVerifiedError, match="wider than 1e-12"):
        enclosed(*SMALL[0], widest=1e-12)


def test_a_flow_that_cannot_be_followed():
    with pytest.raises(NotVerifiedError, match=r"beyond t = 0: the shortest cell"):
        enclosed(*SMALL[0], settings=flow_tube.Settings(order=2, defect=1e-15))


def test_numbers_that_overflow():
    objective = network()
    for scale in (1e4, 1e200):
        with pytest.raises(NotVerifiedError, match="iteration 0, t = 0"):
            enclose(objective, scale * objective.initial(1), step_size=0.01, iterations=2)


def test_a_start_that_is_not_finite():
    objective = network()
    start = objective.initial(1)
    start[3] = torch.inf
    with pytest.raises(ValueError, match="non-finite"):
        enclose(objective, start, step_size=0.01, iterations=2)


def test_one_layer_is_refused():
    objective = digits_network((), "cross_entropy", "tanh", 20)
    with pytest.raises(ValueError, match="one layer"):
        enclose(objective, objective.initial(1), step_size=0.01, iterations=2)
