"""Bounds on the distance between an exact flow and its Euler polygon, one function a theorem.

Everything here is a formula on numbers that the caller vouches for: a Lipschitz constant β, a
bound γ on the length of the field, a bound m on its logarithmic norm (for gradient flow
m = −λmin of the Hessian). The theorems hold where these hold: on the segments between the two
curves. Time has the unit of the step size η.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gfgd import checks


def fundamental_bound(times: Tensor, defect: Tensor, rate: Tensor) -> Tensor:
    """Return B(t) = ∫₀ᵗ exp(∫ₛᵗ m) δ(s) ds at the given times, shape ``(T, ...)``.

    The fundamental theorem of numerical integration (Hairer, Nørsett & Wanner 1993, Theorem
    I.10.6, one norm): let θ' = g(t, θ), and let ϑ be continuous and piecewise C¹ with
    ϑ(t_0) = θ(t_0) and ‖ϑ' − g(t, ϑ)‖ ≤ δ(t). If the largest eigenvalue of the symmetric part
    of ∂g/∂θ is at most m(t) on the segment from θ(t) to ϑ(t), then ‖ϑ(t) − θ(t)‖ ≤ B(t).

    Parameters
    ----------
    times
        t_0 < … < t_{T−1}, shape ``(T,)``.
    defect, rate
        δ_i ≥ 0 and m_i, upper bounds of δ and m on the cell [t_i, t_{i+1}], shapes
        ``(T − 1, ...)`` that broadcast; or one number for all cells. With such bounds the
        result is one too: B_{i+1} = e^{m_i h_i} B_i + δ_i (e^{m_i h_i} − 1)/m_i, B_0 = 0.

    Raises
    ------
    ValueError
        If times do not increase, a shape does not fit or a defect is negative.
    """
    times = _times(times)
    widths = times.diff()
    defect, rate = _cells(len(widths), defect=defect, rate=rate)
    widths = widths.reshape(-1, *[1] * (rate.dim() - 1))
    gain = defect * widths * _phi1(rate * widths)
    # No defect adds nothing, however fast it would have grown (0 · ∞).
    return _accumulate(rate * widths, torch.where(defect == 0, 0.0, gain))


def euler_bound(step_size: float, smoothness: Tensor, field_norms: Tensor, rate: Tensor) -> Tensor:
    """Return the bound on Euler's error at iterates 0 … K, shape ``(K + 1, ...)``.

    Between θ_k and θ_{k+1} = θ_k + η g_k the Euler polygon has, at s after iterate k, the
    defect ‖g_k − g(ϑ)‖ ≤ β_k s ‖g_k‖: a sawtooth. Its integral in `fundamental_bound` is exact:
    B_{k+1} = e^{mη} B_k + β_k ‖g_k‖ (e^{mη} − 1 − mη)/m², with m = m_k and B_0 = 0.

    Parameters
    ----------
    step_size
        η > 0.
    smoothness, field_norms, rate
        For each step: a Lipschitz constant β_k of the field on the segment from θ_k to θ_{k+1},
        ‖g_k‖, and a bound m_k on the logarithmic norm between the two curves. Shapes
        ``(K, ...)`` that broadcast; numbers do where at least one has that shape. For gradient
        descent the field is −∇f, β ≥ ‖∇²f‖ and m ≥ −λmin(∇²f).

    Raises
    ------
    ValueError
        If η ≤ 0, a shape does not fit, or β or ‖g‖ is negative.
    """
    checks.positive(step_size=step_size)
    given = {"smoothness": smoothness, "field_norms": field_norms, "rate": rate}
    lengths = [len(v) for v in given.values() if isinstance(v, Tensor) and v.dim()]
    if not lengths:
        raise ValueError("smoothness, field_norms, rate: one of them must have shape (K, ...)")
    smoothness, field_norms, rate = _cells(max(lengths), **given)
    growth = rate * step_size
    return _accumulate(growth, smoothness * field_norms * step_size**2 * _phi2(growth))


def convexity_bound(
    times: Tensor | float,
    *,
    step_size: float,
    convexity: float,
    smoothness: float,
    gradient_norm: float,
) -> Tensor:
    """Return η β γ (1 − e^{−λt})/λ, the distance of GD from GF that the convexity λ allows.

    The three cases of the talk: at most ηβγ/λ for λ > 0 (strongly convex), ηβγ t for λ = 0
    (convex), ηβγ (e^{|λ|t} − 1)/|λ| for λ < 0 (non-convex).

    Parameters
    ----------
    times
        t ≥ 0, any shape; ``math.inf`` is allowed where λ > 0.
    step_size
        η > 0.
    convexity, smoothness
        λ ≤ λmin(∇²f) and β ≥ ‖∇²f‖ on a convex set that holds both curves.
    gradient_norm
        γ ≥ ‖∇f‖ at the iterates of GD.

    Raises
    ------
    ValueError
        If t < 0, η ≤ 0, β ≤ 0 or γ < 0.
    """
    checks.positive(step_size=step_size, smoothness=smoothness)
    checks.non_negative(gradient_norm=gradient_norm)
    return step_size * smoothness * gradient_norm * _elapsed(times, convexity)


def guaranteed_step_size(
    distance: float,
    *,
    times: Tensor | float,
    convexity: float,
    smoothness: float,
    gradient_norm: float,
) -> Tensor:
    """Return the η for which `convexity_bound` is `distance` at each time.

    λε/(βγ) in the limit t → ∞ for λ > 0; ε/(βγ t) for λ = 0; and |λ|ε/(βγ (e^{|λ|t} − 1)) for
    λ < 0, exponentially small in t.

    Raises
    ------
    ValueError
        If ε ≤ 0, t < 0, β ≤ 0 or γ ≤ 0.
    """
    checks.positive(distance=distance, smoothness=smoothness, gradient_norm=gradient_norm)
    return distance / (smoothness * gradient_norm * _elapsed(times, convexity))


def tube_step_size(
    distance: float, times: Tensor, smoothness: Tensor, gradient_norm: Tensor, rate: Tensor
) -> float:
    """Return η = ε / max_t ∫₀ᵗ exp(∫ₛᵗ m) β γ ds: GD then stays within ε of the flow.

    Parameters
    ----------
    distance
        ε > 0, the radius of the tube {q : ‖q − θ(t)‖ ≤ ε} around the flow.
    times
        Shape ``(T,)``, from the start to the horizon.
    smoothness, gradient_norm, rate
        On each cell [t_i, t_{i+1}], shape ``(T − 1,)``, or one number: β ≥ ‖∇²f‖, γ ≥ ‖∇f‖ and
        m ≥ −λmin(∇²f) on the part of the tube that belongs to it. A step in progress at time s
        started up to η earlier, so β and γ must also bound what was up to η before the cell;
        constants for the whole tube do.

    Raises
    ------
    ValueError
        If ε ≤ 0 or a shape does not fit.
    """
    checks.positive(distance=distance)
    smoothness, gradient_norm = torch.as_tensor(smoothness), torch.as_tensor(gradient_norm)
    return distance / float(fundamental_bound(times, smoothness * gradient_norm, rate).max())


def fewest_iterations(
    distance: Callable[[int], float], *, within: float, limit: int = 10_000_000
) -> int:
    """Return the smallest number K of steps with distance(K) ≤ `within`, by trial.

    Doubles K until it suffices and bisects then, so that K suffices and K − 1 does not. That is
    the smallest K if more steps never hurt; else it is one of several such K. A distance that
    is not finite does not suffice.

    Raises
    ------
    ValueError
        If within ≤ 0, or `limit` steps do not suffice.
    """
    checks.positive(within=within)
    checks.whole(1, limit=limit)
    failing, enough = 0, 1
    while not distance(enough) <= within:
        if enough >= limit:
            raise ValueError(f"limit = {limit}: so many steps do not keep the distance {within:g}")
        failing, enough = enough, min(2 * enough, limit)
    while enough - failing > 1:
        middle = (failing + enough) // 2
        if distance(middle) <= within:
            enough = middle
        else:
            failing = middle
    return enough


def _accumulate(growth: Tensor, gain: Tensor) -> Tensor:
    """Return B with B_0 = 0 and B_{i+1} = e^{growth_i} B_i + gain_i.

    Summed in logarithms, so that nothing overflows before the result does.
    """
    exponent = growth.cumsum(0)
    bound = torch.exp(exponent + torch.logcumsumexp(gain.log() - exponent, dim=0))
    return torch.cat([torch.zeros_like(bound[:1]), bound])


def _phi1(z: Tensor) -> Tensor:
    """(e^z − 1)/z, and 1 at z = 0."""
    return torch.where(z == 0, 1.0, torch.expm1(z) / torch.where(z == 0, 1.0, z))


def _phi2(z: Tensor) -> Tensor:
    """(e^z − 1 − z)/z², and ½ at z = 0; by its series where the quotient would cancel."""
    series = sum(z**k / math.factorial(k + 2) for k in range(10))
    apart = torch.where(z.abs() < 0.1, 1.0, z)
    return torch.where(z.abs() < 0.1, series, (torch.expm1(apart) - apart) / apart.square())


def _elapsed(times: Tensor | float, convexity: float) -> Tensor:
    """(1 − e^{−λt})/λ, and t at λ = 0: the time t, as errors that grow at rate −λ count it."""
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.isnan().any() or (times < 0).any():
        raise ValueError("times: must not be negative")
    checks.non_negative(**{"|convexity|": abs(convexity)})
    if convexity == 0:
        return times.clone()
    return -torch.expm1(-convexity * times) / convexity


def _times(times: Tensor) -> Tensor:
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.dim() != 1 or len(times) < 2 or (times.diff() <= 0).any():
        raise ValueError("times: give at least two increasing times, shape (T,)")
    return times


def _cells(count: int, **values: Tensor | float) -> list[Tensor]:
    """Return the values with `count` cells in front, of a common number of dimensions."""
    found = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    found = {name: v.expand(count) if v.dim() == 0 else v for name, v in found.items()}
    for name, value in found.items():
        if len(value) != count:
            raise ValueError(f"{name} has shape {tuple(value.shape)}: must start with {count}")
        if value.isnan().any():
            raise ValueError(f"{name}: has entries that are not numbers")
        if name != "rate" and (value < 0).any():
            raise ValueError(f"{name} = {float(value.min()):g}: must not be negative")
    dims = max(value.dim() for value in found.values())
    return [v.reshape(*v.shape, *[1] * (dims - v.dim())) for v in found.values()]
