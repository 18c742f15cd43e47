"""Completing a matrix of low rank, of which some entries are seen, by a deep linear network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks.linear import DeepLinear, balanced_start, deep_linear


@dataclass(frozen=True, eq=False)
class MatrixCompletion:
    """Λ of low rank, what is seen of it, and a direction to start from; all of shape ``(k, k)``.

    Attributes
    ----------
    target
        Λ, of spectral norm 1.
    mask
        M: 1 where an entry is seen, 0 elsewhere.
    direction
        Q, orthogonal.
    """

    target: Tensor
    mask: Tensor
    direction: Tensor

    @classmethod
    def random(cls, size: int, *, rank: int, share: float, seed: int) -> MatrixCompletion:
        """Return a problem in which each entry is seen with the probability `share`.

        Λ is the product of a ``(k, rank)`` and a ``(rank, k)`` matrix of normal entries, rescaled,
        and Q the first factor of the QR decomposition of one more.

        Raises
        ------
        ValueError
            If an argument is out of range, or the draw shows all entries or none.
        """
        checks.whole(1, size=size, rank=rank)
        checks.between(1, size, rank=rank)
        checks.between(0, 1, share=share)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        target = normal(size, rank) @ normal(rank, size)
        chance = torch.rand(size, size, generator=generator, dtype=torch.float64)
        mask = (chance < share).double()
        if not 0 < mask.sum() < size**2:
            raise ValueError(f"share = {share}, seed = {seed}: must leave seen and unseen entries")
        direction = torch.linalg.qr(normal(size, size))[0]
        return cls(target / torch.linalg.matrix_norm(target, 2), mask, direction)

    def objective(self, depth: int) -> DeepLinear:
        """Return f(θ) = ½‖M ∘ (W_n ⋯ W_1 − Λ)‖_F², with hidden layers as wide as the matrix."""
        return deep_linear(self.target, depth=depth, hidden=len(self.target), mask=self.mask)

    def start(self, depth: int, *, scale: float) -> Tensor:
        """Return balanced weights whose product is αQ, α = `scale`: the same at each depth."""
        checks.positive(scale=scale)
        return balanced_start(scale * self.direction, depth, len(self.target))

    def error(self, product: Tensor) -> Tensor:
        """Return ‖W − Λ‖_F / ‖Λ‖_F over the unseen entries, shape ``(...)``: 1 for the guess 0."""
        unseen = 1 - self.mask
        apart = torch.linalg.matrix_norm(unseen * (product - self.target))
        return apart / torch.linalg.matrix_norm(unseen * self.target)
