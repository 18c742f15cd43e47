"""Planted faults in the proof: none may stay silent.

Each is refused, or excluded by the truth, or caught by the check of the bound that it breaks
(:mod:`tests.verified.sharpness`). Which of these is stated beside it.
"""

import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from gfgd.verified import (
    NotVerifiedError,
    balanced,
    descent_radius,
    directed,
    enclose,
    flow_tube,
    losses,
)
from gfgd.verified import balanced_certificates as certificates
from gfgd.verified import linear_network as links
from gfgd.verified.directed import Upper
from gfgd.verified.taylor_models import TaylorModel

from . import sharpness, test_balanced
from .examples import digits_network, truth

PROOF = "gfgd.verified."
curvature = sharpness.residual_module()


def everywhere(patch, name, mutant):
    """Put a function's mutant into each module that took it by name."""
    for path, module in list(sys.modules.items()):
        if path.startswith(PROOF) and hasattr(module, name):
            patch.setattr(module, name, mutant)


def zero(*_, **__):
    return Upper(0.0)


def scaled(function, factor):
    return lambda *given, **named: function(*given, **named) * factor


def truth_is_inside():
    """Run a small proof, and compare with GD in float64 and the flow to 1e-12."""
    key = ((6, 5), "cross_entropy", 0.01)
    objective = digits_network(*key[:2])
    found = enclose(objective, objective.initial(1), step_size=0.01, iterations=60)
    descent, flow = truth(*key)
    distances = (descent - flow).norm(dim=1).numpy()
    assert (found.lower - 1e-12 <= distances).all()
    assert (distances <= found.upper + 1e-12).all()


# ------------------------------------------------------------------------------ rounding, norms


def no_rounding(patch):
    everywhere(patch, "gamma", zero)


def to_nearest(patch):
    patch.setattr(directed, "_above", Upper)


def norm_too_small(patch):
    everywhere(patch, "norm", scaled(directed.norm, 1 - 1e-9))


def lower_norm_too_large(patch):
    everywhere(patch, "norm_below", scaled(directed.norm_below, 1 + 1e-9))


def spectral_norm_halved(patch):
    everywhere(patch, "spectral_norm", scaled(directed.spectral_norm, 0.5))


def exponential_exact(patch):
    function = directed.exponential
    everywhere(patch, "exponential", lambda x: (function(x)[0], Upper(0.0)))


def exponential_of_low_degree(patch):
    function = directed.exponential

    def low(x):
        y = x / 1024.0
        return (1 + y + y * y / 2) ** 1024, function(x)[1]

    everywhere(patch, "exponential", low)


# -------------------------------------------------------------------------------- Taylor models

MULTIPLY = TaylorModel.__matmul__


def remainders_not_carried(patch):
    def product(a, b):
        bare = MULTIPLY(replace(a, remainder=Upper(0.0)), replace(b, remainder=Upper(0.0)))
        return bare

    patch.setattr(TaylorModel, "__matmul__", product)


def truncation_forgotten(patch):
    def product(a, b):
        whole = MULTIPLY(replace(a, order=a.order + b.order), b)
        return replace(MULTIPLY(a, b), remainder=whole.remainder)

    patch.setattr(TaylorModel, "__matmul__", product)


def value_exact(patch):
    patch.setattr(TaylorModel, "rounding_of_values", zero)


# --------------------------------------------------------------------------------------- losses


def softmax_defect_dropped(patch):
    patch.setattr(losses, "_softmax_defect", lambda slopes, q: np.zeros(q.shape[1]))


def softmax_growth_dropped(patch):
    function = directed.exponential

    def flat(x):
        return (np.ones_like(x), Upper(0.0)) if x.min() >= 0 and x.ndim == 1 else function(x)

    patch.setattr(losses, "exponential", flat)


def softmax_tail_dropped(patch):
    patch.setattr(losses, "products_above", lambda first, *_: np.zeros(first.shape[1:]))


def softmax_recurrence_wrong(patch):
    function = losses.softmax_coefficients
    patch.setattr(losses, "softmax_coefficients", lambda z: function(z * 1.001))


def logits_exact(patch):
    patch.setattr(losses, "_logit_error", zero)
    patch.setattr(losses, "gamma", zero)


def softmax_bound_zero(patch):
    patch.setattr(losses, "softmax_error", zero)


def curvature_of_the_loss_halved(patch):
    patch.setattr(losses.CrossEntropy, "curvature", 0.25)


# ------------------------------------------------------------------------------------ curvature


def lipschitz_zero(patch):
    everywhere(patch, "lipschitz", zero)


def lipschitz_without_layers(patch):
    def only_slope(network, norms, slope):
        return LIPSCHITZ(network, norms, Upper(0.0))

    everywhere(patch, "lipschitz", only_slope)


LIPSCHITZ = curvature.lipschitz


def chord_zero(patch):
    patch.setattr(curvature.Form, "chord_deviation", zero)


def chord_factor_halved(patch):
    patch.setattr(curvature, "chord_factor", scaled(curvature.chord_factor, 0.5))


def chord_remainder_dropped(patch):
    patch.setattr(curvature, "_form_remainder", zero)


