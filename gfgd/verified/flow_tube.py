"""Gradient flow enclosed: a tube of proved radius around a piecewise polynomial.

On a cell [t_i, t_i + h] the curve v is, by definition, the polynomial Σ V_k τᵏ, τ = (t − t_i)/h,
with float64 coefficients. The next cell begins at the float64 sum of them.

Theorem (tube). On a cell let ‖v' + ∇f(v)‖ ≤ δ(t), e = ‖v(t_i) − θ(t_i)‖, and let m(t) ≥ 0 have
λmin(R(v(t))) ≥ −m(t) + Lr, with L a Lipschitz constant of R on the balls of radius r around v.
If e₁ = exp(∫m)(e + ∫δ) < r, then ‖v(t) − θ(t)‖ ≤ e₁ on the cell.

Proof. As long as ‖v − θ‖ < r the segment between them lies in the ball, where ∇²f ⪰ R ⪰ −m. So
⟨∇f(v) − ∇f(θ), v − θ⟩ ≥ −m‖v − θ‖², and ‖v − θ‖ grows at most at the rate m‖v − θ‖ + δ. By
Gronwall's inequality it is at most e₁ < r, and by continuity it never reaches r.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from typing import Any, Protocol

import numpy as np

from gfgd.verified.directed import UNDERFLOW, UNIT, Upper, gamma, length_of, norm, total
from gfgd.verified.linear_network import (
    Chain,
    LinearNetwork,
    NetworkData,
    PathTooLongError,
    chain,
)
from gfgd.verified.residual_curvature import (
    Form,
    NotVerifiedError,
    Reduced,
    end_to_end_lipschitz,
    lipschitz,
)
from gfgd.verified.taylor_models import TaylorModel, model


class Gradients(Protocol):
    """Models of a gradient along v."""

    def gradient(self) -> list[TaylorModel]:
        """Return ∂f/∂W_j for each layer."""
        ...


#: Times are multiples of it, so that they are exact in float64.
QUANTUM = Fraction(1, 2**14)


@dataclass(frozen=True)
class Settings:
    """How finely the flow is followed; no choice here makes a result wrong, only wide.

    Attributes
    ----------
    order
        The degree of the polynomial on a cell.
    defect
        A cell is shortened until ‖v' + ∇f(v)‖ is proved to be below it.
    chord
        And until λmin(R) is proved to lie below its chord by less than this part of itself,
    chord_floor
        or by less than that part plus this.
    """

    order: int = 16
    defect: float = 2e-8
    chord: float = 0.04
    chord_floor: float = 4e-3


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the tube.

    Attributes
    ----------
    start, length
        t_i and h.
    weights
        v on the cell: a model without remainder for each layer.
    models
        What the gradient along v is made of: a chain, or the passes of a smooth network.
    chord
        By how much λmin(R) may lie below the chord −(1 − τ)m_i − τm_{i+1}.
    rates
        m_i and m_{i+1}: λmin(R) ≥ −m at the cell's ends.
    defect
        ∫δ over the cell.
    exponent
        ∫m over the cell, Lr included.
    radius
        e₁: ‖v − θ‖ is at most this on the whole cell.
    """

    start: Fraction
    length: Fraction
    weights: list[TaylorModel]
    models: Any
    chord: Upper
    rates: tuple[Upper, Upper]
    defect: Upper
    exponent: Upper
    radius: Upper

    @property
    def end(self) -> Fraction:
        """t_i + h."""
        return self.start + self.length

    @property
    def slope(self) -> TaylorModel:
        """∇φ along v."""
        return self.models.right[1]


