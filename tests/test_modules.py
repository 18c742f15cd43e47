import copy
import itertools

import pytest
import torch

from gfgd import networks
from gfgd.derivative_checks import check_derivatives
from gfgd.objective import Objective


def _module_and_data():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 5, bias=False), torch.nn.Tanh(), torch.nn.Linear(5, 3, bias=False)
    ).double()
    return module, torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 3


def test_from_module_agrees_with_the_library_network():
    module, inputs, labels = _module_and_data()
    wrapped = Objective.from_module(module, torch.nn.functional.cross_entropy, inputs, labels)
    own = networks.fully_connected(inputs, labels, hidden=(5,), activation="tanh")
    points = torch.stack([wrapped.start, own.initial(4)])
    torch.testing.assert_close(wrapped.value(points), own.value(points))
    torch.testing.assert_close(wrapped.gradient(points), own.gradient(points))
    torch.testing.assert_close(
        wrapped.hessian_vector_product(points, points),
        own.hessian_vector_product(points, points),
    )


def test_from_module_leaves_the_module_untouched():
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    before = copy.deepcopy(module.state_dict())
    objective = Objective.from_module(
        module, torch.nn.functional.mse_loss, torch.randn(8, 4), torch.randn(8, 3)
    )
    objective.gradient(objective.start + 1)
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_from_module_keeps_frozen_parameters_out():
    module, inputs, labels = _module_and_data()
    module[0].weight.requires_grad_(False)
    objective = Objective.from_module(module, torch.nn.functional.cross_entropy, inputs, labels)
    assert objective.dimension == 15


class _Module(torch.nn.Module):
    """A linear layer, then a function of (layer, inputs) that a test gives."""

    def __init__(self, forward, inputs=3, outputs=3):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)
        self.compute = forward

    def forward(self, inputs):
        return self.compute(self.layer, inputs)


def test_from_module_refuses_what_is_no_function():
    data = torch.randn(4, 3), torch.randn(4, 3)
    noisy = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"dropout.*module.eval\(\)"):
        Objective.from_module(noisy, torch.nn.functional.mse_loss, *data)
    Objective.from_module(noisy.eval(), torch.nn.functional.mse_loss, *data)
    with pytest.raises(ValueError, match="no parameter"):
        Objective.from_module(torch.nn.ReLU(), torch.nn.functional.mse_loss, *data)
    with pytest.raises(ValueError, match="must return one number"):
        Objective.from_module(
            torch.nn.Linear(3, 3), lambda out, target: (out - target).square(), *data
        )


@pytest.mark.parametrize(
    "forward",
    [
        lambda layer, x: torch.nn.functional.dropout(layer(x), 0.5),
        lambda layer, x: layer(x + torch.randn_like(x)),
        lambda layer, x: torch.nn.functional.rrelu(layer(x), training=True),
    ],
)
def test_from_module_sees_chance_that_no_layer_declares(forward):
    with pytest.raises(ValueError, match="draws random numbers"):
        Objective.from_module(
            _Module(forward), torch.nn.functional.mse_loss, torch.randn(4, 3), torch.randn(4, 3)
        )


def test_from_module_leaves_the_random_state_alone():
    inputs = torch.randn(4, 3)
    noisy = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        Objective.from_module(noisy, torch.nn.functional.mse_loss, inputs, inputs)
    assert torch.equal(before, torch.get_rng_state())


def test_from_module_refuses_a_state_between_evaluations():
    calls = itertools.count(1)
    counting = _Module(lambda layer, x: layer(x) * next(calls))
    with pytest.raises(ValueError, match="keep no state"):
        Objective.from_module(
            counting, torch.nn.functional.mse_loss, torch.randn(4, 3), torch.randn(4, 3)
        )


def test_from_module_refuses_a_loss_without_parameters_in_it():
    frozen = _Module(lambda layer, x: layer(x).detach())
    with pytest.raises(ValueError, match="does not depend on the parameters"):
        Objective.from_module(
            frozen, torch.nn.functional.mse_loss, torch.randn(4, 3), torch.randn(4, 3)
        )


def test_from_module_refuses_broadcasting_losses():
    with pytest.raises(ValueError, match=r"target size .* inputs of shape \(4, 3\)"):
        Objective.from_module(
            torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, torch.randn(4, 3), torch.randn(4)
        )


