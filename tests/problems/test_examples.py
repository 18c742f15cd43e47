import torch

from gfgd.derivative_checks import check_derivatives
from gfgd.objective import Objective
from gfgd.problems import examples


def test_the_example_is_a_smooth_objective_on_two_hundred_digits():
    inputs, labels = examples.digits()
    assert inputs.shape == (200, 1, 8, 8)
    assert sorted(set(labels.tolist())) == list(range(10))
    objective = Objective.from_module(
        examples.residual_network().double(), torch.nn.functional.cross_entropy, inputs, labels
    )
    assert objective.dimension == 640  # 6·10 + (6·54 + 6) + 10·25
    errors = check_derivatives(objective, objective.start, directions=2)
    assert max(errors.gradient, errors.symmetry, errors.curvature) < 1e-6


def test_the_block_adds_to_its_input():
    block = examples.Residual(2)
    torch.nn.init.zeros_(block.convolution.weight)
    torch.nn.init.zeros_(block.convolution.bias)
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(block(x), x)
