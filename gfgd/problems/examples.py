"""A network and its data as plain PyTorch, as a reader's own may be."""

import torch
from torch import Tensor, nn

from gfgd.problems import datasets

SAMPLES = 200


class Residual(nn.Module):
    """x + tanh(conv(x)): a 3×3 convolution with a shortcut around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, channels, kernel_size=3, padding=1, dtype=torch.float32
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + torch.tanh(self.convolution(x))


def residual_network() -> nn.Module:
    """Return a small residual network for 8×8 images of ten classes, d = 640.

    It is smooth: tanh has no kink, and the pooling takes means. Its parameters are
    float32, whatever torch's default is.
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=3, stride=2, padding=1, dtype=torch.float32),
        nn.Tanh(),
        Residual(6),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 10, dtype=torch.float32),
    )


def digits() -> tuple[Tensor, Tensor]:
    """Return the first 200 of scikit-learn's digits, (200, 1, 8, 8), and their labels."""
    images, labels = datasets.digits()
    return images[:SAMPLES].reshape(-1, 1, 8, 8), labels[:SAMPLES]
