"""Whether an objective's derivatives are what they should be, and whether they may jump."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.autograd.graph import Node

from gfgd import checks
from gfgd.objective import Objective

#: ‖hv‖ / (1 + ‖θ‖) of the differences: at the largest rounding is least, at the smallest
#: truncation is, and the fewest kinks lie in between. In float64 one of them is good to 1e-8.
STEPS = (1e-4, 3e-6, 1e-7)
#: A relative error above this needs an explanation. Errors of PyTorch's own are above 1e-3.
TOLERANCE = 1e-5
#: A derivative is wrong where it is so many times farther from the differences than they are from
#: each other.
CLEARLY = 10.0
#: Smaller derivatives are compared with this part of what the one before suggests, since the size
#: of a derivative that vanishes is no measure.
NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
class DerivativeErrors:
    """How far an objective's derivatives at θ are from what they should be, relative to their size.

    All are maxima over random directions v, u with entries of size 1; of differences over several
    small h the nearest counts:

    - `gradient`: |⟨∇f, v⟩ − (f(θ+hv) − f(θ−hv))/2h| / ‖∇f‖
    - `symmetry`: |⟨u, Hv⟩ − ⟨v, Hu⟩| / ‖Hv‖
    - `curvature`: ‖Hv − (∇f(θ+hv) − ∇f(θ−hv))/2h‖ / ‖Hv‖
    - `third`: ‖D³f[u, v] − (H(θ+hu)v − H(θ−hu)v)/2h‖ / ‖D³f[u, v]‖

    An order that was not looked at has the error 0, one that autograd has no derivative of ∞, with
    autograd's words in `missing`. `noise` says for each order how far the differences
    over two neighbouring h are apart, in the same units: errors below that tell nothing.
    """

    gradient: float
    symmetry: float = 0.0
    curvature: float = 0.0
    third: float = 0.0
    noise: tuple[float, ...] = (0.0, 0.0, 0.0)
    missing: str | None = None

    @property
    def by_order(self) -> tuple[float, float, float]:
        """The errors of the first, second and third derivatives."""
        return self.gradient, self.curvature, self.third

    @property
    def suspicious(self) -> int | None:
        """The first order whose error is above `TOLERANCE` (or NaN), or None."""
        return next((k for k, e in enumerate(self.by_order, 1) if not e <= TOLERANCE), None)

    @property
    def wrong(self) -> int | None:
        """The first order whose error is far above what the differences can tell, or None.

        Jumps of the gradient and rounding spoil the differences, and make them differ from each
        other; a wrong derivative does not.
        """
        pairs = zip(self.by_order, self.noise, strict=True)
        wrong = (not (e <= TOLERANCE or e <= CLEARLY * noise) for e, noise in pairs)
        return next((k for k, is_wrong in enumerate(wrong, 1) if is_wrong), None)


def check_derivatives(
    objective: Objective, point: Tensor, *, directions: int = 3, orders: int = 3, seed: int = 0
) -> DerivativeErrors:
    """Compare ∇f, H v and D³f[u, v] with differences of one order less, and H with its transpose.

    A module's gradient is what its author wrote, which need not be that of its value (``detach``,
    straight-through estimators); `gradient` shows that. Higher derivatives that PyTorch gets wrong
    show in `curvature` and `third`. Kinks between θ ± hv (ReLU) spoil the differences of all
    orders; the smallest h has the fewest. Costs for each direction 6 gradients, 7
    Hessian-vector products and a third derivative, one after the other.

    f must compute in float64; where it is smooth the errors then are about 1e-9.

    Parameters
    ----------
    objective, point
        f and θ, shape ``(d,)``.
    directions
        How many directions, at least 2.
    orders
        1, 2 or 3: how many derivatives to look at.
    seed
        Of the directions.

    Raises
    ------
    ValueError
        If an argument is out of range, or θ is not of shape ``(d,)`` and float64.
    """
    checks.whole(2, directions=directions)
    checks.whole(1, orders=orders)
    checks.between(1, 3, orders=orders)
    if point.shape != (objective.dimension,) or point.dtype != torch.float64:
        raise ValueError(
            f"point has shape {tuple(point.shape)}, {point.dtype}: give one θ, shape (d,), float64"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(directions, objective.dimension, generator=generator, dtype=point.dtype)
    comparison = _Comparison(objective.unchecked, point.detach(), drawn.to(point.device))
    found = [comparison.first()]
    symmetry, missing = 0.0, None
    try:
        if orders >= 2:
            symmetry = comparison.symmetry()
            found.append(comparison.second())
        if orders == 3:
            found.append(comparison.third())
    except RuntimeError as cause:  # autograd has no such derivative
        missing = f"{type(cause).__name__}: {cause}"
        found.append((math.inf, 0.0))
    found += [(0.0, 0.0)] * (3 - len(found))
    return DerivativeErrors(
        gradient=found[0][0],
        symmetry=symmetry,
        curvature=found[1][0],
        third=found[2][0],
        noise=tuple(noise for _, noise in found),
        missing=missing,
    )


class _Comparison:
    """Derivatives at θ along directions (m, d), and differences of those of one order less.

    One direction at a time, so that a module's memory is that of one product.
    """

    def __init__(self, objective: Objective, point: Tensor, vectors: Tensor) -> None:
        self.objective, self.point, self.vectors = objective, point, vectors
        self.radius = 1 + point.norm()
        self.value, self.gradient = objective.value_and_gradient(point)

    def first(self) -> tuple[float, float]:
        """Return the error of ⟨∇f, v⟩ and the noise."""
        exact = (self.vectors @ self.gradient)[:, None]
        size = self._size(self.gradient, self.value)
        return self._worst(lambda at, _: self.objective.value(at)[None], self.vectors, exact, size)

    def symmetry(self) -> float:
        """Return the error of ⟨u, Hv⟩ = ⟨v, Hu⟩, which holds exactly."""
        product = self.objective.hessian_vector_product
        self.products = torch.stack([product(self.point, v) for v in self.vectors])
        form = self.vectors @ self.products.T
        size = self._size(self.products, self.gradient)
        return float((form - form.T).abs().max() / size)

    def second(self) -> tuple[float, float]:
        """Return the error of H v and the noise."""
        size = self._size(self.products, self.gradient)
        gradient = self.objective.gradient
        return self._worst(lambda at, _: gradient(at), self.vectors, self.products, size)

    def third(self) -> tuple[float, float]:
        """Return the error of D³f[u, v] and the noise, u the direction before v."""
        across = self.vectors.roll(1, dims=0)
        pairs = zip(across, self.vectors, strict=True)
        exact = torch.stack([self.objective.third_derivative(self.point, u, v) for u, v in pairs])
        size = self._size(exact, self.products)
        product = self.objective.hessian_vector_product
        return self._worst(lambda at, i: product(at, self.vectors[i]), across, exact, size)

    def _size(self, derivative: Tensor, before: Tensor) -> Tensor:
        """Return the size of a derivative, or a small part of what the one before suggests."""
        length = self.vectors.norm(dim=-1).mean()
        suggested = NEGLIGIBLE * before.norm(dim=-1 if before.dim() else None).max()
        size = torch.maximum(derivative.norm(dim=-1).max(), suggested * length / self.radius)
        return size if size > 0 else torch.ones_like(size)

    def _worst(
        self,
        function: Callable[[Tensor, int], Tensor],
        along: Tensor,
        exact: Tensor,
        size: Tensor,
    ) -> tuple[float, float]:
        """Return the largest error and noise of central differences along each direction."""
        errors, noises = [], []
        for i, direction in enumerate(along):
            differences = []
            for step in STEPS:
                h = step * self.radius / direction.norm()
                ahead = function(self.point + h * direction, i)
                behind = function(self.point - h * direction, i)
                differences.append((ahead - behind) / (2 * h))
            errors.append(_nearest((one - exact[i]).norm() for one in differences))
            noises.append(_nearest((a - b).norm() for a, b in pairwise(differences)))
        if not exact.isfinite().all():
            return math.nan, 0.0
        return float(max(errors) / size), float(max(noises) / size)


def _nearest(distances: Iterable[Tensor]) -> Tensor:
    """Return the smallest, where NaN (f is not defined so far out) counts as infinite."""
    return torch.stack(list(distances)).nan_to_num(nan=math.inf).min()


def jumps_at(objective: Objective, point: Tensor, *, directions: int = 1, seed: int = 0) -> bool:
    """Return whether f itself jumps at θ, as where a weight that is 1 is rounded down.

    Then f(θ + hv) − f(θ − hv) does not shrink with h. Costs four values a direction.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(directions, objective.dimension, generator=generator, dtype=point.dtype)
    size = objective.value(point).abs()
    for vector in drawn.to(point.device):
        wide, narrow = (
            (objective.value(point + moved) - objective.value(point - moved)).abs()
            for moved in (step * (1 + point.norm()) / vector.norm() * vector for step in STEPS[::2])
        )
        if narrow > 0.1 * wide and narrow > 1e-6 * size:
            return True
    return False


