import gc
import itertools

import numpy as np
import pytest
import torch

from gfgd.objective import Objective, as_point, unflatten
from tests.small_problems import quadratic, quartic, small_network


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
        (objective.hessian, (points,)),
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


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_many_products_at_one_point_are_those_one_by_one(activation, chunk_size):
    objective = small_network(activation, chunk_size=chunk_size)
    points = torch.stack([objective.initial(seed) for seed in (1, 2)])
    vectors = torch.randn(3, objective.dimension, dtype=torch.float64)
    for point in (points[0], points):
        gradient, other = objective.gradient_and_hessian_at(point)
        assert not gradient.requires_grad
        expected = objective.gradient(point)
        torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=1e-14)
        for product, vector in itertools.product((objective.hessian_at(point), other), vectors):
            one = objective.hessian_vector_product(point, vector)
            torch.testing.assert_close(product(vector), one, rtol=1e-14, atol=1e-14)
            assert not product(vector).requires_grad


def test_with_one_term_the_gradient_is_computed_once_for_many_products():
    calls = []

    def term(point):
        calls.append(point)
        return point.pow(4).sum(-1)

    point = torch.tensor([1.0, 2.0], dtype=torch.float64)
    product = Objective(term, dimension=2).hessian_at(point)
    assert product([1.0, 0.0]).tolist() == [12, 0] and product([0.0, 1.0]).tolist() == [0, 48]
    assert len(calls) == 1
    gradient, product = Objective(term, dimension=2).gradient_and_hessian_at(point)
    assert gradient.tolist() == [4, 32] and product([1.0, 1.0]).tolist() == [12, 48]
    assert len(calls) == 2
    product = Objective(term, term, dimension=2).hessian_at(point)
    assert product([1.0, 1.0]).tolist() == [24, 96] and len(calls) == 4
    with pytest.raises(ValueError, match="d = 2"):
        product(torch.ones(3))


def test_a_subclass_with_products_of_its_own_is_asked_for_them():
    class Known(Objective):
        def hessian_vector_product(self, point, vector):
            return 7 * vector

    objective = Known(lambda point: point.square().sum(-1), dimension=2)
    ones = torch.ones(2, dtype=torch.float64)
    assert objective.hessian_at(ones)(ones).tolist() == [7, 7]
    gradient, product = objective.gradient_and_hessian_at(ones)
    assert gradient.tolist() == [2, 2] and product(ones).tolist() == [7, 7]
    assert objective.hessian(ones).tolist() == [[7, 0], [0, 7]]


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
    with pytest.raises(ValueError, match="must be d = 2"):
        objective.hessian(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="at least one"):
        Objective(dimension=2)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda x: np.array(x, np.float32)])
def test_arrays_and_lists_are_points_and_vectors(kind):
    objective = quartic()
    point = kind([1.5, -0.75])
    tensor = torch.tensor([1.5, -0.75], dtype=torch.float64)
    u, v = kind([1.0, 2.0]), [0.5, -1.0]
    for given, expected in (
        (objective.value(point), objective.value(tensor)),
        (objective.gradient(point), objective.gradient(tensor)),
        (objective.hessian(point), objective.hessian(tensor)),
        (
            objective.third_derivative(point, u, v),
            objective.third_derivative(tensor, tensor.new([1, 2]), tensor.new([0.5, -1])),
        ),
    ):
        torch.testing.assert_close(given, expected, check_dtype=False)
    single = getattr(point, "dtype", None) == np.float32
    assert as_point(point).dtype == (torch.float32 if single else torch.float64)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(2, dtype=torch.complex64), "complex64, must be float32 or float64; convert it"),
        (torch.ones(2, dtype=torch.complex128), "complex128, must be"),
        (np.array([1, 2]), "int64, must be"),
        ([1.0, "two"], "is a list; give a tensor, or an array"),
        ({"weight": 1.0}, "is a dict; give a tensor, or an array"),
        (None, "is a NoneType; give"),
    ],
)
def test_what_is_no_point_is_refused_by_name(bad, message):
    objective = quadratic(1.0, 2.0)
    with pytest.raises(ValueError, match=message):
        objective.value_and_gradient(bad)
    with pytest.raises(ValueError, match=message):
        objective.hessian_vector_product([1.0, 2.0], bad)
    with pytest.raises(ValueError, match=f"velocity: .*{message}"):
        as_point(bad, "velocity")


def test_unflatten_knows_scalars():
    scalar, vector = unflatten(torch.tensor([1.0, 2.0, 3.0]), [(), (2,)])
    assert scalar.shape == ()
    assert vector.tolist() == [2.0, 3.0]


def test_unflatten_keeps_the_batch():
    pieces = unflatten(torch.arange(20.0).reshape(2, 10), [(2, 3), (4,)])
    assert [tuple(piece.shape) for piece in pieces] == [(2, 2, 3), (2, 4)]
    assert pieces[1][1].tolist() == [16, 17, 18, 19]
