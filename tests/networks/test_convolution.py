"""Against PyTorch's own convolution, unfolding and pooling, and autograd's checks."""

import pytest
import torch
from torch.nn import functional

from gfgd.networks.convolution import convolve, largest, multiply, tiled, windows


def random(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def samples_first(images):
    """(C, H, W, N) to PyTorch's (N, C, H, W)."""
    return images.permute(3, 0, 1, 2)


@pytest.mark.parametrize(("size", "stride"), [(5, 2), (6, 2), (5, 1), (3, 3), (2, 3)])
def test_windows_are_torchs_unfold(size, stride):
    images = random(2, 11, 9, 4)
    expected = functional.unfold(samples_first(images), size, stride=stride)  # (N, C k k, h w)
    found = windows(images, size, stride)
    torch.testing.assert_close(found, expected.permute(1, 2, 0).flatten(1), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "stride"), [(5, 2), (4, 1), (2, 3)])
def test_convolution_and_its_gradients_are_torchs(size, stride):
    images, weight = random(2, 8, 7, 3).requires_grad_(), random(4, 2, size, size).requires_grad_()
    found = convolve(weight.flatten(1), images, size, stride)
    expected = functional.conv2d(samples_first(images), weight, stride=stride)
    torch.testing.assert_close(samples_first(found), expected)
    given = random(*found.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * given).sum(), (weight, images)),
        torch.autograd.grad((expected * samples_first(given)).sum(), (weight, images)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_convolution_does_not_depend_on_how_its_arguments_lie_in_memory():
    images, weight = random(2, 8, 7, 3), random(4, 50).requires_grad_()
    turned = images.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert not turned.is_contiguous()
    found = convolve(weight, turned, 5, 2)
    expected = multiply(weight, windows(images, 5, 2)).view(found.shape)
    torch.testing.assert_close(found, expected)
    # The gradient of a sum is an expanded number, with no memory of its own.
    gradients = torch.autograd.grad(found.sum(), (weight, turned))
    straight = images.clone().requires_grad_()
    found = convolve(weight, straight, 5, 2)
    expected = torch.autograd.grad((found * torch.ones_like(found)).sum(), (weight, straight))
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize(("count", "stride"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("side", [13, 14])
def test_a_tiled_product_is_a_pooled_convolution(count, stride, side):
    images, weight = random(2, side, side, 3), random(4, 2, 5, 5)
    convolved = functional.conv2d(samples_first(images), weight, stride=stride)
    expected = functional.max_pool2d(convolved, count)
    window = 5 + (count - 1) * stride
    matrix = tiled(weight, count, stride)
    for found in (
        matrix @ windows(images, window, stride * count),
        convolve(matrix, images, window, stride * count),
    ):
        pooled = largest(found.view(count**2, 4, -1)).view(4, *expected.shape[2:], 3)
        torch.testing.assert_close(samples_first(pooled), expected)


def test_derivatives_of_every_order():
    images, weight = random(2, 6, 6, 1).requires_grad_(), random(2, 2, 3, 3).requires_grad_()

    def pooled(images, weight):
        outputs = convolve(tiled(weight, 2, 1), images, 4, 2)
        return largest(outputs.view(4, 2, -1)).tanh()

    assert torch.autograd.gradcheck(pooled, (images, weight))
    assert torch.autograd.gradgradcheck(pooled, (images, weight))

    def third(images, weight):
        total = pooled(images, weight).square().sum()
        gradients = torch.autograd.grad(total, (images, weight), create_graph=True)
        total = sum(gradient.square().sum() for gradient in gradients)
        return torch.autograd.grad(total, (images, weight), create_graph=True)

    assert torch.autograd.gradcheck(third, (images, weight))


def test_derivatives_of_a_product_with_columns_that_stay_the_same():
    columns, weight = windows(random(2, 7, 7, 2), 3, 2), random(3, 18).requires_grad_()
    assert torch.autograd.gradcheck(multiply, (weight, columns))
    assert torch.autograd.gradgradcheck(multiply, (weight, columns))


def test_ties_go_to_the_first():
    values = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [3.0, 1.0, 0.0]], requires_grad=True)
    maximum = largest(values)
    assert torch.equal(maximum, torch.tensor([3.0, 2.0, 0.0]))
    (gradient,) = torch.autograd.grad(maximum.sum(), values)
    assert torch.equal(gradient, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0]]))
