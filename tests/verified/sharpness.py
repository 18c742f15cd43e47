"""Each bound near its sharp case: it holds, and it could not be much smaller.

A comparison with the truth at the end cannot test a bound: true errors lie orders below. So each
function here takes one bound to where it is nearly attained, and asserts both sides.
"""

import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from flint import arb, ctx

from gfgd import extreme_eigenvalues, networks
from gfgd.verified import descent_radius, directed, flow_tube, losses
from gfgd.verified import linear_network as links
from gfgd.verified.directed import Upper
from gfgd.verified.flow_tube import Settings
from gfgd.verified.taylor_models import TaylorModel, model

from .examples import digits_network

LONG = np.longdouble
rng = np.random.default_rng


def residual_module():
    """The module, which the function of the same name hides."""
    return sys.modules["gfgd.verified.residual_curvature"]


def exact_sum(values):
    return sum((Fraction(float(v)) for v in values), Fraction(0))


def rational(upper):
    return Fraction(float(upper))


# ------------------------------------------------------------------------------------- directed


def operations():
    generator = rng(0)
    for a, b in generator.uniform(0, 3, size=(200, 2)).tolist():
        assert rational(Upper(a) + b) > Fraction(a) + Fraction(b)
        assert rational(Upper(a) * b) > Fraction(a) * Fraction(b)
        assert rational(Upper(a) / b) > Fraction(a) / Fraction(b)
        assert rational(Upper(a).sqrt()) ** 2 > Fraction(a)
        assert rational(Upper(a) * b) < Fraction(a) * Fraction(b) * (1 + Fraction(1, 2**51))
    assert Upper(1e-200) * 1e-200 > 0
    with ctx.workprec(200):
        for x in (0.0, 1e-9, 0.06, 0.5, 3.0, 40.0):
            true = arb(x).exp()
            assert arb(float(Upper(x).exp())) >= true
            assert arb(float(Upper(x).exp())) <= true * (1 + 1e-11)


def norms():
    for n in (1, 2, 7, 1000):
        array = rng(n).normal(size=n)
        square = exact_sum(Fraction(v) ** 2 for v in array.tolist())
        assert rational(directed.norm(array)) ** 2 > square
        assert rational(directed.norm_below(array)) ** 2 < square
        assert directed.norm(array) < directed.norm_below(array) * (1 + 1e-12)
    tiny = np.full((10, 10), 1e-170)  # squares underflow
    assert directed.norm(tiny) > 1e-169


def spectral_norms():
    for shape in ((3, 40), (40, 3), (20, 20)):
        matrix = rng(0).normal(size=shape)
        true = np.linalg.norm(matrix, 2)
        assert true < directed.spectral_norm(matrix) < 1.1 * true
    ones = np.ones((4, 9))
    assert 6 < directed.spectral_norm(ones) < 6 * (1 + 1e-9)


def exponentials():
    with ctx.workprec(100):
        for largest in (0.05, 5.0, 90.0):
            x = -np.linspace(0, largest, 400)
            values, bound = directed.exponential(x)
            errors = [
                float(abs(arb(v) / arb(t).exp() - 1).mid())
                for v, t in zip(values.tolist(), x.tolist(), strict=True)
            ]
            assert 1e-3 * bound < max(errors) <= bound


# --------------------------------------------------------------------------------- Taylor models


def value(coefficients, tau):
    return sum(c.astype(LONG) * LONG(tau) ** k for k, c in enumerate(coefficients))


def product_rounding():
    for seed in range(5):
        a = rng(seed).uniform(1, 2, size=(1, 4, 400))
        b = rng(seed + 9).uniform(1, 2, size=(1, 400, 4))
        made = TaylorModel(a, Upper(0.0), 0) @ TaylorModel(b, Upper(0.0), 0)
        error = np.linalg.norm(
            (a[0].astype(LONG) @ b[0].astype(LONG) - made.coefficients[0]).astype(float)
        )
        assert 1e-4 * made.remainder < error <= made.remainder


