"""How negative the Hessian can be, from the residual alone.

For f(θ) = φ(W_n ⋯ W_1) with φ convex, ∇²f(θ) ⪰ R(θ), the form
⟨D, R D⟩ = 2 Σ_{j<i} ⟨Z_ij, D_i M_ij D_j⟩, with Z_ij = (W_n ⋯ W_{i+1})ᵀ ∇φ (W_{j−1} ⋯ W_1)ᵀ and
M_ij = W_{i−1} ⋯ W_{j+1}: what is left out is ∇²φ[DE, DE] ≥ 0. R does not see the second
derivatives of φ, and it sees D_1 only through the row space of ∇φ. So −λmin(R) is the largest
eigenvalue of a small dense problem, whose size does not depend on the inputs or their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from gfgd.networks import FullyConnected
from gfgd.verified.directed import (
    UNDERFLOW,
    UNIT,
    NotVerifiedError,
    Upper,
    check_arithmetic,
    gamma,
    length_of,
    norm,
    product_of,
    product_rounding,
    total,
)
from gfgd.verified.linear_network import (
    Chain,
    LinearNetwork,
    chain,
    checked_inputs,
    checked_start,
    from_objective,
    unflattened,
)
from gfgd.verified.taylor_models import TaylorModel, model

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvexLoss:
    """A loss ℓ(z, y) of one's own by its derivatives in z, each for all samples at once.

    For outputs Z, shape ``(N, K)``, and the objective's targets, float64 tensors all:

    Attributes
    ----------
    value
        ℓ, shape ``(N,)``.
    first
        ∇ℓ, shape ``(N, K)``.
    second
        ∇²ℓ, shape ``(N, K, K)``, positive semidefinite.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    first: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor], Tensor]


def residual_curvature(
    objective: FullyConnected,
    point: Tensor,
    *,
    verified: bool = True,
    loss: ConvexLoss | None = None,
) -> float:
    """Return −m ≤ λmin(∇²f(θ)) for a linear network of depth n ≥ 2 and a convex loss.

    −m is λmin(R(θ)), see the module. With `verified` every error is enclosed: m is rounded up so
    far that a Cholesky factor of the shifted form proves it. Without, it is what Lanczos' method
    returns, to a relative tolerance of 1e-5.

    Parameters
    ----------
    objective
        A linear network over float64 data, cross-entropy or half the squared error.
    point
        θ, float64, shape ``(d,)``.
    verified
        Whether to prove the bound.
    loss
        A loss in place of the objective's, for the same inputs and targets; with it
        ``verified=False``. R needs its first derivative only. The others are there to check what
        the bound rests on: that ∇²ℓ ⪰ 0 at the outputs, and that `first` and `second` are the
        derivatives that they are said to be (by central differences in one direction).

    Raises
    ------
    ValueError
        If the network is not linear or has one layer, the data or θ are not float64 or not
        finite, or θ has another shape; with `loss`, if `verified` is true or a check fails.
    NotVerifiedError
        If the bound cannot be proved, because float64 does not resolve it.
    """
    if loss is not None:
        if verified:
            raise ValueError("verified = True: another loss is not enclosed; give verified=False")
        models = _plain_models(objective, point, loss)
        rate, _ = Reduced.at(models).largest_rate(None)
        return -rate
    network = from_objective(objective)
    weights = network.weights(checked_start(objective, point))
    check_arithmetic()
    try:
        with np.errstate(all="ignore"):
            models = chain([model(weight) for weight in weights], network.slope_model)
            reduced = Reduced.at(models)
            rate, _ = reduced.largest_rate(None)
            return -float(reduced.verified_rate(rate)) if verified else -rate
    except OverflowError as cause:
        raise NotVerifiedError(f"point: {cause}; its loss is too large to be enclosed") from cause


def _plain_models(objective: FullyConnected, point: Tensor, loss: ConvexLoss) -> Chain:
    """Return the chain at θ with ∇φ of the loss in float64, whose error nobody knows."""
    inputs = checked_inputs(objective)
    weights = unflattened(checked_start(objective, point), objective.widths)

    def slope(end_to_end: TaylorModel) -> TaylorModel:
        outputs = torch.from_numpy(inputs @ end_to_end.coefficients[0].T)
        slopes = _checked_slopes(loss, outputs, objective.targets.cpu()).numpy()
        return model(slopes.T @ inputs / len(inputs))

    return chain([model(weight) for weight in weights], slope)


