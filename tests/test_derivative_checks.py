import pytest
import torch

from gfgd.derivative_checks import check_derivatives, kinked_operations
from gfgd.objective import Objective
from tests.small_problems import small_network


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
