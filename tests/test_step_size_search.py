import math

import pytest
import torch

from gfgd import Objective, Trajectory
from gfgd.step_size_search import distance_from_flow, search_step_size

TIMES = torch.linspace(0, 2, 5, dtype=torch.float64)
RATES = torch.tensor([1.0, 3.0], dtype=torch.float64)
START = torch.tensor([1.0, 2.0], dtype=torch.float64)


def quadratic():
    """½ Σ λᵢ θᵢ² and its flow in closed form."""
    objective = Objective(lambda p: 0.5 * (RATES * p.square()).sum(-1), dimension=2)
    points = START * (-TIMES[:, None] * RATES).exp()
    return objective, Trajectory(TIMES, points, objective.value(points))


def closed_form(steps):
    """The largest distance with so many steps between two times."""
    size = 0.5 / steps
    powers = (1 - size * RATES) ** (steps * torch.arange(5, dtype=torch.float64)[:, None])
    return float((START * (powers - (-TIMES[:, None] * RATES).exp())).norm(dim=-1).max())


@pytest.mark.parametrize("distance", [0.1, 0.01, 0.001])
def test_ends_with_a_step_size_that_keeps_the_distance_and_hardly_smaller_than_need_be(distance):
    objective, flow = quadratic()
    attempts = search_step_size(objective, flow, distance, first=0.5, most=20)
    last = attempts[-1]
    steps = round(0.5 / last.step_size)
    assert last.iterations == 4 * steps
    assert last.distance == pytest.approx(closed_form(steps), rel=1e-9)
    assert last.distance <= distance < closed_form(max(1, steps - 2))
    assert all(attempt.distance > distance for attempt in attempts[:-1])


def test_first_step_size_is_rounded_down_to_the_spacing():
    objective, flow = quadratic()
    assert search_step_size(objective, flow, 1.0, first=0.2)[0].step_size == 0.5 / 3
    assert search_step_size(objective, flow, 1.0, first=0.25)[0].step_size == 0.25


def test_stops_at_the_number_of_runs_and_of_iterations():
    objective, flow = quadratic()
    assert len(search_step_size(objective, flow, 1e-6, first=0.5, most=2)) == 2
    few = search_step_size(objective, flow, 1e-6, first=0.25, max_iterations=20)
    assert [attempt.iterations for attempt in few] == [8, 16]


def test_a_run_that_diverges_is_infinitely_far_and_is_shorter():
    stiff = Objective(lambda p: p.square().square().sum(-1), dimension=2)
    start = 10 * START
    points = start / (1 + 8 * TIMES[:, None] * start.square()).sqrt()
    flow = Trajectory(TIMES, points, stiff.value(points))
    first, second, *_ = search_step_size(stiff, flow, 1e-3, first=0.25)
    assert math.isinf(first.distance)
    assert second.iterations == 2 * first.iterations
    assert len(distance_from_flow(first.run, flow)) < len(TIMES)


@pytest.mark.parametrize(
    ("changes", "said"), [({"first": 0.0}, "first"), ({"distance": -1.0}, "distance")]
)
def test_names_a_mistaken_argument(changes, said):
    objective, flow = quadratic()
    arguments = {"distance": 0.1, "first": 0.1} | changes
    with pytest.raises(ValueError, match=said):
        search_step_size(objective, flow, **arguments)
