"""The bounds for smooth activations, each near its sharp case: see :mod:`.sharpness`."""

from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import torch
from flint import arb, ctx

from gfgd import extreme_eigenvalues
from gfgd.verified import activations, flow_tube, losses, smooth_curvature, taylor_models
from gfgd.verified import smooth_enclosure as enclosures
from gfgd.verified import smooth_network as smooth
from gfgd.verified.directed import Upper, largest_row
from gfgd.verified.flow_tube import Settings
from gfgd.verified.taylor_models import Size, TaylorModel, model

from .examples import digits_network
from .sharpness import LONG, assert_errors_grow_as_bounded, flat, rng, saddle, value

BOTH = (activations.Tanh(), activations.Softplus())


def long_values(activation, z):
    """σ, σ', σ'' in 80-bit arithmetic, by other formulas than the library's."""
    z = np.asarray(z, dtype=LONG)
    if isinstance(activation, activations.Tanh):
        return np.tanh(z), 1 / np.cosh(z) ** 2, -2 * np.tanh(z) / np.cosh(z) ** 2
    s = 1 / (1 + np.exp(-z))
    return np.logaddexp(LONG(0), z), s, s / (1 + np.exp(z))


def size(array):
    return float(np.linalg.norm(np.asarray(array, dtype=float)))


# -------------------------------------------------------------------------------- one argument


def activations_at_numbers():
    z = np.concatenate([np.linspace(-30, 30, 3001), np.linspace(-1e-3, 1e-3, 11)])
    for activation in BOTH:
        bounds = activation.errors(30.0)
        for mine, true, bound in zip(
            activation.values(z), long_values(activation, z), bounds, strict=True
        ):
            worst = float(np.abs(mine - true).max())
            assert 1e-4 * bound < worst <= bound
    with ctx.workprec(100):
        for x in (-20.0, -0.3, 0.0, 1.7, 25.0):
            s, wrong = activations.logistic(np.array([x]))
            assert abs(arb(s[0]) - 1 / (1 + (-arb(x)).exp())) <= float(wrong)
            log, wrong = activations.log_one_plus_exp(np.array([x]))
            assert abs(arb(log[0]) - (1 + arb(x).exp()).log()) <= float(wrong)


def largest_derivatives():
    z = np.linspace(-6, 6, 240001).astype(LONG)
    for activation in BOTH:
        _, slope, bend = long_values(activation, z)
        third = np.diff(bend) / np.diff(z)
        assert np.abs(slope).max() <= 1
        assert 0.999 * activation.bend < np.abs(bend).max() <= activation.bend
        assert 0.998 * activation.third < np.abs(third).max() <= activation.third


# ---------------------------------------------------------------------------------- along a path


def path_distance(z, candidate):
    return max(
        size(1 / (1 + np.exp(-value(z, t))) - value(candidate, t)) for t in np.linspace(0, 1, 41)
    )


def logistic_truncated():
    """A constant candidate for a path of high degree: all of the defect is in the tail."""
    z = np.zeros((12, 1, 1))
    z[11] = 4e-3
    candidate = activations.logistic_coefficients(z[:1])
    bound = activations.logistic_error(z, candidate)
    assert 0.5 * bound < path_distance(z, candidate) <= bound


def logistic_stretched():
    """An error at the start grows along the path, from a saturated unit to an even one."""
    z = np.zeros((31, 1, 1))
    z[0], z[1] = -3.0, 3.0
    shifted = z.copy()
    shifted[0] += 1e-4
    candidate = activations.logistic_coefficients(shifted)
    bound = activations.logistic_error(z, candidate)
    start = float(np.abs(candidate[0] - activations.logistic(z[0])[0]).max())
    moved = path_distance(z, candidate)
    assert moved > 2 * start  # so that a bound without growth fails
    assert moved <= bound


