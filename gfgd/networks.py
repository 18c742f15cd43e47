"""Neural networks as objectives on a flat parameter vector."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.convolution import convolve, largest, multiply, tiled, windows
from gfgd.objective import Objective, Term, unflatten


@dataclass(frozen=True)
class Activation:
    """An element-wise map σ; `slopes` (α, ᾱ) where σ(z) = α max(z, 0) + ᾱ min(z, 0)."""

    name: str
    apply: Callable[[Tensor], Tensor]
    slopes: tuple[float, float] | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether σ(cz) = cσ(z) for c ≥ 0."""
        return self.slopes is not None


#: Activations by name. The last two are smooth, and not homogeneous.
ACTIVATIONS = {
    "linear": Activation("linear", lambda z: z, (1.0, 1.0)),
    "relu": Activation("relu", torch.relu, (1.0, 0.0)),
    "leaky_relu": Activation("leaky_relu", lambda z: functional.leaky_relu(z, 0.01), (1.0, 0.01)),
    "tanh": Activation("tanh", torch.tanh),
    "softplus": Activation("softplus", functional.softplus),
}


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return −log softmax(outputs)[label] per sample: (..., N, K) and (N,) to (..., N)."""
    # Sample by sample in memory the few classes would leave nothing to vectorise.
    log_probabilities = outputs.mT.log_softmax(-2)
    index = labels.expand(outputs.shape[:-1]).unsqueeze(-2)
    return -log_probabilities.gather(-2, index).squeeze(-2)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ½‖output − target‖² per sample: (..., N, K) and (N, K) to (..., N)."""
    return 0.5 * (outputs - targets).square().sum(-1)


#: Losses ℓ(output, target) per sample by name; both are convex in the output.
LOSSES = {"cross_entropy": cross_entropy, "half_squared_error": half_squared_error}


class Network(Objective, ABC):
    """f(θ) = (1/N) Σ_i ℓ(h_θ(x_i), y_i): the mean loss of a network on N samples.

    θ is the network's parameters, flattened, in the order in which PyTorch lists them.

    Attributes
    ----------
    activation
        σ.
    loss
        ℓ per sample, one of `LOSSES`.
    inputs, targets
        The N samples, shapes ``(N, features)`` and ``(N,)`` or ``(N, K)``.
    shapes
        Of the parameters.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        shapes: Sequence[tuple[int, ...]],
        activation: Activation,
        loss: Callable[[Tensor, Tensor], Tensor],
        chunk_size: int | None,
    ) -> None:
        self.inputs, self.targets = inputs, targets
        self.shapes = list(shapes)
        self.activation = activation
        self.loss = loss
        self._chunk_size = chunk_size or len(inputs)
        terms = [self._term(chunk) for chunk in self._chunks()]
        super().__init__(*terms, dimension=sum(math.prod(shape) for shape in self.shapes))

    def outputs(self, point: Tensor, inputs: Tensor) -> Tensor:
        """Return the network's outputs h_θ, shape ``(..., N, K)``."""
        return self._outputs(point, self._prepared(inputs))

    def accuracy(self, point: Tensor) -> Tensor:
        """Return the fraction of samples whose label has the largest output, shape (...)."""
        with torch.no_grad():
            parts = [self.outputs(point, self.inputs[chunk]) for chunk in self._chunks()]
        return (torch.cat(parts, dim=-2).argmax(-1) == self.targets).double().mean(-1)

    @abstractmethod
    def initial(self, seed: int) -> Tensor:
        """Return a random θ, shape ``(d,)``, the same for the same seed on every device."""

    @abstractmethod
    def _outputs(self, point: Tensor, prepared: Tensor) -> Tensor:
        """Return the outputs for inputs that `_prepared` returned."""

    def _prepared(self, inputs: Tensor) -> Tensor:
        """Return what does not depend on θ and is computed once."""
        return inputs

    def _chunks(self) -> list[slice]:
        starts = range(0, len(self.inputs), self._chunk_size)
        return [slice(start, start + self._chunk_size) for start in starts]

    def _forward(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the outputs for given inputs as a function of θ, prepared once."""
        prepared = self._prepared(inputs)
        return lambda point: self._outputs(point, prepared)

    def _term(self, chunk: slice) -> Term:
        forward, targets = self._forward(self.inputs[chunk]), self.targets[chunk]
        total = len(self.inputs)
        return lambda point: self.loss(forward(point), targets).sum(-1) / total


class FullyConnected(Network):
    """f(θ) = (1/N) Σ_i ℓ(W_n σ(W_{n−1} ⋯ σ(W_1 x_i)), y_i), without biases.

    θ is W_1, …, W_n, each row by row, one after the other; W_j has shape
    ``(widths[j], widths[j−1])``. Made by :func:`fully_connected`.

    Attributes
    ----------
    widths
        Input dimension, hidden widths, output dimension.
    activation
        σ.
    inputs, targets
        The N samples, shapes ``(N, widths[0])`` and ``(N,)`` or ``(N, widths[-1])``.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        widths: Sequence[int],
        activation: Activation,
        loss: Callable[[Tensor, Tensor], Tensor],
        chunk_size: int | None = None,
    ) -> None:
        self.widths = tuple(widths)
        shapes = [(out, into) for into, out in pairwise(widths)]
        super().__init__(inputs, targets, shapes, activation, loss, chunk_size)

    @property
    def depth(self) -> int:
        """The number of weight matrices, n."""
        return len(self.shapes)

    def weights(self, point: Tensor) -> list[Tensor]:
        """Return W_1, …, W_n as views of θ, shapes ``(..., widths[j], widths[j−1])``."""
        return unflatten(point, self.shapes)

    def initial(self, seed: int, init: str = "xavier_uniform", scale: float = 1.0) -> Tensor:
        """Return a random θ, shape ``(d,)``, the same for the same seed on every device.

        Parameters
        ----------
        seed
            Seeds a generator of its own; the global one is untouched.
        init
            ``"xavier_uniform"``: entries of W_j uniform in ±√(6 / (fan_in + fan_out))
            (Glorot & Bengio 2010); ``"gaussian"``: standard normal.
        scale
            Every entry is multiplied by it.

        Notes
        -----
        The Xavier numbers are those that PyTorch gives after ``torch.manual_seed(seed)`` to
        a stack of ``nn.Linear(…, bias=False)`` that is built first and initialised by
        ``xavier_uniform_`` after: drawn in float32, behind the layers' own initial draws.
        """
        checks.one_of(["xavier_uniform", "gaussian"], init=init)
        checks.positive(scale=scale)
        generator = torch.Generator().manual_seed(seed)
        weights = [torch.empty(shape) for shape in self.shapes]
        if init == "gaussian":
            for weight in weights:
                weight.normal_(generator=generator)
        else:
            for weight in weights:
                weight.uniform_(generator=generator)  # the draws of nn.Linear itself
            for weight in weights:
                torch.nn.init.xavier_uniform_(weight, generator=generator)
        return torch.cat([scale * weight.reshape(-1) for weight in weights]).to(self.inputs)

    def _outputs(self, point: Tensor, prepared: Tensor) -> Tensor:
        # In the precision of the data: a float64 θ over float32 data accumulates its steps in
        # float64 from gradients that are computed in float32.
        weights = self.weights(point.to(prepared.dtype))
        if self.activation.name == "linear":
            # The product of the weights first: it is the smaller one where N is large.
            return (end_to_end(weights) @ prepared.mT).mT
        hidden = weights[0] @ prepared.mT
        for weight in weights[1:]:
            hidden = weight @ self.activation.apply(hidden)
        return hidden.mT


