import pytest
import torch

from gfgd.problems.draws import Draws


def test_each_seed_draws_what_it_draws_alone():
    several = Draws(3, count=4, seeds=2)
    alone = [Draws(3, count=4), Draws(4, count=4)]
    for draw in (lambda d: d.normal(2), lambda d: d.uniform(-1, 5, 3, 2), lambda d: d.normal()):
        together = draw(several)
        assert together.dtype == torch.float64
        torch.testing.assert_close(together, torch.cat([draw(d) for d in alone]), rtol=0, atol=0)


def test_distributions():
    draws = Draws(0, count=20_000)
    uniform, normal = draws.uniform(2.0, 5.0), draws.normal()
    assert uniform.min() >= 2.0
    assert uniform.max() < 5.0
    assert abs(uniform.mean() - 3.5) < 0.03  # its standard error is 0.006
    assert abs(normal.mean()) < 0.03  # 0.007
    assert abs(normal.std() - 1) < 0.03


@pytest.mark.parametrize("bad", [{"seed": -1}, {"count": 0}, {"seeds": 0}])
def test_bad_counts_are_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        Draws(**{"seed": 0, "count": 1} | bad)
