"""Eight kinds of network as their users write them, and their data: nothing here knows gfgd.

Each is reported on by, for example,

    gfgd report examples/gallery/networks.py:cnn_batch_norm examples/gallery/networks.py:images \
        --step-size 0.1 --iterations 50

The data are 100 of scikit-learn's handwritten digits, or the text that describes them.
"""

import math
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SAMPLES = 100
#: Characters of a window of text, and how many windows there are.
CONTEXT, WINDOWS = 16, 60


def _digits(first: int = 0) -> tuple[Tensor, Tensor]:
    loaded: Any = load_digits()
    some = slice(first, first + SAMPLES)
    return torch.tensor(loaded.images[some] / 16).float(), torch.tensor(loaded.target[some])


def pixels() -> tuple[Tensor, Tensor]:
    """Return digits as rows of pixels, shape (100, 64), and labels."""
    digits, labels = _digits()
    return digits.flatten(1), labels


def images() -> tuple[Tensor, Tensor]:
    """Return digits as images, shape (100, 1, 8, 8), and labels."""
    digits, labels = _digits()
    return digits[:, None], labels


def rows() -> tuple[Tensor, Tensor]:
    """Return digits as sequences of their rows, shape (100, 8, 8), and labels."""
    return _digits()


def turned_pixels() -> tuple[Tensor, Tensor]:
    """Return digits lying on their side, as rows of pixels: a task to adapt a network to."""
    digits, labels = _digits()
    return digits.transpose(1, 2).flatten(1), labels


def characters() -> tuple[Tensor, Tensor]:
    """Return windows of a text, shape (60, 16), letters as 1 to 26 and all else as 0; and the next.

    The text is scikit-learn's description of the digits.
    """
    loaded: Any = load_digits()
    text = loaded.DESCR.lower()
    codes = torch.tensor([ord(one) - 96 if "a" <= one <= "z" else 0 for one in text])
    windows = codes[: WINDOWS * CONTEXT + 1]
    return windows[:-1].view(WINDOWS, CONTEXT), windows[1:].view(WINDOWS, CONTEXT)


def mlp_layer_norm() -> nn.Module:
    """Return a multilayer perceptron with layer normalisation."""
    return nn.Sequential(
        nn.Linear(64, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 16), nn.GELU(),
        nn.Linear(16, 10),
    )  # fmt: skip


def cnn_batch_norm() -> nn.Module:
    """Return a convolutional network with batch normalisation, in eval mode.

    Its running statistics were gathered on the data, at the start.
    """
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(50):  # the running statistics have a momentum of 0.1
            network(images()[0])
    return network.eval()


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))): a block of a residual network, before its activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


def residual() -> nn.Module:
    """Return a residual network with ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1), ResidualBlock(6), ResidualBlock(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class Encoder(nn.Module):
    """A transformer encoder of one layer over the rows of an image, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.position = nn.Parameter(0.02 * torch.randn(8, 16))
        self.layer = nn.TransformerEncoderLayer(
            16, nhead=2, dim_feedforward=32, dropout=0, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8, 8) to scores, (N, 10)."""
        return self.head(self.layer(self.embed(x) + self.position).mean(1))


def transformer_encoder() -> nn.Module:
    """Return a small transformer encoder."""
    return Encoder()


class TinyGPT(nn.Module):
    """A decoder-only transformer whose embedding is also its last layer, as in GPT-2."""

    def __init__(self, letters: int = 27, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(letters, width)
        self.position = nn.Embedding(CONTEXT, width)
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, letters, bias=False)
        self.head.weight = self.embedding.weight  # tied
        for parameter in (self.embedding.weight, self.position.weight):
            nn.init.normal_(parameter, std=0.02)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = (
            one.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one in self.attention(x).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(mixed.transpose(1, 2).flatten(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map letters, (N, T), to scores of the next one, (N, 27, T)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.position(places)
        x = x + self._attend(self.before_attention(x))
        x = x + self.mlp(self.before_mlp(x))
        return self.head(self.last_norm(x)).transpose(1, 2)


def tiny_gpt() -> nn.Module:
    """Return a tiny GPT over letters."""
    return TinyGPT()


class RowReader(nn.Module):
    """A GRU that reads an image row by row, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8, 8) to scores, (N, 10)."""
        return self.head(self.gru(x)[0][:, -1])


def gru() -> nn.Module:
    """Return a recurrent network."""
    return RowReader()


class LoRA(nn.Module):
    """A frozen linear layer plus a trained map of low rank, BA, with B = 0 at first."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, frozen.in_features) / math.sqrt(rank))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return self.frozen(x) + x @ self.down.T @ self.up.T


def lora() -> nn.Module:
    """Return a perceptron trained on upright digits, with LoRA to adapt it to others."""
    first, last = nn.Linear(64, 32), nn.Linear(32, 10)
    base = nn.Sequential(first, nn.Tanh(), last)
    digits, labels = _digits(first=SAMPLES)
    optimizer = torch.optim.Adam(base.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(base(digits.flatten(1)), labels).backward()
        optimizer.step()
    return nn.Sequential(LoRA(first), nn.Tanh(), LoRA(last))


class ODEBlock(nn.Module):
    """x(1) where x' = W₂ tanh(W₁ x), from x(0), in four steps of the Runge–Kutta method."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width) to the same shape."""
        h = 1 / 4
        for _ in range(4):
            a = self.field(x)
            b = self.field(x + h / 2 * a)
            c = self.field(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + self.field(x + h * c))
        return x


def neural_ode() -> nn.Module:
    """Return a neural ODE between two linear layers."""
    return nn.Sequential(nn.Linear(64, 12), ODEBlock(12), nn.Linear(12, 10))


#: The networks and their data, by the name of the function that makes each.
GALLERY = {
    "mlp_layer_norm": "pixels",
    "cnn_batch_norm": "images",
    "residual": "images",
    "transformer_encoder": "rows",
    "tiny_gpt": "characters",
    "gru": "rows",
    "lora": "turned_pixels",
    "neural_ode": "pixels",
}
