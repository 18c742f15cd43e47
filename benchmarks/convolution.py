"""Gradients of the convolutional networks, here and with PyTorch's own layers, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfgd import networks

ROUNDS = 9


def convolution(images: Tensor, labels: Tensor, rounds: int = ROUNDS) -> list[tuple[str, ...]]:
    """Return a heading and rows: network, dtype, how many times faster, milliseconds of both.

    The peer is the same network of ``nn.Conv2d``, ``nn.MaxPool2d`` and ``nn.Linear``, on all
    samples in one batch and on batches of 100. The three alternate, so that a busy machine slows
    all of them down; the ratio is the median over the rounds, with its quartiles.
    """
    rows = [
        ("network", "dtype", "faster than one batch", "than batches", "ms here", "ms, one batch")
    ]
    for variant in networks.VARIANTS:
        for dtype in (torch.float32, torch.float64):
            objective = networks.convolutional(images, labels, variant=variant, dtype=dtype)
            start = objective.initial(1)
            module = torch_module(objective)
            inputs = objective.inputs.view(-1, 1, *objective.convolutions[0].input_size)
            here, whole, parts = alternate(
                rounds,
                lambda objective=objective, start=start: objective.gradient(start),
                peer(module, inputs, labels, len(inputs)),
                peer(module, inputs, labels, 100),
            )
            rows.append(
                (
                    variant,
                    str(dtype).removeprefix("torch."),
                    spread([b / a for a, b in zip(here, whole, strict=True)]),
                    spread([b / a for a, b in zip(here, parts, strict=True)]),
                    f"{1e3 * statistics.median(here):.1f}",
                    f"{1e3 * statistics.median(whole):.1f}",
                )
            )
    return rows


def torch_module(objective: networks.Convolutional) -> nn.Sequential:
    """Return the same network written with PyTorch's layers."""
    biases = objective.variant.biases
    weights = objective.weights(objective.initial(1))
    layers: list[nn.Module] = []
    for geometry in objective.convolutions:
        layers += [
            nn.Conv2d(
                *geometry.channels,
                geometry.kernel_size,
                stride=geometry.stride,
                padding=geometry.padding,
                bias=biases,
            ),
            nn.ReLU(),
        ]
        if geometry.pool > 1:
            layers.append(nn.MaxPool2d(geometry.pool))
    layers.append(nn.Flatten())
    for weight in weights[len(objective.convolutions) :]:
        layers += [nn.Linear(weight.shape[1], weight.shape[0], bias=biases), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(weights[0])


def peer(module: nn.Module, inputs: Tensor, labels: Tensor, batch: int) -> Callable[[], None]:
    """Return a function that leaves the gradient of the mean loss in the module's parameters."""

    def gradient() -> None:
        module.zero_grad(set_to_none=True)
        for x, y in zip(inputs.split(batch), labels.split(batch), strict=True):
            loss = nn.functional.cross_entropy(module(x), y, reduction="sum") / len(inputs)
            loss.backward()

    return gradient


def alternate(rounds: int, *functions: Callable[[], object]) -> list[list[float]]:
    """Return the seconds that each function takes in each round, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, taken in zip(functions, seconds, strict=True):
            before = time.perf_counter()
            function()
            if turn:
                taken.append(time.perf_counter() - before)
    return seconds


def spread(ratios: list[float]) -> str:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
