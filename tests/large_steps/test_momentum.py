"""Oracles: the methods themselves, their characteristic polynomials, closed forms."""

import math

import numpy as np
import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.figures import fitted_slope
from gfgd.large_steps.modified import MODIFIED_FLOWS
from gfgd.large_steps.momentum import (
    SCHEMES,
    momentum_descent,
    momentum_flow,
    momentum_flow_start,
    ringing_threshold,
    stability_threshold,
)
from gfgd.objective import Objective
from tests.small_problems import quadratic

TIGHT = {"rtol": 1e-10, "atol": 1e-12, "estimate_error": False}


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def bumpy():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    weights = torch.arange(1, 5, dtype=torch.float64) / 4
    return Objective(
        lambda p: (weights * torch.tanh(p @ mixing.T).square()).sum(-1) + 0.1 * p.pow(4).sum(-1),
        dimension=3,
    )


START = vector(0.6, -0.4, 0.5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("beta", [0.3, 0.6])
def test_orders(scheme, beta):
    objective, times = bumpy(), [0.02, 0.01, 0.005]
    errors = {1: [], 2: [], 3: []}
    for time in times:
        eta, count = time * (1 - beta), round(0.6 / time)
        moments = torch.arange(count + 1, dtype=torch.float64) * time
        options = {"step_size": eta, "momentum": beta, "scheme": scheme}
        # x_{−1} on the slow motion: the flow of order 3, backwards, with the time turned round.
        back = Objective(lambda p: -objective.terms[0](p), dimension=3)
        past = momentum_flow(back, START, vector(0, time), order=1, **options, **TIGHT).points[-1]
        for _ in range(6):  # solve flow(past, ε) = START by fixed-point iteration
            ahead = momentum_flow(objective, past, vector(0, time), order=3, **options, **TIGHT)
            past = past + START - ahead.points[-1]
        descent = momentum_descent(objective, START, iterations=count, previous=past, **options)
        for order, found in errors.items():
            flow = momentum_flow(objective, START, moments, order=order, **options, **TIGHT)
            found.append(flow.distance_to(descent).max().item())
    for order, found in errors.items():
        assert fitted_slope(times, found) == pytest.approx(order, abs=0.2)


def test_without_momentum_they_are_the_flows_of_descent():
    objective = bumpy()
    for scheme in SCHEMES:
        assert SCHEMES[scheme].coefficients(0.0) == pytest.approx((1 / 2, 1 / 3, 1 / 12))
        run = momentum_descent(
            objective, START, step_size=0.05, momentum=0, iterations=5, scheme=scheme
        )
        plain = gradient_descent(objective, START, step_size=0.05, iterations=5)
        torch.testing.assert_close(run.points, plain.points)
        assert run.counts == plain.counts
        flow = momentum_flow(
            objective, START, run.times, step_size=0.05, momentum=0, order=3, scheme=scheme
        )
        row = MODIFIED_FLOWS["next_order"].field(objective, flow.points[0], 0.05)
        step = (flow.points[1] - flow.points[0]) / 0.05
        assert (step - row).norm() < 0.1 * row.norm()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_start_from_rest_is_of_order_one_and_mended_by_the_shift(scheme):
    objective, beta, times = bumpy(), 0.5, [0.02, 0.01, 0.005]
    errors = {True: [], False: []}
    for time in times:
        options = {"step_size": time * (1 - beta), "momentum": beta}
        run = momentum_descent(
            objective, START, iterations=round(0.6 / time), scheme=scheme, **options
        )
        for shifted, found in errors.items():
            start = momentum_flow_start(objective, START, **options) if shifted else START
            flow = momentum_flow(objective, start, run.times, scheme=scheme, **options, **TIGHT)
            late = run.times > 0.3
            found.append(flow.distance_to(run)[late].max().item())
    assert fitted_slope(times, errors[False]) == pytest.approx(1, abs=0.2)
    assert fitted_slope(times, errors[True]) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_thresholds_are_those_of_the_roots(scheme, beta):
    threshold = stability_threshold(beta, scheme)

    def radius(x):
        kept = beta * (1 - x) if scheme == "nesterov" else beta
        middle = -(1 + beta) * (1 - x) if scheme == "nesterov" else -(1 + beta - x)
        return np.abs(np.roots([1, middle, kept])).max()

    assert radius(threshold * (1 - 1e-6)) < 1 < radius(threshold * (1 + 1e-6))


def test_threshold_in_a_run():
    for factor, grows in ((0.99, False), (1.01, True)):
        size = factor * stability_threshold(0.5) / 4.0
        run = momentum_descent(
            quadratic(4.0), vector(1.0), step_size=size, momentum=0.5, iterations=2000
        )
        assert (run.losses[-1] > run.losses[0]) == grows


def test_ringing_begins_where_the_roots_turn_complex():
    for beta in (0.2, 0.5):
        x = ringing_threshold(beta)
        for factor, real in ((0.999, True), (1.001, False)):
            assert ((1 + beta - factor * x) ** 2 >= 4 * beta) == real


def test_divergence_is_a_status():
    run = momentum_descent(quadratic(4.0), vector(1.0), step_size=10, momentum=0.5, iterations=2000)
    assert not run.completed and "iteration" in run.status
    assert run.points.isfinite().all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"momentum": 1.0}, r"momentum = 1.0: must be in \[0, 1\)"),
        ({"momentum": -0.1}, "momentum"),
        ({"momentum": math.nan}, "momentum"),
        ({"scheme": "adam"}, "scheme"),
        ({"step_size": 0}, "step_size"),
        ({"previous": vector(1)}, "previous"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_bad_arguments(change, named):
    arguments = {"step_size": 0.1, "momentum": 0.5, "iterations": 3} | change
    with pytest.raises(ValueError, match=named):
        momentum_descent(bumpy(), START, **arguments)


def test_bad_order():
    with pytest.raises(ValueError, match="order = 4"):
        momentum_flow(bumpy(), START, vector(0, 1), step_size=0.1, momentum=0.5, order=4)
