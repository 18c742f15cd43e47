"""Gradient descent with momentum, its modified flows, and where it becomes unstable.

    heavy ball:  x_{k+1} = x_k + β(x_k − x_{k−1}) − η∇f(x_k),
    Nesterov:    x_{k+1} = x_k + β(x_k − x_{k−1}) − η∇f(x_k + β(x_k − x_{k−1})),    0 ≤ β < 1.

A step lasts the time ε = η/(1 − β): momentum sums the past gradients, 1 + β + β² + … of them. Let
κ = (1 + β)/(1 − β), g = ∇f, H = ∇²f. Look for θ' = F with θ(kε) = x_k. By Taylor's theorem the
left side of

    [θ(t + ε) − θ(t) − β(θ(t) − θ(t − ε))]/η = θ' + (εκ/2)θ'' + (ε²/6)θ''' + O(ε³)

must equal −g, at θ or at Nesterov's point. Collecting powers of ε,

    θ' = −g − ε a Hg − ε² (b H²g + c D³f[g, g]) + O(ε³),

    heavy ball:  a = κ/2,       b = κ²/2 − 1/6,                  c = κ²/4 − 1/6,
    Nesterov:    a = κ/2 − β,   b = (κ − β)a − β/2 − 1/6,        c = κa/2 + β²/2 − 1/6,

which for β = 0 are those of gradient descent, ½, ⅓ and 1/12. The flow cut after ε^{p−1} is at a
distance O(ε^p) from the iterates over a fixed time, for fixed β, if x_{−1} = θ(−ε) + O(ε^p): the
recursion's other root is β < 1, and what starts off the slow motion dies out as β^k. From rest,
x_{−1} = x_0, it dies out as well, but leaves a displacement of ε β/(1 − β) g(x_0): see
`momentum_flow_start`.

All this is an expansion for ηλ ≪ (1 − √β)². Beyond (1 − √β)² the heavy ball's roots along an
eigenvector λ are complex: it rings, and no flow of first order in time does.

References
----------
Ghosh et al. 2023 (the term a of the heavy ball, as a regulariser); Kovachki & Stuart 2021 (both
methods to order 2). The order 3 was derived for this book. Thresholds: Cohen et al. 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Unpack

import torch
from torch import Tensor

from gfgd import checks
from gfgd.large_steps.modified import Accuracy, ModifiedFlow, _follow
from gfgd.objective import Objective, Point, as_point
from gfgd.trajectory import COMPLETED, Trajectory, starting_point


@dataclass(frozen=True)
class Momentum:
    """A method with momentum: its look-ahead, its expansion and its threshold.

    Attributes
    ----------
    lookahead
        The gradient is taken at x + `lookahead` · β(x − x_{−1}): 0 or 1.
    coefficients
        Maps β to (a, b, c) of the module's docstring.
    threshold
        Maps β to the largest ηλ at which an eigenvalue λ > 0 is not unstable.
    source
        Where the modified flow comes from.
    """

    lookahead: float
    coefficients: Callable[[float], tuple[float, float, float]]
    threshold: Callable[[float], float]
    source: str


def _heavy_ball_coefficients(beta: float) -> tuple[float, float, float]:
    kappa = (1 + beta) / (1 - beta)
    return kappa / 2, kappa**2 / 2 - 1 / 6, kappa**2 / 4 - 1 / 6


def _nesterov_coefficients(beta: float) -> tuple[float, float, float]:
    kappa = (1 + beta) / (1 - beta)
    a = kappa / 2 - beta
    return a, (kappa - beta) * a - beta / 2 - 1 / 6, kappa * a / 2 + beta**2 / 2 - 1 / 6


#: The schemes by name.
SCHEMES: Mapping[str, Momentum] = MappingProxyType(
    {
        "heavy_ball": Momentum(
            0.0,
            _heavy_ball_coefficients,
            lambda beta: 2 * (1 + beta),
            "Ghosh et al. 2023; Kovachki & Stuart 2021",
        ),
        "nesterov": Momentum(
            1.0,
            _nesterov_coefficients,
            lambda beta: (2 + 2 * beta) / (1 + 2 * beta),
            "Kovachki & Stuart 2021",
        ),
    }
)


def momentum_descent(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    momentum: float,
    iterations: int,
    scheme: str = "heavy_ball",
    previous: Point | None = None,
    record_every: int = 1,
) -> Trajectory:
    """Run the heavy ball or Nesterov's method; iterate k stands at time kε, ε = η/(1 − β).

    Parameters
    ----------
    objective, start
        f and x_0, shape ``(d,)`` or ``(..., d)``.
    step_size, momentum
        η > 0 and β in [0, 1).
    iterations, record_every
        As in :func:`gfgd.gradient_descent`, which this is for β = 0.
    scheme
        A key of `SCHEMES`.
    previous
        x_{−1}, of the shape of `start`; None: x_0, a start from rest.

    Returns
    -------
    Trajectory
        With ``counts["gradients"]``; ended early, with a status, where a loss is not finite.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    known = _checked(step_size, momentum, scheme)
    checks.whole(1, iterations=iterations, record_every=record_every)
    point = starting_point(start, any_precision=True).clone()
    before = point
    if previous is not None:
        before = as_point(previous, "previous", any_precision=True).detach()
    if before.shape != point.shape or not before.isfinite().all():
        raise ValueError(
            f"previous has shape {tuple(before.shape)}: give finite numbers of the shape of start, "
            f"{tuple(point.shape)}"
        )
    kept: list[tuple[int, Tensor, Tensor]] = []
    status = COMPLETED
    for k in range(iterations + 1):
        value = objective.value(point)
        if not value.isfinite().all():
            status = (
                f"diverged: the loss is not finite at iteration {k} with step size {step_size:g} "
                f"and momentum {momentum:g}; try a smaller step size"
            )
            break
        if k % record_every == 0 or k == iterations:
            kept.append((k, point, value))
        step = momentum * (point - before)
        gradient = objective.gradient(point + known.lookahead * step)
        before, point = point, point + step - step_size * gradient
    if not kept:
        raise ValueError("start: the loss there is not finite")
    steps, points, losses = zip(*kept, strict=True)
    return Trajectory(
        times=torch.tensor(steps, dtype=torch.float64) * (step_size / (1 - momentum)),
        points=torch.stack(points),
        losses=torch.stack(losses),
        counts={"gradients": k + (status == COMPLETED)},
        status=status,
    )


