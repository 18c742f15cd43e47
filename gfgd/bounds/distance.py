"""Bounds on the distance between an exact flow and its Euler polygon, one function a theorem.

Everything here is a formula on numbers that the caller vouches for: a Lipschitz constant β, a
bound γ on the length of the field, a bound m on its logarithmic norm (for gradient flow
m = −λmin of the Hessian). The theorems hold where these hold: on the segments between the two
curves. Time has the unit of the step size η.
"""

from __future__ import annotations

import math

import torch
from scipy.special import lambertw
from torch import Tensor

from gfgd import checks


def fundamental_bound(times: Tensor, defect: Tensor | float, rate: Tensor | float) -> Tensor:
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


def euler_bound(
    step_size: float,
    smoothness: Tensor | float,
    field_norms: Tensor | float,
    rate: Tensor | float,
) -> Tensor:
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
    smoothness, field_norms, rate = _cells(_length(**given), **given)
    growth = rate * step_size
    return _accumulate(growth, smoothness * field_norms * step_size**2 * _phi2(growth))


def signed_bound(
    step_size: float,
    smoothness: Tensor | float,
    rate: Tensor | float,
    *,
    gradient_norm: Tensor | float,
) -> Tensor:
    """Return the signed formula at iterates 0 … K, shape ``(K + 1, ...)``: constants at the start.

    `euler_bound` with γ₀ Π_{j<k} (1 + ηm_j) for ‖∇f(θ_k)‖: where gradient descent moves through
    curvature of at least −m_j its gradient grows no faster than that. Hence the distance is at
    most ½ η γ₀ (Σ_j η β_j) exp(η Σ_j m_j + η max(0, −m)), whatever the signs of m; on ½λθ² the
    recursion is the distance, for every η ≤ 1/|λ|.

    Parameters
    ----------
    step_size
        η > 0.
    smoothness, rate
        For each step: β_j ≥ ‖∇²f‖ on the segment from θ_j to θ_{j+1}, and m_j ≥ −λmin(∇²f) on
        the segments between the iterates' polygon and the flow. Shapes ``(K, ...)`` that
        broadcast; one number does for one of them.
    gradient_norm
        γ₀ = ‖∇f(θ_0)‖, a number or shape ``(...)``.

    Raises
    ------
    ValueError
        If η ≤ 0, η (β_j − m_j) > 2 or β_j < −m_j in some step, a shape does not fit, or β or γ₀
        is negative.
    """
    checks.positive(step_size=step_size)
    given = {"smoothness": smoothness, "rate": rate}
    smoothness, rate = _cells(_length(**given), **given)
    _keeps_gradients(step_size, smoothness, -rate)
    factors = (1 + step_size * rate).clamp(min=0)  # negative by rounding only
    norms = torch.cat([torch.ones_like(factors[:1]), factors[:-1].cumprod(0)])
    return euler_bound(step_size, smoothness, norms * _start_norm(gradient_norm), rate)


def mean_of_ends(values: Tensor) -> Tensor:
    """Return the mean of the values at a cell's two ends, shape ``(T − 1, ...)``.

    By the trapezoid rule it stands for the mean over the cell, with an error of the order of the
    cell's width squared: a measurement, where the formulas here want an upper bound for a proof.
    """
    return (values[1:] + values[:-1]) / 2


def signed_coefficient(
    times: Tensor,
    smoothness: Tensor | float,
    rate: Tensor | float,
    *,
    gradient_norm: Tensor | float,
) -> Tensor:
    """Return ½ γ₀ (∫₀ᵗ β) exp(∫₀ᵗ m), which bounds the leading-order error, shape ``(T, ...)``.

    With β = ‖∇²f‖ and m = −λmin(∇²f) along gradient flow, of either sign, it bounds the length of
    the leading-order error u of :mod:`gfgd.bounds.leading_order`. The talk's η t exp(−∫λmin) is
    this with its constant, ½γ₀ times the mean of β.

    Parameters
    ----------
    times
        t_0 < … < t_{T−1}, shape ``(T,)``.
    smoothness, rate
        β and m on the cells [t_i, t_{i+1}], shapes ``(T − 1, ...)`` that broadcast, or one number
        for all: their means there, or upper bounds of those.
    gradient_norm
        γ₀ = ‖∇f(θ(t_0))‖, a number or shape ``(...)``.

    Raises
    ------
    ValueError
        If times do not increase, a shape does not fit, or β or γ₀ is negative.
    """
    times = _times(times)
    smoothness, rate = _cells(len(times) - 1, smoothness=smoothness, rate=rate)
    widths = times.diff().reshape(-1, *[1] * (rate.dim() - 1))
    # In logarithms: ∫m may exceed what exp can hold before β or γ₀ make the product small again.
    curved, grown = (widths * smoothness).cumsum(0), (widths * rate).cumsum(0)
    bound = 0.5 * torch.exp(grown + curved.log() + _start_norm(gradient_norm).log())
    return torch.cat([torch.zeros_like(bound[:1]), bound])


