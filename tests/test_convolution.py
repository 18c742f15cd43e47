"""Against PyTorch's own convolution, unfolding and pooling, and autograd's checks."""

import pytest
import torch
from torch.nn import functional

from gfgd.convolution import largest, tiled, windows


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
def test_the_gradient_of_windows_is_the_adjoint(size, stride):
    images = random(2, 8, 7, 3).requires_grad_()
    columns = windows(images, size, stride)
    given = random(*columns.shape)
    (gradient,) = torch.autograd.grad((columns * given).sum(), images)
    expected = functional.fold(
        given.unflatten(1, (-1, 3)).permute(2, 0, 1), (8, 7), size, stride=stride
    )
    torch.testing.assert_close(samples_first(gradient), expected)
    # The copy of expanded, permuted images is one of the same numbers.
    turned = images.detach().transpose(1, 2)
    torch.testing.assert_close(
        windows(turned, size, stride), windows(turned.contiguous(), size, stride)
    )


@pytest.mark.parametrize(("count", "stride"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("side", [13, 14])
def test_a_tiled_product_is_a_pooled_convolution(count, stride, side):
    images, weight = random(2, side, side, 3), random(4, 2, 5, 5)
    convolved = functional.conv2d(samples_first(images), weight, stride=stride)
    expected = functional.max_pool2d(convolved, count)
    window = 5 + (count - 1) * stride
    found = tiled(weight, count, stride) @ windows(images, window, stride * count)
    found = largest(found.view(count**2, 4, -1)).view(4, *expected.shape[2:], 3)
    torch.testing.assert_close(samples_first(found), expected)


def test_derivatives_of_every_order():
    images, weight = random(2, 7, 7, 2).requires_grad_(), random(3, 2, 3, 3).requires_grad_()

    def pooled(images, weight):
        outputs = tiled(weight, 2, 1) @ windows(images, 4, 2)
        return largest(outputs.view(4, 3, -1)).tanh()

    assert torch.autograd.gradcheck(pooled, (images, weight))
    assert torch.autograd.gradgradcheck(pooled, (images, weight))

    def hessian_row(weight):
        (gradient,) = torch.autograd.grad(
            pooled(images, weight).square().sum(), weight, create_graph=True
        )
        return torch.autograd.grad(gradient.square().sum(), weight, create_graph=True)[0].sum()

    assert torch.autograd.gradcheck(hessian_row, (weight,))


def test_ties_go_to_the_first():
    values = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [3.0, 1.0, 0.0]], requires_grad=True)
    maximum = largest(values)
    assert torch.equal(maximum, torch.tensor([3.0, 2.0, 0.0]))
    (gradient,) = torch.autograd.grad(maximum.sum(), values)
    assert torch.equal(gradient, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0]]))