def tube(
    network: NetworkData,
    start: Sequence[np.ndarray],
    horizon: Fraction,
    settings: Settings,
) -> Iterator[Cell]:
    """Yield the cells of a tube around gradient flow from W_1 … W_n, until one reaches `horizon`.

    Raises
    ------
    NotVerifiedError
        If a cell cannot be verified; it says which, why, and what would help.
    """
    weights, time, radius = list(start), Fraction(0), Upper(0.0)
    rate, vector = rate_at_node(network, weights, None)
    length = Fraction(1, 128)
    while time < horizon:
        wanted = _in_quanta(min(length, horizon - time))
        allowed = settings.chord * float(rate) + settings.chord_floor
        trial = _shrink_until_fine(network, weights, wanted, allowed, settings, time)
        ended = [part.coefficients.sum(0) for part in trial.weights]
        following, vector = rate_at_node(network, ended, vector)
        cell, jump = _verified(network, trial, time, (rate, following), radius)
        yield cell
        weights, time, rate, radius = ended, cell.end, following, cell.radius + jump
        length = trial.length * Fraction(5, 4)


def _in_quanta(length: Fraction) -> Fraction:
    """Return a whole number of quanta, at least one, near `length` from above."""
    return math.ceil(length / QUANTUM) * QUANTUM


@dataclass(frozen=True, eq=False)
class _Trial:
    """A polynomial on a cell, its defect, and by how much λmin(R) may lie below its chord."""

    length: Fraction
    weights: list[TaylorModel]
    models: Any
    chord: Upper
    defect: Upper
    largest_defect: Upper

    def parts(self) -> tuple[Fraction, list[TaylorModel], Any, Upper]:
        """Return what a cell takes over."""
        return self.length, self.weights, self.models, self.chord

    @classmethod
    def of(cls, network: NetworkData, coefficients: list[np.ndarray], length: Fraction) -> _Trial:
        """Return the trial of the polynomial with these coefficients, one array a layer."""
        order = len(coefficients[0]) + 1  # two more than v's: the products' largest truncated terms
        weights = [TaylorModel(part, Upper(0.0), order) for part in coefficients]
        models, deviation = enclosed_along(network, weights)
        largest, integral = defect(weights, models, float(length))
        return cls(length, weights, models, deviation, integral, largest)


@singledispatch
def enclosed_along(network: NetworkData, weights: Sequence[TaylorModel]) -> tuple[Gradients, Upper]:
    """Return models of the gradient along v, and by how much λmin(R) may lie below its chord."""
    raise TypeError(f"no proof for {type(network).__name__}")


@enclosed_along.register
def _(network: LinearNetwork, weights: Sequence[TaylorModel]) -> tuple[Chain, Upper]:
    models = chain(weights, network.slope_model)
    return models, Form.of(models).chord_deviation()


def _shrink_until_fine(
    network: NetworkData,
    weights: Sequence[np.ndarray],
    length: Fraction,
    allowed: float,
    settings: Settings,
    time: Fraction,
) -> _Trial:
    """Return a polynomial that follows the flow from the weights, on a cell as long as allowed.

    `allowed` is by how much λmin(R) may lie below its chord.
    """
    coefficients = flow_coefficients(network, weights, settings.order, float(length))
    while True:
        try:
            trial = _Trial.of(network, coefficients, length)
        except PathTooLongError:
            shrink, why = 0.6, "the outputs change too much within it for the loss to be enclosed"
        else:
            largest, chord = float(trial.largest_defect), float(trial.chord)
            if largest <= settings.defect and chord <= allowed:
                return trial
            defects, chords = settings.defect / largest, allowed / chord
            shrink = 0.97 * min(defects ** (1 / settings.order), chords**0.5)
            why = (
                f"its defect is at most {largest:.2g} (allowed {settings.defect:.2g}) and λmin "
                f"may lie {chord:.2g} below its chord (allowed {allowed:.2g})"
            )
        shorter = math.floor(length * Fraction(min(max(shrink, 0.4), 0.95)) / QUANTUM) * QUANTUM
        if shorter == 0:
            raise NotVerifiedError(
                f"the flow could not be enclosed beyond t = {float(time):.6g}: the shortest cell, "
                f"{float(QUANTUM):.2g}, does not do, for {why}. Allow more, or scale the problem"
            )
        powers = float(shorter / length) ** np.arange(settings.order + 1)  # any will do
        coefficients = [part * powers[:, None, None] for part in coefficients]
        length = shorter


