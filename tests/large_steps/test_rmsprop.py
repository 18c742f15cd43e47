"""Oracles: RMSProp itself in the valley, the closed form of σ², the constraint."""

import math

import pytest
import torch

from gfgd.large_steps.rmsprop import rmsprop, rmsprop_central_flow
from gfgd.objective import Objective

ETA, DRIFT = 0.005, 0.05


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


def valley():
    return Objective(lambda p: 0.5 * p[..., 1] * p[..., 0] ** 2 - DRIFT * p[..., 1], dimension=2)


@pytest.mark.parametrize("decay", [0.95, 0.99])
def test_central_flow_of_the_valley_is_the_average_of_rmsprop(decay):
    options = {"step_size": ETA, "decay": decay, "second_moment": DRIFT**2}
    run = rmsprop(valley(), vector(0.01, 19.5), iterations=1100, **options)
    flow = rmsprop_central_flow(
        valley(), vector(0, 19.5), iterations=900, record_every=900, **options
    )
    assert flow.status == run.status == "completed"
    late = slice(700, 1101)
    assert run.points[late, 1].mean().item() == pytest.approx(flow.points[-1, 1].item(), rel=3e-3)
    root = run.second_moments[late].sqrt().mean().item()
    assert root == pytest.approx(flow.second_moments[-1].sqrt().item(), rel=0.01)
    # On the edge, to the first order of the steps.
    assert ETA * flow.sharpness[-1] / flow.second_moments[-1].sqrt() == pytest.approx(2, rel=1e-4)


def test_variance_is_the_closed_form():
    decay = 0.9
    flow = rmsprop_central_flow(
        valley(),
        vector(0, 19.5),
        step_size=ETA,
        decay=decay,
        iterations=200,
        substeps=16,
        second_moment=DRIFT**2,
    )
    ratio = (1 - decay) / decay
    y, nu = flow.points[-1, 1], flow.second_moments[-1]
    # ∇S = (0, 1) and ∇f = (0, −c)
    top = 2 * DRIFT / y**2 + ratio / 2 * (1 - DRIFT**2 / nu)
    expected = top / (1 / y**2 + 2 * ratio / ETA**2)
    assert flow.variances[-1].item() == pytest.approx(expected.item(), rel=1e-3)
    assert flow.variances[-1] > 0


def test_the_oscillation_raises_the_edge():
    flow = rmsprop_central_flow(
        valley(),
        vector(0, 19.5),
        step_size=ETA,
        decay=0.95,
        iterations=300,
        second_moment=DRIFT**2,
    )
    assert flow.second_moments[-1] > flow.second_moments[0]
    assert flow.sharpness[-1] > flow.sharpness[0]


def test_a_second_critical_eigenvalue_stops_with_the_remedy():
    def value(p):
        return 0.5 * p[..., 2] * (p[..., 0] ** 2 + 0.98 * p[..., 1] ** 2) - DRIFT * p[..., 2]

    flow = rmsprop_central_flow(
        Objective(value, dimension=3),
        vector(0, 0, 19.2),
        step_size=ETA,
        decay=0.95,
        iterations=100,
        second_moment=DRIFT**2,
    )
    assert flow.status.startswith("stopped at step ") and "for one" in flow.status


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"decay": 1.0}, "decay"),
        ({"step_size": 0}, "step_size"),
        ({"second_moment": 0.0}, "second_moment"),
        ({"start": vector(0, math.nan)}, "start"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_bad_arguments(change, named):
    arguments = {"start": vector(0, 1), "step_size": ETA, "decay": 0.9, "iterations": 2} | change
    for run in (rmsprop, rmsprop_central_flow):
        with pytest.raises(ValueError, match=named):
            run(valley(), **arguments)


def test_too_few_substeps():
    with pytest.raises(ValueError, match="substeps"):
        rmsprop_central_flow(
            valley(), vector(0, 1), step_size=ETA, decay=0.9, iterations=2, substeps=1
        )