def product_carried():
    b = rng(0).normal(size=(6, 5))
    left = np.linalg.svd(b)[0]
    error = 0.1 * np.outer(np.ones(3) / 3**0.5, left[:, 0])  # ‖E‖_F = 0.1, along b's worst
    made = TaylorModel(np.zeros((1, 3, 6)), Upper(0.1), 0) @ model(b)
    assert 0.85 * made.remainder < np.linalg.norm(error @ b) <= made.remainder
    made = model(b.T) @ TaylorModel(np.zeros((1, 6, 3)), Upper(0.1), 0)
    assert 0.85 * made.remainder < np.linalg.norm(error @ b) <= made.remainder
    both = TaylorModel(np.zeros((1, 1, 1)), Upper(2.0), 0) @ TaylorModel(
        np.zeros((1, 1, 1)), Upper(3.0), 0
    )
    assert 6 <= both.remainder < 6 + 1e-12


def product_truncated():
    ones = np.ones((5, 2, 2))
    made = TaylorModel(ones, Upper(0.0), 4) @ TaylorModel(ones, Upper(0.0), 4)
    error = np.linalg.norm(
        (value(ones, 1) @ value(ones, 1) - value(made.coefficients, 1)).astype(float)
    )
    assert 0.999 * made.remainder < error <= made.remainder


def values_of_models():
    parts = rng(0).uniform(0, 1, size=(17, 30, 30))
    curve = TaylorModel(parts, Upper(0.0), 18)
    taus = np.array([0.3, 0.77, 1.0])
    worst = max(
        float(np.linalg.norm((value(parts, tau) - got).astype(float)))
        for tau, got in zip(taus, curve.values_at(taus), strict=True)
    )
    assert 1e-4 * curve.rounding_of_values() < worst <= curve.rounding_of_values()


# ---------------------------------------------------------------------------------------- losses


def softmax(z):
    z = z - z.max(-1, keepdims=True)
    p = np.exp(z.astype(LONG))
    return p / p.sum(-1, keepdims=True)


def softmax_distance(outputs, candidate):
    return max(
        float(np.linalg.norm((softmax(value(outputs, t)) - value(candidate, t)).astype(float)))
        for t in np.linspace(0, 1, 41)
    )


def softmax_truncated():
    """A constant candidate for a path of high degree: all of the defect is in the tail."""
    outputs = np.zeros((12, 1, 3))
    outputs[11, 0] = [4e-3, -1e-3, 0]
    candidate = losses.softmax_coefficients(outputs[:1])
    bound = losses.softmax_error(outputs, candidate)
    assert 0.2 * bound < softmax_distance(outputs, candidate) <= bound


def softmax_stretched():
    """An error at the start grows along the path, from a saturated sample to an even one."""
    outputs = np.zeros((31, 1, 2))
    outputs[0, 0], outputs[1, 0] = [-1.0, 1.0], [1.0, -1.0]
    exact = losses.softmax_coefficients(outputs)
    shifted = outputs.copy()
    shifted[0, 0, 0] += 1e-4
    candidate = losses.softmax_coefficients(shifted)
    bound = losses.softmax_error(outputs, candidate)
    start = np.abs(candidate[0] - exact[0]).sum()
    moved = softmax_distance(outputs, candidate)
    assert moved > 1.3 * start  # so that a bound without growth fails
    assert moved <= bound


def softmax_defects():
    generator = rng(0)
    for degree, rises in ((3, 5), (5, 2), (0, 8)):
        q = generator.uniform(size=(degree + 1, 1, 3))
        slopes = generator.normal(size=(rises, 1, 3))
        slopes[-1] *= 30  # the degrees that are bounded by absolute values count
        taus = np.linspace(0, 1, 2001)
        size = []
        for tau in taus:
            p, z = value(q, tau), value(slopes, tau)
            rate = sum(k * q[k].astype(LONG) * LONG(tau) ** (k - 1) for k in range(1, degree + 1))
            size.append(float(np.abs(rate - p * (z - (p * z).sum(1, keepdims=True))).sum()))
        true = np.trapezoid(size, taus)
        bound = float(losses._softmax_defect(slopes, q)[0])
        assert 0.05 * bound < true <= bound


