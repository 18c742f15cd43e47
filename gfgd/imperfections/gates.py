"""Gates of ReLU networks, and the kinks at which they switch.

For σ(z) = α max(z, 0) + ᾱ min(z, 0) every pair of a sample i and a hidden unit j has a *gate*: it
is on where the unit's input z_ij(θ) is positive. A gate switches on the surface z_ij = 0, and
there the gradient of f jumps. With c = (α − ᾱ) ∂f/∂h_ij, where h = σ(z), the two sides differ by

    ∇f₊ − ∇f₋ = c ∇z_ij,

because f is continuous. So dz_ij/dt along θ' = −∇f is v₋ on the side where the gate is off and
v₊ = v₋ − c ‖∇z_ij‖² where it is on. Their signs say what the flow does at the kink (Filippov 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks import FullyConnected
from gfgd.objective import derivative
from gfgd.trajectory import Trajectory

#: What a flow can do at a kink, by the signs of the normal velocities on the two sides.
KINDS = ("switches on", "switches off", "slides", "branches")

#: A gate decides about a distance if its jump, times the time it lasts, is this share or more.
PARTING_MATTERS = 0.25


@dataclass(frozen=True, eq=False)
class Kinks:
    """Every gate of a network at one θ: where it is, and how fast its unit's input changes.

    All have shape ``(N, H)``: a row for each sample, a column for each hidden unit, the units of
    the first layer first.

    Attributes
    ----------
    inputs
        z_ij, the unit's input; its gate is on where z_ij > 0.
    velocities
        dz_ij/dt along gradient flow, with all gates as they are at θ.
    norms
        ‖∇z_ij‖ over all parameters, with all gates as they are at θ.
    strengths
        c_ij = (α − ᾱ) ∂f/∂h_ij. Positive: a convex kink of f; negative: a concave one.
    """

    inputs: Tensor
    velocities: Tensor
    norms: Tensor
    strengths: Tensor

    @property
    def jumps(self) -> Tensor:
        """‖∇f₊ − ∇f₋‖ = |c_ij| ‖∇z_ij‖: by how much the gate's switch changes the field."""
        return self.strengths.abs() * self.norms

    @property
    def velocities_off(self) -> Tensor:
        """v₋ = dz_ij/dt with this one gate off. Exact where z_ij = 0."""
        on = self.inputs > 0
        return self.velocities + on * self.strengths * self.norms.square()

    @property
    def velocities_on(self) -> Tensor:
        """v₊ = v₋ − c_ij ‖∇z_ij‖² = dz_ij/dt with this one gate on. Exact where z_ij = 0."""
        off = self.inputs <= 0
        return self.velocities - off * self.strengths * self.norms.square()


def kind_of_kink(velocity_off: float, velocity_on: float) -> str:
    """Return what the flow does at a kink with normal velocities v₋ (off) and v₊ (on).

    ``"switches on"`` where both are positive, ``"switches off"`` where both are negative. Where
    v₋ > 0 > v₊ both sides lead to the kink and the flow ``"slides"`` along it. Where v₋ < 0 < v₊
    both lead away: the flow ``"branches"``. See Filippov (1988, §10). A velocity of exactly
    zero is none of these, and the nearest of them is returned: 0 counts as positive.
    """
    if velocity_off >= 0:
        return "switches on" if velocity_on >= 0 else "slides"
    return "branches" if velocity_on >= 0 else "switches off"


def saltation(velocity_before: Tensor, velocity_after: Tensor) -> Tensor:
    """Return v_after / v_before, by which crossing a kink multiplies an error along its normal.

    The error across a kink is multiplied by S = 1 + (F_after − F_before) ∇zᵀ / v_before. For a
    gradient field S is symmetric, its eigenvalue along ∇z is this one and all others are 1. It
    is above 1 at concave kinks, below 1 at convex ones, and unbounded as v_before → 0.
    """
    return velocity_after / velocity_before


def unit_input(network: FullyConnected, point: Tensor, sample: int, column: int) -> Tensor:
    """Return z_ij(θ) of one gate, shape ``(...)``, differentiable; for any activation."""
    layer, unit = layer_and_unit(network, column)
    weights = network.weights(point)
    entering = network.inputs[sample].to(point.dtype)
    for weight in weights[: layer - 1]:
        entering = network.activation.apply((weight @ entering[..., None])[..., 0])
    return (weights[layer - 1][..., unit, :] * entering).sum(-1)


def gates(network: FullyConnected, point: Tensor) -> Tensor:
    """Return which gates are on at θ, shape ``(..., N, H)``, for θ of shape ``(..., d)``."""
    _check_kinked(network)
    with torch.no_grad():
        inputs, _ = _hidden(network, point)
        return torch.cat(inputs, dim=-1) > 0


