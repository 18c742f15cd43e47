import math

import pytest
import torch

from gfgd import gradient_flow
from gfgd.networks.linear import imbalance
from gfgd.problems.matrix_completion import MatrixCompletion


def small(seed=0):
    return MatrixCompletion.random(6, rank=2, share=0.5, seed=seed)


def test_the_target_has_its_rank_and_length_and_some_entries_are_seen():
    problem = small()
    values = torch.linalg.svdvals(problem.target)
    assert values[0] == pytest.approx(1, abs=1e-12)
    assert values[1] > 0.01
    assert values[2:].max() < 1e-14
    assert set(problem.mask.unique().tolist()) == {0.0, 1.0}
    shares = [MatrixCompletion.random(30, rank=1, share=0.3, seed=i).mask.mean() for i in range(3)]
    assert all(abs(share - 0.3) < 0.06 for share in shares)
    assert not torch.equal(small(1).target, problem.target)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_start_is_balanced_and_its_product_the_same_at_each_depth(depth):
    problem = small()
    objective, start = problem.objective(depth), problem.start(depth, scale=0.01)
    assert objective.depth == depth
    product = objective.end_to_end(start)
    torch.testing.assert_close(product, 0.01 * problem.direction, rtol=0, atol=1e-16)
    torch.testing.assert_close(
        product.T @ product, 1e-4 * torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-17
    )
    if depth > 1:
        assert imbalance(objective.weights(start)) < 1e-15


def test_one_layer_guesses_nothing():
    """The seen entries are Λ + e^{−t}(W(0) − Λ), the others stay."""
    problem = small()
    objective, start = problem.objective(1), problem.start(1, scale=0.1)
    flow = gradient_flow(objective, start, torch.tensor([0.0, 2.0]), rtol=1e-10, atol=1e-12)
    found, first = objective.end_to_end(flow.points[-1]), 0.1 * problem.direction
    seen = problem.target + math.exp(-2) * (first - problem.target)
    expected = torch.where(problem.mask == 1, seen, first)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(problem.error(found), problem.error(first), rtol=0, atol=1e-9)


def test_the_error_is_that_of_the_unseen_entries():
    problem = small()
    guess = torch.stack([problem.target * problem.mask, problem.target, -problem.target])
    guess[1] += 7 * problem.mask
    torch.testing.assert_close(problem.error(guess), torch.tensor([1.0, 0.0, 2.0]).double())


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"rank": 7}, "rank"),
        ({"share": 1.2}, "share"),
        ({"share": 0.0}, "unseen"),
        ({"size": 0}, "size"),
    ],
)
def test_what_is_out_of_range_is_named(bad, named):
    given = {"size": 6, "rank": 2, "share": 0.5, "seed": 0} | bad
    with pytest.raises(ValueError, match=named):
        MatrixCompletion.random(given.pop("size"), **given)
