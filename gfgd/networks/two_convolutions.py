"""A convolutional network so small that its Hessian can be formed, at many weights at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.bounds import curvature
from gfgd.networks.network import cross_entropy
from gfgd.objective import Objective, unflatten

#: The images' side, and the channels between the layers.
SIDE, CHANNELS = 5, 2


class TwoConvolutions(Objective):
    """The cross-entropy of two convolutions and a dense layer, without biases.

    A 3×3 convolution with padding 1 on 5×5 images, activation, perhaps max-pooling over 2×2
    windows, a 2×2 convolution, activation, and a dense layer with two outputs. The activation is
    max(z, 0) + ᾱ min(z, 0).

    Parameters
    ----------
    images, labels
        Shapes ``(N, 1, 5, 5)`` and ``(N,)``, the labels 0 or 1.
    pool
        Whether the first activation is followed by pooling.
    slope
        ᾱ, the activation's slope for negative inputs: 0 for ReLU.

    Raises
    ------
    ValueError
        If the images are not of that shape, or ᾱ is negative.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, pool: bool, slope: float) -> None:
        if images.dim() != 4 or images.shape[1:] != (1, SIDE, SIDE):
            raise ValueError(f"images has shape {tuple(images.shape)}: must be (N, 1, 5, 5)")
        checks.non_negative(slope=slope)
        self.images, self.labels, self.pool, self.slope = images, labels, pool, slope
        self.inner = SIDE // 2 if pool else SIDE  # the side of what the second layer sees
        self.shapes = [
            (CHANNELS, 1, 3, 3),
            (CHANNELS, CHANNELS, 2, 2),
            (2, CHANNELS * (self.inner - 1) ** 2),
        ]
        super().__init__(self._loss, dimension=sum(math.prod(shape) for shape in self.shapes))

    def outputs(self, point: Tensor) -> Tensor:
        """Return what the network computes at many weights, ``(B, d)`` to ``(B, N, 2)``."""
        first, second, last = unflatten(point, self.shapes)
        hidden = self.images.expand(len(point), *self.images.shape)
        hidden = functional.leaky_relu(_convolve(hidden, first, padding=1), self.slope)
        if self.pool:
            pooled = functional.max_pool2d(hidden.flatten(0, 1), 2)
            hidden = pooled.unflatten(0, hidden.shape[:2])
        hidden = functional.leaky_relu(_convolve(hidden, second, padding=0), self.slope)
        return hidden.flatten(2) @ last.mT

    def smallest_eigenvalue_bound(self, points: Tensor) -> Tensor:
        """Return the lower bound on λmin(∇²f) for shared weights, ``(B, d)`` to ``(B,)``.

        :func:`~gfgd.bounds.curvature.shared_weights_bound`, with each convolution's constant and
        its norm.
        """
        first, second, last = unflatten(points, self.shapes)
        inner = (self.inner, self.inner)
        norms = [
            [
                curvature.convolution_norm(one, (SIDE, SIDE), padding=1),
                curvature.convolution_norm(two, inner),
                float(torch.linalg.matrix_norm(three, 2)),
            ]
            for one, two, three in zip(first, second, last, strict=True)
        ]
        constants = [
            curvature.convolution_constant((SIDE, SIDE), 3, padding=1),
            curvature.convolution_constant(inner, 2),
            1.0,
        ]
        size = curvature.gradient_times_input(
            cross_entropy, self.outputs(points), self.labels, self.images
        )
        layers = torch.tensor(norms, dtype=torch.float64)
        return curvature.shared_weights_bound(layers, constants, size, slope=max(1, self.slope))

    def _loss(self, point: Tensor) -> Tensor:
        flat = point.reshape(-1, point.shape[-1])
        losses = cross_entropy(self.outputs(flat), self.labels).mean(-1)
        return losses.reshape(point.shape[:-1])


def _convolve(hidden: Tensor, filters: Tensor, *, padding: int) -> Tensor:
    """Convolve ``(B, N, C, H, W)`` with a filter ``(B, out, C, k, k)`` for each of B."""
    kernel = filters.shape[-1]
    side = hidden.shape[-1] + 2 * padding - kernel + 1
    patches = functional.unfold(hidden.flatten(0, 1), kernel, padding=padding)
    patches = patches.unflatten(0, hidden.shape[:2])
    out = torch.einsum("bof,bnfp->bnop", filters.flatten(2), patches)
    return out.unflatten(-1, (side, side))
