"""The bound for the paper's convolutional network, against one whose maps are matrices."""

import pytest
import torch
from torch.nn import functional

from gfgd import extreme_eigenvalues, networks
from gfgd.bounds.convolutional import convolutional_bound

SIZE = 20


def small(activation="relu", variant="adapted"):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, SIZE, SIZE, generator=generator, dtype=torch.float64)
    labels = torch.arange(6) % 3
    return networks.convolutional(images, labels, activation=activation, variant=variant)


def matrix(filters, size, padding):
    """The matrix of a 5×5 convolution with stride 2."""
    basis = torch.eye(filters.shape[1] * size**2).double().reshape(-1, filters.shape[1], size, size)
    return functional.conv2d(basis, filters, stride=2, padding=padding).flatten(1).T


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_is_the_formula_with_matrices_and_below_the_smallest_eigenvalue(activation):
    objective = small(activation)
    point = 2 * objective.initial(1)
    first, second, *dense = objective.weights(point)
    maps = [matrix(first, SIZE, 2), matrix(second, SIZE // 2, 0), *dense]
    norms = [float(torch.linalg.matrix_norm(m, 2)) for m in maps]
    kappas = [3.0, 3.0, 1.0, 1.0, 1.0]
    product = torch.tensor(norms).double().prod()
    pairs = [
        kappas[i] * kappas[j] * product / (norms[i] * norms[j]) for j in range(5) for i in range(j)
    ]
    outputs = objective.outputs(point, objective.inputs)
    one_hot = functional.one_hot(objective.targets, outputs.shape[-1])
    gradients = (outputs.softmax(-1) - one_hot).norm(dim=-1)
    size = (gradients * objective.inputs.flatten(1).norm(dim=-1)).mean()
    found = convolutional_bound(objective, point)
    torch.testing.assert_close(found, -4 * size * max(pairs), rtol=2e-4, atol=0)
    lowest = extreme_eigenvalues(objective, point, smallest=1, largest=0).smallest[0]
    assert lowest < -1e-3
    assert found <= lowest


@pytest.mark.parametrize(
    "objective", [small(variant="off_the_shelf"), small(activation="tanh")], ids=["biases", "tanh"]
)
def test_is_refused_where_there_is_none(objective):
    with pytest.raises(ValueError, match="without biases and a homogeneous"):
        convolutional_bound(objective, objective.initial(1))
