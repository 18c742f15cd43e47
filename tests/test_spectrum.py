import math

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch

from gfgd.eigenpair_search import Subspace
from gfgd.flow import gradient_flow
from gfgd.objective import Objective
from gfgd.spectrum import extreme_eigenvalues, spectrum_along
from gfgd.trajectory import Trajectory
from tests.small_problems import quadratic, small_network


def diagonal(values) -> Objective:
    return quadratic(*np.asarray(values).tolist())


RANDOM = np.random.default_rng(0)
SPECTRA = {
    "spread": RANDOM.normal(size=300),
    "all positive": 1 + RANDOM.random(250),
    "all negative": -1 - RANDOM.random(250),
    "singular, positive": np.r_[np.zeros(200), np.arange(1.0, 51)],
    "degenerate ends": np.r_[[-2.0] * 5, np.linspace(-1, 1, 240), [3.0] * 5],
    "multiple of the identity": np.full(220, 2.5),
    "zero": np.zeros(220),
    "one outlier": np.r_[[-1e3], np.linspace(1, 2, 230)],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_matrix_free_agrees_with_the_known_spectrum(name):
    values = SPECTRA[name]
    objective = diagonal(values)
    point = torch.zeros(len(values), dtype=torch.float64)
    found = extreme_eigenvalues(objective, point, tolerance=1e-6, dense_below=0)
    assert found.converged
    scale = max(np.abs(values).max(), 1e-30)
    assert found.smallest.item() == pytest.approx(values.min(), abs=1e-5 * scale)
    assert found.largest.item() == pytest.approx(values.max(), abs=1e-5 * scale)


@pytest.mark.parametrize("hidden", [(5, 4), (20, 20), (40, 30)])
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_matrix_free_agrees_with_dense_on_networks(hidden, activation):
    objective = small_network(activation, hidden)
    assert objective.dimension <= 2000
    point = objective.initial(1)
    exact = torch.linalg.eigvalsh(objective.hessian(point))
    found = extreme_eigenvalues(
        objective, point, smallest=3, largest=3, tolerance=1e-4, dense_below=0
    )
    assert found.converged
    torch.testing.assert_close(found.smallest, exact[:3], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.largest, exact[-3:].flip(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SPECTRA)
def test_few_vectors_give_the_known_spectrum(name):
    values = SPECTRA[name]
    objective = diagonal(values)
    point = torch.zeros(len(values), dtype=torch.float64)
    options = {"tolerance": 1e-4, "dense_below": 0, "failure_probability": None}
    scale = max(np.abs(values).max(), 1e-30)
    low = extreme_eigenvalues(objective, point, largest=0, max_vectors=10, **options)
    both = extreme_eigenvalues(objective, point, max_vectors=16, **options)
    assert low.certified and both.certified and not both.converged
    assert low.smallest.item() == pytest.approx(values.min(), abs=1e-3 * scale)
    assert both.smallest.item() == pytest.approx(values.min(), abs=1e-3 * scale)
    assert both.largest.item() == pytest.approx(values.max(), abs=1e-3 * scale)


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_few_vectors_cost_few_products_more(activation):
    # A cut to the Ritz vector alone would be steepest descent: several times as many.
    objective = small_network(activation, (40, 30))
    options = {"largest": 0, "dense_below": 0, "failure_probability": None, "tolerance": 1e-4}
    point = objective.initial(1)
    whole = extreme_eigenvalues(objective, point, **options)
    few = extreme_eigenvalues(objective, point, max_vectors=10, **options)
    exact = torch.linalg.eigvalsh(objective.hessian(point))[0]
    torch.testing.assert_close(few.smallest[0], exact, rtol=1e-4, atol=1e-7)
    assert few.products <= 2.5 * whole.products


def test_no_more_rows_are_kept_than_there_is_room_for(monkeypatch):
    counts = []
    extend = Subspace.extend

    def counted(space, direction):
        extend(space, direction)
        counts.append((len(space), len(space.basis)))

    monkeypatch.setattr(Subspace, "extend", counted)
    objective = small_network("tanh", (40, 30))
    extreme_eigenvalues(
        objective, objective.initial(1), smallest=2, largest=0, tolerance=1e-4, dense_below=0,
        failure_probability=None, max_vectors=18,
    )  # fmt: skip
    rows, room = map(max, zip(*counts, strict=True))
    assert rows == room == (18 - 2 - 2 * 2) // 2
    assert len(counts) > 2 * rows


def test_bad_arguments_of_few_vectors():
    objective, point = diagonal(np.arange(300.0)), torch.zeros(300, dtype=torch.float64)
    options = {"largest": 0, "failure_probability": None}
    with pytest.raises(ValueError, match=r"max_vectors = 9: must be .*10"):
        extreme_eigenvalues(objective, point, max_vectors=9, **options)
    with pytest.raises(ValueError, match="failure_probability=None"):
        extreme_eigenvalues(objective, point, largest=0, max_vectors=10)
    with pytest.raises(ValueError, match=r"warm_start has 5 rows: .* room for 4"):
        extreme_eigenvalues(
            objective, point, max_vectors=12, warm_start=torch.eye(5, 300).double(), **options
        )


def test_dense_and_matrix_free_report_the_same_fields():
    objective = small_network()
    point = objective.initial(2)
    dense = extreme_eigenvalues(objective, point, smallest=2, largest=1)
    free = extreme_eigenvalues(
        objective, point, smallest=2, largest=1, dense_below=0, tolerance=1e-8
    )
    assert dense.products == objective.dimension
    torch.testing.assert_close(dense.smallest, free.smallest)
    torch.testing.assert_close(dense.largest, free.largest)
    overlap = (dense.smallest_vectors * free.smallest_vectors).sum(-1).abs()
    torch.testing.assert_close(overlap, torch.ones(2, dtype=torch.float64))


def test_residuals_are_those_of_the_returned_vectors():
    objective = small_network("relu", (20, 20))
    point = objective.initial(0)
    found = extreme_eigenvalues(objective, point, dense_below=0, tolerance=1e-2)
    for values, vectors, residuals in (
        (found.smallest, found.smallest_vectors, found.smallest_residuals),
        (found.largest, found.largest_vectors, found.largest_residuals),
    ):
        products = objective.hessian_vector_product(point, vectors)
        recomputed = (products - values[:, None] * vectors).norm(dim=1)
        torch.testing.assert_close(recomputed, residuals, rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones_like(values))
        assert (residuals <= 1e-2 * values.abs()).all()


def test_what_did_not_converge_is_marked():
    values = np.linspace(-1, 1, 400) ** 3
    found = extreme_eigenvalues(
        diagonal(values), torch.zeros(400).double(), max_products=8, tolerance=1e-6, dense_below=0
    )
    assert not found.converged and found.products == 8
    assert (found.smallest_residuals > 1e-6).all()


def test_one_end_only():
    values = np.linspace(-1, 2, 300)
    found = extreme_eigenvalues(
        diagonal(values), torch.zeros(300).double(), largest=0, tolerance=1e-4, dense_below=0
    )
    assert found.largest.numel() == 0
    assert found.smallest.item() == pytest.approx(-1, abs=1e-6)


def arpack(objective, point, which, tolerance):
    """ARPACK's λ from a random start, and the products that it took."""
    products = 0

    def product(vector):
        nonlocal products
        products += 1
        vector = torch.from_numpy(np.ascontiguousarray(vector.reshape(-1)))
        return objective.hessian_vector_product(point, vector).numpy()

    size = objective.dimension
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)
    (value,) = scipy.sparse.linalg.eigsh(
        operator, k=1, which=which, tol=tolerance, v0=start, return_eigenvectors=False
    )
    return float(value), products


def test_along_a_trajectory_agrees_with_arpack_and_costs_less():
    objective = small_network("tanh", (20, 20))
    flow = gradient_flow(objective, objective.initial(0), torch.linspace(0, 5, 11))
    found = spectrum_along(objective, flow, tolerance=1e-3, dense_below=0)
    assert found.certified and found.smallest.shape == (11, 1)
    assert found.checked.tolist() == [True, *[False] * 9, True]
    total = 0
    for index, point in enumerate(flow.points):
        for which, mine in (("SA", found.smallest), ("LA", found.largest)):
            exact, products = arpack(objective, point, which, 1e-3)
            assert mine[index].item() == pytest.approx(exact, rel=1e-3)
            total += products
    assert found.products.sum() < total / 2


@pytest.mark.parametrize("largest", [0, 1])
def test_a_fine_trajectory_costs_a_fraction_of_arpack(largest):
    # The criterion of convergence is the same: ARPACK's tol is a relative residual, too.
    objective = small_network("linear", (40, 40))
    assert 1900 < objective.dimension <= 2000
    flow = gradient_flow(objective, objective.initial(1), torch.linspace(0, 3, 21))
    found = spectrum_along(objective, flow, largest=largest, tolerance=1e-2, dense_below=0)
    assert found.certified and found.checked[0] and found.checked[-1]
    cold = sum(arpack(objective, point, "SA", 1e-2)[1] for point in flow.points[::4])
    assert found.products.sum() / 21 < cold / 6 / 2
    for index in (0, 10, 20):
        exact, _ = arpack(objective, flow.points[index], "SA", 1e-9)
        assert found.smallest[index].item() == pytest.approx(exact, rel=1e-3)


def test_along_a_trajectory_what_did_not_converge_is_marked():
    objective = small_network("linear", (20, 20))
    flow = gradient_flow(objective, objective.initial(1), torch.linspace(0, 1, 3))
    found = spectrum_along(objective, flow, tolerance=1e-8, max_products=5, dense_below=0)
    assert not found.converged
    assert found.products.tolist() == [5, 5, 5]
    unmet = found.smallest_residuals > 1e-8 * found.smallest.abs()
    assert torch.equal(unmet, ~found.smallest_certified)


def test_along_a_trajectory_of_a_small_objective_is_dense():
    objective = quadratic(-1.0, 2.0, 3.0)
    flow = gradient_flow(objective, torch.ones(3).double(), torch.linspace(0, 1, 4))
    found = spectrum_along(objective, flow)
    torch.testing.assert_close(found.smallest, torch.full((4, 1), -1.0).double())
    torch.testing.assert_close(found.largest, torch.full((4, 1), 3.0).double())


@pytest.mark.parametrize("hidden", [(5, 4), (20, 15)])
def test_warm_start_from_the_last_vectors_is_right_and_cheaper(hidden):
    objective = small_network("tanh", hidden)
    flow = gradient_flow(objective, objective.initial(0), torch.linspace(0, 2, 6))
    options = {"smallest": 0, "largest": 2, "tolerance": 1e-4, "dense_below": 0}
    warm, cold, vectors = 0, 0, None
    for point in flow.points:
        found = extreme_eigenvalues(objective, point, warm_start=vectors, **options)
        vectors = found.largest_vectors
        warm += int(found.products)
        cold += int(extreme_eigenvalues(objective, point, **options).products)
        exact = torch.linalg.eigvalsh(objective.hessian(point))[-2:].flip(0)
        assert found.converged
        torch.testing.assert_close(found.largest, exact, rtol=1e-6, atol=1e-9)
    assert warm < cold


def test_warm_start_may_be_dependent_or_zero():
    objective = diagonal(np.linspace(-1, 2, 250))
    point = torch.zeros(250).double()
    rows = torch.ones(3, 250).double() * torch.tensor([[1.0], [2.0], [0.0]]).double()
    found = extreme_eigenvalues(objective, point, warm_start=rows, tolerance=1e-4, dense_below=0)
    assert found.converged
    assert found.smallest.item() == pytest.approx(-1, abs=1e-6)
    assert found.largest.item() == pytest.approx(2, abs=1e-6)


def test_bad_arguments():
    objective = quadratic(1.0, 2.0)
    point = torch.zeros(2).double()
    with pytest.raises(ValueError, match="tolerance = 0"):
        extreme_eigenvalues(objective, point, tolerance=0)
    with pytest.raises(ValueError, match="only d = 2 eigenvalues"):
        extreme_eigenvalues(objective, point, smallest=2)
    with pytest.raises(ValueError, match="largest = 0: must be at least 1"):
        extreme_eigenvalues(objective, point, smallest=0, largest=0)
    with pytest.raises(ValueError, match="max_products = 1: must be at least 2"):
        extreme_eigenvalues(objective, point, max_products=1)
    flow = gradient_flow(objective, point + 1, torch.linspace(0, 1, 2))
    with pytest.raises(ValueError, match="only d = 2 eigenvalues"):
        spectrum_along(objective, flow, smallest=2)
    with pytest.raises(ValueError, match=r"warm_start has shape \(2,\)"):
        extreme_eigenvalues(objective, point, warm_start=point)
    with pytest.raises(ValueError, match="warm_start: has non-finite"):
        extreme_eigenvalues(objective, point, warm_start=point[None] / 0)
    broken = Objective(lambda p: p.sqrt().sum(-1), dimension=2)
    with pytest.raises(ValueError, match="not finite"):
        extreme_eigenvalues(broken, point - 1)


class Matrices(Objective):
    """Symmetric matrices for Hessians: the one at the point (i, 0, …, 0) is the i-th."""

    def __init__(self, matrices: np.ndarray) -> None:
        super().__init__(lambda point: point.sum(-1), dimension=matrices.shape[-1])
        self.matrices = torch.from_numpy(matrices)

    def hessian_vector_product(self, point, vector):
        return vector @ self.matrices[int(point[0])]

    def path(self) -> Trajectory:
        points = torch.zeros(len(self.matrices), self.dimension, dtype=torch.float64)
        points[:, 0] = torch.arange(len(points))
        return Trajectory(times=points[:, 0], points=points, losses=points[:, 0], counts={})


def rotation(random, size):
    return np.linalg.qr(random.normal(size=(size, size)))[0]


def moving_diagonals(random, times, size):
    """Each eigenvalue moves on a line: at both ends they cross again and again."""
    ends = random.normal(size=(2, size))
    shares = np.linspace(0, 1, times)[:, None]
    return (1 - shares) * ends[0] + shares * ends[1]


def decoupled(random, times, size):
    values = moving_diagonals(random, times, size)
    axes = rotation(random, size)
    return np.einsum("ij,tj,kj->tik", axes, values, axes)


def entering(random, times, size):
    """At each time new extreme eigenvectors, which were in the middle of the spectrum before."""
    values = np.tile(random.uniform(-1, 1, size), (times, 1))
    for time in range(times):
        values[time, random.integers(size)] = 1.2 + random.random()
        values[time, random.integers(size)] = -1.2 - random.random()
    axes = rotation(random, size)
    return np.einsum("ij,tj,kj->tik", axes, values, axes)


def blocks(random, times, size):
    """Two blocks that do not see each other; the extremes go from the one to the other."""
    half = size // 2
    matrices = np.zeros((times, size, size))
    for block in (slice(half), slice(half, size)):
        count = block.stop - (block.start or 0)
        first, second = (random.normal(size=(count, count)) for _ in range(2))
        for time in range(times):
            share = time / (times - 1)
            mixed = (1 - share) * first + share * second if block.start else first
            matrices[time, block, block] = (mixed + mixed.T) * (0.5 + share * bool(block.start))
    return matrices


def multiple(random, times, size):
    """Whole groups of equal eigenvalues, which cross at both ends."""
    few = moving_diagonals(random, times, 8)
    values = np.repeat(few, -(-size // 8), axis=1)[:, :size]
    axes = rotation(random, size)
    return np.einsum("ij,tj,kj->tik", axes, values, axes)


def turning(random, times, size):
    """A few outliers beside a bulk near 0, all of whose eigenvectors turn."""
    values = np.r_[random.uniform(-0.1, 0.3, size - 6), random.uniform(-0.5, 5, 6)]
    generator = random.normal(size=(size, size)) / np.sqrt(size)
    step = scipy.linalg.expm(0.1 * (generator - generator.T))
    axes, matrices = rotation(random, size), []
    for _ in range(times):
        matrices.append((axes * values) @ axes.T)
        axes = axes @ step
        values = values + 0.05 * random.normal(size=size) * np.abs(values)
    return np.array(matrices)


PATHS = [decoupled, entering, blocks, multiple, turning]


@pytest.mark.slow
@pytest.mark.parametrize("family", PATHS)
@pytest.mark.parametrize("counts", [(1, 1), (2, 0), (0, 3), (1, 2)])
def test_on_random_paths_nothing_wrong_is_called_converged(family, counts):
    checked = 0
    for seed in range(12):  # 5 families, 4 pairs of counts: 240 paths
        random = np.random.default_rng([seed, *counts])
        matrices = family(random, 5, 110)
        objective = Matrices(matrices)
        found = spectrum_along(
            objective,
            objective.path(),
            smallest=counts[0],
            largest=counts[1],
            check_every=2,
            dense_below=0,
            seed=seed,
        )
        assert found.certified and found.products.max() <= 3 * 110
        exact = torch.from_numpy(np.linalg.eigvalsh(matrices))
        low, high = exact[:, : counts[0]], exact.flip(-1)[:, : counts[1]]
        allowed = 1e-2 * torch.cat([found.smallest, found.largest], 1).abs()
        error = torch.cat([found.smallest - low, high - found.largest], 1)
        outside = torch.cat([low - found.smallest_bounds, found.largest_bounds - high], 1)
        converged = torch.cat([found.smallest_converged, found.largest_converged], 1)
        assert (error > -1e-9).all()  # a Ritz value is inside, always
        assert (outside > -1e-9).all()
        assert (error <= allowed)[converged].all()
        checked += int(found.checked.sum())
    assert checked >= 3 * 12  # the first, the middle and the last of each path


def test_what_enters_from_outside_is_found_and_followed_back():
    # An eigenvector that all kept ones are orthogonal to rises from the bulk past both ends.
    values = np.tile(np.r_[np.linspace(-0.5, 0.5, 148), -2.0, 2.0], (12, 1))
    values[:, 70] = np.linspace(0.0, 5.5, 12)  # beyond 2 from the fifth time on
    values[:, 71] = np.linspace(0.0, -5.5, 12)
    axes = rotation(np.random.default_rng(0), 150)
    objective = Matrices(np.einsum("ij,tj,kj->tik", axes, values, axes))
    found = spectrum_along(objective, objective.path(), dense_below=0)
    assert found.certified and found.checked[[0, -1]].all()
    torch.testing.assert_close(
        found.largest[:, 0], torch.from_numpy(values.max(1)), rtol=1e-2, atol=0
    )
    torch.testing.assert_close(
        found.smallest[:, 0], torch.from_numpy(values.min(1)), rtol=1e-2, atol=0
    )


def test_a_warm_start_that_is_orthogonal_to_the_extreme_eigenvector():
    values = np.r_[np.linspace(-1, 1, 198), -3.0, 3.0, 2.0, -2.0]
    warm = torch.eye(202, dtype=torch.float64)[[200, 201]]
    point = torch.zeros(202, dtype=torch.float64)
    found = extreme_eigenvalues(diagonal(values), point, warm_start=warm)
    assert found.converged
    assert found.largest.item() == pytest.approx(3, rel=1e-2)
    assert found.smallest.item() == pytest.approx(-3, rel=1e-2)
    followed = extreme_eigenvalues(
        diagonal(values), point, warm_start=warm, failure_probability=None
    )
    assert followed.certified and not followed.converged
    assert followed.smallest_bounds.isneginf().all() and followed.largest_bounds.isposinf().all()


def diagonal_network(seed, blocks=150):
    """½ Σ (u_i v_i − y_i)² from starts of very different sizes; its Hessian is of 2×2 blocks."""
    generator = torch.Generator().manual_seed(seed)
    targets = 0.5 + 2 * torch.rand(blocks, generator=generator, dtype=torch.float64)
    sizes = 10 ** (-4 * torch.rand(blocks, generator=generator, dtype=torch.float64))

    def value(p):
        return 0.5 * (p[..., :blocks] * p[..., blocks:] - targets.to(p)).square().sum(-1)

    return Objective(value, dimension=2 * blocks), torch.cat([sizes, sizes])


@pytest.mark.parametrize("seed", [0, 1])
def test_on_a_diagonal_linear_network_what_converged_is_right(seed):
    objective, start = diagonal_network(seed)
    flow = gradient_flow(objective, start, torch.linspace(0, 6, 31), estimate_error=False)
    found = spectrum_along(objective, flow, check_every=6)
    exact = torch.stack([torch.linalg.eigvalsh(objective.hessian(p))[[0, -1]] for p in flow.points])
    assert found.checked.sum() >= 6 and not found.converged
    for values, true in ((found.smallest[:, 0], exact[:, 0]), (found.largest[:, 0], exact[:, 1])):
        torch.testing.assert_close(values[found.checked], true[found.checked], rtol=1e-2, atol=0)
    # Checked everywhere, everything is right.
    everywhere = spectrum_along(objective, flow.at(flow.times[::3]), check_every=1)
    assert everywhere.converged
    torch.testing.assert_close(everywhere.smallest[:, 0], exact[::3, 0], rtol=1e-2, atol=0)
    torch.testing.assert_close(everywhere.largest[:, 0], exact[::3, 1], rtol=1e-2, atol=0)


def test_on_a_permutation_symmetric_network_what_converged_is_right():
    # Equal hidden units stay equal along the flow; directions that part them are orthogonal to it.
    objective = small_network("tanh", (12, 10))
    first, second, third = (weight.clone() for weight in objective.weights(objective.initial(0)))
    first[1::2], second[:, 1::2] = first[::2], second[:, ::2]
    start = torch.cat([weight.reshape(-1) for weight in (first, second, third)])
    flow = gradient_flow(objective, start, torch.linspace(0, 6, 9), estimate_error=False)
    found = spectrum_along(objective, flow, smallest=2, largest=2, check_every=4, dense_below=0)
    exact = torch.stack([torch.linalg.eigvalsh(objective.hessian(p)) for p in flow.points])
    assert found.checked[[0, 4, 8]].all()
    torch.testing.assert_close(
        found.smallest[found.checked], exact[found.checked][:, :2], rtol=1e-2, atol=0
    )
    torch.testing.assert_close(
        found.largest[found.checked], exact[found.checked].flip(1)[:, :2], rtol=1e-2, atol=0
    )


def test_multiplicities_are_counted():
    found = extreme_eigenvalues(
        diagonal(SPECTRA["degenerate ends"]),
        torch.zeros(250, dtype=torch.float64),
        smallest=3,
        largest=6,
        dense_below=0,
    )
    assert found.converged
    torch.testing.assert_close(found.smallest, torch.full((3,), -2.0).double(), rtol=1e-2, atol=0)
    exact = torch.tensor([3.0] * 5 + [1.0], dtype=torch.float64)
    torch.testing.assert_close(found.largest, exact, rtol=1e-2, atol=0)


def test_bounds_enclose_from_outside_and_say_their_probability():
    objective = small_network("tanh", (20, 20))
    point = objective.initial(3)
    exact = torch.linalg.eigvalsh(objective.hessian(point))
    found = extreme_eigenvalues(
        objective, point, smallest=2, largest=2, failure_probability=1e-6, dense_below=0
    )
    assert found.converged and found.failure_probability == 1e-6
    assert (found.smallest_bounds <= exact[:2] + 1e-12).all()
    assert (exact[:2] <= found.smallest + 1e-12).all()
    assert (found.largest_bounds >= exact[-2:].flip(0) - 1e-12).all()
    dense = extreme_eigenvalues(objective, point, dense_below=10_000)
    assert dense.failure_probability == 0 and torch.equal(dense.smallest, dense.smallest_bounds)


def test_a_bound_that_no_budget_reaches_is_reported_as_it_is():
    values = np.r_[np.linspace(0, 1, 3000) ** 8 * 0.5, 1.0]  # half of all within 0.002 of λmin
    found = extreme_eigenvalues(
        diagonal(values - 1e-3), torch.zeros(3001).double(), max_products=60
    )
    assert found.largest_converged.all() and not found.smallest_converged.any()
    assert -1 < found.smallest_bounds.item() < -1e-3 < -0.9e-3


def test_evidence_says_what_is_certified_and_what_is_found():
    objective = Matrices(np.stack([np.diag(np.linspace(-1, 2, 240))] * 4))
    found = spectrum_along(objective, objective.path(), dense_below=0)
    assert found.evidence == (
        "Each value is certified to be an eigenvalue up to the tolerance at 4 of 4 times. That it "
        "is the extreme one was checked at 2 times, with probability 0.9999 at each end; at the "
        "others it was found by following eigenvectors from one time to the next."
    )
    dense = spectrum_along(objective, objective.path(), dense_below=1000)
    assert dense.converged and dense.evidence.endswith("was checked by the whole spectrum.")
    point = objective.path().points[0]
    followed = extreme_eigenvalues(objective, point, failure_probability=None)
    assert followed.evidence.endswith("was found, not checked.")
    short = extreme_eigenvalues(objective, point, max_products=3, tolerance=1e-6)
    assert "no eigenvalues yet" in short.evidence


def test_the_vectors_of_a_point_and_of_none():
    found = extreme_eigenvalues(quadratic(1.0, 2.0, 3.0), torch.zeros(3).double(), largest=2)
    assert found.vectors().shape == (3, 3)
    with pytest.raises(ValueError, match="keeps no vectors"):
        found.without_vectors().vectors()


def test_the_integral_of_negative_curvature_counts_no_positive_one():
    lowest = np.array([-2.0, -1.0, 0.5, 3.0])
    objective = Matrices(np.stack([np.diag([low, 4.0]) for low in lowest]))
    path = objective.path()
    found = spectrum_along(objective, path)
    expected = np.trapezoid(np.maximum(-lowest, 0), path.times)
    assert float(found.negative_curvature) == pytest.approx(expected, rel=1e-12)
    only_largest = spectrum_along(objective, path, smallest=0)
    for without in (only_largest, extreme_eigenvalues(objective, path.points[0])):
        with pytest.raises(ValueError, match="no λmin along a trajectory"):
            _ = without.negative_curvature


@pytest.mark.parametrize("dimension", [3, 250])
def test_a_batch_of_points_is_refused(dimension):
    objective = quadratic(*np.linspace(1, 2, dimension))
    with pytest.raises(ValueError, match=r"give one θ.*spectrum_along"):
        extreme_eigenvalues(objective, torch.zeros(4, dimension).double())
    with pytest.raises(ValueError, match="d = "):
        extreme_eigenvalues(objective, torch.zeros(dimension + 1).double())


def test_bad_arguments_of_the_check():
    objective = quadratic(1.0, 2.0)
    point = torch.zeros(2).double()
    flow = gradient_flow(objective, point + 1, torch.linspace(0, 1, 2))
    for probability in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="failure_probability"):
            extreme_eigenvalues(objective, point, failure_probability=probability)
        with pytest.raises(ValueError, match="failure_probability"):
            spectrum_along(objective, flow, failure_probability=probability)
    with pytest.raises(ValueError, match="check_every = 0"):
        spectrum_along(objective, flow, check_every=0)
