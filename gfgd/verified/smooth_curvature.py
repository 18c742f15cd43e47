"""How negative the Hessian of a smooth network can be, from what its residuals and units bend.

With the passes of :mod:`gfgd.verified.smooth_network`, in a direction D = (D_1, …, D_n) the
outputs' first derivatives are Ż_1 = XD_1ᵀ, Ż_l = A_{l−1}D_lᵀ + (T_{l−1} ∘ Ż_{l−1})W_lᵀ, and

    ⟨D, ∇²f D⟩ = (1/N) Σ_i ∇²ℓ[ż_n, ż_n] + ⟨D, R D⟩,
    ⟨D, R D⟩ = Σ_{l<n} ⟨S_l, Ż_l ∘ Ż_l⟩ + 2 Σ_{l≥2} ⟨Δ_l, (T_{l−1} ∘ Ż_{l−1})D_lᵀ⟩.

Proof. Differentiate once more: Z̈_l = (T_{l−1} ∘ Z̈_{l−1} + U_{l−1} ∘ Ż_{l−1} ∘ Ż_{l−1})W_lᵀ +
2(T_{l−1} ∘ Ż_{l−1})D_lᵀ. By the definition of Δ and S, ⟨Δ_l, Z̈_l⟩ = ⟨Δ_{l−1}, Z̈_{l−1}⟩ +
⟨S_{l−1}, Ż_{l−1} ∘ Ż_{l−1}⟩ + 2⟨Δ_l, (T_{l−1} ∘ Ż_{l−1})D_lᵀ⟩; sum from l = n down, Z̈_1 = 0.

So ∇²f ⪰ R for a convex loss. With one hidden layer R couples a unit with itself only: it falls
into one block of d_0 + d_2 rows for each hidden unit. R is multilinear in W, A, T, S and Δ:
what their sizes, their Taylor coefficients, their changes or their errors say of R's is one
calculation with polynomials of norms (:class:`Majorant`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import eigsh

from gfgd.verified.directed import (
    UNDERFLOW,
    UNIT,
    NotVerifiedError,
    Upper,
    gamma,
    length_of,
    norm,
    spectral_norm,
    total,
)
from gfgd.verified.residual_curvature import chord_factor
from gfgd.verified.smooth_network import Passes, SmoothNetwork
from gfgd.verified.taylor_models import TaylorModel

#: Above so many rows Lanczos' method proposes the eigenvalue.
LARGE = 256


ZERO = Upper(0.0)


@dataclass(frozen=True)
class Majorant:
    """What is known of a path F_0 + F_1τ + … + 𝓔: ‖F_k‖ ≤ coefficients[k], ‖𝓔‖ ≤ remainder.

    Products are Cauchy's, so a majorant of a multilinear expression is the same expression of
    majorants. A path F + τ(G − F) has the coefficients ‖F‖ and ‖G − F‖.
    """

    coefficients: tuple[Upper, ...]
    remainder: Upper = ZERO

    @property
    def size(self) -> Upper:
        """A bound of the path without its remainder, 0 ≤ τ ≤ 1."""
        return total(self.coefficients)

    def __add__(self, other: Majorant) -> Majorant:
        longer, shorter = self.coefficients, other.coefficients
        if len(longer) < len(shorter):
            longer, shorter = shorter, longer
        head = tuple(a + b for a, b in zip(longer, shorter, strict=False))
        return Majorant(head + longer[len(shorter) :], self.remainder + other.remainder)

    def __mul__(self, other: Majorant) -> Majorant:
        a, b = self.coefficients, other.coefficients
        product = tuple(
            total(a[i] * b[k - i] for i in range(max(0, k - len(b) + 1), min(k, len(a) - 1) + 1))
            for k in range(len(a) + len(b) - 1)
        )
        if not self.remainder and not other.remainder:
            return Majorant(product)
        carried = (
            self.remainder * other.size
            + other.remainder * self.size
            + self.remainder * other.remainder
        )
        return Majorant(product, carried)


@dataclass(frozen=True)
class Factors:
    """Majorants of what R is made of; entry 0 of a list is layer 1's, but A_0's of `values`.

    ‖W_l‖₂, ‖A_l‖₂, the largest entries of T_l and S_l, ‖Δ_l‖₂.
    """

    weights: Sequence[Majorant]
    values: Sequence[Majorant]
    slopes: Sequence[Majorant]
    curved: Sequence[Majorant]
    errors: Sequence[Majorant]

    @classmethod
    def along(cls, models: Passes) -> Factors:
        """Return the majorants of the models' Taylor coefficients."""
        return cls(
            [_of_matrix(part) for part in models.weights],
            [_of_matrix(part) for part in models.values],
            [_of_entries(part) for part in models.slopes],
            [_of_entries(part) for part in models.curved],
            [_of_matrix(part) for part in models.errors],
        )