def products_above():
    first, second = rng(0).uniform(size=(4, 1)), rng(1).uniform(size=(6, 1))
    true = sum(first[i] * second[j] for i in range(4) for j in range(6) if i + j > 5)
    assert np.isclose(losses.products_above(first, second, 5), true, rtol=1e-12).all()


def softmax_at_a_point():
    outputs = rng(0).normal(size=(1, 300, 10)) * 12
    candidate = losses.softmax_coefficients(outputs)
    bound = losses.softmax_error(outputs, candidate)
    distance = softmax_distance(outputs, candidate)
    assert 1e-4 * bound < distance <= bound
    loss = losses.CrossEntropy(np.eye(10)[np.zeros(300, dtype=int)])
    spread = float(np.ptp(outputs[0], axis=1).max())
    assert distance <= loss.slope_error(spread)


def curvature_of_the_loss():
    p = np.array([0.5, 0.5])  # diag(p) − ppᵀ at its largest
    largest = np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))[-1]
    assert largest <= losses.CrossEntropy.curvature
    assert losses.CrossEntropy.curvature <= 0.5
    assert losses.HalfSquaredError.curvature == 1


# -------------------------------------------------------------------------------------- curvature


def path_form(coefficients):
    """The form of a network of depth 2, which is 2⟨Z, D_2 D_1⟩, along a path of Z."""
    module = residual_module()
    curve = TaylorModel(coefficients, Upper(0.0), len(coefficients) - 1)
    return module.Form(2, {(2, 1): curve}, {(2, 1): None})


def chords():
    module = residual_module()
    bent = np.zeros((3, 2, 2))
    bent[1, 0, 0], bent[2, 0, 0] = -1, 1  # Z = τ² − τ: λmin = −|Z|, ¼ below its chord in the middle
    deviation = path_form(bent).chord_deviation()
    assert 0.25 <= deviation < 0.25 * (1 + 1e-9)
    taus = np.linspace(0, 1, 10001)
    for k in range(2, 24):
        true = (taus - taus**k).max()
        assert true <= module.chord_factor(k) < true * (1 + 1e-6)
    middles = TaylorModel(np.ones((1, 1, 1)), Upper(0.1), 2)
    zero = TaylorModel(np.zeros((1, 1, 1)), Upper(0.0), 2)
    curve = TaylorModel(np.full((1, 1, 1), 2.0), Upper(0.3), 2)
    form = module.Form(
        3,
        {(3, 1): curve, (2, 1): zero, (3, 2): zero},
        {(3, 1): middles, (2, 1): None, (3, 2): None},
    )
    # Z within 2 ± 0.3, M within 1 ± 0.1: ZM within 2 ± 0.53, and twice that on a chord
    assert 2 * 0.53 <= form.chord_deviation() < 2 * 0.53 + 1e-9


def forms():
    module = residual_module()
    ones = {pair: Upper(1.0) for pair in module.pairs(3)}
    assert 2 <= module.form_bound(3, ones) < 2 + 1e-9


def scalar_network(depth):
    """Widths 1, one sample x = 1, ½(w_n ⋯ w_1 − 1)²: the form is a matrix that one can write."""
    one = np.ones((1, 1))
    return links.LinearNetwork(one, losses.HalfSquaredError(one), (1,) * (depth + 1))


def scalar_form(w):
    n, g = len(w), np.prod(w) - 1
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                out[i, j] = g * np.prod([w[k] for k in range(n) if k not in (i, j)])
    return out


