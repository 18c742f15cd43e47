"""Gradient flow, and any other flow of the book, through torchdiffeq."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torchdiffeq import odeint

from gfgd import checks
from gfgd.objective import Objective
from gfgd.trajectory import COMPLETED, Trajectory

Field = Callable[[float, Tensor], Tensor]

#: Adaptive explicit Runge–Kutta pairs (torchdiffeq's names) and their orders.
ADAPTIVE_METHODS = {"dopri8": 8, "dopri5": 5, "bosh3": 3, "adaptive_heun": 2}
#: Methods with a fixed step (torchdiffeq's names) and their orders.
FIXED_METHODS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}

#: The second integration, which estimates the error, runs at tolerances this much looser.
LOOSENING = 10.0


@dataclass(frozen=True, eq=False)
class Solution:
    """States of an ordinary differential equation at requested times.

    `times` (T,), `states` (T, ..., d), `counts` (``evaluations``, ``accepted_steps``,
    ``rejected_steps``, and ``estimate_evaluations`` for the second integration that gave
    the estimate), `status` (``"completed"``, or why it stopped early) and `error`
    (T, ...), the estimated Euclidean error, or None.
    """

    times: Tensor
    states: Tensor
    counts: dict[str, int] = field(default_factory=dict)
    status: str = COMPLETED
    error: Tensor | None = None


def gradient_flow(
    objective: Objective,
    start: Tensor,
    times: Tensor,
    *,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    estimate_error: bool = True,
    max_gradients: int | None = None,
) -> Trajectory:
    """Integrate gradient flow θ' = −∇f(θ), θ(times[0]) = start, to the requested times.

    Parameters
    ----------
    objective
        f.
    start
        θ(times[0]), shape ``(d,)`` or ``(..., d)`` for many starts at once; then all share
        the steps that the hardest of them needs.
    times
        Increasing, shape ``(T,)``.
    method
        A key of `ADAPTIVE_METHODS`.
    rtol, atol
        Bound the *local* error of a step: its root mean square over the d parameters, each
        divided by atol + rtol |θ_i|, is at most 1. They do not bound the distance from the
        exact flow: `error` estimates that.
    estimate_error
        Integrate a second time at tolerances 10 times looser. The distance between the two
        is the result's `error`. It estimates the error of the *looser* run, so on a smooth
        objective it overstates that of the returned one, about 10 times.
    max_gradients
        Stop, with a status that says so, when an integration has used that many.

    Returns
    -------
    Trajectory
        With ``counts``: ``gradients`` for the flow itself, ``estimate_gradients`` for the
        second integration, ``accepted_steps``, ``rejected_steps``. A batch counts once.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Where the gradient jumps (ReLU networks), error estimates of Runge–Kutta pairs lose
    their theory: both integrations may miss the same switch. There, treat `error` as a
    lower bound and compare with another method.
    """
    solution = integrate(
        lambda _, point: -objective.gradient(point),
        start,
        times,
        method=method,
        rtol=rtol,
        atol=atol,
        estimate_error=estimate_error,
        max_evaluations=max_gradients,
    )
    return Trajectory(
        times=solution.times,
        points=solution.states,
        losses=torch.stack([objective.value(point) for point in solution.states]),
        counts={name.replace("evaluations", "gradients"): n for name, n in solution.counts.items()},
        status=solution.status,
        error=solution.error,
    )


def integrate(
    field: Field,
    start: Tensor,
    times: Tensor,
    *,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    step_size: float | None = None,
    estimate_error: bool = False,
    max_evaluations: int | None = None,
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
        Integrate a second time, at 10 times looser tolerances or twice the step.
    max_evaluations
        Stop an integration by an adaptive method that has evaluated the field that often.

    Returns
    -------
    Solution
        Stopped early, with the times that were reached, where the state becomes non-finite,
        the step underflows or the evaluations run out.

    Raises
    ------
    ValueError
        If an argument is out of range, or a fixed step does not divide the times.
    """
    times = torch.as_tensor(times, dtype=torch.float64, device=start.device)
    _check_times(times)
    checks.one_of([*ADAPTIVE_METHODS, *FIXED_METHODS], method=method)
    if not start.isfinite().all():
        raise ValueError("start: has non-finite entries")
    if method in FIXED_METHODS:
        if max_evaluations is not None:
            raise ValueError("max_evaluations: is for adaptive methods; a fixed step has its cost")
        accuracy, looser = _fixed_steps(step_size, times)
    else:
        checks.positive(rtol=rtol, atol=atol)
        accuracy, looser = _adaptive_steps(method, rtol, atol, times)
    run = _Run(field, method, max_evaluations)
    reached, states, status = run.solve(start, times, accuracy)
    error = None
    counts = run.counts()
    if estimate_error:
        second = _Run(field, method, max_evaluations)
        _, rough, _ = second.solve(start, reached, looser)
        counts["estimate_evaluations"] = second.evaluations
        # Where the looser run gave up there is no estimate, and NaN says so.
        error = torch.full(states.shape[:-1], math.nan, dtype=torch.float64, device=start.device)
        error[: len(rough)] = (states[: len(rough)] - rough).double().norm(dim=-1)
    return Solution(reached, states, counts, status, error)


