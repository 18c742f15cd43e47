"""Rod Flow (Regis & Chewi 2026): gradient descent as a rod that moves and turns.

Two consecutive iterates of gradient descent (GD) span a rod with centre w = (x_k + x_{k+1})/2 and
half-length vector d = (x_{k+1} − x_k)/2 = −(η/2)∇f(x_k). With g± = ∇f(w ± d), Σ = ddᵀ, two exact
identities of GD are

    w_{k+1} − w_k = −(η/2)(g₊ + g₋),    Σ_{k+1} − Σ_k = (η²/4)(g₊g₊ᵀ + g₋g₋ᵀ) − 2Σ_k,

and Rod Flow is, per step of GD,

    w' = −(η/2)(g₊ + g₋) − (η²/8)(H₊ + H₋)(g₊ + g₋),
    Σ' = (η²/4)(g₊g₊ᵀ + g₋g₋ᵀ) − 2Σ.

The second term of w' is that of backward error analysis for the centre's map. Σ is the same for d
and −d, so that it moves slowly where d changes sign at every step.

Sources. The abstract and the beginning of the introduction of the paper were read; the equations as
they are quoted in a public note of 2026 on effective losses. The authors claim the critical
sharpness and self-stabilisation in quartic potentials as theorems (both are tests here), and the
accuracy of the central flow on representative networks as an observation. Reconstructed here: that
the rod d is the top eigenpair of Σ, which does not stay of rank one; the start
w(½) = x_0 − (η/2)∇f(x_0), Σ(½) = (η²/4)∇f∇fᵀ; and how Σ is stored.

What one rod cannot see, in this reconstruction. In the smooth phase the rod lies along the
gradient. A small oscillation along the top eigenvector of the Hessian is then another eigenvector
of Σ; it does not enter g±, gets no forcing, and decays as e^{−2t}. So past the edge the flow goes
on with gradient flow, and `RodFlow.remarks` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gfgd import checks
from gfgd.large_steps._along_path import AlongPath, remarks_on
from gfgd.objective import Objective, Point
from gfgd.trajectory import COMPLETED, Trajectory, starting_point

#: −hr for which Euler's method with step h still does not enlarge y' = −ry.
EULER_LIMIT = 2.0
#: The rod is said to have missed the edge when ηλmax has come to this while the rod's is below 2.
PAST_THE_EDGE = 2.2


@dataclass(frozen=True, eq=False)
class RodFlow(AlongPath):
    """Rod Flow at T recorded times.

    Attributes
    ----------
    path
        w(t_i), and f there, as a :class:`Trajectory`, with ``counts`` (``gradients``,
        ``hessian_vector_products``) and ``status``.
    rods
        d(t_i), the top eigenvector of Σ times the root of its eigenvalue, shape ``(T, ..., d)``.
    traces
        tr Σ(t_i), shape ``(T, ...)``; more than ‖d‖² where Σ has other directions.
    products
        ηλ along the rod, λ = ⟨d, g₊ − g₋⟩/(2‖d‖²), shape ``(T, ...)``: 2 is the edge.
    sharpness
        A lower bound of ηλmax(w) from one step of power iteration per step of GD, shape
        ``(T, ...)``: close to it after some steps.
    mean_losses
        ½[f(w + d) + f(w − d)], shape ``(T, ...)``.
    remarks
        What a reader of the result must know, in words.
    """

    rods: Tensor
    traces: Tensor
    products: Tensor
    sharpness: Tensor
    mean_losses: Tensor
    remarks: tuple[str, ...] = ()


def rod_flow(
    objective: Objective,
    start: Point,
    *,
    step_size: float,
    iterations: int,
    record_every: int = 1,
    substeps: int = 4,
    rank: int = 6,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> RodFlow:
    """Integrate Rod Flow with one rod over the time of `iterations` steps of GD.

    Euler's method for w, with step 1/`substeps`; for Σ the exponential one, exact where the
    forcing is constant, which keeps Σ ⪰ 0. Order 1 in the step. An evaluation costs two gradients
    and two Hessian-vector products, and each step of GD one product more, for the watch below.

    Parameters
    ----------
    objective, start
        f, three times differentiable, and GD's x_0, shape ``(d,)`` or ``(..., d)``.
    step_size, iterations, record_every
        As in :func:`gfgd.gradient_descent`. The rod lives from t = ½ step on: the recorded
        iterates are `record_every`, 2 · `record_every`, …, and the last.
    rank
        Σ is cut to so many of its largest eigenpairs after every step.
    seed
        Of the power iteration's start.

    Raises
    ------
    ValueError
        If an argument is out of range, or `substeps` are at most 2: at the edge, x = ηλ = 2, the
        centre decays as e^{−(x + x²/2)t}, and Euler's method would be at its own edge of stability
        there and hold the sharpness by itself.

    Notes
    -----
    The run stops, with a status, where the power iteration finds x + x²/2 ≥ 2 · `substeps`.
    """
    checks.positive(step_size=step_size)
    checks.whole(1, iterations=iterations, record_every=record_every, rank=rank)
    checks.whole(1, substeps=substeps)
    start = objective._check(starting_point(start))
    reach = EULER_LIMIT * substeps
    if _rate(2.0) >= reach:
        raise ValueError(
            f"substeps = {substeps}: at ηλ = 2 Euler's method is then at its own edge of "
            "stability and would hold the sharpness by itself; take at least "
            f"{math.floor(_rate(2.0) / EULER_LIMIT) + 1}"
        )
    run = _Rod(objective, step_size, rank)
    generator = torch.Generator().manual_seed(seed)
    watch = torch.randn(start.shape, generator=generator, dtype=torch.float64).to(start)
    state = run.begin(start)
    state = run.advance(state, parts=math.ceil(substeps / 2), length=0.5)  # from t = ½ to 1
    kept: list[_Kept] = []
    status = COMPLETED
    for k in progress(range(1, iterations + 1)):
        watch, sharpness = run.sharpness(state, watch)
        stop = _stop(state, float(sharpness.max()), reach, substeps)
        if stop:
            status = f"stopped at t = {k * step_size:g}: {stop}"
            break
        if k % record_every == 0 or k == iterations:
            kept.append(run.kept(k, state, sharpness))
        if k < iterations:
            state = run.advance(state, parts=substeps, length=1.0)
    return _collected(objective, kept, run, step_size, status)


class _State(NamedTuple):
    """w, shape ``(..., d)``, and F with Σ = FFᵀ and orthogonal columns, largest first."""

    centre: Tensor
    factor: Tensor

    @property
    def rod(self) -> Tensor:
        return self.factor[..., 0]

    @property
    def ends(self) -> Tensor:
        """The rod's ends w ± F₁, shape ``(2, ..., d)``."""
        return torch.stack([self.centre + self.rod, self.centre - self.rod])


