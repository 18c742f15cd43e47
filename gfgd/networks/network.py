"""What all networks share: activations, losses, and the mean loss of N samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.objective import Objective, Term


@dataclass(frozen=True)
class Activation:
    """An element-wise map σ; `slopes` (α, ᾱ) where σ(z) = α max(z, 0) + ᾱ min(z, 0)."""

    name: str
    apply: Callable[[Tensor], Tensor]
    slopes: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """The name as a text has it: tanh, ReLU, leaky ReLU."""
        return self.name.replace("_", " ").replace("relu", "ReLU")

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
    return -log_probabilities.gather(-2, _places(labels, outputs)).squeeze(-2)


def cross_entropy_slope(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return softmax(output) − e_label per sample: (..., N, K) and (N,) to (..., N, K)."""
    probabilities = outputs.mT.softmax(-2)
    places = _places(labels, outputs)
    minus_one = probabilities.new_full((), -1).expand(places.shape)
    return probabilities.scatter_add_(-2, places, minus_one).mT


def _places(labels: Tensor, outputs: Tensor) -> Tensor:
    """Return the labels of samples as rows of the outputs' transpose, shape ``(..., 1, N)``."""
    return labels.expand(outputs.shape[:-1]).unsqueeze(-2)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ½‖output − target‖² per sample: (..., N, K) and (N, K) to (..., N)."""
    return 0.5 * (outputs - targets).square().sum(-1)


#: Losses ℓ(output, target) per sample by name; both are convex in the output.
LOSSES = {"cross_entropy": cross_entropy, "half_squared_error": half_squared_error}

#: ∂ℓ/∂output per sample, by the loss.
SLOPES = {cross_entropy: cross_entropy_slope, half_squared_error: torch.sub}


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
    def _outputs(self, point: Tensor, prepared: Any) -> Tensor:
        """Return the outputs for inputs that `_prepared` returned."""

    def _prepared(self, inputs: Tensor) -> Any:
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
        return lambda point: self._share(forward(point), targets)

    def _share(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what some of the samples add to f, from their outputs, shape ``(...)``."""
        return self.loss(outputs, targets).sum(-1) / len(self.inputs)


def end_to_end(weights: Sequence[Tensor]) -> Tensor:
    """Return W_{n:1} = W_n ⋯ W_1, shape ``(..., widths[-1], widths[0])``."""
    return products_from_above(weights)[-1]


def products_from_above(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return W_n, W_n W_{n−1}, …, W_n ⋯ W_1."""
    products = [weights[-1]]
    for weight in reversed(weights[:-1]):
        products.append(products[-1] @ weight)
    return products


def through_product(weights: Sequence[Tensor], products: Sequence[Tensor], by: Tensor) -> Tensor:
    """Return ∂f/∂W_j = (W_n ⋯ W_{j+1})ᵀ G (W_{j−1} ⋯ W_1)ᵀ for all j, flattened.

    Parameters
    ----------
    weights, products
        W_1, …, W_n, and what `products_from_above` makes of them.
    by
        G, the derivative of f by W_n ⋯ W_1, of its shape.
    """
    gradients = []
    for weight, above in zip(weights, [*reversed(products[:-1]), None], strict=True):
        gradients.append((by if above is None else above.mT @ by).flatten(-2))
        by = by @ weight.mT
    return torch.cat(gradients, dim=-1)


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise ``ValueError`` unless it is None or a whole number from 1."""
    if chunk_size is not None:
        checks.whole(1, chunk_size=chunk_size)


def checked_targets(targets: Tensor, inputs: Tensor, loss: str) -> tuple[Tensor, int]:
    """Return the targets beside the inputs, and the number of outputs."""
    checks.one_of(LOSSES, loss=loss)
    if not isinstance(targets, Tensor):  # a list counts as float64, whatever torch's default is
        targets = torch.from_numpy(np.array(targets))
    targets = targets.to(inputs.device)
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