def _of_matrix(model: TaylorModel) -> Majorant:
    # `spectral` is the bound of the first coefficient plus the norms of the others.
    first = model.spectral if len(model.norms) == 1 else spectral_norm(model.coefficients[0])
    return Majorant((first, *model.norms[1:]), model.remainder)


def _of_entries(model: TaylorModel) -> Majorant:
    return Majorant(tuple(model.entries), model.remainder)


def derivative_blocks(parts: Factors) -> list[dict[int, Majorant]]:
    """Return for each l = 1 … n majorants j with ‖Ż_l‖_F ≤ Σ_m j[m] ‖D_m‖_F."""
    blocks = [{1: parts.values[0]}]
    for layer in range(2, len(parts.weights) + 1):
        through = parts.slopes[layer - 2] * parts.weights[layer - 1]
        blocks.append({m: through * size for m, size in blocks[-1].items()})
        blocks[-1][layer] = parts.values[layer - 1]
    return blocks


def form_blocks(parts: Factors) -> dict[tuple[int, int], Majorant]:
    """Return majorants of R's blocks: |⟨D, R D⟩| ≤ Σ_{l,m} b[l, m] ‖D_l‖ ‖D_m‖; b[l, m], l ≥ m."""
    n, derivatives = len(parts.weights), derivative_blocks(parts)
    blocks: dict[tuple[int, int], Majorant] = {}

    def add(pair: tuple[int, int], what: Majorant) -> None:
        blocks[pair] = blocks[pair] + what if pair in blocks else what

    for layer in range(1, n):
        for m, first in derivatives[layer - 1].items():
            for other, second in derivatives[layer - 1].items():
                if m >= other:
                    add((m, other), parts.curved[layer - 1] * first * second)
            add((layer + 1, m), parts.errors[layer] * parts.slopes[layer - 1] * first)
    return blocks


def form_majorant(parts: Factors) -> Majorant:
    """Return a majorant of ‖R‖₂: the largest row sum of the symmetric matrix of its blocks."""
    blocks = form_blocks(parts)
    degrees = max(len(block.coefficients) for block in blocks.values())
    coefficients = [
        _largest_row(
            {
                pair: block.coefficients[k]
                for pair, block in blocks.items()
                if k < len(block.coefficients)
            }
        )
        for k in range(degrees)
    ]
    remainders = {pair: block.remainder for pair, block in blocks.items()}
    return Majorant(tuple(coefficients), _largest_row(remainders))


def _largest_row(sizes: Mapping[tuple[int, int], Upper]) -> Upper:
    layers = {layer for pair in sizes for layer in pair}
    return max(total(size for pair, size in sizes.items() if layer in pair) for layer in layers)


def chord_deviation(models: Passes) -> Upper:
    """Return a bound by how much λmin(R) may lie below its chord on 0 ≤ τ ≤ 1.

    As for linear networks: λmin is concave, and R minus its chord is Σ_{k≥2} R_k (τᵏ − τ) +
    𝓔(τ) − (1 − τ)𝓔(0) − τ𝓔(1).
    """
    form = form_majorant(Factors.along(models))
    bent = total(chord_factor(k) * size for k, size in enumerate(form.coefficients) if k >= 2)
    return bent + 2 * form.remainder


# ------------------------------------------------------------------------------ in a whole ball


