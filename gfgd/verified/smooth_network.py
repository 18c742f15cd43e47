"""A network with a smooth activation as the proofs see it: its passes forward and back.

f(θ) = (1/N) Σ_i ℓ(W_n σ(W_{n−1} ⋯ σ(W_1 x_i)), y_i). A sample is a row: A_0 = X,
Z_l = A_{l−1}W_lᵀ, A_l = σ(Z_l), T_l = σ'(Z_l), U_l = σ''(Z_l), l < n. Backwards, Δ_n the slopes of
the losses over N, Y_l = Δ_{l+1}W_{l+1} and Δ_l = Y_l ∘ T_l. The gradient with respect to W_l is
Δ_lᵀA_{l−1}, and the second derivatives of the units enter the Hessian by S_l = Y_l ∘ U_l
(:mod:`gfgd.verified.smooth_curvature`).

As in :mod:`gfgd.verified.linear_network` the formulas are written once, with ``@``, ``*`` and
``.T``, for arrays, Taylor models and sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gfgd.networks import FullyConnected
from gfgd.verified.activations import SMOOTH, SmoothActivation, Three
from gfgd.verified.directed import UNDERFLOW, UNIT, Upper
from gfgd.verified.linear_network import (
    NetworkData,
    PathTooLongError,
    checked_data,
    loss_of,
)
from gfgd.verified.taylor_models import Size, TaylorModel


@dataclass(frozen=True, eq=False)
class Passes:
    """What the gradient and R are made of; layers count from 1, entry 0 of a list is layer 1's.

    Attributes
    ----------
    weights
        W_1 … W_n.
    arguments
        Z_1 … Z_{n−1}.
    values
        A_0 … A_{n−1}: A_0 is X.
    slopes, bends
        T_1 … T_{n−1} and U_1 … U_{n−1}.
    outputs
        Z_n.
    errors
        Δ_1 … Δ_n.
    pulled
        Y_1 … Y_{n−1}.
    """

    weights: Sequence[Any]
    arguments: list[Any]
    values: list[Any]
    slopes: list[Any]
    bends: list[Any]
    outputs: Any
    errors: list[Any]
    pulled: list[Any]

    @property
    def depth(self) -> int:
        """The number of layers, n."""
        return len(self.weights)

    @cached_property
    def curved(self) -> list[Any]:
        """S_1 … S_{n−1}."""
        return [part * bend for part, bend in zip(self.pulled, self.bends, strict=True)]

    def gradient(self) -> list[Any]:
        """Return ∂f/∂W_l = Δ_lᵀA_{l−1} for l = 1 … n."""
        return [error.T @ value for error, value in zip(self.errors, self.values, strict=True)]


def passes(
    weights: Sequence[Any],
    inputs: Any,
    activate: Callable[[int, Any], Three],
    slope: Callable[[Any], Any],
    known: Callable[[int, Any], Any] = lambda layer, pulled: pulled,
) -> Passes:
    """Return the passes at W_1 … W_n; `slope` gives Δ_n from Z_n, `activate` A_l, T_l, U_l.

    `known` may say more of Y_l than what follows from its factors.
    """
    arguments, values, slopes, bends = [], [inputs], [], []
    for layer, weight in enumerate(weights[:-1], start=1):
        arguments.append(values[-1] @ weight.T)
        value, first, second = activate(layer, arguments[-1])
        values.append(value)
        slopes.append(first)
        bends.append(second)
    outputs = values[-1] @ weights[-1].T
    errors, pulled = [slope(outputs)], []
    for layer in range(len(weights) - 1, 0, -1):
        pulled.append(known(layer, errors[-1] @ weights[layer]))
        errors.append(pulled[-1] * slopes[layer - 1])
    return Passes(weights, arguments, values, slopes, bends, outputs, errors[::-1], pulled[::-1])


@dataclass(frozen=True, eq=False)
class SmoothNetwork(NetworkData):
    """The data of a smooth network's loss: float64 numbers, taken as exact."""

    activation: SmoothActivation

    @property
    def smoothness(self) -> Upper:
        """An upper bound of the Hessian of Z ↦ (1/N) Σ ℓ(z_i, y_i)."""
        return Upper(self.loss.curvature) / self.samples

    def units(self, layer: int) -> SmoothActivation:
        """Return the activation of hidden layer `layer`, which counts from 1."""
        return self.activation

    def passes(self, weights: Sequence[np.ndarray]) -> Passes:
        """Return the passes in float64."""

        def activate(layer: int, z: np.ndarray) -> Three:
            return self.units(layer).values(z)

        return passes(weights, self.inputs, activate, self._slope)

    def _slope(self, outputs: np.ndarray) -> np.ndarray:
        return self.loss.slope(outputs) / self.samples

    def models(self, weights: Sequence[TaylorModel]) -> Passes:
        """Return the passes along polynomial paths of the weights, all of one order.

        Raises
        ------
        PathTooLongError
            If the activation or the loss cannot be enclosed along so long a path.
        """
        inputs = TaylorModel(self.inputs[None], Upper(0.0), weights[0].order)
        inputs.__dict__["spectral"] = self.inputs_spectral  # known: not to be computed each time

        def activate(layer: int, z: TaylorModel) -> Three:
            return self.units(layer).models(z)

        return passes(weights, inputs, activate, self._slope_model)

    def _slope_model(self, outputs: TaylorModel) -> TaylorModel:
        enclosed = self.loss.slope_model(outputs.coefficients)
        if enclosed is None:
            raise PathTooLongError
        slopes, error = enclosed
        error = error + self.loss.curvature * outputs.remainder
        divided = TaylorModel(slopes, Upper(0.0), outputs.order)
        rounding = UNIT * divided.frobenius / self.samples + UNDERFLOW * slopes.size
        return TaylorModel(slopes / self.samples, error / self.samples + rounding, outputs.order)

    def sizes(
        self, weights: Sequence[Size], largest: float, outputs: float, pulled: Sequence[Upper]
    ) -> Passes:
        """Return what is known of the passes in float64 at such weights.

        No true entry of any Z_l, l < n, exceeds `largest`, none of Z_n `outputs`, none of Y_l
        `pulled[l − 1]`.
        """
        inputs = Size(self.inputs_spectral, self.inputs_norm, Upper(0.0), self.inputs.shape)

        def activate(layer: int, z: Size) -> Three:
            return self._activated_size(self.units(layer), z, largest)

        return passes(
            weights,
            inputs,
            activate,
            lambda z: self._slope_size(z, outputs),
            lambda layer, size: replace(size, largest=pulled[layer - 1]),
        )

    def _activated_size(self, units: SmoothActivation, z: Size, largest: float) -> Three:
        """Return the sizes of σ, σ', σ''. What is computed from Ẑ is off by an entry's error more.

        `largest + ‖Ẑ − Z‖` bounds what the activation is evaluated at.
        """
        entries = z.shape[0] * z.shape[1]
        root = Upper(entries).sqrt()
        wrong = units.errors(float(z.error + largest))
        bend, third = units.bend, units.third
        whole = units.size(z.frobenius, entries)
        sizes = (whole, root, root * bend)
        steepness, highest = (1.0, bend, third), (whole, Upper(1.0), Upper(bend))
        value, slope, bent = (
            Size(size, size, z.error * steep + root * entry, z.shape, high)
            for size, steep, entry, high in zip(sizes, steepness, wrong, highest, strict=True)
        )
        return value, slope, bent

    def _slope_size(self, z: Size, outputs: float) -> Size:
        """Return the size of Δ_n, where no output exceeds `outputs`."""
        span = float(2 * (z.error + outputs))
        size = self.loss.slope_size(z.frobenius)
        error = z.error * self.loss.curvature + self.loss.slope_error(span)
        rounding = UNIT * (size + error) + UNDERFLOW * z.shape[0] * z.shape[1]
        whole = size / self.samples
        return Size(whole, whole, (error + rounding) / self.samples, z.shape)


def smooth_from_objective(objective: FullyConnected) -> SmoothNetwork:
    """Return the data of a fully connected network with tanh or softplus.

    Raises
    ------
    ValueError
        If it has one layer, its loss is neither of the library's, or its data are not float64 or
        not finite.
    """
    activation = SMOOTH[objective.activation.name]
    inputs = checked_data(objective)
    return SmoothNetwork(inputs, loss_of(objective), tuple(objective.widths), activation)
