"""One cell of a proof, computed again in ball arithmetic: other numbers, another library."""

from fractions import Fraction

import flint
import numpy as np
import pytest
import torch
from flint import arb, arb_mat, fmpq

from gfgd import networks
from gfgd.verified import flow_tube, losses
from gfgd.verified.flow_tube import Settings
from gfgd.verified.linear_network import from_objective
from tests.small_problems import small_network


def balls(array):
    return arb_mat([[arb(float(x)) for x in row] for row in np.atleast_2d(array)])


def length(*matrices):
    return sum((x * x for m in matrices for x in m.entries()), arb(0)).sqrt()


def curve(parts, tau, derivative=False):
    """Σ V_k τᵏ, or its derivative in τ, in balls."""
    value = balls(np.zeros_like(parts[0]))
    for k, part in enumerate(parts):
        if derivative:
            value = value + balls(part) * (k * tau ** (k - 1)) if k else value
        else:
            value = value + balls(part) * (tau**k if k else arb(1))
    return value


def slopes(network, weights):
    """∇φ in balls."""
    product = weights[-1]
    for weight in reversed(weights[:-1]):
        product = product * weight
    x = balls(network.inputs)
    outputs = (x * product.transpose()).tolist()
    rows = []
    for i, row in enumerate(outputs):
        if isinstance(network.loss, losses.CrossEntropy):
            powers = [z.exp() for z in row]
            total = sum(powers, arb(0))
            rows.append(
                [p / total - float(network.loss.onehot[i, c]) for c, p in enumerate(powers)]
            )
        else:
            wanted = network.loss.wanted[i].tolist()
            rows.append([z - w for z, w in zip(row, wanted, strict=True)])
    return arb_mat(rows).transpose() * x / arb(network.samples)


def chain_product(matrices, size):
    result = None
    for matrix in matrices:  # the rightmost factor first
        result = matrix if result is None else matrix * result
    return result if result is not None else balls(np.eye(size))


def crossed(weights, slope, i, j):
    """Z_ij = (W_n ⋯ W_{i+1})ᵀ ∇φ (W_{j−1} ⋯ W_1)ᵀ."""
    above = chain_product(weights[i:], slope.nrows())
    before = chain_product(weights[: j - 1], slope.ncols())
    return above.transpose() * slope * before.transpose()


def first_cell(objective):
    network = from_objective(objective)
    start = network.weights(objective.initial(1).numpy())
    return network, next(flow_tube.tube(network, start, Fraction(1), Settings()))


@pytest.fixture(scope="module", params=["cross_entropy", "half_squared_error"])
def cell(request):
    if request.param == "half_squared_error":
        plain = small_network("linear")
        wanted = torch.nn.functional.one_hot(plain.targets, 3).double()
        objective = networks.fully_connected(
            plain.inputs, wanted, hidden=(5, 4), activation="linear", loss=request.param
        )
    else:
        objective = small_network("linear")
    return first_cell(objective)


@pytest.mark.parametrize("tau", ["0", "3/7", "1"])
def test_the_defect_and_the_models(cell, tau):
    network, found = cell
    with flint.ctx.workprec(200):
        t = arb(fmpq(*map(int, tau.split("/"))))
        h = arb(fmpq(found.length.numerator, found.length.denominator))
        parts = [part.coefficients for part in found.weights]
        weights = [curve(part, t) for part in parts]
        slope = slopes(network, weights)
        gradients = [crossed(weights, slope, j, j) for j in range(1, len(weights) + 1)]
        missed = length(
            *(
                curve(part, t, derivative=True) / h + gradient
                for part, gradient in zip(parts, gradients, strict=True)
            )
        )
        largest, integral = flow_tube.defect(found.weights, found.models, float(found.length))
        assert missed <= arb(float(largest))
        assert integral <= float(found.length) * largest * (1 + 1e-9)
        made = [found.slope, *found.models.gradient(), found.models.crossed(3, 2)]
        true = [slope, *gradients, crossed(weights, slope, 3, 2)]
        for enclosing, value in zip(made, true, strict=True):
            gap = length(curve(enclosing.coefficients, t) - value)
            assert gap <= arb(float(enclosing.remainder))


def whole_form(weights, slope):
    """R as a dense matrix of balls: entries Z[a, c] M[b, e] for D_i[a, b], D_j[e, c]."""
    shapes = [(w.nrows(), w.ncols()) for w in weights]
    starts = np.cumsum([0] + [a * b for a, b in shapes])
    entries = [[arb(0)] * int(starts[-1]) for _ in range(int(starts[-1]))]
    for j in range(1, len(weights) + 1):
        for i in range(j + 1, len(weights) + 1):
            z = crossed(weights, slope, i, j)
            m = chain_product(weights[j : i - 1], shapes[j - 1][0])
            (rows, columns), (inner, outer) = shapes[i - 1], shapes[j - 1]
            for a, b, e, c in np.ndindex(rows, columns, inner, outer):
                p, q = int(starts[i - 1]) + a * columns + b, int(starts[j - 1]) + e * outer + c
                entries[p][q] = entries[q][p] = z[a, c] * m[b, e]
    return entries


def positive_definite(entries):
    """Gaussian elimination in balls: all pivots are positive."""
    rows = [list(row) for row in entries]
    for k, pivot in enumerate(rows):
        if not pivot[k] > 0:
            return False
        for row in rows[k + 1 :]:
            factor = row[k] / pivot[k]
            for column in range(k + 1, len(rows)):
                row[column] = row[column] - factor * pivot[column]
    return True


def test_the_curvature_at_both_ends_and_between(cell):
    network, found = cell
    with flint.ctx.workprec(200):
        for tau in ("0", "1/2", "1"):
            t = arb(fmpq(*map(int, tau.split("/"))))
            share = float(t.mid())
            weights = [curve(part.coefficients, t) for part in found.weights]
            entries = whole_form(weights, slopes(network, weights))
            rate = (1 - share) * found.rates[0] + share * found.rates[1]
            rate = float(rate) + (0.0 if share in (0, 1) else float(found.chord))
            for k, row in enumerate(entries):
                row[k] = row[k] + rate
            assert positive_definite(entries)
            if share in (0, 1):  # and not much less would do
                for k, row in enumerate(entries):
                    row[k] = row[k] - 2e-3 * rate
                assert not positive_definite(entries)
