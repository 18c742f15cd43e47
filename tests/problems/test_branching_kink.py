import pytest
import torch

from gfgd import gradient_descent, gradient_flow
from gfgd.problems.branching_kink import BranchingKink


@pytest.mark.parametrize("margin", [0.1, 0.001])
def test_flow_is_the_integrated_one_and_comes_down_to_the_margin(margin):
    toy = BranchingKink()
    start = toy.start(margin, s=-0.5)
    times = torch.linspace(0, 1.5, 301, dtype=torch.float64)
    run = gradient_flow(toy.objective, start, times, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(run.points[-1], toy.flow(start, 1.5), rtol=0, atol=1e-8)
    assert float(run.points[:, 1].min()) == pytest.approx(margin, abs=1e-4)


def test_starts_and_flows_come_in_batches():
    toy = BranchingKink(kappa=0.5)
    starts = toy.start(torch.tensor([0.1, 0.2]))
    assert starts.shape == (2, 2)
    torch.testing.assert_close(toy.flow(starts, 1.0)[1], toy.flow(starts[1], 1.0))


@pytest.mark.parametrize("margin", [0.01, 0.001])
def test_descent_loses_the_branch_at_the_threshold(margin):
    toy = BranchingKink()
    start = toy.start(margin)
    for factor, lost in ((0.97, False), (1.03, True)):
        size = factor * float(toy.threshold(start))
        run = gradient_descent(toy.objective, start, step_size=size, iterations=round(1.6 / size))
        assert bool((run.points[:, 1] < 0).any()) is lost
