import math
from itertools import pairwise

import pytest
import torch

from gfgd.derivative_checks import (
    check_derivatives,
    generic_point,
    jumps_at,
    kinked_operations,
    unexplained_part,
)
from gfgd.objective import Objective
from tests.small_problems import small_network


def test_right_derivatives_pass_the_check():
    for objective in (small_network("tanh"), small_network("relu")):
        errors = check_derivatives(objective, objective.initial(0))
        assert errors.gradient < 1e-6
        assert errors.symmetry < 1e-12
    smooth = check_derivatives(small_network("tanh"), objective.initial(0))
    assert max(smooth.by_order) < 1e-7
    assert smooth.suspicious is smooth.wrong is None
    flat = Objective(lambda p: 0 * p.sum(-1), dimension=3)
    errors = check_derivatives(flat, torch.ones(3, dtype=torch.float64))
    assert errors.by_order == (0, 0, 0)
    assert errors.symmetry == 0


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


def _power(exponent, factors):
    """Return x^n as a function whose k-th derivative is multiplied by the k-th of the factors."""

    class Power(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**exponent

        @staticmethod
        def backward(ctx, slope):
            (x,) = ctx.saved_tensors
            below = _power(exponent - 1, factors[1:]) if factors else lambda x: x ** (exponent - 1)
            return slope * exponent * below(x) * (factors[0] if factors else 1)

    return Power.apply


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_that_is_wrong_is_named_with_its_error(order):
    factors = [1.0, 1.0, 1.0]
    factors[order - 1] = 0.8  # autograd's value is 0.8 of the true one: 25 % off in its own units
    objective = Objective(lambda p: _power(5, factors)(p).sum(-1), dimension=4)
    point = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    errors = check_derivatives(objective, point)
    assert errors.wrong == errors.suspicious == order
    assert errors.by_order[order - 1] == pytest.approx(0.25, rel=0.8)
    if order == 3:
        assert errors.third == pytest.approx(0.25, rel=1e-6)
        assert errors.symmetry < 1e-12  # it is symmetric all the same
    below = check_derivatives(objective, point, orders=max(order - 1, 1))
    assert below.wrong == (1 if order == 1 else None)
    with pytest.raises(ValueError, match="orders = 4"):
        check_derivatives(objective, point, orders=4)


def test_kinks_in_reach_of_the_differences_are_no_wrong_derivative():
    """A thousand samples of a ReLU: some switch within the larger steps."""
    inputs = torch.randn(1000, 20, generator=torch.Generator().manual_seed(1)).double()
    objective = Objective(
        lambda p: (p.reshape(-1, 20) @ inputs.T).relu().square().sum((-1, -2)).log(), dimension=400
    )
    point = 0.1 * torch.randn(400, generator=torch.Generator().manual_seed(2)).double()
    assert check_derivatives(objective, point).wrong is None


def test_a_derivative_that_is_missing_or_not_finite_is_told():
    here = torch.arange(6, dtype=torch.float64).reshape(2, 3).cos()
    far = Objective(lambda p: torch.cdist(p.reshape(2, 3), here).square().sum(), dimension=6)
    errors = check_derivatives(far, torch.arange(1.0, 7.0, dtype=torch.float64))
    assert errors.wrong == 2
    assert errors.curvature == float("inf")
    assert "cdist" in (errors.missing or "")
    root = Objective(lambda p: p[..., 0].abs() ** 1.5 + p[..., 1] ** 2, dimension=2)
    errors = check_derivatives(root, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert errors.curvature != errors.curvature
    assert errors.wrong == 2


def test_a_jump_of_the_value_is_seen_and_a_kink_is_none():
    rounded = Objective(lambda p: p.square().sum(-1) + p[..., 0].detach().floor(), dimension=2)
    one = torch.ones(2, dtype=torch.float64)
    assert jumps_at(rounded, one)
    assert not jumps_at(rounded, 1.3 * one)
    kinked = Objective(lambda p: (p - 1).abs().sum(-1), dimension=2)
    assert not jumps_at(kinked, one)
    assert not jumps_at(small_network(), small_network().initial(0))


def test_the_unexplained_part_shrinks_with_the_step_where_f_is_smooth_and_only_there():
    """In order 4; ReLU's stays as it is as long as units switch."""
    smooth, kinked = small_network("tanh"), small_network("relu", hidden=(60, 40))
    points = torch.stack([smooth.initial(seed) for seed in range(4)])
    parts = [unexplained_part(smooth, points, size) for size in (0.5, 0.25, 0.125)]
    orders = [math.log2(a / b) for a, b in pairwise(parts)]
    assert orders[-1] == pytest.approx(4, abs=0.4)
    points = torch.stack([kinked.initial(seed) for seed in range(40)])
    jumping = [unexplained_part(kinked, points, size) for size in (0.5, 0.125)]
    assert min(jumping) > 0.05
    assert jumping[1] > 0.3 * jumping[0]
    assert math.isnan(
        unexplained_part(Objective(lambda p: p.sum(-1), dimension=2), torch.ones(2), 1)
    )


def test_a_generic_point_is_near_and_off_zero():
    point = torch.cat([torch.zeros(50), torch.ones(50)]).double()
    moved = generic_point(point) - point
    assert (moved != 0).all()
    assert moved.norm() < 0.02 * point.norm()
    assert moved[:50].abs().median() > 1e-4


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


def test_kinks_of_modules_of_batches_and_of_several_terms():
    module = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 4, 4)),
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.SiLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Hardtanh(),
    )
    objective = Objective.from_module(
        module, torch.nn.functional.l1_loss, torch.randn(3, 16), torch.zeros(3, 2)
    )
    assert kinked_operations(objective, objective.start) == (
        *("Abs", "Hardtanh", "MaxPool2DWithIndices"),
    )
    smooth = small_network("tanh", chunk_size=5)
    assert kinked_operations(smooth, smooth.initial(0)) == ()
    two = Objective(lambda p: p.square().sum(-1), lambda p: p.abs().sum(-1), dimension=2)
    assert kinked_operations(two, torch.ones(3, 2)) == ("Abs",)