def _checked_slopes(loss: ConvexLoss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ∇ℓ at the outputs, or say in what the three functions are not a convex loss."""
    samples, classes = outputs.shape
    wanted = {"value": (samples,), "first": (samples, classes)}
    wanted["second"] = samples, classes, classes
    found = {name: getattr(loss, name)(outputs, targets) for name in wanted}
    for name, shape in wanted.items():
        if found[name].shape != shape or not found[name].isfinite().all():
            raise ValueError(
                f"loss.{name}: gives shape {tuple(found[name].shape)}, or numbers that are not "
                f"finite, at the network's outputs; give finite ones of shape {shape}"
            )
    lowest = torch.linalg.eigvalsh(found["second"])[:, 0]
    size = found["second"].abs().amax((1, 2))
    if (lowest < -1e-10 * size).any():
        raise ValueError(
            f"loss.second: has the eigenvalue {float(lowest.min()):.3g} at an output, so the loss "
            "is not convex there, and nothing follows from the residual"
        )
    scale = 1e-4 * (1 + outputs.abs().amax(1, keepdim=True))
    direction = torch.cos(torch.arange(outputs.numel()).double()).reshape(outputs.shape) * scale
    slopes = (found["first"] * direction).sum(-1)
    bends = torch.einsum("nij,nj->ni", found["second"], direction)
    for before, after, derivative in (("value", "first", slopes), ("first", "second", bends)):
        function = getattr(loss, before)
        change = function(outputs + direction, targets) - function(outputs - direction, targets)
        # Rounding of the values, and third derivatives, leave far less than this.
        allowed = 1e-3 * derivative.abs().amax() + 1e-10 * (1 + found[before].abs())
        if ((change / 2 - derivative).abs() > allowed).any():
            raise ValueError(
                f"loss.{after}: is not the derivative of loss.{before} at the network's outputs "
                "(by central differences)"
            )
    return found["first"]


def pairs(depth: int) -> list[Pair]:
    """Return all (i, j) with n ≥ i > j ≥ 1."""
    return [(i, j) for j, i in combinations(range(1, depth + 1), 2)]


def form_bound(depth: int, sizes: Mapping[Pair, Upper]) -> Upper:
    """Return a bound of |2 Σ b_ij(D_i, D_j)| / ‖D‖² where |b_ij| ≤ sizes[i, j] ‖D_i‖ ‖D_j‖.

    The symmetric matrix of the sizes, 0 on its diagonal, has no eigenvalue above its largest
    row sum. A pair that is missing counts as 0.
    """
    rows = [
        total(size for pair, size in sizes.items() if layer in pair)
        for layer in range(1, depth + 1)
    ]
    return max(rows)


def middle(weights: Sequence[Any], pair: Pair) -> Any | None:
    """Return M_ij = W_{i−1} ⋯ W_{j+1}, or None where it is the identity."""
    i, j = pair
    result = None
    for layer in range(j + 1, i):
        result = weights[layer - 1] if result is None else weights[layer - 1] @ result
    return result


def lipschitz(network: LinearNetwork, norms: Sequence[Upper], slope: Upper) -> Upper:
    """Return L with ‖R(θ) − R(θ')‖₂ ≤ L ‖θ − θ'‖ on a convex set.

    On it ‖W_l‖₂ ≤ norms[l] and ‖∇φ‖₂ ≤ `slope`. Of b_ij = ⟨∇φ, W⋯D_i⋯D_j⋯W⟩, ∇φ changes by at
    most c λ_X (Σ_j Π_{l≠j} norms²)^{1/2} ‖θ − θ'‖ and the other layers one by one.
    """
    slope_change = network.smoothness * end_to_end_lipschitz(norms)
    sizes = {
        pair: slope_change * _others(norms, *pair)
        + slope * length_of(_others(norms, layer, *pair) for layer in _layers(norms, pair))
        for pair in pairs(len(norms))
    }
    return form_bound(len(norms), sizes)


def end_to_end_lipschitz(norms: Sequence[Upper]) -> Upper:
    """Return (Σ_j Π_{l≠j} ‖W_l‖²)^{1/2}: W_n ⋯ W_1 changes by at most that times ‖θ − θ'‖."""
    return length_of(_others(norms, layer) for layer in range(1, len(norms) + 1))


def change_of_form(
    norms: Sequence[Upper], slope: Upper, slope_change: Upper, changes: Sequence[Upper]
) -> Upper:
    """Return a bound of ‖R(θ) − R(θ')‖₂ from ‖∇φ − ∇φ'‖ and each layer's ‖W_l − W'_l‖."""
    sizes = {
        pair: slope_change * _others(norms, *pair)
        + slope
        * total(changes[layer - 1] * _others(norms, layer, *pair) for layer in _layers(norms, pair))
        for pair in pairs(len(norms))
    }
    return form_bound(len(norms), sizes)


def form_size(norms: Sequence[Upper], slope: Upper) -> Upper:
    """Return a bound of ‖R‖₂ from the layers' norms and ‖∇φ‖₂."""
    return form_bound(
        len(norms), {pair: slope * _others(norms, *pair) for pair in pairs(len(norms))}
    )


def _layers(norms: Sequence[Upper], pair: Pair) -> list[int]:
    return [layer for layer in range(1, len(norms) + 1) if layer not in pair]


def _others(norms: Sequence[Upper], *left_out: int) -> Upper:
    """Return the product of the norms of all layers that are not left out."""
    return product_of(size for layer, size in enumerate(norms, 1) if layer not in left_out)


@dataclass(frozen=True, eq=False)
class Form:
    """R along a polynomial path, or at a point: Z_ij and M_ij for all pairs, as models."""

    depth: int
    crossed: Mapping[Pair, TaylorModel]
    middles: Mapping[Pair, TaylorModel | None]

    @classmethod
    def of(cls, models: Chain) -> Form:
        """Return the form of the chain's models."""
        which = pairs(models.depth)
        return cls(
            models.depth,
            {pair: models.crossed(*pair) for pair in which},
            {pair: middle(models.weights, pair) for pair in which},
        )

    def chord_deviation(self) -> Upper:
        """Return a bound by how much λmin(R) may lie below its chord on 0 ≤ τ ≤ 1.

        λmin is concave. If R = Σ R_k τᵏ + 𝓔, ‖𝓔‖ ≤ ρ, then R minus its chord is
        Σ_{k≥2} R_k (τᵏ − τ) + 𝓔(τ) − (1 − τ)𝓔(0) − τ𝓔(1), of norm at most Σ c_k ‖R_k‖ + 2ρ with
        c_k = max (τ − τᵏ).
        """
        sizes = {}
        for pair, left in self.crossed.items():
            right = self.middles[pair]
            norms = _form_coefficients(left, right)
            bent = total(chord_factor(k) * norms[k] for k in range(2, len(norms)))
            sizes[pair] = bent + 2 * _form_remainder(left, right)
        return form_bound(self.depth, sizes)


def _form_coefficients(left: TaylorModel, right: TaylorModel | None) -> list[Upper]:
    """Return bounds of the coefficients' sizes Σ_{a+b=k} ‖Z_a‖ ‖M_b‖."""
    if right is None:
        return left.norms
    degrees = len(left.norms) + len(right.norms) - 1
    return [
        total(
            left.norms[a] * right.norms[k - a]
            for a in range(len(left.norms))
            if 0 <= k - a < len(right.norms)
        )
        for k in range(degrees)
    ]


def _form_remainder(left: TaylorModel, right: TaylorModel | None) -> Upper:
    if right is None:
        return left.remainder
    carried = left.remainder * right.spectral + right.remainder * left.spectral
    return carried + left.remainder * right.remainder


def chord_factor(k: int) -> Upper:
    """Return an upper bound of max_{0≤τ≤1} (τ − τᵏ), k ≥ 2, within a few roundings of it.

    The maximum (k − 1) k^{−k/(k−1)} is at τ₀ = k^{−1/(k−1)}. For whatever t is computed for τ₀,
    concavity gives τ − τᵏ ≤ t − tᵏ + |1 − k t^{k−1}|, with exact rational numbers.
    """
    exact = Fraction(k ** (-1 / (k - 1)))
    bound = exact - exact**k + abs(1 - k * exact ** (k - 1))
    return Upper(math.nextafter(float(bound), math.inf))


@dataclass(frozen=True, eq=False)
class Reduced:
    """R at a point on (Y, D_2, …, D_n), Y = D_1V: V spans the row space of ∇φ.

    Attributes
    ----------
    crossed, middles
        Z_ij (Z_i1V in place of Z_i1) and M_ij as float64 arrays, M None for the identity.
    shapes
        Of Y, D_2, …, D_n.
    error
        A bound of ‖R − the form of these arrays‖₂.
    stretch
        1 + ‖VᵀV − I‖_F ≥ ‖D_1V‖²/‖D_1‖².
    """

    crossed: Mapping[Pair, np.ndarray]
    middles: Mapping[Pair, np.ndarray | None]
    shapes: list[tuple[int, int]]
    error: Upper
    stretch: Upper

    @classmethod
    def at(cls, models: Chain) -> Reduced:
        """Return the reduced form of constant models."""
        form = Form.of(models)
        basis, _ = np.linalg.qr(models.right[1].coefficients[0].T)  # any V: its error is bounded
        size = norm(basis)
        tilt = norm(basis.T @ basis - np.eye(basis.shape[1]))
        tilt = tilt * (1 + UNIT) + product_rounding(len(basis), size, size, basis.shape[1] ** 2)
        crossed, errors = {}, {}
        for pair, exact in form.crossed.items():
            entry, rest = exact.coefficients[0], exact.remainder
            if pair[1] == 1:
                entry, lost = _projected(entry, basis, size)
                rest = rest + lost
            right = form.middles[pair]
            crossed[pair] = entry
            errors[pair] = (
                rest
                if right is None
                else rest * (right.spectral + right.remainder) + exact.spectral * right.remainder
            )
        shapes = [weight.coefficients.shape[1:] for weight in models.weights]
        shapes[0] = (shapes[0][0], basis.shape[1])
        middles = {
            pair: None if right is None else right.coefficients[0]
            for pair, right in form.middles.items()
        }
        return cls(crossed, middles, shapes, form_bound(models.depth, errors), tilt + 1)

    def apply(self, direction: np.ndarray) -> np.ndarray:
        """Return R D for D = (Y, D_2, …, D_n), flattened: 2 Σ_pairs, half of it for each layer."""
        parts, start = [], 0
        for rows, columns in self.shapes:
            parts.append(direction[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        images = [np.zeros(shape) for shape in self.shapes]
        for (i, j), left in self.crossed.items():
            right = self.middles[i, j]
            below = parts[j - 1].T if right is None else parts[j - 1].T @ right.T
            above = parts[i - 1].T @ left
            images[i - 1] += left @ below
            images[j - 1] += above if right is None else right.T @ above
        return np.concatenate([image.ravel() for image in images])

    def largest_rate(self, guess: np.ndarray | None) -> tuple[float, np.ndarray]:
        """Return −λmin of the reduced form and its eigenvector by Lanczos' method; not verified."""
        dimension = sum(rows * columns for rows, columns in self.shapes)
        if guess is None:  # a fixed start, so that runs can be repeated
            guess = np.cos(np.arange(dimension, dtype=np.float64))
        if dimension < 64:
            values, vectors = np.linalg.eigh(np.stack([self.apply(e) for e in np.eye(dimension)]))
            return -float(values[0]), vectors[:, 0]
        operator = LinearOperator((dimension, dimension), matvec=self.apply)  # pyright: ignore
        values, vectors = eigsh(operator, k=1, which="SA", v0=guess, tol=1e-5)  # pyright: ignore
        return -float(values[0]), vectors[:, 0]

    def verified_rate(self, guess: float, slack: float = 3e-4) -> Upper:
        """Return m with λmin(R) ≥ −m, proved, near the guess.

        For μ > 0 the layer e with most entries can be eliminated from the form of R + μ exactly,
        since R has no block (e, e): R + μ ⪰ −ρ on all D if S(μ) ⪰ −ρ,
        S = μI + R_rest − CᵀC/μ, C the coupling of D_e to the rest. For any matrix L,
        S = LLᵀ + (S − LLᵀ) ⪰ −‖S − LLᵀ‖_F: L is Cholesky's factor of μ = guess (1 + slack).

        Raises
        ------
        NotVerifiedError
            If no factor exists although the slack was doubled six times.
        """
        tried = slack
        for _ in range(7):
            shift = max(guess, 1e-12) * (1 + tried)
            matrix, rounding = self._complement(shift)
            try:
                factor = np.linalg.cholesky(matrix)
            except np.linalg.LinAlgError:
                tried *= 2
                continue
            lacking = _cholesky_residual(matrix, factor)
            return (Upper(shift) + lacking + rounding) * self.stretch + self.error
        raise NotVerifiedError(
            f"λmin of the residual form is about {-guess:.6g}, but no bound down to "
            f"{-guess * (1 + tried / 2):.6g} could be verified"
        )

    def _complement(self, shift: float) -> tuple[np.ndarray, Upper]:
        """Return S(μ) in float64, and a bound of the error of forming it."""
        n = len(self.shapes)
        sizes = [rows * columns for rows, columns in self.shapes]
        gone = 1 + int(np.argmax(sizes))
        rest = [layer for layer in range(1, n + 1) if layer != gone]
        starts = dict(zip(rest, np.cumsum([0] + [sizes[k - 1] for k in rest]), strict=False))
        dimension = sum(sizes[layer - 1] for layer in rest)
        matrix = shift * np.eye(dimension)
        error = Upper(2 * UNIT * shift)
        for first in rest:
            for second in rest:
                block, rounding = self._block(first, second, gone, shift)
                rows = slice(starts[first], starts[first] + sizes[first - 1])
                columns = slice(starts[second], starts[second] + sizes[second - 1])
                matrix[rows, columns] += block
                error = error + rounding + UNIT * norm(matrix[rows, columns])
        return matrix, error

    def _block(self, first: int, second: int, gone: int, shift: float) -> tuple[np.ndarray, Upper]:
        """Return R_{first,second} − C_firstᵀC_second/μ, and a bound of its rounding.

        C_j[D] = A_j Dᵀ B_j, so C_jᵀC_k = (B_jB_kᵀ) ⊗ (A_jᵀA_k) on matrices row by row; and R_ij
        has the entries Z[a, c] M[b, e] for D_i[a, b], D_j[e, c].
        """
        (a, b), (c, d) = self._coupling(first, gone), self._coupling(second, gone)
        inner, outer = a.T @ c, b @ d.T
        block = np.kron(outer, inner) * (-1.0 / shift)
        sizes = norm(a) * norm(b) * norm(c) * norm(d) / shift
        rounding = gamma(len(a) + b.shape[1] + 5) * sizes
        if first != second:
            i, j = max(first, second), min(first, second)
            left, right = self.crossed[i, j], self.middles[i, j]
            right = np.eye(self.shapes[i - 1][1]) if right is None else right
            entries = np.einsum("ac,be->abec", left, right)
            if first == j:
                entries = entries.transpose(2, 3, 0, 1)
            entries = entries.reshape(block.shape)
            rounding = rounding + UNIT * (norm(left) * norm(right) * 2 + norm(block + entries))
            block = block + entries
        # A product that underflows loses ω; what multiplies it afterwards is at most this.
        gains = (norm(a) * norm(c) + 1) * (norm(b) * norm(d) + 1) * (1 + Upper(1.0) / shift)
        lost = gains * (UNDERFLOW * block.size * (len(a) + b.shape[1] + 5))
        return block, rounding + lost

    def _coupling(self, layer: int, gone: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (A, B): D_layer enters the form by 2⟨D_gone, A D_layerᵀ B⟩."""
        pair = max(layer, gone), min(layer, gone)
        left, right = self.crossed[pair], self.middles[pair]
        if right is None:
            right = np.eye(self.shapes[pair[0] - 1][1])
        return (left, right.T) if layer < gone else (right.T, left)


def _projected(entry: np.ndarray, basis: np.ndarray, size: Upper) -> tuple[np.ndarray, Upper]:
    """Return Γ = fl(ZV) and a bound of ‖Z − ΓVᵀ‖_F."""
    inside = entry @ basis
    lost = norm(entry - inside @ basis.T) * (1 + UNIT)
    rounding = product_rounding(basis.shape[1], norm(inside), size, entry.size)
    return inside, lost + rounding


def _cholesky_residual(matrix: np.ndarray, factor: np.ndarray) -> Upper:
    """Return a bound of ‖S − LLᵀ‖_F for the float64 arrays S and L."""
    size = norm(factor)
    rounding = product_rounding(len(factor), size, size, factor.size)
    return norm(matrix - factor @ factor.T) * (1 + UNIT) + rounding
