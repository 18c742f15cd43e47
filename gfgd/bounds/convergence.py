"""The talk's theorem with all its constants: descent over a deep linear network converges.

One output, whitened inputs, a balanced start: a step size and a number of iterations, both in
closed form, with which gradient descent converges to a global minimum. The book's chapter on almost
every start proves it. Everything happens in three coordinates: from a balanced start the flow and
descent keep W_1 = u_1 aᵀ and W_j = b u_j u_{j−1}ᵀ, with a in the plane of w and Λ.

Units: L = ‖Λ‖ scales out. In the functions here lengths of w count in L, times and step sizes in
L^{2/n − 2} and distances of weights in L^{1/n}, unless an argument L is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks.linear import DeepLinear, lowest_radius_bound, orbit_radius, time_bound

#: The share of a step in n: at the end ‖w − Λ‖ ≤ L/(20n), and no step is longer than 1/(60n).
END_GAP, LONGEST_STEP = 20, 60


@dataclass(frozen=True, eq=False)
class GlobalConvergence:
    """What :func:`global_convergence` promises for each start, tensors of one shape ``(...)``.

    Attributes
    ----------
    step_size
        η*: the theorem holds for every 0 < η ≤ η*.
    iterations
        K for η = η*: f(θ_k) ≤ `loss` for all k ≥ K. A whole number, as float64.
    horizon
        T: up to kη ≤ T descent is near the flow, and then it is in a ball of convergence.
    distance
        δ ≥ ‖θ_k − θ(kη)‖ for kη ≤ T and η ≤ η*.
    lowest_radius
        A lower bound on the least ‖w‖ along the flow.
    error_factor
        D ≥ ∫ exp(∫_s m) ‖θ''‖ ds, in units in which L = 1; e D η bounds the distance.
    inflation
        κ: by how much −λmin can grow per unit of distance from the flow, same units.
    loss
        ε, as given.
    """

    step_size: Tensor
    iterations: Tensor
    horizon: Tensor
    distance: Tensor
    lowest_radius: Tensor
    error_factor: Tensor
    inflation: Tensor
    loss: float


def global_convergence(
    radius: Tensor | float,
    cosine: Tensor | float,
    target_norm: float,
    depth: int,
    loss: float,
) -> GlobalConvergence:
    """Return η and K with which gradient descent has f ≤ ε from iterate K on, and converges.

    **Theorem.** f(θ) = ½‖W_n ⋯ W_1 − Λ‖², n ≥ 2 layers, one output, L = ‖Λ‖ > 0; a balanced start
    with 0 < r_0 = ‖w(0)‖ ≤ L and cosine −1 < c_0 < 1. In units in which L = 1 let T be
    :func:`~gfgd.networks.linear.time_bound` to the gap 1/(20n), plus 1/(60n); D of
    :func:`error_factor`, κ of :func:`inflation`, g_0 = ‖w(0) − Λ‖, and

        δ = min{1/(8n), 4/(5κT)},    η* = min{δ/(eD), δ/(4√n g_0), 1/(60n)}.

    For every η ≤ η* descent stays within eDη ≤ δ of the flow up to T, converges to a global
    minimum, and f(θ_k) ≤ ε for all k ≥ (T + ln₊(1/(100ε))/0.72)/η.

    With two inputs or more and a random direction of w(0), |c_0| < 1 almost surely. For fixed n,
    1/η* grows at most as r_0^{−(1−2/n)} (1 + c_0)^{−(n−1)}, but for logarithms, and does not
    depend on ε. The numbers are evaluated in float64.

    Parameters
    ----------
    radius, cosine
        r_0 and c_0, of shapes that broadcast to ``(...)``.
    target_norm, depth
        L and n ≥ 2.
    loss
        ε > 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(loss=loss, target_norm=target_norm)
    checks.whole(2, depth=depth)
    r, c = torch.broadcast_tensors(
        torch.as_tensor(radius, dtype=torch.float64) / target_norm,
        torch.as_tensor(cosine, dtype=torch.float64),
    )
    longest = 1 / (LONGEST_STEP * depth)
    horizon = time_bound(r, c, 1.0, depth, 1 / (END_GAP * depth)) + longest
    lowest = lowest_radius_bound(r, c, 1.0, depth)
    factor, growth = error_factor(r, c, depth), inflation(r, c, depth)
    distance = (4 / (5 * growth * horizon)).clamp(max=1 / (8 * depth))
    step = torch.minimum(
        distance / (math.e * factor), distance / (4 * depth**0.5 * _gap(r, c))
    ).clamp(max=longest)
    after = max(0.0, math.log(target_norm**2 / (100 * loss))) / 0.72
    time = target_norm ** (2 - 2 / depth)
    return GlobalConvergence(
        step_size=step / time,
        iterations=((horizon + after) / step).ceil(),
        horizon=horizon / time,
        distance=distance * target_norm ** (1 / depth),
        lowest_radius=lowest * target_norm,
        error_factor=factor,
        inflation=growth,
        loss=loss,
    )