def kinks(network: FullyConnected, point: Tensor) -> Kinks:
    """Return the kinks of all gates at one θ of shape ``(d,)``; see :class:`Kinks`.

    Costs about as much as three gradients, and N Σ_l widths[l] widths[l+1] numbers of memory.

    Raises
    ------
    ValueError
        If the network's activation has no kink, or `point` is not one θ.
    """
    _check_kinked(network)
    if point.shape != (network.dimension,):
        raise ValueError(f"point has shape {tuple(point.shape)}: give one θ, shape (d,)")
    point = point.to(network.inputs).detach().requires_grad_()
    inputs, activations = _hidden(network, point)
    outputs = activations[-1] @ network.weights(point)[-1].mT
    value = network.loss(outputs, network.targets).sum() / len(network.inputs)
    gradient, *pulls = torch.autograd.grad(value, [point, *activations], retain_graph=True)
    stacked = torch.cat(inputs, dim=-1)
    alpha, alpha_bar = _slopes(network)
    return Kinks(
        inputs=stacked.detach(),
        velocities=_directional(stacked, point, -gradient),
        norms=_gradient_norms(network, point.detach(), inputs, activations),
        strengths=(alpha - alpha_bar) * torch.cat(pulls, dim=-1),
    )


def layer_and_unit(network: FullyConnected, column: int) -> tuple[int, int]:
    """Return the hidden layer, from 1, and the unit in it, from 0, of a column of the gates."""
    hidden = network.widths[1:-1]
    checks.between(0, sum(hidden) - 1, column=column)
    ends = list(accumulate(hidden))
    layer = next(index for index, end in enumerate(ends) if column < end)
    return layer + 1, column - (ends[layer] - hidden[layer])


def unit_shares(network: FullyConnected, difference: Tensor) -> list[Tensor]:
    """Return the norm of the part of θ − θ′ that belongs to each unit's incoming weights.

    One tensor a layer, of shape ``(..., widths[l])``, outputs included. The squares of all of
    them sum to ‖θ − θ′‖².
    """
    return [weight.norm(dim=-1) for weight in network.weights(difference)]


@dataclass(frozen=True)
class Difference:
    """A gate that two runs hold differently: from which recorded time on, for how many."""

    sample: int
    column: int
    first: int
    length: int


