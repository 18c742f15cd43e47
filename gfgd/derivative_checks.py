"""Whether an objective's derivatives are what they should be, and whether they may jump."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.objective import Objective


@dataclass(frozen=True)
class DerivativeErrors:
    """How far an objective's derivatives at θ are from what they should be, relative to their size.

    All three are maxima over random directions v with entries of size 1, and a small h:

    - `gradient`: |⟨∇f, v⟩ − (f(θ+hv) − f(θ−hv))/2h| / ‖∇f‖
    - `symmetry`: |⟨u, Hv⟩ − ⟨v, Hu⟩| / ‖Hv‖, u another such direction
    - `curvature`: ‖Hv − (∇f(θ+hv) − ∇f(θ−hv))/2h‖ / ‖Hv‖
    """

    gradient: float
    symmetry: float
    curvature: float


def check_derivatives(
    objective: Objective, point: Tensor, *, directions: int = 3, seed: int = 0
) -> DerivativeErrors:
    """Compare ∇f and H v with differences of f and ∇f, and H with its transpose, at one θ.

    A module's gradient is what its author wrote, which need not be that of its value (``detach``,
    straight-through estimators); `gradient` shows that. Second derivatives that are wrong show in
    `curvature`, and mostly in `symmetry` too. Kinks between θ ± hv (ReLU) spoil `curvature`, and
    hardly the other two. Costs two gradients and a Hessian-vector product for each direction.

    f must compute in float64; where it is smooth the errors then are about 1e-8.

    Parameters
    ----------
    objective, point
        f and θ, shape ``(d,)``.
    directions
        How many directions, at least 2.
    seed
        Of the directions.

    Raises
    ------
    ValueError
        If an argument is out of range, or θ is not of shape ``(d,)`` and float64.
    """
    checks.whole(2, directions=directions)
    if point.shape != (objective.dimension,) or point.dtype != torch.float64:
        raise ValueError(
            f"point has shape {tuple(point.shape)}, {point.dtype}: give one θ, shape (d,), float64"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(directions, objective.dimension, generator=generator, dtype=point.dtype)
    vectors = drawn.to(point.device)
    # The step that balances cubic truncation against rounding, relative to the size of θ.
    steps = 1e-5 * (1 + point.norm()) / vectors.norm(dim=-1, keepdim=True)
    value, gradient = zip(
        *(objective.value_and_gradient(point + h * vectors) for h in (steps, -steps)), strict=True
    )
    slopes = (value[0] - value[1]) / (2 * steps[:, 0])
    bends = (gradient[0] - gradient[1]) / (2 * steps)
    here = objective.gradient(point)
    products = objective.hessian_vector_product(point, vectors)
    size = products.norm(dim=-1).max()
    form = vectors @ products.T
    return DerivativeErrors(
        gradient=_relative((slopes - vectors @ here).abs().max(), here.norm()),
        symmetry=_relative((form - form.T).abs().max(), size),
        curvature=_relative((products - bends).norm(dim=-1).max(), size),
    )


def _relative(error: Tensor, size: Tensor) -> float:
    """Return error / size, where size may be 0."""
    return float(error / size) if size > 0 else float(error)


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
    with torch.enable_grad():
        waiting = [term(point).grad_fn for term in objective.terms]
    seen, found = set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [child for child, _ in node.next_functions]
        name = node.name().split("Backward")[0]
        found |= {name} if name.startswith(KINKED) else set()
    return tuple(sorted(found))