def logistic_defects():
    generator = rng(0)
    for degree, rises in ((3, 5), (5, 2), (0, 8)):
        q = generator.uniform(size=(degree + 1, 1, 1))
        slopes = generator.normal(size=(rises, 1, 1))
        slopes[-1] *= 30
        taus = np.linspace(0, 1, 2001)
        found = []
        for tau in taus:
            p, z = value(q, tau), value(slopes, tau)
            rate = sum(k * q[k].astype(LONG) * LONG(tau) ** (k - 1) for k in range(1, degree + 1))
            found.append(float(np.abs(rate - (p - p * p) * z)[0, 0]))
        true = np.trapezoid(found, taus)
        bound = float(activations.logistic_defect(slopes, q)[0, 0])
        assert 0.1 * bound < true <= bound


def activation_models():
    """What is truncated, and what Z itself may be off, at its worst."""
    generator = rng(1)
    for activation, spread in product(BOTH, (0.01, 0.03)):
        path = generator.normal(size=(5, 20, 3)) * spread
        path[0] /= spread
        found = activation.models(TaylorModel(path, Upper(0.0), 8))
        for curve, index in zip(found, range(3), strict=True):
            worst = max(
                size(long_values(activation, value(path, t))[index] - value(curve.coefficients, t))
                for t in np.linspace(0, 1, 31)
            )
            assert worst <= curve.remainder
            assert worst > 1e-5 * curve.remainder
    # At the argument where a derivative is largest, an error of Z goes through with that factor.
    for activation, index, at in (
        (BOTH[0], 0, 0.0),
        (BOTH[0], 1, np.arctanh(3**-0.5)),
        (BOTH[0], 2, 0.0),
        (BOTH[1], 0, 12.0),
        (BOTH[1], 1, 0.0),
        (BOTH[1], 2, np.log(2 + 3**0.5)),
    ):
        off = 1e-3
        curve = activation.models(TaylorModel(np.full((1, 1, 1), at), Upper(off), 0))[index]
        centre = curve.coefficients[0, 0, 0]
        worst = max(
            abs(float(long_values(activation, at + sign * off)[index]) - centre) for sign in (-1, 1)
        )
        assert 0.14 * curve.remainder < worst <= curve.remainder


def softplus_along_a_path():
    """∫ s Z' of a path whose s is known badly: the error counts in the value as well."""
    path = np.zeros((9, 1, 1))
    path[8] = 0.3
    value_model, *_ = BOTH[1].models(TaylorModel(path, Upper(0.0), 8))
    worst = max(
        size(long_values(BOTH[1], value(path, t))[0] - value(value_model.coefficients, t))
        for t in np.linspace(0, 1, 31)
    )
    assert 0.02 * value_model.remainder < worst <= value_model.remainder


def entrywise_products():
    ones = np.ones((5, 2, 2))
    made = TaylorModel(ones, Upper(0.0), 4) * TaylorModel(ones, Upper(0.0), 4)
    error = size(value(ones, 1) * value(ones, 1) - value(made.coefficients, 1))
    assert 0.999 * made.remainder < error <= made.remainder
    b = np.array([[0.5, 2.0]])
    made = TaylorModel(np.zeros((1, 1, 2)), Upper(0.1), 0) * model(b)
    assert 0.2 <= made.remainder < 0.2 * (1 + 1e-12)  # E = (0, 0.1)
    made = model(b) * TaylorModel(np.zeros((1, 1, 2)), Upper(0.1), 0)
    assert 0.2 <= made.remainder < 0.2 * (1 + 1e-12)
    zero = np.zeros((1, 1, 1))
    made = TaylorModel(zero, Upper(2.0), 0) * TaylorModel(zero, Upper(3.0), 0)
    assert 6 <= made.remainder < 6 + 1e-12
    a, b = (rng(seed).uniform(1, 2, size=(4, 30, 30)) for seed in range(2))
    made = TaylorModel(a, Upper(0.0), 6) * TaylorModel(b, Upper(0.0), 6)
    error = size(value(a, 1) * value(b, 1) - value(made.coefficients, 1))
    assert 1e-3 * made.remainder < error <= made.remainder
    whole = model(b[0]).plus(model(a[0]))
    assert 1e-3 * whole.remainder < size(a[0].astype(LONG) + b[0] - whole.coefficients[0])
    assert size(a[0].astype(LONG) + b[0] - whole.coefficients[0]) <= whole.remainder
    third = model(a[0]).scaled(1 / 3)
    assert 1e-3 * third.remainder < size(a[0].astype(LONG) * LONG(1 / 3) - third.coefficients[0])
    assert size(a[0].astype(LONG) * LONG(1 / 3) - third.coefficients[0]) <= third.remainder


