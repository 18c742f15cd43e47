"""A linear network as the proofs see it: its gradient as one chain of matrix products.

f(θ) = φ(W_n ⋯ W_1), φ(E) = (1/N) Σ_i ℓ(E x_i, y_i). With G = ∇φ(E) = PᵀX/N (P the slopes of the
losses, a sample a row) and Z_ij = (W_n ⋯ W_{i+1})ᵀ G (W_{j−1} ⋯ W_1)ᵀ, the gradient with respect to
W_j is Z_jj, and the residual part of the Hessian is made of Z_ij, i > j, and of the products
W_{i−1} ⋯ W_{j+1} (:mod:`gfgd.verified.residual_curvature`).

The chain is written once, with ``@`` and ``.T``. On arrays it is a float64 gradient, on Taylor
models it encloses the gradient along a polynomial path, on sizes it bounds what the gradient in
float64 rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gfgd.networks import FullyConnected
from gfgd.networks.network import cross_entropy, half_squared_error
from gfgd.verified.directed import Upper, norm, product_rounding, spectral_norm, total
from gfgd.verified.losses import CrossEntropy, HalfSquaredError, Loss
from gfgd.verified.taylor_models import Size, TaylorModel

Matrix = TypeVar("Matrix", np.ndarray, TaylorModel, Size)


@dataclass(frozen=True, eq=False)
class Chain:
    """The products that a gradient is made of; layers count from 1.

    `suffix[i]` is W_n ⋯ W_{i+1} for i < n, `right[j]` is Z_nj = G (W_{j−1} ⋯ W_1)ᵀ for j from 1.
    """

    weights: Sequence[Any]
    suffix: list[Any]
    right: list[Any]

    @property
    def depth(self) -> int:
        """The number of layers, n."""
        return len(self.weights)

    def crossed(self, i: int, j: int) -> Any:
        """Return Z_ij = (W_n ⋯ W_{i+1})ᵀ G (W_{j−1} ⋯ W_1)ᵀ."""
        return self.right[j] if i == self.depth else self.suffix[i].T @ self.right[j]

    def gradient(self) -> list[Any]:
        """Return ∂f/∂W_j = Z_jj for j = 1 … n."""
        return [self.crossed(j, j) for j in range(1, self.depth + 1)]


def chain(weights: Sequence[Matrix], slope: Callable[[Matrix], Matrix]) -> Chain:
    """Return the chain at W_1 … W_n, with G = slope(W_n ⋯ W_1)."""
    n = len(weights)
    suffix = [weights[-1]] * n
    for i in range(n - 2, -1, -1):
        suffix[i] = suffix[i + 1] @ weights[i]
    right = [weights[0], slope(suffix[0])]  # right[0] is never used
    for j in range(1, n):
        right.append(right[j] @ weights[j - 1].T)
    return Chain(weights, suffix, right)


@dataclass(frozen=True, eq=False)
class NetworkData:
    """The data of a fully connected network's loss: float64 numbers, taken as exact.

    `inputs` X (N, d₀), `loss` with its targets, `widths` d₀ … d_n.
    """

    inputs: np.ndarray
    loss: Loss
    widths: tuple[int, ...]

    @property
    def samples(self) -> int:
        """N."""
        return len(self.inputs)

    @property
    def depth(self) -> int:
        """The number of layers, n."""
        return len(self.widths) - 1

    @cached_property
    def inputs_norm(self) -> Upper:
        """An upper bound of ‖X‖_F."""
        return norm(self.inputs)

    @cached_property
    def inputs_spectral(self) -> Upper:
        """An upper bound of ‖X‖₂."""
        return spectral_norm(self.inputs)

    def weights(self, point: np.ndarray) -> list[np.ndarray]:
        """Return W_1 … W_n of a flat θ, shapes (d_j, d_{j−1})."""
        return unflattened(point, self.widths)

    def hashes(self) -> dict[str, str]:
        """Return SHA-256 sums of the data, as float64 in the machine's byte order."""
        targets = self.loss.onehot if isinstance(self.loss, CrossEntropy) else self.loss.wanted
        return {"inputs": digest(self.inputs), "targets": digest(targets)}


