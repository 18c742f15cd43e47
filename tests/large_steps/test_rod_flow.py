"""Oracles: dense Σ, closed forms on a quadratic and a quartic, gradient flow past the edge."""

import math

import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.flow import gradient_flow
from gfgd.large_steps.rod_flow import _Rod, _State, rod_flow
from gfgd.objective import Objective
from tests.small_problems import quadratic, small_network

ETA = 0.1
EDGE = 2 / ETA


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def test_factor_is_the_dense_covariance():
    objective = small_network()
    start = objective.initial(0)
    run = _Rod(objective, 0.5, rank=objective.dimension)
    state = run.begin(start)
    sigma = state.factor @ state.factor.T
    for _ in range(5):
        ahead, behind = objective.gradient(state.ends)
        forcing = 0.25 * 0.5**2 * (torch.outer(ahead, ahead) + torch.outer(behind, behind))
        sigma = math.exp(-2 / 3) * sigma + (1 - math.exp(-2 / 3)) / 2 * forcing
        state = run.advance(state, parts=1, length=1 / 3)
        torch.testing.assert_close(state.factor @ state.factor.T, sigma, rtol=1e-9, atol=1e-12)
        values, vectors = torch.linalg.eigh(sigma)
        assert state.rod.square().sum() == pytest.approx(values[-1].item())
        cosine = (state.rod / state.rod.norm()) @ vectors[:, -1]
        assert cosine.abs().item() == pytest.approx(1, abs=1e-9)


def test_identities_of_descent():
    objective = small_network()
    points = gradient_descent(objective, objective.initial(0), step_size=0.7, iterations=8).points
    centres, rods = (points[:-1] + points[1:]) / 2, points.diff(dim=0) / 2
    ahead, behind = objective.gradient(points[1:]), objective.gradient(points[:-1])
    torch.testing.assert_close(centres.diff(dim=0), -0.35 * (ahead + behind)[:-1])
    sigma = rods[:, :, None] * rods[:, None, :]
    forcing = ahead[:, :, None] * ahead[:, None, :] + behind[:, :, None] * behind[:, None, :]
    expected = 0.7**2 / 4 * forcing[:-1] - 2 * sigma[:-1]
    torch.testing.assert_close(sigma.diff(dim=0), expected)


@pytest.mark.parametrize("product", [1.5, 1.9, 2.1])
def test_threshold_on_a_quadratic(product):
    # w is nearly 0, where Σ' = (x²/2 − 2)Σ: growth for x > 2 only.
    state = _State(vector(0.0), vector(0.1)[:, None])
    run = _Rod(quadratic(product / ETA), ETA, 2)
    for _ in range(50):
        state = run.advance(state, parts=50, length=1.0 / 50)
    rate = torch.log(state.rod.square()[0] / 0.01).item()
    assert rate == pytest.approx(product**2 / 2 - 2, rel=0.05, abs=0.005)


def test_fixed_point_of_a_quartic():
    # f = ½Sw² − ¼Qw⁴ at w = 0: Σ* = S/Q − 2/(ηQ).
    sharp, quart = 22.0, 10.0
    objective = Objective(
        lambda p: (sharp * p.square() / 2 - quart * p.pow(4) / 4).sum(-1), dimension=1
    )
    run = _Rod(objective, ETA, 2)
    state = _State(vector(0.0), vector(0.1)[:, None])
    for _ in range(200):
        state = run.advance(state, parts=8, length=1.0)
    expected = sharp / quart - 2 / (ETA * quart)
    assert state.rod.square()[0].item() == pytest.approx(expected, rel=1e-3)


def sharpening():
    """Two directions: x with a curvature y that grows, and z, along which GD moves."""

    def value(p):
        x, y, z = p.unbind(-1)
        return 0.5 * y * x**2 - y + 0.5 * z**2

    return Objective(value, dimension=3)


def test_one_rod_misses_the_edge_and_says_so():
    start = vector(1e-3, 19.0, 1.0)
    flow = rod_flow(sharpening(), start, step_size=ETA, iterations=60, substeps=12)
    plain = gradient_flow(sharpening(), start, torch.cat([vector(0), flow.times]))
    descent = gradient_descent(sharpening(), start, step_size=ETA, iterations=60)
    assert descent.points[-1, 1] < EDGE < flow.points[-1, 1]
    assert flow.path.points[-1, 1] == pytest.approx(plain.points[-1, 1].item(), rel=1e-3)
    assert "does not see the edge" in flow.remarks[0]


def test_too_few_substeps_are_refused_or_stop():
    with pytest.raises(ValueError, match=r"own edge of stability.*at least 3"):
        rod_flow(sharpening(), vector(0, 19, 1), step_size=ETA, iterations=5, substeps=2)
    flow = rod_flow(sharpening(), vector(0, 19, 1), step_size=ETA, iterations=200, substeps=4)
    assert "raise substeps" in flow.status
    assert flow.sharpness[-1] < 3.13  # x + x²/2 = 8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step_size": 0}, "step_size"),
        ({"rank": 0}, "rank"),
        ({"start": vector(0, math.nan)}, "start"),
    ],
)
def test_bad_arguments(change, named):
    arguments = {"start": vector(0, 1), "step_size": ETA, "iterations": 2} | change
    with pytest.raises(ValueError, match=named):
        rod_flow(quadratic(1.0, 2.0), **arguments)
