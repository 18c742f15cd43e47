"""Deep linear networks with whitened inputs: objective, balancedness, dynamics of the product.

f(θ) = φ(W_n ⋯ W_1) with φ(W) = ½‖M ∘ (W − Λ)‖_F². Of the network's n weight matrices only the
product W = W_n ⋯ W_1, the end-to-end map, matters to f. From a balanced start gradient flow on θ
induces a flow of W alone (Arora, Cohen & Hazan 2018), and for a single output that one depends
on two numbers: the length of W and its cosine with Λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gfgd import checks
from gfgd.flow import Solution, integrate
from gfgd.networks import end_to_end
from gfgd.networks.network import products_from_above, through_product
from gfgd.objective import Objective, unflatten
from gfgd.trajectory import COMPLETED


class DeepLinear(Objective):
    """f(θ) = ½‖M ∘ (W_n ⋯ W_1 − Λ)‖_F²; made by :func:`deep_linear`.

    θ is W_1, …, W_n, each row by row, one after the other; W_j has shape
    ``(widths[j], widths[j−1])``.

    Attributes
    ----------
    target
        Λ, shape ``(k, d0)``.
    mask
        M of zeros and ones, same shape: the entries of Λ that count.
    widths
        d0, the hidden widths, k.
    shapes
        Those of W_1, …, W_n.
    """

    def __init__(self, target: Tensor, mask: Tensor, widths: Sequence[int]) -> None:
        self.target, self.mask = target, mask
        self.widths = tuple(widths)
        self.shapes = [(out, into) for into, out in pairwise(widths)]
        super().__init__(
            lambda point: 0.5 * self.residual(point).square().sum((-2, -1)),
            dimension=sum(out * into for out, into in self.shapes),
        )

    @property
    def depth(self) -> int:
        """The number of weight matrices, n."""
        return len(self.shapes)

    def weights(self, point: Tensor) -> list[Tensor]:
        """Return W_1, …, W_n as views of θ, shapes ``(..., widths[j], widths[j−1])``."""
        return unflatten(point, self.shapes)

    def end_to_end(self, point: Tensor) -> Tensor:
        """Return W_n ⋯ W_1, shape ``(..., k, d0)``."""
        return end_to_end(self.weights(point))

    def residual(self, point: Tensor) -> Tensor:
        """Return ∇φ(W_n ⋯ W_1) = M ∘ (W_n ⋯ W_1 − Λ), shape ``(..., k, d0)``."""
        return self.mask.to(point) * (self.end_to_end(point) - self.target.to(point))

    def value_and_gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∂f/∂W_j = (W_n ⋯ W_{j+1})ᵀ ∇φ (W_{j−1} ⋯ W_1)ᵀ for all j, flattened.

        Backpropagation written out: autograd gives the same and takes longer.
        """
        self._check(point)
        with torch.no_grad():
            weights = self.weights(point)
            products = products_from_above(weights)
            residual = self.mask.to(point) * (products[-1] - self.target.to(point))
            value = 0.5 * residual.square().sum((-2, -1))
            return value, through_product(weights, products, residual)


def deep_linear(
    target: Tensor, *, depth: int, hidden: int | Sequence[int], mask: Tensor | None = None
) -> DeepLinear:
    """Return f(θ) = ½‖M ∘ (W_n ⋯ W_1 − Λ)‖_F².

    Parameters
    ----------
    target
        Λ, shape ``(k, d0)``: k outputs, d0 inputs.
    depth
        n ≥ 1, the number of weight matrices.
    hidden
        Width of every hidden layer, or the n − 1 widths from the input side on.
    mask
        M of zeros and ones, shape ``(k, d0)``: the observed entries in matrix completion. All
        of them where it is not given.

    Raises
    ------
    ValueError
        For a target that is no finite matrix, widths that do not belong to the depth, a mask of
        another shape or with entries other than 0 and 1.
    """
    checks.whole(1, depth=depth)
    if not isinstance(target, Tensor):  # a list counts as float64, whatever torch's default is
        target = torch.from_numpy(np.array(target))
    if target.dim() != 2 or not target.is_floating_point():
        raise ValueError(
            f"target has shape {tuple(target.shape)} and dtype {target.dtype}: give a floating "
            "point matrix (k, d0); one output is k = 1"
        )
    if not target.isfinite().all():
        raise ValueError("target: has non-finite entries")
    mask = (
        torch.ones_like(target)
        if mask is None
        else torch.as_tensor(mask, dtype=target.dtype, device=target.device)
    )
    if mask.shape != target.shape or not ((mask == 0) | (mask == 1)).all() or not mask.any():
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}: give zeros and ones, at least one 1, in the "
            f"target's shape {tuple(target.shape)}"
        )
    outputs, inputs = target.shape
    return DeepLinear(target, mask, [inputs, *_hidden_widths(hidden, depth), outputs])


