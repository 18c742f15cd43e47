"""The slope of the loss along a polynomial path of the outputs, with its error enclosed.

For each loss: the gradient P with respect to the outputs Z, shape ``(N, K)`` (a sample a row,
not divided by N), as float64 numbers, as the coefficients of a Taylor model, and how far what is
computed may be from the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gfgd.verified.directed import UNIT, Upper, exponential, gamma, norm

#: More than what underflow can take from the sums of `softmax_error`: fewer than 10⁷ operations
#: lose 2⁻¹⁰²² each, and no factor after them exceeds 10¹⁰ (3.01 ζ is limited for that).
LOST = 1e-280


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """ℓ(z, y) = −log softmax(z)_y: slope softmax(z) − e_y, with 0 ⪯ ∇²ℓ ⪯ ½ (Gershgorin).

    `onehot` has e_y as rows, shape ``(N, K)``.
    """

    onehot: np.ndarray
    #: ∇²ℓ ⪯ ½: diag(p) − ppᵀ has row sums of absolute values 2p_j(1 − p_j) ≤ ½.
    curvature = 0.5

    def slope(self, outputs: np.ndarray) -> np.ndarray:
        """Return softmax(Z) − Y, by the library's enclosed exponential."""
        shares, _ = _softmax(outputs)
        return shares - self.onehot

    def slope_error(self, span: float) -> Upper:
        """Return a bound of the error of `slope` where no row of Z spans more than `span`."""
        samples, classes = self.onehot.shape
        _, relative = exponential(np.array([span]))
        row = _softmax_row_error(relative, span, classes) + 3 * UNIT
        return row * math.ceil(math.sqrt(samples))

    def slope_size(self, outputs: Upper) -> Upper:
        """Return a bound of ‖P‖_F: each row of softmax − e_y is at most √2 long."""
        return Upper(2.0 * len(self.onehot)).sqrt()

    def slope_series(self, degree: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from Z_0, Z_1, … in turn to the coefficients of P, in float64."""
        series = SoftmaxSeries(degree, *self.onehot.shape)
        first = [self.onehot]
        return lambda outputs: series.append(outputs) - (first.pop() if first else 0.0)

    def slope_model(self, outputs: np.ndarray) -> tuple[np.ndarray, Upper] | None:
        """Return coefficients of P along Σ Z_k τᵏ, and a bound of sup ‖error‖_F, or None.

        The degree is that of the path, ``(k + 1, N, K)``. None where the path is too long for
        the proof of :func:`softmax_error`.
        """
        coefficients = softmax_coefficients(outputs)
        error = softmax_error(outputs, coefficients)
        if error is None:
            return None
        coefficients[0] -= self.onehot
        return coefficients, error + UNIT * norm(coefficients[0])


@dataclass(frozen=True, eq=False)
class HalfSquaredError:
    """ℓ(z, y) = ½‖z − y‖²: slope z − y, ∇²ℓ = 1; `wanted` has the y as rows, ``(N, K)``."""

    wanted: np.ndarray
    curvature = 1.0

    def slope(self, outputs: np.ndarray) -> np.ndarray:
        """Return Z − Y."""
        return outputs - self.wanted

    def slope_error(self, span: float) -> Upper:
        """Return a bound of the rounding of `slope`, where |z| ≤ `span`."""
        largest = Upper(span) * math.ceil(math.sqrt(self.wanted.size)) + norm(self.wanted)
        return largest * (2 * UNIT)

    def slope_size(self, outputs: Upper) -> Upper:
        """Return a bound of ‖P‖_F where ‖Z‖_F ≤ `outputs`."""
        return outputs + norm(self.wanted)

    def slope_series(self, degree: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from Z_0, Z_1, … in turn to the coefficients of P, in float64."""
        first = [self.wanted]
        return lambda outputs: outputs - (first.pop() if first else 0.0)

    def slope_model(self, outputs: np.ndarray) -> tuple[np.ndarray, Upper]:
        """Return the coefficients of P along Σ Z_k τᵏ, and a bound of their rounding."""
        coefficients = outputs.copy()
        coefficients[0] -= self.wanted
        return coefficients, norm(coefficients[0]) * UNIT


Loss = CrossEntropy | HalfSquaredError


def _softmax(outputs: np.ndarray) -> tuple[np.ndarray, Upper]:
    """Return softmax of the rows in float64, and the relative error of its exponentials."""
    powers, relative = exponential(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True), relative


def _logit_error(relative: Upper, spread: float) -> Upper:
    """Return a bound of |ε_j| where the computed exponentials are exactly exp(z_j − max z + ε_j).

    |log(1 + δ)| ≤ δ + δ² for δ ≤ ½, and z − max z was rounded.
    """
    return relative * (1 + relative) + UNIT * Upper(spread)


def _softmax_row_error(relative: Upper, spread: float, classes: int) -> Upper:
    """Return a bound of ‖computed − true softmax‖₂ of a row.

    Dividing by the sum rounds by γ_{K+1}, relative to entries that sum to 1; softmax is
    ½-Lipschitz in the logits, whose error is at most √K max |ε_j|.
    """
    half = _logit_error(relative, spread) * Upper(classes).sqrt() * 0.5
    return gamma(classes + 3) + half


class SoftmaxSeries:
    """Taylor coefficients of softmax along a path whose coefficients come one after the other.

    From q' = q ∘ (Z' − ⟨q, Z'⟩), in float64: only a candidate, which `softmax_error` checks.
    """

    def __init__(self, degree: int, samples: int, classes: int) -> None:
        self.shares = np.zeros((degree + 1, samples, classes))
        self._slopes = np.zeros((degree, samples, classes))
        self._means = np.zeros((degree, samples, 1))
        self._known = 0

    def append(self, outputs: np.ndarray) -> np.ndarray:
        """Return q_k for the next coefficient Z_k, shape ``(N, K)``."""
        q, k = self.shares, self._known
        self._known += 1
        if k == 0:
            q[0], _ = _softmax(outputs)
            return q[0]
        self._slopes[k - 1] = k * outputs
        turned = np.einsum("inc,inc->nc", q[:k], self._slopes[k - 1 :: -1])
        self._means[k - 1] = turned.sum(1, keepdims=True)
        q[k] = (turned - np.einsum("inc,inz->nc", q[:k], self._means[k - 1 :: -1])) / k
        return q[k]


def softmax_coefficients(outputs: np.ndarray) -> np.ndarray:
    """Return Taylor coefficients of softmax(Σ Z_k τᵏ), of the same degree, in float64."""
    series = SoftmaxSeries(len(outputs) - 1, *outputs.shape[1:])
    for coefficient in outputs:
        series.append(coefficient)
    return series.shares


def softmax_error(outputs: np.ndarray, candidate: np.ndarray) -> Upper | None:
    """Return a bound of sup ‖softmax(Σ Z_k τᵏ) − Σ q_k τᵏ‖_F over 0 ≤ τ ≤ 1, or None.

    Lemma (per sample, 1-norms). Centre the logits by a common polynomial, and let
    ζ = max_j |Z_j'|, ϱ = q' − q ∘ (Z' − ⟨q, Z'⟩), p̃ = softmax(Z + ε) with constant ε and
    ‖q(0) − p̃(0)‖₁ ≤ s. If d = exp(3.01 ∫ζ) (s + ∫‖ϱ‖₁) < 0.01 then ‖q − p̃‖₁ ≤ d, since the two
    right sides differ by at most ζ (2 + ‖q‖₁) ‖q − p̃‖₁ (Gronwall, and continuity for
    ‖q‖₁ ≤ 1.01). So ‖q − softmax(Z)‖ ≤ d + ½‖ε‖. None where d is 0.01 or more.
    """
    classes = outputs.shape[2]
    shares, relative = _softmax(outputs[0])
    spread = float(np.ptp(outputs[0], axis=1).max())
    logits = _logit_error(relative, spread) * Upper(classes).sqrt() * 0.5
    started = np.abs(candidate[0] - shares).sum(1) + float(gamma(classes + 3))
    if len(outputs) == len(candidate) == 1:
        return norm(started) * (1 + 2 * gamma(classes)) + logits * Upper(len(shares)).sqrt()
    # Centred: the slopes' middle over the classes is a polynomial common to all of them.
    rising = outputs[1:]
    rising = rising - 0.5 * (rising.max(2, keepdims=True) + rising.min(2, keepdims=True))
    stretch = np.abs(rising).max(2).sum(0)  # ≥ ∫₀¹ ζ
    if not stretch.max() <= 7:
        return None
    defect = _softmax_defect(rising * np.arange(1, len(outputs))[:, None, None], candidate)
    growth, growth_error = exponential(3.02 * stretch)  # 3.02: `stretch` itself was rounded
    # All arrays here are sums and products of nonnegative numbers, so their own rounding is
    # relative: fewer than `path` roundings lead to any of them.
    path = 4 * (len(outputs) + len(candidate) + classes) + 100
    inflated = (1 + growth_error) * (1 + 2 * gamma(path))
    distance = growth * (started + defect) + LOST
    if not float(distance.max()) * inflated < 0.01:
        return None
    return norm(distance) * inflated + logits * Upper(len(shares)).sqrt()


def _softmax_defect(slopes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return bounds of ∫₀¹ ‖q' − q ∘ (Z' − ⟨q, Z'⟩)‖₁ for each sample, shape ``(N,)``.

    `slopes` are the coefficients of Z', centred, each rounded twice. Degrees up to L + 4 are
    computed, L that of q; those above are bounded by absolute values. ∫τᵏ = 1/(k + 1).
    """
    degree, rises = len(q) - 1, len(slopes)
    samples, classes = q.shape[1:]
    turned = np.zeros((degree + rises, samples, classes))  # q ∘ Z'
    for i in range(degree + 1):
        turned[i : i + rises] += q[i] * slopes
    mean = turned.sum(2, keepdims=True)  # ⟨q, Z'⟩
    last = min(degree + 4, 2 * degree + rises - 1)
    left = np.zeros((last + 1, samples, classes))
    for i in range(degree + 1):
        count = min(len(mean), last + 1 - i)
        left[i : i + count] += q[i] * mean[:count]
    count = min(len(turned), last + 1)
    left[:count] -= turned[:count]
    left[:degree] += q[1:] * np.arange(1, degree + 1)[:, None, None]
    weights = 1.0 / np.arange(1, last + 2)
    size = (np.abs(left).sum(2) * weights[:, None]).sum(0)
    size += np.abs(turned[count:]).sum((0, 2)) / (count + 1)
    size += products_above(np.abs(q).sum(2), np.abs(mean[:, :, 0]), last) / (last + 2)
    # Rounding: at most 2L + K + 6 operations lead from q and Z' to any coefficient of `left`.
    share, slope = np.abs(q).sum(0), np.abs(slopes).sum(0)
    rate = (np.abs(q) * np.arange(degree + 1)[:, None, None]).sum(0)
    absolute = rate + share * (slope + (share * slope).sum(1, keepdims=True))
    return size + float(gamma(3 * degree + classes + 20)) * absolute.sum(1)


def products_above(first: np.ndarray, second: np.ndarray, last: int) -> np.ndarray:
    """Return Σ_{i+j>last} first_i second_j, over the first axes."""
    after = np.cumsum(second[::-1], 0)[::-1]  # after[j] = Σ_{l ≥ j} second_l
    tail = np.zeros(first.shape[1:])
    for i in range(len(first)):
        j = max(0, last + 1 - i)
        if j < len(after):
            tail += first[i] * after[j]
    return tail
