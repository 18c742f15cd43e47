"""Gradient flow, and any other flow of the book, through torchdiffeq."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchdiffeq import odeint

from gfgd import checks, runge_kutta
from gfgd.checkpoint import Checkpoint, refuse_too_many
from gfgd.derivative_checks import kinked_operations
from gfgd.objective import Objective
from gfgd.trajectory import COMPLETED, Trajectory, starting_point

Field = Callable[[float, Tensor], Tensor]
Progress = Callable[[Iterable[int]], Iterable[int]]

#: Adaptive explicit Runge–Kutta pairs (torchdiffeq's names) and their orders.
ADAPTIVE_METHODS = {"dopri8": 8, "dopri5": 5, "bosh3": 3, "adaptive_heun": 2}
#: Its interpolant is as accurate as its steps; the others step onto the requested times.
INTERPOLATING = "dopri5"
#: Methods with a fixed step (torchdiffeq's names) and their orders.
FIXED_METHODS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}

#: The second integration, which estimates the error, runs at tolerances this much looser.
LOOSENING = 10.0
#: torchdiffeq never makes a rejected step smaller than this part of itself.
LEAST_SHRINKAGE = 0.2


@dataclass(frozen=True, eq=False)
class Solution:
    """States of an ordinary differential equation at requested times.

    `times` (T,), `states` (T, ..., d), `counts` (``evaluations``, ``accepted_steps``,
    ``rejected_steps``, and ``estimate_evaluations`` for the second integration that gave
    the estimate), `status` (``"completed"``, or why it stopped early), `error` (T, ...), the
    estimated Euclidean error, or None, `error_doubt`, what speaks against the estimate, or None,
    and `spent`, whether it stopped because the allowed evaluations were used.
    """

    times: Tensor
    states: Tensor
    counts: dict[str, int] = field(default_factory=dict)
    status: str = COMPLETED
    error: Tensor | None = None
    error_doubt: str | None = None
    spent: bool = False


def gradient_flow(
    objective: Objective,
    start: Tensor | ArrayLike,
    times: Tensor | ArrayLike,
    *,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    estimate_error: bool = True,
    max_gradients: int | None = None,
    progress: Progress = iter,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Trajectory:
    """Integrate gradient flow θ' = −∇f(θ), θ(times[0]) = start, to the requested times.

    Parameters
    ----------
    objective
        f.
    start
        θ(times[0]), shape ``(d,)`` or ``(..., d)`` for many starts at once; then all share
        the steps that the hardest of them needs. Its dtype, float32 or float64, is the precision
        of the run; a list counts as float64.
    times
        Increasing, shape ``(T,)``.
    method
        A key of `ADAPTIVE_METHODS`.
    rtol, atol
        Bound the *local* error of a step: its root mean square over the d parameters, each
        divided by atol + rtol |θ_i|, is at most 1. They do not bound the distance from the
        exact flow: `error` estimates that.
    estimate_error
        Integrate a second time at tolerances 10 times looser. The largest distance between
        the two up to a time is the result's `error` then; see the notes.
    max_gradients
        Stop, with a status that says so, when an integration has used that many. The states at
        the requested times that it has passed by then are kept.
    progress
        Wraps the range of the requested times after the first, as ``tqdm`` does; once for the
        flow, and once more for the second integration.
    checkpoint
        A folder, made if need be. The points lie there, not in memory, and every 30 seconds, and
        when an exception ends the run, the state of the integration is written, between two steps.
        The same call goes on from there, to the same bits as without the interruption; of a run
        that is finished it returns the result. :func:`gfgd.checkpoint.trajectory_so_far` reads what
        there is. The points lie on the CPU then.

    Returns
    -------
    Trajectory
        With ``counts``: ``gradients`` for the flow itself, ``estimate_gradients`` for the
        second integration, ``accepted_steps``, ``rejected_steps``. A batch counts once.

    Raises
    ------
    ValueError
        If an argument is out of range, or ∇f(start) is not finite.

    Notes
    -----
    On a smooth objective ten times tighter tolerances make the error about ten times smaller.
    The distance between the two runs is then nearly the error of the looser one, and overstates
    that of the returned one about 10 times; it covers it as long as tightening at least halves
    the error. At a single early time the two errors can be alike by chance; the largest value of
    `error` is what to go by.

    Where the gradient jumps (ReLU networks) nothing of the kind holds. A flow may pass so near
    to a place where a unit switches that both runs miss the same switch and agree on the wrong
    branch, and no comparison of runs can tell. So `error` carries no promise there, and
    `error_doubt` says so. It is set

    * where f is computed with an operation that has kinks, such as ReLU or max-pooling
      (:func:`gfgd.derivative_checks.kinked_operations`);

    or where the step control behaved as it cannot on a smooth field (which is all that
    :func:`integrate` can look at):

    * a step was rejected three times in a row. A step of a pair whose estimated error is
      E ≈ C h^q is repeated with 0.9 E^(−1/q) h, which must do; across a jump E ≈ C h, and it does
      not (compare Gear & Østerby 1984);
    * the tighter run took more than 10^(2/q) times as many steps as the looser one, where
      10^(1/q) times are enough: jumps, not C h^q, set the steps;
    * most steps of the tighter run ended at requested times, so that both runs may have taken
      the same steps and agree too well;
    * the looser run gave up.

    A smooth field that changes as fast as a jump, in less than a step, raises a doubt too.
    Without a doubt `error` is an estimate all the same, not a proof: jumps in operations that are
    not in the list, whose effect on every single step stays below the tolerances, do not show.
    """
    start = starting_point(start)
    times = _checked_times(times, start.device)
    checks.one_of(ADAPTIVE_METHODS, method=method)
    checks.positive(rtol=rtol, atol=atol)
    if max_gradients is not None:
        checks.whole(1, max_gradients=max_gradients)
    folder = None
    if checkpoint is None:
        refuse_too_many(len(times), start, "times: ask for {fewer} times fewer")
    else:
        run = {
            "method": method,
            "rtol": float(rtol),
            "atol": float(atol),
            "estimate_error": bool(estimate_error),
            "max_gradients": None if max_gradients is None else int(max_gradients),
            "times": hashlib.sha256(times.cpu().numpy().tobytes()).hexdigest()[:16],
        }
        folder = Checkpoint(checkpoint, run, objective, start, len(times))
    accuracy, looser = _adaptive_steps(method, rtol, atol, times)
    solution = _integrated(
        [
            _Run(lambda _, point: -objective.gradient(point), method, max_gradients, progress)
            for _ in range(1 + estimate_error)
        ],
        start,
        times,
        (accuracy, looser),
        folder,
    )
    doubt = solution.error_doubt
    if estimate_error and doubt is None and (kinked := kinked_operations(objective, start)):
        doubt = f"the gradient may jump: f is computed with {', '.join(kinked)}"
    device = solution.states.device  # the CPU for those on disk
    places = (point.to(start.device) for point in solution.states)
    return Trajectory(
        times=solution.times.to(device),
        points=solution.states,
        losses=torch.stack([objective.value(place) for place in places]).to(device),
        counts={name.replace("evaluations", "gradients"): n for name, n in solution.counts.items()},
        status=solution.status,
        error=None if solution.error is None else solution.error.to(device),
        error_doubt=doubt,
    )


def integrate(
    field: Field,
    start: Tensor | ArrayLike,
    times: Tensor | ArrayLike,
    *,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    step_size: float | None = None,
    estimate_error: bool = False,
    max_evaluations: int | None = None,
    progress: Progress = iter,
) -> Solution:
    """Integrate y' = field(t, y), y(times[0]) = start, to the requested times.

    Parameters
    ----------
    field
        Maps t and y of shape ``(..., d)`` to y' of the same shape.
    start, times
        y(times[0]), shape ``(..., d)``, and increasing times, shape ``(T,)``.
    method
        A key of `ADAPTIVE_METHODS`, controlled by `rtol` and `atol` (see `gradient_flow`),
        or of `FIXED_METHODS`, which needs `step_size`.
    step_size
        Step of a fixed-step method; the requested times must be multiples of it.
    estimate_error
        Integrate a second time, at 10 times looser tolerances or twice the step, and return
        the largest distance up to each time as `error`; `gradient_flow` says what it is worth.
        With a fixed step there is no step control that could notice a jump, and `error_doubt`
        says so.
    max_evaluations
        Stop an integration by an adaptive method that has evaluated the field that often.
    progress
        Wraps the range of the requested times after the first, as ``tqdm`` does, in each
        integration by an adaptive method.

    Returns
    -------
    Solution
        Stopped early, with the times that were reached and a status that says at which t, why, and
        what would help, where the state becomes non-finite, no step is short enough for rtol and
        atol (the solution runs off, or its field jumps), or the evaluations run out.

    Raises
    ------
    ValueError
        If an argument is out of range, a fixed step does not divide the times, or the field is
        not finite at the start.
    """
    start = starting_point(start)
    times = _checked_times(times, start.device)
    checks.one_of([*ADAPTIVE_METHODS, *FIXED_METHODS], method=method)
    if method in FIXED_METHODS:
        if max_evaluations is not None:
            raise ValueError("max_evaluations: is for adaptive methods; a fixed step has its cost")
        accuracy, looser = _fixed_steps(step_size, times)
    else:
        checks.positive(rtol=rtol, atol=atol)
        if max_evaluations is not None:
            checks.whole(1, max_evaluations=max_evaluations)
        accuracy, looser = _adaptive_steps(method, rtol, atol, times)
    runs = [_Run(field, method, max_evaluations, progress) for _ in range(1 + bool(estimate_error))]
    return _integrated(runs, start, times, (accuracy, looser))


def _integrated(
    runs: list[_Run],
    start: Tensor,
    times: Tensor,
    accuracies: tuple[dict[str, Any], dict[str, Any]],
    folder: Checkpoint | None = None,
) -> Solution:
    """Integrate once, or a second time with the other accuracy for the estimate of the error."""
    run, second = runs[0], runs[-1]
    # Where the looser run gave up there is no estimate, and NaN says so.
    shape = (len(times), *start.shape[:-1])
    apart = torch.full(shape, math.nan, dtype=torch.float64, device=start.device)
    if folder is None:
        states = start.new_empty(len(times), *start.shape)
    else:
        states = folder.points
        if folder.state:
            for name, one in zip(_NAMES, runs, strict=False):
                one.take_up(name, folder.state)
            apart = torch.from_numpy(folder.state["apart"]).to(start.device)

    def keep(place: int, state: Tensor) -> None:
        states[place] = state

    def compare(place: int, state: Tensor) -> None:  # the second run's states are not kept
        apart[place] = (states[place].to(state) - state).double().norm(dim=-1)

    def save(finished: bool = False, status: str = COMPLETED) -> None:
        if folder is not None:
            state = {key: v for n, r in zip(_NAMES, runs, strict=False) for key, v in r.state(n)}
            folder.save(
                **state,
                apart=apart,
                times=times,
                recorded=run.last.reached,
                finished=finished,
                status=status,
            )

    def save_now_and_then() -> None:
        if folder is not None and folder.due():
            save()

    try:
        reached, status = run.solve(start, times, accuracies[0], keep, save_now_and_then)
        second_status = status
        if second is not run:
            _, second_status = second.solve(
                start, times[:reached], accuracies[1], compare, save_now_and_then
            )
    except BaseException:  # also an interruption from the keyboard: what there is is kept
        if run.last.reached:
            save()
        raise
    save(finished=True, status=status)
    times = times[:reached]
    states = states[:reached] if folder is None else folder.recorded(reached)
    counts = run.counts()
    if second is run:
        return Solution(times, states, counts, status, spent=run.spent)
    counts["estimate_evaluations"] = second.evaluations
    doubt = _doubt(run, second, reached)
    if second_status != COMPLETED:
        doubt = f"the looser integration {second_status}"
    elif reached < min(2, len(apart)):
        doubt = "it stopped before the first requested time: there is nothing to compare"
    error = apart[:reached].cummax(dim=0).values
    return Solution(times, states, counts, status, error, doubt, run.spent)


def _doubt(run: _Run, looser: _Run, reached: int) -> str | None:
    """Return what shows that the distance between two runs may miss the error, or None.

    Of a run that stopped early only the part up to the last of its `reached` times counts: the
    looser one went no further.
    """
    if run.method in FIXED_METHODS:
        return "a run with a fixed step cannot tell whether the field jumps"
    jumps = run.at_last_state.jumps + looser.at_last_state.jumps
    if jumps:
        return (
            f"the field seems to jump: {jumps} times the step control had to "
            "reject a step three times in a row or more"
        )
    order = ADAPTIVE_METHODS[run.method]
    steps, fewer = run.at_last_state.accepted, looser.at_last_state.accepted
    # A handful of steps more is no sign of anything.
    if fewer and steps > LOOSENING ** (2 / order) * fewer + 10:
        return (
            f"the field seems to jump: tolerances {LOOSENING:g} times tighter took "
            f"{steps / fewer:.1f} times the steps, where {run.method} needs "
            f"{LOOSENING ** (1 / order):.1f} times as many on a smooth field"
        )
    if run.method != INTERPOLATING and steps < 2 * (reached - 1):
        return "most steps ended at requested times, in both integrations alike"
    return None


def _fixed_steps(step_size: float | None, times: Tensor) -> tuple[dict, dict]:
    """Return torchdiffeq's options for the step, and for the estimate's double step."""
    step = _dividing(step_size, times)
    return {"step_size": step}, {"step_size": 2 * step}


def _adaptive_steps(method: str, rtol: float, atol: float, times: Tensor) -> tuple[dict, dict]:
    """Return torchdiffeq's arguments for the tolerances, and for the estimate's looser ones."""
    options: dict[str, object] = {"norm": _hardest_member}
    if method != INTERPOLATING:
        options["step_t"] = times[1:]
    accuracy = {"rtol": rtol, "atol": atol, **options}
    return accuracy, accuracy | {"rtol": LOOSENING * rtol, "atol": LOOSENING * atol}


class FlowStopError(Exception):
    """Raised inside an integration that cannot or may not go on; the message says why."""


class _AllSpentError(FlowStopError):
    """The evaluations that were allowed have been used."""


@dataclass(frozen=True)
class _Steps:
    """How many steps an integration had accepted at some time, and where it had met a jump."""

    accepted: int = 0
    jumps: int = 0


@dataclass(frozen=True)
class _Between:
    """An integration between two steps: all that it needs to go on.

    `numbers` are its counters, `reached` how many requested times it has passed, `state` and
    `velocity` y and y' at the end `end` of the last step, `step` the next one; None before the
    first step. `status` is set once it has ended.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    reached: int = 0
    state: Tensor | None = None
    velocity: Tensor | None = None
    end: Tensor | None = None
    step: Tensor | None = None
    status: str | None = None


