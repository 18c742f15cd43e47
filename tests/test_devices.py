"""Every run of the library on each device: results stay there, and are the CPU's.

On the CPU these tests compare a run with itself, so that they are known to work; with a GPU,
``pytest -m gpu`` runs them there.
"""

from functools import partial

import pytest
import torch

from gfgd import Objective, gradient_descent, gradient_flow, spectrum_along
from gfgd.bounds import curvature
from gfgd.bounds.leading_order import leading_order_error
from gfgd.comparison import descent_and_flow
from gfgd.imperfections import gates
from gfgd.imperfections.budget import distance_budget
from gfgd.imperfections.rounding import CompensatedSum, ImitatedRounding, spacing
from gfgd.large_steps.central import central_flow, time_average
from gfgd.large_steps.modified import (
    barrett_dherin_flow,
    modified_objective,
    next_order_flow,
    one_step_defects,
    principal_flow,
    second_order_flow,
    stochastic_flow,
)
from gfgd.large_steps.momentum import momentum_descent, momentum_flow
from gfgd.large_steps.pair_flow import pair_flow
from gfgd.large_steps.rmsprop import rmsprop, rmsprop_central_flow
from gfgd.large_steps.rod_flow import rod_flow
from gfgd.spectrum import extreme_eigenvalues

from .small_problems import small_network

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
STEP = 0.05


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return request.param


def network(device, activation="tanh"):
    return small_network(activation, device=device)


def start(objective, seed=0):
    return objective.initial(seed)


def times(objective):
    return torch.linspace(0, 1, 5, dtype=torch.float64, device=objective.inputs.device)


def flow_with(function, **options):
    """Return a run of a flow for large steps, whose last point is the result."""

    def run(objective):
        return function(objective, start(objective), times(objective), step_size=STEP, **options)

    return run


def along_descent(function, **options):
    """Return a run of a flow that goes from iterate to iterate."""

    def run(objective):
        found = function(objective, start(objective), step_size=STEP, iterations=12, **options)
        return found.points if hasattr(found, "points") else found

    return run


def descent(objective, **options):
    return gradient_descent(objective, start(objective), step_size=STEP, iterations=12, **options)


RUNS = {
    "gradient_descent": descent,
    "gradient_descent, rounded": partial(descent, update=ImitatedRounding(2)),
    "gradient_descent, compensated": lambda f: descent(f, update=CompensatedSum()),
    "gradient_flow": lambda f: gradient_flow(f, start(f), times(f)),
    "gradient_flow, fixed step": lambda f: gradient_flow(f, start(f), times(f), method="bosh3"),
    "descent_and_flow": lambda f: descent_and_flow(f, start(f), step_size=STEP, horizon=0.5)[1],
    "leading_order_error": lambda f: leading_order_error(f, start(f), times(f)).coefficient,
    "spectrum_along": lambda f: spectrum_along(f, descent(f), dense_below=0).smallest,
    "extreme_eigenvalues": lambda f: extreme_eigenvalues(f, start(f), dense_below=0).largest,
    "homogeneous_bound": lambda f: curvature.smallest_eigenvalue(f, start(f)),
    "modified_objective": lambda f: modified_objective(f, STEP).gradient(start(f)),
    "one_step_defects": lambda f: one_step_defects(f, descent(f).points, STEP),
    "barrett_dherin_flow": flow_with(barrett_dherin_flow),
    "next_order_flow": flow_with(next_order_flow),
    "principal_flow": flow_with(principal_flow),
    "second_order_flow": flow_with(second_order_flow),
    "stochastic_flow": lambda f: stochastic_flow([f, f], start(f), times(f), step_size=STEP),
    "momentum_flow": flow_with(momentum_flow, momentum=0.5),
    "momentum_descent": along_descent(momentum_descent, momentum=0.5),
    "central_flow": along_descent(central_flow),
    "time_average": lambda f: time_average(descent(f), 3),
    "pair_flow": along_descent(pair_flow, rounding=1e-9),
    "rod_flow": along_descent(rod_flow),
    "rmsprop": along_descent(rmsprop, decay=0.9),
    "rmsprop_central_flow": along_descent(rmsprop_central_flow, decay=0.9),
}


def tensor_of(found):
    return getattr(found, "points", found)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stays_on_its_device_and_agrees_with_the_cpu(name, device):
    found = tensor_of(RUNS[name](network(device)))
    wanted = tensor_of(RUNS[name](network("cpu")))
    assert isinstance(found, torch.Tensor), type(found)
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-6, atol=1e-8)


def test_kinks_and_budgets(device):
    objective = network(device, "relu")
    coarse = gradient_descent(objective, start(objective), step_size=0.1, iterations=20)
    fine = gradient_descent(
        objective, start(objective), step_size=0.05, iterations=40, record_every=2
    )
    budget = distance_budget(objective, coarse, fine)
    found = gates.kinks(objective, coarse.points[-1])
    assert found.velocities_on.device.type == device
    wanted = gates.kinks(network("cpu", "relu"), coarse.points[-1].cpu())
    torch.testing.assert_close(found.velocities_on.cpu(), wanted.velocities_on)
    assert budget is not None


def test_spacing_and_modules(device):
    gap = spacing(torch.tensor([1.0, 3.0], device=device))
    assert gap.device.type == device and gap.tolist() == [2**-23, 2**-22]
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    module = torch.nn.Sequential(*layers).double().to(device)
    inputs = torch.randn(6, 3, dtype=torch.float64, device=device)
    targets = torch.arange(6, device=device) % 2
    loss = torch.nn.functional.cross_entropy
    objective = Objective.from_module(module, loss, inputs, targets)
    flow = gradient_flow(objective, objective.start, torch.linspace(0, 1, 3))
    assert flow.points.device.type == device and flow.completed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gradient_does_not_wait_for_the_gpu():
    objective = network("cuda")
    begin = start(objective)
    gradient_descent(objective, begin, step_size=STEP, iterations=2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        point = begin
        for _ in range(5):
            point = point - STEP * objective.gradient(point)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert point.device.type == "cuda"