def fully_connected(
    inputs: Tensor,
    targets: Tensor,
    *,
    hidden: Sequence[int],
    activation: str = "relu",
    loss: str = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
    chunk_size: int | None = None,
) -> FullyConnected:
    """Return the mean loss of a fully connected network without biases.

    Parameters
    ----------
    inputs
        Shape ``(N, features)``.
    targets
        For ``"cross_entropy"`` integer labels from 0, shape ``(N,)``; for
        ``"half_squared_error"`` the wanted outputs, shape ``(N, K)``.
    hidden
        Hidden widths; empty for a single layer.
    activation, loss
        Keys of `ACTIVATIONS` and `LOSSES`.
    dtype, device
        Precision and place of the data, and so of all that is computed.
    chunk_size
        Differentiate so many samples at a time: memory then does not grow with N.

    Raises
    ------
    ValueError
        For an unknown name, a width that is no positive whole number, inputs and targets
        that do not belong together.
    """
    checks.one_of(ACTIVATIONS, activation=activation)
    checks.whole(1, **{f"hidden[{j}]": width for j, width in enumerate(hidden)})
    inputs = torch.as_tensor(inputs).to(device, dtype)
    if inputs.dim() != 2:
        raise ValueError(
            f"inputs has shape {tuple(inputs.shape)}: give inputs of shape (N, features)"
        )
    targets, classes = _checked_targets(targets, inputs, loss)
    _check_chunk_size(chunk_size)
    widths = [inputs.shape[1], *hidden, classes]
    return FullyConnected(
        inputs, targets, widths, ACTIVATIONS[activation], LOSSES[loss], chunk_size
    )


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
        is_weight = [torch.full((math.prod(shape),), len(shape) > 1) for shape in shapes]
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
        pieces = [torch.empty(shape) for shape in self.shapes]
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
    _check_chunk_size(chunk_size)
    images = torch.as_tensor(images).to(device, dtype)
    image_shape = _image_shape(images)
    inputs = images.flatten(1)
    targets, classes = _checked_targets(labels, inputs, loss)
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


def end_to_end(weights: Sequence[Tensor]) -> Tensor:
    """Return W_{n:1} = W_n ⋯ W_1, shape ``(..., widths[-1], widths[0])``."""
    product = weights[-1]
    for weight in reversed(weights[:-1]):
        product = product @ weight
    return product


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


def _check_chunk_size(chunk_size: int | None) -> None:
    if chunk_size is not None:
        checks.whole(1, chunk_size=chunk_size)


def _checked_targets(targets: Tensor, inputs: Tensor, loss: str) -> tuple[Tensor, int]:
    """Return the targets beside the inputs, and the number of outputs."""
    checks.one_of(LOSSES, loss=loss)
    targets = torch.as_tensor(targets).to(inputs.device)
    if len(targets) != len(inputs):
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}: give N targets for N = {len(inputs)} inputs"
        )
    if loss == "cross_entropy":
        if targets.is_floating_point() or targets.dim() != 1 or targets.min() < 0:
            raise ValueError("targets: cross-entropy needs whole labels from 0, shape (N,)")
        return targets, int(targets.max()) + 1
    targets = targets.to(inputs)
    if targets.dim() != 2:
        raise ValueError(f"targets has shape {tuple(targets.shape)}: give shape (N, K)")
    return targets, targets.shape[1]
