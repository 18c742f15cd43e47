import math

import pytest
import torch

from gfgd import networks
from tests.problems import small_network


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_value_is_the_formula(activation):
    objective = small_network(activation)
    point = objective.initial(1)
    first, second, third = objective.weights(point)
    sigma = networks.ACTIVATIONS[activation].apply
    total = 0.0
    for x, label in zip(objective.inputs, objective.targets, strict=True):
        z = third @ sigma(second @ sigma(first @ x))
        total += -z[label] + z.exp().sum().log()
    torch.testing.assert_close(objective.value(point), total / 12)


def test_squared_error():
    inputs, targets = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    objective = networks.fully_connected(
        inputs, targets, hidden=(), activation="linear", loss="half_squared_error"
    )
    weight = torch.randn(2, 3).double()
    expected = 0.5 * (inputs @ weight.T - targets).square().sum() / 7
    torch.testing.assert_close(objective.value(weight.reshape(-1)), expected)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_homogeneous_networks_scale_with_the_depth(activation):
    objective = small_network(activation)
    point = objective.initial(2)
    outputs = objective.outputs(point, objective.inputs)
    scaled = objective.outputs(1.7 * point, objective.inputs)
    torch.testing.assert_close(scaled, 1.7**objective.depth * outputs)
    assert networks.ACTIVATIONS[activation].homogeneous
    alpha, beta = networks.ACTIVATIONS[activation].slopes
    z = torch.linspace(-2, 2, 9)
    expected = alpha * z.clamp(min=0) + beta * z.clamp(max=0)
    torch.testing.assert_close(networks.ACTIVATIONS[activation].apply(z), expected)


def test_initial_is_what_a_torch_module_gets():
    objective = small_network()
    torch.manual_seed(5)
    layers = [torch.nn.Linear(i, o, bias=False) for o, i in objective.shapes]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
    expected = torch.cat([layer.weight.detach().reshape(-1) for layer in layers]).double()
    torch.testing.assert_close(objective.initial(5), expected, rtol=0, atol=0)


def test_initial_is_reproducible_and_leaves_the_global_generator_alone():
    objective = small_network()
    state = torch.random.get_rng_state()
    assert torch.equal(objective.initial(1), objective.initial(1))
    assert not torch.equal(objective.initial(1), objective.initial(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    limit = max(math.sqrt(6 / sum(shape)) for shape in objective.shapes)
    assert objective.initial(1, scale=0.01).abs().max() <= 0.01 * limit
    assert objective.initial(1, init="gaussian").std() == pytest.approx(1, abs=0.3)


def test_accuracy_counts_right_answers():
    objective = small_network("linear", hidden=())
    points = torch.randn(4, objective.dimension, dtype=torch.float64)
    guesses = (objective.inputs @ objective.weights(points)[0].mT).argmax(-1)
    expected = (guesses == objective.targets).double().mean(-1)
    torch.testing.assert_close(objective.accuracy(points), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "rellu"}, "activation = 'rellu'.*did you mean 'relu'"),
        ({"loss": "hinge"}, "loss = 'hinge'"),
        ({"hidden": (5, 0)}, r"hidden\[1\] = 0"),
        ({"chunk_size": 0}, "chunk_size = 0"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, "N targets"),
        ({"targets": torch.zeros(12)}, "whole labels"),
        ({"targets": torch.zeros(12), "loss": "half_squared_error"}, r"shape \(N, K\)"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "inputs": torch.zeros(12, 4),
        "targets": torch.zeros(12, dtype=torch.int64),
        "hidden": (5,),
    }
    with pytest.raises(ValueError, match=message):
        networks.fully_connected(**(arguments | change))
