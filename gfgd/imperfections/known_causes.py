"""Runs whose distance has a known cause, to put the account of a distance to the test."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.imperfections.gates import kinks, unit_input
from gfgd.networks import Activation, FullyConnected


def rounded_relu(width: float = 1.0) -> Activation:
    """Return ReLU rounded over |z| < w, with a continuous slope: (z + w)²/(4w) there.

    Raises
    ------
    ValueError
        Unless `width` is positive.
    """
    checks.positive(width=width)

    def apply(z: Tensor) -> Tensor:
        rising = functional.relu(z + width).square() - functional.relu(z - width).square()
        return rising / (4 * width)

    return Activation("rounded ReLU", apply)


def branching_gate(
    network: FullyConnected, point: Tensor, *, within: float = 0.3
) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Return the gate of the first layer that branches most decidedly near θ, and its kink.

    Of the gates with |z| < `within` the one with the largest min(−v₋, v₊): both sides lead away
    from its kink, the slower one as fast as possible. In the first layer z is linear in θ.

    Parameters
    ----------
    network
        With ReLU or leaky ReLU.
    point
        θ, shape ``(d,)``.
    within
        How far z may be from 0.

    Returns
    -------
    gate
        The sample and the column, as in :func:`gfgd.imperfections.gates.gates`.
    there
        The point of the kink z = 0 nearest to θ, shape ``(d,)``.
    normal
        ∇z/‖∇z‖², shape ``(d,)``: to move by ε times it changes z by ε.

    Raises
    ------
    ValueError
        If no gate of the first layer branches within that distance.
    """
    first = network.widths[1]
    found = kinks(network, point)
    off, on = found.velocities_off[:, :first], found.velocities_on[:, :first]
    decided = torch.minimum(-off, on) * (found.inputs[:, :first].abs() < within)
    if not decided.max() > 0:
        raise ValueError(f"within = {within!r}: no gate branches so near; look farther")
    sample, column = divmod(int(decided.argmax()), first)
    at = point.detach().clone().requires_grad_()
    z = unit_input(network, at, sample, column)
    (gradient,) = torch.autograd.grad(z, at)
    normal = gradient / gradient.square().sum()
    return (sample, column), point - z.detach() * normal, normal
