import copy
import gc
import itertools

import pytest
import torch

from gfgd import networks
from gfgd.objective import Objective, check_derivatives, kinked_operations, unflatten
from tests.problems import quadratic, quartic, small_network


def test_closed_form_derivatives_of_the_quartic():
    point = torch.tensor([1.5, -0.7], dtype=torch.float64)
    x, y = point
    objective = quartic()
    u = torch.tensor([0.3, 2.0], dtype=torch.float64)
    v = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    hessian = torch.stack(
        [torch.stack([3 * x**2 + 2 * y, 2 * x]), torch.stack([2 * x, torch.zeros(())])]
    )
    third = torch.stack([6 * x * u[0] * v[0] + 2 * (u[0] * v[1] + u[1] * v[0]), 2 * u[0] * v[0]])
    torch.testing.assert_close(objective.value(point), x**4 / 4 + x**2 * y)
    torch.testing.assert_close(objective.gradient(point), torch.stack([x**3 + 2 * x * y, x**2]))
    torch.testing.assert_close(objective.hessian_vector_product(point, v), hessian @ v)
    torch.testing.assert_close(objective.hessian(point), hessian)
    torch.testing.assert_close(objective.third_derivative(point, u, v), third)


@pytest.mark.parametrize("activation", ["linear", "tanh", "softplus"])
def test_network_derivatives_against_finite_differences(activation):
    objective = small_network(activation)
    point = objective.initial(3)
    direction = torch.randn(objective.dimension, dtype=torch.float64)
    h = 1e-5
    slope = (objective.value(point + h * direction) - objective.value(point - h * direction)) / (
        2 * h
    )
    torch.testing.assert_close(objective.gradient(point) @ direction, slope, rtol=1e-7, atol=1e-8)
    bend = objective.gradient(point + h * direction) - objective.gradient(point - h * direction)
    product = objective.hessian_vector_product(point, direction)
    torch.testing.assert_close(product, bend / (2 * h), rtol=1e-6, atol=1e-7)
    jerk = objective.hessian_vector_product(
        point + h * direction, direction
    ) - objective.hessian_vector_product(point - h * direction, direction)
    third = objective.third_derivative(point, direction, direction)
    torch.testing.assert_close(third, jerk / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_batch_is_its_members(activation):
    objective = small_network(activation)
    points = torch.stack([objective.initial(seed) for seed in range(6)]).reshape(2, 3, -1)
    vectors = torch.randn_like(points)
    for method, arguments in (
        (objective.value, (points,)),
        (objective.gradient, (points,)),
        (objective.hessian_vector_product, (points, vectors)),
        (objective.third_derivative, (points, vectors, vectors)),
    ):
        batched = method(*arguments)
        single = torch.stack(
            [
                torch.stack([method(*(a[i, j] for a in arguments)) for j in range(3)])
                for i in range(2)
            ]
        )
        torch.testing.assert_close(batched, single)


def test_one_point_with_many_vectors():
    objective = small_network()
    point = objective.initial(0)
    vectors = torch.randn(4, objective.dimension, dtype=torch.float64)
    products = objective.hessian_vector_product(point, vectors)
    torch.testing.assert_close(products, vectors @ objective.hessian(point))


def test_terms_add_up():
    whole, parts = small_network(), small_network(chunk_size=5)
    assert len(parts.terms) == 3
    point = whole.initial(1)
    torch.testing.assert_close(parts.value(point), whole.value(point))
    torch.testing.assert_close(parts.gradient(point), whole.gradient(point))
    torch.testing.assert_close(parts.hessian(point), whole.hessian(point))


@pytest.mark.parametrize(
    ("method", "vectors"),
    [("gradient", 0), ("hessian_vector_product", 1), ("third_derivative", 2)],
)
def test_memory_does_not_grow_with_the_number_of_terms(method, vectors):
    dimension, held = 1009, []

    def term(point):
        alive = (one for one in gc.get_objects() if type(one) is torch.Tensor)
        held.append(sum(one.shape == (dimension,) for one in alive))
        return (point.square() * point).sum(-1)

    objective = Objective(*[term] * 12, dimension=dimension)
    start = torch.ones(dimension, dtype=torch.float64)
    getattr(objective, method)(start, *[start] * vectors)
    assert len(held) == 12
    assert max(held) == max(held[:3])  # the sums so far come after the first


def test_a_linear_function_has_no_curvature():
    objective = Objective(lambda p: p.sum(-1), dimension=3)
    point = torch.zeros(3, dtype=torch.float64)
    assert objective.gradient(point).tolist() == [1, 1, 1]
    assert objective.hessian(point).abs().max() == 0
    assert objective.third_derivative(point, point + 1, point + 1).abs().max() == 0


def test_wrong_shape_and_dtype_are_refused():
    objective = quadratic(1.0, 2.0)
    with pytest.raises(ValueError, match="must be d = 2"):
        objective.value(torch.zeros(3))
    with pytest.raises(ValueError, match="float32 or float64"):
        objective.gradient(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="give one θ"):
        objective.hessian(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="at least one"):
        Objective(dimension=2)


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


def test_right_derivatives_pass_the_check():
    for objective in (small_network("tanh"), small_network("relu")):
        errors = check_derivatives(objective, objective.initial(0))
        assert errors.gradient < 1e-6
        assert errors.symmetry < 1e-12
    assert check_derivatives(small_network("tanh"), objective.initial(0)).curvature < 1e-6
    flat = Objective(lambda p: 0 * p.sum(-1), dimension=3)
    errors = check_derivatives(flat, torch.ones(3, dtype=torch.float64))
    assert errors.gradient == errors.symmetry == errors.curvature == 0


def test_wrong_derivatives_fail_the_check():
    class Skew(Objective):
        def hessian_vector_product(self, point, vector):
            return torch.stack([vector[..., 1], 0 * vector[..., 0]], dim=-1)

    detached = Objective(lambda p: (p * p.detach()).sum(-1), dimension=3)
    assert check_derivatives(detached, torch.ones(3, dtype=torch.float64)).gradient > 0.1
    skew = Skew(lambda p: 0.5 * p.square().sum(-1), dimension=2)
    errors = check_derivatives(skew, torch.ones(2, dtype=torch.float64))
    assert errors.gradient < 1e-6
    assert min(errors.symmetry, errors.curvature) > 0.1
    with pytest.raises(ValueError, match="float64"):
        check_derivatives(skew, torch.ones(2))


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (torch.relu, "Relu"),
        (lambda x: x.clamp(min=0), "Clamp"),
        (lambda x: torch.nn.functional.max_pool1d(x[None], 2), "MaxPool"),
        (lambda x: x.amax(0), "Amax"),
        (torch.abs, "Abs"),
        (torch.nn.functional.hardtanh, "Hardtanh"),
    ],
)
def test_kinks_are_found_in_the_graph(operation, name):
    point = torch.randn(6, dtype=torch.float64)
    smooth = Objective(lambda p: torch.tanh(p).logsumexp(-1), dimension=6)
    assert kinked_operations(smooth, point) == ()
    kinked = Objective(
        smooth.terms[0], lambda p: operation(p.sin().reshape(2, 3)).sum(), dimension=6
    )
    (found,) = kinked_operations(kinked, point)
    assert found.startswith(name)
    assert kinked_operations(small_network("relu"), small_network("relu").initial(0)) == ("Relu",)


def test_unflatten_keeps_the_batch():
    pieces = unflatten(torch.arange(20.0).reshape(2, 10), [(2, 3), (4,)])
    assert [tuple(piece.shape) for piece in pieces] == [(2, 2, 3), (2, 4)]
    assert pieces[1][1].tolist() == [16, 17, 18, 19]
