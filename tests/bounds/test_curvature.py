import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.nn import functional

from gfgd import networks
from gfgd.bounds.curvature import (
    acts_linearly,
    aligned_curvature_integral,
    aligned_smallest_eigenvalue,
    aligned_spectrum,
    alignment,
    convolution_constant,
    convolution_norm,
    deep_linear_bound,
    gradient_times_input,
    homogeneous_bound,
    pairwise_bound,
    rate_integral_bound,
    shared_weights_bound,
    smallest_eigenvalue,
)
from gfgd.flow import gradient_flow
from gfgd.networks.linear import balanced_start, deep_linear, random_end_to_end, reduced_flow
from gfgd.objective import Objective
from tests.small_problems import small_network

#: Members of a batch; 5 depths × 3 activations × 2 losses × 40 = 1 200 networks, and 400 linear.
MEMBERS = 40
#: Rounding of an eigenvalue of a matrix of size about 1.
ROUNDING = 1e-10


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def scaled_starts(dimension, seed):
    """Random points whose scale covers two decades."""
    scales = torch.logspace(-1.3, 0.7, MEMBERS, dtype=torch.float64)
    return scales[:, None] * normal(MEMBERS, dimension, seed=seed)


# The bounds hold


@pytest.mark.parametrize("loss", networks.LOSSES)
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_homogeneous_bound_is_never_violated(depth, activation, loss):
    inputs = normal(5, 3, seed=depth)
    labels = torch.arange(5) % 2
    targets = labels if loss == "cross_entropy" else normal(5, 2, seed=depth + 1)
    hidden = [2 + (j + depth) % 3 for j in range(depth - 1)]
    objective = networks.fully_connected(
        inputs, targets, hidden=hidden, activation=activation, loss=loss
    )
    points = scaled_starts(objective.dimension, seed=depth)
    lowest = smallest_eigenvalue(objective, points)
    bound = homogeneous_bound(objective, points)
    assert bound.shape == lowest.shape == (MEMBERS,)
    assert (lowest >= bound * (1 + ROUNDING) - ROUNDING * points.norm(dim=-1)).all()
    # Not by being trivial, and with something to bound.
    assert bound.isfinite().all() and (lowest < -1e-3).any()
    if activation == "linear":
        product = networks.end_to_end(objective.weights(points)).requires_grad_()
        value = objective.loss(inputs @ product.mT, targets).mean(-1).sum()
        (slope,) = torch.autograd.grad(value, product)
        sharper = deep_linear_bound(objective.weights(points), slope)
        assert (lowest >= sharper * (1 + ROUNDING) - ROUNDING * points.norm(dim=-1)).all()
        assert (sharper >= bound * (1 + ROUNDING)).all()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_linear_bounds_are_never_violated_and_are_ordered(depth, outputs):
    objective = deep_linear(normal(outputs, 4), depth=depth, hidden=3)
    points = scaled_starts(objective.dimension, seed=depth)
    weights, residual = objective.weights(points), objective.residual(points)
    lowest = smallest_eigenvalue(objective, points)
    pairwise, coarse = pairwise_bound(weights, residual), deep_linear_bound(weights, residual)
    slack = ROUNDING * (1 + coarse.abs())
    assert (lowest >= pairwise - slack).all()
    assert (pairwise >= coarse - slack).all()
    if depth == 1:
        assert (coarse == 0).all() and (pairwise == 0).all()


def test_pairwise_bound_is_attained_with_two_layers_at_the_origin():
    target = normal(3, 4)
    objective = deep_linear(target, depth=2, hidden=2)
    origin = torch.zeros(objective.dimension).double()
    lowest = smallest_eigenvalue(objective, origin)
    weights, residual = objective.weights(origin), objective.residual(origin)
    torch.testing.assert_close(pairwise_bound(weights, residual), lowest)
    torch.testing.assert_close(lowest, -torch.linalg.matrix_norm(target, 2))