def entrywise_sizes():
    a = Size(Upper(3.0), Upper(3.0), Upper(0.1), (1, 1))
    b = Size(Upper(5.0), Upper(5.0), Upper(0.2), (1, 1), Upper(2.0))
    made = a * b  # 3 · 2 against 3.1 · 2.2
    assert 3.1 * 2.2 - 6 <= made.error < 0.82 + 1e-9
    assert made.entry == Upper(3.0) * 2.0
    assert (b.T * a).error == made.error


def rows():
    matrix = rng(0).normal(size=(7, 5))
    true = np.linalg.norm(matrix, axis=1).max()
    assert true <= largest_row(matrix) < true * (1 + 1e-12)
    assert true <= model(matrix).row < true * (1 + 1e-12)


# -------------------------------------------------------------------------------------- curvature


@cache
def example(hidden=(4,), activation="tanh", loss="cross_entropy", samples=40):
    objective = digits_network(hidden, loss, activation, samples)
    return objective, enclosures.network_of(objective, objective.initial(1).numpy())


def residual_form(objective, point):
    """∇²f less (1/N) Σ Jᵀ∇²ℓJ, by automatic differentiation."""
    point = point.clone()

    def outputs(p):
        return objective.outputs(p, objective.inputs)

    def loss(p):
        return objective.loss(outputs(p), objective.targets).mean()

    z = outputs(point)
    assert torch.isclose(loss(point), objective.value(point), rtol=1e-12)
    hessian = torch.autograd.functional.hessian(loss, point)
    jacobian = torch.autograd.functional.jacobian(outputs, point)
    if objective.targets.ndim == 2:
        middle = torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)
    else:
        p = torch.softmax(z, 1)
        middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    convex = torch.einsum("nkd,nkl,nle->de", jacobian, middle, jacobian)
    return (hessian - convex / len(z)).numpy()


EXAMPLES = [
    ((4,), "tanh", "cross_entropy"),
    ((3,), "softplus", "half_squared_error"),
    ((3, 4), "tanh", "half_squared_error"),
    ((3, 2, 3), "softplus", "cross_entropy"),
]


def forms_of_networks():
    """R of the library against automatic differentiation: the matrix itself, and its λmin."""
    for kind in EXAMPLES:
        objective, network = example(*kind)
        point = objective.initial(3)
        models = network.models([model(w) for w in network.weights(point.numpy())])
        form = residual_form(objective, point)
        lowest = float(np.linalg.eigvalsh(form)[0])
        matrices, rounding = (
            smooth_curvature._unit_blocks(models)
            if models.depth == 2
            else smooth_curvature._whole(models)
        )
        found = np.sort(np.concatenate([np.linalg.eigvalsh(m) for m in matrices]))
        assert np.abs(found - np.linalg.eigvalsh(form)).max() < 1e-12
        assert rounding < 1e-9
        rate = smooth_curvature.node_rate(models)
        assert -lowest <= rate < -lowest * 1.001
        size_bound = smooth_curvature.form_majorant(smooth_curvature.Factors.along(models)).size
        assert np.abs(np.linalg.eigvalsh(form)).max() <= size_bound


