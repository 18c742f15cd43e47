"""Gradient descent enclosed: how far float64 iterates may be from exact ones.

Theorem (descent). Let θ̂_{k+1} = θ̂_k − η∇f(θ̂_k) + ε_k, and ρ_{k+1} = (1 + ηm_k)ρ_k + ‖ε_k‖ with
m_k ≥ 0 such that λmin(R) ≥ −m_k on the ball of radius ρ_k around θ̂_k. If λmax(∇²f) ≤ 2/η there,
then ‖θ_{k+1} − θ̂_{k+1}‖ ≤ ρ_{k+1} when ‖θ_k − θ̂_k‖ ≤ ρ_k.

Proof. The difference is multiplied by I − ηH̄, H̄ the mean Hessian on the segment between the two,
whose eigenvalues lie between −m_k and 2/η.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from typing import Any

import numpy as np

from gfgd.verified.directed import (
    UNDERFLOW,
    UNIT,
    Upper,
    distance_below,
    length_of,
    norm,
    norm_below,
    product_of,
    product_rounding,
    spectral_norm,
    total,
)
from gfgd.verified.flow_tube import Cell, total_length
from gfgd.verified.linear_network import LinearNetwork, NetworkData, chain
from gfgd.verified.residual_curvature import (
    NotVerifiedError,
    change_of_form,
    end_to_end_lipschitz,
    form_size,
    lipschitz,
)
from gfgd.verified.taylor_models import Size, TaylorModel, model

#: So many places on a curve are evaluated at once: enough for a product of matrices to be fast.
PLACES = 32


@dataclass(frozen=True, eq=False)
class Ball:
    """What holds at all points within `reach` of the curve v on a cell.

    Attributes
    ----------
    reach
        The radius.
    norms
        Bounds of ‖W_l‖₂.
    slope
        Bound of ‖∇φ‖₂.
    lipschitz
        Of R, on the ball.
    largest_output
        The roundings hold where no computed output exceeds it.
    slope_error
        ‖∇φ in float64 − ∇φ‖_F.
    step_error
        ‖ε_k‖: what a step of GD in float64 rounds.
    largest_curvature
        Bound of λmax(∇²f).
    value_error
        ‖v in float64 − v‖ at a time that was rounded to float64.
    slope_value_error
        The same for ∇φ along v, its model's remainder included.
    """

    reach: Upper
    norms: list[Upper]
    slope: Upper
    lipschitz: Upper
    largest_output: float
    slope_error: Upper
    step_error: Upper
    largest_curvature: Upper
    value_error: Upper
    slope_value_error: Upper

    @classmethod
    def around(cls, network: LinearNetwork, cell: Cell, reach: Upper, step_size: Upper) -> Ball:
        """Return the constants of the ball of radius `reach` around v on the cell."""
        norms = [part.spectral + reach for part in cell.weights]
        moved = network.smoothness * end_to_end_lipschitz(norms) * reach
        slope = cell.slope.spectral + cell.slope.remainder + moved
        largest = 4 * network.largest_output([part.coefficients[0] for part in cell.weights]) + 10
        sizes = [
            Size(spectral, part.frobenius + reach, Upper(0.0), part.coefficients.shape[1:])
            for spectral, part in zip(norms, cell.weights, strict=True)
        ]
        rounded = chain(sizes, lambda matrix: network.slope_size(matrix, largest, slope))
        return cls(
            reach=reach,
            norms=norms,
            slope=slope,
            lipschitz=lipschitz(network, norms, slope),
            largest_output=largest,
            slope_error=rounded.right[1].error,
            step_error=step_error(rounded.gradient(), cell, reach, step_size),
            largest_curvature=largest_curvature(network, cell, reach, norms, slope),
            value_error=length_of(part.rounding_of_values() for part in cell.weights),
            slope_value_error=cell.slope.remainder + cell.slope.rounding_of_values(),
        )


def step_error(gradient: Sequence[Size], cell: Cell, reach: Upper, step_size: Upper) -> Upper:
    """Return a bound of ‖ε_k‖, what a step of GD within `reach` of v rounds in float64."""
    error = length_of(part.error for part in gradient)
    step = step_size * (length_of(part.frobenius for part in gradient) + error)
    here = total_length(cell.weights) + reach
    return step_size * error + _step_rounding(here, step, cell.weights)


def _step_rounding(point: Upper, step: Upper, parts: Sequence[TaylorModel]) -> Upper:
    """Return a bound of the rounding of θ − η∇f, ‖θ‖ ≤ point, ‖η∇f‖ ≤ step.

    η and η∇f are rounded by less than 3u together, the difference by u, all relative to their
    sizes; underflow takes ω from each of the d entries.
    """
    entries = sum(part.coefficients[0].size for part in parts)
    return step * (4 * UNIT) + (point + step) * (UNIT * (1 + 8 * UNIT)) + entries * UNDERFLOW


def largest_curvature(
    network: LinearNetwork, cell: Cell, reach: Upper, norms: Sequence[Upper], slope: Upper
) -> Upper:
    """Return a bound of λmax(∇²f) within `reach` of v on a cell.

    ∇²φ[DE, DE] ≤ (c/N) ‖X(DE)ᵀ‖² with DE = Σ_j S_j D_j P_j, S_j = W_n ⋯ W_{j+1},
    P_j = W_{j−1} ⋯ W_1; so it is at most (c/N) Σ_j ‖S_j‖² ‖XP_jᵀ‖² ‖D‖². The rest is R.
    """
    n = network.depth
    changes = [total(part.norms[1:]) + reach for part in cell.weights]
    squares = Upper(0.0)
    prefix = None
    for j in range(1, n + 1):
        if prefix is None:
            seen = network.inputs_spectral
        else:
            image = network.inputs @ prefix.coefficients[0].T
            rounding = product_rounding(
                network.widths[0], network.inputs_norm, prefix.frobenius, image.size
            )
            moved = total(
                changes[layer]
                * product_of(norms[other] for other in range(j - 1) if other != layer)
                for layer in range(j - 1)
            )
            seen = (
                spectral_norm(image)
                + rounding
                + network.inputs_spectral * (moved + prefix.remainder)
            )
        after = Upper(1.0)
        if j < n:
            suffix = cell.models.suffix[j]
            after = suffix.spectral + suffix.remainder + end_to_end_lipschitz(norms[j:]) * reach
        squares = squares + after * after * seen * seen
        here = model(cell.weights[j - 1].coefficients[0])
        prefix = here if prefix is None else here @ prefix
    return squares / network.samples * network.loss.curvature + form_size(norms, slope)


class OutOfReachError(Exception):
    """An iterate has left the ball whose constants were used."""


@dataclass(frozen=True, eq=False)
class Place:
    """The approximate flow at t = kη: τ in the cell, v (a matrix a layer) and ∇φ, in float64."""

    tau: float
    flow: list[np.ndarray]
    slope: Any


@dataclass(frozen=True, eq=False)
class Comparison:
    """GD's iterate k beside the flow: an interval for ‖θ_k − θ(kη)‖.

    `changes` bound ‖W_l − V_l‖_F between GD in float64 and v, for each layer.
    """

    lower: float
    upper: float
    changes: list[Upper]


class Descent:
    """GD in float64 with the radius ρ_k around the exact iterate."""

    def __init__(self, network: Any, start: Sequence[np.ndarray], step_size: Fraction):
        self.network = network
        self.weights = [weight.copy() for weight in start]
        self.step_size = float(step_size)
        self.step_bound = Upper(np.nextafter(self.step_size, np.inf).item())
        self.exact_step = step_size
        self.radius = Upper(0.0)
        self.iteration = 0

    def ball(self, cell: Cell, reach: Upper) -> Any:
        """Return the ball's constants, if GD's step is small enough for the theorem in it.

        Raises
        ------
        NotVerifiedError
            If η λmax ≤ 2 cannot be proved.
        """
        ball = self._ball(cell, reach)
        if not ball.largest_curvature * self.step_bound <= 2:
            raise NotVerifiedError(
                f"step_size = {self.step_size:g}, iteration {self.iteration} "
                f"(t = {float(self.iteration * self.exact_step):.6g}): only λmax <= "
                f"{float(ball.largest_curvature):.4g} is proved within {float(reach):.2g} of the "
                f"flow, and the proof needs step_size <= {2 / float(ball.largest_curvature):.3g}"
            )
        return ball

    def places(self, cell: Cell, last: int) -> Iterator[Place]:
        """Yield the places of the iterates from the present one to `last`, all in the cell."""
        for first in range(self.iteration, last + 1, PLACES):
            steps = range(first, min(first + PLACES, last + 1))
            exact = [(k * self.exact_step - cell.start) / cell.length for k in steps]
            if not 0 <= exact[0] <= exact[-1] <= 1:
                raise ValueError(f"iterations {steps} are not in the cell")
            taus = np.array([float(tau) for tau in exact])
            flow = [part.values_at(taus) for part in cell.weights]
            slopes = self._slopes(cell, taus)
            for place, tau in enumerate(taus.tolist()):
                yield Place(tau, [values[place] for values in flow], slopes[place])

    def _ball(self, cell: Cell, reach: Upper) -> Any:
        return Ball.around(self.network, cell, reach, self.step_bound)

    def _slopes(self, cell: Cell, taus: np.ndarray) -> Any:
        return cell.slope.values_at(taus)

    def compare(self, cell: Cell, ball: Any, place: Place) -> Comparison:
        """Return the distance of θ_k from θ(kη), enclosed.

        Raises
        ------
        OutOfReachError
            If θ̂_k, with the radius around it, leaves the ball.
        """
        differences = [own - other for own, other in zip(self.weights, place.flow, strict=True)]
        # Each entry of a difference was rounded by at most u, relative to itself.
        changes = [norm(part) * (1 + 2 * UNIT) + ball.value_error for part in differences]
        upper = length_of(changes)
        if not upper + self.radius < ball.reach:
            raise OutOfReachError
        lower = math.sqrt(sum(norm_below(part) ** 2 for part in differences))
        error = cell.radius + self.radius + ball.value_error
        return Comparison(
            distance_below(lower * (1 - 16 * len(differences) * UNIT), error),
            float(upper + cell.radius + self.radius),
            changes,
        )

    def step(self, cell: Cell, ball: Any, place: Place, changes: Sequence[Upper]) -> None:
        """Take the step from θ̂_k, and enlarge the radius by the theorem."""
        links = chain(self.weights, lambda matrix: self._slope(matrix, ball))
        differs = norm(links.right[1] - place.slope) * (1 + 2 * UNIT)
        slope_change = differs + ball.slope_error + ball.slope_value_error
        rate = (
            between(*cell.rates, place.tau)
            + cell.chord
            + change_of_form(ball.norms, ball.slope, slope_change, changes)
            + ball.lipschitz * self.radius
        )
        self.radius = (self.step_bound * rate + 1) * self.radius + ball.step_error
        self.weights = [
            own - self.step_size * part
            for own, part in zip(self.weights, links.gradient(), strict=True)
        ]
        self.iteration += 1

    def _slope(self, end_to_end: np.ndarray, ball: Ball) -> np.ndarray:
        """Return ∇φ in float64, where the outputs are as small as its error's bound assumes."""
        outputs = self.network.inputs @ end_to_end.T
        if not max(float(outputs.max()), -float(outputs.min())) <= ball.largest_output:
            raise NotVerifiedError(
                f"iteration {self.iteration}: an output exceeds {ball.largest_output:.3g}; GD "
                "seems to diverge, try a smaller step size"
            )
        return self.network.loss.slope(outputs).T @ self.network.inputs / self.network.samples


def between(first: Upper, last: Upper, tau: float) -> Upper:
    """Return a bound of (1 − τ) first + τ last for a τ that was rounded by at most u."""
    return first * (1 - tau + 2 * UNIT) + last * (tau + UNIT)


@singledispatch
def descent_on(network: NetworkData, start: Sequence[np.ndarray], step_size: Fraction) -> Descent:
    """Return GD on the network from W_1 … W_n."""
    raise TypeError(f"no proof for {type(network).__name__}")


@descent_on.register
def _(network: LinearNetwork, start: Sequence[np.ndarray], step_size: Fraction) -> Descent:
    return Descent(network, start, step_size)