def _hidden_widths(hidden: int | Sequence[int], depth: int) -> list[int]:
    if isinstance(hidden, Sequence):
        widths = list(hidden)
        if len(widths) != depth - 1:
            raise ValueError(f"hidden = {hidden!r}: depth = {depth} needs {depth - 1} widths")
        checks.whole(1, **{f"hidden[{j}]": width for j, width in enumerate(widths)})
        return widths
    checks.whole(1, hidden=hidden)
    return [hidden] * (depth - 1)


# Starts


def balanced_start(matrix: Tensor, depth: int, hidden: int | Sequence[int]) -> Tensor:
    """Return balanced weights with W_n ⋯ W_1 = `matrix`, as θ of shape ``(..., d)``.

    With the singular value decomposition `matrix` = U S Vᵀ, W_1 = S^{1/n} Vᵀ, W_n = U S^{1/n}
    and the others S^{1/n}, in the leading coordinates of the hidden layers; all else is 0.
    Then W_{j+1}ᵀ W_{j+1} = W_j W_jᵀ (Arora, Cohen & Hazan 2018).

    Parameters
    ----------
    matrix
        Shape ``(..., k, d0)``.
    depth, hidden
        As in :func:`deep_linear`.

    Raises
    ------
    ValueError
        If a hidden width is smaller than the rank of the matrix.
    """
    checks.whole(1, depth=depth)
    if matrix.dim() < 2:
        raise ValueError(f"matrix has shape {tuple(matrix.shape)}: give shape (..., k, d0)")
    inner = _hidden_widths(hidden, depth)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = min([values.shape[-1], *inner])
    tolerance = 100 * torch.finfo(matrix.dtype).eps * values[..., :1]
    if (values[..., kept:] > tolerance).any():
        rank = int((values > tolerance).sum(-1).max())
        raise ValueError(f"hidden = {hidden!r}: must be at least {rank}, the rank of the matrix")
    roots = values[..., :kept] ** (1 / depth)
    widths = [matrix.shape[-1], *inner, matrix.shape[-2]]
    weights = []
    for j, (into, out) in enumerate(pairwise(widths)):
        core = torch.diag_embed(roots)
        core = left[..., :kept] @ core if j == depth - 1 else core
        core = core @ right[..., :kept, :] if j == 0 else core
        weight = matrix.new_zeros(*matrix.shape[:-2], out, into)
        weight[..., : core.shape[-2], : core.shape[-1]] = core
        weights.append(weight.flatten(-2))
    return torch.cat(weights, dim=-1)


