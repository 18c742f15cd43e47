"""Smooth activations in float64 and along polynomial paths, with every error enclosed.

For tanh and softplus: σ, σ' and σ'' of an array Z entry by entry, as float64 numbers, as Taylor
models along a path of Z, and how far what is computed may be from the truth. All of it rests on the
logistic function s(z) = 1/(1 + e^{−z}), which solves s' = s(1 − s) z' along a path, and on
:func:`~gfgd.verified.directed.exponential`:

* tanh z = 2s(2z) − 1, σ' = 1 − σ², σ'' = −2σσ';
* softplus z = log(1 + eᶻ), σ' = s, σ'' = s − s².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gfgd.verified.directed import UNDERFLOW, UNIT, Upper, exponential, gamma, norm
from gfgd.verified.linear_network import PathTooLongError
from gfgd.verified.losses import LOST, products_above
from gfgd.verified.taylor_models import TaylorModel

#: σ, σ' and σ'' of the same argument: arrays, models or sizes.
Three = tuple[Any, Any, Any]


class SmoothActivation(Protocol):
    """σ with |σ'| ≤ 1, |σ''| ≤ `bend` and a third derivative of at most `third` everywhere."""

    @property
    def bend(self) -> float:
        """A bound of |σ''|."""
        ...

    @property
    def third(self) -> float:
        """A bound of the third derivative."""
        ...

    def values(self, z: np.ndarray) -> Three:
        """Return σ, σ' and σ'' in float64."""
        ...

    def errors(self, largest: float) -> tuple[Upper, Upper, Upper]:
        """Return bounds of the error of an entry of `values` where |z| ≤ `largest`."""
        ...

    def models(self, z: TaylorModel) -> Three:
        """Return models of σ, σ' and σ'' along the path."""
        ...

    def size(self, z: Upper, entries: int) -> Upper:
        """Return a bound of ‖σ(Z)‖_F from ‖Z‖_F and the number of entries."""
        ...

    def series(self, degree: int, shape: tuple[int, int]) -> ActivationSeries:
        """Return what takes Z_0, Z_1, … in turn to the coefficients of the three."""
        ...


# ------------------------------------------------------------------------------ at given numbers


def logistic(z: np.ndarray) -> tuple[np.ndarray, Upper]:
    """Return float64 numbers near s(z) = 1/(1 + e^{−z}), and a bound of the error of each.

    s(|z|) = 1/(1 + e) and s(−|z|) = e/(1 + e), e = e^{−|z|}, have the derivative ± e/(1 + e)² in
    log e, which is at most ¼. A relative error r ≤ ½ of e is one of log e of at most r(1 + r). The
    other operations round by γ₄, and s ≤ 1.
    """
    powers, relative = exponential(-np.abs(z))
    values = np.where(z >= 0, 1.0, powers) / (1.0 + powers)
    return values, relative * 0.25 * (1 + relative) + gamma(4) + UNDERFLOW


def log_one_plus_exp(z: np.ndarray) -> tuple[np.ndarray, Upper]:
    """Return float64 numbers near log(1 + eᶻ) = max(z, 0) + log(1 + e^{−|z|}), and a bound.

    With e = e^{−|z|} and w = e/(2 + e) ≤ ⅓, log(1 + e) = 2 Σ_{i≥0} w^{2i+1}/(2i + 1). Terms from
    i = 17 on are below 2·3^{−35}/35 · 9/8 < 2e-18. The sum by Horner's rule has positive terms
    only: it rounds by at most γ₈₀ log 2. A relative error r of e moves log(1 + e) by at most r.
    The last sum rounds by u max(z + log 2).
    """
    powers, relative = exponential(-np.abs(z))
    w = powers / (2.0 + powers)
    square = w * w
    tail = np.full_like(z, 1 / 33)
    for i in range(15, -1, -1):
        tail = 1 / (2 * i + 1) + square * tail
    values = np.maximum(z, 0.0) + 2.0 * w * tail
    largest = Upper(float(np.abs(z).max(initial=0.0))) + 1
    return values, relative + gamma(80) * 0.7 + 2e-18 + UNIT * largest + UNDERFLOW * 80


# -------------------------------------------------------------------------------- along a path


