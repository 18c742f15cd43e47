import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfgd import Objective, Trajectory, gradient_flow
from gfgd.problems import landscapes
from gfgd.step_size_search import (
    by_trial,
    distance_from_flow,
    fewest_iterations,
    largest_step_size,
    search_step_size,
)

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
    attempts = search_step_size(objective, flow, distance=distance, first=0.5, most=20)
    last = attempts[-1]
    steps = round(0.5 / last.step_size)
    assert last.iterations == 4 * steps
    assert last.distance == pytest.approx(closed_form(steps), rel=1e-9)
    assert last.distance <= distance < closed_form(max(1, steps - 2))
    assert all(attempt.distance > distance for attempt in attempts[:-1])


def test_first_step_size_is_rounded_down_to_the_spacing():
    objective, flow = quadratic()
    assert search_step_size(objective, flow, distance=1.0, first=0.2)[0].step_size == 0.5 / 3
    assert search_step_size(objective, flow, distance=1.0, first=0.25)[0].step_size == 0.25


def test_stops_at_the_number_of_runs_and_of_iterations():
    objective, flow = quadratic()
    assert len(search_step_size(objective, flow, distance=1e-6, first=0.5, most=2)) == 2
    few = search_step_size(objective, flow, distance=1e-6, first=0.25, max_iterations=20)
    assert [attempt.iterations for attempt in few] == [8, 16]


def test_a_run_that_diverges_is_infinitely_far_and_is_shorter():
    stiff = Objective(lambda p: p.square().square().sum(-1), dimension=2)
    start = 10 * START
    points = start / (1 + 8 * TIMES[:, None] * start.square()).sqrt()
    flow = Trajectory(TIMES, points, stiff.value(points))
    first, second, *_ = search_step_size(stiff, flow, distance=1e-3, first=0.25)
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


@settings(max_examples=50, deadline=None)
@given(threshold=st.integers(1, 5000))
def test_fewest_iterations_finds_the_first(threshold):
    calls = []

    def distance(count):
        calls.append(count)
        return 1.0 if count >= threshold else math.inf

    assert fewest_iterations(distance, within=1.0) == threshold
    assert len(calls) <= 2 * math.log2(threshold) + 3


@pytest.mark.parametrize("guess", [1, 7, 90, 100, 101, 102, 4000])
def test_fewest_iterations_goes_up_and_down_from_a_guess(guess):
    calls = []

    def distance(count):
        calls.append(count)
        return 1.0 if count >= 101 else math.inf

    assert fewest_iterations(distance, within=1.0, guess=guess) == 101
    assert min(calls) >= 1 and 100 in calls and calls[0] == guess
    if abs(guess - 101) < 2:
        assert len(calls) <= 4


def test_fewest_iterations_may_be_one():
    assert fewest_iterations(lambda count: 0.0, within=1.0, guess=60) == 1


def test_fewest_iterations_gives_up_at_the_limit():
    tried = []
    with pytest.raises(ValueError, match="limit = 100"):
        fewest_iterations(lambda count: tried.append(count) or math.nan, within=1.0, limit=100)
    assert tried[-1] == 100


def test_a_step_size_by_trial_keeps_the_distance_and_a_step_less_does_not():
    hill = landscapes.quadratic(-1.0)
    times = torch.linspace(0, 2, 401, dtype=torch.float64)
    start = torch.tensor([0.3], dtype=torch.float64)
    flow = gradient_flow(hill.objective, start, times, rtol=1e-11, atol=1e-13)
    steps = round(2.0 / by_trial(hill.objective, flow, distance=0.05))

    def apart(count):  # on a hill the distance is largest at the end
        return 0.3 * (math.exp(2.0) - (1 + 2.0 / count) ** count)

    assert apart(steps) <= 0.05 < apart(steps - 1)


@pytest.mark.parametrize("guess", [1e-3, 0.5, 3.0])
@pytest.mark.parametrize("limit", [0.02, 0.7])
def test_the_largest_step_size_is_found_from_either_side(guess, limit):
    found = largest_step_size(lambda size: size <= limit, guess=guess, ceiling=2.0)
    assert limit / 1.05 < found <= limit


def test_the_ceiling_is_the_largest_step_size_that_is_asked_about():
    asked = []
    found = largest_step_size(lambda size: not asked.append(size), guess=0.3, ceiling=1.0)
    assert found == 1.0 == max(asked)


def test_where_nothing_passes_there_is_no_step_size():
    with pytest.raises(ValueError, match="no step size passes"):
        largest_step_size(lambda size: False, guess=0.1, ceiling=1.0)


def test_a_ratio_of_one_would_never_be_reached():
    with pytest.raises(ValueError, match="ratio = 1"):
        largest_step_size(lambda size: True, guess=0.1, ceiling=1.0, ratio=1)


@pytest.mark.parametrize(
    ("numbers", "said"), [({"within": 0}, "within = 0"), ({"within": 1, "guess": 0}, "guess = 0")]
)
def test_fewest_iterations_names_a_mistaken_argument(numbers, said):
    with pytest.raises(ValueError, match=said):
        fewest_iterations(lambda count: 0.0, **numbers)