def gaussian_start(
    objective: Objective, *, seed: int, scale: float, batch: Sequence[int] = ()
) -> Tensor:
    """Return θ with independent normal entries of standard deviation `scale`, not balanced.

    Shape ``(*batch, d)``, float64, the same for the same seed on every device.
    """
    checks.positive(scale=scale)
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, objective.dimension)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_end_to_end(
    target: Tensor,
    *,
    radius: float,
    seed: int,
    batch: Sequence[int] = (),
    cosine: float | None = None,
) -> Tensor:
    """Return random end-to-end maps W, ‖W‖_F = `radius`, shape ``(*batch, k, d0)``.

    Parameters
    ----------
    target
        Λ, shape ``(k, d0)``.
    radius
        r > 0.
    seed
        Of a generator of its own.
    batch
        Shape in front.
    cosine
        If given, ⟨W, Λ⟩ = cosine · ‖W‖‖Λ‖, and W is otherwise uniform; if not, the direction
        of W is uniform on the sphere.

    Raises
    ------
    ValueError
        If an argument is out of range, the target is 0, or it has one entry only and the
        cosine is not ±1.
    """
    checks.positive(radius=radius)
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, *target.shape)
    draw = torch.randn(shape, generator=generator, dtype=torch.float64).to(target)
    if cosine is None:
        return radius * draw / _frobenius(draw)
    checks.between(-1, 1, cosine=cosine)
    if not target.any():
        raise ValueError("target: is 0, so that no cosine with it is defined")
    if target.numel() == 1 and abs(cosine) < 1:
        raise ValueError(f"cosine = {cosine!r}: in one dimension it can only be 1 or -1")
    along = target / target.norm()
    across = _perpendicular(draw, along)
    # A draw along the target, as from the seed that made the target, has no direction across it.
    while target.numel() > 1 and (_frobenius(across) <= 1e-6 * _frobenius(draw)).any():
        draw = torch.randn(shape, generator=generator, dtype=torch.float64).to(target)
        across = _perpendicular(draw, along)
    across = across / _frobenius(across).clamp_min(torch.finfo(target.dtype).tiny)
    return radius * (cosine * along + (1 - cosine**2) ** 0.5 * across)


def _perpendicular(matrix: Tensor, along: Tensor) -> Tensor:
    """Return the part of a matrix that is perpendicular to the unit matrix `along`."""
    return matrix - (matrix * along).sum((-2, -1), keepdim=True) * along


def _frobenius(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, keepdim=True)


# The product and its dynamics