def rounding_of_forms():
    """R in float64 beside R in 80-bit arithmetic, of the same factors."""
    for kind in (EXAMPLES[0], EXAMPLES[2]):
        objective, network = example(*kind, samples=12)
        models = network.models([model(w) for w in network.weights(objective.initial(3).numpy())])
        exact = {
            name: [part.coefficients[0].astype(LONG) for part in getattr(models, name)]
            for name in ("weights", "values", "slopes", "curved", "errors")
        }
        make = smooth_curvature._unit_blocks if models.depth == 2 else smooth_curvature._whole
        matrices, rounding = make(models)
        true = long_form(exact)
        if models.depth == 2:
            true = unit_order(true, len(matrices), *(w.shape for w in exact["weights"]))
        missed = max(size(m - t) for m, t in zip(matrices, true, strict=True))
        assert 1e-7 * rounding < missed <= rounding


def long_form(parts):
    """R as a dense matrix from its definition, a column at a time, in 80-bit arithmetic."""
    weights = parts["weights"]
    sizes = np.cumsum([0] + [w.size for w in weights])
    directions = np.eye(sizes[-1], dtype=LONG)  # Ż_l, a sample a row, for each of them
    d = [
        directions[:, first:last].reshape(-1, *w.shape)
        for first, last, w in zip(sizes, sizes[1:], weights, strict=False)
    ]
    z, moved = [np.einsum("ni,doi->dno", parts["values"][0], d[0])], []
    for layer in range(1, len(weights)):
        moved.append(parts["slopes"][layer - 1] * z[-1])
        own = np.einsum("ni,doi->dno", parts["values"][layer], d[layer])
        z.append(own + np.einsum("dni,oi->dno", moved[-1], weights[layer]))
    whole = np.zeros((sizes[-1], sizes[-1]), dtype=LONG)
    for layer in range(len(weights) - 1):
        flat_z = z[layer].reshape(sizes[-1], -1)
        whole += (flat_z * parts["curved"][layer].reshape(-1)) @ flat_z.T
        error = parts["errors"][layer + 1]
        pulled = np.einsum("no,eoi->eni", error, d[layer + 1]).reshape(sizes[-1], -1)
        half = moved[layer].reshape(sizes[-1], -1) @ pulled.T
        whole += half + half.T
    return whole[None]


def unit_order(whole, units, first, second):
    features, classes = first[1], second[0]
    start = first[0] * first[1]
    order = [
        [unit * features + i for i in range(features)]
        + [start + k * units + unit for k in range(classes)]
        for unit in range(units)
    ]
    return [whole[0][np.ix_(rows, rows)] for rows in order]


def small_network(activation, x=1.0, y=1.0, depth=2):
    """Widths 1, one sample: R is a matrix of a few rows."""
    return smooth.SmoothNetwork(
        np.full((1, 1), x),
        losses.HalfSquaredError(np.full((1, 1), y)),
        (1,) * (depth + 1),
        activation,
    )


def point_models(network, w):
    return network.models([model(np.full((1, 1), x)) for x in w])


def small_form(network, w):
    models = point_models(network, w)
    parts = {
        name: [part.coefficients[0].astype(LONG) for part in getattr(models, name)]
        for name in ("weights", "values", "slopes", "curved", "errors")
    }
    return long_form(parts)[0].astype(float)


def lipschitz_of_forms():
    generator = rng(0)
    for activation, depth in product(BOTH, (2, 3)):
        best, best_change = 0.0, 0.0
        for _ in range(60):
            y, scale = generator.choice([1.0, 3.0, 30.0]), generator.choice([0.2, 1.0])
            network = small_network(activation, scale, y, depth)
            w = generator.uniform(-1.5, 1.5, size=depth)
            step = generator.normal(size=depth)
            step *= 1e-4 / np.linalg.norm(step)
            change = np.linalg.norm(small_form(network, w + step) - small_form(network, w), 2)
            models = point_models(network, w)
            found = smooth_curvature.Sizes.around(network, models, Upper(1e-4))
            assert change <= found.lipschitz * 1e-4 * (1 + 1e-6)
            best = max(best, change / (1e-4 * float(found.lipschitz)))
            own, other = (network.passes([np.full((1, 1), x) for x in at]) for at in (w, w + step))
            sized = network.sizes(
                [Size(Upper(2.0), Upper(2.0), Upper(0.0), (1, 1))] * depth,
                9.0,
                99.0,
                [Upper(99.0)] * (depth - 1),
            )
            moved = [Upper(abs(s)) for s in step.tolist()]
            apart = enclosures._differences(own, other, sized, moved)
            bound = found.change(apart)
            assert change <= bound * (1 + 1e-6)
            best_change = max(best_change, change / float(bound))
        assert best > 0.3
        assert best_change > 0.4