@dataclass(frozen=True)
class Sizes:
    """What holds within a radius of a curve v: sizes, Lipschitz constants, curvature.

    Attributes
    ----------
    radius
        Of the ball.
    factors
        For each factor of R its size there and a Lipschitz constant, as coefficients 0 and 1.
    rows
        Lipschitz constants of a row of Z_1 … Z_n, one sample's.
    pulled
        Bounds of the entries of Y_1 … Y_{n−1}.
    lipschitz
        Of R.
    largest_curvature
        Bound of λmax(∇²f).
    """

    radius: Upper
    factors: Factors
    rows: list[Upper]
    pulled: list[Upper]
    lipschitz: Upper
    largest_curvature: Upper

    @classmethod
    def around(cls, network: SmoothNetwork, models: Passes, radius: Upper) -> Sizes:
        """Return the constants of the balls of that radius around the models' path.

        The balls are convex, so a size grows along the segment from v by at most its Lipschitz
        constant there times the radius.
        """
        weights = [Majorant((part.spectral + radius, Upper(1.0))) for part in models.weights]
        norms = [weight.coefficients[0] for weight in weights]
        sizes = [part.spectral + part.remainder for part in models.values]
        sizes[0] = network.inputs_spectral
        values, whole = _forward(norms, sizes, radius)
        _, rows = _forward(norms, [part.row + part.remainder for part in models.values], radius)
        errors, curved, pulled = _backward(network, models, norms, whole, rows, radius)
        slopes = [
            Majorant((Upper(1.0), row * network.units(layer).bend))
            for layer, row in enumerate(rows[:-1], start=1)
        ]
        factors = Factors(weights, values, slopes, curved, errors)
        form = form_majorant(factors)
        seen = network.smoothness * whole[-1] * whole[-1]
        highest = seen + form.coefficients[0]
        return cls(radius, factors, rows, pulled, form.coefficients[1], highest)

    def change(self, differences: Factors) -> Upper:
        """Return a bound of ‖R(θ) − R(θ')‖₂ from the differences of all factors.

        `differences` has the norms as coefficient 0; the sizes are those of the ball, in which both
        points are.
        """
        groups = ("weights", "values", "slopes", "curved", "errors")
        paths = [
            [
                Majorant((size.coefficients[0], change.coefficients[0]))
                for size, change in zip(
                    getattr(self.factors, group), getattr(differences, group), strict=True
                )
            ]
            for group in groups
        ]
        return total(form_majorant(Factors(*paths)).coefficients[1:])


def _forward(
    norms: Sequence[Upper], sizes: Sequence[Upper], radius: Upper
) -> tuple[list[Majorant], list[Upper]]:
    """Return A_0 … A_{n−1} in the ball, and Lipschitz constants of Z_1 … Z_n.

    From `sizes` ‖A_l‖₂ on v in the Frobenius norm, from the rows' norms on v for each sample:
    |σ'| ≤ 1, so ‖dZ_l‖ ≤ ‖A_{l−1}‖‖dW_l‖ + ‖W_l‖‖dZ_{l−1}‖, and the same holds row by row.
    """
    values = [Majorant((sizes[0], Upper(0.0)))]
    parts, outputs = [sizes[0]], []  # for each layer what dW_m does to Z_l
    for layer, size in enumerate(norms):
        if layer > 0:
            grown = sizes[layer] + outputs[-1] * radius
            values.append(Majorant((grown, outputs[-1])))
            parts = [*(size * part for part in parts), grown]
        outputs.append(length_of(parts))
    return values, outputs


