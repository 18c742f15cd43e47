"""A small nonlinear regression whose samples come in minibatches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks, networks
from gfgd.networks import FullyConnected

#: Samples of a minibatch; hidden units of the network; standard deviation of its weights.
SAMPLES, HIDDEN, SCALE = 4, 5, 0.7


@dataclass(frozen=True, eq=False)
class Regression:
    """f = (1/m) Σ_b f_b, its parts, and a start.

    Attributes
    ----------
    whole
        f, half the mean squared error over all samples.
    parts
        f_1, …, f_m, the same over each minibatch.
    start
        θ_0, shape ``(d,)``.
    """

    whole: FullyConnected
    parts: list[FullyConnected]
    start: Tensor


def tanh_regression(seed: int, *, minibatches: int) -> Regression:
    """Return a tanh network with one hidden layer that is to learn sin 2x₁ + ½x₂² − ½.

    Inputs are normal, `SAMPLES` to a minibatch, and so are the weights at the start.

    Parameters
    ----------
    seed
        Of the inputs and of the start.
    minibatches
        m ≥ 1.

    Raises
    ------
    ValueError
        If m < 1 or the seed is negative.
    """
    checks.whole(0, seed=seed)
    checks.whole(1, minibatches=minibatches)
    generator = torch.Generator().manual_seed(seed)
    count = SAMPLES * minibatches
    inputs = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    targets = torch.sin(2 * inputs[:, :1]) + 0.5 * inputs[:, 1:].square() - 0.5
    whole, *parts = (
        networks.fully_connected(
            inputs[rows],
            targets[rows],
            hidden=(HIDDEN,),
            activation="tanh",
            loss="half_squared_error",
        )
        for rows in (
            slice(None),
            *(slice(first, first + SAMPLES) for first in range(0, count, SAMPLES)),
        )
    )
    return Regression(whole, parts, whole.initial(seed, init="gaussian", scale=SCALE))
