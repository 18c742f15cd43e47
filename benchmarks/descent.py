"""(b) Iterations of GD per second: here, in the style of the paper's code, and bare products.

The peer is written from a description of that code: a `DataLoader` over a `Dataset` that converts
and normalises each image anew in each epoch, a module of linear layers, an optimiser. All images
are one batch, so that both take the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Measured, Table, alternate, quartiles, ratios, spread
from gfgd import gradient_descent, networks
from gfgd.problems import datasets

STEP_SIZE = 1e-3
#: Iterations that are timed at a time, here and in the paper's style.
ITERATIONS, EPOCHS = 50, 2
#: Precision of the data and of the parameters.
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "float32 data, float64 θ": (torch.float32, torch.float64),
}
PAPER, BARE = "paper's style, float32", "bare products, float32"


def descent(images: Tensor, labels: Tensor, rounds: int) -> Table:
    """Time an iteration on the linear and the ReLU network, in each precision."""
    rows, measured = [], []
    for activation in ("linear", "relu"):
        times = iteration_times(images, labels, activation, rounds)
        for code, seconds in times.items():
            faster = ratios(times[PAPER], seconds)
            middle = quartiles(seconds)[0]
            rows.append(
                (
                    activation,
                    code,
                    f"{1e3 * middle:.2f}",
                    f"{1 / middle:.0f}",
                    "" if code == PAPER else spread(faster),
                )
            )
            if code in PRECISIONS:
                name = f"(b) seconds an iteration, {activation}: paper's style / here, {code}"
                reach = 40 if code == "float32" else None  # the precision of the paper's code
                measured.append(Measured.median(name, faster, at_least=reach))
        over = ratios(times["float32"], times[BARE])
        name = f"(b) seconds an iteration, {activation}: here, float32 / bare products"
        measured.append(Measured.median(name, over, at_most=1.1))
    return Table(
        f"(b) An iteration of GD on {len(images)} images, 784-50-50-10",
        ("network", "code", "ms", "per second", "times the paper's style"),
        rows,
        measured,
    )


def iteration_times(
    images: Tensor, labels: Tensor, activation: str, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Return the seconds that an iteration takes in each round, by the name of the code."""
    network = partial(
        networks.fully_connected, images, labels, hidden=(50, 50), activation=activation
    )
    single = network(dtype=torch.float32)
    codes: dict[str, tuple[Callable[[], object], int]] = {
        PAPER: (partial(paper_style(single, images, labels), EPOCHS), EPOCHS)
    }
    for name, (data, parameters) in PRECISIONS.items():
        objective = network(dtype=data)
        start = objective.initial(1).to(parameters)
        run = partial(
            gradient_descent,
            objective,
            start,
            step_size=STEP_SIZE,
            iterations=ITERATIONS - 1,
            record_every=ITERATIONS,
        )
        codes[name] = (run, ITERATIONS)
    codes[BARE] = (bare_products(single, single.initial(1), ITERATIONS), ITERATIONS)
    taken = alternate(rounds, *[run for run, _ in codes.values()], title=f"(b) {activation}")
    return {
        name: tuple(seconds / count for seconds in one)
        for (name, (_, count)), one in zip(codes.items(), taken, strict=True)
    }


class Pixels(Dataset):
    """Images of bytes, converted and normalised one by one whenever they are asked for.

    The steps are those of torchvision's ``MNIST``, ``ToTensor`` and ``Normalize``: an image of
    Pillow's, an array, a float tensor with the channel first, and a normalised copy.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index].numpy())
        channels_last = torch.from_numpy(np.array(picture, np.uint8))[:, :, None]
        image = channels_last.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean = torch.as_tensor([datasets.MNIST_PIXEL_MEAN], dtype=image.dtype)
        deviation = torch.as_tensor([datasets.MNIST_PIXEL_STD], dtype=image.dtype)
        image = image.clone().sub_(mean[:, None, None]).div_(deviation[:, None, None])
        return image, int(self.labels[index])


def paper_style(
    objective: networks.FullyConnected, images: Tensor, labels: Tensor
) -> Callable[[int], nn.Module]:
    """Return a function that trains a module for so many epochs of one batch, and returns it."""
    start = objective.weights(objective.initial(1))
    loader = DataLoader(Pixels(bytes_of(images), labels), batch_size=len(images))

    def train(epochs: int) -> nn.Module:
        module = linear_layers(start, objective.activation.name)
        optimizer = torch.optim.SGD(module.parameters(), lr=STEP_SIZE)
        for _ in range(epochs):
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(inputs), targets)
                loss.backward()
                optimizer.step()
        return module

    return train


def linear_layers(weights: Sequence[Tensor], activation: str) -> nn.Sequential:
    """Return layers with copies of the weights, and the activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for weight in weights:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight.clone())
        layers += [layer, nn.ReLU() if activation == "relu" else nn.Identity()]
    return nn.Sequential(*layers[:-1])


def bytes_of(images: Tensor) -> Tensor:
    """Return the pixels of normalised MNIST images as bytes, shape ``(N, 28, 28)``."""
    pixels = images * datasets.MNIST_PIXEL_STD + datasets.MNIST_PIXEL_MEAN
    return (255 * pixels).round().to(torch.uint8).reshape(-1, 28, 28)


def bare_products(
    objective: networks.FullyConnected, start: Tensor, count: int
) -> Callable[[], None]:
    """Return a function that does the matrix products of `count` gradients and nothing else."""
    first, second, third = objective.weights(start)
    inputs = objective.inputs
    hidden = torch.randn(len(first), len(inputs)).to(inputs)
    outputs = torch.randn(len(third), len(inputs)).to(inputs)

    def products() -> None:
        for _ in range(count):
            a = first @ inputs.T
            b = second @ a
            _ = third @ b
            _ = third.T @ outputs, outputs @ b.T
            _ = second.T @ hidden, hidden @ a.T
            _ = hidden @ inputs

    def end_to_end_products() -> None:
        # The linear network multiplies its weights first: only two products take all images.
        for _ in range(count):
            above = third @ second
            _ = (above @ first) @ inputs.T
            whole = outputs @ inputs
            _ = above.T @ whole
            below = whole @ first.T
            _ = below @ second.T, third.T @ below

    return end_to_end_products if objective.activation.name == "linear" else products