def error_factor(radius: Tensor, cosine: Tensor, depth: int) -> Tensor:
    """Return D ≥ ∫_0^t exp(∫_s^t m) ‖θ''(s)‖ ds for all t, along the flow, L = 1.

    m bounds −λmin of the Hessian in the three coordinates. With φ_0 = arccos c_0, r⋆ of
    :func:`~gfgd.networks.linear.lowest_radius_bound`, q = r_0/r⋆ and g_0 = ‖w(0) − Λ‖,

        D = e^{√(n−1) φ_0} { √n + ((n−1)/√n) g_0 ln(1/r⋆) + q (n + (n−1) g_0) φ_0
                             + [r_0 > c_0] q (√n r_0/2 + ((n−1)/√n) g_0) }.

    Parameters
    ----------
    radius, cosine
        r_0 ≤ 1 and c_0 with |c_0| < 1, shape ``(...)``.
    depth
        n ≥ 2.
    """
    angle, gap, root = torch.arccos(cosine), _gap(radius, cosine), depth**0.5
    lowest = lowest_radius_bound(radius, cosine, 1.0, depth)
    shrinks = (radius > cosine).double()
    ratio = radius / lowest
    share = (depth - 1) / root * gap
    inner = root - share * lowest.log() + ratio * (depth + (depth - 1) * gap) * angle
    inner = inner + shrinks * ratio * (root * radius / 2 + share)
    return torch.exp((depth - 1) ** 0.5 * angle) * inner


def inflation(radius: Tensor, cosine: Tensor, depth: int) -> Tensor:
    """Return κ: within 5/(32n) of the flow the bound on −λmin grows by κ per unit of distance.

    κ = √n (n−1) ω^{2n−3} + (n−2) (2/√3 + (n−3)/√(n−1)) (g_0 + 1/7) ω^{n−3}, ω = 1 + 5/(32n), in the
    three coordinates, L = 1; the second part is 0 for n = 2.
    """
    wide = 1 + 5 / (32 * depth)
    growth = depth**0.5 * (depth - 1) * wide ** (2 * depth - 3)
    third = (depth - 2) * (2 / 3**0.5 + (depth - 3) / (depth - 1) ** 0.5)
    return growth + third * wide ** (depth - 3) * (_gap(radius, cosine) + 1 / 7)


def plane_rate(radius: Tensor, cosine: Tensor, depth: int) -> Tensor:
    """Return m = r^{1−2/n} [(n−1) u₊ + u₋ + √(n−1) v] ≥ −λmin in the three coordinates, L = 1.

    At a balanced point with u = c − r = u₊ − u₋ and v = √(1 − c²). Along the flow
    ∫m ≤ ((n−1)/n) ln(r_T/r⋆) + (1/n) ln(r_0/r⋆) + √(n−1) arccos c_0, r⋆ the least r.
    """
    ahead, across = cosine - radius, (1 - cosine.square()).clamp(min=0).sqrt()
    rate = (depth - 1) * ahead.clamp(min=0) + (-ahead).clamp(min=0) + (depth - 1) ** 0.5 * across
    return radius ** (1 - 2 / depth) * rate


def plane_hessian(radius: Tensor, cosine: Tensor, depth: int) -> Tensor:
    """Return the Hessian in the three coordinates at a balanced point, L = 1.

    Shape ``(..., 3, 3)``. Coordinates: a along w, a across w in the plane of w and Λ, and √(n−1) b.
    With r = ρⁿ and w − Λ = (r − c, −√(1 − c²)) in the same plane.
    """
    root, rho = (depth - 1) ** 0.5, radius ** (1 / depth)
    ones, zeros = torch.ones_like(radius), torch.zeros_like(radius)
    along, across = radius - cosine, -(1 - cosine.square()).clamp(min=0).sqrt()
    # The derivative of w = bⁿ⁻¹ a in the three coordinates: two rows.
    slope = rho ** (depth - 1)
    jacobian = torch.stack(
        [
            torch.stack([slope * ones, zeros, root * slope], dim=-1),
            torch.stack([zeros, slope * ones, zeros], dim=-1),
        ],
        dim=-2,
    )
    scale = rho ** (depth - 2)
    mixed = torch.stack([root * scale * along, root * scale * across], dim=-1)
    indefinite = torch.zeros(*radius.shape, 3, 3, dtype=radius.dtype)
    indefinite[..., :2, 2] = indefinite[..., 2, :2] = mixed
    indefinite[..., 2, 2] = (depth - 2) * scale * along
    return jacobian.mT @ jacobian + indefinite