def logistic_coefficients(z: np.ndarray) -> np.ndarray:
    """Return Taylor coefficients of s(Σ Z_k τᵏ), of the same degree: s' = (s − s²) z'.

    In float64; only a candidate, which `logistic_error` checks.
    """
    s, g = np.zeros_like(z), np.zeros_like(z)  # g = s − s²
    slopes = np.arange(len(z)).reshape(-1, *[1] * (z.ndim - 1)) * z
    for k in range(len(z)):
        if k == 0:
            s[0], _ = logistic(z[0])
        else:
            s[k] = (g[:k] * slopes[k:0:-1]).sum(0) / k
        g[k] = s[k] - (s[: k + 1] * s[k::-1]).sum(0)
    return s


def logistic_error(z: np.ndarray, candidate: np.ndarray) -> Upper:
    """Return a bound of sup ‖s(Σ Z_k τᵏ) − Σ q_k τᵏ‖_F over 0 ≤ τ ≤ 1.

    Lemma (for each entry). Let ϱ = q' − (q − q²) Z', ζ ≥ |Z'|, and |q(0) − s(Z(0))| ≤ e₀. If
    d = exp(1.01 ∫ζ) (e₀ + ∫|ϱ|) < 0.01 then |q − s(Z)| ≤ d.

    Proof. e = q − s has e' = ϱ + e (1 − 2s − e) Z' and |1 − 2s| ≤ 1, so |e| grows at most at the
    rate |ϱ| + ζ (1 + |e|)|e|; by Gronwall's inequality it is at most d while it is below 0.01, and
    by continuity it stays there.

    Raises
    ------
    PathTooLongError
        If d is 0.01 or more for an entry.
    """
    values, wrong = logistic(z[0])
    started = np.abs(candidate[0] - values) + float(wrong)
    if len(z) == len(candidate) == 1:
        return norm(started) * (1 + 2 * UNIT)
    stretch = np.abs(z[1:]).sum(0)  # ≥ ∫ζ, up to its rounding
    if not stretch.max(initial=0.0) <= 7:
        raise PathTooLongError
    growth, growth_error = exponential(1.02 * stretch)  # 1.02 covers the rounding of `stretch`
    defect = logistic_defect(z[1:] * np.arange(1, len(z))[:, None, None], candidate)
    distance = growth * (started + defect) + LOST
    # Sums and products of nonnegative numbers: fewer than this many roundings lead to any of them.
    inflated = (1 + growth_error) * (1 + 2 * gamma(4 * (len(z) + len(candidate)) + 100))
    if not float(distance.max(initial=0.0)) * inflated < 0.01:
        raise PathTooLongError
    return norm(distance) * inflated


