"""What a proof takes for granted of the machine, looked at as far as one can look."""

import ctypes
import platform
from fractions import Fraction

import numpy as np
import pytest
import torch

from gfgd.verified import NotVerifiedError, enclose, residual_curvature
from gfgd.verified.balanced import BalancedStart, enclosed_flow
from gfgd.verified.balanced_certificates import certificate
from gfgd.verified.directed import UNDERFLOW, UNIT, check_arithmetic, exponential
from tests.verified.examples import digits_network


@pytest.fixture
def flushed():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


def test_flushed_operands_are_refused(flushed):
    objective = digits_network((6,))
    start = objective.initial(1)
    with pytest.raises(NotVerifiedError, match="flush_denormal"):
        enclose(objective, start, step_size=0.01, iterations=2)
    with pytest.raises(NotVerifiedError, match="flush_denormal"):
        residual_curvature(objective, start)
    flow = enclosed_flow(BalancedStart.of(2, radius="0.5", cosine=1), 1, order=1, cells=8)
    with pytest.raises(NotVerifiedError, match="flush_denormal"):
        certificate(flow, 0.1)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.system() != "Linux",
    reason="the names of rounding modes are the platform's",
)
@pytest.mark.parametrize("mode", [0x400, 0x800, 0xC00])  # down, up, towards zero
def test_other_rounding_modes_are_refused(mode):
    library = ctypes.CDLL("libm.so.6")
    check_arithmetic()
    library.fesetround(mode)
    try:
        with pytest.raises(NotVerifiedError, match="rounded to nearest"):
            check_arithmetic()
    finally:
        library.fesetround(0)
    check_arithmetic()


def graded(n):
    """Return two matrices, each with blocks of very different size, and their exact product."""
    generator = np.random.default_rng(0)
    scale = np.where(np.arange(n) < n // 2, 1.0, 2.0**-40)
    left = generator.standard_normal((n, n)) * scale[:, None]
    right = generator.standard_normal((n, n)) * scale
    return left, right


def worst_entry(product, left, right):
    """Return the largest error of an entry over γ_n Σ|a_i b_i|, of sampled entries, exactly."""
    n = len(left)
    allowed = n * UNIT / (1 - n * UNIT)
    worst = 0.0
    for i, j in [(0, 0), (n - 1, n - 1), (0, n - 1), (n - 1, 0), (n // 2, n - 2)]:
        terms = [
            Fraction(float(a)) * Fraction(float(b))
            for a, b in zip(left[i], right[:, j], strict=True)
        ]
        error = abs(Fraction(float(product[i, j])) - sum(terms))
        bound = allowed * float(sum(map(abs, terms))) + n * UNDERFLOW
        worst = max(worst, float(error) / bound)
    return worst


def strassen(a, b):
    """Return AB by one level of Strassen's scheme."""
    h = len(a) // 2
    (p, q), (r, s) = (a[:h, :h], a[:h, h:]), (a[h:, :h], a[h:, h:])
    (t, u), (v, w) = (b[:h, :h], b[:h, h:]), (b[h:, :h], b[h:, h:])
    m1, m2, m3 = (p + s) @ (t + w), (r + s) @ t, p @ (u - w)
    m4, m5, m6, m7 = s @ (v - t), (p + q) @ w, (r - p) @ (t + u), (q - s) @ (v + w)
    return np.block([[m1 + m4 - m5 + m7, m3 + m5], [m2 + m4, m1 - m2 + m3 + m6]])


@pytest.mark.parametrize("n", [8, 50, 200, 784])
def test_matrix_products_are_summed_conventionally(n):
    """The bound on rounding holds entry by entry, which it does not for Strassen's scheme."""
    left, right = graded(n)
    assert worst_entry(left @ right, left, right) < 0.5
    assert worst_entry(left @ right.T.copy().T, left, right) < 0.5
    assert worst_entry(strassen(left, right), left, right) > 10


def test_exponential_at_both_ends_of_its_range():
    """Near 700, where nothing underflows yet, and for subnormal numbers, where scaling rounds."""
    tiny = np.array([5e-324, -5e-324, 2.2e-308])
    for numbers in (np.array([700.0, -700.0]), np.array([-700.0, 0.0]), tiny):
        values, relative = exponential(numbers)
        for x, value in zip(numbers.tolist(), values.tolist(), strict=True):
            exact = torch.tensor(x, dtype=torch.float64).exp()  # right to a few units
            assert abs(value / float(exact) - 1) <= float(relative) + 4 * UNIT
    with pytest.raises(OverflowError):
        exponential(np.array([700.1]))
    with pytest.raises(OverflowError):
        exponential(np.array([np.nan]))
