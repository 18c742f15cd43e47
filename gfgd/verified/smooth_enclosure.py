"""The tube and the radius of GD on a network with a smooth activation.

The theorems are those of :mod:`gfgd.verified.flow_tube` and :mod:`gfgd.verified.descent_radius`;
what they need of the network is given here: Taylor coefficients of the flow, models along it,
λmin(R) at a node, Lipschitz constants, and what a step of GD rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gfgd.networks import FullyConnected
from gfgd.verified import flow_tube
from gfgd.verified.activations import SMOOTH, folded
from gfgd.verified.descent_radius import (
    Descent,
    Place,
    between,
    descent_on,
    step_error,
)
from gfgd.verified.directed import UNIT, Upper, length_of, norm
from gfgd.verified.flow_tube import Cell, Series
from gfgd.verified.gated_network import KINKED, GatedNetwork, gated_from_objective
from gfgd.verified.linear_network import NetworkData, from_objective
from gfgd.verified.smooth_curvature import (
    Factors,
    Majorant,
    Sizes,
    chord_deviation,
    node_rate,
)
from gfgd.verified.smooth_network import Passes, SmoothNetwork, smooth_from_objective
from gfgd.verified.switches import margins_proved
from gfgd.verified.taylor_models import Size, TaylorModel, model


def network_of(objective: FullyConnected, start: np.ndarray) -> NetworkData:
    """Return the data of a network: linear, smooth, or with the gates that it has at θ_0.

    Raises
    ------
    ValueError
        If its activation is another, it has one layer, its loss is neither of the library's, or
        its data are not float64 or not finite.
    NotVerifiedError
        If a gate cannot be told at the start.
    """
    name, slopes = objective.activation.name, objective.activation.slopes
    if name in SMOOTH:
        return smooth_from_objective(objective)
    if name in KINKED and slopes is not None:
        return gated_from_objective(objective, slopes, start)
    if name != "linear":
        raise ValueError(
            f"objective: its activation is {name!r}, and the proofs are for 'linear' and "
            f"{sorted(SMOOTH)}, and for {sorted(KINKED)} up to the first switch of a gate"
        )
    return from_objective(objective)


@flow_tube.enclosed_along.register
def _(network: SmoothNetwork, weights: Sequence[TaylorModel]) -> tuple[Passes, Upper]:
    models = network.models(weights)
    return models, chord_deviation(models)


@flow_tube.rate_at_node.register
def _(
    network: SmoothNetwork, weights: Sequence[np.ndarray], guess: np.ndarray | None
) -> tuple[Upper, np.ndarray | None]:
    return node_rate(network.models([model(weight) for weight in weights])), guess


@flow_tube.steepness.register
def _(network: SmoothNetwork, models: Passes, radius: Upper) -> Upper:
    return Sizes.around(network, models, radius).lipschitz


@flow_tube.flow_coefficients.register
def _(
    network: SmoothNetwork, weights: Sequence[np.ndarray], order: int, length: float
) -> list[np.ndarray]:
    """As for linear networks: coefficient k of the gradient gives coefficient k + 1 of W."""
    n = len(weights)
    series = _FlowSeries(network, order)
    result, current = [[weight] for weight in weights], list(weights)
    for k in range(order):
        gradient = series.append(current)
        current = [(-length / (k + 1)) * part for part in gradient]
        for layer in range(n):
            result[layer].append(current[layer])
    return [np.stack(part) for part in result]


class _FlowSeries:
    """Takes the Taylor coefficients of the weights, one by one, to those of the gradient."""

    def __init__(self, network: SmoothNetwork, order: int) -> None:
        self.network, n, samples = network, network.depth, network.samples
        widths = network.widths
        self.flipped = [Series((widths[j], widths[j + 1]), order) for j in range(n)]  # W_lᵀ
        self.weights = [Series((widths[j + 1], widths[j]), order) for j in range(n)]
        self.activations = [
            network.units(layer).series(order, (samples, width))
            for layer, width in enumerate(widths[1:-1], start=1)
        ]
        self.values = [Series((samples, width), order) for width in widths[1:-1]]
        self.slope = network.loss.slope_series(order)
        self.errors = [Series((samples, width), order) for width in widths[1:]]
        self.errors_flipped = [Series((width, samples), order) for width in widths[1:]]
        self.slopes = [np.zeros((order + 1, samples, width)) for width in widths[1:-1]]
        self.pulled = [np.zeros((order + 1, samples, width)) for width in widths[1:-1]]
        self.count = 0

    def append(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the gradient's next coefficient, from the weights' next."""
        k, n, inputs = self.count, len(weights), self.network.inputs
        self.count += 1
        for layer, weight in enumerate(weights):
            self.weights[layer].append(weight)
            self.flipped[layer].append(weight.T)
        z = inputs @ weights[0].T
        for layer in range(n - 1):
            value, self.slopes[layer][k], _ = self.activations[layer].append(z)
            self.values[layer].append(value)
            z = self.values[layer].times(self.flipped[layer + 1])
        error = self.slope(z) / self.network.samples
        gradient = []
        for layer in range(n - 1, -1, -1):
            self.errors[layer].append(error)
            self.errors_flipped[layer].append(error.T)
            if layer == 0:
                gradient.append(error.T @ inputs)
            else:
                gradient.append(self.errors_flipped[layer].times(self.values[layer - 1]))
                pulled = self.pulled[layer - 1]
                pulled[k] = self.errors[layer].times(self.weights[layer])
                error = folded(pulled, self.slopes[layer - 1], k)
        return gradient[::-1]