def lipschitz_of_factors():
    """Each factor in the ball, at random points of it: the size there, and what it changes by."""
    generator = rng(5)
    reached = {}
    for activation, depth in product(BOTH, (2, 3)):
        for _ in range(40):
            y = generator.choice([1.0, 4.0])
            network = small_network(activation, generator.choice([0.5, 2.0]), y, depth)
            w = generator.uniform(-1.2, 1.2, size=depth)
            found = smooth_curvature.Sizes.around(network, point_models(network, w), Upper(1e-3))
            step = generator.normal(size=depth)
            step *= 1e-3 / np.linalg.norm(step)
            here, there = (network.passes([np.full((1, 1), x) for x in at]) for at in (w, w + step))
            for name in ("values", "slopes", "curved", "errors"):
                for bound, a, b in zip(
                    getattr(found.factors, name),
                    getattr(here, name),
                    getattr(there, name),
                    strict=True,
                ):
                    most, steepness = map(float, bound.coefficients)
                    assert abs(b[0, 0]) <= most + 1e-12
                    change = abs(b[0, 0] - a[0, 0]) / 1e-3
                    assert change <= steepness + 1e-9
                    key = type(activation).__name__, name
                    reached[key] = max(reached.get(key, 0.0), change / max(steepness, 1e-12))
            for bound, b in zip(found.pulled, there.pulled, strict=True):
                assert abs(b[0, 0]) <= bound + 1e-12
            for bound, a, b in zip(
                found.rows,
                [*here.arguments, here.outputs],
                [*there.arguments, there.outputs],
                strict=True,
            ):
                assert abs(b[0, 0] - a[0, 0]) <= bound * 1e-3 + 1e-12
    assert min(reached.values()) > 0.5, reached


def chords_of_smooth_networks():
    """λmin(R) below its chord, along a straight path of a network of two weights."""
    best = 0.0
    generator = rng(2)
    for _ in range(30):
        network = small_network(BOTH[0], 1.0, generator.choice([2.0, 10.0]))
        w, step = generator.uniform(-1, 1, size=2), generator.normal(size=2) * 0.2
        paths = [
            TaylorModel(np.array([[[a]], [[b]]]), Upper(0.0), 12)
            for a, b in zip(w, step, strict=True)
        ]
        bound = smooth_curvature.chord_deviation(network.models(paths))
        lowest = [
            np.linalg.eigvalsh(small_form(network, w + t * step))[0] for t in np.linspace(0, 1, 9)
        ]
        chord = np.linspace(lowest[0], lowest[-1], 9)
        below = float((chord - lowest).max())
        assert below <= bound
        best = max(best, below / float(bound))
    assert best > 0.2