class _Kept(NamedTuple):
    iteration: int
    centre: Tensor
    rod: Tensor
    trace: Tensor
    product: Tensor
    sharpness: Tensor
    mean_loss: Tensor


@dataclass(eq=False)
class _Rod:
    """Steps along the flow, and counts."""

    objective: Objective
    step_size: float
    rank: int
    counts: dict[str, int] = field(
        default_factory=lambda: {"gradients": 0, "hessian_vector_products": 0}
    )

    def begin(self, start: Tensor) -> _State:
        gradient = self.objective.gradient(start)
        self.counts["gradients"] += 1
        half = -self.step_size / 2 * gradient
        return _State(start.detach() + half, half[..., None])

    def advance(self, state: _State, *, parts: int, length: float) -> _State:
        """Go on for a time `length`, in steps of GD."""
        step = length / parts
        eta, decay = self.step_size, math.exp(-2 * step)
        # Σ ← e^{−2h}Σ + ½(1 − e^{−2h})(η²/4)(g₊g₊ᵀ + g₋g₋ᵀ), column by column of F.
        gain = math.sqrt((1 - decay) / 2) * eta / 2
        for _ in range(parts):
            (ahead, behind), hessians = self.objective.gradient_and_hessian_at(state.ends)
            total = ahead + behind
            bent = hessians(total).sum(0)
            self.counts["gradients"] += 2
            self.counts["hessian_vector_products"] += 2
            centre = state.centre + step * (-eta / 2 * total - eta**2 / 8 * bent)
            columns = [
                math.sqrt(decay) * state.factor,
                gain * ahead[..., None],
                gain * behind[..., None],
            ]
            state = _State(centre, self._cut(torch.cat(columns, dim=-1)))
        return state

    def _cut(self, factor: Tensor) -> Tensor:
        """Return F with orthogonal columns, largest first, and at most `rank` of them."""
        if not factor.isfinite().all():
            return factor[..., : self.rank]
        _, axes = torch.linalg.eigh(factor.mT @ factor)  # (r + 2)², whatever d is
        return (factor @ axes.flip(-1))[..., : self.rank]

    def sharpness(self, state: _State, watch: Tensor) -> tuple[Tensor, Tensor]:
        """Return a step of power iteration at w, and the Rayleigh quotient times η."""
        watch = watch / watch.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        image = self.objective.hessian_vector_product(state.centre, watch)
        self.counts["hessian_vector_products"] += 1
        return image, self.step_size * (watch * image).sum(-1)

    def kept(self, iteration: int, state: _State, sharpness: Tensor) -> _Kept:
        losses, (ahead, behind) = self.objective.value_and_gradient(state.ends)
        self.counts["gradients"] += 2
        size = state.rod.square().sum(-1)
        return _Kept(
            iteration,
            state.centre,
            state.rod,
            state.factor.square().sum((-1, -2)),
            self.step_size * (state.rod * (ahead - behind)).sum(-1) / (2 * size),
            sharpness,
            losses.mean(0),
        )


