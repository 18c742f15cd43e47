"""Oracles: dense eigenvalues, and the frequency with which the bounds fail."""

import math
from itertools import pairwise

import numpy as np
import pytest

from gfgd.lanczos_bounds import deflated_lower_bound, smallest_weight, upper_bound


def lanczos(values, start, steps):
    """Lanczos' coefficients for diag(values), with full orthogonalisation."""
    rows, diagonal, off_diagonal = [start / np.linalg.norm(start)], [], []
    for _ in range(steps):
        image = values * rows[-1]
        diagonal.append(float(rows[-1] @ image))
        for _ in range(2):
            image = image - np.array(rows).T @ (np.array(rows) @ image)
        off_diagonal.append(float(np.linalg.norm(image)))
        rows.append(image / off_diagonal[-1])
    return diagonal, off_diagonal


SPECTRA = {
    "uniform": np.linspace(-1, 1, 120),
    "one outlier": np.r_[np.linspace(0, 1, 119), 3.0],
    "clustered end": 1 - np.linspace(0, 1, 120) ** 4,
    "tiny": 1e-9 * np.linspace(-1, 1, 120) ** 3,
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [3, 10, 25])
def test_with_the_true_weight_the_bound_always_holds(name, steps):
    values = np.sort(SPECTRA[name])
    for seed in range(20):
        start = np.random.default_rng(seed).normal(size=len(values))
        # The last vector is an eigenvector; nothing is left to chance.
        weight = (start[-1] / np.linalg.norm(start)) ** 2
        bound = upper_bound(*lanczos(values, start, steps), weight)
        assert bound >= values[-1] - 1e-12 * abs(values).max()


def test_the_sum_of_the_bound_is_its_definition():
    # By hand: A = diag(1, −1), start (c, s): p_1(μ) = (μ − α)/β with α = c² − s², β = 2cs.
    c, s = math.cos(0.3), math.sin(0.3)
    alpha, beta, weight = c * c - s * s, 2 * c * s, 0.01
    expected = alpha + beta * math.sqrt(1 / weight - 1)
    assert upper_bound([alpha], [beta], weight) == pytest.approx(expected, rel=1e-9)


def test_more_steps_bring_the_bound_nearer():
    values = SPECTRA["uniform"]
    start = np.random.default_rng(0).normal(size=120)
    weight = smallest_weight(1e-3, float(np.linalg.norm(start)))
    diagonal, off_diagonal = lanczos(values, start, 60)
    bounds = [upper_bound(diagonal[:k], off_diagonal[:k], weight) for k in (5, 10, 20, 40, 60)]
    assert all(later < before for before, later in pairwise(bounds))
    assert 1 <= bounds[-1] < 1.01 < bounds[2]


def test_an_invariant_krylov_space_leaves_nothing_beyond():
    assert upper_bound([2.0, 1.0], [1.0, 0.0], 1e-9) == pytest.approx(1.5 + math.sqrt(1.25))


def test_bounds_fail_about_as_often_as_is_said():
    # One outlier, too few steps to see it for certain: the probability is nearly attained.
    values, delta, failed = SPECTRA["one outlier"], 0.3, 0
    for seed in range(400):
        start = np.random.default_rng(seed).normal(size=120)
        weight = smallest_weight(delta, float(np.linalg.norm(start)))
        failed += upper_bound(*lanczos(values, start, 3), weight) < 3.0
    # At most δ up to three standard deviations, and not far below.
    assert 0.15 < failed / 400 < delta + 3 * math.sqrt(delta * (1 - delta) / 400)


def test_weight_is_the_quantile_of_a_normal_number():
    draws = np.random.default_rng(0).normal(size=200_000)
    for delta in (0.01, 0.1, 0.5):
        weight = smallest_weight(delta, 2.0)
        assert (draws**2 / 4 < weight).mean() == pytest.approx(delta, rel=0.1)


@pytest.mark.parametrize("size", [0, 1, 4])
def test_deflation_never_claims_too_much(size):
    for seed in range(30):
        random = np.random.default_rng(seed)
        matrix = random.normal(size=(20, 20))
        matrix = matrix + matrix.T
        axes = np.linalg.qr(random.normal(size=(20, 20)))[0]
        if seed % 2:  # near eigenvectors, as in use
            axes = np.linalg.eigh(matrix)[1] + 0.05 * random.normal(size=(20, 20))
            axes = np.linalg.qr(axes)[0]
        inside, outside = axes[:, :size], axes[:, size:]
        projected = inside.T @ matrix @ inside
        coupling = outside.T @ matrix @ inside
        complement = np.linalg.eigvalsh(outside.T @ matrix @ outside)[0]
        exact = np.linalg.eigvalsh(matrix)
        for index in range(size + 1):
            bound = deflated_lower_bound(projected, coupling.T @ coupling, complement, index)
            assert bound <= exact[index] + 1e-9


def test_deflation_by_eigenvectors_is_exact():
    bounds = [
        deflated_lower_bound(np.diag([-3.0, -1.0]), np.zeros((2, 2)), 0.5, index)
        for index in range(3)
    ]
    np.testing.assert_allclose(bounds, [-3, -1, 0.5], atol=1e-9)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: upper_bound([], [], 0.1), "diagonal"),
        (lambda: upper_bound([1.0], [1.0, 2.0], 0.1), "off_diagonal"),
        (lambda: upper_bound([1.0], [1.0], 0.0), "weight"),
        (lambda: smallest_weight(1.0, 1.0), "failure_probability"),
        (lambda: smallest_weight(0.1, 0.0), "start_norm"),
    ],
)
def test_bad_arguments(call, named):
    with pytest.raises(ValueError, match=named):
        call()
