"""Fully connected networks without biases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks.network import (
    ACTIVATIONS,
    LOSSES,
    SLOPES,
    Activation,
    Network,
    check_chunk_size,
    checked_targets,
    end_to_end,
    products_from_above,
    through_product,
)
from gfgd.objective import Point, Term, unflatten


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

    def value_and_gradient(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∇f(θ) for the cost of one gradient.

        A linear network's is written out: f(θ) = φ(W) with W = W_n ⋯ W_1, and
        ∂f/∂W_j = (W_n ⋯ W_{j+1})ᵀ ∇φ(W) (W_{j−1} ⋯ W_1)ᵀ. Autograd gives the same and takes longer.
        """
        if self.activation.name != "linear":
            return super().value_and_gradient(point)
        point = self._check(point).detach()
        with torch.no_grad():
            weights = self.weights(point.to(self.inputs.dtype))
            products = products_from_above(weights)

            def contribution(term: Term) -> tuple[Tensor, ...]:
                assert isinstance(term, _LinearTerm)
                return term.by_product(products[-1])

            value, by = self.total(contribution)
            return value, through_product(weights, products, by).to(point.dtype)

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
        # Neither the global default dtype nor the default device may change the numbers.
        weights = [torch.empty(shape, dtype=torch.float32, device="cpu") for shape in self.shapes]
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
        if self.activation.name != "linear":
            return super()._term(chunk)
        features, targets = self._features(self.inputs[chunk]), self.targets[chunk]
        return _LinearTerm(self, features, targets)

    def _forward(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        features = self._features(inputs)
        return lambda point: self._outputs(point, features)

    def _features(self, inputs: Tensor) -> _Features:
        # Chunks are for little memory: no copy of the data is made there.
        return _merged(inputs) if len(inputs) == len(self.inputs) else _Features(inputs)

    def _prepared(self, inputs: Tensor) -> _Features:
        return _Features(inputs)

    def _outputs(self, point: Tensor, prepared: _Features) -> Tensor:
        # In the precision of the data: a float64 θ over float32 data accumulates its steps in
        # float64 from gradients that are computed in float32.
        first, *others = self.weights(point.to(prepared.columns.dtype))
        if self.activation.name == "linear":
            # The product of the weights first: it is the smaller one where N is large.
            first, others = end_to_end([first, *others]), []
        hidden = prepared.multiplied(first)
        for weight in others:
            hidden = weight @ self.activation.apply(hidden)
        return hidden.mT


@dataclass(frozen=True)
class _LinearTerm:
    """What some of N samples add to a linear network's f: of θ, and of W = W_n ⋯ W_1."""

    network: FullyConnected
    features: _Features
    targets: Tensor

    def __call__(self, point: Tensor) -> Tensor:
        return self.network._share(self.network._outputs(point, self.features), self.targets)

    def by_product(self, product: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and its derivative by W, shapes ``(...)`` and ``(..., K, D)``."""
        outputs = self.features.multiplied(product).mT
        slopes = SLOPES[self.network.loss](outputs, self.targets) / len(self.network.inputs)
        return self.network._share(outputs, self.targets), self.features.summed(slopes.mT)


#: Features that are the same in all samples are merged if they are at least this part of all.
MERGED_PART = 0.1


@dataclass(frozen=True)
class _Features:
    """The samples X, shape ``(N, D)``, for products with matrices W of shape ``(..., M, D)``."""

    columns: Tensor

    def multiplied(self, weight: Tensor) -> Tensor:
        """Return W Xᵀ, shape ``(..., M, N)``."""
        return weight @ self.columns.mT

    def summed(self, back: Tensor) -> Tensor:
        """Return B X, shape ``(..., M, D)``: ∂f/∂W where B, shape ``(..., M, N)``, is by W Xᵀ."""
        return back @ self.columns


@dataclass(frozen=True)
class _MergedFeatures(_Features):
    """Samples that have much in common, such as an image's margin.

    W x_i is Σ_j W_j x_ij over the features that vary, plus Σ_j W_j c_j over those that are c_j in
    every sample: one number per row of W, the weight of one feature that is 1 in all.

    Attributes
    ----------
    columns
        The features that vary, and a last one of ones; shape ``(N, V + 1)``.
    varying, constant
        Which features vary, and which do not; shapes ``(V,)`` and ``(D − V,)``.
    common
        c, shape ``(D − V, 1)``.
    places, factors
        Feature j is column ``places[j]`` times ``factors[j]``; shapes ``(D,)``.
    """

    varying: Tensor
    constant: Tensor
    common: Tensor
    places: Tensor
    factors: Tensor

    def multiplied(self, weight: Tensor) -> Tensor:
        """Return W Xᵀ, shape ``(..., M, N)``."""
        shared = weight.index_select(-1, self.constant) @ self.common
        merged = torch.cat([weight.index_select(-1, self.varying), shared], dim=-1)
        return super().multiplied(merged)

    def summed(self, back: Tensor) -> Tensor:
        """Return B X, shape ``(..., M, D)``."""
        return super().summed(back).index_select(-1, self.places) * self.factors


def _merged(inputs: Tensor) -> _Features:
    """Return the samples with what is the same in all merged, if that is much of them."""
    same = (inputs == inputs[0]).all(0)
    if int(same.sum()) < MERGED_PART * len(same):
        return _Features(inputs)
    varying, constant = (~same).nonzero().flatten(), same.nonzero().flatten()
    return _MergedFeatures(
        columns=torch.cat([inputs[:, varying], inputs.new_ones(len(inputs), 1)], dim=1),
        varying=varying,
        constant=constant,
        common=inputs[0, constant, None],
        places=torch.where(same, len(varying), (~same).cumsum(0) - 1),
        factors=torch.where(same, inputs[0], 1),
    )


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
    inputs = torch.as_tensor(inputs, dtype=dtype, device=device)
    if inputs.dim() != 2:
        raise ValueError(
            f"inputs has shape {tuple(inputs.shape)}: give inputs of shape (N, features)"
        )
    targets, classes = checked_targets(targets, inputs, loss)
    check_chunk_size(chunk_size)
    widths = [inputs.shape[1], *hidden, classes]
    return FullyConnected(
        inputs, targets, widths, ACTIVATIONS[activation], LOSSES[loss], chunk_size
    )
