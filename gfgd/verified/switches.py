"""When the first gate of a ReLU network switches along gradient flow, from both sides.

Let θ^M(t) be the flow of the loss with the gates of the start (:mod:`gfgd.verified.gated_network`),
z_g its preactivation at gate g, and s_g the sign of z_g at t = 0.

Theorem (first switch). Let T be the first time at which some z_g is 0. Then ReLU's flow is θ^M on
[0, T]. If s_g z_g(t) > 0 is proved for all g and all t ≤ t₀, and s_g z_g(t₁) < 0 for one g, then
t₀ < T < t₁. If all g but those in a set have s_g z_g > 0 on [0, t₁], the gate that is 0 first is in
that set. GD's iterates, too, are those of the loss with fixed gates up to k as long as at the
iterates 0 … k − 1 all preactivations have the signs s_g.

Proof. Where all preactivations of the network with fixed gates have the signs s_g, they are those
of ReLU, layer by layer, in a neighbourhood; so both losses have the same gradient there, and both
flows, and both GDs, are the same as long as they stay there. z_g is continuous.

What is proved: on a cell of the tube, of radius e₁ around v, z_g(θ^M) is within
c = ρ + L e₁ of the polynomial p_g(τ) that is its Taylor model along v, with the model's remainder ρ
and a Lipschitz constant L of a sample's preactivations. p_g > c or p_g < −c is decided in rational
numbers, by the coefficients in Bernstein's basis, between whose smallest and largest lies p_g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gfgd.verified.directed import UNIT, NotVerifiedError, Upper
from gfgd.verified.flow_tube import Cell
from gfgd.verified.gated_network import GatedNetwork
from gfgd.verified.smooth_curvature import Sizes

#: A cell is halved so often, at most, to find where a sign is proved: h 2⁻⁵⁰ is the finest.
HALVINGS = 50
#: In so many equal parts a cell is searched for a proved change of sign.
LOOKS = 32


@dataclass(frozen=True, order=True)
class Gate:
    """A hidden unit's preactivation for one sample.

    `layer` counts from 1, the first hidden one; `unit` and `sample` from 0.
    """

    layer: int
    unit: int
    sample: int


@dataclass(frozen=True)
class Switch:
    """The first switch of a gate along the flow: the first time T at which a preactivation is 0.

    Attributes
    ----------
    gates
        The gate that is 0 at T is among these; mostly it is one.
    earliest, latest
        earliest < T < latest, exact. At `latest` a preactivation of the flow with the old gates is
        proved to have changed its sign.
    crossed
        That one's gate.
    descent_iterate
        The first k with kη ≤ earliest at which a gate of GD differs, or is too near to its kink for
        its sign to be proved; None if there is none.
    """

    gates: tuple[Gate, ...]
    earliest: Fraction
    latest: Fraction
    crossed: Gate
    descent_iterate: int | None = None

    @property
    def time(self) -> tuple[float, float]:
        """The interval of T, in float64, rounded outwards."""
        low, high = float(self.earliest), float(self.latest)
        if Fraction(low) > self.earliest:
            low = math.nextafter(low, -math.inf)
        if Fraction(high) < self.latest:
            high = math.nextafter(high, math.inf)
        return low, high


# ------------------------------------------------------------------------- signs of polynomials


def bernstein(coefficients: list[Fraction], first: Fraction, last: Fraction) -> list[Fraction]:
    """Return the coefficients of Σ c_k τᵏ on [first, last] in Bernstein's basis, exactly.

    The polynomial lies between the smallest and the largest of them, and takes the first and the
    last one at the ends.
    """
    degree = len(coefficients) - 1
    moved = list(coefficients)  # those of σ ↦ p(first + σ), by Horner's scheme
    if first:
        for start in range(degree):
            for k in range(degree - 1, start - 1, -1):
                moved[k] += first * moved[k + 1]
    length, power = last - first, Fraction(1)
    for k in range(degree + 1):
        moved[k] *= power / math.comb(degree, k)
        power *= length
    return [
        sum((math.comb(j, k) * moved[k] for k in range(j + 1)), Fraction(0))
        for j in range(degree + 1)
    ]


def above_until(
    coefficients: list[Fraction],
    bound: Fraction,
    first: Fraction = Fraction(0),
    last: Fraction = Fraction(1),
    halvings: int = HALVINGS,
) -> Fraction | None:
    """Return a τ such that p > bound is proved on [first, τ]: `last` if all of it is.

    None if it is not proved at `first`.
    """
    points = bernstein(coefficients, first, last)
    if min(points) > bound:
        return last
    if not points[0] > bound:
        return None
    if not halvings:
        return first
    middle = (first + last) / 2
    left = above_until(coefficients, bound, first, middle, halvings - 1)
    if left is None or left < middle:
        return left
    right = above_until(coefficients, bound, middle, last, halvings - 1)
    return middle if right is None else right


def below_at(coefficients: list[Fraction], bound: Fraction, after: Fraction) -> Fraction | None:
    """Return a τ in [after, 1] with p(τ) < −bound, near the first, or None if none is seen."""

    def proved(tau: Fraction) -> bool:
        value = Fraction(0)
        for coefficient in reversed(coefficients):
            value = value * tau + coefficient
        return value < -bound

    if proved(after):
        return after
    low = after
    for look in range(1, LOOKS + 1):
        high = after + (1 - after) * Fraction(look, LOOKS)
        if proved(high):
            break
        low = high
    else:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if proved(middle) else (middle, high)
    return high


# ------------------------------------------------------------------------------- along the tube


@dataclass(frozen=True)
class _Near:
    """A gate that may be 0 within the cell: τ up to which it is not, and how its z was enclosed."""

    gate: Gate
    until: Fraction | None
    coefficients: list[Fraction]
    bound: Fraction


class Watch:
    """Follows all gates along the tube, cell by cell, until one is proved to have switched."""

    def __init__(self, network: GatedNetwork) -> None:
        self.network = network
        self.earliest: Fraction | None = None  # all gates hold up to here, or so far if None
        self.suspects: set[Gate] = set()
        self.switch: Switch | None = None

    def through(self, cell: Cell) -> None:
        """Watch a cell. Sets `earliest` in the first one with a gate that may be 0.

        From there on sets `switch` as soon as a gate is proved to have changed.
        """
        near = self._near(cell)
        if self.earliest is None:
            if not near:
                return
            # At τ = 0 the cell before has proved all gates, if only for its own enclosure.
            taus = [found.until or Fraction(0) for found in near]
            self.earliest = cell.start + min(taus) * cell.length
        crossings = [
            (tau, found.gate)
            for found in near
            if (tau := below_at(found.coefficients, found.bound, found.until or Fraction(0)))
            is not None
        ]
        if not crossings:
            self.suspects |= {found.gate for found in near}
            return
        tau, crossed = min(crossings)
        self.suspects |= {found.gate for found in near if found.until is None or found.until < tau}
        latest = cell.start + tau * cell.length
        self.switch = Switch(tuple(sorted(self.suspects)), self.earliest, latest, crossed)

    def _near(self, cell: Cell) -> list[_Near]:
        """Return the gates whose signs are not proved on the whole cell."""
        rows = Sizes.around(self.network, cell.models, cell.radius).rows
        found = []
        for layer, (z, gates) in enumerate(
            zip(cell.models.arguments, self.network.gates, strict=True), start=1
        ):
            bound = z.remainder + rows[layer - 1] * cell.radius
            first = gates.signs * z.coefficients[0]
            moved = np.abs(z.coefficients[1:]).sum(0) * (1 + 4 * len(z.coefficients) * UNIT)
            # Sums of at most so many floats; the comparison is on the safe side by another 1e-15.
            suspicious = ~(first * (1 - 1e-15) > (moved + float(bound)) * (1 + 1e-15))
            for sample, unit in np.argwhere(suspicious).tolist():
                sign = int(gates.signs[sample, unit])
                exact = [sign * Fraction(part) for part in z.coefficients[:, sample, unit].tolist()]
                until = above_until(exact, Fraction(float(bound)))
                if until != 1:
                    gate = Gate(layer, unit, sample)
                    found.append(_Near(gate, until, exact, Fraction(float(bound))))
        return found


def not_decided(watch: Watch, horizon: Fraction) -> NotVerifiedError:
    """Return the refusal where a gate may have switched, and none is proved to have."""
    gates = ", ".join(
        f"layer {gate.layer}, unit {gate.unit}, sample {gate.sample}"
        for gate in sorted(watch.suspects)[:3]
    )
    more = f" and {len(watch.suspects) - 3} more" if len(watch.suspects) > 3 else ""
    return NotVerifiedError(
        f"from t = {float(watch.earliest or 0):.6g} on the sign of a preactivation is not proved "
        f"({gates}{more}), and up to t = {float(horizon):.6g} none is proved to have changed. "
        "Follow the flow further, with more iterations, or end before it, with fewer"
    )


def margins_proved(network: GatedNetwork, arguments: list[np.ndarray], bounds: list[Upper]) -> bool:
    """Whether all preactivations have the gates' signs if each is off by at most the bounds."""
    return all(
        bool((gates.signs * z > float(bound)).all())
        for gates, z, bound in zip(network.gates, arguments, bounds, strict=True)
    )
