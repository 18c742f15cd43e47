"""A ReLU network as the proofs see it up to the first switch of a gate: its gates are numbers.

A gate is the sign of one hidden unit's preactivation for one sample. As long as no gate changes,
σ(z) = s z with the slope s = 1 or s = α (0 for ReLU) that the gate had at the start, and the loss
is that of a network whose units are these linear maps, one for each unit and sample: the network
*with fixed gates*. It is smooth everywhere, σ'' = 0, and everything that is proved for smooth
networks holds for it. Where all its preactivations have the signs of the gates, ReLU's
preactivations are the same numbers, layer by layer, and so are the losses and the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gfgd.networks import FullyConnected
from gfgd.verified.activations import ActivationSeries, Three
from gfgd.verified.directed import UNDERFLOW, UNIT, NotVerifiedError, Upper
from gfgd.verified.linear_network import checked_data, loss_of, unflattened
from gfgd.verified.smooth_network import SmoothNetwork
from gfgd.verified.taylor_models import TaylorModel, model

#: Names of activations with a kink at 0 and one slope on either side, at most 1.
KINKED = ("relu", "leaky_relu")


@dataclass(frozen=True, eq=False)
class Gates:
    """A layer's units with fixed gates: σ(z) = s z entry by entry.

    Attributes
    ----------
    signs
        The sign of each preactivation at the start, ±1, shape ``(N, width)``.
    slopes
        s, 0 ≤ s ≤ 1, of the same shape.
    """

    signs: np.ndarray
    slopes: np.ndarray
    bend: float = 0.0
    third: float = 0.0

    def values(self, z: np.ndarray) -> Three:
        """Return s z, s and 0."""
        return self.slopes * z, self.slopes, np.zeros_like(z)

    def errors(self, largest: float) -> tuple[Upper, Upper, Upper]:
        """Return bounds of the errors: s z is rounded once, the others are exact."""
        return Upper(largest) * UNIT + UNDERFLOW, Upper(0.0), Upper(0.0)

    def models(self, z: TaylorModel) -> Three:
        """Return models of the three along the path. The path of σ' is constant, and exact."""
        value = TaylorModel(self.slopes * z.coefficients, self._remainder(z), z.order)
        slope = TaylorModel(self.slopes[None], Upper(0.0), z.order)
        bend = TaylorModel(np.zeros_like(self.slopes)[None], Upper(0.0), z.order)
        return value, slope, bend

    def _remainder(self, z: TaylorModel) -> Upper:
        # s ≤ 1 carries z's; each coefficient's entries are rounded by at most u, or underflow.
        return z.remainder + UNIT * z.frobenius + UNDERFLOW * z.coefficients.size

    def size(self, z: Upper, entries: int) -> Upper:
        """Return ‖Z‖_F: s ≤ 1."""
        return z

    def series(self, degree: int, shape: tuple[int, int]) -> ActivationSeries:
        """Return the series of s z, s and 0."""

        def curve(series: ActivationSeries, k: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            series.value[k] = self.slopes * z
            series.slope[k] = self.slopes * (k == 0)
            return series.slope[k], np.zeros(shape)

        return ActivationSeries(degree, shape, curve)


@dataclass(frozen=True, eq=False)
class GatedNetwork(SmoothNetwork):
    """The data of the loss with fixed gates; `gates` has a layer's for each hidden layer."""

    gates: tuple[Gates, ...]

    def units(self, layer: int) -> Gates:
        """Return the units of hidden layer `layer`, which counts from 1."""
        return self.gates[layer - 1]


def gated_from_objective(
    objective: FullyConnected, slopes: tuple[float, float], start: np.ndarray
) -> GatedNetwork:
    """Return the data of a network with the gates that it has at θ_0.

    `slopes` are those of its activation for z > 0 and for z < 0, both between 0 and 1.

    Raises
    ------
    ValueError
        If the objective has one layer, another loss, or data that are not float64 or not finite.
    NotVerifiedError
        If a preactivation at the start is 0, or so near to it that its sign is not known.
    """
    inputs, loss, widths = checked_data(objective), loss_of(objective), tuple(objective.widths)
    weights = unflattened(start, widths)
    gates: list[Gates] = []
    values = inputs
    for weight in weights[:-1]:
        z = values @ weight.T
        signs = np.where(z > 0, 1.0, -1.0)
        gates.append(Gates(signs, np.where(z > 0, *slopes)))
        values, _, _ = gates[-1].values(z)
    network = GatedNetwork(inputs, loss, widths, gates[0], tuple(gates))
    _check_margins(network, weights)
    return network


def _check_margins(network: GatedNetwork, weights: Sequence[np.ndarray]) -> None:
    """Say which preactivation at these weights is within its rounding of 0, if one is."""
    arguments = network.models([model(weight) for weight in weights]).arguments
    for layer, (z, gates) in enumerate(zip(arguments, network.gates, strict=True), start=1):
        margins = gates.signs * z.coefficients[0]
        sample, unit = np.unravel_index(int(margins.argmin()), margins.shape)
        if not margins[sample, unit] > z.remainder:
            raise NotVerifiedError(
                f"t = 0: no gate can be told at the start for sample {sample}, layer {layer}, unit "
                f"{unit} (from 0): its preactivation is {z.coefficients[0][sample, unit]:.3g}, "
                f"known to {float(z.remainder):.2g}. Start elsewhere, or leave that sample out"
            )
