"""Oracles: solutions built first, and the complementarity conditions themselves."""

import numpy as np
import pytest
import torch

from gfgd.large_steps.complementarity import (
    _Problem,
    coordinate_entries,
    from_coordinates,
    solve_complementarity,
    to_coordinates,
)
from gfgd.objective import Objective


def built(size, rank, seed, spread=1.0):
    """A problem with a known solution X of that rank and slack S of the complementary rank."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(size, size)))[0]
    weights = 0.1 + random.random(size)
    inside = np.arange(size) < rank
    solution = (axes * (weights * inside)) @ axes.T
    slack = (axes * (weights * ~inside)) @ axes.T
    count = size * (size + 1) // 2
    factor = random.normal(size=(count, count + 2)) * spread ** random.random((count, 1))
    operator = factor @ factor.T
    offset = slack - from_coordinates(operator @ to_coordinates(solution))
    return offset, operator, solution, slack


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_finds_the_solution_that_was_built_in(size, seed):
    for rank in range(1, size + 1):
        offset, operator, solution, slack = built(size, rank, seed, spread=0.1)
        found = solve_complementarity(offset, operator)
        assert found.converged and found.residual <= 1e-8
        np.testing.assert_allclose(found.solution, solution, atol=1e-4)
        np.testing.assert_allclose(found.slack, slack, atol=1e-6)


@pytest.mark.parametrize("power", [-8, 0, 8])
def test_scales_do_not_matter(power):
    offset, operator, solution, _ = built(3, 2, seed=5)
    found = solve_complementarity(offset * 10.0**power, operator)
    assert found.converged
    np.testing.assert_allclose(found.solution, solution * 10.0**power, rtol=1e-5)


def test_one_by_one_is_the_scalar_formula():
    assert solve_complementarity(np.array([[-3.0]]), np.array([[2.0]])).solution == 1.5
    assert solve_complementarity(np.array([[3.0]]), np.array([[2.0]])).solution == 0.0


def test_nothing_to_do_where_the_offset_is_positive():
    found = solve_complementarity(np.diag([1.0, 0.0]), np.eye(3))
    assert found.converged and not found.solution.any()


def test_diagonal_problem_without_coupling_is_scalar_problems():
    offset = np.diag([-1.0, 2.0, -3.0])
    operator = np.diag(to_coordinates(np.ones((3, 3)), weighted=False))
    found = solve_complementarity(offset, operator)
    np.testing.assert_allclose(found.solution, np.diag([1.0, 0.0, 3.0]), atol=1e-7)


def test_operator_that_does_not_see_the_off_diagonal():
    # X is then not unique, but its diagonal is.
    found = solve_complementarity(np.diag([-1.0, -2.0]), np.diag([1.0, 0.0, 1.0]))
    assert found.converged
    np.testing.assert_allclose(np.diag(found.solution), [1.0, 2.0], atol=1e-6)
    assert np.linalg.eigvalsh(found.solution)[0] >= 0


@pytest.mark.parametrize(
    ("offset", "operator"),
    [
        (np.array([[-1.0]]), np.array([[0.0]])),
        # The second entry must rise by 1, and nothing raises it.
        (np.diag([1.0, -1.0]), np.diag([1.0, 0.0, 0.0])),
        (np.diag([-1.0, -1.0, -1.0]), np.diag([1.0, 0, 0, 1.0, 0, 0])),
    ],
)
def test_unsolvable_problem_says_so(offset, operator):
    found = solve_complementarity(offset, operator)
    assert not found.converged and found.infeasible
    assert found.residual > 1e-4
    assert found.least_norm > 1e9 * np.linalg.norm(offset)


@pytest.mark.parametrize("seed", range(20))
def test_a_kernel_that_nothing_raises_is_certified(seed):
    # B maps vvᵀ to 0, and A is negative along v: S cannot become positive there.
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 8))
    count = size * (size + 1) // 2
    along = random.normal(size=size)
    along /= np.linalg.norm(along)
    kernel = to_coordinates(np.outer(along, along))
    factor = random.normal(size=(count, count))
    factor -= np.outer(kernel, kernel @ factor)
    offset = random.normal(size=(size, size))
    offset = offset + offset.T
    offset -= (along @ offset @ along + 0.5) * np.outer(along, along)
    found = solve_complementarity(offset, factor @ factor.T)
    assert found.infeasible and not found.converged


def test_the_bound_on_the_norm_of_solutions_is_one():
    # X = 1/ε along the second axis, and no other solution: far away, and not infeasible.
    offset, operator = np.diag([1.0, -1.0]), np.diag([1.0, 0.0, 1e-4])
    problem = _Problem(offset / np.sqrt(2), operator)
    assert problem.least_norm(np.diag([0.0, 1.0])) == pytest.approx(1e4 / np.sqrt(2))
    found = solve_complementarity(offset, operator)
    assert found.converged and not found.infeasible
    assert found.solution[1, 1] == pytest.approx(1e4, rel=1e-5)


def ill_scaled(seed):
    """A solvable problem, all of whose scales spread over five orders of magnitude."""
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 8))
    inside = np.arange(size) < int(random.integers(1, size + 1))
    axes = np.linalg.qr(random.normal(size=(size, size)))[0]
    solution = (axes * (10 ** random.uniform(-5.5, 0, size) * inside)) @ axes.T
    slack = (axes * (10 ** random.uniform(-5.5, 0, size) * ~inside)) @ axes.T
    count = size * (size + 1) // 2
    factor = random.normal(size=(count, count + 2)) * 10 ** random.uniform(-5.5, 0, (count, 1))
    operator = factor @ factor.T
    return slack - from_coordinates(operator @ to_coordinates(solution)), operator


def test_ill_scaled_problems_are_solved_and_not_called_infeasible():
    for seed in range(80):
        found = solve_complementarity(*ill_scaled(seed))
        assert found.converged and not found.infeasible
        assert np.linalg.eigvalsh(found.solution)[0] >= -1e-12 * np.linalg.norm(found.solution)


@pytest.mark.parametrize("seed", range(5))
def test_clarabel_solves_what_it_is_called_for(seed):
    # With no iterations of ours the fallback and its polish do it all.
    offset, operator, solution, slack = built(5, 3, seed, spread=0.1)
    found = solve_complementarity(offset, operator, max_iterations=1)
    assert found.converged
    np.testing.assert_allclose(found.solution, solution, atol=1e-4)
    np.testing.assert_allclose(found.slack, slack, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_fifteen_critical_eigenvalues_of_a_diagonal_network(seed):
    # ½ Σ (a_i b_i − y_i)², all 15 blocks critical: their slopes are orthogonal to each other, so
    # B is diagonal and sees no off-diagonal entry; X_ii = max(0, −A_ii/B_ii).
    generator = torch.Generator().manual_seed(seed)
    targets = 1 + 0.01 * torch.rand(15, generator=generator, dtype=torch.float64)
    objective = Objective(
        lambda p: 0.5 * (p[..., :15] * p[..., 15:] - targets).square().sum(-1), dimension=30
    )
    shares = 1 + 0.1 * torch.rand(15, generator=generator, dtype=torch.float64)
    point = torch.cat([shares, 1 / shares])
    values, vectors = torch.linalg.eigh(objective.hessian(point))
    values, vectors = values[-15:], vectors[:, -15:].T
    rows, columns, weights = coordinate_entries(15)
    slopes = torch.from_numpy(weights)[:, None] * objective.third_derivative(
        point, vectors[rows], vectors[columns]
    )
    offset = np.diag(1.95 - values.numpy())
    operator = 0.01 * (slopes @ slopes.T).numpy()
    found = solve_complementarity(offset, operator)
    assert found.converged and not found.infeasible
    expected = np.maximum(0, -np.diag(offset) / np.diag(operator)[rows == columns])
    np.testing.assert_allclose(np.diag(found.solution), expected, rtol=1e-5, atol=1e-6)


def test_what_no_solver_reaches_is_neither_solved_nor_infeasible():
    offset, operator, *_ = built(4, 2, seed=1)
    found = solve_complementarity(offset, operator, max_iterations=2, tolerance=1e-30)
    assert not found.converged and not found.infeasible


def test_coordinates_keep_inner_products():
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 4, 4))
    left, right = left + left.T, right + right.T
    assert to_coordinates(left) @ to_coordinates(right) == pytest.approx(np.sum(left * right))
    np.testing.assert_allclose(from_coordinates(to_coordinates(left)), left)


@pytest.mark.parametrize(
    ("offset", "operator"),
    [
        (np.eye(2), np.eye(2)),
        (np.ones((2, 3)), np.eye(3)),
        (np.empty((0, 0)), np.empty((0, 0))),
        (np.array([[np.nan]]), np.eye(1)),
    ],
)
def test_bad_arguments(offset, operator):
    with pytest.raises(ValueError, match="offset"):
        solve_complementarity(offset, operator)
