"""The lower bound on λmin for the paper's convolutional networks, at a point."""

from __future__ import annotations

import torch
from torch import Tensor

from gfgd.bounds.curvature import (
    convolution_constant,
    convolution_norm,
    gradient_times_input,
    shared_weights_bound,
)
from gfgd.networks.convolutional_networks import Convolutional


def convolutional_bound(objective: Convolutional, point: Tensor) -> Tensor:
    """Return the bound of :func:`gfgd.bounds.curvature.shared_weights_bound` at a point.

    −(n−1) max(|α|, |ᾱ|)^{n−1} (1/N) Σᵢ ‖∇ℓᵢ‖‖xᵢ‖ max_{j≠j'} κ_j κ_{j'} Π_{k≠j,j'} ‖C_k‖₂ ≤ λmin,
    with n = 5 layers, C_k the linear map of layer k, and ‖C_k(w)‖₂ ≤ κ_k‖w‖: κ of
    :func:`gfgd.bounds.curvature.convolution_constant` for the convolutions, 1 for dense layers.

    Parameters
    ----------
    objective
        A network without biases, with a homogeneous activation.
    point
        θ, shape ``(d,)``.

    Returns
    -------
    Tensor
        Shape ``()``, on the CPU.

    Raises
    ------
    ValueError
        If the network has biases or an activation that is not homogeneous: there is no such bound.
    """
    if objective.variant.biases or objective.activation.slopes is None:
        raise ValueError(
            "objective: the bound needs a network without biases and a homogeneous activation, "
            "such as networks.convolutional(..., variant='adapted', activation='relu')"
        )
    layers = objective.weights(point)
    norms = [float(torch.linalg.matrix_norm(dense, 2)) for dense in layers[2:]]
    constants = [1.0] * len(norms)
    for shape, filters in zip(reversed(objective.convolutions), layers[1::-1], strict=True):
        moves = {"stride": shape.stride, "padding": shape.padding}
        norms.insert(0, convolution_norm(filters, shape.input_size, **moves))
        constants.insert(0, convolution_constant(shape.input_size, shape.kernel_size, **moves))
    outputs = objective.outputs(point, objective.inputs)
    size = gradient_times_input(objective.loss, outputs, objective.targets, objective.inputs)
    slope = max(map(abs, objective.activation.slopes))
    return shared_weights_bound(norms, constants, size.cpu(), slope=slope)
