"""Oracles: dense linear algebra."""

import numpy as np
import pytest
import torch

from gfgd.eigenpair_search import EigenpairSearch, NonFiniteHessianError, Subspace


def symmetric(size=40, seed=0):
    matrix = torch.randn(
        size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return matrix + matrix.T


def grown(matrix, count):
    space = Subspace(lambda vector: matrix @ vector, matrix[0])
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        vector = torch.randn(len(matrix), generator=generator, dtype=torch.float64)
        space.extend(space.remainder(vector)[0])
    return space


def check_invariants(space, matrix):
    rows = space.rows()
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(space)).double())
    torch.testing.assert_close(space.image_rows(), rows @ matrix)
    torch.testing.assert_close(torch.from_numpy(space.projected), rows @ matrix @ rows.T)


def test_rows_are_orthonormal_and_images_are_theirs():
    matrix = symmetric()
    space = grown(matrix, 20)
    check_invariants(space, matrix)
    space.restrict(np.linalg.eigh(space.projected)[1][:, [0, 1, 19]])
    assert len(space) == 3 and space.products == 20
    check_invariants(space, matrix)
    space.extend(space.remainder(torch.ones(40).double())[0])
    check_invariants(space, matrix)


def test_nothing_remains_of_a_vector_in_the_span():
    space = grown(symmetric(), 5)
    assert space.remainder(3.0 * space.rows()[2])[1] == 0
    direction, length = space.remainder(torch.ones(40).double())
    assert length > 0 and direction.norm().item() == pytest.approx(1)


@pytest.mark.parametrize(("dtype", "small"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_what_hardly_leaves_the_span_is_orthogonal_to_it_to_rounding(dtype, small):
    space = Subspace(lambda vector: vector, torch.zeros(400, dtype=dtype))
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        vector = torch.randn(400, generator=generator, dtype=dtype)
        space.extend(space.remainder(vector)[0])
    inside = space.rows().sum(0)
    direction, length = space.remainder(inside + small * vector.roll(1))
    assert 0 < length < 100 * small
    assert float((space.rows() @ direction).abs().max()) < 4 * torch.finfo(dtype).eps


def test_the_image_of_the_last_row_needs_no_products_with_the_rows():
    matrix = symmetric()
    space = grown(matrix, 12)
    direction, length = space.remainder_of_last_image()
    again, same = space.remainder(space.images[11])
    assert length == pytest.approx(same, rel=1e-12)
    torch.testing.assert_close(direction, again)


@pytest.mark.parametrize("block", [7, 2**16])
def test_the_coupling_is_what_the_images_have_beyond_the_span(block, monkeypatch):
    monkeypatch.setattr(Subspace, "BLOCK", block)
    matrix = symmetric()
    space = grown(matrix, 12)
    outside = torch.eye(40).double() - space.rows().T @ space.rows()
    beyond = space.image_rows() @ outside
    np.testing.assert_allclose(space.coupling(), beyond @ beyond.T, atol=1e-12)


def test_a_product_that_is_not_finite_is_told():
    with pytest.raises(NonFiniteHessianError, match="not finite"):
        grown(symmetric() / 0, 1)


def test_a_bound_that_a_ritz_value_lies_beyond_is_dropped():
    # The case of probability δ: then nothing may rest on that bound any more.
    matrix = symmetric()
    search = EigenpairSearch(40, 1, 1, 1e-2, 100, seed=0)
    pairs = search._pairs(grown(matrix, 10))
    low, high = pairs.wanted
    assert search._unrefuted(pairs, np.array([low + 1, high - 1])).tolist() == [-np.inf, np.inf]
    assert search._unrefuted(pairs, np.array([low - 1, high + 1])).tolist() == [low - 1, high + 1]
    rounded = search._unrefuted(pairs, np.array([low + 1e-12, high - 1e-12]))
    assert rounded.tolist() == [low, high]


def test_the_search_says_what_following_had_missed():
    matrix = torch.diag(torch.linspace(-1, 1, 200).double())
    matrix[77, 77] = 4.0
    search = EigenpairSearch(200, 0, 1, 1e-2, 500, seed=0)
    start = torch.eye(200).double()[[199]]
    found = search.solve(lambda vector: matrix @ vector, matrix[0], start, 1e-4)
    assert found.missed and found.converged.all()
    assert found.values[0] == pytest.approx(4, rel=1e-2)
    again = search.solve(lambda vector: matrix @ vector, matrix[0], found.vectors, 1e-4)
    assert not again.missed and again.converged.all()