def three_coordinates(objective: DeepLinear, points: Tensor) -> Tensor:
    """Return a along Λ, a across it, and b at the points of a path, ``(T, d)`` to ``(T, 3)``.

    For weights W_1 = u_1 aᵀ, W_j = b u_j u_{j−1}ᵀ with b > 0, u_n = 1 and a in the plane of Λ and
    the first point's w: b = ‖W_n‖ and a = w/bⁿ⁻¹, since w = bⁿ⁻¹ a. Then ‖θ‖² = ‖a‖² + (n−1) b².
    """
    product, last = objective.end_to_end(points)[:, 0], objective.weights(points)[-1]
    b = torch.linalg.vector_norm(last, dim=(-2, -1))
    along = objective.target[0] / objective.target.norm()
    across = product[0] - (product[0] @ along) * along
    across = across / across.norm().clamp_min(torch.finfo(across.dtype).tiny)
    a = product / b[:, None] ** (objective.depth - 1)
    return torch.stack([a @ along, a @ across, b], dim=-1)


@dataclass(frozen=True)
class OrbitIntegrals:
    """What the theorem's closed formulas bound, computed along one orbit, L = 1.

    `lowest_radius` the least r; `time` until ‖w − Λ‖ is down to the gap; `rate_integral` ∫m and
    `rate_closed` its closed form ((n−1)/n) ln(r_T/r⋆) + (1/n) ln(r_0/r⋆) + √(n−1) (φ_0 − φ_T);
    `curvature` the largest −λmin/m of the Hessian in three coordinates; `error_integral` the
    largest ∫_0^t exp(∫_s^t m) ‖θ''(s)‖ ds.
    """

    lowest_radius: float
    time: float
    rate_integral: float
    rate_closed: float
    curvature: float
    error_integral: float


def orbit_integrals(
    radius: float, cosine: float, depth: int, gap: float, points: int = 10_001
) -> OrbitIntegrals:
    """Return the integrals along the orbit from (r_0, c_0) until ‖w − Λ‖ is down to `gap`.

    The orbit gives r at each z = artanh c, and dt = r^{2/n − 1} dz: no integrator, only the
    trapezoidal rule on a grid of z with so many points, from z_0 to z_0 + 10.

    Raises
    ------
    ValueError
        If an argument is out of range, or the orbit's distance is above the gap throughout.
    """
    checks.positive(gap=gap)
    z = math.atanh(cosine) + torch.linspace(0, 10, points, dtype=torch.float64)
    c = z.tanh()
    r = orbit_radius(c, radius, cosine, 1.0, depth)
    before = _gap(r, c) > gap
    if before.all() or not before.any():
        raise ValueError(f"gap = {gap!r}: must be passed on the way from z_0 to z_0 + 10")
    z, c, r = z[before], c[before], r[before]
    slowness, rate = r ** (2 / depth - 1), plane_rate(r, c, depth)
    growth = torch.cumulative_trapezoid(rate * slowness, z)
    growth = torch.cat([torch.zeros_like(growth[:1]), growth])
    hessian = plane_hessian(r, c, depth)
    away, across = r - c, -(1 - c.square()).sqrt()
    gradient = torch.stack([away, across, (depth - 1) ** 0.5 * away], dim=-1)
    bend = (hessian @ (r[:, None] ** (1 - 1 / depth) * gradient)[..., None])[..., 0].norm(dim=-1)
    made = torch.cumulative_trapezoid((-growth).exp() * bend * slowness, z)
    closed = (depth - 1) / depth * (r[-1] / r.min()).log() + (radius / r.min()).log() / depth
    return OrbitIntegrals(
        lowest_radius=float(r.min()),
        time=float(torch.trapezoid(slowness, z)),
        rate_integral=float(growth[-1]),
        rate_closed=float(closed + (depth - 1) ** 0.5 * (c[0].arccos() - c[-1].arccos())),
        curvature=float((-torch.linalg.eigvalsh(hessian)[:, 0] / rate).max()),
        error_integral=float((growth[1:].exp() * made).max()),
    )


def _gap(radius: Tensor, cosine: Tensor) -> Tensor:
    """Return ‖w − Λ‖ = √(1 + r² − 2rc), L = 1."""
    return ((1 - radius).square() + 2 * radius * (1 - cosine)).sqrt()