def lasting_differences(left: Tensor, right: Tensor, *, at_least: int) -> list[Difference]:
    """Return the gates that differ at `at_least` recorded times in a row, the earliest first.

    Two runs of first order pass a kink at times O(η) apart, so that a gate differs for a
    moment. A gate that differs for long tells that one of them did not pass the kink at all.

    Parameters
    ----------
    left, right
        Gates of two runs at the same times, shape ``(T, N, H)``.
    at_least
        The shortest stretch that counts. Each gate's first one is returned.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    checks.whole(1, at_least=at_least)
    if left.shape != right.shape or left.dim() != 3:
        raise ValueError(
            f"left has shape {tuple(left.shape)}, right {tuple(right.shape)}: give the gates of "
            "two runs at the same times, shape (T, N, H)"
        )
    apart = left != right
    found = []
    for sample, column in (apart.sum(0) >= at_least).nonzero().tolist():
        first, length = _first_stretch(apart[:, sample, column].tolist(), at_least)
        if length:
            found.append(Difference(sample, column, first, length))
    return sorted(found, key=lambda difference: difference.first)


@dataclass(frozen=True)
class Parting:
    """A gate at which two runs part: see :func:`partings`.

    Attributes
    ----------
    difference
        The gate, and from which recorded time on it differs.
    velocity_on, velocity_off
        Mean of dz/dt over the first `at_least` recorded times: above 0 in the run that holds the
        gate on, below 0 in the other.
    jump
        ‖∇f₊ − ∇f₋‖ at the end of them: how fast the switch drives the two runs apart.
    left_is_on
        Whether the first of the two runs is the one that holds the gate on.
    """

    difference: Difference
    velocity_on: float
    velocity_off: float
    jump: float
    left_is_on: bool


def partings(
    network: FullyConnected, left: Trajectory, right: Trajectory, *, at_least: int
) -> list[Parting]:
    """Return the gates at which two runs part, the earliest first.

    These are the `lasting_differences` at concave kinks (c < 0) that lead away on both sides:
    over the first `at_least` recorded times z rises where the gate is on and falls where it is
    off. (Not at one time: sliding gates make velocities tremble.) Two runs that differ for
    another reason pass such a kink on the two sides, too, so that the first parting may have
    many more in its train.

    Raises
    ------
    ValueError
        If the runs are recorded at different times, or the network has no kinks.
    """
    checks.whole(2, at_least=at_least)
    left.distance_to(right)  # raises where they cannot be compared
    histories = [
        torch.stack([gates(network, point) for point in run.points]) for run in (left, right)
    ]
    found, known = [], {}
    for difference in lasting_differences(*histories, at_least=at_least):
        first, last = difference.first, difference.first + at_least - 1
        where = (difference.sample, difference.column)
        left_is_on = bool(histories[0][first][where])
        runs = (left, right) if left_is_on else (right, left)
        rises, falls = (_mean_velocity(network, run, first, last, where) for run in runs)
        if not rises > 0 > falls:
            continue
        if last not in known:
            known[last] = [kinks(network, run.points[last]) for run in (left, right)]
        on, off = known[last] if left_is_on else known[last][::-1]
        if on.strengths[where] < 0 and off.strengths[where] < 0:
            found.append(Parting(difference, rises, falls, float(on.jumps[where]), left_is_on))
    return found


def _mean_velocity(
    network: FullyConnected, run: Trajectory, first: int, last: int, gate: tuple[int, int]
) -> float:
    """Return the mean of dz/dt of a gate between two recorded times."""
    ends = run.points[[first, last]].to(network.inputs.dtype)
    change = unit_input(network, ends, *gate).diff()
    return float(change[0] / (run.times[last] - run.times[first]))


def deciding_parting(
    partings: Sequence[Parting], distance: Tensor, times: Tensor
) -> Parting | None:
    """Return the earliest parting that matters for the distance of two runs at the end, or None.

    A parting adds about its jump times the time for which the gate differs. It matters if that
    is at least `PARTING_MATTERS` of the distance at the last time, and if less than half of that
    distance was there before the gate differed: runs that are far apart for any other reason
    hold gates differently, too.

    Parameters
    ----------
    partings
        As :func:`partings` returns them.
    distance, times
        The distance of the two runs at the recorded times, and these, shape ``(T,)``.
    """
    end = float(distance[-1])
    for parting in partings:
        first, length = parting.difference.first, parting.difference.length
        before = float(distance[max(first - 1, 0)])
        adds = parting.jump * float(times[first + length - 1] - times[first])
        if adds >= PARTING_MATTERS * end and before < end / 2:
            return parting
    return None


def _first_stretch(flags: Sequence[bool], at_least: int) -> tuple[int, int]:
    """Return start and length of the first run of True that is long enough, or (0, 0)."""
    start = 0
    for index, flag in enumerate([*flags, False]):
        if not flag:
            if index - start >= at_least:
                return start, index - start
            start = index + 1
    return 0, 0


def _hidden(network: FullyConnected, point: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs z and the values σ(z) of each hidden layer, shapes ``(..., N, width)``."""
    inputs, activations = [], [network.inputs]
    for weight in network.weights(point)[:-1]:
        inputs.append(activations[-1] @ weight.mT)
        activations.append(network.activation.apply(inputs[-1]))
    return inputs, activations[1:]


def _directional(values: Tensor, point: Tensor, direction: Tensor) -> Tensor:
    """Return the derivative of `values` along `direction`, by reverse mode twice."""
    dummy = torch.ones_like(values, requires_grad=True)
    pullback = torch.autograd.grad(values, point, dummy, create_graph=True)[0]
    return derivative(pullback @ direction, dummy).detach()


def _gradient_norms(
    network: FullyConnected, point: Tensor, inputs: list[Tensor], activations: list[Tensor]
) -> Tensor:
    """Return ‖∇z_ij‖ for all gates, shape ``(N, H)``.

    The derivative of z_ij by the weights of a layer below is an outer product: of what is
    passed down from z_ij to that layer, and of what goes into it.
    """
    alpha, alpha_bar = _slopes(network)
    weights = network.weights(point)
    entering = [network.inputs, *(values.detach() for values in activations)]
    sizes = [values.square().sum(-1) for values in entering]
    slopes = [torch.where(z > 0, alpha, alpha_bar).to(point) for z in inputs]
    columns = []
    for layer in range(len(inputs)):
        squares = sizes[layer][:, None].expand(-1, weights[layer].shape[0])
        passed = weights[layer].expand(len(network.inputs), -1, -1)
        for below in range(layer - 1, -1, -1):
            passed = passed * slopes[below][:, None, :]  # (N, width of `layer`, width of `below`)
            squares = squares + passed.square().sum(-1) * sizes[below][:, None]
            passed = passed @ weights[below] if below else passed
        columns.append(squares.sqrt())
    return torch.cat(columns, dim=-1)


def _slopes(network: FullyConnected) -> tuple[float, float]:
    assert network.activation.slopes is not None
    return network.activation.slopes


def _check_kinked(network: FullyConnected) -> None:
    slopes = network.activation.slopes
    if slopes is None or slopes[0] == slopes[1]:
        raise ValueError(
            f"network: its activation {network.activation.name!r} has no kink; use one that is "
            "linear on either side of 0 and not at 0, such as 'relu'"
        )
