import copy
import itertools
import warnings

import pytest
import torch

from gfgd import gradient_flow, networks
from gfgd.derivative_checks import check_derivatives
from gfgd.large_steps.central import central_flow
from gfgd.large_steps.modified import barrett_dherin_flow, modified_objective, next_order_flow
from gfgd.modules import converted, load_into
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


class LayerNormByHand(torch.nn.Module):
    """What ``torch.nn.LayerNorm`` computes, in operations whose third derivatives are right."""

    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.bias = torch.nn.Parameter(torch.zeros(size))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        normal = centred / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return normal * self.weight + self.bias


def _normalised(norm, *, checked=True):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 6), norm, torch.nn.Tanh(), torch.nn.Linear(6, 2)
    ).double()
    inputs = torch.randn(10, 4).double()
    return Objective.from_module(
        module, torch.nn.functional.mse_loss, inputs, inputs[:, :2].sin(), checked=checked
    )


def test_third_derivatives_of_layer_norm_are_refused_where_they_are_used():
    """Their value by PyTorch is off by a quarter; gradients and products are right."""
    layer, by_hand = _normalised(torch.nn.LayerNorm(6)), _normalised(LayerNormByHand(6))
    start, times = layer.start, torch.tensor([0.0, 0.1, 0.2])
    vector = torch.randn(len(start), generator=torch.Generator().manual_seed(1)).double()
    third = by_hand.third_derivative(start, vector, vector)
    raw = layer.unchecked.third_derivative(start, vector, vector)
    assert (raw - third).norm() > 0.02 * third.norm()
    torch.testing.assert_close(
        layer.hessian_vector_product(start, vector), by_hand.hessian_vector_product(start, vector)
    )
    refusal = r"third derivatives .*layer_norm in layer '1' \(LayerNorm\).*write it out"
    for use in (
        lambda objective: objective.third_derivative(start, vector, vector),
        lambda objective: central_flow(objective, start, step_size=0.1, iterations=2),
        lambda objective: next_order_flow(objective, start, times, step_size=0.1),
        lambda objective: modified_objective(objective, 0.1).hessian_vector_product(start, vector),
    ):
        with pytest.raises(ValueError, match=refusal):
            use(layer)
        use(by_hand)
        use(_normalised(torch.nn.LayerNorm(6), checked=False))
    assert barrett_dherin_flow(layer, start, times, step_size=0.1).completed
    assert gradient_flow(modified_objective(layer, 0.1), start, times).completed


def test_second_derivatives_that_are_wrong_are_refused_where_they_are_used():
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3)).double()
    inputs = torch.randn(5, 3).double()
    objective = Objective.from_module(module, torch.nn.functional.mse_loss, inputs, inputs.sin())
    start = objective.start
    assert objective.gradient(start).isfinite().all()
    for use in (
        lambda: objective.hessian_vector_product(start, start),
        lambda: objective.hessian(start),
        lambda: modified_objective(objective, 0.1),
    ):
        with pytest.raises(ValueError, match=r"second derivatives .*_weight_norm"):
            use()