def signed_step_size(
    distance: float,
    times: Tensor,
    smoothness: float,
    rate: Tensor | float,
    *,
    gradient_norm: float,
) -> float:
    """Return the largest η for which the signed formula proves that GD stays within ε of the flow.

    It is the largest η with η (β + m₋) ≤ 2 and ½ η β γ₀ t exp(∫₀ᵗ m) e^{η m₋} ≤ ε for all t up to
    the horizon, m₋ = max(0, −min m); every smaller step size keeps the distance below ε. No bound
    on gradients is needed but the one at the start, γ₀ = ‖∇f(θ_0)‖, `gradient_norm`.

    Parameters
    ----------
    distance
        ε > 0, the radius of the tube {q : ‖q − θ(t)‖ ≤ ε for some t} around the flow.
    times
        Shape ``(T,)``, from the start to the horizon.
    smoothness
        β ≥ ‖∇²f‖ on the whole tube.
    rate
        m ≥ −λmin(∇²f) on the ball of radius ε around θ(t), for each cell of times, shape
        ``(T − 1,)``, or one number.

    Raises
    ------
    ValueError
        If ε ≤ 0, times do not increase, a shape does not fit, or β or γ₀ is negative.
    """
    checks.positive(distance=distance)
    checks.non_negative(smoothness=smoothness, gradient_norm=gradient_norm)
    times = _times(times)
    (rate,) = _cells(len(times) - 1, rate=rate)
    begin, end = times[:-1] - times[0], times[1:] - times[0]
    before = torch.cat([rate.new_zeros(1), (rate * times.diff()).cumsum(0)[:-1]])
    # t exp(∫m) is largest at an end of a cell, or inside at t = −1/m.
    peak = torch.where(rate < 0, -1 / rate, end).clamp(begin, end)
    grown = peak.log() + before + rate * (peak - begin)
    damping = max(0.0, -float(rate.min()))
    return _largest_step(
        distance, smoothness * gradient_norm, float(grown.max()), damping, smoothness
    )


def convexity_bound(
    times: Tensor | float,
    *,
    step_size: float,
    convexity: Tensor | float,
    smoothness: Tensor | float,
    gradient_norm: Tensor | float,
) -> Tensor:
    """Return ½ η β γ₀ t e^{−λt} e^{η max(λ, 0)}, the distance of GD from GF that λ allows.

    The signed formula for constants; all three cases of the talk: it decays for λ > 0 (strongly
    convex), grows like t for λ = 0 (convex) and like t e^{|λ|t} for λ < 0 (non-convex).

    Parameters
    ----------
    times
        t ≥ 0, any shape.
    step_size
        η > 0, with η (β + λ) ≤ 2.
    convexity, smoothness
        λ ≤ λmin(∇²f) and β ≥ ‖∇²f‖ on a convex set that holds both curves.
    gradient_norm
        γ₀ = ‖∇f(θ_0)‖. This and the two constants above broadcast with the times.

    Raises
    ------
    ValueError
        If t < 0, η ≤ 0, β ≤ 0, γ₀ < 0, λ > β or η (β + λ) > 2.
    """
    checks.positive(step_size=step_size)
    times = _elapsed(times)
    given = {"smoothness": smoothness, "gradient_norm": gradient_norm}
    smooth, start = (torch.as_tensor(value, dtype=torch.float64) for value in given.values())
    convexity = torch.as_tensor(convexity, dtype=torch.float64)
    checks.positive(smoothness=float(smooth.min()))
    checks.non_negative(gradient_norm=float(start.min()))
    _keeps_gradients(step_size, smooth, convexity)
    growth = torch.exp(step_size * convexity.clamp(min=0) - convexity * times)
    return 0.5 * step_size * smooth * start * times * growth


