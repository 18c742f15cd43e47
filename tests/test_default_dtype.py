"""No number depends on torch's global default dtype: each is computed under both, and compared."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import gfgd
from gfgd import bounds, networks
from gfgd.bounds import curvature, leading_order
from gfgd.derivative_checks import check_derivatives, generic_point
from gfgd.imperfections import rounding
from gfgd.large_steps import central, modified
from gfgd.networks import linear
from gfgd.problems import datasets, examples, initial_value_problems, landscapes
from tests.small_problems import quadratic

INPUTS = [[0.1, -0.7, 0.3], [1.1, 0.2, -0.4], [0.6, 0.9, -1.3], [-0.2, 0.3, 0.5]]
LABELS = [0, 1, 2, 0]


def network(**options):
    """A network on lists of numbers, which have no dtype of their own."""
    return networks.fully_connected(INPUTS, LABELS, hidden=(4, 3), **options)


def pictures(variant, dtype=torch.float64):
    images = torch.linspace(-1, 1, 2 * 28 * 28, dtype=torch.float64).reshape(2, 784)
    return networks.convolutional(images, torch.tensor([0, 9]), variant=variant, dtype=dtype)


def factorisation():
    target = [[1.0, 0.1], [0.2, 0.7]]
    return linear.deep_linear(target, depth=3, hidden=2)


def matrix():
    return torch.tensor([[1.0, 0.3], [0.1, 0.6]], dtype=torch.float64)


def times(count=4):
    return torch.linspace(0, 1, count, dtype=torch.float64)


def start():
    return torch.tensor([0.4, 0.7, -0.2], dtype=torch.float64)


def smooth():
    return quadratic(-1.0, 2.0, 3.3)


def tensors(result):
    """Return all numbers of a result, in the order of its fields."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (np.ndarray, float, int, bool)):
        return [torch.as_tensor(np.asarray(result))]
    if isinstance(result, (list, tuple)):
        return [one for part in result for one in tensors(part)]
    if isinstance(result, dict):
        return [one for part in result.values() for one in tensors(part)]
    if hasattr(result, "__dict__"):
        return [one for part in vars(result).values() for one in tensors(part)]
    return []


def parameters():
    torch.manual_seed(3)
    return [weight.detach() for weight in examples.residual_network().parameters()]


CASES = {
    "xavier start": lambda: network().initial(1),
    "gaussian start": lambda: network().initial(1, init="gaussian", scale=0.3),
    "float32 start": lambda: network(dtype=torch.float32).initial(1),
    "data": lambda: [
        network().inputs,
        networks.fully_connected(
            INPUTS, [[0.1], [0.2], [0.3], [0.7]], hidden=(2,), loss="half_squared_error"
        ).targets,
    ],
    "value of a network": lambda: network().value(network().initial(2)),
    "convolutional starts": lambda: [
        pictures(variant).initial(1) for variant in ("adapted", "off_the_shelf")
    ],
    "mask of the weights": lambda: pictures("off_the_shelf").weight_mask,
    "factorisation": lambda: [factorisation().target, factorisation().mask],
    "balanced start": lambda: linear.balanced_start(matrix(), 3, 2),
    "gaussian linear start": lambda: linear.gaussian_start(factorisation(), scale=0.1, seed=1),
    "random maps": lambda: linear.random_end_to_end(matrix(), radius=0.3, seed=1, cosine=0.2),
    "effective rank": lambda: linear.effective_rank(matrix()),
    "digits": lambda: list(datasets.digits())[:2],
    "residual network": parameters,
    "landscapes": lambda: [
        (one.objective.value(at), one.objective.gradient(at), one.flow(at, times()))
        for one in landscapes.LANDSCAPES.values()
        if one.flow is not None
        for at in [torch.linspace(0.2, 0.9, one.objective.dimension, dtype=torch.float64)]
    ],
    "initial value problem": lambda: initial_value_problems.problem("logistic").start,
    "descent": lambda: gfgd.gradient_descent(smooth(), start(), step_size=0.1, iterations=7),
    "flow": lambda: gfgd.gradient_flow(smooth(), start(), times()),
    "flow of a list": lambda: gfgd.gradient_flow(smooth(), [0.4, 0.7, -0.2], [0.0, 0.3, 1.0]),
    "spectrum": lambda: gfgd.extreme_eigenvalues(
        quadratic(*np.linspace(-1, 2, 60)),
        torch.zeros(60, dtype=torch.float64),
        dense_below=0,
    ),
    "spectrum in float32": lambda: gfgd.extreme_eigenvalues(
        quadratic(*np.linspace(-1, 2, 60)),
        torch.zeros(60, dtype=torch.float32),
        dense_below=0,
    ),
    "spectrum along": lambda: gfgd.spectrum_along(
        smooth(), gfgd.gradient_flow(smooth(), start(), times())
    ),
    "central flow": lambda: (
        central.central_flow(smooth(), start(), step_size=0.3, iterations=5).path
    ),
    "smoothed": lambda: central.smoothed(times(9), 3),
    "modified flow": lambda: modified.barrett_dherin_flow(
        smooth(), start(), times(), step_size=0.1
    ),
    "principal flow": lambda: modified.principal_flow(smooth(), start(), times(), step_size=0.1),
    "leading order": lambda: leading_order.leading_order_error(smooth(), start(), times()),
    "fundamental bound": lambda: bounds.distance.fundamental_bound(times(), 0.1, 0.7),
    "step size for a tube": lambda: bounds.distance.tube_step_size(
        0.1, times(), smoothness=0.3, gradient_norm=0.7, rate=0.9
    ),
    "rounding bounds": lambda: rounding.rounding_bounds(
        times(), 0.7, step_size=0.1, spacing_norm=1e-7, smoothness=0.3, gradient_norm=0.7
    ),
    "stochastic rounding": lambda: rounding.StochasticRounding(seed=1)(
        start().float(), 1e-9 * start().float()
    ),
    "norm of a convolution": lambda: [
        curvature.convolution_norm(
            torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(2, 1, 3, 3),
            (6, 6),
            dense_below=n,
        )
        for n in (0, 100)
    ],
    "checks of derivatives": lambda: check_derivatives(smooth(), start()),
    "generic point": lambda: generic_point(start(), seed=1),
}


@pytest.mark.parametrize("name", CASES)
def test_results_do_not_depend_on_the_default_dtype(name):
    usual, results = torch.get_default_dtype(), []
    try:
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            results.append(tensors(CASES[name]()))
    finally:
        torch.set_default_dtype(usual)
    first, second = results
    assert first and len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_the_start_is_the_one_that_it_has_always_been():
    # Drawn in float32: these are what the published runs started from.
    torch.manual_seed(1)
    layers = [torch.nn.Linear(m, n, bias=False) for m, n in ((3, 4), (4, 3), (3, 3))]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
    expected = torch.cat([layer.weight.detach().reshape(-1) for layer in layers]).double()
    assert torch.equal(network().initial(1), expected)


MAKERS = {
    *("empty", "zeros", "ones", "full", "eye", "rand", "randn", "linspace", "logspace"),
    *("tensor", "as_tensor", "scalar_tensor", "hann_window", "normal"),
}

#: Whole numbers, and values of users' modules, whose own parameters follow the default.
WITHOUT = {"central.py", "archive.py", "spectrum.py", "importing.py", "objective.py"}


def test_every_tensor_is_made_with_a_dtype():
    found = []
    for path in Path(gfgd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "torch"
                and node.func.attr in MAKERS
                and "dtype" not in {keyword.arg for keyword in node.keywords}
                and path.name not in WITHOUT
            ):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found
