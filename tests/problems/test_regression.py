import pytest
import torch

from gfgd.problems.regression import SAMPLES, tanh_regression


def test_the_whole_is_the_mean_of_its_parts():
    study = tanh_regression(2, minibatches=3)
    assert len(study.parts) == 3
    parts = torch.stack([part.value(study.start) for part in study.parts])
    assert study.whole.value(study.start).item() == pytest.approx(parts.mean().item(), rel=1e-14)
    gradients = torch.stack([part.gradient(study.start) for part in study.parts])
    torch.testing.assert_close(study.whole.gradient(study.start), gradients.mean(0))
    assert not torch.allclose(gradients[0], gradients[1])


def test_the_loss_is_half_the_mean_squared_error_by_hand():
    study = tanh_regression(1, minibatches=2)
    drawn = torch.randn(
        2 * SAMPLES, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    wanted = torch.sin(2 * drawn[:, 0]) + drawn[:, 1] ** 2 / 2 - 0.5
    silent = torch.zeros_like(study.start)  # with weights 0 its output is 0
    by_hand = 0.5 * wanted.square().mean()
    assert study.whole.value(silent).item() == pytest.approx(by_hand.item(), rel=1e-13)


def test_a_seed_is_a_problem():
    one, same, other = (tanh_regression(seed, minibatches=1) for seed in (1, 1, 2))
    assert (one.start == same.start).all() and (one.start != other.start).any()


@pytest.mark.parametrize(("seed", "minibatches"), [(-1, 2), (1, 0)])
def test_bad_numbers_are_refused(seed, minibatches):
    with pytest.raises(ValueError):
        tanh_regression(seed, minibatches=minibatches)