def majorants():
    a = smooth_curvature.Majorant((Upper(1.0), Upper(2.0)), Upper(0.5))
    b = smooth_curvature.Majorant((Upper(3.0),), Upper(0.25))
    made = a * b  # (3 ± 0.5)(3 ± 0.25) at τ = 1
    assert 3 <= made.coefficients[0] < 3 + 1e-12
    assert 6 <= made.coefficients[1] < 6 + 1e-12
    assert 3.5 * 3.25 - 9 <= made.remainder < 2.375 + 1e-12
    added = a + b
    assert 4 <= added.coefficients[0] < 4 + 1e-12
    assert 0.75 <= added.remainder < 0.75 + 1e-12
    one, zero = smooth_curvature.Majorant((Upper(1.0),)), smooth_curvature.Majorant((Upper(0.0),))
    # One hidden layer, only Δ: blocks [[0, 1], [1, 0]]; only S: [[1, 0], [0, 0]].
    for curved, errors in ((zero, one), (one, zero)):
        parts = smooth_curvature.Factors([one, one], [one, one], [one], [curved], [one, errors])
        assert 1 <= smooth_curvature.form_majorant(parts).size < 1 + 1e-12
    parts = smooth_curvature.Factors([one, one], [one, one], [one], [one], [one, one])
    # [[1, 1], [1, 0]]: the golden ratio, at most 2.
    assert 1.618 <= smooth_curvature.form_majorant(parts).size < 2 + 1e-12


def rates_with_errors():
    """What the factors are not known of goes into the rate: R = [[s, δ], [δ, 0]]."""
    network = small_network(BOTH[0])
    models = point_models(network, (0.5, 0.5))
    errors = [models.errors[0], TaylorModel(np.ones((1, 1, 1)), Upper(0.25), 0)]
    flat_model = TaylorModel(np.zeros((1, 1, 1)), Upper(0.0), 0)
    one = TaylorModel(np.ones((1, 1, 1)), Upper(0.0), 0)
    changed = smooth.Passes(
        models.weights,
        models.arguments,
        [one, one],
        [one],
        [flat_model],
        models.outputs,
        errors,
        [one],
    )
    rate = smooth_curvature.node_rate(changed)
    assert 1.25 <= rate < 1.2505
    assert 2 <= smooth_curvature.verified_rate(np.array([[[0.0, 2.0], [2.0, 0.0]]])) < 2.001
    factor = np.diag([1.0, 0.0])
    assert 1 <= smooth_curvature.cholesky_residual(np.zeros((2, 2)), factor) < 1 + 1e-12


# ------------------------------------------------------------------------------- flow and descent


def first_cell(activation="tanh", loss="cross_entropy", hidden=(4,)):
    objective, network = example(hidden, activation, loss)
    start = network.weights(objective.initial(1).numpy())
    return objective, network, next(flow_tube.tube(network, start, Fraction(1), Settings()))


def defects_of_smooth_networks():
    """A straight line along −∇f: its defect is that of the first order, and is bounded nearly."""
    for activation in ("tanh", "softplus"):
        objective, network, cell = first_cell(activation)
        h = float(cell.length)
        start = [part.coefficients[0] for part in cell.weights]
        gradient = [
            g.numpy() for g in objective.weights(objective.gradient(torch.from_numpy(flat(start))))
        ]
        parts = [
            TaylorModel(np.stack([w, -h * g]), Upper(0.0), 18)
            for w, g in zip(start, gradient, strict=True)
        ]
        models, _ = flow_tube.enclosed_along(network, parts)
        largest, integral = flow_tube.defect(parts, models, h)
        true = []
        for t in np.linspace(0, 1, 65):
            point = torch.from_numpy(flat([value(p.coefficients, t).astype(float) for p in parts]))
            straight = torch.from_numpy(flat(gradient))
            true.append(float((objective.gradient(point) - straight).norm()))
        assert 0.5 * largest < max(true) <= largest
        assert 0.5 * integral < h * np.trapezoid(true, dx=1 / 64) <= integral * (1 + 1e-3)


