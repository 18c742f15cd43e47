"""Oracles: solutions built first, and the complementarity conditions themselves."""

import numpy as np
import pytest

from gfgd.large_steps.complementarity import from_coordinates, solve_complementarity, to_coordinates


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
    assert not found.converged
    assert found.residual > 1e-4


def test_too_few_iterations_are_not_passed_off():
    offset, operator, *_ = built(4, 2, seed=1)
    assert not solve_complementarity(offset, operator, max_iterations=2).converged


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