def lipschitz_constants():
    module = residual_module()
    generator = rng(0)
    for depth in (2, 3, 4):
        network, best = scalar_network(depth), 0.0
        for _ in range(300):
            w = generator.uniform(0.8, 1.0, size=depth)
            step = generator.normal(size=depth) * 1e-6
            w2 = w + step
            change = np.linalg.norm(scalar_form(w2) - scalar_form(w), 2)
            norms = [
                Upper(max(abs(a), abs(b))) for a, b in zip(w.tolist(), w2.tolist(), strict=True)
            ]
            slope = Upper(max(abs(np.prod(w) - 1), abs(np.prod(w2) - 1)).item())
            constant = module.lipschitz(network, norms, slope)
            assert change <= constant * np.linalg.norm(step) * (1 + 1e-6)
            best = max(best, change / (float(constant) * np.linalg.norm(step)))
            moved = [Upper(abs(s)) for s in step.tolist()]
            slope_moved = Upper(abs(np.prod(w2) - np.prod(w)).item())
            assert change <= module.change_of_form(norms, slope, slope_moved, moved) * (1 + 1e-6)
        assert best > 0.4
    # Little data, far from the target: nearly all of the change is that of the other layers.
    x, y = np.full((1, 1), 1e-3), np.full((1, 1), 1e3)
    network = links.LinearNetwork(x, losses.HalfSquaredError(y), (1, 1, 1, 1))
    steepness = module.lipschitz(network, [Upper(1.0)] * 3, Upper(1.0))
    assert 2 / 3**0.5 <= steepness < 2.01  # for the step (1, 1, 1)
    zero = [Upper(0.0)] * 3
    moved = module.change_of_form([Upper(1.0)] * 3, Upper(1.0), Upper(1.0), zero)
    assert 2 <= moved < 2 + 1e-9
    moved = module.change_of_form([Upper(1.0)] * 3, Upper(1.0), Upper(0.0), [Upper(1.0)] * 3)
    assert 2 <= moved < 2 + 1e-9


def full_form(weights, slope):
    """R of all layers as a dense matrix, from its definition, by polarisation."""
    shapes = [w.shape for w in weights]
    sizes = [w.size for w in weights]
    n = len(weights)

    def form(d):
        parts = [
            p.reshape(s) for p, s in zip(np.split(d, np.cumsum(sizes)[:-1]), shapes, strict=True)
        ]
        total = 0.0
        for j in range(n):
            for i in range(j + 1, n):
                product = np.eye(shapes[0][1])
                for layer in range(n):
                    product = (parts[layer] if layer in (i, j) else weights[layer]) @ product
                total += 2 * (slope * product).sum()
        return total

    eye = np.eye(sum(sizes))
    diagonal = [form(e) for e in eye]
    return np.array(
        [
            [(form(a + b) - diagonal[i] - diagonal[j]) / 2 for j, b in enumerate(eye)]
            for i, a in enumerate(eye)
        ]
    )


def rates():
    module = residual_module()
    for widths in ((4, 3, 2), (4, 3, 3, 2), (3, 2, 3, 2, 2)):
        for seed in range(3):
            generator = rng(seed)
            weights = [generator.normal(size=(b, a)) for a, b in pairwise(widths)]
            slope = generator.normal(size=(widths[-1], widths[0]))
            true = -float(np.linalg.eigvalsh(full_form(weights, slope))[0])
            models = links.chain([model(w) for w in weights], lambda _, s=slope: model(s))
            reduced = module.Reduced.at(models)
            guess, _ = reduced.largest_rate(None)
            rate = reduced.verified_rate(guess)
            assert true <= rate < true * 1.001


def rates_with_errors():
    """What Z is not known of goes into the rate: depth 2, R = 2⟨Z, D_2D_1⟩, λmin = −‖Z‖₂."""
    module = residual_module()
    weights = [np.ones((1, 1)), np.ones((1, 1))]
    curve = TaylorModel(np.ones((1, 1, 1)), Upper(0.25), 0)
    reduced = module.Reduced.at(links.chain([model(w) for w in weights], lambda _: curve))
    rate = reduced.verified_rate(1.0)
    assert 1.25 <= rate < 1.2505


def cholesky():
    module = residual_module()
    matrix = rng(0).normal(size=(6, 6))
    matrix = matrix + matrix.T
    factor = np.tril(rng(1).normal(size=(6, 6)))
    bound = module._cholesky_residual(matrix, factor)
    assert np.linalg.norm(matrix - factor @ factor.T) <= bound
    flat = np.zeros((2, 2)), np.diag([1.0, 0.0])
    assert 1 <= module._cholesky_residual(*flat) < 1 + 1e-12


# ------------------------------------------------------------------------------- flow and descent


