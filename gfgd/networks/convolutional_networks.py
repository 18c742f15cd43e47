"""Convolutional networks: the two of Elkabetz & Cohen (2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.networks.convolution import convolve, largest, multiply, tiled, windows
from gfgd.networks.network import (
    ACTIVATIONS,
    LOSSES,
    Activation,
    Network,
    check_chunk_size,
    checked_targets,
)
from gfgd.objective import unflatten


@dataclass(frozen=True)
class Convolution:
    """The geometry of a convolution: channels, H × W of its input, k × k filters.

    `pool` is the side of the cells of the max-pooling behind it; 1 for none.
    """

    channels: tuple[int, int]
    input_size: tuple[int, int]
    kernel_size: int
    stride: int
    padding: int
    pool: int

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of what it returns, pooled; what does not fill a cell is left out."""
        room = (side + 2 * self.padding - self.kernel_size for side in self.input_size)
        height, width = ((r // self.stride + 1) // self.pool for r in room)
        return height, width

    @property
    def window(self) -> tuple[int, int]:
        """Side of what one pooling cell looks at, and the step from one cell to the next."""
        return self.kernel_size + (self.pool - 1) * self.stride, self.stride * self.pool

    def filters(self, weight: Tensor) -> Tensor:
        """Return the matrix that maps such a window to the outputs that one cell pools."""
        return tiled(weight, self.pool, self.stride)

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return the largest output of each cell, shape ``(O, h·w·N)``."""
        if self.pool == 1:
            return outputs.flatten(1)
        return largest(outputs.view(self.pool**2, self.channels[1], -1))


@dataclass(frozen=True)
class Variant:
    """What tells the two convolutional networks apart."""

    stride: int
    pool: int
    biases: bool


#: Convolutional networks of Elkabetz & Cohen (2021), by name.
VARIANTS = {
    "adapted": Variant(stride=2, pool=1, biases=False),
    "off_the_shelf": Variant(stride=1, pool=2, biases=True),
}
KERNEL_SIZE = 5
PADDING = 2
CHANNELS = (1, 6, 16)
DENSE_WIDTHS = (120, 84)

#: Samples differentiated at a time where the caller does not say: enough to make light of the cost
#: of an operation, and few enough for a row of windows to stay in a core's cache.
CACHED_SAMPLES = 500
#: The windows of the input are kept if they take no more bytes than this, else made each time.
KEPT_BYTES = 2**29


class Convolutional(Network):
    """The mean loss of two convolutions and three dense layers; see :func:`convolutional`.

    θ holds each layer's weights, followed by its biases where there are any, as the
    ``parameters()`` of a ``torch.nn.Sequential`` do. Points with leading dimensions are taken one
    after the other.

    Attributes
    ----------
    convolutions
        The geometry of the first two layers.
    variant
        Stride, pooling, biases.
    weight_mask
        Which entries of θ are weights and no biases, shape ``(d,)``. The paper's distance
        between off-the-shelf networks is over these.
    activation, inputs, targets
        As in :class:`Network`; an input is an image, row by row.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        image_shape: tuple[int, int],
        classes: int,
        variant: Variant,
        activation: Activation,
        loss: Callable[[Tensor, Tensor], Tensor],
        chunk_size: int | None = None,
    ) -> None:
        self.variant = variant
        self.convolutions = _convolutions(image_shape, variant)
        features = CHANNELS[-1] * math.prod(self.convolutions[-1].output_size)
        filters = [
            (c.channels[1], c.channels[0], c.kernel_size, c.kernel_size) for c in self.convolutions
        ]
        dense = [(out, into) for into, out in pairwise((features, *DENSE_WIDTHS, classes))]
        shapes: list[tuple[int, ...]] = []
        for shape in (*filters, *dense):
            shapes += [shape, shape[:1]] if variant.biases else [shape]
        if chunk_size is None and inputs.device.type == "cpu":
            chunk_size = CACHED_SAMPLES
        super().__init__(inputs, targets, shapes, activation, loss, chunk_size)
        is_weight = [
            torch.full((math.prod(shape),), len(shape) > 1, dtype=torch.bool) for shape in shapes
        ]
        self.weight_mask = torch.cat(is_weight).to(inputs.device)

    @property
    def depth(self) -> int:
        """The number of layers with weights, n = 5."""
        return len(self.convolutions) + len(DENSE_WIDTHS) + 1

    def weights(self, point: Tensor) -> list[Tensor]:
        """Return the filters ``(..., O, C, k, k)`` and matrices ``(..., out, in)``, as views."""
        return [piece for piece, shape in self._pieces(point) if len(shape) > 1]

    def biases(self, point: Tensor) -> list[Tensor]:
        """Return the biases ``(..., out)`` of all layers, as views; none in the adapted network."""
        return [piece for piece, shape in self._pieces(point) if len(shape) == 1]

    def initial(self, seed: int, scale: float = 1.0) -> Tensor:
        """Return a random θ, shape ``(d,)``, the same for the same seed on every device.

        Dense weights are Xavier-uniform, as in :meth:`FullyConnected.initial`. Filters and biases
        are PyTorch's defaults, uniform in ±1/√fan_in (``kaiming_uniform_`` with a = √5): the paper
        speaks of its dense layers only.

        Parameters
        ----------
        seed
            Seeds a generator of its own; the global one is untouched.
        scale
            Every entry is multiplied by it.

        Notes
        -----
        The numbers are those that PyTorch gives after ``torch.manual_seed(seed)`` to layers that
        are built in order, and whose dense ones are then initialised by ``xavier_uniform_``.
        """
        checks.positive(scale=scale)
        generator = torch.Generator().manual_seed(seed)
        # Neither the global default dtype nor the default device may change the numbers.
        pieces = [torch.empty(shape, dtype=torch.float32, device="cpu") for shape in self.shapes]
        fan_in = 1
        for piece in pieces:
            if piece.dim() > 1:
                fan_in = piece[0].numel()
            piece.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        for piece in pieces:
            if piece.dim() == 2:
                torch.nn.init.xavier_uniform_(piece, generator=generator)
        return torch.cat([scale * piece.reshape(-1) for piece in pieces]).to(self.inputs)

    def _pieces(self, point: Tensor) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        return zip(unflatten(point, self.shapes), self.shapes, strict=True)

    def _outputs(self, point: Tensor, prepared: Tensor) -> Tensor:
        if point.dim() > 1:
            flat = point.reshape(-1, point.shape[-1])
            each = torch.stack([self._outputs(one, prepared) for one in flat])
            return each.reshape(*point.shape[:-1], *each.shape[1:])
        point = point.to(prepared.dtype)  # as in FullyConnected
        weights = self.weights(point)
        biases = self.biases(point) or [None] * self.depth
        first, second = self.convolutions
        hidden = first.pooled(multiply(first.filters(weights[0]), prepared))
        # Activations do not decrease, so that they may follow the pooling: there is less of it.
        hidden = self.activation.apply(_shifted(hidden, biases[0]))
        images = hidden.view(first.channels[1], *first.output_size, -1)
        hidden = second.pooled(convolve(second.filters(weights[1]), images, *second.window))
        hidden = _shifted(hidden, biases[1]).view(weights[2].shape[1], -1)
        for weight, bias in zip(weights[2:], biases[2:], strict=True):
            hidden = _shifted(weight @ self.activation.apply(hidden), bias)
        return hidden.mT

    def _prepared(self, inputs: Tensor) -> Tensor:
        first = self.convolutions[0]
        images = inputs.reshape(len(inputs), *first.input_size).permute(1, 2, 0)
        return windows(functional.pad(images[None], (0, 0, *4 * (first.padding,))), *first.window)

    def _forward(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        if len(self.inputs) * self._bytes_of_columns() <= KEPT_BYTES:
            return super()._forward(inputs)
        return lambda point: self.outputs(point, inputs)

    def _bytes_of_columns(self) -> int:
        """Return what `_prepared` makes of one sample."""
        return self._prepared(self.inputs[:1]).nbytes


def convolutional(
    images: Tensor,
    labels: Tensor,
    *,
    variant: str = "adapted",
    activation: str = "relu",
    loss: str = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    chunk_size: int | None = None,
) -> Convolutional:
    """Return the mean loss of a convolutional network of Elkabetz & Cohen (2021).

    Two convolutions with 6 and 16 filters of 5 × 5 pixels, the first on the image with a margin
    of 2 zeros, then dense layers of 120, 84 and K units; σ behind each layer but the last.

    Parameters
    ----------
    images
        Shape ``(N, H, W)``, or ``(N, H·W)`` for square images.
    labels
        As `targets` in :func:`fully_connected`.
    variant
        ``"adapted"``: stride 2, no pooling, no biases, so that the network is homogeneous where σ
        is. ``"off_the_shelf"``: stride 1, max-pooling over 2 × 2 pixels behind each convolution's
        activation, biases everywhere.
    activation, loss, dtype, device
        As in :func:`fully_connected`.
    chunk_size
        Differentiate so many samples at a time. Without it as many as fit the cache of a CPU's
        core, and all samples elsewhere.

    Raises
    ------
    ValueError
        For an unknown name, images that are too small or not square, images and labels that do
        not belong together.
    """
    checks.one_of(VARIANTS, variant=variant)
    checks.one_of(ACTIVATIONS, activation=activation)
    check_chunk_size(chunk_size)
    images = torch.as_tensor(images, dtype=dtype, device=device)
    image_shape = _image_shape(images)
    inputs = images.flatten(1)
    targets, classes = checked_targets(labels, inputs, loss)
    return Convolutional(
        inputs,
        targets,
        image_shape,
        classes,
        VARIANTS[variant],
        ACTIVATIONS[activation],
        LOSSES[loss],
        chunk_size,
    )


def _convolutions(image_shape: tuple[int, int], variant: Variant) -> tuple[Convolution, ...]:
    """Return the geometry of both convolutions, or say that the images are too small for it."""
    layers: list[Convolution] = []
    size = image_shape
    for channels, padding in zip(pairwise(CHANNELS), (PADDING, 0), strict=True):
        layer = Convolution(channels, size, KERNEL_SIZE, variant.stride, padding, variant.pool)
        layers.append(layer)
        size = layer.output_size
        if min(size) < 1:
            raise ValueError(
                f"images of {image_shape[0]} × {image_shape[1]} pixels: are too small for two "
                "convolutions of 5 × 5; enlarge them, for example to twice the size"
            )
    return tuple(layers)


def _shifted(outputs: Tensor, bias: Tensor | None) -> Tensor:
    """Add a bias to each row."""
    return outputs if bias is None else outputs + bias[:, None]


def _image_shape(images: Tensor) -> tuple[int, int]:
    if images.dim() == 3:
        return images.shape[1], images.shape[2]
    side = math.isqrt(images.shape[-1])
    if images.dim() != 2 or side**2 != images.shape[1]:
        raise ValueError(
            f"images has shape {tuple(images.shape)}: give (N, H, W), or (N, H·W) for square images"
        )
    return side, side
