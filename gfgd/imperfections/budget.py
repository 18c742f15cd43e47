"""What the distance of two runs is made of: smooth curvature, single gates, and the rest.

Let e = θ − θ′ be the difference of two runs and n = ‖e‖ > 0. Along two flows

    n' = −⟨e, ∇f(θ) − ∇f(θ′)⟩ / n,

and the difference of the gradients is an integral along the segment from θ′ to θ: of the Hessian
where f is smooth, and at each kink that the segment crosses it jumps by c ∇z or −c ∇z
(:mod:`gfgd.imperfections.gates`), such that the kink's part of n' is

    −c |⟨∇z, e⟩| / n,

whichever side either run is on. Concave kinks (c < 0) drive runs apart and convex ones draw them
together. So the distance is a sum: n(0), plus the integral of each part. What acts on the runs
besides −∇f (their step sizes, rounding, a force) is what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.imperfections.gates import (
    check_kinked,
    hidden_inputs,
    layer_and_unit,
    slope_jump,
    strengths,
)
from gfgd.networks import FullyConnected
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory


@dataclass(frozen=True)
class Link:
    """A gate's part of a distance.

    Attributes
    ----------
    sample, column
        The gate, as in :class:`gfgd.imperfections.gates.Kinks`.
    layer, unit
        Its hidden layer, from 1, and the unit in it, from 0.
    first, last
        The recorded times between which the two runs hold it differently, now and then at least.
    share
        Its part of the distance at the end.
    """

    sample: int
    column: int
    layer: int
    unit: int
    first: float
    last: float
    share: float


@dataclass(frozen=True, eq=False)
class Budget:
    """What the distance of two runs is made of, summed up to each of T recorded times.

    ``distance = distance[0] + smooth + apart + together + rest`` at every time.

    Attributes
    ----------
    times
        Shape ``(T,)``.
    distance
        n = ‖θ − θ′‖, shape ``(T,)``.
    smooth
        ∫ of what curvature adds, shape ``(T,)``; negative where it draws the runs together.
    apart, together
        ∫ of what the concave kinks add, ≥ 0, and the convex ones, ≤ 0, shape ``(T,)``. Where a
        flow slides, descent hops across a convex kink, and `rest` has about as much of that with
        the other sign: two runs that are no farther apart than such a hop have large entries.
    by_gate
        ∫ of what each gate adds up to the end, shape ``(N, H)``.
    links
        The gates with `least_share` of the final distance or more, the earliest first.
    """

    times: Tensor
    distance: Tensor
    smooth: Tensor
    apart: Tensor
    together: Tensor
    by_gate: Tensor
    links: tuple[Link, ...]

    @property
    def rest(self) -> Tensor:
        """What the field does not explain: step sizes, rounding, forces; shape ``(T,)``."""
        known = self.smooth + self.apart + self.together
        return self.distance - self.distance[0] - known

    def chain(self) -> float:
        """Return the share of the final distance that the links have together."""
        return sum(link.share for link in self.links)

    def shares(self) -> dict[str, float]:
        """Return each part of the final distance; they sum to 1."""
        parts = {
            "start": self.distance[0],
            "smooth": self.smooth[-1],
            "apart": self.apart[-1],
            "together": self.together[-1],
            "rest": self.rest[-1],
        }
        return {name: float(part / self.distance[-1]) for name, part in parts.items()}


def distance_budget(
    network: FullyConnected, left: Trajectory, right: Trajectory, *, least_share: float = 0.05
) -> Budget:
    """Return what the distance of two runs is made of.

    Integrals are trapezoidal sums over the recorded times, so these must be close enough for the
    gates that matter to differ at several of them. A gate's part is computed with z as linear
    between the two runs and c at their midpoint: exact to first order in the distance. What the
    sum of the parts lacks, or has too much, is in `rest`.

    Parameters
    ----------
    network
        f, on which both runs move. Gradients are computed in its precision: give float64.
    left, right
        The runs, recorded at the same times.
    least_share
        Gates with this part of the final distance or more are returned as links.

    Raises
    ------
    ValueError
        If the runs are recorded at different times or are nowhere apart, or if the network's
        activation has no kink.
    """
    check_kinked(network)
    checks.positive(least_share=least_share)
    distance = left.distance_to(right)
    if distance[-1] == 0:
        raise ValueError("right: ends where left ends; there is no distance to explain")
    widths = _trapezoid(left.times)
    # n' as the field has it, and the concave and convex kinks' parts of it, at each time
    field, apart, together = (torch.zeros_like(distance) for _ in range(3))
    by_gate: Tensor | None = None
    span: Tensor | None = None
    for place, (theta, other) in enumerate(zip(left.points, right.points, strict=True)):
        theta, other = theta.to(network.inputs), other.to(network.inputs)
        if distance[place] == 0:
            continue
        field[place] = _growth(network, theta, other)
        parts = _gate_parts(network, theta, other)  # (N, H)
        apart[place], together[place] = parts.clamp(min=0).sum(), parts.clamp(max=0).sum()
        if by_gate is None or span is None:
            by_gate = torch.zeros_like(parts)
            span = torch.full((2, *parts.shape), -1, dtype=torch.int64)
        by_gate += widths[place] * parts
        differs = parts != 0
        span[0][differs & (span[0] < 0)] = place
        span[1][differs] = place
    assert by_gate is not None and span is not None
    return Budget(
        times=left.times,
        distance=distance,
        smooth=_integral(left.times, field - apart - together),
        apart=_integral(left.times, apart),
        together=_integral(left.times, together),
        by_gate=by_gate,
        links=_links(network, by_gate / distance[-1].to(by_gate), span, left.times, least_share),
    )


def _growth(network: Objective, theta: Tensor, other: Tensor) -> Tensor:
    """Return n' along the flows: −⟨e, ∇f(θ) − ∇f(θ′)⟩ / n."""
    difference = theta - other
    pull = network.gradient(theta) - network.gradient(other)
    return -(difference @ pull) / difference.norm()


def _gate_parts(network: FullyConnected, theta: Tensor, other: Tensor) -> Tensor:
    """Return −c |z − z′| / n for each gate that differs, and 0 for the others, shape (N, H)."""
    z, z_other = hidden_inputs(network, theta), hidden_inputs(network, other)
    c = slope_jump(network) * strengths(network, (theta + other) / 2)
    differs = (z > 0) != (z_other > 0)
    return -c * (z - z_other).abs() * differs / (theta - other).norm()


def _links(
    network: FullyConnected, shares: Tensor, span: Tensor, times: Tensor, least_share: float
) -> tuple[Link, ...]:
    links = []
    for sample, column in (shares >= least_share).nonzero().tolist():
        layer, unit = layer_and_unit(network, column)
        first, last = (float(times[span[end][sample, column]]) for end in (0, 1))
        share = float(shares[sample, column])
        links.append(Link(sample, column, layer, unit, first, last, share))
    return tuple(sorted(links, key=lambda link: link.first))


def _trapezoid(times: Tensor) -> Tensor:
    """Return the weights of the trapezoidal rule, shape ``(T,)``."""
    half = times.diff() / 2
    zero = half.new_zeros(1)
    return torch.cat([half, zero]) + torch.cat([zero, half])


def _integral(times: Tensor, values: Tensor) -> Tensor:
    """Return the integral from the first time to each, shape ``(T,)``."""
    cells = (values[1:] + values[:-1]) / 2 * times.diff()
    return torch.cat([cells.new_zeros(1), cells.cumsum(0)])