def _verified(
    network: NetworkData,
    trial: _Trial,
    time: Fraction,
    rates: tuple[Upper, Upper],
    before: Upper,
) -> tuple[Cell, Upper]:
    """Return the cell with its proved radius, and by how much v jumps at its end.

    `rates` hold at v's start and at the next cell's start, which is off v's end by the jump.
    """
    length = float(trial.length)
    jump = gamma(len(trial.weights[0].coefficients) + 1) * total_length(trial.weights)
    ball, exponent = before * 2 + trial.defect * 10 + 1e-11, Upper(0.0)
    for _ in range(6):
        steep = steepness(network, trial.models, ball)
        last = rates[1] + steep * jump
        exponent = ((rates[0] + last) * 0.5 + trial.chord + steep * ball) * length
        if exponent < 100:  # more is hopeless, and its exponential may overflow
            after = exponent.exp() * (before + trial.defect)
            if after < ball and jump <= ball:
                ends = rates[0], last
                return Cell(time, *trial.parts(), ends, trial.defect, exponent, after), jump
        ball = ball * 4
    raise NotVerifiedError(
        f"the enclosure of the flow outgrew its tube at t = {float(time):.6g}: an error of "
        f"{float(before):.2g} grows by up to exp({float(exponent):.3g}) within a cell, out of all "
        "balls on which the curvature was bounded. A smaller `defect` in the settings, or a "
        "shorter horizon, would help"
    )


@singledispatch
def steepness(network: NetworkData, models: Gradients, radius: Upper) -> Upper:
    """Return a Lipschitz constant of R on the balls of that radius around v on the cell."""
    raise TypeError(f"no proof for {type(network).__name__}")


@steepness.register
def _(network: LinearNetwork, models: Chain, radius: Upper) -> Upper:
    norms = [part.spectral + radius for part in models.weights]
    slope = models.right[1]
    moved = network.smoothness * end_to_end_lipschitz(norms) * radius
    return lipschitz(network, norms, slope.spectral + slope.remainder + moved)


def total_length(parts: Sequence[TaylorModel]) -> Upper:
    """Return a bound of ‖θ‖ on a cell, from Σ_k ‖V_k‖ of each layer."""
    return length_of(part.frobenius for part in parts)


def defect(parts: Sequence[TaylorModel], models: Gradients, cell: float) -> tuple[Upper, Upper]:
    """Return bounds of sup ‖v' + ∇f(v)‖ and of its integral over a cell of that length.

    v' = Σ (k + 1) V_{k+1} τᵏ/h. Its coefficients and those of the gradient's models are added in
    float64, which rounds the sum by u and the derivative by γ₂. ∫τᵏ = 1/(k + 1).
    """
    gradients = models.gradient()
    degrees = max(len(gradients[0].coefficients), len(parts[0].coefficients) - 1)
    sizes = [
        length_of(
            _defect_coefficient(part, gradient, k, cell)
            for part, gradient in zip(parts, gradients, strict=True)
        )
        for k in range(degrees)
    ]
    remainder = length_of(gradient.remainder for gradient in gradients)
    mean = total(size / (k + 1) for k, size in enumerate(sizes))
    return total(sizes) + remainder, (mean + remainder) * cell


def _defect_coefficient(part: TaylorModel, gradient: TaylorModel, k: int, cell: float) -> Upper:
    value, rounding = np.zeros(part.coefficients.shape[1:]), Upper(0.0)
    if k < len(gradient.coefficients):
        value = value + gradient.coefficients[k]
    if k + 1 < len(part.coefficients):
        value = value + part.coefficients[k + 1] * ((k + 1) / cell)
        rounding = gamma(2) * part.norms[k + 1] * (k + 1) / cell
    return norm(value) * (1 + UNIT) + rounding + UNDERFLOW * value.size