def first_cells(count=3, loss="cross_entropy"):
    objective = digits_network((6, 5), loss)
    network = links.from_objective(objective)
    start = network.weights(objective.initial(1).numpy())
    cells = []
    for cell in flow_tube.tube(network, start, Fraction(1), Settings()):
        cells.append(cell)
        if len(cells) == count:
            return objective, network, cells


def flat(parts):
    return np.concatenate([np.asarray(part, dtype=float).ravel() for part in parts])


def defects():
    """A straight line along −∇f: its defect is that of the first order, and is bounded nearly."""
    objective, network, (cell, *_) = first_cells(1)
    h = float(cell.length)
    start = [part.coefficients[0] for part in cell.weights]
    gradient = network_gradient(objective, start)
    for scale in (1.0, 1.001):
        parts = [
            TaylorModel(np.stack([w, -scale * h * g]), Upper(0.0), 18)
            for w, g in zip(start, gradient, strict=True)
        ]
        models = links.chain(parts, network.slope_model)
        largest, integral = flow_tube.defect(parts, models, h)
        true = [
            np.linalg.norm(
                flat(
                    network_gradient(
                        objective, [value(p.coefficients, t).astype(float) for p in parts]
                    )
                )
                + flat([p.coefficients[1] / h for p in parts])
            )
            for t in np.linspace(0, 1, 65)
        ]
        assert 0.6 * largest < max(true) <= largest
        assert 0.6 * integral < h * np.trapezoid(true, dx=1 / 64) <= integral * (1 + 1e-3)


def network_gradient(objective, weights):
    point = torch.from_numpy(flat(weights))
    return [g.numpy() for g in objective.weights(objective.gradient(point))]


def tubes():
    """The radius carries on: e₁ = exp(∫m)(e + ∫δ), e with the jump; the jump covers the sum's."""
    _, _, cells = first_cells(4)
    before = Fraction(0)
    for cell, following in pairwise(cells):
        x = rational(cell.exponent)
        assert rational(cell.radius) >= (1 + x + x**2 / 2) * (before + rational(cell.defect))
        jumps = [
            (p.coefficients.astype(LONG).sum(0) - q.coefficients[0]).astype(float)
            for p, q in zip(cell.weights, following.weights, strict=True)
        ]
        before = rational(cell.radius)
        _, jump = flow_tube._verified(
            digits_linear(), trial_of(cell), cell.start, cell.rates, Upper(0.0)
        )
        assert 0 < np.linalg.norm(flat(jumps)) <= jump


def digits_linear():
    return links.from_objective(digits_network((6, 5)))


def trial_of(cell):
    return flow_tube._Trial(
        cell.length, cell.weights, cell.models, cell.chord, cell.defect, cell.defect
    )


def saddle(activation="linear"):
    """Near 0 the Hessian is R, so an error along its lowest eigenvector follows the bound."""
    objective = networks.fully_connected(
        torch.eye(3, dtype=torch.float64) * 3**0.5,
        torch.diag(torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)),
        hidden=(3,),
        activation=activation,
        loss="half_squared_error",
    )
    return objective, 1e-3 * objective.initial(0)


def growth_of_errors():
    objective, start = saddle()
    network = links.from_objective(objective)
    weights = network.weights(start.numpy())
    run = descent_radius.Descent(network, weights, Fraction(1, 100))
    assert_errors_grow_as_bounded(objective, start, run)


def assert_errors_grow_as_bounded(objective, start, run):
    """Along the lowest eigenvector errors of flow and descent grow nearly as the bounds say."""
    network, weights, eta = run.network, run.network.weights(start.numpy()), 1e-2
    direction = extreme_eigenvalues(objective, start).smallest_vectors.reshape(-1)
    cells = list(flow_tube.tube(network, weights, Fraction(1, 2), Settings()))
    exponent = sum(float(cell.exponent) for cell in cells)
    a, b = start.clone(), start + 1e-6 * direction
    for _ in range(500):
        a, b = (p - 1e-3 * objective.gradient(p) for p in (a, b))
    grown = float(torch.log((a - b).norm() / 1e-6))
    assert 0.9 * exponent < grown <= exponent
    ball = run.ball(cells[0], Upper(1e-3))
    place = next(run.places(cells[0], 0))
    run.radius = Upper(1e-7)
    run.step(cells[0], ball, place, run.compare(cells[0], ball, place).changes)
    moved = direction * 1e-7
    gap = moved - eta * (objective.gradient(start + moved) - objective.gradient(start))
    grown, allowed = float(gap.norm()) / 1e-7 - 1, float(run.radius) / 1e-7 - 1
    assert 0.9 * allowed < grown <= allowed


