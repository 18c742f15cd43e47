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
    Activation,
    Network,
    check_chunk_size,
    checked_targets,
    end_to_end,
)
from gfgd.objective import unflatten


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

    def _forward(self, inputs: Tensor) -> Callable[[Tensor], Tensor]:
        # Chunks are for little memory: no copy of the data is made there.
        varying = _varying(inputs) if len(inputs) == len(self.inputs) else None
        if varying is None:
            return super()._forward(inputs)
        return lambda point: self._outputs(point, varying)

    def _outputs(self, point: Tensor, prepared: Tensor | _Varying) -> Tensor:
        # In the precision of the data: a float64 θ over float32 data accumulates its steps in
        # float64 from gradients that are computed in float32.
        first, *others = self.weights(point.to(prepared.dtype))
        if self.activation.name == "linear":
            # The product of the weights first: it is the smaller one where N is large.
            first, others = end_to_end([first, *others]), []
        if isinstance(prepared, _Varying):
            first, prepared = prepared.merged(first), prepared.inputs
        hidden = first @ prepared.mT
        for weight in others:
            hidden = weight @ self.activation.apply(hidden)
        return hidden.mT


#: Features that are the same in all samples are merged if they are at least this part of all.
MERGED_PART = 0.1


@dataclass(frozen=True)
class _Varying:
    """Samples without the features that are the same in all of them, such as an image's margin.

    W x_i = Σ_j W_j x_ij over the features that vary, plus Σ_j W_j c_j over those that are c_j in
    every sample: one number per row of W, which is the weight of one feature that is 1 in all.

    Attributes
    ----------
    inputs
        The features that vary, and a last one of ones; shape ``(N, V + 1)``.
    varying, constant
        The places of both kinds, shapes ``(V,)`` and ``(C,)``.
    values
        c, shape ``(C, 1)``.
    """

    inputs: Tensor
    varying: Tensor
    constant: Tensor
    values: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """That of the data."""
        return self.inputs.dtype

    def merged(self, weight: Tensor) -> Tensor:
        """Return the matrix for `inputs` that a matrix for all features is, ``(..., M, V + 1)``."""
        kept = weight.index_select(-1, self.varying)
        return torch.cat([kept, weight.index_select(-1, self.constant) @ self.values], dim=-1)


def _varying(inputs: Tensor) -> _Varying | None:
    """Return the samples with what is the same in all merged, if that is much of them."""
    same = (inputs == inputs[0]).all(0)
    if int(same.sum()) < MERGED_PART * len(same):
        return None
    varying, constant = (~same).nonzero().flatten(), same.nonzero().flatten()
    kept = torch.cat([inputs[:, varying], inputs.new_ones(len(inputs), 1)], dim=1)
    return _Varying(kept, varying, constant, inputs[0, constant, None])


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