@dataclass(frozen=True, eq=False)
class LinearNetwork(NetworkData):
    """The data of a linear network's loss, and ∇φ."""

    @cached_property
    def smoothness(self) -> Upper:
        """An upper bound of ∇²φ ⪯ curvature of the loss × λmax(XᵀX/N)."""
        return self.inputs_spectral * self.inputs_spectral / self.samples * self.loss.curvature

    def slope(self, end_to_end: np.ndarray) -> np.ndarray:
        """Return G = ∇φ(E) in float64, shape (d_n, d₀)."""
        return self.loss.slope(self.inputs @ end_to_end.T).T @ self.inputs / self.samples

    def slope_model(self, end_to_end: TaylorModel) -> TaylorModel:
        """Return a model of ∇φ along E(τ).

        Raises
        ------
        PathTooLongError
            If the loss cannot be enclosed along so long a path.
        """
        outputs, outputs_error = self._outputs_model(end_to_end)
        enclosed = self.loss.slope_model(outputs)
        if enclosed is None:
            raise PathTooLongError
        slopes, slopes_error = enclosed
        slopes_error = slopes_error + self.loss.curvature * outputs_error
        degrees, samples, classes = slopes.shape
        stacked = slopes.transpose(0, 2, 1).reshape(-1, samples)
        gradients = (stacked @ self.inputs / samples).reshape(degrees, classes, -1)
        rounding = product_rounding(
            samples + 2,
            total(norm(slope) for slope in slopes),
            self.inputs_norm / samples,
            gradients.size * degrees,
        )
        remainder = self.inputs_spectral / samples * slopes_error + rounding
        return TaylorModel(gradients, remainder, end_to_end.order)

    def _outputs_model(self, end_to_end: TaylorModel) -> tuple[np.ndarray, Upper]:
        """Return the coefficients of XEᵀ, shape ``(k + 1, N, d_n)``, and the error's bound."""
        degrees, classes, features = end_to_end.coefficients.shape
        stacked = end_to_end.coefficients.reshape(-1, features).T
        outputs = (self.inputs @ stacked).reshape(self.samples, degrees, classes)
        outputs = np.ascontiguousarray(outputs.transpose(1, 0, 2))
        rounding = product_rounding(
            features, self.inputs_norm, end_to_end.frobenius, outputs.size * degrees
        )
        return outputs, self.inputs_spectral * end_to_end.remainder + rounding

    def slope_size(self, end_to_end: Size, largest: float, bound: Upper) -> Size:
        """Return what is known of G in float64 where no output exceeds `largest`; ‖G‖₂ ≤ bound."""
        features, classes = self.widths[0], self.widths[-1]
        outputs_error = self.inputs_spectral * end_to_end.error + product_rounding(
            features,
            self.inputs_norm,
            end_to_end.frobenius + end_to_end.error,
            self.samples * classes,
        )
        slopes = self.loss.slope_size(self.inputs_spectral * end_to_end.frobenius)
        error = self.loss.curvature * outputs_error + self.loss.slope_error(2 * largest)
        rounding = product_rounding(
            self.samples + 2,
            slopes + error,
            self.inputs_norm / self.samples,
            classes * features,
        )
        carried = self.inputs_spectral / self.samples * error
        rank = Upper(min(classes, features)).sqrt()
        return Size(bound, bound * rank, carried + rounding, (classes, features))

    def largest_output(self, weights: Sequence[np.ndarray]) -> float:
        """Return the largest |output| at W_1 … W_n, in float64."""
        product = weights[-1]
        for weight in reversed(weights[:-1]):
            product = product @ weight
        return float(np.abs(self.inputs @ product.T).max())


def unflattened(point: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Return W_1 … W_n of a flat θ, shapes (d_j, d_{j−1})."""
    sizes = [a * b for a, b in zip(widths[1:], widths, strict=False)]
    parts = np.split(point, np.cumsum(sizes)[:-1])
    shapes = zip(widths[1:], widths, strict=False)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


class PathTooLongError(Exception):
    """The outputs change too much along a path for the loss to be enclosed."""


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 sum of the array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def from_objective(objective: FullyConnected) -> LinearNetwork:
    """Return the data of a linear fully connected network.

    Raises
    ------
    ValueError
        If the network is not linear, has one layer (then f is convex), its loss is neither of the
        library's, or its data are not float64 or not finite.
    """
    inputs = checked_inputs(objective)
    return LinearNetwork(inputs, loss_of(objective), tuple(objective.widths))


def loss_of(objective: FullyConnected) -> Loss:
    """Return the loss with its targets, or say that the proofs do not know it."""
    targets = objective.targets
    if objective.loss is cross_entropy:
        labels = torch.nn.functional.one_hot(targets.long(), objective.widths[-1])
        return CrossEntropy(labels.double().cpu().numpy())
    if objective.loss is half_squared_error:
        return HalfSquaredError(targets.cpu().numpy())
    name = getattr(objective.loss, "__name__", repr(objective.loss))
    raise ValueError(
        f"objective: its loss is {name}, and the proofs are for cross_entropy and "
        "half_squared_error; for another convex loss residual_curvature(..., loss=...) "
        "gives the bound on λmin of a linear network, not verified"
    )


def checked_inputs(objective: FullyConnected) -> np.ndarray:
    """Return the inputs X as a float64 array ``(N, d₀)``, or say why there is no theorem."""
    if objective.activation.name != "linear":
        raise ValueError(
            f"objective: its activation is {objective.activation.name!r}, and this proof is for "
            "linear networks; give activation='linear'"
        )
    return checked_data(objective)


def checked_data(objective: FullyConnected) -> np.ndarray:
    """Return the inputs X as a float64 array ``(N, d₀)``, or say what is wrong with the data."""
    if objective.depth < 2:
        raise ValueError("objective: has one layer, so f is convex; give it a hidden layer")
    inputs, targets = objective.inputs, objective.targets
    if inputs.dtype != torch.float64:
        raise ValueError(f"objective: its data are {inputs.dtype}; give dtype=torch.float64")
    if not inputs.isfinite().all() or not targets.isfinite().all():
        raise ValueError("objective: its data have entries that are not finite")
    return np.ascontiguousarray(inputs.cpu().numpy())


def checked_start(objective: FullyConnected, start: Tensor) -> np.ndarray:
    """Return θ as a float64 array of shape ``(d,)``, or say what is wrong with it."""
    if start.shape != (objective.dimension,):
        raise ValueError(
            f"start has shape {tuple(start.shape)}: give shape ({objective.dimension},)"
        )
    if start.dtype != torch.float64:
        raise ValueError(f"start is {start.dtype}: give float64, start.double()")
    if not start.isfinite().all():
        raise ValueError("start: has non-finite entries")
    return start.detach().cpu().numpy().copy()
