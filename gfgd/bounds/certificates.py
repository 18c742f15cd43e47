"""Certified step sizes: with which η gradient descent must stay near the flow of a deep linear net.

Given the flow of f(θ) = ½‖W_n ⋯ W_1 − Λ‖² on a grid of times and a distance ε, every function
here returns an η for which a theorem says ‖θ_k − θ(kη)‖ ≤ ε up to the horizon. They differ in what
the theorem asks for:

========================  =====================================================================
`uniform`                 one β and one γ for the whole tube, m from norms (the talk's argument)
`local`                   β and γ where they are needed, inside the integral
`flow_defect`             the flow's own defect ‖H∇f‖/2 under a step of GD, m from exact spectra
`second_order`            the leading-order error η‖u‖ taken off; a theorem for what is left
========================  =====================================================================

The tube is {q : ‖q − θ(t)‖ ≤ ε for some t ≤ T}. Constants on it come from norms of the layers and
hold for every q in it and every t, also between the times of the grid. What is sampled at the
times of the grid only is said so: refine the grid and see that it does not matter. Rounding and
the integrator's error (rtol) are not accounted for. So the theorems are proved, in the book's
chapter on the translation, and a certificate evaluates one in float64: it is not a verified number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.bounds import fundamental_bound
from gfgd.bounds.curvature import smallest_eigenvalue
from gfgd.bounds.leading_order import LeadingOrderError
from gfgd.networks.linear import DeepLinear
from gfgd.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Tube:
    """Constants of f on the ε-tube around a flow, for each of its N cells [t_i, t_{i+1}].

    Attributes
    ----------
    times
        t_0 … t_N, shape ``(N + 1,)``.
    radius
        ε.
    gradient_norm, smoothness, rate
        γ ≥ ‖∇f‖, β ≥ ‖∇²f‖ and m ≥ −λmin(∇²f), shape ``(N,)``, all from norms of layers.
    third
        M₃ ≥ ‖D³f‖, shape ``(N,)``.
    exact_rate
        max(0, −λmin(∇²f(θ(t)))) + M₃ (ε + half a cell's length of path), shape ``(N,)``: a
        bound on the same −λmin, from the exact spectrum along the flow.
    final_loss
        A bound on f in the last ball, {q : ‖q − θ(T)‖ ≤ ε}.
    """

    times: Tensor
    radius: float
    gradient_norm: Tensor
    smoothness: Tensor
    rate: Tensor
    third: Tensor
    exact_rate: Tensor
    final_loss: float

    def stretch(self, rate: Tensor | None = None) -> float:
        """Return exp(∫₀ᵀ m dt), with `rate` or with m from norms."""
        return float((self.times.diff() * (self.rate if rate is None else rate)).sum().exp())


@dataclass(frozen=True)
class Certificate:
    """A step size η and the number of steps, ⌈T/η⌉, that a theorem vouches for.

    GD with `step_size` stays within `distance` of the flow at every iterate up to the horizon,
    and ends with a loss of at most `final_loss`. `step_size` divides the horizon.
    """

    method: str
    distance: float
    horizon: float
    step_size: float
    iterations: int
    final_loss: float


def tube(objective: DeepLinear, flow: Trajectory, distance: float) -> Tube:
    """Return the constants on the tube of radius ε = `distance` around `flow`.

    With ω_j = ‖W_j‖₂ + ρ, P_J = Π_{i∉J} ω_i and R = ‖W_{n:1} − Λ‖_F + Π ω − Π‖W‖₂ ≥ ‖W_{n:1}(q) −
    Λ‖_F on the ball of radius ρ around a point of the flow:

    γ = R (Σ_j P_j²)^{1/2},   β = Σ_j P_j² + m,   m = (n−1) R max_{j≠j'} P_{jj'},
    M₃ = 3 (Σ_j P_j²)^{1/2} (n−1) max P_{jj'} + R √n (n−2) max P_{jj'j''}.

    A time between two of the grid is within ε + γh/2 of one of them, so ρ = ε + γh/2.

    Raises
    ------
    ValueError
        If ε ≤ 0, the flow stopped early or has fewer than two times, or the depth is 1.
    """
    checks.positive(distance=distance)
    checks.whole(2, depth=objective.depth)
    if not flow.completed or len(flow.times) < 2:
        raise ValueError(f"flow: needs to be complete, at two times or more; it {flow.status}")
    # γ from the ball of radius ε first, then from the larger one that it gives.
    # Half of the longer of the two cells that meet in a time.
    widths = flow.times.diff()
    half = torch.maximum(torch.cat([widths[:1], widths]), torch.cat([widths, widths[-1:]])) / 2
    reach = distance + 2 * half * _layer_constants(objective, flow.points, distance).gradient_norm
    on_ball = _layer_constants(objective, flow.points, reach)
    if (distance + half * on_ball.gradient_norm > reach).any():
        raise ValueError(f"flow: {len(flow.times)} times are too few; record it more often")
    lowest = _smallest_eigenvalues(objective, flow.points)
    rate = (-lowest).clamp(min=0) + on_ball.third * reach
    return Tube(
        times=flow.times,
        radius=distance,
        gradient_norm=_per_cell(on_ball.gradient_norm),
        smoothness=_per_cell(on_ball.smoothness),
        rate=_per_cell(on_ball.rate),
        third=_per_cell(on_ball.third),
        exact_rate=_per_cell(rate),
        final_loss=float(_layer_constants(objective, flow.points[-1:], distance).loss[0]),
    )


def uniform(known: Tube) -> Certificate:
    """Return η = ε / max_t ∫₀ᵗ exp(∫ₛᵗ m) βγ ds with β and γ for the whole tube.

    The step-size theorem for the polygon of GD, as the talk's argument has it.
    """
    defect = known.smoothness.max() * known.gradient_norm.max()
    bound = fundamental_bound(known.times, defect, known.rate)
    return _certificate("uniform", known, known.radius / float(bound.max()))


def local(known: Tube) -> Certificate:
    """Return η = ε / max_t ∫₀ᵗ exp(∫ₛᵗ m) β(s)γ(s) ds.

    A step in progress at time s began at most η before, so β and γ are the largest of the
    cells that lie so near.
    """

    def step_size(window: int) -> float:
        defect = _nearby(known.smoothness, window) * _nearby(known.gradient_norm, window)
        return known.radius / float(fundamental_bound(known.times, defect, known.rate).max())

    return _certificate("local", known, _consistent(step_size, known))


def flow_defect(objective: DeepLinear, flow: Trajectory, known: Tube) -> Certificate:
    """Return the largest η with (η/2) ∫₀ᵗ exp(∫ₛᵗ m) ‖H∇f‖ ds ≤ ε for all t, and ηβ ≤ 2.

    Here the flow is the approximate solution and GD the exact one. A step of GD from θ(kη)
    misses θ((k+1)η) by ∫₀^η (η − τ) θ''(kη + τ) dτ with θ'' = H∇f, and it stretches what was
    missed before by at most 1 + ηm, since −m ≤ ∇²f ≤ 2/η on the tube. ‖H∇f‖ is sampled at the
    times of the grid.
    """
    gradient = objective.gradient(flow.points)
    bend = objective.hessian_vector_product(flow.points, gradient).norm(dim=-1)

    def step_size(window: int) -> float:
        bound = fundamental_bound(
            known.times,
            _nearby(_per_cell(bend), window) / 2,
            _nearby(known.exact_rate, window),
        )
        return min(known.radius / float(bound.max()), 2 / float(known.smoothness.max()))

    return _certificate("flow_defect", known, _consistent(step_size, known))


def second_order(objective: DeepLinear, error: LeadingOrderError, known: Tube) -> Certificate:
    """Return the largest η with η‖u(t)‖ + η² V(t) ≤ ε for all t, and ηβ ≤ 2.

    u is the leading-order error, and V(t) = ∫₀ᵗ exp(∫ₛᵗ m) D ds bounds what it leaves: a step of
    GD from y(t) = θ(t) + ηu(t) misses y(t + η) by at most η³ D,
    D = ‖θ'''‖/6 + ‖u''‖/2 + M₃‖u‖²/2. ‖θ'''‖, ‖u''‖ and ‖u‖, in D and beside it, are sampled at
    the times of the grid: on a cell the larger of the values at its two ends is taken.
    """
    defect, size = _second_order_defect(objective, error, known), error.coefficient.norm(dim=-1)
    first = torch.cat([size[:1], _per_cell(size)])

    def step_size(window: int) -> float:
        left = _left_over(defect, known, window)
        largest = 2 * known.radius / (first + (first.square() + 4 * known.radius * left).sqrt())
        return min(float(largest.min()), 2 / float(known.smoothness.max()))

    return _certificate("second_order", known, _consistent(step_size, known))


def each_method(
    objective: DeepLinear, error: LeadingOrderError, known: Tube
) -> dict[str, Certificate]:
    """Return the certificates of all four theorems by name, the talk's first: see the table above.

    `error` holds the flow that `known` is the tube of, and its leading-order error.
    """
    return {
        "uniform": uniform(known),
        "local": local(known),
        "flow_defect": flow_defect(objective, error.flow, known),
        "second_order": second_order(objective, error, known),
    }


def second_order_bound(
    objective: DeepLinear, error: LeadingOrderError, known: Tube, step_size: float
) -> Tensor:
    """Return η‖u(t)‖ + η² V(t) ≥ ‖θ_k − θ(kη)‖ at the times of the grid, shape ``(N + 1,)``.

    The theorem behind :func:`second_order`; it holds for an η at which the result is at most the
    tube's radius ε everywhere, and ηβ ≤ 2.

    Raises
    ------
    ValueError
        If the theorem does not hold for this step size.
    """
    checks.positive(step_size=step_size)
    cells = len(known.times) - 1
    window = min(cells, math.ceil(step_size / float(known.times.diff().min())))
    defect = _second_order_defect(objective, error, known)
    bound = error.distance(step_size) + step_size**2 * _left_over(defect, known, window)
    if bound.max() > known.radius or step_size * known.smoothness.max() > 2:
        raise ValueError(
            f"step_size = {step_size!r}: the theorem needs η‖u‖ + η²V ≤ {known.radius:g} and "
            f"ηβ ≤ 2; they are up to {float(bound.max()):g} and "
            f"{step_size * float(known.smoothness.max()):g}; give a smaller one"
        )
    return bound


def _second_order_defect(objective: DeepLinear, error: LeadingOrderError, known: Tube) -> Tensor:
    """Return D = ‖θ'''‖/6 + ‖u''‖/2 + M₃‖u‖²/2 on each cell, shape ``(N,)``."""
    size = _per_cell(error.coefficient.norm(dim=-1))
    return _per_cell(_third_order_defect(objective, error)) + known.third * size.square() / 2


def _left_over(defect: Tensor, known: Tube, window: int) -> Tensor:
    """Return V(t) = ∫₀ᵗ exp(∫ₛᵗ m) D ds, with the largest D and m of the cells near s."""
    return fundamental_bound(
        known.times, _nearby(defect, window), _nearby(known.exact_rate, window)
    )


def convergence_radius(
    objective: DeepLinear, point: Tensor, distance: float, loss: float, step_size: float
) -> float:
    """Return a ρ such that GD from anywhere in the ball of radius ε around θ stays in that of ρ.

    And converges there to a global minimum, f(θ_{k+1}) ≤ (1 − ημ(2 − ηβ)) f(θ_k). On the ball of
    radius ρ, ‖∇f‖² ≥ 2μf with μ = σ_min(W_n ⋯ W_2)² > 0 (over its k rows), and ‖∇²f‖ ≤ β. If
    ηβ < 2 and f(θ_0) ≤ `loss`, all steps together have a length of at most
    √(2 loss/μ)/(1 − ηβ/2), so they stay inside if ρ > ε + that. Infinite if no ρ ≤ 1 will do.

    Raises
    ------
    ValueError
        If an argument is not positive, or f masks entries (then μ may be 0).
    """
    checks.positive(distance=distance, loss=loss, step_size=step_size)
    for radius in torch.logspace(math.log10(distance), 0, 200, dtype=torch.float64).tolist():
        rate, smoothness = _ball_constants(objective, point, radius)
        slack = 1 - step_size * smoothness / 2
        if min(rate, slack) > 0 and distance + math.sqrt(2 * loss / rate) / slack < radius:
            return radius
    return math.inf


def convergence_rate(
    objective: DeepLinear, point: Tensor, radius: float, step_size: float
) -> float:
    """Return 1 − ημ(2 − ηβ), a bound on f(θ_{k+1})/f(θ_k) in the ball of radius ρ around θ.

    μ and β as in :func:`convergence_radius`; 1 if they show no fall.

    Raises
    ------
    ValueError
        If an argument is not positive, or f masks entries.
    """
    checks.positive(radius=radius, step_size=step_size)
    rate, smoothness = _ball_constants(objective, point, radius)
    return 1 - max(0.0, step_size * rate * (2 - step_size * smoothness))


def _ball_constants(objective: DeepLinear, point: Tensor, radius: float) -> tuple[float, float]:
    """Return μ and β on the ball of radius ρ around θ."""
    if not objective.mask.all():
        raise ValueError("objective: has a mask, so that the inequality ‖∇f‖² ≥ 2μf may fail")
    smoothness = _layer_constants(objective, point[None], radius).smoothness
    return _smallest_gain(objective, point, radius) ** 2, float(smoothness)


@dataclass(frozen=True, eq=False)
class _Ball:
    """Constants on balls around points of the flow, each of shape ``(T,)``."""

    gradient_norm: Tensor
    smoothness: Tensor
    rate: Tensor
    third: Tensor
    loss: Tensor


def _layer_constants(objective: DeepLinear, points: Tensor, radius: Tensor | float) -> _Ball:
    n = objective.depth
    norms = _operator_norms(objective, points)
    omega = norms + torch.as_tensor(radius, dtype=points.dtype).reshape(-1, 1)
    distance = torch.linalg.matrix_norm(objective.residual(points))
    residual = distance + omega.prod(-1) - norms.prod(-1)
    ordered = omega.sort(dim=-1).values  # ascending: leaving out the smallest gives the maximum
    pairs = ordered[:, 2:].prod(-1)
    triples = ordered[:, 3:].prod(-1) if n > 2 else torch.zeros_like(pairs)
    squares = (omega.prod(-1, keepdim=True) / omega).square().sum(-1)
    rate = (n - 1) * residual * pairs
    third = 3 * squares.sqrt() * (n - 1) * pairs + residual * math.sqrt(n) * (n - 2) * triples
    return _Ball(
        gradient_norm=residual * squares.sqrt(),
        smoothness=squares + rate,
        rate=rate,
        third=third,
        loss=0.5 * residual.square(),
    )


def _operator_norms(objective: DeepLinear, points: Tensor) -> Tensor:
    """Return ‖W_j‖₂, shape ``(T, n)``."""
    weights = objective.weights(points)
    return torch.stack([torch.linalg.matrix_norm(weight, 2) for weight in weights], dim=-1)


def _smallest_gain(objective: DeepLinear, point: Tensor, radius: float) -> float:
    """Return a lower bound of the k-th singular value of W_n ⋯ W_2 on a ball (0 if none)."""
    weights = objective.weights(point)
    product = weights[-1]
    for weight in reversed(weights[1:-1]):
        product = product @ weight
    outputs, inputs = product.shape
    if inputs < outputs:
        return 0.0
    norms = _operator_norms(objective, point[None])[0, 1:]
    change = (norms + radius).prod() - norms.prod()
    return max(0.0, float(torch.linalg.svdvals(product)[outputs - 1] - change))


def _smallest_eigenvalues(objective: DeepLinear, points: Tensor, entries: int = 2**21) -> Tensor:
    """Return λmin(∇²f) at T points, shape ``(T,)``: Hessians in chunks of so many entries."""
    size = max(1, entries // objective.dimension**2)
    return torch.cat([smallest_eigenvalue(objective, chunk) for chunk in points.split(size)])


def _third_order_defect(objective: DeepLinear, error: LeadingOrderError) -> Tensor:
    """Return ‖θ'''‖/6 + ‖u''‖/2 along the flow, shape ``(T,)``.

    θ''' = −(H²∇f + D³f[∇f, ∇f]) and u'' = −Hu' + D³f[∇f, u] − ½θ'''.
    """
    point, u = error.flow.points, error.coefficient
    gradient = objective.gradient(point)
    bend = objective.hessian_vector_product(point, gradient)
    third = -objective.hessian_vector_product(point, bend) - objective.third_derivative(
        point, gradient, gradient
    )
    drift = -objective.hessian_vector_product(point, u) - bend / 2
    turn = (
        -objective.hessian_vector_product(point, drift)
        + objective.third_derivative(point, gradient, u)
        - third / 2
    )
    return third.norm(dim=-1) / 6 + turn.norm(dim=-1) / 2


def _per_cell(values: Tensor) -> Tensor:
    """Return the larger of the values at a cell's two ends."""
    return torch.maximum(values[:-1], values[1:])


def _nearby(values: Tensor, window: int) -> Tensor:
    """Return the largest value among the cells at most `window` away."""
    padded = values.reshape(1, 1, -1)
    return torch.nn.functional.max_pool1d(padded, 2 * window + 1, stride=1, padding=window)[0, 0]


def _consistent(step_size: Callable[[int], float], known: Tube) -> float:
    """Return the step size for a window of cells that is at least as long as the step."""
    cell, cells = float(known.times.diff().min()), len(known.times) - 1
    window = 1
    while True:
        found = step_size(min(window, cells))
        if found <= window * cell or window >= cells:
            return found
        window *= 2


def _certificate(method: str, known: Tube, step_size: float) -> Certificate:
    horizon = float(known.times[-1] - known.times[0])
    iterations = math.ceil(horizon / step_size)
    return Certificate(
        method, known.radius, horizon, horizon / iterations, iterations, known.final_loss
    )