def balance_differences(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return D_j = W_{j+1}ᵀ W_{j+1} − W_j W_jᵀ for j = 1, …, n − 1; none for one layer.

    Gradient flow conserves each of them, and a step of gradient descent changes D_j by η² times
    the D_j of the gradients ∂f/∂W_j (Arora, Cohen & Hazan 2018).

    Parameters
    ----------
    weights
        W_1, …, W_n, shapes ``(..., widths[j], widths[j−1])``; that of D_j is
        ``(..., widths[j], widths[j])``.
    """
    return [above.mT @ above - below @ below.mT for below, above in pairwise(weights)]


def imbalance(weights: Sequence[Tensor]) -> Tensor:
    """Return max_j ‖W_{j+1}ᵀ W_{j+1} − W_j W_jᵀ‖_F, shape ``(...)``; 0 for one layer.

    Gradient flow conserves each of these differences (Arora, Cohen & Hazan 2018).
    """
    norms = [torch.linalg.matrix_norm(apart) for apart in balance_differences(weights)]
    if not norms:
        return weights[0].new_zeros(weights[0].shape[:-2])
    return torch.stack(norms).amax(0)


def hessian_form(objective: DeepLinear, point: Tensor, direction: Tensor) -> Tensor:
    """Return ⟨ΔW, ∇²f(θ) ΔW⟩ in closed form, shape ``(...)``.

    ‖M ∘ D‖² + 2⟨∇φ, E⟩ with D = Σ_j W_{n:j+1} ΔW_j W_{j−1:1} and
    E = Σ_{j<j'} W_{n:j'+1} ΔW_{j'} W_{j'−1:j+1} ΔW_j W_{j−1:1}: the terms of first and second
    order in s of Π_j (W_j + s ΔW_j).

    Parameters
    ----------
    objective, point, direction
        f, θ and ΔW as flat vectors of shape ``(..., d)``, which broadcast.
    """
    weights, changes = objective.weights(point), objective.weights(direction)
    product, first = weights[0], changes[0]
    second = torch.zeros_like(first)
    for weight, change in zip(weights[1:], changes[1:], strict=True):
        second = weight @ second + change @ first
        first = weight @ first + change @ product
        product = weight @ product
    residual = objective.mask * (product - objective.target)
    curved = (objective.mask * first).square().sum((-2, -1))
    return curved + 2 * (residual * second).sum((-2, -1))


def end_to_end_velocity(matrix: Tensor, residual: Tensor, depth: int) -> Tensor:
    """Return W' of the flow that gradient flow from a balanced start induces on W = W_n ⋯ W_1.

    W' = −Σ_j (W Wᵀ)^{(n−j)/n} ∇φ (Wᵀ W)^{(j−1)/n} (Arora, Cohen & Hazan 2018), which for one
    output is −‖w‖^{2−2/n} [∇φ + (n−1) ⟨∇φ, ŵ⟩ ŵ], ŵ = w/‖w‖.

    Parameters
    ----------
    matrix, residual
        W and ∇φ(W), shape ``(..., k, d0)``.
    depth
        n ≥ 1.
    """
    checks.whole(1, depth=depth)
    n = depth
    if n == 1:
        return -residual
    if matrix.shape[-2] == 1:
        radius = _frobenius(matrix)
        unit = matrix / radius.clamp_min(torch.finfo(matrix.dtype).tiny)
        along = (residual * unit).sum(-1, keepdim=True) * unit
        return -(radius ** (2 - 2 / n)) * (residual + (n - 1) * along)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)

    def power(basis: Tensor, exponent: float) -> Tensor:
        return basis @ torch.diag_embed(values ** (2 * exponent)) @ basis.mT

    velocity = -power(left, (n - 1) / n) @ residual - residual @ power(right.mT, (n - 1) / n)
    for j in range(2, n):
        velocity = velocity - power(left, (n - j) / n) @ residual @ power(right.mT, (j - 1) / n)
    return velocity


def effective_rank(matrix: Tensor) -> Tensor:
    """Return exp(−Σ p_i ln p_i), p_i = σ_i/Σσ: between 1 and the rank, shape ``(...)``.

    The singular values σ_i of a matrix of shape ``(..., k, d0)`` as a distribution, and the
    exponential of its entropy (Roy & Vetterli 2007). NaN for the zero matrix.
    """
    values = torch.linalg.svdvals(matrix)
    shares = values / values.sum(-1, keepdim=True)
    return torch.exp(-torch.special.xlogy(shares, shares).sum(-1))


# One output: two numbers


def radius_and_cosine(matrix: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return r = ‖W‖_F and c = ⟨W, Λ⟩/(‖W‖‖Λ‖) for W of shape ``(..., k, d0)``."""
    radius = torch.linalg.matrix_norm(matrix)
    cosine = (matrix * target).sum((-2, -1)) / (radius * target.norm())
    return radius, cosine.clamp(-1, 1)


def reduced_velocity(
    radius: Tensor, cosine: Tensor, target_norm: float, depth: int
) -> tuple[Tensor, Tensor]:
    """Return r' = −n r^{2−2/n} (r − cL) and c' = r^{1−2/n} L (1 − c²).

    The flow of r = ‖w‖ and c = cos∠(w, Λ), L = ‖Λ‖, for one output from a balanced start.
    """
    pace = radius ** (1 - 2 / depth)
    outward = -depth * pace * radius * (radius - cosine * target_norm)
    return outward, pace * target_norm * (1 - cosine.square())


@dataclass(frozen=True, eq=False)
class ReducedFlow:
    """The reduced flow at T times from one start or many.

    `times` (T,); `radius` r, `cosine` c and `loss` ½(r² − 2rcL + L²), shape (T, ...); `error`
    (T, ...), the estimated error of (ln r, artanh c): that of r relative to r, and that of c
    relative to 1 − c²; `counts` and `status` as in :class:`gfgd.flow.Solution`.
    """

    times: Tensor
    radius: Tensor
    cosine: Tensor
    loss: Tensor
    error: Tensor
    counts: dict[str, int] = field(default_factory=dict)
    status: str = COMPLETED


def reduced_flow(
    radius: Tensor | float,
    cosine: Tensor | float,
    target_norm: float,
    depth: int,
    times: Tensor,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
) -> ReducedFlow:
    """Integrate r' = −n r^{2−2/n} (r − cL), c' = r^{1−2/n} L (1 − c²) to the requested times.

    Integrated are x = ln r and z = artanh c, for which both equations are smooth and none of
    the boundaries r = 0, c = ±1 can be crossed: x' = −n r^{1−2/n} (r − cL), z' = L r^{1−2/n}.
    Starts with c = ±1 keep their cosine; from c = −1 the flow tends to r = 0 as t → ∞.

    Parameters
    ----------
    radius, cosine
        r > 0 and −1 ≤ c ≤ 1 at times[0], of shapes that broadcast to ``(...)``.
    target_norm
        L = ‖Λ‖ > 0.
    depth
        n ≥ 2.
    times
        Increasing, shape ``(T,)``.
    rtol, atol
        Of a step, as in :func:`gfgd.flow.gradient_flow`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    fixed = cosine.abs() == 1
    z = torch.where(fixed, 0.0, cosine.atanh())

    def velocity(_: float, state: Tensor) -> Tensor:
        r = state[..., 0].exp()
        c = torch.where(fixed, cosine, state[..., 1].tanh())
        pace = r ** (1 - 2 / depth)
        turning = torch.where(fixed, 0.0, target_norm * pace)
        return torch.stack([-depth * pace * (r - c * target_norm), turning], dim=-1)

    start = torch.stack([radius.log(), z], dim=-1)
    found = integrate(velocity, start, times, rtol=rtol, atol=atol, estimate_error=True)
    return _reduced(found, found.times, cosine, target_norm)


def reduced_flow_on_clock(
    radius: Tensor | float,
    cosine: Tensor | float,
    target_norm: float,
    depth: int,
    clock: Tensor,
    *,
    rtol: float = 1e-7,
    atol: float = 1e-9,
) -> ReducedFlow:
    """Integrate the reduced flow to given values of its own clock τ, dτ = L r^{1−2/n} dt.

    On this clock artanh c grows at unit speed, and ln r moves at the speed n |r/L − c|, however
    long the flow lingers near the saddle at r = 0: d(ln r)/dτ = −n (r/L − c) and dt/dτ =
    r^{2/n−1}/L. So values that are evenly spaced in τ resolve the flow from the smallest starts,
    and an integral over time is ∫ g dt = ∫ g r^{2/n−1}/L dτ, with an integrand that changes slowly.

    Parameters
    ----------
    radius, cosine, target_norm, depth, rtol, atol
        As in :func:`reduced_flow`.
    clock
        Increasing, shape ``(T,)``; the start is at clock[0], and t = 0 there.

    Returns
    -------
    ReducedFlow
        At these values of τ. `times` has the shape ``(T, ...)`` of `radius`, for each start has
        times of its own, and `error` is of (ln r, artanh c, t).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    fixed = cosine.abs() == 1
    z = torch.where(fixed, 0.0, cosine.atanh())

    def velocity(_: float, state: Tensor) -> Tensor:
        r = state[..., 0].exp()
        c = torch.where(fixed, cosine, state[..., 1].tanh())
        outward = -depth * (r / target_norm - c)
        slowness = r ** (2 / depth - 1) / target_norm
        return torch.stack([outward, (~fixed).to(r), slowness], dim=-1)

    start = torch.stack([radius.log(), z, torch.zeros_like(z)], dim=-1)
    found = integrate(velocity, start, clock, rtol=rtol, atol=atol, estimate_error=True)
    return _reduced(found, found.states[..., 2], cosine, target_norm)


def _reduced(found: Solution, times: Tensor, cosine: Tensor, target_norm: float) -> ReducedFlow:
    """Return r and c from an integration of ln r and artanh c; a start at c = ±1 keeps its c."""
    r, z = found.states[..., 0].exp(), found.states[..., 1]
    fixed = cosine.abs() == 1
    assert found.error is not None
    return ReducedFlow(
        times=times,
        radius=r,
        cosine=torch.where(fixed, cosine, z.tanh()),
        loss=_loss(r, torch.where(fixed, 1 - cosine, _one_minus_tanh(z)), target_norm),
        error=found.error,
        counts=found.counts,
        status=found.status,
    )


def orbit_radius(
    cosine: Tensor | float,
    start_radius: Tensor | float,
    start_cosine: Tensor | float,
    target_norm: float,
    depth: int,
) -> Tensor:
    """Return the r at which the reduced flow passes `cosine`: its orbits in closed form.

    Along the flow 1/r is a function of z = artanh c that solves a linear equation,
    d(1/r)/dz + n tanh(z)/r = n/L. With z_0 = artanh c_0,

        1/r = (cosh z_0 / cosh z)^n / r_0 + (n/L) ∫_{z_0}^z (cosh ζ / cosh z)^n dζ.

    Parameters
    ----------
    cosine
        c in (−1, 1). The cosine grows along the flow; for c < c_0 the result is the orbit's past,
        infinite where there was none (the orbit then comes from r = ∞).
    start_radius, start_cosine
        r_0 > 0 and c_0 in (−1, 1); all three broadcast.
    target_norm, depth
        L > 0 and n ≥ 2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    start_radius, start_cosine = _reduced_start(start_radius, start_cosine, target_norm, depth)
    cosine = torch.as_tensor(cosine, dtype=torch.float64)
    if not ((start_cosine.abs() < 1).all() and (cosine.abs() < 1).all()):
        raise ValueError("cosine, start_cosine: must lie strictly between -1 and 1")
    inverse = _orbit(start_radius, start_cosine.atanh(), target_norm, depth, cosine.atanh())
    return 1 / inverse.clamp_min(0)


#: artanh of a cosine that is 1 to within rounding.
BEYOND_ROUNDING = 20.0
#: Panels and nodes of the composite Gauss–Legendre rule in `time_to_loss`.
PANELS, NODES = 48, 12


def time_to_loss(
    radius: Tensor | float, cosine: Tensor | float, target_norm: float, depth: int, loss: float
) -> Tensor:
    """Return the first time at which the reduced flow has ½‖w − Λ‖² ≤ `loss`, shape ``(...)``.

    The loss falls along the orbit, on which 1/r is a known function of z = artanh c (see
    :func:`orbit_radius`). Bisection finds the z_ε at which it meets the given loss, and
    t = (1/L) ∫ r^{2/n−1} dz from z_0 to z_ε by Gauss–Legendre quadrature. Infinite for c = −1,
    unless `loss` exceeds ½L², that of the saddle. Accurate to about 1e-10 of the time, for
    losses down to 1e-14 L².

    Parameters
    ----------
    radius, cosine, target_norm, depth
        As in :func:`reduced_flow`.
    loss
        ε > 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(loss=loss)
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    first = cosine.atanh().clamp(-BEYOND_ROUNDING, BEYOND_ROUNDING)

    def above(z: Tensor) -> Tensor:
        r = 1 / _orbit(radius, first, target_norm, depth, z)
        return _loss(r, _one_minus_tanh(z), target_norm) > loss

    low, high = first, first + 1
    while (late := above(high)).any():
        low, high = torch.where(late, high, low), torch.where(late, 2 * high - first, high)
    for _ in range(60):
        middle = (low + high) / 2
        late = above(middle)
        low, high = torch.where(late, middle, low), torch.where(late, high, middle)
    nodes, weights = _quadrature()
    z = first[..., None] + (high - first)[..., None] * nodes
    slowness = _orbit(radius[..., None], first[..., None], target_norm, depth, z)
    time = (high - first) * (slowness ** (1 - 2 / depth) * weights).sum(-1) / target_norm
    time = torch.where(above(first), time, 0.0)
    return torch.where((cosine == -1) & (loss <= target_norm**2 / 2), torch.inf, time)


def leading_time_to_loss(
    radius: Tensor | float, cosine: Tensor | float, target_norm: float, depth: int, loss: float
) -> Tensor:
    """Return the leading order of :func:`time_to_loss` for starts near the saddle at 0.

    N = cosh^n z_0 [1/r_0 − (n/L) ∫_0^{z_0} (cosh ζ / cosh z_0)^n dζ], z_0 = artanh c_0, is
    constant on an orbit, and large where r_0 is small or c_0 near −1. As N → ∞,

        t = (1/L) N^{1−2/n} ∫_{z_0}^∞ sech^{n−2} + O(ln N)    for n ≥ 3,
        t = (1/L) [½ ln(4N/κ) − z_0] + o(1)                   for n = 2,

    κ = 1/(L − √(2ε)) − 1/L. The chapter on the flow over deep linear networks proves it.

    Parameters
    ----------
    radius, cosine, target_norm, depth, loss
        As in :func:`time_to_loss`, with |c_0| < 1 and loss ε < ½L².

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.positive(loss=loss)
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    if not (cosine.abs() < 1).all():
        raise ValueError("cosine: must lie strictly between -1 and 1")
    if loss >= target_norm**2 / 2:
        raise ValueError(f"loss = {loss!r}: must be less than target_norm²/2, that of the saddle")
    z = cosine.atanh()
    log_constant = depth * _log_cosh(z) + torch.log(
        1 / radius - (depth / target_norm) * _scaled_integral(z, depth)
    )
    if depth == 2:
        end = 1 / (target_norm - (2 * loss) ** 0.5) - 1 / target_norm
        return ((log_constant + np.log(4 / end)) / 2 - z) / target_norm
    return (log_constant * (1 - 2 / depth)).exp() * _sech_tail(z, depth - 2) / target_norm


def orbit_constant(
    radius: Tensor | float, cosine: Tensor | float, target_norm: float, depth: int
) -> Tensor:
    """Return N = coshⁿ z_0 / r_0 − (n/L) ∫_0^{z_0} coshⁿ, z_0 = artanh c_0: constant on an orbit.

    On the orbit 1/r = (N + (n/L) ∫_0^z coshⁿ) / coshⁿ z, see :func:`orbit_radius`.

    Parameters
    ----------
    radius, cosine, target_norm, depth
        As in :func:`reduced_flow`, with |c_0| < 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    z = _rapidity(cosine)
    inverse = 1 / radius - (depth / target_norm) * _scaled_integral(z, depth)
    return torch.exp(depth * _log_cosh(z)) * inverse


def _overshoot(depth: int) -> float:
    """Return 1 + 2(n−1)/5 ≥ n ∫_0^z (cosh ζ / cosh z)ⁿ dζ for all z ≥ 0.

    By the reduction formula the right side is tanh z + (n−1) sech² z A, with A ≤ tanh z for n ≥ 3
    (and A = z for n = 2), and t(1 − t²) ≤ 2/(3√3) < 2/5 (and z sech² z < 2/5 + (1 − tanh z)).
    """
    return 1 + 0.4 * (depth - 1)


def lowest_radius_bound(
    radius: Tensor | float, cosine: Tensor | float, target_norm: float, depth: int
) -> Tensor:
    """Return a lower bound on the least r along the reduced flow from (r_0, c_0), shape ``(...)``.

    r_0 where r_0 ≤ c_0 L, because r only grows then. Else 1/(N + a/L) for c_0 < 0, with N of
    :func:`orbit_constant`, and 1/(1/r_0 + a/L) for c_0 ≥ 0, with a = 1 + 2(n−1)/5.

    Parameters
    ----------
    radius, cosine, target_norm, depth
        As in :func:`reduced_flow`, with |c_0| < 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    largest = torch.where(
        cosine < 0, orbit_constant(radius, cosine, target_norm, depth), 1 / radius
    )
    turned = 1 / (largest + _overshoot(depth) / target_norm)
    return torch.where(radius <= cosine * target_norm, radius, turned)


def time_bound(
    radius: Tensor | float, cosine: Tensor | float, target_norm: float, depth: int, gap: float
) -> Tensor:
    """Return a time from which on the reduced flow has ‖w − Λ‖ ≤ `gap` · L, shape ``(...)``.

    In units in which L = 1 (times in units of L^{2/n − 2}) it is T_1 + T_2, an upper bound in
    closed form of what :func:`time_to_loss` computes. Let N₊ = max(N, 0), see
    :func:`orbit_constant`, and z_1 = arcosh max(√(6n), (6N₊)^{1/n}). From z_1 on r ≥ 3/4 and
    ‖w − Λ‖ ≤ 2/5. The flow is there after

        T_1 = max(z_1 − z_0, 0)                                              for n = 2,
        T_1 = N₊^p ∫_{z_0}^∞ sech^{n−2} + a^p max(z_1 − max(z_0, 0), 0)      for n ≥ 3,

    p = 1 − 2/n, a = 1 + 2(n−1)/5 (0 if z_1 ≤ z_0), and T_2 = ln(2/(5 gap)) (4/3)^{2−2/n} later the
    distance is below the gap.

    Parameters
    ----------
    radius, cosine, target_norm, depth
        As in :func:`reduced_flow`, with r_0 ≤ L and |c_0| < 1.
    gap
        In (0, 2/5].

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.between(0, 0.4, gap=gap)
    checks.positive(gap=gap)
    radius, cosine = _reduced_start(radius, cosine, target_norm, depth)
    if (radius > target_norm).any():
        raise ValueError(f"radius: must be at most target_norm = {target_norm!r}")
    z = _rapidity(cosine)
    constant = orbit_constant(radius / target_norm, cosine, 1.0, depth).clamp(min=0)
    reached = torch.acosh(constant.mul(6).pow(1 / depth).clamp(min=(6 * depth) ** 0.5))
    if depth == 2:
        first = reached - z
    else:
        power = 1 - 2 / depth
        first = constant**power * _sech_tail(z, depth - 2)
        first = first + _overshoot(depth) ** power * (reached - z.clamp(min=0))
    last = np.log(0.4 / gap) / 0.75 ** (2 - 2 / depth)
    first = torch.where(reached > z, first, 0.0)
    return (first + last) / target_norm ** (2 - 2 / depth)


def _rapidity(cosine: Tensor) -> Tensor:
    """Return z = artanh c, or say that c is ±1."""
    if not (cosine.abs() < 1).all():
        raise ValueError("cosine: must lie strictly between -1 and 1")
    return cosine.atanh()


def _sech_tail(z: Tensor, power: int) -> Tensor:
    """Return ∫_z^∞ sech^m for m ≥ 1, by its reduction formula."""
    tanh, sech = z.tanh(), torch.exp(-_log_cosh(z))
    tail = 2 * torch.atan(torch.exp(-z)) if power % 2 else 2 * torch.sigmoid(-2 * z)
    for m in range(4 - power % 2, power + 1, 2):
        tail = ((m - 2) * tail - sech ** (m - 2) * tanh) / (m - 1)
    return tail


def _quadrature() -> tuple[Tensor, Tensor]:
    """Return the composite rule's nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    at = (np.arange(PANELS)[:, None] + (nodes + 1) / 2) / PANELS
    return torch.from_numpy(at.ravel()), torch.from_numpy(np.tile(weights / (2 * PANELS), PANELS))


def _reduced_start(radius, cosine, target_norm: float, depth: int) -> tuple[Tensor, Tensor]:
    """Return the start as tensors of one shape, float64, or say what is wrong with it."""
    checks.positive(target_norm=target_norm)
    checks.whole(2, depth=depth)
    radius = torch.as_tensor(radius, dtype=torch.float64)
    cosine = torch.as_tensor(cosine, dtype=torch.float64)
    if not ((radius > 0) & radius.isfinite()).all():
        raise ValueError("radius: must be greater than 0 and finite; at 0 is a saddle")
    if not (cosine.abs() <= 1).all():
        raise ValueError("cosine: must lie between -1 and 1")
    radius, cosine = torch.broadcast_tensors(radius, cosine)
    return radius, cosine


def _orbit(radius: Tensor, first: Tensor, target_norm: float, depth: int, z: Tensor) -> Tensor:
    """Return 1/r at z = artanh c on the orbit through r = `radius` at z = `first`."""
    shrink = torch.exp(depth * (_log_cosh(first) - _log_cosh(z)))
    added = _scaled_integral(z, depth) - shrink * _scaled_integral(first, depth)
    return shrink / radius + (depth / target_norm) * added


def _scaled_integral(z: Tensor, power: int) -> Tensor:
    """Return ∫₀ᶻ coshⁿ ζ dζ / coshⁿ z, by the reduction formula of ∫coshⁿ; nothing overflows."""
    tanh = z.tanh()
    sech_squared = torch.exp(-2 * _log_cosh(z))
    ratio = z if power % 2 == 0 else tanh
    for n in range(2 + power % 2, power + 1, 2):
        ratio = tanh / n + (n - 1) / n * sech_squared * ratio
    return ratio


def _log_cosh(z: Tensor) -> Tensor:
    return torch.logaddexp(z, -z) - np.log(2.0)


def _one_minus_tanh(z: Tensor) -> Tensor:
    """Return 1 − tanh z without cancellation."""
    return 2 * torch.sigmoid(-2 * z)


def _loss(radius: Tensor, one_minus_cosine: Tensor, target_norm: float) -> Tensor:
    """Return ½‖w − Λ‖² = ½(r − L)² + rL(1 − c)."""
    return 0.5 * (radius - target_norm).square() + radius * target_norm * one_minus_cosine
