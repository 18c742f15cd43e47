import pytest
import torch

from gfgd.problems.landscapes import sharpening_valley
from gfgd.problems.valleys import matrix_valley, pair_energy, valley_point

DRIFT = torch.tensor([[0.05, 0.01], [0.01, 0.02]], dtype=torch.float64)
X = torch.tensor([0.3, -0.7], dtype=torch.float64)
MATRIX = torch.tensor([[2.0, 0.4], [0.4, -1.0]], dtype=torch.float64)


def test_the_value_is_that_of_the_matrices():
    value = matrix_valley(DRIFT).value(valley_point(X, MATRIX))
    by_hand = 0.5 * X @ MATRIX @ X - torch.trace(DRIFT @ MATRIX)
    assert value.item() == pytest.approx(by_hand.item(), rel=1e-14)


def test_lengths_are_those_of_vector_and_matrix():
    length = valley_point(X, MATRIX).square().sum()
    assert length.item() == pytest.approx((X.square().sum() + MATRIX.square().sum()).item())


def test_the_gradient_is_that_of_the_matrices():
    gradient = matrix_valley(DRIFT).gradient(valley_point(X, MATRIX))
    in_matrix = 0.5 * torch.outer(X, X) - DRIFT
    torch.testing.assert_close(gradient, valley_point(MATRIX @ X, in_matrix))


def test_on_the_floor_the_curvature_is_the_matrix():
    hessian = matrix_valley(DRIFT).hessian(valley_point(0 * X, MATRIX))
    expected = torch.zeros(5, 5, dtype=torch.float64)
    expected[:2, :2] = MATRIX
    torch.testing.assert_close(hessian, expected)


def test_along_an_axis_it_is_the_valley_of_two_variables():
    drift = torch.diag(torch.tensor([0.05, 0.0], dtype=torch.float64))
    matrix = torch.diag(torch.tensor([3.0, 0.0], dtype=torch.float64))
    point = valley_point(torch.tensor([0.3, 0.0], dtype=torch.float64), matrix)
    plain = sharpening_valley(0.05).objective.value(torch.tensor([0.3, 3.0], dtype=torch.float64))
    assert matrix_valley(drift).value(point).item() == pytest.approx(plain.item(), rel=1e-13)


def test_other_shapes_and_matrices_are_refused():
    skew = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    for call in (
        lambda: matrix_valley(skew),
        lambda: matrix_valley(torch.eye(3)),
        lambda: valley_point(X, skew),
        lambda: valley_point(torch.zeros(3), torch.eye(2)),
    ):
        with pytest.raises(ValueError):
            call()


def test_the_pair_flow_of_order_one_conserves_the_energy():
    # x' = ηwx, w' = η(c − ½x²), by the chain rule; and E is least at a rest point.
    c, x, w = 0.05, torch.tensor([0.3, -1.2]).double(), torch.tensor([-0.4, 0.7]).double()
    for tensor in (x, w):
        tensor.requires_grad_()
    energy = pair_energy(x, w, c)
    by_x, by_w = torch.autograd.grad(energy.sum(), (x, w))
    assert (by_x * w * x + by_w * (c - x.square() / 2)).abs().max() < 1e-15
    rest = torch.full((2,), (2 * c) ** 0.5, dtype=torch.float64)
    assert (pair_energy(rest, torch.zeros(2).double(), c) < energy).all()
