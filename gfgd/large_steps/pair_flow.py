"""The pair flow: gradient descent at the edge of stability, two runs at a time.

Past ηλ = 1 gradient descent (GD) changes sign at every step along an eigenvector of eigenvalue λ,
and no flow in θ alone does. So carry the sign along. Let G(x) = x − η∇f(x) be GD's map. The *pair
map* takes a centre θ and a half-difference v to

    θ⁺ = ½ [G(θ + v) + G(θ − v)],    v⁺ = −½ [G(θ + v) − G(θ − v)].

Then θ_k + (−1)^k v_k is a run of GD, and θ_k − (−1)^k v_k is another one: the map is GD, on two
points, with their roles exchanged at every step. No approximation is made. Its increment is

    F_θ = −(η/2)(g₊ + g₋),    F_v = (η/2)(g₊ − g₋) − 2v,    g± = ∇f(θ ± v),

and F_v = η(H − 2/η)v + O(‖v‖³): where v lies along eigenvectors at 2/η, and the mean gradient is
small, the map is near the identity, *because* the sign has been taken out. There backward error
analysis applies, as it does for GD itself where ηλ is small: the flows, per step of GD,

    order 1:  z' = F,    order 2:  z' = F − ½ F'F,    z = (θ, v),

with (F'F)_θ = −(η/2)[H₊(F_θ + F_v) + H₋(F_θ − F_v)],
(F'F)_v = (η/2)[H₊(F_θ + F_v) − H₋(F_θ − F_v)] − 2F_v. Where v = 0 they are gradient flow and the
flow of Barrett and Dherin. On a quadratic v is multiplied in a step by −e^{x − 2} and
−e^{(x − 2) − (x − 2)²/2} with its sign, x = ηλ: the series of log(x − 1) around x = 2, where a
modified flow has that of log(1 − x) around 0. It converges for
|x − 2| < 1 only; the flows can be *resummed*, with the logarithm itself along v past the edge.

What is proved, in the book: that the pair map is GD; the orders, for families of maps that are near
the identity; a bound on the distance from GD for any curve of pairs. What is not: that v stays in
the critical directions on a network.

References
----------
The flow of order 1 is what the abstract of Marion 2026 describes as Edge Flow (centre on the
symmetrised loss, direction by the dynamics of a Rayleigh quotient, magnitude growing or decaying
with the sharpness above or below 2/η), up to O(‖v‖³) in v'; its equations were not seen, and the
form here is a reconstruction from the pair map. Regis & Chewi 2026 derive their Rod Flow from the
centre and half-difference of *consecutive iterates* of one run (see `rod_flow`). The flow of order
2 is this book's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from gfgd import checks
from gfgd.large_steps._along_path import EDGE, AlongPath, remarks_on
from gfgd.objective import Objective, Point, as_point
from gfgd.trajectory import COMPLETED, Trajectory, starting_point

#: Below this length v is as good as lost, and without rounding nothing brings it back.
UNDERFLOW = 1e-280


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge–Kutta method: strictly lower rows a, weights b, stability on the real axis.

    `limit`: y' = −ry is not enlarged by a step h as long as hr ≤ limit.
    """

    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    limit: float


#: Methods by name (Hairer, Nørsett & Wanner 1993, section II.1).
METHODS: Mapping[str, RungeKutta] = MappingProxyType(
    {
        "heun": RungeKutta(((), (1.0,)), (0.5, 0.5), 2.0),
        "rk4": RungeKutta(
            ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 2.785
        ),
    }
)


@dataclass(frozen=True, eq=False)
class PairFlow(AlongPath):
    """The pair flow at T recorded times.

    Attributes
    ----------
    path
        The centre θ(t_i), and f there, as a :class:`Trajectory`, with ``counts`` (``gradients``,
        ``hessian_vector_products``) and ``status``.
    halves
        v(t_i), shape ``(T, ..., d)``.
    products
        ηλ along v, λ = ⟨v, g₊ − g₋⟩/(2‖v‖²), shape ``(T, ...)``: 2 is the edge. A lower bound of
        ηλmax as ‖v‖ → 0, and nearly equal once v has turned to the top eigenvector.
    mean_losses
        ½[f(θ + v) + f(θ − v)], shape ``(T, ...)``: the model of GD's loss averaged over two steps.
    steps
        The iterates k that were recorded, shape ``(T,)``.
    remarks
        What a reader of the result must know, in words: that the edge was never reached, that f
        has kinks.
    """

    halves: Tensor
    products: Tensor
    mean_losses: Tensor
    steps: Tensor
    remarks: tuple[str, ...] = ()

    @property
    def amplitudes(self) -> Tensor:
        """‖v(t_i)‖, shape ``(T, ...)``."""
        return self.halves.norm(dim=-1)

    @property
    def iterates(self) -> Tensor:
        """θ + (−1)^k v, the model of GD's iterate k itself, shape ``(T, ..., d)``."""
        signs = 1 - 2 * (self.steps % 2).to(self.halves)
        return self.path.points + signs.view(-1, *[1] * (self.halves.dim() - 1)) * self.halves


