"""Gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gfgd import checks
from gfgd.objective import Objective
from gfgd.trajectory import COMPLETED, Trajectory, starting_point


def gradient_descent(
    objective: Objective,
    start: Tensor | ArrayLike,
    *,
    step_size: float,
    iterations: int,
    record_every: int = 1,
    until_loss: float | None = None,
    update: Callable[[Tensor, Tensor], Tensor] = torch.sub,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Trajectory:
    """Run θ_{k+1} = θ_k − η ∇f(θ_k) and record θ_k and f(θ_k), at the same iterate.

    This is Euler's method for gradient flow θ' = −∇f(θ); iterate k stands at time t = kη.

    Parameters
    ----------
    objective
        f.
    start
        θ_0, shape ``(d,)``, or ``(..., d)`` to run from many starts at once. Its dtype
        is the precision of the run, bfloat16 included; a list counts as float64.
    step_size
        η > 0, in units of time.
    iterations
        Number of steps. Iterates 0 and `iterations` are always recorded.
    record_every
        Iterates k = 0, record_every, 2·record_every, … are recorded.
    until_loss
        If given, stop once every start's loss is at or below it, and record that iterate.
    update
        Maps θ_k and s = η∇f(θ_k) to θ_{k+1}: θ_k − s, rounded to nearest.
        :mod:`gfgd.imperfections.rounding` has others.
    progress
        Wraps the range of iterations, as ``tqdm`` does.

    Returns
    -------
    Trajectory
        With ``counts["gradients"]``. Where a loss becomes non-finite the run stops (once
        every member of a batch has), and `status` names the iteration and the step size.

    Raises
    ------
    ValueError
        If η ≤ 0, a count is out of range, or `start` or f or ∇f there is not finite.
    """
    checks.positive(step_size=step_size)
    checks.whole(1, iterations=iterations, record_every=record_every)
    point = starting_point(start, any_precision=True).clone()
    watch = _FiniteWatch(step_size)
    kept: list[tuple[int, Tensor, Tensor]] = []
    done = 0
    for k in progress(range(iterations + 1)):
        value, gradient = objective.value_and_gradient(point)
        done = k + 1
        if k == 0 and not gradient[value.isfinite()].isfinite().all():
            raise ValueError("start: the gradient there is not finite")
        hopeless = watch.sees_no_hope(k, value)
        reached = until_loss is not None and bool((value <= until_loss).all())
        if (k % record_every == 0 or k == iterations or reached) and not hopeless:
            kept.append((k, point.clone(), value))
        if hopeless or reached:
            break
        point = update(point, step_size * gradient)
    if not kept:
        raise ValueError("start: the loss there is not finite")
    steps, points, losses = zip(*kept, strict=True)
    return Trajectory(
        times=torch.tensor(steps, dtype=torch.float64, device=point.device) * step_size,
        points=torch.stack(points),
        losses=torch.stack(losses),
        counts={"gradients": done},
        status=watch.status,
    )


class _FiniteWatch:
    """Notices the first non-finite loss, and when no member of the batch is left."""

    def __init__(self, step_size: float) -> None:
        self.step_size = step_size
        self.status = COMPLETED

    def sees_no_hope(self, iteration: int, value: Tensor) -> bool:
        finite = value.isfinite()
        if finite.all():
            return False
        if self.status == COMPLETED:
            members = "" if value.dim() == 0 else f" for {int((~finite).sum())} of {value.numel()}"
            self.status = (
                f"diverged: the loss is not finite{members} at iteration {iteration} "
                f"with step size {self.step_size:g}; try a smaller step size"
            )
        return not bool(finite.any())
