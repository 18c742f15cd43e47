"""Gradient descent in floating-point arithmetic: what rounding does to the weights, and remedies.

A number of magnitude 2^e ≤ |x| < 2^(e+1) is held to a multiple of its spacing ω(x) = 2^(e+1−p),
with p = 24 bits in float32. A step θ ← θ − s, s = η∇f(θ), is rounded to such a multiple, whatever
the size of s. The update rules here are given to :func:`gfgd.descent.gradient_descent`. With
Ω = ‖ω(θ)‖, the errors that they make in k steps of size η, at the same time t = kη, are of order

==================== ============================== ===================================
rounding to nearest  Ω t/η                          the default, ``torch.sub``
stochastic rounding  Ω (t/η)^½, root mean square    :class:`StochasticRounding`
compensated          Ω, whatever the step size      :class:`CompensatedSum`
==================== ============================== ===================================

:func:`rounding_bounds` has the constants. Rounding of the gradient itself is another matter: its
effect does not grow as η shrinks. Float64 weights over float32 data show it alone
(:mod:`gfgd.networks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.bounds import fundamental_bound


def spacing(point: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return ω(x), the gap between |x| and the next larger number of `dtype`, entry by entry.

    Parameters
    ----------
    point
        x, any shape.
    dtype
        The precision that is asked about; the precision of `point` where None. Entries are
        rounded to it first.

    Examples
    --------
    >>> spacing(torch.tensor([1.0, 1.5, 2.0])) == 2.0 ** torch.tensor([-23, -23, -22])
    tensor([True, True, True])
    """
    held = point.to(dtype or point.dtype).abs()
    return (torch.nextafter(held, held.new_tensor(math.inf)) - held).to(point.dtype)


def quantised(point: Tensor, step: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return ω round(s/ω), ω = ω(θ) in `dtype`: the step that θ − s takes in that precision.

    This is exact where θ is a number of that precision, no ±2^e lies between θ and θ − s or is
    one of them, and s/ω is no half-integer (at such a tie floating-point numbers take the even
    neighbour of θ − s). It is 0, and θ stays where it is, where |s| < ω/2.

    Parameters
    ----------
    point, step
        θ and s, shapes that broadcast, in a precision higher than `dtype`.
    dtype
        The precision whose rounding is imitated.
    """
    quantum = spacing(point, dtype)
    return quantum * torch.round(step / quantum)


@dataclass(frozen=True)
class ImitatedRounding:
    """The update rule θ − r ω round(s/(rω)): a step of η does what r rounded steps of η/r do.

    As long as the gradient hardly changes, each of the r steps is rounded alike. In float64 this
    imitates a run at η/r in `dtype` for the cost of a run at η. That the imitation meets the run
    is evidence that nothing but the rounding of the updates sets it apart.

    Attributes
    ----------
    ratio
        r ≥ 1.
    dtype
        The precision that is imitated.
    """

    ratio: int
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        checks.whole(1, ratio=self.ratio)

    def __call__(self, point: Tensor, step: Tensor) -> Tensor:
        """Return the next point from θ and s = η∇f(θ)."""
        return point - self.ratio * quantised(point, step / self.ratio, self.dtype)


class CompensatedSum:
    """The update rule that remembers what rounding took, and adds it to the next step.

    With a carry c, at first 0: y = c − s, θ⁺ = fl(θ + y), c⁺ = (θ + y) − θ⁺. The last is
    computed without error (Knuth 1997, section 4.2.2, Theorem B), so that θ⁺ + c⁺ = θ + y
    exactly, and only y is rounded: by a 2⁻²⁴th part of itself in float32. This is Kahan's
    summation (1965). An instance serves one run.
    """

    def __init__(self) -> None:
        self.carry: Tensor | None = None

    def __call__(self, point: Tensor, step: Tensor) -> Tensor:
        """Return the next point from θ and s = η∇f(θ)."""
        addend = -step if self.carry is None else self.carry - step
        total, self.carry = two_sum(point, addend)
        return total


class StochasticRounding:
    """The update rule that rounds θ − s up or down at random, right on average.

    Of the two neighbours of θ − s the nearer one is taken with the higher probability, so that
    the expectation of the result is θ − s (up to the 24 bits of the random numbers) and its
    variance at most ω²/4. See Croci et al. (2022). Draws come from a generator of its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator: torch.Generator | None = None

    def __call__(self, point: Tensor, step: Tensor) -> Tensor:
        """Return the next point from θ and s = η∇f(θ)."""
        if self._generator is None:
            self._generator = torch.Generator(point.device).manual_seed(self.seed)
        nearest, rest = two_sum(point, -step)
        infinite = torch.full_like(rest, math.inf).copysign(rest)
        other = torch.nextafter(nearest, infinite)
        draws = torch.empty(nearest.shape, dtype=torch.float32, device=point.device).uniform_(
            generator=self._generator
        )
        return torch.where(draws < (rest / (other - nearest)), other, nearest)


class RelativeNoise:
    """The update rule θ − s + ε|θ|u, entry by entry, u uniform in [−1, 1]: a coarser arithmetic.

    Draws come from a generator of its own, so that an instance serves one run.
    """

    def __init__(self, size: float, seed: int) -> None:
        checks.positive(size=size)
        self.size = size
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, point: Tensor, step: Tensor) -> Tensor:
        """Return the next point from θ and s = η∇f(θ)."""
        draws = torch.rand(point.shape, generator=self._generator, dtype=torch.float64)
        return point - step + self.size * point.abs() * (2 * draws - 1).to(point)


