"""Convolution and max-pooling as one matrix product, with the samples innermost.

PyTorch stores a batch as (samples, channels, height, width). Filters with a handful of channels
then leave its kernels little to work on. Here a batch is (channels, height, width, samples): every
pixel is a run of samples, one after the other. A convolution copies those runs into a matrix,
one column for each position and sample, and multiplies it from the left by the filter; pooling
takes the maximum of whole runs. Both are several times faster that way for the book's networks
(``benchmarks/convolution.py``), and the matrix of the input, which never changes, is made once.

All functions can be differentiated as often as one likes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def windows(images: Tensor, size: int, stride: int) -> Tensor:
    """Return all square windows of the images as the columns of a matrix.

    Parameters
    ----------
    images
        Shape ``(C, H, W, N)``: the samples last.
    size, stride
        Side of a window, and the step from one to the next.

    Returns
    -------
    Tensor
        Shape ``(C·size², h·w·N)``, h = ⌊(H − size) / stride⌋ + 1 and w alike. Rows are ordered as
        ``filter.flatten(1)`` of a filter ``(O, C, size, size)``, columns by position and sample.
    """
    return _Windows.apply(images, size, stride)


def multiply(weight: Tensor, columns: Tensor) -> Tensor:
    """Return weight @ columns, for a small matrix and one with many columns.

    The derivative with respect to `weight` is computed transposed, columns @ gradientᵀ: matrix
    libraries are up to 1.6 times faster that way round for results as small as here.
    """
    return _Multiply.apply(weight, columns)


def tiled(weight: Tensor, count: int, stride: int) -> Tensor:
    """Return the matrix that computes count × count neighbouring outputs of a convolution at once.

    A pooling cell needs count² outputs, whose patches overlap. This matrix maps the window that
    they cover, of side k + (count − 1)·stride, to all of them, so that the window is copied once
    and not count² times. For count = 1 it is the filter.

    Parameters
    ----------
    weight
        Filter, shape ``(O, C, k, k)``.
    count, stride
        Outputs side by side, and the convolution's stride.

    Returns
    -------
    Tensor
        Shape ``(count²·O, C·(k + (count − 1)·stride)²)``: outputs row by row, channels inside.
    """
    if count == 1:
        return weight.flatten(1)
    room = stride * (count - 1)
    shifts = [(stride * y, stride * x) for y in range(count) for x in range(count)]
    rows = [functional.pad(weight, (x, room - x, y, room - y)) for y, x in shifts]
    return torch.cat(rows).flatten(1)


def largest(values: Tensor) -> Tensor:
    """Return the maximum over the first dimension; the derivative is that of the first maximum.

    Second derivatives treat the selection as fixed, as those of ``max_pool2d`` do.
    """
    return _Largest.apply(values)


def _window_view(images: Tensor, size: int, stride: int) -> Tensor:
    """Return the windows as a view of shape ``(C, size, size, h, w, N)``, nothing copied."""
    view = images.unfold(1, size, stride).unfold(2, size, stride)
    return view.permute(0, 4, 5, 1, 2, 3)


class _Windows(torch.autograd.Function):
    """Copy windows out of images; its adjoint is `_Overlap`."""

    @staticmethod
    def forward(ctx, images: Tensor, size: int, stride: int) -> Tensor:
        ctx.shape, ctx.size, ctx.stride = images.shape, size, stride
        return _window_view(images, size, stride).reshape(images.shape[0] * size**2, -1)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        return _Overlap.apply(gradients[0], ctx.shape, ctx.size, ctx.stride), None, None


class _Overlap(torch.autograd.Function):
    """Add windows up in the images that they came from; its adjoint is `_Windows`."""

    @staticmethod
    def forward(ctx, columns: Tensor, shape: torch.Size, size: int, stride: int) -> Tensor:
        ctx.size, ctx.stride = size, stride
        images = columns.new_zeros(shape)
        view = _window_view(images, size, stride)
        parts = columns.reshape(view.shape)
        # Blocks of stride × stride pixels of all windows do not overlap: one addition each.
        for y in range(0, size, stride):
            for x in range(0, size, stride):
                block = slice(None), slice(y, y + stride), slice(x, x + stride)
                view[block].add_(parts[block])
        return images

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        return _Windows.apply(gradients[0], ctx.size, ctx.stride), None, None, None


class _Multiply(torch.autograd.Function):
    """A matrix product; its backward pass consists of products that autograd knows."""

    @staticmethod
    def forward(ctx, weight: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(weight, columns)
        return weight @ columns

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        weight, columns = ctx.saved_tensors
        (gradient,) = gradients
        for_weight = (columns @ gradient.mT).mT if ctx.needs_input_grad[0] else None
        for_columns = weight.mT @ gradient if ctx.needs_input_grad[1] else None
        return for_weight, for_columns


class _Largest(torch.autograd.Function):
    """The maximum over the first dimension."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        maximum = values.amax(0)
        ctx.save_for_backward(values, maximum)
        return maximum

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        return _ToFirst.apply(gradients[0], *ctx.saved_tensors)


class _ToFirst(torch.autograd.Function):
    """Hand each number to the first of the values that attains the maximum."""

    @staticmethod
    def forward(ctx, given: Tensor, values: Tensor, maximum: Tensor) -> Tensor:
        ctx.save_for_backward(values, maximum)
        handed = torch.empty_like(values)
        left = given
        for value, share in zip(values[:-1], handed[:-1], strict=True):
            # A mask of floating point numbers: a boolean one takes several times longer to apply.
            torch.eq(value, maximum, out=share)
            share.mul_(left)
            left = left - share
        handed[-1] = left
        return handed

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        values, maximum = ctx.saved_tensors
        first = _ToFirst.apply(torch.ones_like(maximum), values, maximum)
        return (first * gradients[0]).sum(0), None, None
