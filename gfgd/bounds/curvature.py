"""Lower bounds on λmin of the Hessian of a network's loss: how far from convex it can be.

Every bound here is a theorem, proved in the book's chapter on rough convexity (Elkabetz & Cohen
2021 for the first two). They all come from one computation. Near θ a homogeneous network is, for
each sample, a product of matrices; its loss is convex in that product, and the second derivative
of the product couples two layers at a time. So

    λmin(∇²f) ≥ −(n−1) · (size of the loss's gradient) · (the largest product of n−2 layers' norms).

The bounds hold where f is twice differentiable: for (leaky) ReLU and max-pooling at every θ near
which each activation and each pooling acts as one fixed linear map for each sample. No
pre-activation is 0 there and no pooling has two largest entries, or it makes no difference.
Biases are not covered: with them a network is not homogeneous.

Leading dimensions are a batch throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from gfgd import checks
from gfgd.networks import FullyConnected
from gfgd.objective import Objective
from gfgd.spectrum import extreme_eigenvalues

# Bounds, one function a theorem


def deep_linear_bound(weights: Sequence[Tensor], residual: Tensor) -> Tensor:
    """Return −(n−1) ‖∇φ‖_F max_{|J|=n−2} Π_{j∈J} ‖W_j‖₂ ≤ λmin, for f(θ) = φ(W_n ⋯ W_1), φ convex.

    Elkabetz & Cohen (2021), for linear networks. 0 for one layer.

    Parameters
    ----------
    weights
        W_1, …, W_n, shapes ``(..., out, in)``.
    residual
        ∇φ(W_n ⋯ W_1), shape ``(..., k, d0)``.

    Returns
    -------
    Tensor
        Shape ``(...)``.

    Examples
    --------
    >>> layers = [torch.eye(2), 3 * torch.eye(2), torch.ones(1, 2)]
    >>> deep_linear_bound(layers, torch.tensor([[3.0, 4.0]]))
    tensor(-30.)
    """
    norms = _layer_norms(weights)
    return -(len(weights) - 1) * torch.linalg.matrix_norm(residual) * _all_but_two(norms)


def pairwise_bound(weights: Sequence[Tensor], residual: Tensor) -> Tensor:
    """Return −λmax(Q) ≤ λmin, with products in place of products of norms.

    Q is symmetric, n × n, with a zero diagonal and, for j < j',

        Q_jj' = ‖(W_n ⋯ W_{j'+1})ᵀ ∇φ (W_{j−1} ⋯ W_1)ᵀ‖₂ ‖W_{j'−1} ⋯ W_{j+1}‖₂.

    Never below :func:`deep_linear_bound`. The arguments and the result are the same.
    """
    depth = len(weights)
    batch = torch.broadcast_shapes(residual.shape[:-2], *(w.shape[:-2] for w in weights))
    couplings = residual.new_zeros(*batch, depth, depth)
    above = residual  # (W_n ⋯ W_{j'+1})ᵀ ∇φ
    for upper in range(depth - 1, 0, -1):
        between = None  # W_{j'−1} ⋯ W_{j+1}
        for lower in range(upper - 1, -1, -1):
            # Times (W_{j−1} ⋯ W_1)ᵀ: the factors act from the right, W_1ᵀ first.
            edge = above
            for weight in weights[:lower]:
                edge = edge @ weight.mT
            norm = torch.linalg.matrix_norm(edge, 2)
            if between is not None:
                norm = norm * torch.linalg.matrix_norm(between, 2)
            couplings[..., upper, lower] = couplings[..., lower, upper] = norm
            between = weights[lower] if between is None else between @ weights[lower]
        above = weights[upper].mT @ above
    return -torch.linalg.eigvalsh(couplings)[..., -1].clamp(min=0)


def homogeneous_bound(objective: FullyConnected, point: Tensor) -> Tensor:
    """Return a lower bound on λmin for a network with σ(z) = α max(z, 0) + ᾱ min(z, 0).

    −(n−1) max(|α|, |ᾱ|)^{n−1} · (1/N) Σ_i ‖∇ℓ_i‖ ‖x_i‖ · max_{|J|=n−2} Π_{j∈J} ‖W_j‖₂, for a loss
    ℓ that is convex in the outputs (Elkabetz & Cohen 2021, with the sum over the samples kept).

    Parameters
    ----------
    objective
        Made by :func:`gfgd.networks.fully_connected`.
    point
        θ, shape ``(..., d)``, near which the network is linear: see :func:`acts_linearly`.

    Returns
    -------
    Tensor
        Shape ``(...)``.

    Raises
    ------
    ValueError
        If the activation is not homogeneous.
    """
    slope = max(map(abs, _slopes(objective)))
    outputs = objective.outputs(point.detach(), objective.inputs)
    size = gradient_times_input(objective.loss, outputs, objective.targets, objective.inputs)
    norms = _layer_norms(objective.weights(point.detach()))
    depth = objective.depth
    return -(depth - 1) * slope ** (depth - 1) * size * _all_but_two(norms)


def acts_linearly(objective: FullyConnected, point: Tensor) -> Tensor:
    """Return whether near θ each activation acts as one fixed linear map for each sample.

    This is what :func:`homogeneous_bound` asks for, and almost every θ has it. It does not mean
    that no unit's input is 0: where ReLU switches off all units of a layer for a sample, the
    later units have the input 0, there and nearby, and σ acts on them like any linear map. An
    input of 0 is a kink where the layer below it is not dead in this sense.

    Parameters
    ----------
    objective
        Made by :func:`gfgd.networks.fully_connected`.
    point
        θ, shape ``(..., d)``.

    Returns
    -------
    Tensor
        Booleans, shape ``(...)``. Exact zeros are looked for; a unit that is 0 but for rounding
        counts as one that has a sign.

    Raises
    ------
    ValueError
        If the activation is not homogeneous.
    """
    positive, negative = _slopes(objective)
    hidden = objective.inputs.expand(*point.shape[:-1], *objective.inputs.shape)
    dead = (hidden == 0).all(-1, keepdim=True)  # (..., N, 1): the layer's outputs are 0 near θ
    fixed = torch.ones(point.shape[:-1], dtype=torch.bool, device=point.device)
    if positive == negative:
        return fixed
    for weight in objective.weights(point.detach())[:-1]:
        before = hidden @ weight.mT
        fixed &= ((before != 0) | dead).all(-1).all(-1)
        # Strictly on a side whose slope is 0, a unit stays off nearby.
        off = ((before > 0) & (positive == 0)) | ((before < 0) & (negative == 0))
        dead = dead | off.all(-1, keepdim=True)
        hidden = objective.activation.apply(before)
    return fixed


def alignment(objective: FullyConnected, point: Tensor) -> Tensor:
    """Return χ = −(1/N) Σ_i ⟨∇ℓ_i, h_i⟩ / (s^{n−1} S Π_j ‖W_j‖_F), in [−1, 1], shape ``(...)``.

    How well the network's outputs h point down the loss, for a homogeneous activation without
    biases; s = max(|α|, |ᾱ|), S = (1/N) Σ_i ‖∇ℓ_i‖ ‖x_i‖. Along gradient flow, between kinks,
    every ‖W_j‖_F² grows at the rate 2χ s^{n−1} S Π_i ‖W_i‖_F. So with p the layer of the smallest
    norm, ∫ m ≤ (n−1) ln(‖W_p(T)‖_F/‖W_p(0)‖_F) / min χ, for m the size of
    :func:`homogeneous_bound`. NaN where the loss has no gradient or a layer is 0.

    Parameters
    ----------
    objective
        Made by :func:`gfgd.networks.fully_connected`.
    point
        θ, shape ``(..., d)``.

    Raises
    ------
    ValueError
        If the activation is not homogeneous.
    """
    slope = max(map(abs, _slopes(objective)))
    point = point.detach()
    outputs = objective.outputs(point, objective.inputs)
    size = gradient_times_input(objective.loss, outputs, objective.targets, objective.inputs)
    norms = torch.stack(
        [torch.linalg.matrix_norm(weight) for weight in objective.weights(point)], dim=-1
    )
    # Euler: ⟨W_j, ∂f/∂W_j⟩ is (1/N) Σ ⟨∇ℓ_i, h_i⟩ for every layer j.
    down = -(point * objective.gradient(point)).sum(-1) / objective.depth
    return down / (slope ** (objective.depth - 1) * size * norms.prod(-1))


def shared_weights_bound(
    norms: Tensor | Sequence[float],
    constants: Tensor | Sequence[float],
    size: Tensor | float,
    *,
    slope: float = 1.0,
) -> Tensor:
    """Return a lower bound on λmin for layers whose linear maps C_j(w_j) share weights.

    −(n−1) s^{n−1} · S · max_{j≠j'} κ_j κ_j' Π_{i≠j,j'} ‖C_i‖₂, where ‖C_j(w)‖₂ ≤ κ_j ‖w‖ for all w.
    Max-pooling over disjoint windows may follow any activation: it selects, so that its norm is 1.

    Parameters
    ----------
    norms
        ‖C_1‖₂, …, ‖C_n‖₂, shape ``(..., n)``: of a dense layer that of its matrix, of a
        convolution :func:`convolution_norm`.
    constants
        κ_1, …, κ_n, shape ``(n,)``: 1 for a dense layer, :func:`convolution_constant` for a
        convolution.
    size
        S = (1/N) Σ_i ‖∇ℓ_i‖ ‖x_i‖, shape ``(...)``: see :func:`gradient_times_input`.
    slope
        s = max(|α|, |ᾱ|) of the activation behind each layer but the last; 1 for ReLU.

    Raises
    ------
    ValueError
        If a number is negative, or norms and constants differ in length.
    """
    norms = torch.as_tensor(norms, dtype=torch.float64)
    constants = torch.as_tensor(constants, dtype=torch.float64)
    size = torch.as_tensor(size, dtype=torch.float64)
    checks.non_negative(slope=slope)
    if constants.dim() != 1 or norms.shape[-1:] != constants.shape or not len(constants):
        raise ValueError(
            f"norms has shape {tuple(norms.shape)} and constants {tuple(constants.shape)}: give "
            "one of each for each layer, (..., n) and (n,)"
        )
    for name, values in {"norms": norms, "constants": constants, "size": size}.items():
        if not (values >= 0).all():
            raise ValueError(f"{name}: must not be negative or NaN")
    depth = len(constants)
    if depth == 1:
        return torch.zeros_like(norms[..., 0] * size)
    products = []
    for pair in combinations(range(depth), 2):
        others = [i for i in range(depth) if i not in pair]
        products.append(constants[list(pair)].prod() * norms[..., others].prod(-1))
    return -(depth - 1) * slope ** (depth - 1) * size * torch.stack(products).amax(0)


def gradient_times_input(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor, inputs: Tensor
) -> Tensor:
    """Return S = (1/N) Σ_i ‖∇ℓ(h_i, y_i)‖ ‖x_i‖, shape ``(...)``.

    Parameters
    ----------
    loss
        ℓ per sample, as in :data:`gfgd.networks.LOSSES`; the gradient is with respect to outputs.
    outputs, targets
        h, shape ``(..., N, K)``, and y.
    inputs
        x, shape ``(N, ...)``; ‖x_i‖ is taken over all entries of a sample.
    """
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        (gradients,) = torch.autograd.grad(loss(outputs, targets).sum(), outputs)
    return (gradients.norm(dim=-1) * inputs.flatten(1).norm(dim=1)).mean(-1)


# Norms


def convolution_constant(
    input_size: tuple[int, int],
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> float:
    """Return κ = √(the largest number of patches that share an input pixel).

    Then ‖C(w)‖₂ ≤ κ ‖w‖₂ ≤ κ ‖w‖ for every filter w, ‖w‖₂ the norm of w as a matrix with a row
    for each output channel: ‖C(w)x‖² = Σ_p ‖w x_p‖² ≤ ‖w‖₂² Σ_p ‖x_p‖² ≤ ‖w‖₂² κ² ‖x‖² with the
    patches x_p of x. 5×5: 5 with stride 1, 3 with stride 2.

    Parameters
    ----------
    input_size
        Height and width of the input, without padding.
    kernel_size, stride, padding
        As in ``torch.nn.Conv2d``; the padding is zeros.

    Raises
    ------
    ValueError
        If the kernel does not fit into the padded input.
    """
    size, strides, paddings = _pair(kernel_size), _pair(stride), _pair(padding)
    checks.whole(1, **dict(zip(("height", "width"), input_size, strict=True)))
    count = 1
    for axis in (0, 1):
        checks.whole(1, kernel_size=size[axis], stride=strides[axis])
        checks.whole(0, padding=paddings[axis])
        last = input_size[axis] + 2 * paddings[axis] - size[axis]
        if last < 0:
            raise ValueError(
                f"kernel_size = {kernel_size!r}: does not fit into an input of size "
                f"{tuple(input_size)} with padding {padding!r}"
            )
        cover = torch.zeros(input_size[axis] + 2 * paddings[axis], dtype=torch.int64)
        for first in range(0, last + 1, strides[axis]):
            cover[first : first + size[axis]] += 1
        count *= int(cover[paddings[axis] : paddings[axis] + input_size[axis]].max())
    return count**0.5


def convolution_norm(
    weight: Tensor,
    input_size: tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    tolerance: float = 1e-4,
    dense_below: int = 300,
) -> float:
    """Return ‖C(w)‖₂, the operator norm of a convolution with zero padding.

    For small inputs from the matrix of C. Else the square root of the largest eigenvalue of C*C,
    by Lanczos without the matrix (:func:`gfgd.spectrum.extreme_eigenvalues`): its bound from
    outside, so that the result errs upwards (with probability at least 1 − 1e-9 over the random
    start), as a rule by a fraction of about `tolerance` / 2, and it is never more than κ ‖w‖₂
    (:func:`convolution_constant`).

    Parameters
    ----------
    weight
        Filter, shape ``(out channels, in channels, height, width)``.
    input_size, stride, padding
        As in :func:`convolution_constant`.
    tolerance
        Of Lanczos' relative residual, and of its bound.
    dense_below
        Up to so many input entries the matrix is formed.

    Raises
    ------
    ValueError
        If the filter has another shape or does not fit.
    """
    if weight.dim() != 4:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: give (out channels, in channels, height, "
            "width)"
        )
    kernel = (weight.shape[2], weight.shape[3])
    constant = convolution_constant(input_size, kernel, stride=stride, padding=padding)
    weight = weight.detach().double()
    ceiling = constant * float(torch.linalg.matrix_norm(weight.flatten(1), 2))
    if ceiling == 0:
        return 0.0
    shape = (weight.shape[1], *input_size)

    def apply(flat: Tensor) -> Tensor:
        image = flat.reshape(-1, *shape)
        return functional.conv2d(image, weight, stride=stride, padding=padding).flatten(1)

    size = prod(shape)
    if size <= dense_below:
        rows = apply(torch.eye(size, dtype=weight.dtype, device=weight.device))
        return float(torch.linalg.matrix_norm(rows, 2))
    # The Hessian of this form is C*C, everywhere.
    form = Objective(
        lambda flat: 0.5 * apply(flat).square().sum(1).reshape(flat.shape[:-1]), dimension=size
    )
    top = extreme_eigenvalues(
        form,
        weight.new_zeros(size),
        smallest=0,
        largest=1,
        tolerance=tolerance,
        failure_probability=1e-9,
        dense_below=0,
    )
    return min(float(top.largest_bounds[0]) ** 0.5, ceiling)


def smallest_eigenvalue(objective: Objective, point: Tensor) -> Tensor:
    """Return λmin(∇²f(θ)) by dense eigensolves, shape ``(...)`` for θ of shape ``(..., d)``.

    For many small networks at once: d Hessian-vector products and d² numbers for each.
    """
    identity = torch.eye(objective.dimension, dtype=point.dtype, device=point.device)
    hessian = objective.hessian_vector_product(point[..., None, :], identity)
    return torch.linalg.eigvalsh((hessian + hessian.mT) / 2)[..., 0]


# One output, whitened inputs, balanced weights: r = ‖w‖, c = cos∠(w, Λ), L = ‖Λ‖


def aligned_smallest_eigenvalue(radius: Tensor, target_norm: float, depth: int) -> Tensor:
    """Return λmin at a balanced point with w = rΛ/‖Λ‖, 0 < r ≤ L, in closed form.

    −(L − r) r^{(n−2)/n} max(1, n − 1 − nr/(L − r)), for n ≥ 2 and hidden widths of at least 2.
    :func:`deep_linear_bound` there is −(n−1)(L − r) r^{(n−2)/n}.

    Parameters
    ----------
    radius
        r, shape ``(...)``.
    target_norm, depth
        L = ‖Λ‖ > 0 and n ≥ 2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(target_norm=target_norm)
    checks.whole(2, depth=depth)
    radius = torch.as_tensor(radius, dtype=torch.float64)
    if not ((radius > 0) & (radius <= target_norm)).all():
        raise ValueError(f"radius: must lie between 0 and target_norm = {target_norm!r}")
    gap = target_norm - radius
    lowest = torch.minimum(-gap, depth * radius - (depth - 1) * gap)
    return lowest * radius ** ((depth - 2) / depth)


def aligned_spectrum(radius: float, target_norm: float, widths: Sequence[int]) -> Tensor:
    """Return all eigenvalues of ∇²f at a balanced point with w = rΛ/‖Λ‖, ascending, shape ``(d,)``.

    With q = (L − r) r^{(n−2)/n} and p = r^{2−2/n}: np − (n−1)q once, q n − 1 times, q and −q once
    for each unit of a hidden layer but one, p d0 − 1 times (never with one input), and 0.

    Parameters
    ----------
    radius, target_norm
        0 < r ≤ L.
    widths
        d0, the hidden widths, 1, as of :class:`gfgd.networks.linear.DeepLinear`; n = their number
        less one, at least 2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(target_norm=target_norm)
    checks.between(0, target_norm, radius=radius)
    checks.positive(radius=radius)
    depth = len(widths) - 1
    checks.whole(2, depth=depth)
    checks.whole(1, **{f"widths[{j}]": width for j, width in enumerate(widths)})
    if widths[-1] != 1:
        raise ValueError(f"widths = {tuple(widths)}: the last must be 1, for one output")
    q = (target_norm - radius) * radius ** ((depth - 2) / depth)
    p = radius ** (2 - 2 / depth)
    pairs = sum(width - 1 for width in widths[1:-1])
    dimension = sum(out * into for into, out in pairwise(widths))
    values = [depth * p - (depth - 1) * q] + [q] * (depth - 1 + pairs)
    values += [-q] * pairs + [p] * (widths[0] - 1)
    values += [0.0] * (dimension - len(values))
    return torch.tensor(values, dtype=torch.float64).sort().values


def rate_integral_bound(
    start_radius: Tensor | float,
    end_radius: Tensor | float,
    cosine: Tensor | float,
    depth: int,
    lowest_radius: Tensor | float | None = None,
) -> Tensor:
    """Return ((n−1)/n) ln(r_0 r_T / r⋆²) + (n−1) arccos c_0 ≥ ∫₀ᵀ m dt along gradient flow.

    m = (n−1) ‖w − Λ‖ r^{(n−2)/n} is the size of :func:`deep_linear_bound` at balanced weights, and
    r⋆ the least r up to T; an equality where c_0 = 1. For starts with r_0 ≤ c_0 L, r⋆ = r_0: the
    factor by which errors grow is at most e^{(n−1) arccos c_0} (r_T/r_0)^{(n−1)/n}, a power of the
    initial scale.

    Parameters
    ----------
    start_radius, end_radius
        r_0 and r_T, which broadcast.
    cosine
        c_0 in [−1, 1].
    depth
        n ≥ 2.
    lowest_radius
        r⋆ or a lower bound on it, at most r_0 and r_T. If not given it is r_0, which is right for
        r_0 ≤ c_0 L only; c_0 must then be above 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.whole(2, depth=depth)
    given = lowest_radius is not None
    start, end, cosine, lowest = (
        torch.as_tensor(value, dtype=torch.float64)
        for value in (
            start_radius,
            end_radius,
            cosine,
            lowest_radius if lowest_radius is not None else start_radius,
        )
    )
    if not ((lowest > 0) & (end >= lowest) & (start >= lowest)).all():
        raise ValueError(
            "start_radius, end_radius: must be positive, and not below lowest_radius, which is "
            "start_radius if it is not given"
        )
    if not ((cosine > (-2 if given else 0)) & (cosine.abs() <= 1)).all():
        raise ValueError(
            "cosine: must lie between -1 and 1, and above 0 where no lowest_radius is given"
        )
    growth = torch.log(start / lowest) + torch.log(end / lowest)
    return (depth - 1) / depth * growth + (depth - 1) * torch.arccos(cosine)


def aligned_curvature_integral(
    start_radius: Tensor | float, end_radius: Tensor | float, target_norm: float, depth: int
) -> Tensor:
    """Return ∫|min(λmin, 0)| dt along gradient flow from an aligned balanced start, closed form.

    With λmin of :func:`aligned_smallest_eigenvalue` and dt = dr / (n r^{2−2/n} (L − r)) the
    integral from r_0 to r_T is, with r_1 = (n−2)/(2n−2) L,

        ((n−1)/n) ln(r/r_0) + ln((L − r)/(L − r_0))    up to r = min(r_1, r_T), if r_0 < r_1,

    and (1/n) ln of the growth of r after r_1. For n = 2, r_1 = 0 and the whole is ½ ln(r_T/r_0).

    Parameters
    ----------
    start_radius, end_radius
        0 < r_0 ≤ r_T ≤ L, r_0 < L, which broadcast to shape ``(...)``.
    target_norm, depth
        L = ‖Λ‖ > 0 and n ≥ 2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(target_norm=target_norm)
    checks.whole(2, depth=depth)
    start = torch.as_tensor(start_radius, dtype=torch.float64)
    end = torch.as_tensor(end_radius, dtype=torch.float64)
    if not ((start > 0) & (start < target_norm) & (start <= end) & (end <= target_norm)).all():
        raise ValueError(
            "start_radius, end_radius: must be positive, in this order, and at most target_norm = "
            f"{target_norm!r}, the first of them less"
        )
    turn = (depth - 2) / (2 * depth - 2) * target_norm
    middle = torch.maximum(end.clamp(max=turn), start)  # the start, if it is past r_1
    first = (depth - 1) / depth * torch.log(middle / start)
    first = first + torch.log((target_norm - middle) / (target_norm - start))
    return first + torch.log(end / middle) / depth


def _slopes(objective: FullyConnected) -> tuple[float, float]:
    """Return α and ᾱ of a homogeneous activation, or say that it is not one."""
    slopes = objective.activation.slopes
    if slopes is None:
        raise ValueError(
            f"activation = {objective.activation.name!r}: is not homogeneous, the theorem needs "
            "σ(cz) = cσ(z) for c ≥ 0; use 'linear', 'relu' or 'leaky_relu'"
        )
    return slopes


def _layer_norms(weights: Sequence[Tensor]) -> Tensor:
    """Return ‖W_j‖₂ for all layers, shape ``(..., n)``."""
    norms = [torch.linalg.matrix_norm(weight, 2) for weight in weights]
    return torch.stack(torch.broadcast_tensors(*norms), dim=-1)


def _all_but_two(norms: Tensor) -> Tensor:
    """Return the largest product of n − 2 of the n norms: that of the largest ones."""
    kept = max(norms.shape[-1] - 2, 0)
    return norms.sort(dim=-1, descending=True).values[..., :kept].prod(-1)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
