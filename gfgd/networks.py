"""Neural networks as objectives on a flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
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
    log_probabilities = outputs.log_softmax(-1)
    index = labels.expand(outputs.shape[:-1]).unsqueeze(-1)
    return -log_probabilities.gather(-1, index).squeeze(-1)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ½‖output − target‖² per sample: (..., N, K) and (N, K) to (..., N)."""
    return 0.5 * (outputs - targets).square().sum(-1)


#: Losses ℓ(output, target) per sample by name; both are convex in the output.
LOSSES = {"cross_entropy": cross_entropy, "half_squared_error": half_squared_error}


class FullyConnected(Objective):
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
        self.inputs, self.targets = inputs, targets
        self.widths = tuple(widths)
        self.activation = activation
        self.loss = loss
        self.shapes = [(out, into) for into, out in pairwise(widths)]
        chunks = range(0, len(inputs), chunk_size or len(inputs))
        terms = [self._term(slice(i, i + (chunk_size or len(inputs)))) for i in chunks]
        super().__init__(*terms, dimension=sum(out * into for out, into in self.shapes))

    @property
    def depth(self) -> int:
        """The number of weight matrices, n."""
        return len(self.shapes)

    def weights(self, point: Tensor) -> list[Tensor]:
        """Return W_1, …, W_n as views of θ, shapes ``(..., widths[j], widths[j−1])``."""
        return unflatten(point, self.shapes)

    def outputs(self, point: Tensor, inputs: Tensor) -> Tensor:
        """Return the network's outputs, shape ``(..., N, widths[-1])``."""
        # In the precision of the data: a float64 θ over float32 data accumulates its steps in
        # float64 from gradients that are computed in float32.
        weights = self.weights(point.to(inputs.dtype))
        if self.activation.name == "linear":
            # The product of the weights first: it is the smaller one where N is large.
            return inputs @ end_to_end(weights).mT
        hidden = inputs
        for weight in weights[:-1]:
            hidden = self.activation.apply(hidden @ weight.mT)
        return hidden @ weights[-1].mT

    def accuracy(self, point: Tensor) -> Tensor:
        """Return the fraction of samples whose label has the largest output, shape (...)."""
        with torch.no_grad():
            guesses = self.outputs(point, self.inputs).argmax(-1)
        return (guesses == self.targets).double().mean(-1)

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

    def _term(self, chunk: slice) -> Term:
        inputs, targets = self.inputs[chunk], self.targets[chunk]
        total = len(self.inputs)

        def term(point: Tensor) -> Tensor:
            return self.loss(self.outputs(point, inputs), targets).sum(-1) / total

        return term


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
    checks.one_of(LOSSES, loss=loss)
    checks.whole(1, **{f"hidden[{j}]": width for j, width in enumerate(hidden)})
    if chunk_size is not None:
        checks.whole(1, chunk_size=chunk_size)
    inputs = torch.as_tensor(inputs).to(device, dtype)
    targets = torch.as_tensor(targets).to(device)
    if inputs.dim() != 2 or len(targets) != len(inputs):
        raise ValueError(
            f"inputs has shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}: "
            "give inputs of shape (N, features) and N targets"
        )
    if loss == "cross_entropy":
        if targets.is_floating_point() or targets.dim() != 1 or targets.min() < 0:
            raise ValueError("targets: cross-entropy needs whole labels from 0, shape (N,)")
        classes = int(targets.max()) + 1
    else:
        targets = targets.to(dtype)
        if targets.dim() != 2:
            raise ValueError(f"targets has shape {tuple(targets.shape)}: give shape (N, K)")
        classes = targets.shape[1]
    widths = [inputs.shape[1], *hidden, classes]
    return FullyConnected(
        inputs, targets, widths, ACTIVATIONS[activation], LOSSES[loss], chunk_size
    )


def end_to_end(weights: Sequence[Tensor]) -> Tensor:
    """Return W_{n:1} = W_n ⋯ W_1, shape ``(..., widths[-1], widths[0])``."""
    product = weights[-1]
    for weight in reversed(weights[:-1]):
        product = product @ weight
    return product
