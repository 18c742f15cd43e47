import math

import pytest
import torch

from gfgd import networks
from gfgd.networks import convolutional_networks, fully_connected_networks
from gfgd.networks.network import SLOPES
from gfgd.objective import Objective
from tests.small_problems import small_network


def test_activations_have_names_for_a_text():
    titles = {name: activation.title for name, activation in networks.ACTIVATIONS.items()}
    assert titles["leaky_relu"] == "leaky ReLU" and titles["tanh"] == "tanh"


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_value_is_the_formula(activation):
    objective = small_network(activation)
    point = objective.initial(1)
    first, second, third = objective.weights(point)
    sigma = networks.ACTIVATIONS[activation].apply
    total = 0.0
    for x, label in zip(objective.inputs, objective.targets, strict=True):
        z = third @ sigma(second @ sigma(first @ x))
        total += -z[label] + z.exp().sum().log()
    torch.testing.assert_close(objective.value(point), total / 12)


def test_squared_error():
    inputs, targets = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    objective = networks.fully_connected(
        inputs, targets, hidden=(), activation="linear", loss="half_squared_error"
    )
    weight = torch.randn(2, 3).double()
    expected = 0.5 * (inputs @ weight.T - targets).square().sum() / 7
    torch.testing.assert_close(objective.value(weight.reshape(-1)), expected)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_homogeneous_networks_scale_with_the_depth(activation):
    objective = small_network(activation)
    point = objective.initial(2)
    outputs = objective.outputs(point, objective.inputs)
    scaled = objective.outputs(1.7 * point, objective.inputs)
    torch.testing.assert_close(scaled, 1.7**objective.depth * outputs)
    assert networks.ACTIVATIONS[activation].homogeneous
    alpha, beta = networks.ACTIVATIONS[activation].slopes
    z = torch.linspace(-2, 2, 9)
    expected = alpha * z.clamp(min=0) + beta * z.clamp(max=0)
    torch.testing.assert_close(networks.ACTIVATIONS[activation].apply(z), expected)


def test_initial_is_what_a_torch_module_gets():
    objective = small_network()
    torch.manual_seed(5)
    layers = [torch.nn.Linear(i, o, bias=False) for o, i in objective.shapes]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
    expected = torch.cat([layer.weight.detach().reshape(-1) for layer in layers]).double()
    torch.testing.assert_close(objective.initial(5), expected, rtol=0, atol=0)


