"""Random instances, from one seed or several."""

from __future__ import annotations

import torch
from torch import Tensor

from gfgd import checks


class Draws:
    """Draws `count` instances from each of `seeds` generators, seeded with seed, seed + 1, ….

    What is drawn is float64, of shape ``(seeds · count, *shape)``: the instances of the first seed
    come first. A statement about all of them holds on each seed.
    """

    def __init__(self, seed: int, *, count: int, seeds: int = 1) -> None:
        checks.whole(0, seed=seed)
        checks.whole(1, count=count, seeds=seeds)
        self.count = count
        self.generators = [torch.Generator().manual_seed(seed + i) for i in range(seeds)]

    def normal(self, *shape: int) -> Tensor:
        """Return numbers of the standard normal distribution."""
        draws = [
            torch.randn(self.count, *shape, generator=generator, dtype=torch.float64)
            for generator in self.generators
        ]
        return torch.cat(draws)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return numbers uniform in [low, high)."""
        draws = [
            torch.rand(self.count, *shape, generator=generator, dtype=torch.float64)
            for generator in self.generators
        ]
        return low + (high - low) * torch.cat(draws)