def form_bound_halved(patch):
    everywhere(patch, "form_bound", scaled(curvature.form_bound, 0.5))


def difference_zero(patch):
    everywhere(patch, "change_of_form", zero)


def rate_halved(patch):
    rate = curvature.Reduced.verified_rate
    patch.setattr(curvature.Reduced, "verified_rate", scaled(rate, 0.5))


def schur_sign_wrong(patch):
    block = curvature.Reduced._block
    patch.setattr(curvature.Reduced, "_block", lambda s, a, b, gone, mu: block(s, a, b, gone, -mu))


def coupling_transposed(patch):
    coupling = curvature.Reduced._coupling

    def swapped(self, layer, gone):
        a, b = coupling(self, layer, gone)
        return (-a if layer < gone else a), b

    patch.setattr(curvature.Reduced, "_coupling", swapped)


def form_error_dropped(patch):
    patch.setattr(curvature, "form_bound", lambda depth, sizes: Upper(0.0))


def factor_trusted(patch):
    patch.setattr(curvature, "_cholesky_residual", zero)


def rate_from_a_guess(patch):
    rate = curvature.Reduced.verified_rate
    patch.setattr(curvature.Reduced, "verified_rate", lambda s, guess: rate(s, guess, -1e-3))


# ------------------------------------------------------------------------------ flow and descent


def defect_at_a_wrong_index(patch):
    coefficient = flow_tube._defect_coefficient

    def shifted(part, gradient, k, cell):
        return coefficient(part, gradient, k, cell) * (0.0 if k == 1 else 1.0)

    patch.setattr(flow_tube, "_defect_coefficient", shifted)


def defect_integral_of_a_higher_order(patch):
    function = flow_tube.defect

    def smaller(parts, models, cell):
        largest, integral = function(parts, models, cell)
        return largest, integral * 0.4

    patch.setattr(flow_tube, "defect", smaller)


def error_not_carried(patch):
    function = flow_tube._verified
    patch.setattr(
        flow_tube, "_verified", lambda n, t, time, rates, _: function(n, t, time, rates, Upper(0.0))
    )


def jump_forgotten(patch):
    everywhere(patch, "total_length", zero)


def candidate_wrong(patch):
    function = flow_tube.flow_coefficients

    def off(*given):
        parts = function(*given)
        parts[1][1] += 1e-6
        return parts

    patch.setattr(flow_tube, "flow_coefficients", off)


def curvature_from_above_too_small(patch):
    patch.setattr(
        descent_radius, "largest_curvature", scaled(descent_radius.largest_curvature, 0.04)
    )


def step_exact(patch):
    patch.setattr(descent_radius, "_step_rounding", zero)
    patch.setattr(losses.CrossEntropy, "slope_error", zero)
    everywhere(patch, "gamma", zero)


def slope_exact(patch):
    everywhere(patch, "product_rounding", zero)
    patch.setattr(losses.CrossEntropy, "slope_error", zero)


def radius_does_not_grow(patch):
    patch.setattr(descent_radius, "between", zero)


def earlier_node_only(patch):
    patch.setattr(descent_radius, "between", lambda first, last, tau: min(first, last))


def gradient_transposed(patch):
    gradient = links.Chain.gradient

    def wrong(self):
        parts = gradient(self)
        if isinstance(parts[1], np.ndarray):
            parts[1] = parts[1][:, ::-1]
        return parts

    patch.setattr(links.Chain, "gradient", wrong)


def labels_shifted(patch):
    function = losses.CrossEntropy.slope
    patch.setattr(
        losses.CrossEntropy, "slope", lambda s, z: function(s, z) + 1e-4 * (s.onehot - 0.1)
    )


def inputs_in_float32(patch):
    function = links.LinearNetwork.slope_model

    def rounded(self, matrix):
        other = replace(self, inputs=(self.inputs * 1.00001).astype(np.float32).astype(float))
        return function(other, matrix)

    patch.setattr(links.LinearNetwork, "slope_model", rounded)


def another_step_size(patch):
    def wrong(self, network, start, step_size):
        INIT(self, network, start, step_size)
        self.step_size *= 1.001

    patch.setattr(descent_radius.Descent, "__init__", wrong)


INIT = descent_radius.Descent.__init__


def one_step_behind(patch):
    places = descent_radius.Descent.places

    def late(self, cell, last):
        for place in places(self, cell, last):
            tau = max(0.0, place.tau - float(self.exact_step / cell.length))
            yield replace(place, flow=[p.values_at(np.array([tau]))[0] for p in cell.weights])

    patch.setattr(descent_radius.Descent, "places", late)


# ------------------------------------------------------------------------------- balanced networks


def correction_wrong(patch):
    function = balanced._derivative
    patch.setattr(balanced, "_derivative", lambda p, order: function(p, order) * 2)
    patch.setattr(certificates, "SINGLY", 0)


def remainder_in_the_step_dropped(patch):
    patch.setattr(certificates, "cell_defect", lambda cell, size: (CELL_DEFECT(cell, size)[0], 0.0))