def test_a_start_on_a_kink_is_no_wrong_gradient():
    """Zero biases and a row of zeros in the data: units sit exactly on ReLU's kink."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.nn.init.zeros_(module[0].bias)
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    inputs[2] = 0
    objective = Objective.from_module(
        module.double(), torch.nn.functional.cross_entropy, inputs.double(), torch.arange(6) % 2
    )
    assert objective.wrong_derivatives(3) is None
    assert check_derivatives(objective, objective.start).suspicious == 1


def test_derivatives_of_float32_modules_are_checked_in_float64():
    inputs = torch.randn(8, 4)
    for norm, complains in ((torch.nn.LayerNorm(4), True), (LayerNormByHand(4), False)):
        module = torch.nn.Sequential(torch.nn.Linear(4, 4), norm)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            objective = Objective.from_module(
                module, lambda out, target: (out - target).tanh().square().mean(), inputs, inputs
            )
            assert (objective.wrong_derivatives(3) is not None) == complains
    inside = _Module(lambda layer, x: layer(x.float()).double(), 4, 4)
    with pytest.warns(UserWarning, match="could not be checked: the module cannot compute in flo"):
        Objective.from_module(inside, torch.nn.functional.mse_loss, inputs, inputs.double())


@pytest.mark.parametrize(
    ("wrap", "remedy"),
    [
        (torch.nn.DataParallel, r"DataParallel; give what it wraps, its attribute .module"),
        (torch.jit.script, "give the module that it was scripted or traced from"),
        (torch.compile, "compiled modules have no second derivative; .* _orig_mod|._orig_mod"),
        (lambda module: module.compile() or module, "without module.compile"),
        (lambda module: torch.nn.Sequential(torch.compile(module)), "module: 0 is a .*_orig_mod"),
        (type, "module: is the class Linear, must be"),
        (lambda module: module.weight, "module: is Parameter, must be"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_module_points_to_what_is_wrapped(wrap, remedy):
    module = wrap(torch.nn.Linear(3, 3))
    with pytest.raises(ValueError, match=remedy):
        Objective.from_module(module, torch.nn.functional.mse_loss, *[torch.randn(4, 3)] * 2)


def test_from_module_refuses_a_class_as_loss_and_says_its_weights_dtype():
    module, inputs, labels = _module_and_data()
    with pytest.raises(ValueError, match="loss: is the class CrossEntropyLoss; give an instance"):
        Objective.from_module(module, torch.nn.CrossEntropyLoss, inputs, labels)
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"the loss's weight of shape \(3,\), torch.float32"):
        Objective.from_module(module, loss, inputs, labels)
    given = Objective.from_module(module, torch.nn.functional.cross_entropy, inputs, labels)
    assert torch.equal(given.outputs(given.start), module(inputs))
    weighted = Objective.from_module(module, converted(loss, torch.float64), inputs, labels)
    weights = torch.tensor([1.0, 2.0, 3.0]).double()
    expected = Objective.from_module(
        module,
        lambda out, y: torch.nn.functional.cross_entropy(out, y, weight=weights),
        inputs,
        labels,
    )
    assert weighted.value(weighted.start) == expected.value(expected.start)


def test_inputs_as_tuple_or_dict_and_no_targets():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, left, right):
            return (self.scale * left - right).square()

    left, right = torch.randn(4), torch.randn(4)
    module = Two()
    values = []
    for inputs in ((left, right), {"right": right, "left": left}):
        objective = Objective.from_module(module, torch.mean, inputs)
        assert objective.dimension == 1
        values.append(objective.value(objective.start))
        objective.hessian(objective.start.double())
    assert values[0] == values[1] == (2 * left - right).square().mean()
    with pytest.raises(ValueError, match=r"inputs\['left'\] of shape \(4,\)"):
        Objective.from_module(module, torch.mean, {"left": left})


def test_a_packed_sequence_is_one_input():
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(3, 2), torch.randn(2, 2)])
    last = _Module(lambda layer, x: layer(x)[1][0][0])
    last.layer = torch.nn.LSTM(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective = Objective.from_module(
            last, torch.nn.functional.mse_loss, packed, torch.zeros(2, 3)
        )
        assert objective.wrong_derivatives(3) is None


def test_load_into_is_the_way_back():
    module, inputs, labels = _module_and_data()
    module.append(torch.nn.Linear(3, 3).float())
    module[2].weight.requires_grad_(False)
    frozen = module[2].weight.clone()
    shape = Objective.from_module(
        converted(module, torch.float64), torch.nn.functional.cross_entropy, inputs, labels
    )
    point = torch.randn(shape.dimension, dtype=torch.float64)
    load_into(module, point)
    back = torch.cat([p.reshape(-1) for p in module.parameters() if p.requires_grad])
    torch.testing.assert_close(back.double(), point, rtol=1e-6, atol=1e-6)
    assert torch.equal(module[0].weight.reshape(-1), point[:30])
    assert torch.equal(module[2].weight, frozen)
    assert module[3].weight.dtype == torch.float32
    assert module[0].weight.requires_grad
    outputs = converted(module, torch.float64)(inputs)
    torch.testing.assert_close(
        torch.nn.functional.cross_entropy(outputs, labels), shape.value(point), rtol=1e-6, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"one θ of shape \(42,\)"):
        load_into(module, point[1:])
    with pytest.raises(ValueError, match="float16"):
        load_into(module, point.half())


def test_converted_keeps_imaginary_parts_and_whole_numbers():
    module = torch.nn.Linear(2, 2, dtype=torch.complex64)
    assert converted(module, torch.float64).weight.dtype.is_complex
    with pytest.raises(ValueError, match="complex64, must be float32 or float64; make its real"):
        Objective.from_module(
            converted(module, torch.float64), lambda out: out.abs().sum(), torch.randn(3, 2)
        )
    assert converted(torch.ones(2, dtype=torch.complex64), torch.float64).dtype == torch.complex128
    assert converted((torch.arange(2), None), torch.float64)[0].dtype == torch.int64
    half = torch.nn.Linear(2, 2).bfloat16()
    double = converted({"layer": half}, torch.float64)["layer"]
    assert double.weight.dtype == torch.float64
    assert torch.equal(double.weight.bfloat16(), half.weight)
    assert half.weight.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_module_that_cannot_be_copied_is_named_with_the_reason():
    old = torch.nn.utils.weight_norm(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"Linear cannot be copied: .*torch.nn.utils.weight_norm"):
        converted(old, torch.float64)
