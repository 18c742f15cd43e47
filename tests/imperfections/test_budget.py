from dataclasses import replace

import pytest
import torch

from gfgd import gradient_descent
from gfgd.imperfections import gates
from gfgd.imperfections.budget import distance_budget
from tests.small_problems import both_sides, small_network


def test_the_gate_that_parts_two_runs_has_all_of_the_distance():
    objective, column, jump, (above, below) = both_sides("branches")
    budget = distance_budget(objective, above, below)
    (link,) = budget.links
    assert (link.sample, link.column) == (3, column)
    assert (link.layer, link.unit) == gates.layer_and_unit(objective, column)
    assert link.share == pytest.approx(1, abs=0.1)
    assert (link.first, link.last) == (0.0, float(above.times[-1]))
    assert float(budget.apart[-1]) == pytest.approx(jump * 0.04, rel=0.1)
    shares = budget.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert abs(shares["rest"]) < 0.05
    assert budget.chain() == link.share


def test_a_kink_that_slides_draws_runs_together():
    objective, column, _, (above, below) = both_sides("slides")
    budget = distance_budget(objective, above, below)
    assert float(budget.by_gate[3, column]) < 0
    assert float(budget.together[-1]) < 0
    assert all((link.sample, link.column) != (3, column) for link in budget.links)


LENGTH = 0.5


def test_parts_beside_a_segment_walked_in_small_steps():
    # The oracle: along the segment the gradient changes by jumps where a gate switches, and the
    # jumps' sizes are differences of gradients.
    objective = small_network("relu", hidden=(6,), seed=1)
    theta = objective.initial(2)
    direction = torch.randn(theta.shape, generator=torch.Generator().manual_seed(2)).double()
    other = theta + LENGTH * direction / direction.norm()
    places = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    points = theta + places[:, None] * (other - theta)
    on = gates.gates(objective, points)
    jumps = 0.0
    switches = (on[1:] != on[:-1]).flatten(1).any(1).nonzero()[:, 0].tolist()
    for place in switches:
        change = objective.gradient(points[place + 1]) - objective.gradient(points[place])
        jumps -= float(change @ (other - theta)) / LENGTH
    assert len(switches) >= 3
    run = gradient_descent(objective, theta, step_size=1e-9, iterations=1)
    still = replace(run, points=torch.stack([theta, theta]))
    moved = replace(run, points=torch.stack([other, other]))
    budget = distance_budget(objective, moved, still)
    rate = float(budget.apart[-1] + budget.together[-1]) / 1e-9
    assert rate == pytest.approx(jumps, rel=0.1)
    pull = objective.gradient(other) - objective.gradient(theta)
    field = -float(pull @ (other - theta)) / LENGTH
    assert float(budget.smooth[-1]) / 1e-9 == pytest.approx(field - rate, rel=1e-6)


def test_a_force_is_in_the_rest_and_no_gate_is_named():
    objective = small_network("relu", hidden=(5, 4))
    start = objective.initial(4)
    generator = torch.Generator().manual_seed(0)
    force = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    force *= 1e-3 / force.norm()
    plain, driven = (
        gradient_descent(objective, start, step_size=1e-3, iterations=100, update=update)
        for update in (torch.sub, lambda point, step: point - step + 1e-3 * force)
    )
    budget = distance_budget(objective, driven, plain)
    assert float(budget.distance[-1]) == pytest.approx(1e-4, rel=0.1)
    assert budget.links == () and budget.chain() == 0
    assert budget.shares()["rest"] == pytest.approx(1, abs=0.1)


def test_what_has_no_budget_is_told():
    objective = small_network("relu")
    run = gradient_descent(objective, objective.initial(1), step_size=0.1, iterations=3)
    with pytest.raises(ValueError, match="no distance to explain"):
        distance_budget(objective, run, run)
    other = gradient_descent(objective, objective.initial(1), step_size=0.2, iterations=3)
    with pytest.raises(ValueError, match="other times"):
        distance_budget(objective, run, other)
    smooth = small_network("tanh")
    with pytest.raises(ValueError, match="has no kink"):
        distance_budget(smooth, run, run)
