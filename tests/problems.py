"""Objectives with known derivatives: the oracles that several test files share."""

import torch

from gfgd import networks
from gfgd.objective import Objective


def quadratic(*eigenvalues: float) -> Objective:
    """½ Σ λ_i θ_i²: flow θ_i(0) e^{−λ_i t}, descent θ_i(0) (1 − ηλ_i)^k."""
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    return Objective(lambda p: 0.5 * (values.to(p) * p.square()).sum(-1), dimension=len(values))


def quartic() -> Objective:
    """x⁴/4 + x²y: not quadratic, with cross terms."""
    return Objective(lambda p: p[..., 0] ** 4 / 4 + p[..., 0] ** 2 * p[..., 1], dimension=2)


def small_network(activation: str = "tanh", hidden=(5, 4), seed: int = 0, **options):
    """A network on 12 random samples with 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 3
    return networks.fully_connected(inputs, labels, hidden=hidden, activation=activation, **options)