@singledispatch
def flow_coefficients(
    network: NetworkData, weights: Sequence[np.ndarray], order: int, length: float
) -> list[np.ndarray]:
    """Return Taylor coefficients of gradient flow in τ = t/h, a ``(order + 1, …)`` array a layer.

    Computed in float64 order by order: coefficient k of the gradient's chain gives coefficient
    k + 1 of the weights. Nothing is proved here; the defect is bounded afterwards.
    """
    raise TypeError(f"no proof for {type(network).__name__}")


@flow_coefficients.register
def _(
    network: LinearNetwork, weights: Sequence[np.ndarray], order: int, length: float
) -> list[np.ndarray]:
    n = len(weights)
    layers = [Series(weight.shape, order) for weight in weights]
    flipped = [Series(weight.shape[::-1], order) for weight in weights]
    suffix = [Series((network.widths[-1], network.widths[i]), order) for i in range(n)]
    suffix_flipped = [Series((network.widths[i], network.widths[-1]), order) for i in range(n)]
    right = [Series((network.widths[-1], network.widths[j]), order) for j in range(n)]
    slopes = network.loss.slope_series(order)
    current = list(weights)
    result = [[weight] for weight in weights]
    for k in range(order):
        for j in range(n):
            layers[j].append(current[j])
            flipped[j].append(current[j].T)
        for i in range(n - 1, -1, -1):
            value = current[-1] if i == n - 1 else suffix[i + 1].times(layers[i])
            suffix[i].append(value)
            suffix_flipped[i].append(value.T)
        slope = slopes(network.inputs @ suffix[0].last.T).T @ network.inputs / network.samples
        for j in range(n):
            right[j].append(slope if j == 0 else right[j - 1].times(flipped[j - 1]))
        gradient = [
            right[j].last if j == n - 1 else suffix_flipped[j + 1].times(right[j]) for j in range(n)
        ]
        current = [(-length / (k + 1)) * part for part in gradient]
        for j in range(n):
            result[j].append(current[j])
    return [np.stack(part) for part in result]


class Series:
    """Matrices A_0, A_1, … that arrive one by one, laid out so that a convolution is one product.

    Side by side in `wide`, and, the latest on top, in `tall`.
    """

    def __init__(self, shape: tuple[int, int], capacity: int) -> None:
        self.rows, self.columns = shape
        self.wide = np.empty((self.rows, self.columns * capacity))
        self.tall = np.empty((self.rows * capacity, self.columns))
        self.count = 0

    @property
    def last(self) -> np.ndarray:
        """The latest matrix."""
        return self.wide[:, self.columns * (self.count - 1) : self.columns * self.count]

    def append(self, matrix: np.ndarray) -> None:
        """Add the next matrix."""
        self.wide[:, self.columns * self.count : self.columns * (self.count + 1)] = matrix
        self.count += 1
        top = len(self.tall) - self.rows * self.count
        self.tall[top : top + self.rows] = matrix

    def times(self, other: Series) -> np.ndarray:
        """Return Σ_{i+j=k} A_i B_j, k the latest index of both."""
        return (
            self.wide[:, : self.columns * self.count]
            @ other.tall[len(other.tall) - other.rows * other.count :]
        )


@singledispatch
def rate_at_node(
    network: NetworkData, weights: Sequence[np.ndarray], guess: np.ndarray | None
) -> tuple[Upper, np.ndarray | None]:
    """Return m with λmin(R) ≥ −m at W_1 … W_n, verified, and a guess for the next node."""
    raise TypeError(f"no proof for {type(network).__name__}")


@rate_at_node.register
def _(
    network: LinearNetwork, weights: Sequence[np.ndarray], guess: np.ndarray | None
) -> tuple[Upper, np.ndarray]:
    models = chain([model(weight) for weight in weights], network.slope_model)
    reduced = Reduced.at(models)
    rate, vector = reduced.largest_rate(guess)
    return reduced.verified_rate(rate), vector
