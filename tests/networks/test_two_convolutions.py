"""The small convolutional network against torch's own layers."""

import pytest
import torch
from torch.nn import functional

from gfgd.networks.two_convolutions import TwoConvolutions
from gfgd.objective import unflatten

SEED = 3


def network(pool, slope):
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(4, 1, 5, 5, generator=generator, dtype=torch.float64)
    found = TwoConvolutions(images, torch.arange(4) % 2, pool=pool, slope=slope)
    points = torch.randn(3, found.dimension, generator=generator, dtype=torch.float64)
    return found, 0.5 * points


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_it_computes_what_torchs_layers_compute(pool, slope):
    found, points = network(pool, slope)
    for point, outputs, value in zip(
        points, found.outputs(points), found.value(points), strict=True
    ):
        first, second, last = unflatten(point, found.shapes)
        hidden = functional.leaky_relu(functional.conv2d(found.images, first, padding=1), slope)
        hidden = functional.max_pool2d(hidden, 2) if pool else hidden
        hidden = functional.leaky_relu(functional.conv2d(hidden, second), slope)
        expected = hidden.flatten(1) @ last.T
        torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
        loss = functional.cross_entropy(expected, found.labels)
        torch.testing.assert_close(value, loss, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("pool", [False, True])
def test_the_bound_is_below_the_smallest_eigenvalue(pool):
    found, points = network(pool, 0.2)
    bound = found.smallest_eigenvalue_bound(points)
    assert (torch.linalg.eigvalsh(found.hessian(points))[:, 0] >= bound).all()
    assert (bound < 0).all()


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\)"):
        TwoConvolutions(torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), pool=False, slope=0.0)