def curvature_from_above():
    for loss, widest in (("cross_entropy", 20), ("half_squared_error", 8)):
        objective, network, (cell, *_) = first_cells(1, loss)
        norms = [p.spectral + 1e-3 for p in cell.weights]
        bound = descent_radius.largest_curvature(
            network, cell, Upper(1e-3), norms, cell.slope.spectral
        )
        point = torch.from_numpy(flat([p.coefficients[0] for p in cell.weights]))
        true = float(extreme_eigenvalues(objective, point).largest[0])
        assert true <= bound < widest * true
    # Depth 2, widths 1, X = 1: λmax = w_1² + w_2² + |g| at most, and nearly.
    network = scalar_network(2)
    start = [np.ones((1, 1)), np.ones((1, 1)) * 1.01]
    cell = next(flow_tube.tube(network, start, Fraction(1, 2**14), Settings()))
    norms = [p.spectral for p in cell.weights]
    bound = descent_radius.largest_curvature(network, cell, Upper(0.0), norms, cell.slope.spectral)
    hessian = np.array([[1.01**2, 1.01 + 0.01], [1.01 + 0.01, 1.0]])
    assert np.linalg.eigvalsh(hessian)[-1] <= bound < 1.02 * np.linalg.eigvalsh(hessian)[-1]


def steps_in_float64():
    """The rounding of a step of GD, and of ∇φ, against 80-bit arithmetic."""
    _, network, (cell, *_) = first_cells(1)
    start = [p.coefficients[0] for p in cell.weights]
    run = descent_radius.Descent(network, start, Fraction(1, 100))
    ball = run.ball(cell, Upper(1e-3))
    place = next(run.places(cell, 0))
    changes = run.compare(cell, ball, place).changes
    x, y = network.inputs.astype(LONG), network.loss.onehot.astype(LONG)
    w1, w2, w3 = (w.astype(LONG) for w in start)
    slope = (softmax(x @ (w3 @ w2 @ w1).T) - y).T @ x / LONG(len(x))
    own = links.chain(start, network.slope).right[1]
    error = np.linalg.norm((own - slope).astype(float))
    assert 1e-6 * ball.slope_error < error <= ball.slope_error
    gradient = [(w3 @ w2).T @ slope, w3.T @ (slope @ w1.T), slope @ w1.T @ w2.T]
    run.step(cell, ball, place, changes)
    eta = LONG(1) / LONG(100)
    missed = [
        (got - (w.astype(LONG) - eta * g)).astype(float)
        for got, w, g in zip(run.weights, start, gradient, strict=True)
    ]
    assert 1e-6 * ball.step_error < np.linalg.norm(flat(missed)) <= ball.step_error
    assert run.radius >= ball.step_error


def chords_in_time():
    first, last = Upper(1.0), Upper(3.0)
    for tau in (0.0, 0.25, 1.0):
        assert 1 + 2 * tau <= descent_radius.between(first, last, tau) < 1 + 2 * tau + 1e-12


CHECKS = [
    operations,
    norms,
    spectral_norms,
    exponentials,
    product_rounding,
    product_carried,
    product_truncated,
    values_of_models,
    softmax_truncated,
    softmax_stretched,
    softmax_defects,
    products_above,
    softmax_at_a_point,
    curvature_of_the_loss,
    chords,
    forms,
    lipschitz_constants,
    rates,
    rates_with_errors,
    cholesky,
    defects,
    tubes,
    growth_of_errors,
    curvature_from_above,
    steps_in_float64,
    chords_in_time,
]