def test_from_module_says_what_a_failing_module_was_given():
    double = torch.nn.Linear(3, 2).double()
    with pytest.raises(ValueError, match=r"parameter of shape .* torch.float64, on cpu, inputs"):
        Objective.from_module(
            double, torch.nn.functional.cross_entropy, torch.randn(4, 3), torch.arange(4) % 2
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_from_module_refuses_other_dtypes(dtype):
    with pytest.raises(ValueError, match="must be float32 or float64"):
        Objective.from_module(
            torch.nn.Linear(3, 2, dtype=dtype),
            torch.nn.functional.cross_entropy,
            torch.randn(4, 3),
            torch.arange(4) % 2,
        )


def test_from_module_refuses_parameters_without_a_shape():
    lazy = torch.nn.LazyLinear(2)
    with pytest.raises(ValueError, match="call module"):
        Objective.from_module(
            lazy, torch.nn.functional.cross_entropy, torch.randn(4, 3), torch.arange(4) % 2
        )


def test_from_module_refuses_two_devices():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2, device="meta"))
    with pytest.raises(ValueError, match="on cpu and meta"):
        Objective.from_module(
            module, torch.nn.functional.cross_entropy, torch.randn(4, 3), torch.arange(4) % 2
        )


def test_from_module_counts_tied_weights_once():
    inputs = torch.randn(7, 4, dtype=torch.float64)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 4, bias=False), torch.nn.Tanh(), torch.nn.Linear(4, 4, bias=False)
    ).double()
    module[2].weight = module[0].weight
    objective = Objective.from_module(module, torch.nn.functional.mse_loss, inputs, inputs)

    def written_out(point):
        weight = point.reshape(4, 4)
        return (torch.tanh(inputs @ weight.T) @ weight.T - inputs).square().mean()

    expected = Objective(written_out, dimension=16)
    point = objective.start + 0.1
    torch.testing.assert_close(objective.gradient(point), expected.gradient(point))
    torch.testing.assert_close(objective.hessian(point), expected.hessian(point))


def test_from_module_normalises_with_the_batch_in_training_mode():
    inputs, targets = torch.randn(9, 3).double(), torch.randn(9, 3).double()
    norm = torch.nn.BatchNorm1d(3).double()
    objective = Objective.from_module(norm, torch.nn.functional.mse_loss, inputs, targets)
    centred = inputs - inputs.mean(0)
    normal = centred / (centred.square().mean(0) + norm.eps).sqrt()
    point = torch.randn(6, dtype=torch.float64)
    expected = (normal * point[:3] + point[3:] - targets).square().mean()
    torch.testing.assert_close(objective.value(point), expected)
    torch.testing.assert_close(objective.value(point), objective.value(point))


def test_from_module_copies_frozen_parameters_and_buffers():
    module, inputs, labels = _module_and_data()
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(6).double().eval(), module)
    module[1][0].weight.requires_grad_(False)
    objective = Objective.from_module(module, torch.nn.functional.cross_entropy, inputs, labels)
    before = objective.value(objective.start)
    with torch.no_grad():
        module[0].running_mean += 1
        module[1][0].weight *= 2
    assert objective.value(objective.start) == before


def test_from_module_computes_in_the_precision_of_each_parameter():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2).double())
    mixed = _Module(lambda layer, x: layer[1](layer[0](x).double()))
    mixed.layer = module
    inputs, labels = torch.randn(5, 3), torch.arange(5) % 2
    objective = Objective.from_module(mixed, torch.nn.functional.cross_entropy, inputs, labels)
    assert objective.start.dtype == torch.float64
    double = Objective.from_module(
        module.double(), torch.nn.functional.cross_entropy, inputs.double(), labels
    )
    gradient = objective.gradient(objective.start)
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, double.gradient(double.start), rtol=1e-5, atol=1e-6)


def test_from_module_differentiates_attention_twice():
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    module = _Module(lambda layer, x: layer(x, x, x, need_weights=False)[0].mean(1))
    module.layer = attention
    module = module.double()
    inputs, targets = torch.randn(6, 3, 4).double(), torch.randn(6, 4).double()
    objective = Objective.from_module(module, torch.nn.functional.mse_loss, inputs, targets)
    errors = check_derivatives(objective, objective.start)
    assert max(errors.gradient, errors.symmetry, errors.curvature) < 1e-6
