"""Stochastic gradient descent (SGD) along given orders of its minibatches, and its mean over them.

An epoch takes a step θ ← θ − η∇f_b(θ) for each of the m minibatches, in some order. Its mean over
the orders is what :func:`~gfgd.large_steps.modified.stochastic_flow` models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.objective import Objective


def stochastic_descent(
    objectives: Sequence[Objective], start: Tensor, orders: Tensor, *, step_size: float
) -> Tensor:
    """Return θ after each epoch of SGD, along S orders at once.

    Parameters
    ----------
    objectives
        f_1, …, f_m.
    start
        θ_0, shape ``(d,)``.
    orders
        Which minibatch each step takes, shape ``(S, Em)`` for E epochs, entries 0 … m − 1.
    step_size
        η > 0.

    Returns
    -------
    Tensor
        Shape ``(E + 1, S, d)``, the start first.

    Raises
    ------
    ValueError
        If η ≤ 0, an entry names no minibatch, or the orders are not made of whole epochs.
    """
    checks.positive(step_size=step_size)
    size = len(objectives)
    if orders.dim() != 2 or orders.shape[1] % size or orders.numel() == 0:
        raise ValueError(
            f"orders of shape {tuple(orders.shape)}: give (S, Em), E epochs of m = {size} steps"
        )
    if not ((orders >= 0) & (orders < size)).all():
        raise ValueError(f"orders: have entries outside 0 … {size - 1}")
    points = start.expand(len(orders), -1).clone()
    ends = [points.clone()]
    for k, step in enumerate(orders.T, start=1):
        for b, part in enumerate(objectives):
            chosen = step == b
            points[chosen] -= step_size * part.gradient(points[chosen])
        if k % size == 0:
            ends.append(points.clone())
    return torch.stack(ends)


def paired_orders(pairs: int, epochs: int, minibatches: int, generator: torch.Generator) -> Tensor:
    """Return random orders, each with the one that is its reverse in every epoch.

    Parameters
    ----------
    pairs, epochs, minibatches
        n, E and m, ≥ 1.
    generator
        Where the numbers are drawn.

    Returns
    -------
    Tensor
        Shape ``(2n, Em)``: row i and row n + i are a pair.
    """
    checks.whole(1, pairs=pairs, epochs=epochs, minibatches=minibatches)
    drawn = torch.rand(
        pairs, epochs, minibatches, generator=generator, dtype=torch.float32
    ).argsort(dim=-1)
    return torch.cat([drawn.flatten(1), drawn.flip(-1).flatten(1)])


@dataclass(frozen=True, eq=False)
class MeanOverPairs:
    """The mean of SGD over random orders, and twice its standard error.

    Attributes
    ----------
    mean
        Shape ``(d,)``.
    error
        2 (Σ_i s_i²/n)^½ for n pairs with variance s_i² in coordinate i.
    unpaired_error
        The same from the first orders of the pairs, as if 2n orders had been drawn singly.
    """

    mean: Tensor
    error: float
    unpaired_error: float


def mean_over_pairs(points: Tensor) -> MeanOverPairs:
    """Return the mean of SGD over pairs of orders.

    Parameters
    ----------
    points
        θ for the orders of :func:`paired_orders`, shape ``(2n, d)``, n ≥ 2.

    Raises
    ------
    ValueError
        For any other shape.
    """
    if points.dim() != 2 or len(points) % 2 or len(points) < 4:
        raise ValueError(f"points of shape {tuple(points.shape)}: give (2n, d) with n ≥ 2")
    count = len(points) // 2
    first, second = points.split(count)
    pairs = (first + second) / 2
    return MeanOverPairs(
        pairs.mean(dim=0),
        2 * (pairs.var(dim=0).sum() / count).sqrt().item(),
        2 * (first.var(dim=0).sum() / (2 * count)).sqrt().item(),
    )