def test_bounds_by_hand():
    layers = [torch.diag(torch.tensor([a, 0.1])).double() for a in (2.0, 3.0, 5.0, 7.0)]
    residual = torch.tensor([[0.3, 0.0], [0.0, 0.4]]).double()
    expected = -3 * 0.5 * 5 * 7
    assert deep_linear_bound(layers, residual).item() == pytest.approx(expected)
    # Leaving out layers 0 and 1 costs most; all layers share their first singular vector.
    couplings = torch.zeros(4, 4).double()
    for j, k in itertools.combinations(range(4), 2):
        product = torch.eye(2).double()
        for i in {0, 1, 2, 3} - {j, k}:
            product = product @ layers[i]
        outer = [layers[i] for i in (*range(j), *range(k + 1, 4))]
        inner = [layers[i] for i in range(j + 1, k)]
        edge = residual
        for layer in outer:
            edge = edge @ layer
        middle = math.prod(float(layer[0, 0]) for layer in inner)
        couplings[j, k] = couplings[k, j] = edge.diagonal().max() * middle
    torch.testing.assert_close(
        pairwise_bound(layers, residual), -torch.linalg.eigvalsh(couplings)[-1]
    )


def test_dead_layers_are_no_kinks():
    inputs = torch.ones(1, 2).double()
    relu = networks.fully_connected(inputs, torch.tensor([0]), hidden=[2, 2], activation="relu")
    leaky = networks.fully_connected(
        inputs, torch.tensor([0]), hidden=[2, 2], activation="leaky_relu"
    )
    on, off = torch.ones(2, 2).double(), -torch.ones(2, 2).double()
    balanced = torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double()  # a unit's input is exactly 0
    last = torch.ones(1, 2).double()

    def at(*weights):
        return torch.cat([weight.flatten() for weight in weights])

    points = torch.stack([at(off, on, last), at(on, on, last), at(balanced, on, last)])
    # A dead first layer feeds exact zeros to the second: inputs of 0, and no kink.
    assert (relu.outputs(points[0], inputs) == 0).all()
    assert acts_linearly(relu, points).tolist() == [True, True, False]
    assert acts_linearly(leaky, points).tolist() == [True, True, False]
    # With one unit on the kink and the other off, the layer above is on a kink as well.
    half = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).double()
    assert not acts_linearly(relu, at(half, on, last))
    linear = networks.fully_connected(inputs, torch.tensor([0]), hidden=[2, 2], activation="linear")
    assert acts_linearly(linear, points).all()
    with pytest.raises(ValueError, match="not homogeneous"):
        acts_linearly(small_network("tanh"), small_network("tanh").initial(0))


def test_where_the_network_acts_linearly_the_hessian_is_that_of_a_polynomial():
    # Random ReLU networks: many have inputs of exactly 0, all act linearly, and there the
    # gradient differs from its first-order expansion by O(s²) in every direction.
    inputs, labels = normal(6, 3), torch.arange(6) % 2
    objective = networks.fully_connected(inputs, labels, hidden=[2, 2, 2, 2], activation="relu")
    points = normal(60, objective.dimension, seed=3)
    direction = normal(60, objective.dimension, seed=4)
    hidden, zeros = inputs.expand(60, 6, 3), torch.zeros(60, dtype=torch.bool)
    for weight in objective.weights(points)[:-1]:
        before = hidden @ weight.mT
        zeros |= (before == 0).flatten(1).any(1)
        hidden = torch.relu(before)
    assert 20 < zeros.sum() < 60
    assert acts_linearly(objective, points).all()
    step = 1e-6
    change = objective.gradient(points + step * direction) - objective.gradient(points)
    linear = objective.hessian_vector_product(points, direction)
    assert (change / step - linear)[zeros].abs().max() < 1e-3


# Shared weights