# What the two integrations are called in a checkpoint.
_NAMES = ("flow", "looser")


class _Run:
    """One integration: counts what torchdiffeq does, and ends it where it must end."""

    def __init__(
        self, field: Field, method: str, max_evaluations: int | None, progress: Progress
    ) -> None:
        self.field = field
        self.method = method
        self.limit = max_evaluations
        self.progress = progress
        self.evaluations = self.accepted = self.rejected = 0
        self.jumps = 0  # steps that were rejected three times in a row or more
        self._rejection: tuple[float, float, int] | None = None  # time, step, how many in a row
        self.time = -math.inf  # end of the last accepted step
        self.spent = False
        self.at_last_state = _Steps()
        self.last = _Between()

    def __call__(self, time: Tensor | float, state: Tensor) -> Tensor:
        """Evaluate the field."""
        if self.limit is not None and self.evaluations >= self.limit:
            raise _AllSpentError(
                f"the allowed {self.limit} evaluations were used; allow more (max_evaluations, or "
                "max_gradients for gradient flow), or loosen rtol and atol"
            )
        self.evaluations += 1
        # A field may have followed autograd to get there; the states must not keep its graph.
        velocity = self.field(float(time), state).detach()
        if self.evaluations == 1 and not velocity.isfinite().all():
            raise ValueError("start: the field, −∇f for gradient flow, is not finite there")
        return velocity

    # torchdiffeq calls these three by their names.

    def callback_step(self, time: Tensor, state: Tensor, step: Tensor) -> None:
        """Stop before a step that torchdiffeq would refuse, and say what that means."""
        if not state.isfinite().all():
            raise FlowStopError("the state is not finite from there on; ask for earlier times only")
        if not step > 0:  # torchdiffeq's answer to an error estimate that is not finite
            raise FlowStopError(
                "the field is not finite near the state that was reached; ask for earlier times "
                "only, or tighten rtol and atol, so that trial steps do not lead so far"
            )
        if not time + step > time:
            raise FlowStopError(
                f"to keep to rtol and atol the next step would be {float(step):.1g}, too short to "
                "change t in floating point: the solution runs off to infinity there, or its field "
                "jumps; ask for earlier times only, or loosen rtol and atol"
            )

    def callback_accept_step(self, time: Tensor, state: Tensor, step: Tensor) -> None:
        """Count an accepted step."""
        self.accepted += 1
        self.time = float(time + step)

    def callback_reject_step(self, time: Tensor, state: Tensor, step: Tensor) -> None:
        """Count a rejected step."""
        self.rejected += 1
        self._watch_for_jumps(float(time), float(step))

    def _watch_for_jumps(self, time: float, step: float) -> None:
        """Count rejections in a row, as long as each step is what its predecessor's error asks."""
        row = 1
        if self._rejection is not None and self._rejection[0] == time:
            _, last_step, last_row = self._rejection
            if step > 1.01 * LEAST_SHRINKAGE * last_step:
                row = last_row + 1
        self._rejection = (time, step, row)
        if row == 3:
            self.jumps += 1

    def counts(self) -> dict[str, int]:
        counts = {"evaluations": self.evaluations}
        if self.method in ADAPTIVE_METHODS:
            counts |= {"accepted_steps": self.accepted, "rejected_steps": self.rejected}
        return counts

    def state(self, name: str) -> Iterable[tuple[str, Any]]:
        """Return what `take_up` needs, by name."""
        last = self.last
        if last.status is None and last.state is None:
            return []
        found = {key: value for key, value in vars(last).items() if key != "numbers"}
        found |= last.numbers
        return [(f"{name}_{key}", value) for key, value in found.items() if value is not None]

    def take_up(self, name: str, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state that was written; from the start, if it had not begun then."""
        prefix = f"{name}_"
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not found:
            return
        tensors = {
            key: torch.from_numpy(found[key])
            for key in ("state", "velocity", "end", "step")
            if key in found
        }
        status = str(found["status"]) if "status" in found else None
        known = {*tensors, "reached", "status"}
        numbers = {key: float(value) for key, value in found.items() if key not in known}
        self.last = _Between(numbers, int(found["reached"]), **tensors, status=status)
        self._restore()

    def _numbers(self) -> dict[str, float]:
        row = self._rejection or (math.nan, math.nan, 0)
        return {
            **{name: getattr(self, name) for name in self._COUNTERS},
            "time": self.time,
            "spent": self.spent,
            "steps_at_last_state": self.at_last_state.accepted,
            "jumps_at_last_state": self.at_last_state.jumps,
            **{f"rejection_{i}": value for i, value in enumerate(row)},
        }

    def _restore(self) -> None:
        numbers = self.last.numbers
        for name in self._COUNTERS:
            setattr(self, name, int(numbers[name]))
        self.time, self.spent = numbers["time"], bool(numbers["spent"])
        self.at_last_state = _Steps(
            int(numbers["steps_at_last_state"]), int(numbers["jumps_at_last_state"])
        )
        row = int(numbers["rejection_2"])
        self._rejection = (numbers["rejection_0"], numbers["rejection_1"], row) if row else None

    _COUNTERS = ("evaluations", "accepted", "rejected", "jumps")

    def solve(
        self,
        start: Tensor,
        times: Tensor,
        accuracy: dict[str, Any],
        keep: Callable[[int, Tensor], None],
        between_steps: Callable[[], None],
    ) -> tuple[int, str]:
        """Hand the state at each time that is reached to `keep`; return how many, and the status.

        An adaptive method calls `between_steps` before each step, when `last` is up to date.
        """
        if self.last.status is not None:
            return self.last.reached, self.last.status
        if len(times) == 1:
            keep(0, start)
            reached, status = 1, COMPLETED
        elif self.method in ADAPTIVE_METHODS:
            reached, status = self._adaptive(start, times, accuracy, keep, between_steps)
        else:
            reached, status = self._fixed(start, times, accuracy, keep)
        self.last = _Between(self._numbers(), reached, status=status)
        return reached, status

    def _adaptive(
        self,
        start: Tensor,
        times: Tensor,
        accuracy: dict[str, Any],
        keep: Callable[[int, Tensor], None],
        between_steps: Callable[[], None],
    ) -> tuple[int, str]:
        """Integrate up to where it has to stop.

        The loop is that of torchdiffeq's ``integrate``. Its own would lose, with a stop, the
        states that it has, and to get them a second time would cost as much as the first.
        """
        reached = max(1, self.last.reached)
        if reached == 1:
            keep(0, start)
        try:
            solver = self._solver(start, times, accuracy)
            for place in self.progress(range(reached, len(times))):
                state = self._advanced(solver, times[place], reached, between_steps)
                if not state.isfinite().all():
                    return reached, _stopped(times[place - 1], _NOT_FINITE)
                keep(place, state)
                self.at_last_state = _Steps(self.accepted, self.jumps)
                reached += 1
        except FlowStopError as cause:
            self.spent = isinstance(cause, _AllSpentError)
            return reached, _stopped(max(self.time, float(times[0])), str(cause))
        return reached, COMPLETED

    def _solver(self, start: Tensor, times: Tensor, accuracy: dict[str, Any]) -> Any:
        """Return torchdiffeq's solver, at the start or where this integration was."""
        last = self.last
        self.evaluations = 0  # what the solver evaluates again to begin with does not count twice
        solver: Any = runge_kutta.solver(self.method)(func=self, y0=start, **accuracy)
        solver.begin(times)
        if last.state is not None:
            self._restore()
            assert last.velocity is not None and last.end is not None and last.step is not None
            solver.resume(
                last.state,
                last.velocity,
                last.end.to(times),
                last.step.to(times),
                int(last.numbers["next_step_index"]),
            )
        return solver

    def _advanced(
        self, solver: Any, time: Tensor, reached: int, between_steps: Callable[[], None]
    ) -> Tensor:
        """Return the state at a time, after the steps that lead there."""
        while time > solver.rk_state.t1:
            solver.prepare()
            now = solver.rk_state
            numbers = self._numbers() | {"next_step_index": solver.next_step_index}
            self.last = _Between(numbers, reached, now.y1, now.f1, now.t1, now.dt)
            between_steps()
            solver.advance()
        return solver.at(time)

    def _fixed(
        self,
        start: Tensor,
        times: Tensor,
        accuracy: dict[str, Any],
        keep: Callable[[int, Tensor], None],
    ) -> tuple[int, str]:
        """Integrate to all times, or to none but the first if the field stops the run."""
        try:
            states = odeint(self.__call__, start, times, method=self.method, options=accuracy)
        except FlowStopError as cause:
            keep(0, start)
            return 1, _stopped(times[0], str(cause))
        for place, state in enumerate(cast(Tensor, states)):
            if not state.isfinite().all():
                return place, _stopped(times[place - 1], _NOT_FINITE)
            keep(place, state)
        return len(times), COMPLETED


_NOT_FINITE = (
    "the state is not finite at the next time; take a shorter step, or ask for earlier times only"
)


def _stopped(time: float | Tensor, cause: str) -> str:
    return f"stopped at t = {float(time):g}: {cause}"


def _hardest_member(scaled: Tensor) -> Tensor:
    """Root mean square over the parameters; of a batch, the largest one counts."""
    return scaled.square().mean(dim=-1).sqrt().max()


def _checked_times(times: Tensor | ArrayLike, device: torch.device) -> Tensor:
    """Return the requested times in float64, or say what they are instead."""
    try:
        times = torch.as_tensor(times, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"times = {times!r}: give a list of times, shape (T,)") from None
    if times.dim() != 1 or len(times) < 1:
        raise ValueError(f"times has shape {tuple(times.shape)}: give a list of times, shape (T,)")
    if not times.isfinite().all() or (times.diff() <= 0).any():
        raise ValueError("times: must be finite and strictly increasing")
    return times


def _dividing(step_size: float | None, times: Tensor) -> float:
    """Return the fixed step, if every requested time is a multiple of it."""
    if step_size is None:
        raise ValueError("step_size: a fixed-step method needs one")
    checks.positive(step_size=step_size)
    steps = (times - times[0]) / step_size
    if not torch.isclose(steps, steps.round(), rtol=0, atol=1e-6).all():
        raise ValueError(f"step_size = {step_size!r}: does not divide the requested times")
    return step_size
