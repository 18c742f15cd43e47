"""Convolution and max-pooling as matrix products, with the samples innermost.

PyTorch stores a batch as (samples, channels, height, width). Filters with a handful of channels
then leave its kernels little to work on. Here a batch is (channels, height, width, samples): every
pixel is a run of samples, one after the other. A convolution copies those runs into a matrix,
one column for each position and sample, and multiplies it from the left by the filter; pooling
takes the maximum of whole runs. That is faster for the book's networks
(``benchmarks/convolution.py``). Two things save memory traffic: the matrix of the input, which
never changes, is made once (`windows`, `multiply`), and that of a hidden layer is never made as a
whole, but for one row of positions after the other, in the same place (`convolve`).

All functions but `windows` can be differentiated as often as one likes.
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
    rows = _rows_of_windows(images, size, stride)
    return torch.stack(rows, dim=3).view(images.shape[0] * size**2, -1)


def multiply(weight: Tensor, columns: Tensor) -> Tensor:
    """Return weight @ columns, for a small matrix and one with many columns that stay the same.

    The derivative with respect to `weight` is computed transposed, columns @ gradientᵀ: matrix
    libraries are up to 1.6 times faster that way round for results as small as here.
    """
    return _Multiply.apply(weight, columns)


def convolve(weight: Tensor, images: Tensor, size: int, stride: int) -> Tensor:
    """Return the product of a matrix with all square windows of the images.

    The same as ``multiply(weight, windows(images, size, stride))``, in another shape; but it can be
    differentiated with respect to the images, too, and needs the memory of one row of windows only.

    Parameters
    ----------
    weight
        Shape ``(M, C·size²)``, rows ordered as those of ``filter.flatten(1)``.
    images
        Shape ``(C, H, W, N)``: the samples last.
    size, stride
        Side of a window, and the step from one to the next.

    Returns
    -------
    Tensor
        Shape ``(M, h, w, N)``, h = ⌊(H − size) / stride⌋ + 1 and w alike.
    """
    return _Convolve.apply(weight, images, size, stride)


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


def _rows_of_windows(images: Tensor, size: int, stride: int) -> tuple[Tensor, ...]:
    """Return h views of shape ``(C, size, size, w, N)``, nothing copied."""
    view = images.unfold(1, size, stride).unfold(2, size, stride)
    return view.permute(1, 0, 4, 5, 2, 3).unbind()


# Convolution is bilinear. With T(w, x, g) = ⟨g, w ∗ x⟩, the three functions below are T's
# derivatives with respect to g, x and w, so that each one's derivatives are the other two.
# A row's copy of windows stays in a core's cache, and is overwritten by that of the next row.


class _Convolve(torch.autograd.Function):
    """∂T/∂g = w ∗ x, shape ``(M, h, w, N)``."""

    @staticmethod
    def forward(ctx, weight: Tensor, images: Tensor, size: int, stride: int) -> Tensor:
        ctx.save_for_backward(weight, images)
        ctx.how = size, stride
        rows = _rows_of_windows(images, size, stride)
        copy = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
        outputs = images.new_empty(len(weight), len(rows), *copy.shape[-2:])
        for row, windows_of_row in enumerate(rows):
            copy.copy_(windows_of_row)
            columns = copy.view(weight.shape[1], -1)
            torch.mm(weight, columns, out=outputs[:, row].view(len(weight), -1))
        return outputs

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        weight, images = ctx.saved_tensors
        (gradient,) = gradients
        for_weight = for_images = None
        if ctx.needs_input_grad[0]:
            for_weight = _Correlate.apply(images, gradient, *ctx.how)
        if ctx.needs_input_grad[1]:
            for_images = _Spread.apply(weight, gradient, images.shape, *ctx.how)
        return for_weight, for_images, None, None


class _Spread(torch.autograd.Function):
    """∂T/∂x, of the images' shape: every window's share, added up in the images."""

    @staticmethod
    def forward(
        ctx, weight: Tensor, given: Tensor, shape: torch.Size, size: int, stride: int
    ) -> Tensor:
        ctx.save_for_backward(weight, given)
        ctx.how = size, stride
        images = given.new_zeros(shape)
        rows = _rows_of_windows(images, size, stride)
        shares = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
        for row, windows_of_row in enumerate(rows):
            columns = given[:, row].reshape(len(given), -1)
            torch.mm(weight.mT, columns, out=shares.view(weight.shape[1], -1))
            # The windows of a row overlap, but their parts of `stride` columns do not.
            for x in range(0, size, stride):
                part = slice(None), slice(None), slice(x, x + stride)
                windows_of_row[part].add_(shares[part])
        return images

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        weight, given = ctx.saved_tensors
        (gradient,) = gradients
        for_weight = for_given = None
        if ctx.needs_input_grad[0]:
            for_weight = _Correlate.apply(gradient, given, *ctx.how)
        if ctx.needs_input_grad[1]:
            for_given = _Convolve.apply(weight, gradient, *ctx.how)
        return for_weight, for_given, None, None, None


class _Correlate(torch.autograd.Function):
    """∂T/∂w, shape ``(M, C·size²)``."""

    @staticmethod
    def forward(ctx, images: Tensor, given: Tensor, size: int, stride: int) -> Tensor:
        ctx.save_for_backward(images, given)
        ctx.how = size, stride
        rows = _rows_of_windows(images, size, stride)
        copy = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
        total = given.new_zeros(images.shape[0] * size**2, len(given))
        for row, windows_of_row in enumerate(rows):
            copy.copy_(windows_of_row)
            # Transposed, as in _Multiply.
            total.addmm_(copy.view(len(total), -1), given[:, row].reshape(len(given), -1).mT)
        return total.mT

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        images, given = ctx.saved_tensors
        (gradient,) = gradients
        for_images = for_given = None
        if ctx.needs_input_grad[0]:
            for_images = _Spread.apply(gradient, given, images.shape, *ctx.how)
        if ctx.needs_input_grad[1]:
            for_given = _Convolve.apply(gradient, images, *ctx.how)
        return for_images, for_given, None, None


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
        left = handed[-1].copy_(given)
        for value, share in zip(values[:-1], handed[:-1], strict=True):
            # A mask of floating point numbers: a boolean one takes several times longer to apply.
            torch.eq(value, maximum, out=share)
            left.sub_(share.mul_(left))
        return handed

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        values, maximum = ctx.saved_tensors
        first = _ToFirst.apply(torch.ones_like(maximum), values, maximum)
        return (first * gradients[0]).sum(0), None, None
