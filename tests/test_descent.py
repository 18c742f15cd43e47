import numpy as np
import pytest
import torch

from gfgd.descent import descent_at, gradient_descent, spread_iterates
from gfgd.objective import Objective
from tests.small_problems import quadratic, quartic, small_network


def test_closed_form_on_a_quadratic():
    eigenvalues = torch.tensor([2.0, 0.5, -0.3], dtype=torch.float64)
    start = torch.tensor([1.0, -2.0, 0.1], dtype=torch.float64)
    run = gradient_descent(
        quadratic(*eigenvalues), start, step_size=0.1, iterations=50, record_every=7
    )
    steps = torch.tensor([0, 7, 14, 21, 28, 35, 42, 49, 50], dtype=torch.float64)
    exact = start * (1 - 0.1 * eigenvalues) ** steps[:, None]
    torch.testing.assert_close(run.times, 0.1 * steps)
    torch.testing.assert_close(run.points, exact)
    torch.testing.assert_close(run.losses, 0.5 * (eigenvalues * exact**2).sum(-1))
    assert run.completed and run.counts == {"gradients": 51}


def test_loss_and_point_belong_to_the_same_iterate():
    objective = small_network()
    run = gradient_descent(objective, objective.initial(0), step_size=0.1, iterations=5)
    torch.testing.assert_close(run.losses, objective.value(run.points))


def test_the_start_is_not_changed():
    start = torch.ones(1)
    gradient_descent(quadratic(1.0), start, step_size=0.1, iterations=3)
    assert start.item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_runs_in_the_precision_of_the_start(dtype):
    run = gradient_descent(quadratic(1.0), torch.ones(1, dtype=dtype), step_size=0.1, iterations=3)
    assert run.points.dtype == run.losses.dtype == dtype


def test_float32_data_with_float64_weights_accumulates_in_float64():
    single, double = small_network(dtype=torch.float32), small_network()
    start = double.initial(0)
    settings = {"step_size": 1e-3, "iterations": 500, "record_every": 500}
    exact = gradient_descent(double, start, **settings)
    mixed = gradient_descent(single, start, **settings)
    rounded = gradient_descent(single, start.float(), **settings)
    assert mixed.points.dtype == torch.float64
    assert mixed.distance_to(exact)[-1] < 0.1 * rounded.distance_to(exact)[-1]


def test_divergence_names_iteration_and_step_size():
    # From x = 10 the quartic's step x ← x − x³ is past all bounds in a few iterations.
    start = torch.tensor([10.0, 0.0], dtype=torch.float64)
    run = gradient_descent(quartic(), start, step_size=1.0, iterations=100)
    reached = len(run.times)
    assert not run.completed
    assert f"at iteration {reached} with step size 1" in run.status
    assert run.losses.isfinite().all()


def test_a_batch_goes_on_while_one_member_is_finite():
    starts = torch.tensor([[10.0, 0.0], [0.1, 0.1]], dtype=torch.float64)
    run = gradient_descent(quartic(), starts, step_size=1.0, iterations=20)
    assert len(run.times) == 21
    assert "1 of 2" in run.status
    alone = gradient_descent(quartic(), starts[1], step_size=1.0, iterations=20)
    torch.testing.assert_close(run.points[:, 1], alone.points)


def test_until_loss_stops_at_the_first_such_iterate():
    run = gradient_descent(
        quadratic(1.0),
        torch.ones(1, dtype=torch.float64),
        step_size=0.1,
        iterations=1000,
        record_every=100,
        until_loss=0.01,
    )
    assert run.losses[-1] <= 0.01 < run.losses[-1] / 0.9**2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0}, "step_size = 0: must be greater than 0"),
        ({"step_size": float("nan")}, "step_size"),
        ({"iterations": 0}, "iterations = 0"),
        ({"iterations": 2.5}, "iterations = 2.5: must be a whole number"),
        ({"record_every": 0}, "record_every = 0"),
        ({"start": torch.tensor([float("inf")])}, "start: has non-finite"),
        ({"step_size": "0.1"}, "step_size = '0.1': is text"),
        ({"start": torch.ones(1, dtype=torch.int64)}, "start: has dtype torch.int64"),
        ({"start": None}, "start: is a NoneType"),
        ({"start": ["a"]}, "start: is a list"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"start": torch.ones(1), "step_size": 0.1, "iterations": 2} | change
    with pytest.raises(ValueError, match=message):
        gradient_descent(quadratic(1.0), **arguments)


@pytest.mark.parametrize("start", [[1.0], np.ones(1), torch.ones(1).double().requires_grad_()])
def test_a_start_may_be_a_list_an_array_or_a_parameter(start):
    run = gradient_descent(quadratic(1.0), start, step_size=0.1, iterations=2)
    assert run.points.dtype == torch.float64 and not run.points.requires_grad
    assert run.points[-1].item() == pytest.approx(0.81, rel=1e-14)


def test_an_array_keeps_its_precision_and_is_not_changed():
    start = np.ones(1, dtype=np.float32)
    start.setflags(write=False)
    run = gradient_descent(quadratic(1.0), start, step_size=0.1, iterations=2)
    assert run.points.dtype == torch.float32 and start[0] == 1


def test_a_gradient_that_is_not_finite_at_the_start():
    # f = |x|^(1/2) is 0 at 0, and its slope there is infinite: no step size helps.
    root = Objective(lambda p: p.abs().sqrt().sum(-1), dimension=1)
    with pytest.raises(ValueError, match="start: the gradient there is not finite"):
        gradient_descent(root, torch.zeros(1), step_size=0.1, iterations=2)


def test_named_iterates_are_those_of_one_run_to_the_bit():
    objective = small_network()
    start = objective.initial(0)
    iterates = spread_iterates(30, even=3, logarithmic=5)
    found = descent_at(objective, start, step_size=0.1, iterates=iterates)
    whole = gradient_descent(objective, start, step_size=0.1, iterations=30)
    assert torch.equal(found.points, whole.points[iterates])
    assert torch.equal(found.losses, whole.losses[iterates])
    torch.testing.assert_close(found.times, whole.times[iterates])
    assert found.completed and found.counts["gradients"] == 30 + len(iterates) - 1


def test_named_iterates_end_where_the_run_diverges():
    run = descent_at(quadratic(1.0), torch.ones(1), step_size=1e10, iterates=[0, 1, 9, 20])
    assert "diverged" in run.status and "after iteration 1" in run.status
    assert len(run.times) == len(run.points) == len(run.losses) == 2


@pytest.mark.parametrize("iterates", [[0], [1, 2], [0, 2, 2], [0, 3, 1]])
def test_named_iterates_must_begin_with_0_and_increase(iterates):
    with pytest.raises(ValueError, match="iterates"):
        descent_at(quadratic(1.0), torch.ones(1), step_size=0.1, iterates=iterates)


def test_iterates_are_spread_both_ways():
    found = spread_iterates(10_000, even=40, logarithmic=50)
    assert set(range(0, 10_001, 250)) <= set(found)
    assert found == sorted(set(found)) and found[:2] == [0, 1]
    with pytest.raises(ValueError, match="iterations"):
        spread_iterates(100, even=7, logarithmic=3)
