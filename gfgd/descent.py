"""Gradient descent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gfgd import checks
from gfgd.checkpoint import Checkpoint, refuse_too_many
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
    checkpoint: str | os.PathLike[str] | None = None,
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
    checkpoint
        A folder, made if need be. The recorded points lie there, not in memory, and every 30
        seconds, and when an exception ends the run, its state is written. The same call goes on
        from there, to the same bits as without the interruption; of a run that is finished it
        returns the result. :func:`gfgd.checkpoint.trajectory_so_far` reads what there is. The
        result lies on the CPU. Only for the plain `update`: others may have a state of their own.

    Returns
    -------
    Trajectory
        With ``counts["gradients"]``. Where a loss becomes non-finite the run stops (once
        every member of a batch has), and `status` names the iteration and the step size.

    Raises
    ------
    ValueError
        If η ≤ 0, a count is out of range, `start` or f or ∇f there is not finite, the recorded
        points would not fit into memory, or `checkpoint` is another run's.
    """
    checks.positive(step_size=step_size)
    checks.whole(1, iterations=iterations, record_every=record_every)
    point = starting_point(start, any_precision=True).clone()
    # Iterate `iterations` is recorded whether or not record_every divides it; so is where a run
    # that stops at a loss does so.
    rows = -(-iterations // record_every) + 1
    folder = None
    if checkpoint is not None:
        if update is not torch.sub:
            raise ValueError("checkpoint: is for the plain update; leave one of the two out")
        run = {
            "method": "gradient_descent",
            "step_size": float(step_size),
            "iterations": int(iterations),
            "record_every": int(record_every),
            "until_loss": None if until_loss is None else float(until_loss),
        }
        folder = Checkpoint(checkpoint, run, objective, point, rows)
    elif until_loss is None:
        refuse_too_many(
            rows, point, f"record_every = {record_every}: make it {{fewer}} times larger"
        )
    descent = _Descent(step_size, point, folder)
    if descent.finished:
        return descent.trajectory()
    try:
        for k in progress(range(descent.iteration, iterations + 1)):
            descent.save_now_and_then()
            value, gradient = objective.value_and_gradient(descent.point)
            if k == 0 and not gradient[value.isfinite()].isfinite().all():
                raise ValueError("start: the gradient there is not finite")
            descent.gradients = k + 1
            hopeless = descent.watch.sees_no_hope(k, value)
            reached = until_loss is not None and bool((value <= until_loss).all())
            if (k % record_every == 0 or k == iterations or reached) and not hopeless:
                descent.record(k, value)
            if hopeless or reached:
                break
            if k < iterations:
                moved = update(descent.point, step_size * gradient)
                descent.iteration, descent.point = k + 1, moved
    except BaseException:  # also an interruption from the keyboard: what there is is kept
        descent.save()
        raise
    if not descent.steps:
        raise ValueError("start: the loss there is not finite")
    descent.save(finished=True)
    return descent.trajectory()


def descent_at(
    objective: Objective,
    start: Tensor | ArrayLike,
    *,
    step_size: float,
    iterates: Sequence[int],
    progress: Callable[[Iterable[tuple[int, int]]], Iterable[tuple[int, int]]] = iter,
) -> Trajectory:
    """Run gradient descent and record the iterates named, which need not be evenly spaced.

    The points are those of :func:`gradient_descent` to the bit: a run goes on where the one before
    it ended, at the cost of one more gradient each.

    Parameters
    ----------
    objective, start, step_size
        As :func:`gradient_descent`.
    iterates
        0 = k_0 < k_1 < …, for example from :func:`spread_iterates`.
    progress
        Wraps the sequence of stretches (k_i, k_{i+1}), as ``tqdm`` does.

    Returns
    -------
    Trajectory
        That ends early, with its `status`, if a loss becomes non-finite.

    Raises
    ------
    ValueError
        If `iterates` does not begin with 0 and increase, or as :func:`gradient_descent`.
    """
    stretches = list(pairwise(iterates))
    if len(iterates) < 2 or iterates[0] != 0 or any(a >= b for a, b in stretches):
        raise ValueError("iterates: must be 0 and at least one more, increasing")
    point, steps, gradients, status = starting_point(start, any_precision=True), [0], 0, COMPLETED
    points, losses = [point.clone()], []
    for before, after in progress(stretches):
        count = after - before
        run = gradient_descent(
            objective, point, step_size=step_size, iterations=count, record_every=count
        )
        gradients += run.counts["gradients"]
        losses = losses or [run.losses[0]]
        if not run.completed:
            status = f"after iteration {before}: {run.status}"
            break
        point = run.points[-1]
        steps.append(after)
        points.append(point)
        losses.append(run.losses[-1])
    return Trajectory(
        times=torch.tensor(steps, dtype=torch.float64, device=point.device) * step_size,
        points=torch.stack(points),
        losses=torch.stack(losses),
        counts={"gradients": gradients},
        status=status,
    )


def spread_iterates(iterations: int, *, even: int, logarithmic: int) -> list[int]:
    """Return iterates from 0 to `iterations`, evenly spaced, and evenly in their logarithm, too.

    A run changes fast at its start, and for long: either alone would miss one of the two.

    Parameters
    ----------
    iterations
        K.
    even
        How many equal stretches; divides K.
    logarithmic
        How many stretches of equal length in log k, from 1 to K, rounded to whole iterates.

    Examples
    --------
    >>> spread_iterates(100, even=4, logarithmic=3)
    [0, 1, 5, 22, 25, 50, 75, 100]

    Raises
    ------
    ValueError
        If a count is less than 1 or `even` does not divide K.
    """
    checks.whole(1, iterations=iterations, even=even, logarithmic=logarithmic)
    checks.multiple(even, iterations=iterations)
    evenly = range(0, iterations + 1, iterations // even)
    return sorted(
        {*evenly, *(round(iterations ** (i / logarithmic)) for i in range(logarithmic + 1))}
    )


class _Descent:
    """A run as far as it has got: in memory, or in the folder of a checkpoint."""

    def __init__(self, step_size: float, start: Tensor, folder: Checkpoint | None) -> None:
        self.step_size, self.folder = step_size, folder
        self.device = start.device
        self.watch = _FiniteWatch(step_size)
        self.iteration, self.point = 0, start
        self.gradients = 0
        self.finished = False
        self.steps: list[int] = []
        self.losses: list[Tensor] = []
        self.points: list[Tensor] = []
        if folder is not None and folder.state:
            self._take_up(folder.state)

    def _take_up(self, state: dict[str, np.ndarray]) -> None:
        self.iteration, self.gradients = int(state["iteration"]), int(state["gradients"])
        self.point = torch.from_numpy(state["point"]).to(self.point)
        self.finished = bool(state["finished"])
        self.watch.status = str(state["status"])
        self.steps = state["steps"].tolist()
        self.losses = list(torch.from_numpy(state["losses"]).to(self.device))

    def record(self, k: int, value: Tensor) -> None:
        """Keep the point of now as iterate k."""
        if self.folder is None:
            self.points.append(self.point.clone())
        else:
            self.folder.points[len(self.steps)] = self.point
        self.steps.append(k)
        self.losses.append(value)

    def save_now_and_then(self) -> None:
        """Write the state if it is time to."""
        if self.folder is not None and self.folder.due():
            self.save()

    def save(self, *, finished: bool = False) -> None:
        """Write the state, of which iteration `iteration` is still to be done if not `finished`."""
        if self.folder is None or self.finished:
            return
        # An interruption may have come between the recording of an iterate and the next one.
        count = len(self.steps) if finished else sum(k < self.iteration for k in self.steps)
        steps = torch.tensor(self.steps[:count], dtype=torch.int64)
        losses = self.losses[:count]
        self.folder.save(
            iteration=self.iteration,
            point=self.point,
            gradients=self.gradients,
            finished=finished,
            status=self.watch.status,
            recorded=count,
            steps=steps,
            times=steps.double() * self.step_size,
            losses=torch.stack(losses)
            if losses
            else self.point.new_empty(0, *self.point.shape[:-1]),
        )

    def _stacked(self) -> Tensor:
        """Return the points as one tensor, letting go of each, as both take twice the room."""
        whole = self.point.new_empty(len(self.points), *self.point.shape)
        for place in reversed(range(len(self.points))):
            whole[place] = self.points.pop()
        return whole

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        count = len(self.steps)
        device = self.device if self.folder is None else torch.device("cpu")
        times = torch.tensor(self.steps, dtype=torch.float64, device=device) * self.step_size
        return Trajectory(
            times=times,
            points=self.folder.recorded(count) if self.folder else self._stacked(),
            losses=torch.stack(self.losses).to(device),
            counts={"gradients": self.gradients},
            status=self.watch.status,
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
