"""Upper bounds in float64: every operation rounded up, every array's rounding accounted for.

The bounds of this room are made of sums, products, quotients and roots of nonnegative numbers.
:class:`Upper` carries such a bound and rounds each operation up. What NumPy computes on arrays is
rounded to nearest; the functions here return bounds that include that rounding:

* a sum of n products, in any order, with or without fused operations, errs by at most
  γ_n Σ|a_i b_i| + n ω, with γ_n = nu/(1 − nu), u = 2⁻⁵³ (Higham 2002, Accuracy and Stability of
  Numerical Algorithms, section 3.1);
* ω = 2⁻¹⁰²² is more than a product loses by underflow.

Trusted: IEEE 754 binary64 +, −, ×, / and √, rounded to nearest, without flushing of operands, and
that matrix products are summed conventionally (no Strassen-like schemes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

import numpy as np

#: Unit roundoff of float64.
UNIT = 2.0**-53
#: More than the absolute error of an operation whose result underflows.
UNDERFLOW = 2.0**-1022


class NotVerifiedError(ArithmeticError):
    """A bound could not be verified; the message says which, where, and what would help."""


def check_arithmetic() -> None:
    """Look whether this thread's float64 arithmetic is that which the bounds are made for.

    A library may have set the processor otherwise: `torch.set_flush_denormal`, for example, or a
    rounding mode that is left behind. Sums that are exactly known tell the four rounding modes
    apart; a product of the smallest number tells whether it is taken for 0.

    Raises
    ------
    NotVerifiedError
        If results are not rounded to nearest, or subnormal operands are flushed to 0.
    """
    numbers = np.array([1.0, -1.0, 1.0])
    small = np.array([UNIT, -UNIT, 3 * UNIT])
    if ((numbers + small) != [1.0, -1.0, 1.0 + 4 * UNIT]).any():
        raise NotVerifiedError(
            "float64 sums are not rounded to nearest in this thread: restore the rounding mode"
        )
    if not (np.array([5e-324]) * 2.0**60 > 0).all():
        raise NotVerifiedError(
            "subnormal numbers are flushed to 0 in this thread: torch.set_flush_denormal(False)"
        )


class Upper(float):
    """A nonnegative number known from above: +, ×, / and roots of it are rounded up.

    A plain number that meets an `Upper` counts as exact. There is no subtraction, for the
    difference of two upper bounds bounds nothing. An operation that overflows or meets NaN raises
    ``OverflowError``, so that no bound is ever infinite or NaN.

    >>> Upper(1.0) + 2.0**-80 > 1.0
    True
    """

    __slots__ = ()
    __array_ufunc__ = None  # a NumPy scalar on the left must leave the operation to this class

    def __new__(cls, value: float) -> Upper:
        """Return the bound `value`, exact."""
        if not 0.0 <= value < math.inf:
            raise OverflowError(f"a bound is {float(value)!r}: it must be finite and not negative")
        return super().__new__(cls, value)

    def __add__(self, other: float) -> Upper:
        return _above(float.__add__(self, other))

    def __mul__(self, other: float) -> Upper:
        return _above(float.__mul__(self, other))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: float) -> Upper:
        if isinstance(other, Upper):
            raise TypeError("a quotient needs its denominator from below: use an exact number")
        return _above(float.__truediv__(self, other))

    def _no_bound(self, *_: float) -> Upper:
        raise TypeError("no bound follows: only sums, products, quotients and roots are rounded up")

    __sub__ = __rsub__ = __rtruediv__ = __neg__ = _no_bound
    __mod__ = __floordiv__ = __pow__ = __rpow__ = _no_bound  # pyright: ignore

    def sqrt(self) -> Upper:
        """Return an upper bound of the square root."""
        return _above(math.sqrt(self))

    def exp(self) -> Upper:
        """Return an upper bound of eˣ, x ≥ 0.

        Halved until x ≤ 1/16, where Σ_{k≤9} xᵏ/k! + x¹⁰/10! · 16/15 is above eˣ, since each term
        that is left is at most x/11 < 1/16 times the one before it; then squared as often.
        """
        halvings = max(0, math.frexp(self)[1] + 4)
        y = Upper(math.ldexp(self, -halvings))
        term = Upper(1.0)
        total = Upper(1.0)
        for k in range(1, 11):
            term = term * y / k
            total = total + (term if k < 10 else term * 16 / 15)
        for _ in range(halvings):
            total = total * total
        return total


def _above(value: float) -> Upper:
    # Rounding to nearest errs by less than the distance to the next float, underflow included.
    return Upper(math.nextafter(value, math.inf))


def exact(value: float | str | Fraction, *, name: str = "value") -> Fraction:
    """Return a number as a fraction; a float is read as the decimal that it prints as."""
    try:
        return Fraction(repr(float(value)) if isinstance(value, float) else value)
    except ValueError:
        raise ValueError(
            f"{name} = {value!r}: give a finite number, such as 0.1 or '1/3'"
        ) from None


def total(values: Iterable[float]) -> Upper:
    """Return an upper bound of the sum of nonnegative numbers."""
    result = Upper(0.0)
    for value in values:
        result = result + value
    return result


def length_of(values: Iterable[float]) -> Upper:
    """Return an upper bound of (Σ x_i²)^{1/2}."""
    return total(Upper(value) * value for value in values).sqrt()


def product_of(values: Iterable[float]) -> Upper:
    """Return an upper bound of the product of nonnegative numbers, 1 for none."""
    result = Upper(1.0)
    for value in values:
        result = result * value
    return result


def distance_below(value: float, error: Upper) -> float:
    """Return a lower bound of max(0, value − error), where `value` is exact."""
    return max(0.0, math.nextafter(value - float(error), -math.inf))


@lru_cache(maxsize=1024)
def gamma(n: int) -> Upper:
    """Return γ_n = nu/(1 − nu), which bounds the relative error that n roundings make."""
    if n > 2**40:
        raise OverflowError(f"{n} operations are too many for a bound on their rounding")
    return Upper(n * UNIT) / (1 - n * UNIT)  # both exact: n u has at most 41 bits


def norm(array: np.ndarray) -> Upper:
    """Return an upper bound of the Frobenius norm.

    The computed sum s of n squares has Σa² ≤ (s + nω)/(1 − γ_n) ≤ (s + nω)(1 + 2nu) for nu ≤ 1/4.
    """
    flat = array.ravel()
    n = flat.size
    return ((Upper(float(flat @ flat)) + n * UNDERFLOW) * (1 + 2 * gamma(n))).sqrt()


def largest_row(matrix: np.ndarray) -> Upper:
    """Return an upper bound of the norms of all rows, as `norm` does."""
    n = matrix.shape[1]
    squares = Upper(float(np.einsum("ij,ij->i", matrix, matrix).max(initial=0.0)))
    return ((squares + n * UNDERFLOW) * (1 + 2 * gamma(n))).sqrt()


def norm_below(array: np.ndarray) -> float:
    """Return a lower bound of the Frobenius norm, from Σa² ≥ (s − nω)(1 − γ_n)."""
    flat = array.ravel()
    n = flat.size
    squares = float(flat @ flat)
    if not math.isfinite(squares):
        raise OverflowError("a norm is not finite")
    below = (squares - n * UNDERFLOW) * (1 - 2 * (n + 4) * UNIT)  # the rest is for this line
    return max(0.0, math.sqrt(max(0.0, below)) * (1 - 4 * UNIT))


def product_rounding(n: int, left: float, right: float, entries: int) -> Upper:
    """Return a bound of ‖fl(AB) − AB‖_F: n terms a sum, ‖A‖_F ≤ left, ‖B‖_F ≤ right."""
    return gamma(n) * left * right + n * UNDERFLOW * math.ceil(math.sqrt(entries))


def spectral_norm(matrix: np.ndarray) -> Upper:
    """Return an upper bound of ‖A‖₂, at most (rank)^{1/32} times too large, or ‖A‖_F if smaller.

    With B = A/f, f ≥ ‖A‖_F: ‖B‖₂² = ‖BBᵀ‖₂, and for S₀ = fl(BBᵀ), S_{i+1} = fl(S_i S_iᵀ) each
    ‖S_i‖₂² = ‖S_iS_iᵀ‖₂ ≤ ‖S_{i+1}‖₂ + the rounding of that product. ‖S₃‖₂ ≤ ‖S₃‖_F.
    """
    frobenius = norm(matrix)
    small = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    factor = small / float(frobenius)
    roundings = []
    for _ in range(4):
        size = norm(factor)
        square = factor @ factor.T
        roundings.append(product_rounding(factor.shape[1], size, size, square.size))
        factor = square
    bound = norm(factor)
    for rounding in reversed(roundings):
        bound = (bound + rounding).sqrt()
    # A/f itself was rounded: each entry by u, relative to itself, and by underflow.
    division = UNIT * norm(small / float(frobenius)) * 2 + UNDERFLOW * small.size
    return min((bound + division) * frobenius, frobenius)


def exponential(array: np.ndarray) -> tuple[np.ndarray, Upper]:
    """Return float64 numbers near eˣ, |x| ≤ 700, and a bound of their relative error.

    y = x/2ˢ, |y| ≤ 0.1, is exact; the Taylor polynomial of degree 9 by Horner's rule errs by
    γ₂₇ e^{|y|}, and its remainder is at most |y|¹⁰ e^{|y|}/10!, both relative to e^y at most
    1.23 times that: together δ. Squaring s times makes it (1 + δ)^N (1 + u)^{N−1} − 1, N = 2ˢ.
    Only +, × and / are used, no library's exp.
    """
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= 700:
        raise OverflowError(f"exp of numbers up to {largest:.3g}: only |x| <= 700 is enclosed")
    squarings = max(0, math.ceil(math.log2(max(largest, 0.1) / 0.1)))
    while largest > 0.1 * 2.0**squarings:  # log2 above is a guess
        squarings += 1
    scaled = array / 2.0**squarings
    result = np.ones_like(scaled)
    for k in range(9, 0, -1):
        result = 1 + result * scaled / k
    for _ in range(squarings):
        result = result * result
    # 0.1¹⁰/10! < 2.8e-17; results are at least 0.9 here, so underflow stays far below u.
    delta = gamma(27) * 1.23 + Upper(2.8e-17) * 1.23
    exponent = (delta + UNIT) * 2.0**squarings
    return result, exponent * exponent.exp()