def two_sum(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return fl(a + b) and its rounding error: the two add up to a + b exactly.

    Knuth 1997, section 4.2.2, Theorem B: six operations, in whatever order |a| and |b| are. The
    shapes are the same, and so are the precisions.
    """
    total = left + right
    kept = total - left
    return total, (left - (total - kept)) + (right - kept)


@dataclass(frozen=True, eq=False)
class RoundingBounds:
    """How far each way of rounding can take gradient descent from exact descent, at times t.

    Shape ``(T,)`` each. `nearest` and `compensated` bound the distance, `stochastic` the root of
    its expected square.
    """

    nearest: Tensor
    stochastic: Tensor
    compensated: Tensor


def rounding_bounds(
    times: Tensor,
    rate: Tensor | float,
    *,
    step_size: float,
    spacing_norm: float,
    smoothness: float,
    gradient_norm: float,
    unit_roundoff: float = 2.0**-24,
) -> RoundingBounds:
    """Return bounds on ‖θ̂_k − θ_k‖ at t = kη, where θ̂ is rounded and θ exact descent.

    With B(δ, m) = ∫₀ᵗ exp(∫ₛᵗ m) δ ds (:func:`gfgd.bounds.fundamental_bound`) they are

    * to nearest: B(Ω/(2η) + uγ, m);
    * stochastic: (B(Ω²/(4η), 2m))^½ + B(uγ, m);
    * compensated: B(βΩ/2 + 3uγ + uΩ/(2η), m) + Ω/2.

    At fixed t they grow like 1/η, like η^(−½), and not at all as long as uΩ/η is small. They take
    the gradient at θ̂ to be exact; an error of at most ν in each adds at most B(ν, m).

    Parameters
    ----------
    times
        t_0 = 0 < … < t_{T−1}, shape ``(T,)``.
    rate
        m ≥ 0 on each cell [t_i, t_{i+1}], shape ``(T − 1,)``, or one number: −m ≤ λmin(∇²f) on
        the segments from θ_k to θ̂_k and, for compensated sums, to θ̂_k plus its carry.
    step_size
        η > 0, η ≤ 2/β.
    spacing_norm
        Ω, a bound on ‖ω‖ at all states and at the results of steps before they are rounded.
    smoothness, gradient_norm
        β ≥ ‖∇²f‖ on those segments and on those from θ̂_k to θ̂_k plus its carry; γ ≥ ‖∇f(θ̂_k)‖.
    unit_roundoff
        u, half the spacing of 1: 2⁻²⁴ for float32.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(step_size=step_size, spacing_norm=spacing_norm, unit_roundoff=unit_roundoff)
    checks.non_negative(smoothness=smoothness, gradient_norm=gradient_norm)
    rate = torch.as_tensor(rate, dtype=torch.float64)
    if (rate < 0).any():
        raise ValueError(f"rate = {float(rate.min()):g}: must not be negative; give max(m, 0)")

    def accumulated(defect: float, rate: Tensor) -> Tensor:
        return fundamental_bound(times, torch.as_tensor(defect, dtype=torch.float64), rate)

    per_time = spacing_norm / (2 * step_size)
    steps = unit_roundoff * gradient_norm  # rounding of s = η∇f itself
    kept = smoothness * spacing_norm / 2 + 3 * steps + unit_roundoff * per_time
    return RoundingBounds(
        nearest=accumulated(per_time + steps, rate),
        stochastic=accumulated(spacing_norm * per_time / 2, 2 * rate).sqrt()
        + accumulated(steps, rate),
        compensated=accumulated(kept, rate) + spacing_norm / 2,
    )
