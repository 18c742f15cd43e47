import itertools
import math

import pytest
import torch

from gfgd.large_steps.stochastic import mean_over_pairs, paired_orders, stochastic_descent
from gfgd.objective import Objective

#: f_b = ½ a_b (θ − c_b)², whose steps are affine maps.
SLOPES, CENTRES = (1.0, 2.0, 0.5), (0.3, -1.0, 2.0)
START = torch.tensor([1.5], dtype=torch.float64)


def minibatches():
    return [
        Objective(lambda p, a=a, c=c: 0.5 * a * (p[..., 0] - c) ** 2, dimension=1)
        for a, c in zip(SLOPES, CENTRES, strict=True)
    ]


def by_hand(order, size):
    theta = 1.5
    for b in order:
        theta -= size * SLOPES[b] * (theta - CENTRES[b])
    return theta


def test_each_order_takes_its_steps():
    orders = torch.tensor(list(itertools.permutations(range(3))))
    two_epochs = torch.cat([orders, orders.flip(0)], dim=1)
    ends = stochastic_descent(minibatches(), START, two_epochs, step_size=0.2)
    assert ends.shape == (3, 6, 1)
    assert (ends[0] == START).all()
    for i, order in enumerate(two_epochs.tolist()):
        assert ends[1, i].item() == pytest.approx(by_hand(order[:3], 0.2), rel=1e-13)
        assert ends[2, i].item() == pytest.approx(by_hand(order, 0.2), rel=1e-13)


@pytest.mark.parametrize("orders", [[[0, 1]], [[0, 1, 3]], [[0, 1, -1]], [0, 1, 2]])
def test_orders_must_be_whole_epochs_of_known_minibatches(orders):
    with pytest.raises(ValueError, match="orders"):
        stochastic_descent(minibatches(), START, torch.tensor(orders), step_size=0.1)


def test_a_pair_is_an_order_and_its_reverse_in_every_epoch():
    orders = paired_orders(4, 2, 3, torch.Generator().manual_seed(0))
    assert orders.shape == (8, 6)
    for one, other in zip(orders[:4].tolist(), orders[4:].tolist(), strict=True):
        assert sorted(one[:3]) == sorted(one[3:]) == [0, 1, 2]
        assert other[:3] == one[2::-1] and other[3:] == one[:2:-1]
    assert len({tuple(row) for row in orders.tolist()}) > 2


def test_the_mean_and_its_error_are_those_of_the_pairs():
    points = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0], [3.0, 0.0], [1.0, 2.0], [2.0, 2.0]])
    found = mean_over_pairs(points)
    # The pairs' means are (2, 0), (2, 2), (3.5, 3).
    assert found.mean.tolist() == pytest.approx([2.5, 5 / 3])
    variance = (0.25 + 0.25 + 1) / 2 + (25 + 1 + 16) / 9 / 2
    assert found.error == pytest.approx(2 * math.sqrt(variance / 3))
    assert found.unpaired_error == pytest.approx(2 * math.sqrt((4 + 4) / 6))


@pytest.mark.parametrize("shape", [(2, 3), (5, 3), (6,)])
def test_two_pairs_at_least_have_an_error(shape):
    with pytest.raises(ValueError, match="points of shape"):
        mean_over_pairs(torch.zeros(shape))
