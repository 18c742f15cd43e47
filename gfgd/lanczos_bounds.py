"""How far beyond what Lanczos found an eigenvalue can lie: bounds that hold with a probability.

Krylov methods see a symmetric matrix A from inside: every Ritz value lies between A's smallest and
largest eigenvalue. Nothing computed from products alone bounds the spectrum from outside with
certainty, since a start that is orthogonal to an eigenvector never shows it. A *random* start
hardly ever is, and that gives the bounds of this module.

**Theorem** (van Dorsselaer, Hochstenbach & van der Vorst 2000, here with all polynomials in place
of the last). Let q_1, q_2, … be the Lanczos vectors of A from a start s = ‖s‖ q_1, with
coefficients α_j, β_j, and let p_0 = 1, β_j p_j(x) = (x − α_j) p_{j−1}(x) − β_{j−1} p_{j−2}(x):
then q_{j+1} = p_j(A) q_1. Let u be a unit eigenvector of A with eigenvalue μ. Then

    ⟨u, q_1⟩² · Σ_{j=0}^{k} p_j(μ)² ≤ 1.

*Proof.* ⟨u, q_{j+1}⟩ = ⟨u, p_j(A) q_1⟩ = p_j(μ) ⟨u, q_1⟩, and Σ_j ⟨u, q_{j+1}⟩² ≤ ‖u‖² = 1, because
the q_j are orthonormal (Bessel). ∎

Above the largest zero of p_k, which is the largest Ritz value, the sum increases in μ, without
bound. So if ⟨u, q_1⟩² ≥ w for a unit eigenvector u of the largest eigenvalue, that eigenvalue is at
most the μ at which the sum reaches 1/w. For a Gaussian start s in R^n, ⟨u, s⟩ is a standard normal
number, hence |⟨u, s⟩| ≥ z with probability 1 − δ, where P(|N(0, 1)| < z) = δ; and w = z²/‖s‖². The
probability is that of one draw: k may be chosen after looking.

*Deflation.* Let V hold orthonormal columns, M = VᵀHV, R = HV − VM, and let A be H restricted to the
complement of V. If A ⪰ μ_A then, for every μ < μ_A, H has at most as many eigenvalues below μ as

    M − μI − RᵀR/(μ_A − μ)

has negative ones: by Haynsworth's formula for the inertia, since (A − μ)⁻¹ ⪯ I/(μ_A − μ).

The a-priori bounds of Kuczyński & Woźniakowski (1992) are for the worst spectrum; these use
what the coefficients tell of the spectrum at hand.

References
----------
Van Dorsselaer, Hochstenbach & van der Vorst (2000), Computing probabilistic bounds for extreme
eigenvalues of symmetric matrices with the Lanczos method. Kuczyński & Woźniakowski (1992),
Estimating the largest eigenvalue by the power and Lanczos algorithms with a random start.
Haynsworth (1968), Determination of the inertia of a partitioned Hermitian matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gfgd import checks

Matrix = NDArray[np.float64]

#: Halvings of the bracket around a bound.
HALVINGS = 45


def smallest_weight(failure_probability: float, start_norm: float) -> float:
    """Return w = z²/‖s‖² with ⟨u, s⟩²/‖s‖² ≥ w with probability 1 − δ, s Gaussian, ‖u‖ = 1.

    Parameters
    ----------
    failure_probability
        δ, between 0 and 1.
    start_norm
        ‖s‖ as drawn: a vector of independent standard normal entries.

    Raises
    ------
    ValueError
        If an argument is not positive, or δ ≥ 1.
    """
    checks.positive(failure_probability=failure_probability, start_norm=start_norm)
    if failure_probability >= 1:
        raise ValueError(f"failure_probability = {failure_probability:g}: must be below 1")
    return (NormalDist().inv_cdf((1 + failure_probability) / 2) / start_norm) ** 2


def upper_bound(diagonal: Sequence[float], off_diagonal: Sequence[float], weight: float) -> float:
    """Return an upper bound on an eigenvalue whose eigenvector has a weight in Lanczos' start.

    The μ ≥ θ_max at which Σ_{j=0}^{k} p_j(μ)² = 1/w (the theorem above), θ_max the largest Ritz
    value; θ_max itself if the sum is larger there, or if the last β is 0: then the Krylov space is
    invariant, and every eigenvector with any weight at all lies in it.

    Parameters
    ----------
    diagonal, off_diagonal
        α_1, …, α_k and β_1, …, β_k, k ≥ 1; the last β is the norm of the next, unused vector.
    weight
        w ≤ ⟨u, q_1⟩², in (0, 1].

    Raises
    ------
    ValueError
        If the lengths differ, or `weight` is not in (0, 1].
    """
    if not 1 <= len(diagonal) == len(off_diagonal):
        raise ValueError(
            f"diagonal has {len(diagonal)} entries and off_diagonal {len(off_diagonal)}: give k "
            "of both, k ≥ 1"
        )
    if not 0 < weight <= 1:
        raise ValueError(f"weight = {weight!r}: must be above 0 and at most 1")
    inner = np.diag(off_diagonal[:-1], 1)
    ritz = np.linalg.eigvalsh(np.diag(diagonal) + inner + inner.T)
    edge = float(ritz[-1])
    if off_diagonal[-1] <= 0:
        return edge
    outside = float(ritz[-1] - ritz[0]) + off_diagonal[-1]
    while not _exceeds(edge + outside, diagonal, off_diagonal, 1 / weight):
        outside *= 2
    inside = 1e-16 * outside
    for _ in range(HALVINGS):  # of the ratio: small distances are wanted to a relative accuracy
        middle = math.sqrt(inside * outside)
        if _exceeds(edge + middle, diagonal, off_diagonal, 1 / weight):
            outside = middle
        else:
            inside = middle
    return edge + outside


def _exceeds(
    at: float, diagonal: Sequence[float], off_diagonal: Sequence[float], limit: float
) -> bool:
    """Whether Σ_{j=0}^{k} p_j(x)² > limit; stops as soon as it is, before anything overflows."""
    before, here, total, below = 0.0, 1.0, 1.0, 0.0
    for alpha, beta in zip(diagonal, off_diagonal, strict=True):
        before, here = here, ((at - alpha) * here - below * before) / beta
        below = beta
        total += here * here
        if total > limit:
            return True
    return False


def deflated_lower_bound(
    projected: Matrix, coupling: Matrix, complement: float, index: int
) -> float:
    """Return a lower bound on the eigenvalue λ_{index+1} of H, counted from the smallest.

    The largest μ ≤ μ_A at which M − μI − RᵀR/(μ_A − μ) has at most `index` negative eigenvalues
    (above, under deflation), from below by bisection.

    Parameters
    ----------
    projected, coupling
        M = VᵀHV and RᵀR, shape ``(m, m)``; m = 0 gives μ_A.
    complement
        μ_A: a lower bound on H restricted to the complement of V.
    index
        How many eigenvalues may lie below.
    """
    size = len(projected)
    if size == 0 or not math.isfinite(complement):
        return complement

    def admissible(at: float) -> bool:
        schur = projected - at * np.eye(size) - coupling / (complement - at)
        return int((np.linalg.eigvalsh(schur) < 0).sum()) <= index

    ends = np.linalg.eigvalsh(projected)
    reach = math.sqrt(max(float(np.linalg.eigvalsh(coupling)[-1]), 0.0))
    scale = max(abs(complement), float(np.abs(ends).max()), 1e-300)
    # Below this all eigenvalues of the matrix above are positive: (θ − μ)(μ_A − μ) > ‖R‖².
    inside = min(float(ends[0]), complement) - reach - 1e-15 * scale
    outside = complement
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        if middle < complement and admissible(middle):
            inside = middle
        else:
            outside = middle
    return inside