def remainder_in_time_dropped(patch):
    patch.setattr(certificates, "cell_defect", lambda cell, size: (0.0, CELL_DEFECT(cell, size)[1]))


def defect_of_the_curve_dropped(patch):
    patch.setattr(certificates, "cell_defect", lambda *_: (0.0, 0.0))
    patch.setattr(certificates, "SINGLY", 0)


CELL_DEFECT = certificates.cell_defect


def hessian_wrong(patch):
    function = certificates.hessian_range
    patch.setattr(
        certificates,
        "hessian_range",
        lambda depth, a1, a2, b, e: function(depth, a1, a2, b, [-x for x in e]),
    )


def third_derivative_zero(patch):
    patch.setattr(certificates, "third_derivative", zero)


def missing_box(patch):
    """The cell's remainder taken at its start only."""
    patch.setattr(balanced, "_box", lambda start, states, whole: states)


def boxes_hold_the_flow():
    """The flow at the end of a long cell, from short ones, is inside; the remainder is not idle."""
    start = balanced.BalancedStart.of(3, radius=Fraction(1, 10), cosine=Fraction(3, 10))
    long = balanced.enclosed_flow(start, 2, order=1, cells=30, degree=3)
    fine = balanced.enclosed_flow(start, 2, order=1, cells=120, degree=14)
    for ball, point in zip(long.at(Fraction(2)), fine.at(Fraction(2)), strict=True):
        assert all(b.overlaps(p) for b, p in zip(ball, point, strict=True))


SHARP = sharpness
MUTANTS = [
    (no_rounding, SHARP.product_rounding),
    (to_nearest, SHARP.operations),
    (norm_too_small, SHARP.norms),
    (lower_norm_too_large, SHARP.norms),
    (spectral_norm_halved, SHARP.spectral_norms),
    (exponential_exact, SHARP.exponentials),
    (exponential_of_low_degree, SHARP.exponentials),
    (remainders_not_carried, SHARP.product_carried),
    (truncation_forgotten, SHARP.product_truncated),
    (value_exact, SHARP.values_of_models),
    (softmax_defect_dropped, SHARP.softmax_truncated),
    (softmax_growth_dropped, SHARP.softmax_stretched),
    (softmax_tail_dropped, SHARP.products_above),
    (softmax_recurrence_wrong, truth_is_inside),
    (logits_exact, SHARP.softmax_at_a_point),
    (softmax_bound_zero, SHARP.softmax_truncated),
    (curvature_of_the_loss_halved, SHARP.curvature_of_the_loss),
    (lipschitz_zero, SHARP.lipschitz_constants),
    (lipschitz_without_layers, SHARP.lipschitz_constants),
    (chord_zero, SHARP.chords),
    (chord_factor_halved, SHARP.chords),
    (chord_remainder_dropped, SHARP.chords),
    (form_bound_halved, SHARP.forms),
    (difference_zero, SHARP.lipschitz_constants),
    (rate_halved, SHARP.growth_of_errors),
    (schur_sign_wrong, SHARP.rates),
    (coupling_transposed, SHARP.rates),
    (form_error_dropped, SHARP.rates_with_errors),
    (factor_trusted, SHARP.cholesky),
    (rate_from_a_guess, truth_is_inside),
    (defect_at_a_wrong_index, SHARP.defects),
    (defect_integral_of_a_higher_order, SHARP.defects),
    (error_not_carried, SHARP.tubes),
    (jump_forgotten, SHARP.tubes),
    (candidate_wrong, truth_is_inside),
    (curvature_from_above_too_small, SHARP.curvature_from_above),
    (step_exact, SHARP.steps_in_float64),
    (slope_exact, SHARP.steps_in_float64),
    (radius_does_not_grow, SHARP.growth_of_errors),
    (earlier_node_only, SHARP.chords_in_time),
    (gradient_transposed, truth_is_inside),
    (labels_shifted, truth_is_inside),
    (inputs_in_float32, truth_is_inside),
    (another_step_size, truth_is_inside),
    (one_step_behind, truth_is_inside),
    (correction_wrong, test_balanced.test_the_remainder_covers_what_it_must),
    (remainder_in_time_dropped, test_balanced.test_the_curve_misses_as_little_as_bounded),
    (remainder_in_the_step_dropped, test_balanced.test_the_curve_misses_as_little_as_bounded),
    (defect_of_the_curve_dropped, test_balanced.test_the_remainder_covers_what_it_must),
    (hessian_wrong, lambda: test_balanced.test_hessian_of_three_coordinates(3)),
    (third_derivative_zero, test_balanced.test_third_derivative_is_bounded),
    (missing_box, boxes_hold_the_flow),
]


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda part: part.__name__)
def test_no_planted_fault_is_silent(mutant, check, monkeypatch):
    mutant(monkeypatch)
    for cached in (directed.gamma, curvature.chord_factor):
        getattr(cached, "cache_clear", lambda: None)()
    with pytest.raises((AssertionError, NotVerifiedError, OverflowError)):
        check()


@pytest.mark.parametrize("check", [truth_is_inside, boxes_hold_the_flow])
def test_without_a_fault_the_checks_pass(check):
    check()
