import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from gfgd.flow import gradient_flow
from gfgd.objective import Objective
from gfgd.spectrum import extreme_eigenvalues, spectrum_along
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
    assert found.converged and found.smallest.shape == (11, 1)
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
    assert found.converged
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
    assert torch.equal(unmet, ~found.smallest_converged)


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
