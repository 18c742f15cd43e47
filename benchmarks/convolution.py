"""(d) Gradients of the convolutional networks, here and with PyTorch's own layers, side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import Measured, Table, alternate, quartiles, ratios, spread
from gfgd import networks


def convolution(images: Tensor, labels: Tensor, rounds: int) -> Table:
    """Time a gradient beside the same network of ``nn.Conv2d``, ``nn.MaxPool2d``, ``nn.Linear``.

    The peer takes all samples in one batch, and batches of 100.
    """
    rows, measured = [], []
    for variant in networks.VARIANTS:
        for dtype in (torch.float32, torch.float64):
            objective = networks.convolutional(images, labels, variant=variant, dtype=dtype)
            module = torch_module(objective)
            inputs = objective.inputs.view(-1, 1, *objective.convolutions[0].input_size)
            here, whole, parts = alternate(
                rounds,
                partial(objective.gradient, objective.initial(1)),
                peer(module, inputs, labels, len(inputs)),
                peer(module, inputs, labels, 100),
                title=f"(d) {variant}",
            )
            name = str(dtype).removeprefix("torch.")
            rows.append(
                (
                    variant,
                    name,
                    spread(ratios(whole, here)),
                    spread(ratios(parts, here)),
                    f"{1e3 * quartiles(here)[0]:.1f}",
                    f"{1e3 * quartiles(whole)[0]:.1f}",
                )
            )
            measured.append(
                Measured.median(
                    f"(d) seconds of a gradient, {variant}, {name}: torch.nn.Conv2d / here",
                    ratios(whole, here),
                    at_least=1.5,
                )
            )
    return Table(
        "(d) A gradient of the convolutional networks, against torch.nn.Conv2d",
        ("network", "dtype", "faster than one batch", "than batches", "ms here", "ms, one batch"),
        rows,
        measured,
    )


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