def momentum_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    momentum: float,
    order: int = 2,
    scheme: str = "heavy_ball",
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate the modified flow of the heavy ball or of Nesterov's method, of order 1, 2 or 3.

    An evaluation costs a gradient; for order 2 also a Hessian-vector product, so that it is the
    gradient flow of f + (εa/2)‖∇f‖²; for order 3 two products and a directional third derivative.

    Parameters
    ----------
    objective, start
        f, `order` + 2 times differentiable for the order to be proved, and θ(times[0]), shape
        ``(d,)`` or ``(..., d)``. For a method that starts from rest use `momentum_flow_start`.
    times
        Increasing, shape ``(T,)``. Iterate k stands at kη/(1 − β).
    step_size, momentum, scheme
        Of the method that is modelled, as in :func:`momentum_descent`.
    order
        p: over a fixed time the distance from the method is O(ε^p), for fixed β.
    **accuracy
        See :class:`gfgd.large_steps.modified.Accuracy`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    known = _checked(step_size, momentum, scheme)
    if order not in (1, 2, 3):
        raise ValueError(f"order = {order}: the flow is given to order 1, 2 or 3")
    flow = ModifiedFlow(
        partial(_field, known.coefficients(momentum), order),
        formula=("θ' = −∇f", "θ' = −∇f − εa H∇f", "θ' = −∇f − εa H∇f − ε²(bH²∇f + cD³f)")[
            order - 1
        ],
        order=order,
        source=known.source if order < 3 else "this book",
        hessian_vector_products=order - 1,
        third_derivatives=int(order == 3),
    )
    return _follow(flow, objective, start, times, step_size / (1 - momentum), accuracy)


def momentum_flow_start(
    objective: Objective, start: Point, *, step_size: float, momentum: float
) -> Tensor:
    """Return x_0 + ε β/(1 − β) ∇f(x_0): where the flow starts if the method starts from rest.

    The method gathers speed while it forgets that x_{−1} = x_0, and loses
    β + β² + … = β/(1 − β) steps of the flow by it. From here flows of order ≥ 2 are at a distance
    O(ε²) once the transient β^k has died out; from x_0 itself only O(ε).
    """
    _checked(step_size, momentum, "heavy_ball")
    start = starting_point(start)
    time = step_size / (1 - momentum)
    return start + time * momentum / (1 - momentum) * objective.gradient(start)


def stability_threshold(momentum: float, scheme: str = "heavy_ball") -> float:
    """Return the largest ηλ at which the method is not unstable along an eigenvector λ > 0.

    Heavy ball: the roots of μ² − (1 + β − x)μ + β = 0, x = ηλ, are in the unit circle for
    x ≤ 2(1 + β), where one is −1. Nesterov, μ² − (1 + β)(1 − x)μ + β(1 − x) = 0:
    x ≤ (2 + 2β)/(1 + 2β).

    Examples
    --------
    >>> stability_threshold(0.5), stability_threshold(0.5, "nesterov")
    (3.0, 1.5)
    """
    return _checked(1.0, momentum, scheme).threshold(momentum)


def ringing_threshold(momentum: float) -> float:
    """Return (1 − √β)²: for larger ηλ the heavy ball's roots are complex, and it rings."""
    _checked(1.0, momentum, "heavy_ball")
    return (1 - math.sqrt(momentum)) ** 2


def _checked(step_size: float, momentum: float, scheme: str) -> Momentum:
    checks.positive(step_size=step_size)
    if not 0 <= momentum < 1:
        raise ValueError(
            f"momentum = {momentum}: must be in [0, 1); from 1 on nothing is ever forgotten, and "
            "the time of a step, η/(1 − β), is not positive"
        )
    checks.one_of(SCHEMES, scheme=scheme)
    return SCHEMES[scheme]


def _field(
    coefficients: tuple[float, float, float],
    order: int,
    objective: Objective,
    point: Tensor,
    time: float,
) -> Tensor:
    """Return F, cut after ε^{order − 1}; `time` is ε."""
    a, b, c = coefficients
    if order == 1:
        return -objective.gradient(point)
    gradient, hessian = objective.gradient_and_hessian_at(point)
    once = hessian(gradient)
    velocity = -gradient - time * a * once
    if order >= 3:
        twice = hessian(once)
        third = objective.third_derivative(point, gradient, gradient)
        velocity = velocity - time**2 * (b * twice + c * third)
    return velocity
