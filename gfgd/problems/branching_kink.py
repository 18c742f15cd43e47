"""A landscape with one concave kink at which flows part, solved by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd.objective import Objective


@dataclass(frozen=True)
class BranchingKink:
    """f(s, z) = −s (1 + z) + κ min(z, 0), θ = (s, z): the kink is z = 0, and c = −κ there.

    z' = s where z > 0 and s − κ where z < 0, s' = 1 + z: for 0 < s < κ the kink branches. While
    z > 0, p = 1 + z obeys p' = s and s' = p, so that p² − s² is constant: a flow from s₀ < 0 comes
    down to δ = √(p₀² − s₀²) − 1 at the time t* = artanh(−s₀/p₀), and turns.
    """

    kappa: float = 1.0

    @property
    def objective(self) -> Objective:
        """f, for points of shape ``(..., 2)``."""
        return Objective(
            lambda p: -p[..., 0] * (1 + p[..., 1]) + self.kappa * p[..., 1].clamp(max=0),
            dimension=2,
        )

    def start(self, margin: Tensor | float, *, s: float = -0.6) -> Tensor:
        """Return the start (s₀, z₀) whose flow, with the gate on, comes down to z = δ.

        Parameters
        ----------
        margin
            δ > −1, shape ``(...)``; below 0 the flow crosses the kink instead.
        s
            s₀ < 0.

        Returns
        -------
        Tensor
            Shape ``(..., 2)``, float64.
        """
        delta = torch.as_tensor(margin, dtype=torch.float64)
        p = ((1 + delta).square() + s**2).sqrt()
        return torch.stack([torch.full_like(p, s), p - 1], dim=-1)

    def flow(self, start: Tensor, time: float) -> Tensor:
        """Return where the flow from `start`, shape ``(..., 2)``, is while its gate stays on."""
        s, p = start[..., 0], 1 + start[..., 1]
        cosh, sinh = torch.as_tensor(time, dtype=start.dtype).cosh(), start.new_tensor(time).sinh()
        return torch.stack([s * cosh + p * sinh, p * cosh + s * sinh - 1], dim=-1)

    def threshold(self, start: Tensor) -> Tensor:
        """Return η* = 2 ln(1 + δ)/t*, above which GD loses the flow's branch, shape ``(...)``.

        A step multiplies p² − s² by 1 − η², so that on the way it shrinks by exp(−ηt*). To leading
        order in η; for starts of shape ``(..., 2)`` with s₀ < 0 < δ.
        """
        s, p = start[..., 0], 1 + start[..., 1]
        return (p.square() - s.square()).log() / (-s / p).atanh()