def test_initial_is_reproducible_and_leaves_the_global_generator_alone():
    objective = small_network()
    state = torch.random.get_rng_state()
    assert torch.equal(objective.initial(1), objective.initial(1))
    assert not torch.equal(objective.initial(1), objective.initial(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    limit = max(math.sqrt(6 / sum(shape)) for shape in objective.shapes)
    assert objective.initial(1, scale=0.01).abs().max() <= 0.01 * limit
    assert objective.initial(1, init="gaussian").std() == pytest.approx(1, abs=0.3)


def test_accuracy_counts_right_answers():
    objective = small_network("linear", hidden=())
    points = torch.randn(4, objective.dimension, dtype=torch.float64)
    guesses = (objective.inputs @ objective.weights(points)[0].mT).argmax(-1)
    expected = (guesses == objective.targets).double().mean(-1)
    torch.testing.assert_close(objective.accuracy(points), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "rellu"}, "activation = 'rellu'.*did you mean 'relu'"),
        ({"loss": "hinge"}, "loss = 'hinge'"),
        ({"hidden": (5, 0)}, r"hidden\[1\] = 0"),
        ({"chunk_size": 0}, "chunk_size = 0"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, "N targets"),
        ({"targets": torch.zeros(12)}, "whole labels"),
        ({"targets": torch.zeros(12), "loss": "half_squared_error"}, r"shape \(N, K\)"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "inputs": torch.zeros(12, 4),
        "targets": torch.zeros(12, dtype=torch.int64),
        "hidden": (5,),
    }
    with pytest.raises(ValueError, match=message):
        networks.fully_connected(**(arguments | change))


def torch_module(variant, features=400, activation=torch.nn.ReLU, classes=10):
    """The paper's convolutional networks, written with PyTorch's layers."""
    nn = torch.nn
    dense = [(features, 120), (120, 84), (84, classes)]
    if variant == "adapted":
        layers = [nn.Conv2d(1, 6, 5, stride=2, padding=2, bias=False), activation()]
        layers += [nn.Conv2d(6, 16, 5, stride=2, bias=False), activation()]
    else:
        layers = [nn.Conv2d(1, 6, 5, padding=2), activation(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(6, 16, 5), activation(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    for into, out in dense:
        layers += [nn.Linear(into, out, bias=variant != "adapted"), activation()]
    return nn.Sequential(*layers[:-1])


def digits_like(count, side):
    """Random strokes on a constant background, as in MNIST: pooling meets ties."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, side, side, generator=generator, dtype=torch.float64)
    images[:, : side // 3] = -0.42
    return images, torch.arange(count) % 10


@pytest.mark.parametrize("variant", networks.VARIANTS)
@pytest.mark.parametrize(("side", "features"), [(28, 400), (17, None)])
def test_convolutional_networks_are_the_torch_modules(variant, side, features):
    images, labels = digits_like(12, side)
    objective = networks.convolutional(images, labels, variant=variant, chunk_size=5)
    features = features or objective.weights(objective.initial(1))[2].shape[1]
    module = torch_module(variant, features).double()
    cross_entropy = torch.nn.functional.cross_entropy
    expected = Objective.from_module(module, cross_entropy, images[:, None], labels)
    assert objective.dimension == expected.dimension

    point = objective.initial(3)
    vector = torch.randn(objective.dimension, generator=torch.Generator().manual_seed(4)).double()
    for found, right in zip(
        (
            *objective.value_and_gradient(point),
            objective.hessian_vector_product(point, vector),
        ),
        (
            *expected.value_and_gradient(point),
            expected.hessian_vector_product(point, vector),
        ),
        strict=True,
    ):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(point, module.parameters())
        torch.testing.assert_close(
            objective.outputs(point, objective.inputs), module(images[:, None])
        )
        guesses = module(images[:, None]).argmax(-1)
    assert objective.accuracy(point) == (guesses == labels).double().mean()


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_smooth_convolutional_networks_have_all_derivatives(variant):
    images, labels = digits_like(4, 12)
    objective = networks.convolutional(images, labels, variant=variant, activation="tanh")
    features = objective.weights(objective.initial(1))[2].shape[1]
    module = torch_module(variant, features, torch.nn.Tanh, classes=4).double()
    expected = Objective.from_module(
        module, torch.nn.functional.cross_entropy, images[:, None], labels
    )
    point, vector = objective.initial(1), objective.initial(2)
    torch.testing.assert_close(
        objective.third_derivative(point, vector, vector),
        expected.third_derivative(point, vector, vector),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_initial_convolutional_weights_are_what_a_torch_module_gets(variant):
    images, labels = digits_like(10, 28)
    objective = networks.convolutional(images, labels, variant=variant)
    torch.manual_seed(5)
    module = torch_module(variant)
    for layer in module:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(layer.weight)
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).double()
    state = torch.random.get_rng_state()
    torch.testing.assert_close(objective.initial(5), expected, rtol=0, atol=0)
    torch.testing.assert_close(objective.initial(5, scale=0.5), 0.5 * expected)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_points_in_a_batch_are_taken_one_by_one():
    images, labels = digits_like(6, 12)
    objective = networks.convolutional(images, labels, variant="off_the_shelf")
    points = torch.stack([objective.initial(seed) for seed in range(4)]).reshape(2, 2, -1)
    values, gradients = objective.value_and_gradient(points)
    assert values.shape == (2, 2)
    value, gradient = objective.value_and_gradient(points[1, 0])
    torch.testing.assert_close((values[1, 0], gradients[1, 0]), (value, gradient))
    assert objective.weights(points)[0].shape == (2, 2, 6, 1, 5, 5)


def test_weights_and_biases_share_out_the_parameters():
    images, labels = digits_like(10, 28)
    adapted = networks.convolutional(images, labels)
    assert adapted.depth == 5
    assert adapted.biases(adapted.initial(1)) == []
    assert adapted.weight_mask.all()
    shelf = networks.convolutional(images, labels, variant="off_the_shelf")
    point = shelf.initial(1)
    weights = torch.cat([weight.reshape(-1) for weight in shelf.weights(point)])
    assert torch.equal(point[shelf.weight_mask], weights)
    assert torch.equal(point[~shelf.weight_mask], torch.cat(shelf.biases(point)))
    assert (~shelf.weight_mask).sum() == 6 + 16 + 120 + 84 + 10


def test_the_adapted_network_is_homogeneous():
    images, labels = digits_like(6, 28)
    objective = networks.convolutional(images, labels)
    point = objective.initial(1)
    torch.testing.assert_close(
        objective.outputs(1.3 * point, objective.inputs),
        1.3**objective.depth * objective.outputs(point, objective.inputs),
    )


def with_a_margin(activation, loss="cross_entropy", **options):
    """A network whose samples agree in three of eight features, two of them not 0."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(9, 8, generator=generator, dtype=torch.float64)
    inputs[:, [0, 4, 7]] = torch.tensor([0.7, 0.0, -1.3], dtype=torch.float64)
    targets = torch.arange(9) % 3
    if loss == "half_squared_error":
        targets = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    return networks.fully_connected(
        inputs, targets, hidden=(5, 4), activation=activation, loss=loss, **options
    )


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("linear", "cross_entropy"),
        ("linear", "half_squared_error"),
        ("relu", "cross_entropy"),
        ("tanh", "cross_entropy"),
    ],
)
def test_features_that_all_samples_share_are_merged_and_nothing_changes(
    activation, loss, monkeypatch
):
    merged = with_a_margin(activation, loss)
    monkeypatch.setattr(fully_connected_networks, "MERGED_PART", 1.1)
    whole = with_a_margin(activation, loss)
    points = torch.stack([whole.initial(seed) for seed in range(3)])
    vector = whole.initial(7)
    seen = []
    for objective in (merged, whole):
        value, gradient = objective.value_and_gradient(points)
        times_vector = objective.hessian_vector_product(points[0], vector)
        outputs = objective.outputs(points, objective.inputs)
        third = objective.third_derivative(points[0], vector, points[1])
        seen.append((value, gradient, times_vector, third, outputs))
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-13)


def test_products_take_the_features_that_vary(monkeypatch):
    taken = []
    whole_products = networks.FullyConnected._outputs

    def noted(objective, point, prepared):
        taken.append(prepared.columns.shape[1])
        return whole_products(objective, point, prepared)

    monkeypatch.setattr(networks.FullyConnected, "_outputs", noted)
    point = with_a_margin("relu").initial(1)
    with_a_margin("relu").value(point)  # five features that vary, and the ones
    with_a_margin("relu", chunk_size=4).value(point)  # for little memory: no copy of the data
    small_network("relu").value(small_network("relu").initial(1))  # all features vary
    assert taken == [6, 8, 8, 8, 6]


def test_merged_features_in_float32_and_a_float64_point():
    double = with_a_margin("relu")
    single = networks.fully_connected(
        double.inputs, double.targets, hidden=(5, 4), activation="relu", dtype=torch.float32
    )
    point = double.initial(1)
    gradient = single.gradient(point)
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, double.gradient(point), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", networks.LOSSES)
def test_slopes_are_the_derivatives_of_the_losses(loss):
    generator = torch.Generator().manual_seed(5)
    outputs = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(7) % 3
    if loss == "half_squared_error":
        targets = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    function = networks.LOSSES[loss]
    (expected,) = torch.autograd.grad(function(outputs, targets).sum(), outputs)
    torch.testing.assert_close(SLOPES[function](outputs.detach(), targets), expected)


@pytest.mark.parametrize("loss", networks.LOSSES)
@pytest.mark.parametrize("chunk_size", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_linear_networks_gradient_is_the_one_by_autograd(loss, chunk_size, dtype):
    objective = with_a_margin("linear", loss, chunk_size=chunk_size, dtype=dtype)
    points = torch.stack([objective.initial(seed) for seed in range(2)]).double()
    found = objective.value_and_gradient(points)
    expected = Objective.value_and_gradient(objective, points)
    assert found[0].dtype == expected[0].dtype and found[1].dtype == torch.float64
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_the_geometry_is_that_of_the_layers(variant):
    images, labels = digits_like(6, 28)
    first, second = networks.convolutional(images, labels, variant=variant).convolutions
    assert (first.input_size, second.input_size) == ((28, 28), (14, 14))
    assert (first.output_size, second.output_size) == ((14, 14), (5, 5))
    assert (first.stride, first.pool) == ((2, 1) if variant == "adapted" else (1, 2))


def test_windows_that_are_not_kept_are_made_each_time(monkeypatch):
    images, labels = digits_like(6, 12)
    kept = networks.convolutional(images, labels)
    monkeypatch.setattr(convolutional_networks, "KEPT_BYTES", 0)
    made = networks.convolutional(images, labels, chunk_size=4)
    point = kept.initial(1)
    torch.testing.assert_close(made.value_and_gradient(point), kept.value_and_gradient(point))


def test_float32_data_and_a_float64_point():
    images, labels = digits_like(6, 12)
    single = networks.convolutional(images, labels, dtype=torch.float32)
    double = networks.convolutional(images, labels)
    point = double.initial(1)
    gradient = single.gradient(point)
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, double.gradient(point), rtol=1e-3, atol=1e-5)
    assert single.initial(1).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "adaptd"}, "variant = 'adaptd'.*did you mean 'adapted'"),
        ({"activation": "rellu"}, "activation = 'rellu'"),
        ({"images": torch.zeros(12, 8, 8)}, "8 × 8 pixels.*too small.*enlarge"),
        ({"images": torch.zeros(12, 200)}, r"\(N, H, W\)"),
        ({"images": torch.zeros(12, 1, 28, 28)}, r"\(N, H, W\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "N targets"),
        ({"chunk_size": 0}, "chunk_size = 0"),
    ],
)
def test_bad_arguments_of_convolutional(change, message):
    arguments = {
        "images": torch.zeros(12, 28, 28),
        "labels": torch.zeros(12, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=message):
        networks.convolutional(**(arguments | change))
