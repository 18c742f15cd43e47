import copy

import pytest
import torch

from gfgd import networks
from gfgd.objective import Objective, unflatten
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


def test_unflatten_keeps_the_batch():
    pieces = unflatten(torch.arange(20.0).reshape(2, 10), [(2, 3), (4,)])
    assert [tuple(piece.shape) for piece in pieces] == [(2, 2, 3), (2, 4)]
    assert pieces[1][1].tolist() == [16, 17, 18, 19]