def generic_point(point: Tensor, *, seed: int = 0) -> Tensor:
    """Return θ moved by about 1e-2 of itself and 1e-3 of its mean size, off any special place.

    Networks are started at special places: zeros at which derivatives vanish, or lie on kinks.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(point.shape, generator=generator, dtype=torch.float64).to(point.device)
    mean_size = (1 + point.norm()) / math.sqrt(point.numel())
    return point + 1e-2 * drawn * (point.abs() + 0.1 * mean_size)


def unexplained_part(objective: Objective, points: Tensor, step_size: float) -> float:
    """Return how much of ∇f's change in steps of GD the Hessian leaves unexplained.

    In a step from p to q = p − η∇f(p) a smooth f has
    ∇f(q) − ∇f(p) = ∫₀¹ H(p + x(q − p)) (q − p) dx; jumps of the gradient (ReLU) are missing on the
    right. The result is the sum of the norms of what is missing over that of the norms of the
    changes.

    Simpson's rule takes the integral. Where f is smooth its error is O(η⁴) of the change, so that a
    part that does not shrink with η is jumps, and one that does is a step too large to tell.

    Parameters
    ----------
    objective, points
        f and points p, shape ``(..., d)``. A step that ends where ∇f is not finite does not count.
    step_size
        η > 0.

    Returns
    -------
    float
        NaN where no gradient changes.
    """
    checks.positive(step_size=step_size)
    changes = missing = 0.0
    for point in points.reshape(-1, objective.dimension):
        gradient = objective.gradient(point)
        step = -step_size * gradient
        explained = sum(
            weight * objective.hessian_vector_product(point + x * step, step)
            for x, weight in ((0.0, 1 / 6), (0.5, 2 / 3), (1.0, 1 / 6))
        )
        change = objective.gradient(point + step) - gradient
        if (change - explained).isfinite().all():
            changes += float(change.norm())
            missing += float((change - explained).norm())
    return missing / changes if changes else math.nan


#: Operations whose first derivative jumps, by the beginning of their names in autograd's graph.
KINKED = (
    *("Abs", "AdaptiveMaxPool", "Amax", "Amin", "Clamp", "FractionalMaxPool", "Hard", "Kthvalue"),
    *("L1Loss", "_Largest", "LeakyRelu", "Max", "Median", "Min", "Multilabel", "MultiMargin"),
    *("Nanmedian", "Prelu", "Relu", "Rrelu", "Sort", "Softshrink", "Threshold", "Topk"),
)


def kinked_operations(objective: Objective, point: Tensor) -> tuple[str, ...]:
    """Return the operations with kinks, such as ``Relu``, that f(θ) is computed with.

    They are looked for in autograd's graph, so that it does not matter how they are written. An
    empty result is no proof of smoothness: ``torch.where`` can join anything, a norm has its kink
    at 0, and ELU, SELU and Huber's loss are not looked for, of which only SELU has a kink.
    """
    point = point.detach().requires_grad_()
    found: set[str] = set()
    for term in objective.terms:  # one graph at a time: together they may not fit into memory
        with torch.enable_grad():
            found |= _kinked(term(point).grad_fn)
    return tuple(sorted(objective.everywhere(found)))


def _kinked(root: Node | None) -> set[str]:
    """Return the operations with kinks in the graph behind a node."""
    waiting, seen, found = [root], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [child for child, _ in node.next_functions]
        name = node.name().split("Backward")[0]
        found |= {name} if name.startswith(KINKED) else set()
    return found