def _fixed_steps(step_size: float | None, times: Tensor) -> tuple[dict, dict]:
    """Return torchdiffeq's arguments for the step, and for the estimate's double step."""
    step = _dividing(step_size, times)
    return {"options": {"step_size": step}}, {"options": {"step_size": 2 * step}}


def _adaptive_steps(method: str, rtol: float, atol: float, times: Tensor) -> tuple[dict, dict]:
    """Return torchdiffeq's arguments for the tolerances, and for the estimate's looser ones."""
    options: dict[str, object] = {"norm": _hardest_member}
    if method != "dopri5":
        # Only dopri5's interpolant is as accurate as its steps; the others step onto the
        # requested times.
        options["step_t"] = times[1:]
    accuracy = {"rtol": rtol, "atol": atol, "options": options}
    looser = {"rtol": LOOSENING * rtol, "atol": LOOSENING * atol, "options": options}
    return accuracy, looser


class FlowStopError(Exception):
    """Raised inside an integration that cannot or may not go on; the message says why."""


class _Run:
    """One integration: counts what torchdiffeq does, and ends it where it must end."""

    def __init__(self, field: Field, method: str, max_evaluations: int | None) -> None:
        self.field = field
        self.method = method
        self.limit = max_evaluations
        self.evaluations = self.accepted = self.rejected = 0
        self.time = -math.inf  # end of the last accepted step
        if method in ADAPTIVE_METHODS:  # torchdiffeq looks for these names
            self.callback_accept_step = self._accept
            self.callback_reject_step = self._reject

    def __call__(self, time: Tensor, state: Tensor) -> Tensor:
        if self.limit is not None and self.evaluations >= self.limit:
            raise FlowStopError(f"{self.limit} evaluations were used")
        self.evaluations += 1
        return self.field(float(time), state)

    def _accept(self, time: Tensor, state: Tensor, step: Tensor) -> None:
        self.accepted += 1
        self.time = float(time + step)

    def _reject(self, time: Tensor, state: Tensor, step: Tensor) -> None:
        self.rejected += 1

    def counts(self) -> dict[str, int]:
        counts = {"evaluations": self.evaluations}
        if self.method in ADAPTIVE_METHODS:
            counts |= {"accepted_steps": self.accepted, "rejected_steps": self.rejected}
        return counts

    def solve(self, start: Tensor, times: Tensor, accuracy: dict) -> tuple[Tensor, Tensor, str]:
        """Return the times reached, the states there, and the status."""
        if len(times) == 1:
            return times, start[None], COMPLETED
        try:
            states = cast(Tensor, odeint(self, start, times, method=self.method, **accuracy))
        except (
            FlowStopError,
            AssertionError,
        ) as cause:  # torchdiffeq asserts finiteness and step > 0
            return self._salvage(start, times, accuracy, str(cause))
        finite = states.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            last = int(finite.to(torch.int8).argmin())
            return times[:last], states[:last], _stopped(times[last - 1], "non-finite state")
        return times, states, COMPLETED

    def _salvage(
        self, start: Tensor, times: Tensor, accuracy: dict, cause: str
    ) -> tuple[Tensor, Tensor, str]:
        """Take the same steps once more, up to the last time that lies before the failure."""
        reached = times[(times <= self.time) | (times == times[0])]
        again = _Run(self.field, self.method, None)
        _, states, _ = again.solve(start, reached, accuracy)
        self.evaluations += again.evaluations
        return reached, states, _stopped(max(self.time, float(times[0])), cause)


def _stopped(time: float | Tensor, cause: str) -> str:
    return f"stopped at t = {float(time):g}: {cause[:120]}"


def _hardest_member(scaled: Tensor) -> Tensor:
    """Root mean square over the parameters; of a batch, the largest one counts."""
    return scaled.square().mean(dim=-1).sqrt().max()


def _check_times(times: Tensor) -> None:
    if times.dim() != 1 or len(times) < 1:
        raise ValueError(f"times has shape {tuple(times.shape)}: give a list of times, shape (T,)")
    if not times.isfinite().all() or (times.diff() <= 0).any():
        raise ValueError("times: must be finite and strictly increasing")


def _dividing(step_size: float | None, times: Tensor) -> float:
    """Return the fixed step, if every requested time is a multiple of it."""
    if step_size is None:
        raise ValueError("step_size: a fixed-step method needs one")
    checks.positive(step_size=step_size)
    steps = (times - times[0]) / step_size
    if not torch.isclose(steps, steps.round(), rtol=0, atol=1e-6).all():
        raise ValueError(f"step_size = {step_size!r}: does not divide the requested times")
    return step_size
