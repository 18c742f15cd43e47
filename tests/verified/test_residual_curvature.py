"""The bound on λmin for convex losses of one's own, against dense Hessians."""

import dataclasses

import pytest
import torch

from gfgd.networks import ACTIVATIONS
from gfgd.networks.fully_connected_networks import FullyConnected
from gfgd.verified import ConvexLoss, residual_curvature
from gfgd.verified.linear_network import from_objective
from tests.verified.examples import digits_network


def square_root(outputs, targets):
    return (1 + (outputs - targets) ** 2).sqrt()


def exponential(outputs, targets):
    return outputs.exp() - targets * outputs


def summed(entrywise):
    return lambda outputs, targets: entrywise(outputs, targets).sum(-1)


#: entrywise ℓ, ℓ', ℓ''
LOSSES = {
    "pseudo-Huber": (
        square_root,
        lambda z, y: (z - y) / square_root(z, y),
        lambda z, y: square_root(z, y) ** -3,
    ),
    "Poisson": (exponential, lambda z, y: z.exp() - y, lambda z, y: z.exp()),
}


def own_loss(name):
    value, first, second = LOSSES[name]
    return ConvexLoss(summed(value), first, lambda z, y: torch.diag_embed(second(z, y)))


def network(name, hidden):
    """Return a linear network with that loss, differentiated by torch."""
    base = digits_network(hidden, "half_squared_error", samples=40)
    return FullyConnected(
        base.inputs[:, 20:30],
        base.targets[:, :3],
        (10, *hidden, 3),
        ACTIVATIONS["linear"],
        summed(LOSSES[name][0]),
    )


@pytest.mark.parametrize("hidden", [(4,), (4, 3), (3, 4, 3)])
@pytest.mark.parametrize("name", LOSSES)
def test_bound_for_a_loss_of_ones_own(name, hidden):
    """R is the Hessian less the Gauss–Newton part, both dense and by automatic differentiation."""
    objective = network(name, hidden)
    point = objective.initial(3)
    hessian = objective.hessian(point)
    outputs = torch.func.jacrev(lambda p: objective.outputs(p, objective.inputs))(point)
    values = objective.outputs(point, objective.inputs)
    second = LOSSES[name][2](values, objective.targets)
    gauss_newton = torch.einsum("nkp,nk,nkq->pq", outputs, second, outputs) / len(values)
    expected = float(torch.linalg.eigvalsh(hessian - gauss_newton)[0])
    bound = residual_curvature(objective, point, verified=False, loss=own_loss(name))
    assert expected < -1e-3
    assert bound == pytest.approx(expected, rel=1e-4)
    assert bound <= float(torch.linalg.eigvalsh(hessian)[0]) + 1e-12


def test_own_loss_that_is_the_librarys():
    """Half the squared error by its derivatives gives what the library's gives, also at depth 4."""
    for hidden in ((6, 5), (5, 6, 7)):
        objective = digits_network(hidden, "half_squared_error")
        point = objective.initial(1)
        eye = torch.eye(10, dtype=torch.float64)
        loss = ConvexLoss(
            lambda z, y: 0.5 * ((z - y) ** 2).sum(-1),
            lambda z, y: z - y,
            lambda z, y, eye=eye: eye.expand(len(z), 10, 10),
        )
        plain = residual_curvature(objective, point, verified=False, loss=loss)
        assert plain == pytest.approx(residual_curvature(objective, point), rel=1e-3)
        assert plain >= residual_curvature(objective, point)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": lambda z, y: 1.01 * (z - y) / square_root(z, y)}, "loss.first"),
        ({"second": lambda z, y: torch.diag_embed(square_root(z, y) ** -2)}, "loss.second"),
        ({"second": lambda z, y: -torch.diag_embed(square_root(z, y) ** -3)}, "not convex"),
        ({"value": square_root}, "loss.value"),
        ({"first": lambda z, y: (z - y) / 0}, "not finite"),
    ],
)
def test_losses_that_are_refused(change, message):
    objective = network("pseudo-Huber", (4, 3))
    loss = dataclasses.replace(own_loss("pseudo-Huber"), **change)
    with pytest.raises(ValueError, match=message):
        residual_curvature(objective, objective.initial(3), verified=False, loss=loss)


def test_an_own_loss_is_not_verified():
    objective = network("Poisson", (4,))
    with pytest.raises(ValueError, match="verified=False"):
        residual_curvature(objective, objective.initial(3), loss=own_loss("Poisson"))


def test_a_foreign_loss_is_not_taken_for_the_squared_error():
    with pytest.raises(ValueError, match="its loss is"):
        from_objective(network("Poisson", (4,)))