def curvature_from_above_smooth():
    for activation, hidden in (("tanh", (4,)), ("softplus", (3, 4))):
        objective, network, cell = first_cell(activation, "half_squared_error", hidden)
        bound = smooth_curvature.Sizes.around(network, cell.models, Upper(1e-4)).largest_curvature
        point = torch.from_numpy(flat([p.coefficients[0] for p in cell.weights]))
        true = float(extreme_eigenvalues(objective, point).largest[0])
        assert true <= bound < 40 * true
    # Widths 1, X = 1, small weights: f = ½(w₂ tanh(w₁) − y)².
    network = small_network(BOTH[0], 1.0, 1.0)
    found = smooth_curvature.Sizes.around(network, point_models(network, (0.9, 0.9)), Upper(0.0))
    w = torch.tensor([0.9, 0.9], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(
        lambda p: 0.5 * (p[1] * torch.tanh(p[0]) - 1) ** 2, w
    )
    true = float(torch.linalg.eigvalsh(hessian)[-1])
    assert true <= found.largest_curvature < 4 * true
    # Linear where it is small, y = 0: the Hessian is that of the outputs, w_1² + w_2².
    network = small_network(BOTH[0], 1.0, 0.0)
    found = smooth_curvature.Sizes.around(network, point_models(network, (1e-3, 1.0)), Upper(0.0))
    assert 1 <= found.largest_curvature < 1.01


def steps_of_smooth_networks():
    """The rounding of the passes and of a step of GD, against 80-bit arithmetic."""
    for activation, name in zip(BOTH, ("tanh", "softplus"), strict=True):
        _, network, cell = first_cell(name)
        start = [p.coefficients[0] for p in cell.weights]
        run = enclosures.SmoothDescent(network, start, Fraction(1, 100))
        ball = run.ball(cell, Upper(1e-3))
        place = next(run.places(cell, 0))
        x, y = network.inputs.astype(LONG), network.loss.onehot.astype(LONG)
        true = smooth.passes(
            [w.astype(LONG) for w in start],
            x,
            lambda _, z, a=activation: long_values(a, z),
            lambda z, y=y: long_slope(z, y),
        )
        own = network.passes(start)
        for group in ("values", "slopes", "bends", "errors", "pulled", "curved"):
            for a, b, known in zip(
                getattr(own, group),
                getattr(true, group),
                getattr(ball.computed, group),
                strict=True,
            ):
                assert size(a - b) <= known.error
                assert size(b) <= known.frobenius
                assert float(np.abs(b).max()) <= known.entry
                if known.error:
                    assert size(a - b) > 1e-5 * known.error
        changes = run.compare(cell, ball, place).changes
        run.step(cell, ball, place, changes)
        eta = LONG(1) / LONG(100)
        missed = [
            (got - (w.astype(LONG) - eta * g)).astype(float)
            for got, w, g in zip(run.weights, start, true.gradient(), strict=True)
        ]
        assert 1e-5 * ball.step_error < size(flat(missed)) <= ball.step_error
        assert run.radius >= ball.step_error


def long_slope(z, y):
    p = np.exp(z - z.max(1, keepdims=True))
    return (p / p.sum(1, keepdims=True) - y) / LONG(len(z))


def growth_of_errors_of_descent():
    """λmin(R) is that of the Hessian where the outputs do not move: an error follows the bound."""
    objective, start = saddle("tanh")
    network = enclosures.network_of(objective, objective.initial(1).numpy())
    weights = network.weights(start.numpy())
    run = enclosures.SmoothDescent(network, weights, Fraction(1, 100))
    assert_errors_grow_as_bounded(objective, start, run)


def values_shift_with_order():
    """Models of different lengths multiply and add alike."""
    short, long = np.ones((1, 1, 1)), np.ones((4, 1, 1))
    made = taylor_models.TaylorModel(short, Upper(0.0), 6) * taylor_models.TaylorModel(
        long, Upper(0.0), 6
    )
    assert (made.coefficients == long).all()


CHECKS = [
    activations_at_numbers,
    largest_derivatives,
    logistic_truncated,
    logistic_stretched,
    logistic_defects,
    activation_models,
    softplus_along_a_path,
    entrywise_products,
    entrywise_sizes,
    rows,
    forms_of_networks,
    rounding_of_forms,
    lipschitz_of_forms,
    lipschitz_of_factors,
    chords_of_smooth_networks,
    majorants,
    rates_with_errors,
    defects_of_smooth_networks,
    curvature_from_above_smooth,
    steps_of_smooth_networks,
    growth_of_errors_of_descent,
    values_shift_with_order,
]
