"""Matrix polynomials in one variable with one scalar remainder for truncation and rounding.

A Taylor model (C_0, …, C_k; ρ) stands for every matrix function F on 0 ≤ τ ≤ 1 with
‖F(τ) − Σ_i C_i τⁱ‖_F ≤ ρ (Makino & Berz 2003, with a scalar in place of an interval remainder).
The coefficients are float64 arrays, taken as exact; ρ is an upper bound in the sense of
:mod:`gfgd.verified.directed`.

:class:`Size` is the same arithmetic on norms alone. It bounds what a chain of products rounds when
it is evaluated in float64 anywhere in a set on which only norms are known.

Both multiply with ``@``, entry by entry with ``*``, and transpose with ``.T``, as arrays do. So a
formula that is written once is evaluated on arrays, on models and on sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gfgd.verified.directed import (
    UNDERFLOW,
    UNIT,
    Upper,
    gamma,
    largest_row,
    norm,
    product_rounding,
    spectral_norm,
    total,
)


@dataclass(frozen=True, eq=False)
class TaylorModel:
    """All F with ‖F(τ) − Σ_i C_i τⁱ‖_F ≤ ρ for 0 ≤ τ ≤ 1.

    Attributes
    ----------
    coefficients
        C_0, …, C_k, float64, shape ``(k + 1, rows, columns)``.
    remainder
        ρ.
    order
        Products keep the degrees up to it; what is above goes into their remainders.
    """

    coefficients: np.ndarray
    remainder: Upper
    order: int

    @cached_property
    def norms(self) -> list[Upper]:
        """Upper bounds of ‖C_i‖_F."""
        return [norm(coefficient) for coefficient in self.coefficients]

    @cached_property
    def spectral(self) -> Upper:
        """An upper bound of ‖Σ_i C_i τⁱ‖₂ on [0, 1]."""
        return total([spectral_norm(self.coefficients[0]), *self.norms[1:]])

    @cached_property
    def frobenius(self) -> Upper:
        """An upper bound of ‖Σ_i C_i τⁱ‖_F on [0, 1]."""
        return total(self.norms)

    @cached_property
    def entries(self) -> list[Upper]:
        """The largest absolute entry of each C_i."""
        return [Upper(float(np.abs(part).max(initial=0.0))) for part in self.coefficients]

    @cached_property
    def largest(self) -> Upper:
        """An upper bound of all |entries| of Σ_i C_i τⁱ on [0, 1]."""
        return total(self.entries)

    @cached_property
    def row(self) -> Upper:
        """An upper bound of the norms of all rows of Σ_i C_i τⁱ on [0, 1]."""
        return total(largest_row(part) for part in self.coefficients)

    @property
    def T(self) -> TaylorModel:
        """The transposed model; its norms need not be computed again."""
        swapped = TaylorModel(self.coefficients.transpose(0, 2, 1), self.remainder, self.order)
        for name in ("norms", "spectral", "frobenius", "entries", "largest"):
            if name in self.__dict__:
                swapped.__dict__[name] = self.__dict__[name]
        return swapped

    def __matmul__(self, other: TaylorModel) -> TaylorModel:
        """Return a model of every product FG.

        FG − Σ_{k≤K} C_k τᵏ consists of the remainders' products with the other factor, of the
        degrees above K, and of the rounding of C_k = Σ_{i+j=k} A_iB_j, sums of at most
        (columns of A) × (number of pairs) products.
        """
        inner = self.coefficients.shape[2]
        pairs = min(len(self.coefficients), len(other.coefficients))
        coefficients = convolution(self.coefficients, other.coefficients, self.order)
        truncated = total(
            self.norms[i] * total(other.norms[max(0, self.order + 1 - i) :])
            for i in range(len(self.norms))
            if self.order + 1 - i < len(other.norms)
        )
        rounding = product_rounding(
            inner * pairs,
            self.frobenius,
            other.frobenius,
            coefficients.size * len(coefficients),
        )
        carried = (
            self.remainder * other.spectral
            + other.remainder * self.spectral
            + self.remainder * other.remainder
        )
        return TaylorModel(coefficients, carried + truncated + rounding, self.order)

    def __mul__(self, other: TaylorModel) -> TaylorModel:
        """Return a model of every entrywise product F ∘ G.

        As for matrix products, with ‖A ∘ B‖_F ≤ ‖A‖_F max |B|.
        """
        pairs = min(len(self.coefficients), len(other.coefficients))
        degrees = min(self.order + 1, len(self.coefficients) + len(other.coefficients) - 1)
        coefficients = np.zeros((degrees, *self.coefficients.shape[1:]))
        for i, part in enumerate(self.coefficients[:degrees]):
            count = min(len(other.coefficients), degrees - i)
            coefficients[i : i + count] += part * other.coefficients[:count]
        truncated = total(
            self.norms[i] * total(other.entries[max(0, self.order + 1 - i) :])
            for i in range(len(self.norms))
            if self.order + 1 - i < len(other.norms)
        )
        rounding = gamma(pairs + 1) * self.frobenius * other.largest
        carried = (
            self.remainder * other.largest
            + other.remainder * self.largest
            + self.remainder * other.remainder
        )
        lost = UNDERFLOW * pairs * coefficients.size
        return TaylorModel(coefficients, carried + truncated + rounding + lost, self.order)

    def plus(self, other: TaylorModel) -> TaylorModel:
        """Return a model of every F + G."""
        longer, shorter = self.coefficients, other.coefficients
        if len(longer) < len(shorter):
            longer, shorter = shorter, longer
        coefficients = longer.copy()
        coefficients[: len(shorter)] += shorter
        rounding = UNIT * total(norm(part) for part in coefficients[: len(shorter)])
        return TaylorModel(
            coefficients, self.remainder + other.remainder + rounding * (1 + 2 * UNIT), self.order
        )

    def scaled(self, factor: float) -> TaylorModel:
        """Return a model of factor × F; the float is taken as exact, the products are rounded."""
        rounding = UNIT * abs(factor) * self.frobenius + UNDERFLOW * self.coefficients.size
        remainder = self.remainder * abs(factor) + rounding
        return TaylorModel(factor * self.coefficients, remainder, self.order)

    def values_at(self, taus: np.ndarray) -> np.ndarray:
        """Return Σ_i C_i τⁱ for many τ at once, in float64, shape ``(len(taus), rows, columns)``.

        One product of matrices; the powers are products, each of the one before and τ.
        """
        factors = np.ones((len(taus), len(self.coefficients)))
        factors[:, 1:] = taus[:, None]
        flat = self.coefficients.reshape(len(self.coefficients), -1)
        return (np.cumprod(factors, axis=1) @ flat).reshape(-1, *self.coefficients.shape[1:])

    def rounding_of_values(self) -> Upper:
        """Return a bound of the error of `values_at` for exact τ in [0, 1], remainder apart.

        A power τⁱ and the sum round by at most γ_{2k} Σ‖C_i‖ together, k coefficients; the rounded
        τ is off by at most u, which moves the value by at most u Σ i‖C_i‖.
        """
        moved = total(i * size for i, size in enumerate(self.norms))
        underflow = UNDERFLOW * 2 * self.coefficients.size
        return gamma(2 * len(self.norms)) * self.frobenius + UNIT * moved + underflow


def model(array: np.ndarray) -> TaylorModel:
    """Return the constant model of a matrix, exact."""
    return TaylorModel(array[None], Upper(0.0), 0)


def convolution(left: np.ndarray, right: np.ndarray, order: int) -> np.ndarray:
    """Return Σ_{i+j=k} A_i B_j for k ≤ order, shape ``(order + 1, rows, columns)``.

    For each k one product of [A_first … A_last] with the matching B stacked below one another.
    """
    rows, inner, columns = left.shape[1], left.shape[2], right.shape[2]
    wide = left.transpose(1, 0, 2).reshape(rows, -1)
    tall = right[::-1].reshape(-1, columns)
    result = np.zeros((order + 1, rows, columns))
    for k in range(min(order + 1, len(left) + len(right) - 1)):
        first, last = max(0, k - len(right) + 1), min(k, len(left) - 1)
        top = len(right) - 1 - (k - first)
        count = last - first + 1
        result[k] = (
            wide[:, first * inner : (last + 1) * inner] @ tall[top * inner : (top + count) * inner]
        )
    return result


@dataclass(frozen=True)
class Size:
    """What is known of a matrix that is computed in float64: its norms, and its error.

    `spectral` and `frobenius` bound the true matrix, `error` the Frobenius distance of the
    computed one from it, `shape` is its shape. No entry of the true matrix exceeds `largest`; where
    none is given, its spectral norm.
    """

    spectral: Upper
    frobenius: Upper
    error: Upper
    shape: tuple[int, ...]
    largest: Upper | None = None

    @property
    def T(self) -> Size:
        """The transposed matrix."""
        return Size(self.spectral, self.frobenius, self.error, self.shape[::-1], self.largest)

    @property
    def entry(self) -> Upper:
        """An upper bound of all |entries| of the true matrix."""
        return self.spectral if self.largest is None else self.largest

    def __mul__(self, other: Size) -> Size:
        """Return what is known of the entrywise product of the two, computed."""
        frobenius = min(self.frobenius * other.entry, self.entry * other.frobenius)
        carried = self.error * other.entry + other.error * self.entry + self.error * other.error
        rounding = UNIT * (frobenius + carried) + UNDERFLOW * self.shape[0] * self.shape[1]
        entry = self.entry * other.entry
        return Size(frobenius, frobenius, carried + rounding, self.shape, entry)

    def __matmul__(self, other: Size) -> Size:
        """Return what is known of the product of the two computed matrices, computed."""
        shape = (self.shape[0], other.shape[1])
        rounding = product_rounding(
            self.shape[1],
            self.frobenius + self.error,
            other.frobenius + other.error,
            shape[0] * shape[1],
        )
        carried = (
            self.error * other.spectral + other.error * self.spectral + self.error * other.error
        )
        frobenius = min(self.frobenius * other.spectral, self.spectral * other.frobenius)
        return Size(self.spectral * other.spectral, frobenius, carried + rounding, shape)