def logistic_defect(slopes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return bounds of ∫₀¹ |q' − (q − q²) Z'| for each entry.

    `slopes` are the coefficients of Z', each rounded once. Degrees up to L + 4 are computed, L that
    of q; those above are bounded by absolute values. ∫τᵏ = 1/(k + 1).
    """
    degree, rises = len(q) - 1, len(slopes)
    bent = np.zeros((2 * degree + 1, *q.shape[1:]))  # q − q²
    bent[: degree + 1] = q
    for i in range(degree + 1):
        bent[i : i + degree + 1] -= q[i] * q
    last = min(degree + 4, len(bent) + rises - 2)
    left = np.zeros((last + 1, *q.shape[1:]))
    for i in range(rises):
        count = min(len(bent), last + 1 - i)
        if count > 0:
            left[i : i + count] -= slopes[i] * bent[:count]
    left[:degree] += q[1:] * np.arange(1, degree + 1)[:, None, None]
    size = (np.abs(left) / np.arange(1, last + 2)[:, None, None]).sum(0)
    size += products_above(np.abs(slopes), np.abs(bent), last) / (last + 2)
    # Rounding: fewer than 3L + 20 operations lead from q and Z' to any coefficient of `left`.
    share, slope = np.abs(q).sum(0), np.abs(slopes).sum(0)
    rate = (np.abs(q) * np.arange(degree + 1)[:, None, None]).sum(0)
    return size + float(gamma(3 * degree + rises + 20)) * (rate + (share + share * share) * slope)


def logistic_model(z: TaylorModel) -> TaylorModel:
    """Return a model of s along the path; |s'| ≤ ¼ carries the remainder."""
    padded = _padded(z)
    candidate = logistic_coefficients(padded)
    error = logistic_error(padded, candidate) + 0.25 * z.remainder
    return TaylorModel(candidate, error, z.order)


def _padded(z: TaylorModel) -> np.ndarray:
    """Return z's coefficients up to its order, zeros where there are none."""
    return np.concatenate(
        [z.coefficients, np.zeros((z.order + 1 - len(z.coefficients), *z.coefficients.shape[1:]))]
    )


def _affine(part: TaylorModel, constant: float, factor: float) -> TaylorModel:
    """Return a model of constant + factor F, `factor` ±1 or ±2, which rounds nothing."""
    coefficients = factor * part.coefficients
    coefficients[0] += constant
    rounding = UNIT * norm(coefficients[0])
    return TaylorModel(coefficients, part.remainder * abs(factor) + rounding, part.order)


# ------------------------------------------------------------------------------- the activations


@dataclass(frozen=True)
class Tanh:
    """σ = tanh: |σ''| ≤ 4/(3√3), where σ² = ⅓, and |σ'''| = |σ'(6σ² − 2)| ≤ 2, at 0."""

    bend: float = 0.7699
    third: float = 2.0

    def values(self, z: np.ndarray) -> Three:
        """Return σ = 2s(2z) − 1, σ' = 1 − σ² and σ'' = −2σσ' in float64."""
        shares, _ = logistic(2.0 * z)
        value = 2.0 * shares - 1.0
        slope = 1.0 - value * value
        return value, slope, -2.0 * value * slope

    def errors(self, largest: float) -> tuple[Upper, Upper, Upper]:
        """Return bounds of the errors; all three are at most 2 and Lipschitz in σ on [−1, 1]."""
        _, wrong = logistic(np.array([-2.0 * largest]))
        value = wrong * 2 + UNIT
        slope = value * (value + 2) + gamma(3)
        # |xy − x'y'| ≤ |x − x'||y| + |y − y'||x'| for σ and σ', both of size ≤ 1 + their errors.
        bent = (value * (slope + 1) + slope * (value + 1)) * 2 + gamma(6)
        return value, slope, bent

    def models(self, z: TaylorModel) -> Three:
        """Return models of σ, σ', σ''."""
        twice = TaylorModel(2.0 * z.coefficients, z.remainder * 2, z.order)
        value = _affine(logistic_model(twice), -1.0, 2.0)
        slope = _affine(value * value, 1.0, -1.0)
        return value, slope, _affine(value * slope, 0.0, -2.0)

    def size(self, z: Upper, entries: int) -> Upper:
        """Return min(‖Z‖_F, √entries)."""
        return min(z, Upper(entries).sqrt())

    def series(self, degree: int, shape: tuple[int, int]) -> ActivationSeries:
        """Return the series of σ' = 1 − σ² and σ'' = −2σσ'."""

        def curve(series: ActivationSeries, k: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if k == 0:
                series.value[0], _, _ = self.values(z)
            else:
                series.value[k] = series.integrated()
            series.slope[k] = (k == 0) - folded(series.value, series.value, k)
            return series.slope[k], -2.0 * folded(series.value, series.slope, k)

        return ActivationSeries(degree, shape, curve)


@dataclass(frozen=True)
class Softplus:
    """σ = log(1 + eᶻ): |σ''| = s(1 − s) ≤ ¼, |σ'''| = s(1 − s)|1 − 2s| ≤ 1/(6√3)."""

    bend: float = 0.25
    third: float = 0.0963

    def values(self, z: np.ndarray) -> Three:
        """Return σ, σ' = s and σ'' = s − s² in float64."""
        value, _ = log_one_plus_exp(z)
        slope, _ = logistic(z)
        return value, slope, slope - slope * slope

    def errors(self, largest: float) -> tuple[Upper, Upper, Upper]:
        """Return bounds of the errors."""
        _, value = log_one_plus_exp(np.array([-largest]))
        _, slope = logistic(np.array([-largest]))
        return value, slope, slope * (1 + slope) + gamma(3)  # |1 − 2s| ≤ 1

    def models(self, z: TaylorModel) -> Three:
        """Return models of σ, σ', σ''. Along the polynomial Z, σ = σ(Z(0)) + ∫ s Z'.

        The remainder of s along the polynomial is carried by ∫|Z'|, and σ is 1-Lipschitz in what Z
        itself may be off.
        """
        exact = TaylorModel(z.coefficients, Upper(0.0), z.order)
        shares = logistic_model(exact)
        value = self._integrated(exact, shares, z.remainder)
        slope = TaylorModel(shares.coefficients, shares.remainder + 0.25 * z.remainder, z.order)
        return value, slope, slope.plus((slope * slope).scaled(-1.0))

    def _integrated(self, z: TaylorModel, shares: TaylorModel, carried: Upper) -> TaylorModel:
        start, wrong = log_one_plus_exp(z.coefficients[0])
        coefficients = np.zeros((z.order + 1, *start.shape))
        coefficients[0] = start
        remainder = carried + wrong * Upper(start.size).sqrt()
        if len(z.coefficients) > 1:
            steps = np.arange(1, len(z.coefficients))[:, None, None]
            rise = TaylorModel(z.coefficients[1:] * steps, Upper(0.0), z.order)
            moved = shares * rise
            powers = np.arange(1, len(moved.coefficients) + 1)[:, None, None]
            whole = moved.coefficients / powers
            coefficients[1:] = whole[:-1]
            # The last degree has no place; the rises and the quotients are rounded once each.
            remainder = remainder + moved.remainder + norm(whole[-1])
            remainder = remainder + gamma(4) * shares.frobenius * rise.largest
            remainder = remainder + UNDERFLOW * coefficients.size
        return TaylorModel(coefficients, remainder, z.order)

    def size(self, z: Upper, entries: int) -> Upper:
        """Return ‖Z‖_F + √entries log 2: softplus z ≤ |z| + log 2."""
        return z + Upper(entries).sqrt() * 0.7

    def series(self, degree: int, shape: tuple[int, int]) -> ActivationSeries:
        """Return the series of σ' = s, s' = (s − s²)Z'."""
        bends = np.zeros((degree + 1, *shape))

        def curve(series: ActivationSeries, k: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if k == 0:
                series.value[0], series.slope[0], _ = self.values(z)
            else:
                series.value[k] = series.integrated()
                series.slope[k] = (bends[:k] * series.rises[k - 1 :: -1]).sum(0) / k
            bends[k] = series.slope[k] - folded(series.slope, series.slope, k)
            return series.slope[k], bends[k]

        return ActivationSeries(degree, shape, curve)


class ActivationSeries:
    """Taylor coefficients of σ, σ', σ'' along a path whose coefficients come one by one.

    In float64, not verified. `rises` are the coefficients of Z'; `curve` computes those of σ, and
    returns those of σ' and σ'', from what is there.
    """

    def __init__(self, degree: int, shape: tuple[int, int], curve: Curve) -> None:
        self.value = np.zeros((degree + 1, *shape))
        self.slope = np.zeros((degree + 1, *shape))
        self.rises = np.zeros((degree + 1, *shape))
        self._curve = curve
        self._count = 0

    def append(self, z: np.ndarray) -> Three:
        """Return the next coefficients of the three, from the next one of Z."""
        k = self._count
        if k:
            self.rises[k - 1] = k * z
        self._count += 1
        slope, bend = self._curve(self, k, z)
        return self.value[k], slope, bend

    def integrated(self) -> np.ndarray:
        """Return the next coefficient of ∫ σ' Z'."""
        k = self._count - 1
        return (self.slope[:k] * self.rises[k - 1 :: -1]).sum(0) / k


Curve = Callable[[ActivationSeries, int, np.ndarray], tuple[np.ndarray, np.ndarray]]


def folded(left: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Return Σ_{i+j=k} A_i ∘ B_j."""
    return np.einsum("inc,inc->nc", left[: k + 1], right[k::-1])


#: By the name of the network's activation.
SMOOTH: dict[str, SmoothActivation] = {"tanh": Tanh(), "softplus": Softplus()}