def pair_map(
    objective: Objective, centre: Tensor, half: Tensor, step_size: float
) -> tuple[Tensor, Tensor]:
    """Return (θ⁺, v⁺) of the module's docstring, each of shape ``(..., d)``, for two gradients.

    Examples
    --------
    >>> bowl = Objective(lambda point: 0.5 * point.square().sum(-1), dimension=1)
    >>> pair_map(bowl, torch.tensor([0.0]), torch.tensor([1.0]), 1.5)
    (tensor([0.]), tensor([0.5000]))
    """
    checks.positive(step_size=step_size)
    ahead, behind = objective.gradient(torch.stack([centre + half, centre - half]))
    return (
        centre - step_size / 2 * (ahead + behind),
        step_size / 2 * (ahead - behind) - half,
    )


def pair_flow(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    iterations: int,
    record_every: int = 1,
    order: int = 2,
    resummed: bool = False,
    half: Point | None = None,
    rounding: float | None = None,
    substeps: int = 4,
    method: str = "heun",
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> PairFlow:
    """Integrate the pair flow of order 1 or 2 over the time of `iterations` steps of GD.

    Cost per evaluation: two gradients, and for order 2 two Hessian-vector products besides; no
    third derivative and no eigenvector. ``"heun"`` with 4 substeps evaluates 8 times per step of
    GD.

    Parameters
    ----------
    objective
        f: two times differentiable for order 1, three times for order 2, along both runs.
    start
        θ(0), shape ``(d,)``, or ``(..., d)`` for many starts at once; if one of them stops, all do.
    step_size, iterations, record_every
        η of the GD that is modelled, and as in :func:`gfgd.gradient_descent`.
    order
        1 or 2.
    resummed
        Where x = ηλ along v is above 2, give v along itself the rate log(x − 1) in place of the
        first `order` terms of its series in x − 2. On quadratics the growth past the edge is exact
        then, also for x ≥ 3, where the series does not converge; and the order is what it was,
        since the change is of the next one. Below the edge nothing is changed: v is a mixture of
        directions there, of which x tells only the mean.
    half
        v(0), of the shape of `start`: GD then starts at θ(0) + v(0). None: 0, so that only
        rounding can start the oscillation, as in GD itself.
    rounding
        ρ: after every step of GD, v_i is displaced by ρ|θ_i|ξ_i, with ξ_i uniform in (−1, 1). It
        stands for the rounding of GD's iterates, from which the oscillation grows, and decides
        when it sets in. None: half the spacing of the dtype's numbers at 1, which is what GD
        commits in this dtype. 0: none.
    substeps, method
        Steps of the integration for each of GD, by a method of `METHODS`.
    seed
        Of the ξ_i.
    progress
        Wraps the range of iterations, as ``tqdm`` does.

    Returns
    -------
    PairFlow
        Stopped early, with a status that names the time and a remedy, where a state is not finite,
        where the integrator would lose stability (below), or where v has decayed to nothing.

    Raises
    ------
    ValueError
        If an argument is out of range; if `half` and `rounding` are both 0; or if `substeps` are
        so few that the integrator sits at its own edge where GD sits at 2/η. There it damps or
        enlarges the centre's motion along the top eigenvector at every step by −1, which
        stabilises the sharpness whether or not f would: a self-stabilisation of the integrator.

    Notes
    -----
    The centre obeys θ' = −xθ − (x²/2)θ along an eigenvector, x = ηλ (the second term for order 2),
    so an explicit step of length 1/`substeps` is stable for x + x²/2 ≤ limit · `substeps`.
    Where ‖v‖ is tiny, g₊ − g₋ would be rounding: F, linear in v there, is evaluated at a longer v.
    """
    checks.positive(step_size=step_size)
    checks.whole(1, iterations=iterations, record_every=record_every, substeps=substeps)
    checks.one_of(METHODS, method=method)
    if order not in (1, 2):
        raise ValueError(f"order = {order}: the pair flow is given to order 1 or 2")
    start = objective._check(starting_point(start))
    noise = _noise_size(rounding, start)
    half = _checked_half(half, start, noise)
    scheme = METHODS[method]
    fewest = _fewest_substeps(EDGE, order, scheme)
    if substeps < fewest:
        raise ValueError(
            f"substeps = {substeps}: at ηλ = 2 {method} is then at its own edge of stability and "
            f"would hold the sharpness by itself; take at least {fewest}"
        )
    run = _Integration(objective, step_size, order, resummed, scheme, 1 / substeps)
    generator = torch.Generator().manual_seed(seed)
    state = _State(start.detach().clone(), half.detach().clone())
    kept: list[_Kept] = []
    status = COMPLETED
    for k in progress(range(iterations + 1)):
        slope = run.slope(state)
        stop = _stop(slope, state, run, noise)
        if stop:
            status = f"stopped at t = {k * step_size:g}: {stop}"
            break
        run.largest = max(run.largest, float(slope.product.max()))
        if k % record_every == 0 or k == iterations:
            kept.append(_Kept(k, state, slope.product))
        if k == iterations:
            break
        for part in range(substeps):
            state = run.step(state, slope if part == 0 else None)
        if noise:
            kick = 2 * torch.rand(start.shape, generator=generator, dtype=torch.float64) - 1
            state = state._replace(half=state.half + noise * state.centre.abs() * kick.to(start))
    return _collected(objective, kept, run, step_size, status)


class _State(NamedTuple):
    """(θ, v), each of shape ``(..., d)``."""

    centre: Tensor
    half: Tensor


class _Slope(NamedTuple):
    """(θ', v') per step of GD, and ηλ along v, shape ``(...)``."""

    centre: Tensor
    half: Tensor
    product: Tensor


class _Kept(NamedTuple):
    iteration: int
    state: _State
    product: Tensor


@dataclass(eq=False)
class _Integration:
    """Evaluates the field of the flow, in units of GD's steps, and steps along it."""

    objective: Objective
    step_size: float
    order: int
    resummed: bool
    scheme: RungeKutta
    length: float
    evaluations: int = 0
    largest: float = field(default=-math.inf)  # of ηλ along v

    def slope(self, state: _State) -> _Slope:
        """Return F, or F − ½F'F, at (θ, v)."""
        self.evaluations += 1
        centre, half = state
        length = half.norm(dim=-1, keepdim=True)
        # F is linear in v where v is short: there g₊ − g₋ is taken over a longer one.
        shortest = torch.finfo(half.dtype).eps ** 0.25
        stretch = shortest / length.clamp(torch.finfo(half.dtype).tiny, shortest)
        long = half * stretch
        ends = torch.stack([centre + long, centre - long])  # (2, ..., d)
        if self.order == 2:
            (ahead, behind), hessians = self.objective.gradient_and_hessian_at(ends)
        else:
            (ahead, behind), hessians = self.objective.gradient(ends), None
        eta = self.step_size
        for_centre = -eta / 2 * (ahead + behind)
        turned = eta / 2 * (ahead - behind)
        product = (long * turned).sum(-1) / long.square().sum(-1).clamp_min(UNDERFLOW)
        for_half = turned - 2 * long
        if hessians is not None:
            moved = torch.stack([for_centre + for_half, for_centre - for_half])
            ahead, behind = hessians(moved)
            # The chain rule for F'F; then F − ½F'F.
            for_centre = for_centre + eta / 4 * (ahead + behind)
            for_half = 2 * for_half - eta / 4 * (ahead - behind)
        if self.resummed:
            for_half = for_half + _remainder(product, self.order)[..., None] * long
        return _Slope(for_centre, for_half / stretch, product)

    def step(self, state: _State, first: _Slope | None) -> _State:
        """Take one step of the method; `first` is the slope at its start, where it is known."""
        slopes = [first or self.slope(state)]
        for row in self.scheme.rows[1:]:
            slopes.append(self.slope(self._moved(state, row, slopes)))
        return self._moved(state, self.scheme.weights, slopes)

    def _moved(self, state: _State, weights: tuple[float, ...], slopes: list[_Slope]) -> _State:
        centre, half = state
        for weight, slope in zip(weights, slopes, strict=True):
            centre = centre + self.length * weight * slope.centre
            half = half + self.length * weight * slope.half
        return _State(centre, half)

    def counts(self) -> dict[str, int]:
        products = 2 * self.evaluations if self.order == 2 else 0
        return {"gradients": 2 * self.evaluations, "hessian_vector_products": products}


def _remainder(product: Tensor, order: int) -> Tensor:
    """Return log(x − 1) less the first terms of its series around x = 2, for x > 2; else 0."""
    past = (product - EDGE).clamp_min(0)
    series = past if order == 1 else past - past.square() / 2
    return torch.log1p(past) - series


def _rate(product: float, order: int) -> float:
    """Return how fast the centre decays along an eigenvector, per step, for x = ηλ."""
    return product + (product**2 / 2 if order == 2 else 0.0)


def _fewest_substeps(product: float, order: int, scheme: RungeKutta) -> int:
    """Return the least number of steps for each of GD at which the method is stable at x = ηλ."""
    return math.floor(_rate(product, order) / scheme.limit) + 1


def _noise_size(rounding: float | None, start: Tensor) -> float:
    if rounding is None:
        return torch.finfo(start.dtype).eps / 2
    checks.non_negative(rounding=rounding)
    return float(rounding)


def _checked_half(half: Point | None, start: Tensor, noise: float) -> Tensor:
    half = torch.zeros_like(start) if half is None else as_point(half, "half").detach()
    if half.shape != start.shape or not half.isfinite().all():
        raise ValueError(
            f"half has shape {tuple(half.shape)}: give finite numbers of the shape of start, "
            f"{tuple(start.shape)}"
        )
    if noise == 0 and not half.norm(dim=-1).all():
        raise ValueError(
            "half = 0 and rounding = 0: nothing can start the oscillation; give v(0) or rounding, "
            "or take barrett_dherin_flow, which is the pair flow without v"
        )
    return half.to(start)


def _stop(slope: _Slope, state: _State, run: _Integration, noise: float) -> str | None:
    """Return why the flow must stop, with a remedy, or None."""
    if not all(part.isfinite().all() for part in (*slope, *state)):
        return "the state or its velocity is not finite; raise substeps, or try a smaller step_size"
    if noise == 0 and state.half.norm(dim=-1).min() < UNDERFLOW:
        return (
            "the oscillation has decayed to nothing (its length is below "
            f"{UNDERFLOW:g}), and without rounding it never comes back; give rounding > 0"
        )
    product = float(slope.product.max())
    fewest = _fewest_substeps(product, run.order, run.scheme)
    if product > 0 and fewest > round(1 / run.length):
        return (
            f"ηλ = {product:.3g} there, where the integrator is at its own edge of stability and "
            f"would hold the sharpness by itself; take at least {fewest} substeps, or a smaller "
            "step_size if GD diverges too"
        )
    return None


def _collected(
    objective: Objective, kept: list[_Kept], run: _Integration, step_size: float, status: str
) -> PairFlow:
    if not kept:
        raise ValueError(f"start: the pair flow cannot begin; it {status}")
    points = torch.stack([one.state.centre for one in kept])
    halves = torch.stack([one.state.half for one in kept])
    products = torch.stack([one.product for one in kept])
    steps = torch.tensor([one.iteration for one in kept], dtype=torch.int64)
    ends = [
        objective.value(torch.stack([p + v, p - v])) for p, v in zip(points, halves, strict=True)
    ]
    return PairFlow(
        path=Trajectory(
            times=steps.double() * step_size,
            points=points,
            losses=torch.stack([objective.value(point) for point in points]),
            counts=run.counts(),
            status=status,
        ),
        halves=halves,
        products=products,
        mean_losses=torch.stack([end.mean(0) for end in ends]),
        steps=steps,
        remarks=tuple(
            remarks_on(
                objective,
                points[0],
                run.largest,
                "v is rounding and the centre the flow of Barrett and Dherin (order 2) or gradient "
                "flow (order 1)",
            )
        ),
    )