def guaranteed_step_size(
    distance: float,
    *,
    times: Tensor | float,
    convexity: float,
    smoothness: float,
    gradient_norm: float,
) -> Tensor:
    """Return, for each time t, the largest η for which `convexity_bound` is at most ε up to t.

    At least 2λε/(βγ₀) for λ > 0, whatever t; 2ε/(βγ₀ t) for λ = 0; 2ε e^{−|λ|t}/(βγ₀ t) for
    λ < 0, exponentially small in t; all of these as long as η (β + λ) ≤ 2.

    Parameters
    ----------
    distance
        ε > 0.
    times
        t ≥ 0, any shape; ``math.inf`` is allowed.
    convexity, smoothness, gradient_norm
        λ, β and γ₀ as for `convexity_bound`, numbers.

    Raises
    ------
    ValueError
        If ε ≤ 0, t < 0, β ≤ 0 or γ₀ ≤ 0.
    """
    checks.positive(distance=distance, smoothness=smoothness, gradient_norm=gradient_norm)
    checks.non_negative(**{"|convexity|": abs(convexity)})
    times, damping = _elapsed(times), max(0.0, convexity)
    # From t = 1/λ on nothing more is asked: t e^{−λt} is largest there.
    peak = times.clamp(max=1 / convexity) if convexity > 0 else times
    log_peak = peak.log() - (convexity * peak if convexity else 0)  # 0 · ∞ is no number
    grown = log_peak.reshape(-1).tolist()
    factor = smoothness * gradient_norm
    sizes = [_largest_step(distance, factor, value, damping, smoothness) for value in grown]
    return torch.tensor(sizes, dtype=torch.float64).reshape(times.shape)


def tube_step_size(
    distance: float,
    times: Tensor,
    smoothness: Tensor | float,
    gradient_norm: Tensor | float,
    rate: Tensor | float,
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

    Returns
    -------
    float
        η; infinite where βγ = 0, because GD and the flow then draw the same straight line.

    Raises
    ------
    ValueError
        If ε ≤ 0 or a shape does not fit.
    """
    checks.positive(distance=distance)
    smoothness = torch.as_tensor(smoothness, dtype=torch.float64)
    gradient_norm = torch.as_tensor(gradient_norm, dtype=torch.float64)
    largest = float(fundamental_bound(times, smoothness * gradient_norm, rate).max())
    return distance / largest if largest > 0 else math.inf


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


def _largest_step(
    distance: float, factor: float, log_growth: float, damping: float, smoothness: float
) -> float:
    """Return the largest η ≤ 2/(β + m₋) with ½ η βγ₀ e^{log_growth} e^{η m₋} ≤ ε.

    `factor` is βγ₀ and `damping` is m₋. η e^{η m₋} = c has the solution W(c m₋)/m₋ with
    Lambert's function W, and c for m₋ = 0.
    """
    limit = 2 / (smoothness + damping) if smoothness + damping > 0 else math.inf
    if factor == 0 or log_growth == -math.inf:
        return limit
    log_c = math.log(2 * distance / factor) - log_growth
    if log_c > 700:  # e^{log_c} would overflow; the limit is far below
        return limit
    c = math.exp(log_c)
    return min(float(lambertw(c * damping).real) / damping if damping > 0 else c, limit)


def _keeps_gradients(step_size: float, smoothness: Tensor, convexity: Tensor) -> None:
    """Raise unless λ ≤ β and η (β + λ) ≤ 2, whence ‖I − ηH‖ ≤ 1 − ηλ."""
    if (convexity > smoothness * (1 + 1e-9)).any():
        raise ValueError("smoothness: λmin ≤ ‖∇²f‖, so it must be at least λ = −m everywhere")
    widest = float((smoothness + convexity).max())
    if step_size * widest > 2 * (1 + 1e-12):
        raise ValueError(
            f"step_size = {step_size:g}: must be at most 2/(β + λ) = {2 / widest:g}, λ = −m; "
            "gradients may grow faster in longer steps than λ says"
        )


def _start_norm(gradient_norm: Tensor | float) -> Tensor:
    """Return γ₀ as a tensor that broadcasts with cells of shape ``(N, ...)``."""
    found = torch.as_tensor(gradient_norm, dtype=torch.float64)
    if found.isnan().any() or (found < 0).any():
        raise ValueError("gradient_norm: must not be negative")
    return found


def _elapsed(times: Tensor | float) -> Tensor:
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.isnan().any() or (times < 0).any():
        raise ValueError("times: must not be negative")
    return times


def _times(times: Tensor) -> Tensor:
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.dim() != 1 or len(times) < 2 or (times.diff() <= 0).any():
        raise ValueError("times: give at least two increasing times, shape (T,)")
    return times


def _length(**values: Tensor | float) -> int:
    """Return K, where one of the values has shape ``(K, ...)``."""
    lengths = [len(v) for v in values.values() if isinstance(v, Tensor) and v.dim()]
    if not lengths:
        raise ValueError(f"{', '.join(values)}: one of them must have shape (K, ...)")
    return max(lengths)


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