def _backward(
    network: SmoothNetwork,
    models: Passes,
    norms: Sequence[Upper],
    whole: Sequence[Upper],
    rows: Sequence[Upper],
    radius: Upper,
) -> tuple[list[Majorant], list[Majorant], list[Upper]]:
    """Return Δ_1 … Δ_n and S_1 … S_{n−1} in the ball, and bounds of the entries of Y.

    ‖dΔ_n‖ ≤ c/N ‖dZ_n‖, ‖dY_l‖ ≤ ‖W_{l+1}‖‖dΔ_{l+1}‖ + ‖Δ_{l+1}‖‖dW_{l+1}‖, row by row as well;
    dΔ_l = dY_l ∘ T_l + Y_l ∘ dT_l and dS_l = dY_l ∘ U_l + Y_l ∘ dU_l, where |σ'| ≤ 1,
    |σ''| ≤ bend and the third derivative is at most `third`.
    """
    last = models.errors[-1]
    steep, steep_row = (network.smoothness * outputs[-1] for outputs in (whole, rows))
    errors = [Majorant((last.spectral + last.remainder + steep * radius, steep))]
    row = last.row + last.remainder + steep_row * radius
    curved, entries = [], []
    for layer in range(len(norms) - 1, 0, -1):
        bend, third = network.units(layer).bend, network.units(layer).third
        pulled, error, bent = (
            group[layer - 1] for group in (models.pulled, models.errors, models.curved)
        )
        pull = steep * norms[layer] + errors[-1].coefficients[0]
        pull_row = steep_row * norms[layer] + row
        high = pulled.largest + pulled.remainder + pull_row * radius
        steep = pull + high * bend * whole[layer - 1]
        steep_row = pull_row + high * bend * rows[layer - 1]
        errors.append(Majorant((error.spectral + error.remainder + steep * radius, steep)))
        row = error.row + error.remainder + steep_row * radius
        turn = pull_row * bend + high * third * rows[layer - 1]
        curved.append(Majorant((bent.largest + bent.remainder + turn * radius, turn)))
        entries.append(high)
    return errors[::-1], curved[::-1], entries[::-1]


# ---------------------------------------------------------------------------------- at a point


def node_rate(models: Passes) -> Upper:
    """Return m with λmin(R) ≥ −m where the models are constant, verified.

    What is computed is R of the models' coefficients; how far the models may be off enters by
    R's majorant. For any matrix L, B + μ = LLᵀ + (B + μ − LLᵀ) ⪰ −‖B + μ − LLᵀ‖_F.

    Raises
    ------
    NotVerifiedError
        If no Cholesky factor exists although the slack was doubled six times.
    """
    matrices, rounding = _unit_blocks(models) if models.depth == 2 else _whole(models)
    off = form_majorant(Factors.along(models)).remainder
    return verified_rate(matrices) + rounding + off


def verified_rate(matrices: np.ndarray, slack: float = 3e-4) -> Upper:
    """Return m with B ⪰ −m for each symmetric matrix of a stack ``(count, p, p)``, proved."""
    guess = max(-min(lowest_eigenvalue(matrix) for matrix in matrices), 1e-12)
    tried = slack
    for _ in range(7):
        shift = guess * (1 + tried)
        shifted = matrices + shift * np.eye(matrices.shape[1])
        try:
            factors = np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            tried *= 2
            continue
        return Upper(shift) + max(
            cholesky_residual(matrix, factor)
            for matrix, factor in zip(shifted, factors, strict=True)
        )
    raise NotVerifiedError(
        f"λmin of the residual form is about {-guess:.6g}, but no bound down to "
        f"{-guess * (1 + tried / 2):.6g} could be verified"
    )


def lowest_eigenvalue(matrix: np.ndarray) -> float:
    """Return λmin, not verified."""
    if len(matrix) <= LARGE:
        return float(np.linalg.eigvalsh(matrix)[0])
    guess = np.cos(np.arange(len(matrix), dtype=np.float64))  # so that runs can be repeated
    values = eigsh(matrix, k=1, which="SA", v0=guess, tol=1e-5, return_eigenvectors=False)  # pyright: ignore
    return float(values[0])


def cholesky_residual(shifted: np.ndarray, factor: np.ndarray) -> Upper:
    """Return a bound of ‖S − LLᵀ‖_F, S being the matrix before its diagonal was rounded."""
    size = norm(factor)
    rounding = gamma(len(factor)) * size * size + UNDERFLOW * len(factor) * len(factor)
    return norm(shifted - factor @ factor.T) * (1 + UNIT) + rounding + UNIT * norm(shifted)