class SmallConvolutional(nn.Module):
    """5×5 images, convolution, activation, pooling if wanted, and so on; no biases."""

    def __init__(self, slope, pool, stride, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(1, 2, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(2, 2, 2, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        size = 6 // stride
        size = size // 2 if pool else size
        self.sizes = [(6, 6), (size, size)]
        self.last = nn.Linear(2 * (size - 1) ** 2, 2, bias=False)
        self.activation = nn.LeakyReLU(slope)

    def forward(self, images):
        hidden = self.pool(self.activation(self.first(images)))
        hidden = self.activation(self.second(hidden))
        return self.last(hidden.flatten(1))

    def linear_maps(self, weights):
        first, second, last = (weight.detach() for weight in weights)
        norms = [
            convolution_norm(first, self.sizes[0], stride=self.first.stride, padding=1),
            convolution_norm(second, self.sizes[1]),
            float(torch.linalg.matrix_norm(last, 2)),
        ]
        constants = [
            convolution_constant(self.sizes[0], 3, stride=self.first.stride, padding=1),
            convolution_constant(self.sizes[1], 2),
            1.0,
        ]
        return norms, constants


@pytest.mark.parametrize("slope", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(("pool", "stride"), [(False, 1), (True, 1), (False, 2)])
def test_shared_weights_bound_is_never_violated(pool, stride, slope):
    images, labels = normal(4, 1, 6, 6), torch.arange(4) % 2
    for seed, scale in enumerate((0.3, 1.0, 3.0)):
        module = SmallConvolutional(slope, pool, stride, seed).double()
        for parameter in module.parameters():
            parameter.data *= scale
        objective = Objective.from_module(module, functional.cross_entropy, images, labels)
        lowest = torch.linalg.eigvalsh(objective.hessian(objective.start))[0]
        norms, constants = module.linear_maps(list(module.parameters()))
        size = gradient_times_input(networks.cross_entropy, module(images), labels, images)
        bound = shared_weights_bound(norms, constants, size, slope=max(1.0, slope))
        assert lowest < -1e-4
        assert lowest >= bound


def test_shared_weights_bound_of_dense_layers_is_the_dense_one():
    objective = small_network("relu", (3, 4, 3))
    points = normal(6, objective.dimension)
    norms = torch.stack([torch.linalg.matrix_norm(w, 2) for w in objective.weights(points)], dim=-1)
    outputs = objective.outputs(points, objective.inputs)
    size = gradient_times_input(objective.loss, outputs, objective.targets, objective.inputs)
    bound = shared_weights_bound(norms, torch.ones(4), size)
    torch.testing.assert_close(bound, homogeneous_bound(objective, points))
    assert (shared_weights_bound(norms[:, :1], [1.0], size) == 0).all()


def as_matrix(weight, size, stride, padding):
    channels = weight.shape[1]
    basis = torch.eye(channels * size[0] * size[1]).double().reshape(-1, channels, *size)
    return functional.conv2d(basis, weight, stride=stride, padding=padding).flatten(1).T


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize(
    ("size", "kernel"), [((9, 11), (5, 5)), ((7, 7), (3, 2)), ((5, 5), (5, 5))]
)
def test_convolution_constant_counts_patches_that_share_a_pixel(size, kernel, stride, padding):
    # Patches as columns, added up again: each pixel counted as often as it occurs.
    pixels = torch.ones(1, 1, *size).double()
    patches = functional.unfold(pixels, kernel, stride=stride, padding=padding)
    counts = functional.fold(patches, size, kernel, stride=stride, padding=padding)
    constant = convolution_constant(size, kernel, stride=stride, padding=padding)
    assert constant**2 == pytest.approx(counts.max().item())
    # And it is a constant of real convolutions, with all patches as one large filter's rows.
    for seed in range(5):
        weight = normal(3, 2, *kernel, seed=seed)
        norm = torch.linalg.matrix_norm(as_matrix(weight, size, stride, padding), 2)
        assert norm <= constant * torch.linalg.matrix_norm(weight.flatten(1), 2) * (1 + 1e-12)


def test_convolution_constant_is_sharp_where_the_patches_are_the_same():
    # A filter of many channels that copies its patch: ‖C(w)x‖² = Σ_p ‖x_p‖².
    copies = torch.eye(25).double().reshape(25, 1, 5, 5)
    for stride, expected in ((1, 5.0), (2, 3.0)):
        constant = convolution_constant((28, 28), 5, stride=stride, padding=2)
        assert constant == expected
        norm = convolution_norm(copies, (28, 28), stride=stride, padding=2)
        assert norm == pytest.approx(constant, rel=1e-4)


@pytest.mark.parametrize("dense_below", [0, 1000])
@pytest.mark.parametrize("stride", [1, (2, 1)])
@pytest.mark.parametrize(("channels", "size"), [(1, (6, 7)), (3, (12, 12))])
def test_convolution_norm_agrees_with_the_dense_matrix(channels, size, stride, dense_below):
    weight = normal(4, channels, 3, 3)
    exact = torch.linalg.matrix_norm(as_matrix(weight, size, stride, 1), 2).item()
    found = convolution_norm(weight, size, stride=stride, padding=1, dense_below=dense_below)
    assert exact * (1 - 1e-12) <= found <= exact * (1 + 1e-3)


def test_convolution_norm_of_zero():
    assert convolution_norm(torch.zeros(1, 1, 3, 3), (5, 5)) == 0


# One output, balanced


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_aligned_smallest_eigenvalue_is_that_of_the_dense_hessian(depth):
    target = normal(1, 4)
    length = target.norm().item()
    objective = deep_linear(target, depth=depth, hidden=[2, 3, 2, 4, 3][: depth - 1])
    radii = length * torch.tensor([1e-4, 1e-2, 0.1, 0.3, 0.45, 0.7, 0.99, 1.0]).double()
    widths = objective.widths[1:-1]
    points = balanced_start(radii[:, None, None] * target / length, depth, widths)
    exact = smallest_eigenvalue(objective, points)
    found = aligned_smallest_eigenvalue(radii, length, depth)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)
    bound = deep_linear_bound(objective.weights(points), objective.residual(points))
    expected = -(depth - 1) * (length - radii) * radii ** ((depth - 2) / depth)
    torch.testing.assert_close(bound, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inputs", [1, 4])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_aligned_spectrum_is_that_of_the_dense_hessian(depth, inputs):
    # With one input p is no eigenvalue, and with two layers no radius is below r⋆ = 0.
    target = normal(1, inputs)
    length = target.norm().item()
    objective = deep_linear(target, depth=depth, hidden=[2, 3, 2][: depth - 1])
    for share in (0.05, 0.6, 1.0):
        point = balanced_start(share * target, depth, objective.widths[1:-1])
        found = aligned_spectrum(share * length, length, objective.widths)
        torch.testing.assert_close(found, torch.linalg.eigvalsh(objective.hessian(point)))


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("cosine", [0.2, 0.7, 1.0])
def test_integral_of_the_rate_is_below_its_bound_and_equal_when_aligned(depth, cosine):
    length, start = 1.7, 1e-2
    times = torch.linspace(0, 30, 5_001, dtype=torch.float64)
    flow = reduced_flow(start, cosine, length, depth, times, rtol=1e-8, atol=1e-10)
    rate = (depth - 1) * (2 * flow.loss).sqrt() * flow.radius ** ((depth - 2) / depth)
    found = torch.trapezoid(rate, times).item()
    bound = rate_integral_bound(start, flow.radius[-1], cosine, depth).item()
    if cosine == 1:
        assert found == pytest.approx(bound, rel=1e-3)
    else:
        assert found < bound < found + (depth - 1) * 1.6


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(("start", "cosine"), [(0.05, -0.9), (1.5, 0.3), (0.8, 0.5), (2.0, 1.0)])
def test_integral_of_the_rate_from_starts_that_shrink_first(depth, start, cosine):
    times = torch.cat([torch.zeros(1), torch.logspace(-3, math.log10(60), 4_000)]).double()
    flow = reduced_flow(start, cosine, 1.0, depth, times, rtol=1e-8, atol=1e-10)
    rate = (depth - 1) * (2 * flow.loss).sqrt() * flow.radius ** ((depth - 2) / depth)
    found = torch.trapezoid(rate, times).item()
    lowest = flow.radius.min()
    bound = rate_integral_bound(start, flow.radius[-1], cosine, depth, lowest).item()
    assert found <= bound * (1 + 1e-3)
    if cosine == 1:
        assert found == pytest.approx(bound, rel=2e-3)
    else:
        assert bound < found + (depth - 1) * 2.7
    with pytest.raises(ValueError, match="lowest_radius"):
        rate_integral_bound(start, 1.0, cosine, depth, 3.0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear"])
def test_alignment_is_the_growth_of_the_norms(activation):
    objective = small_network(activation, (3, 4, 3))
    points = normal(4, objective.dimension)
    gradient = objective.gradient(points)
    outputs = objective.outputs(points, objective.inputs)
    size = gradient_times_input(objective.loss, outputs, objective.targets, objective.inputs)
    norms = [torch.linalg.matrix_norm(w) for w in objective.weights(points)]
    found = alignment(objective, points)
    assert (found.abs() <= 1).all()
    for weight, slope in zip(objective.weights(points), objective.weights(gradient), strict=True):
        # d/dt ‖W_j‖² = −2⟨W_j, ∂f/∂W_j⟩, the same for every layer.
        growth = -(weight * slope).sum((-2, -1))
        torch.testing.assert_close(growth, found * size * math.prod(norms))
    # One sample, all weights equal: everything points the same way, and χ = ±1.
    one = networks.fully_connected(
        torch.ones(1, 2), 3 * torch.ones(1, 2), hidden=[2], loss="half_squared_error"
    )
    assert alignment(one, torch.full((8,), 0.1).double()).item() == pytest.approx(1)
    assert alignment(one, torch.full((8,), 3.0).double()).item() == pytest.approx(-1)


def test_rate_along_a_flow_of_the_weights_is_the_reduced_one():
    target = normal(1, 3)
    objective = deep_linear(target, depth=3, hidden=2)
    matrix = random_end_to_end(target, radius=0.1, seed=1, cosine=0.5)
    times = torch.linspace(0, 4, 9, dtype=torch.float64)
    flow = gradient_flow(objective, balanced_start(matrix, 3, 2), times)
    length = target.norm().item()
    reduced = reduced_flow(0.1, 0.5, length, 3, times)
    bound = deep_linear_bound(objective.weights(flow.points), objective.residual(flow.points))
    expected = -2 * (2 * reduced.loss).sqrt() * reduced.radius ** (1 / 3)
    torch.testing.assert_close(bound, expected, rtol=1e-5, atol=1e-7)


def test_smallest_eigenvalue_is_batched():
    objective = small_network("tanh")
    points = normal(2, 3, objective.dimension)
    found = smallest_eigenvalue(objective, points)
    assert found.shape == (2, 3)
    exact = torch.linalg.eigvalsh(objective.hessian(points[1, 2]))[0]
    torch.testing.assert_close(found[1, 2], exact)


# Errors


@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize(("start", "end"), [(0.01, 0.3), (0.01, 1.6), (1.1, 1.6), (0.5, 0.5)])
def test_integral_at_aligned_points_is_that_of_the_smallest_eigenvalue(depth, start, end):
    """By quadrature over r, with dt = dr / (n r^{2−2/n} (L − r)), L = 1.7."""
    length = 1.7

    def rate(r):
        speed = depth * r ** (2 - 2 / depth) * (length - r)
        return max(-float(aligned_smallest_eigenvalue(r, length, depth)), 0) / speed

    kink = (depth - 2) / (2 * depth - 2) * length
    between = [kink] if start < kink < end else None
    expected, _ = quad(rate, start, end, points=between, epsabs=1e-12, epsrel=1e-12)
    found = aligned_curvature_integral(start, end, length, depth)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("radii", [(0.0, 0.5), (0.5, 0.4), (0.5, 1.1), (1.0, 1.0)])
def test_integral_at_aligned_points_needs_lengths_in_order(radii):
    with pytest.raises(ValueError, match="start_radius, end_radius"):
        aligned_curvature_integral(*radii, 1.0, 3)


def test_bad_arguments():
    tanh = small_network("tanh")
    with pytest.raises(ValueError, match="activation = 'tanh': is not homogeneous"):
        homogeneous_bound(tanh, tanh.initial(0))
    with pytest.raises(ValueError, match="one of each for each layer"):
        shared_weights_bound([1.0, 2.0], [1.0], 1.0)
    with pytest.raises(ValueError, match="constants: must not be negative"):
        shared_weights_bound([1.0, 2.0], [1.0, -1.0], 1.0)
    with pytest.raises(ValueError, match="slope = -1"):
        shared_weights_bound([1.0, 2.0], [1.0, 1.0], 1.0, slope=-1)
    with pytest.raises(ValueError, match="kernel_size = 5: does not fit"):
        convolution_constant((3, 3), 5)
    with pytest.raises(ValueError, match="stride = 0"):
        convolution_constant((3, 3), 3, stride=0)
    with pytest.raises(ValueError, match=r"weight has shape \(3, 3\)"):
        convolution_norm(torch.ones(3, 3), (5, 5))
    with pytest.raises(ValueError, match="radius: must lie between 0 and target_norm"):
        aligned_smallest_eigenvalue(torch.tensor(2.0), 1.0, 3)
    with pytest.raises(ValueError, match="depth = 1"):
        aligned_smallest_eigenvalue(torch.tensor(0.5), 1.0, 1)
    with pytest.raises(ValueError, match="the last must be 1"):
        aligned_spectrum(0.1, 1.0, (3, 2, 2))
    with pytest.raises(ValueError, match="radius"):
        aligned_spectrum(0.0, 1.0, (3, 2, 1))
    with pytest.raises(ValueError, match="above 0 where no lowest_radius"):
        rate_integral_bound(0.1, 1.0, -0.5, 3)
    with pytest.raises(ValueError, match="start_radius, end_radius"):
        rate_integral_bound(1.0, 0.5, 0.5, 3)
