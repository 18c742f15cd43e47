"""Gates of ReLU networks, and the kinks at which they switch.

For σ(z) = α max(z, 0) + ᾱ min(z, 0) every pair of a sample i and a hidden unit j has a *gate*: it
is on where the unit's input z_ij(θ) is positive. A gate switches on the surface z_ij = 0, and
there the gradient of f jumps. With c = (α − ᾱ) ∂f/∂h_ij, where h = σ(z), the two sides differ by

    ∇f₊ − ∇f₋ = c ∇z_ij,

because f is continuous. So dz_ij/dt along θ' = −∇f is v₋ on the side where the gate is off and
v₊ = v₋ − c ‖∇z_ij‖² where it is on. Their signs say what the flow does at the kink (Filippov 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    check_kinked(network)
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
    check_kinked(network)
    if point.shape != (network.dimension,):
        raise ValueError(f"point has shape {tuple(point.shape)}: give one θ, shape (d,)")
    point = point.to(network.inputs).detach().requires_grad_()
    inputs, activations = _hidden(network, point)
    value = _value(network, point, activations)
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


def hidden_inputs(network: FullyConnected, point: Tensor) -> Tensor:
    """Return z_ij(θ) of all gates, shape ``(..., N, H)``; for any activation."""
    with torch.no_grad():
        inputs, _ = _hidden(network, point)
        return torch.cat(inputs, dim=-1)


def strengths(network: FullyConnected, point: Tensor) -> Tensor:
    """Return ∂f/∂h_ij at one θ, shape ``(N, H)``; times :func:`slope_jump` this is c_ij."""
    point = point.to(network.inputs).detach().requires_grad_()
    _, activations = _hidden(network, point)
    return torch.cat(torch.autograd.grad(_value(network, point, activations), activations), dim=-1)


def slope_jump(network: FullyConnected) -> float:
    """Return α − ᾱ, by which σ' jumps at 0."""
    alpha, alpha_bar = _slopes(network)
    return alpha - alpha_bar


def gradient_with_gates(network: FullyConnected, point: Tensor, on: Tensor) -> Tensor:
    """Return ∇f at one θ as if the gates were as told, shape ``(d,)``.

    A unit whose gate is told to be on gives αz, and otherwise ᾱz, whatever the sign of z. That is
    the gradient of the smooth function which f is on one side of the kinks, continued beyond them.

    Parameters
    ----------
    point
        θ, shape ``(d,)``.
    on
        Which gates are on, shape ``(N, H)``.
    """
    check_kinked(network)
    alpha, alpha_bar = _slopes(network)
    slopes = torch.where(on, alpha, alpha_bar).to(network.inputs)
    point = point.to(network.inputs).detach().requires_grad_()
    activations = [network.inputs]
    pieces = slopes.split(network.widths[1:-1], dim=-1)
    for weight, slope in zip(network.weights(point)[:-1], pieces, strict=True):
        activations.append((activations[-1] @ weight.mT) * slope)
    return torch.autograd.grad(_value(network, point, activations), point)[0].to(point)


def descent_with_gates_held(
    network: FullyConnected,
    start: Tensor,
    leader_start: Tensor,
    *,
    step_size: float,
    iterations: int,
    record_every: int = 1,
    ratio: int = 1,
    held: Sequence[tuple[int, int]] | None = None,
    update: Callable[[Tensor, Tensor], Tensor] = torch.sub,
) -> Trajectory:
    """Run GD with some gates, or all, as another run holds them at the same time.

    The other run, the leader, is GD with η/ratio. If gates make the distance of the two runs, then
    holding these gates takes it away.

    Parameters
    ----------
    network
        f.
    start, leader_start
        θ_0 of the run and of the leader, shape ``(d,)``; their dtypes are the runs' precisions.
    step_size, iterations, record_every, update
        Of the run, as in :func:`gfgd.gradient_descent`.
    ratio
        The leader takes steps of η/ratio, `ratio` of them to each of the run's.
    held
        The gates (sample, column); all by default.

    Returns
    -------
    Trajectory
        The run; its losses are those of f itself.
    """
    checks.positive(step_size=step_size)
    checks.whole(1, iterations=iterations, record_every=record_every, ratio=ratio)
    point, leader = start.detach().clone(), leader_start.detach().clone()
    kept: list[tuple[int, Tensor]] = []
    for k in range(iterations + 1):
        if k % record_every == 0 or k == iterations:
            kept.append((k, point))
        if k == iterations:
            break
        on = gates(network, leader.to(network.inputs))
        if held is not None:
            own = gates(network, point.to(network.inputs))
            for gate in held:
                own[gate] = on[gate]
            on = own
        point = update(point, step_size * gradient_with_gates(network, point, on).to(point))
        for _ in range(ratio):
            leader = leader - step_size / ratio * network.gradient(leader)
    steps, points = zip(*kept, strict=True)
    return Trajectory(
        times=torch.tensor(steps, dtype=torch.float64) * step_size,
        points=torch.stack(points),
        losses=torch.stack([network.value(one) for one in points]),
        counts={"gradients": (1 + ratio) * iterations},
    )


def _hidden(network: FullyConnected, point: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the inputs z and the values σ(z) of each hidden layer, shapes ``(..., N, width)``."""
    inputs, activations = [], [network.inputs]
    for weight in network.weights(point)[:-1]:
        inputs.append(activations[-1] @ weight.mT)
        activations.append(network.activation.apply(inputs[-1]))
    return inputs, activations[1:]


def _value(network: FullyConnected, point: Tensor, activations: Sequence[Tensor]) -> Tensor:
    """Return f(θ) from the last hidden layer's values, differentiable."""
    outputs = activations[-1] @ network.weights(point)[-1].mT
    return network.loss(outputs, network.targets).sum() / len(network.inputs)


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


def check_kinked(network: FullyConnected) -> None:
    """Raise ``ValueError`` unless the network's activation has a kink."""
    slopes = network.activation.slopes
    if slopes is None or slopes[0] == slopes[1]:
        raise ValueError(
            f"network: its activation {network.activation.name!r} has no kink; use one that is "
            "linear on either side of 0 and not at 0, such as 'relu'"
        )