def _unit_blocks(models: Passes) -> tuple[np.ndarray, Upper]:
    """Return R's blocks of one hidden layer, ``(d_1, d_0 + d_2, d_0 + d_2)``, and their rounding.

    For unit j, D_1's row and D_2's column: [[Xᵀ diag(S_j) X, Xᵀ diag(T_j) Δ], [·, 0]].
    """
    x = models.values[0].coefficients[0]
    slopes, curved, errors = (
        part[0].coefficients[0] for part in (models.slopes, models.curved, models.errors[1:])
    )
    samples, features = x.shape
    units, classes = slopes.shape[1], errors.shape[1]
    blocks = np.zeros((units, features + classes, features + classes))
    for unit in range(units):
        blocks[unit, :features, :features] = (x.T * curved[:, unit]) @ x
        blocks[unit, :features, features:] = (x.T * slopes[:, unit]) @ errors
    blocks[:, features:, :features] = blocks[:, :features, features:].transpose(0, 2, 1)
    # Each half is symmetrised by whoever reads it: let it be exactly so.
    blocks[:, :features, :features] += blocks[:, :features, :features].transpose(0, 2, 1)
    blocks[:, :features, :features] *= 0.5
    length = norm(x)
    high, steep = (Upper(float(np.abs(part).max())) for part in (curved, slopes))
    rounding = gamma(samples + 3) * length * (high * length + 2 * steep * norm(errors))
    return blocks, rounding + UNDERFLOW * samples * blocks[0].size


def _whole(models: Passes) -> tuple[np.ndarray, Upper]:
    """Return R of any depth as one dense matrix, ``(1, d, d)``, and a bound of its rounding.

    J is the linear map D ↦ Ż_l as an array ``(N, d_l, d)``, T ∘ J that to Ȧ_l; `wrong` bounds how
    far J in float64 is from J of the same factors.
    """
    weights, values, slopes, curved, errors = (
        [part.coefficients[0] for part in group]
        for group in (models.weights, models.values, models.slopes, models.curved, models.errors)
    )
    starts = np.cumsum([0] + [weight.size for weight in weights])
    matrix, rounding = np.zeros((starts[-1], starts[-1])), Upper(0.0)
    moved, moved_wrong = None, Upper(0.0)  # T ∘ J of the layer before
    for layer, weight in enumerate(weights):
        own = slice(starts[layer], starts[layer + 1])
        samples, width, entering = len(values[0]), len(weight), weight.shape[1]
        derivative = np.zeros((samples, width, starts[layer + 1]))
        own_part = derivative[:, :, own].reshape(samples, width, width, entering)
        own_part[:, np.arange(width), np.arange(width)] = values[layer][:, None]
        derivative[:, :, own] = own_part.reshape(samples, width, -1)
        wrong = Upper(0.0)
        if moved is not None:
            size = norm(moved)
            derivative[:, :, : starts[layer]] = np.einsum(
                "ba,nad->nbd", weight, moved, optimize=True
            )
            wrong = norm(weight) * (moved_wrong + gamma(entering) * size)
            coupling = np.einsum("nb,ncd->bcd", errors[layer], moved, optimize=True)
            coupling = coupling.reshape(-1, starts[layer])
            matrix[own, : starts[layer]] += coupling
            matrix[: starts[layer], own] += coupling.T
            lost = norm(errors[layer]) * (moved_wrong + gamma(samples) * size)
            rounding = rounding + 2 * lost + UNIT * norm(matrix)
        if layer < len(curved):
            size, high = norm(derivative), Upper(float(np.abs(curved[layer]).max()))
            flat = derivative.reshape(samples * width, -1)
            block = (flat.T * curved[layer].reshape(-1)) @ flat
            seen = slice(0, starts[layer + 1])
            matrix[seen, seen] += 0.5 * (block + block.T)
            lost = high * (size * wrong * 2 + wrong * wrong + gamma(len(flat) + 3) * size * size)
            rounding = rounding + lost + UNIT * norm(matrix)
            moved = slopes[layer][:, :, None] * derivative
            moved_wrong = Upper(float(np.abs(slopes[layer]).max())) * wrong + UNIT * norm(moved)
    lost = UNDERFLOW * len(values[0]) * matrix.size * 100
    return matrix[None], rounding * (1 + 4 * UNIT) + lost