@dataclass(frozen=True, eq=False)
class SmoothBall:
    """What holds at all points within `reach` of the curve v on a cell.

    Attributes
    ----------
    reach
        The radius.
    sizes
        Of the factors of R there, with Lipschitz constants.
    computed
        What is known of the passes in float64, errors included.
    step_error
        ‖ε_k‖: what a step of GD in float64 rounds.
    value_error
        ‖v in float64 − v‖ at a time that was rounded to float64.
    """

    reach: Upper
    sizes: Sizes
    computed: Passes
    step_error: Upper
    value_error: Upper

    @property
    def largest_curvature(self) -> Upper:
        """A bound of λmax(∇²f)."""
        return self.sizes.largest_curvature

    @classmethod
    def around(
        cls, network: SmoothNetwork, cell: Cell, reach: Upper, step_size: Upper
    ) -> SmoothBall:
        """Return the constants of the ball of radius `reach` around v on the cell."""
        models: Passes = cell.models
        sizes = Sizes.around(network, models, reach)
        hidden = _largest_arguments(models, sizes)
        outputs = models.outputs.largest + models.outputs.remainder + sizes.rows[-1] * reach
        weights = [
            Size(
                size.coefficients[0],
                part.frobenius + reach,
                Upper(0.0),
                part.coefficients.shape[1:],
            )
            for size, part in zip(sizes.factors.weights, cell.weights, strict=True)
        ]
        computed = network.sizes(weights, float(hidden), float(outputs), sizes.pulled)
        return cls(
            reach=reach,
            sizes=sizes,
            computed=computed,
            step_error=step_error(computed.gradient(), cell, reach, step_size),
            value_error=length_of(part.rounding_of_values() for part in cell.weights),
        )


def _largest_arguments(models: Passes, sizes: Sizes) -> Upper:
    """Return a bound of |z| of all hidden units in the ball."""
    return max(
        z.largest + z.remainder + row * sizes.radius
        for z, row in zip(models.arguments, sizes.rows, strict=False)
    )


class SmoothDescent(Descent):
    """GD in float64 on a smooth network, with the radius ρ_k around the exact iterate."""

    network: SmoothNetwork

    def _ball(self, cell: Cell, reach: Upper) -> SmoothBall:
        return SmoothBall.around(self.network, cell, reach, self.step_bound)

    def _slopes(self, cell: Cell, taus: np.ndarray) -> list[None]:
        return [None] * len(taus)  # they are computed from v in `step`

    def step(self, cell: Cell, ball: SmoothBall, place: Place, changes: Sequence[Upper]) -> None:
        """Take the step from θ̂_k, and enlarge the radius by the theorem.

        λmin(R) is known at v(kη). What R changes by from there to θ̂_k is bounded from the factors
        of R at v in float64 and at θ̂_k, both computed.
        """
        own, other = self.network.passes(self.weights), self.network.passes(place.flow)
        differences = _differences(own, other, ball.computed, changes)
        rate = (
            between(*cell.rates, place.tau)
            + cell.chord
            + ball.sizes.change(differences)
            + ball.sizes.lipschitz * (self.radius + ball.value_error)
        )
        self.radius = (self.step_bound * rate + 1) * self.radius + ball.step_error
        self.weights = [
            weight - self.step_size * part
            for weight, part in zip(self.weights, own.gradient(), strict=True)
        ]
        self.iteration += 1


def _differences(own: Passes, other: Passes, computed: Passes, changes: Sequence[Upper]) -> Factors:
    """Return bounds of how far the factors of R at two points are apart, as coefficient 0.

    Both are computed in float64, each with at most the error known.
    """

    def apart(group: str, entries: bool) -> list[Majorant]:
        found = []
        for a, b, known in zip(
            getattr(own, group), getattr(other, group), getattr(computed, group), strict=True
        ):
            difference = a - b
            size = Upper(float(np.abs(difference).max())) if entries else norm(difference)
            found.append(Majorant((size * (1 + 2 * UNIT) + 2 * known.error,)))
        return found

    return Factors(
        [Majorant((change,)) for change in changes],
        apart("values", False),
        apart("slopes", True),
        apart("curved", True),
        apart("errors", False),
    )


@descent_on.register
def _(network: SmoothNetwork, start: Sequence[np.ndarray], step_size: Fraction) -> SmoothDescent:
    return SmoothDescent(network, start, step_size)


class GatedDescent(SmoothDescent):
    """GD on a network with fixed gates. It is ReLU's as long as all gates are those of the start.

    Attributes
    ----------
    network
        With its gates.
    """

    network: GatedNetwork

    def gates_proved(self, ball: SmoothBall) -> bool:
        """Whether at the exact iterate θ_k, in the ball, all preactivations have their signs.

        What is computed at θ̂_k is off by its rounding, and θ_k is within ρ_k of θ̂_k.
        """
        own = self.network.passes(self.weights)
        bounds = [
            known.error + row * self.radius
            for known, row in zip(ball.computed.arguments, ball.sizes.rows, strict=False)
        ]
        return margins_proved(self.network, own.arguments, bounds)


@descent_on.register
def _(network: GatedNetwork, start: Sequence[np.ndarray], step_size: Fraction) -> GatedDescent:
    return GatedDescent(network, start, step_size)