def _rate(product: float) -> float:
    """Return how fast the centre decays along an eigenvector, per step, for x = ηλ."""
    return product + product**2 / 2


def _stop(state: _State, sharpness: float, reach: float, substeps: int) -> str | None:
    if not all(part.isfinite().all() for part in state):
        return "the state is not finite; raise substeps, or try a smaller step_size"
    if sharpness > 0 and _rate(sharpness) >= reach:
        return (
            f"ηλmax = {sharpness:.3g} there, where Euler's method with substeps = {substeps} is at "
            "its own edge of stability and would hold the sharpness by itself; raise substeps"
        )
    return None


def _collected(
    objective: Objective, kept: list[_Kept], run: _Rod, step_size: float, status: str
) -> RodFlow:
    if not kept:
        raise ValueError(f"start: Rod Flow reached no recorded time; it {status}")
    _, centres, rods, traces, products, sharpness, mean_losses = (
        torch.stack(list(column))
        if isinstance(column[0], Tensor)
        else torch.tensor(column, dtype=torch.float64)
        for column in zip(*kept, strict=True)
    )
    steps = torch.tensor([one.iteration for one in kept], dtype=torch.float64)
    remarks = list(
        remarks_on(objective, centres[0], float(sharpness.max()), "the centre follows a flow of f")
    )
    missed = (sharpness > PAST_THE_EDGE) & (products < 2)
    if missed.any():
        first = float(steps[missed.reshape(len(steps), -1).any(1)][0])
        remarks.append(
            f"from t = {first * step_size:g} on ηλmax is above {PAST_THE_EDGE:g}, and along the "
            "rod ηλ is below 2: the rod lies elsewhere and does not see the edge, and the flow "
            "goes on as gradient flow does"
        )
    return RodFlow(
        path=Trajectory(
            times=steps * step_size,
            points=centres,
            losses=torch.stack([objective.value(point) for point in centres]),
            counts=dict(run.counts),
            status=status,
        ),
        rods=rods,
        traces=traces,
        products=products,
        sharpness=sharpness,
        mean_losses=mean_losses,
        remarks=tuple(remarks),
    )
