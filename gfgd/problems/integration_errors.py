"""Methods of integration on problems with a known solution: their true errors, beside bounds.

A :class:`Comparison` holds what a method did and what it should have done. `euler_bounds` and
`sampled_bound` put the fundamental theorem of numerical integration beside its true error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from gfgd import checks
from gfgd.bounds.distance import euler_bound, fundamental_bound
from gfgd.flow import Solution, integrate
from gfgd.problems.initial_value_problems import Box, InitialValueProblem, euler_constants


@dataclass(frozen=True, eq=False)
class Comparison:
    """A method's states beside the exact ones.

    Attributes
    ----------
    problem, run
        What was solved, and the method's solution at T times.
    exact
        The exact solution at these times, shape ``(T, ..., d)``.
    """

    problem: InitialValueProblem
    run: Solution
    exact: Tensor

    @property
    def times(self) -> Tensor:
        """The times, shape ``(T,)``."""
        return self.run.times

    @property
    def states(self) -> Tensor:
        """The method's states, shape ``(T, ..., d)``."""
        return self.run.states

    @property
    def error(self) -> Tensor:
        """The global error ‖θ_k − θ(t_k)‖ at each time, shape ``(T, ...)``."""
        return (self.states - self.exact).norm(dim=-1)


def grid(*, step_size: float, horizon: float) -> Tensor:
    """Return the times 0, η, 2η, … up to T, shape ``(T/η + 1,)``, T/η rounded.

    Raises
    ------
    ValueError
        If η or T is not positive.
    """
    checks.positive(step_size=step_size, horizon=horizon)
    return torch.arange(round(horizon / step_size) + 1, dtype=torch.float64) * step_size


def fixed_steps(
    problem: InitialValueProblem, *, step_size: float, horizon: float, method: str = "euler"
) -> Comparison:
    """Solve a problem with steps η up to time T, and compare at each of them.

    Raises
    ------
    ValueError
        If η or T is not positive, or the method is unknown.
    RuntimeError
        If the method does not reach T.
    """
    times = grid(step_size=step_size, horizon=horizon)
    run = integrate(problem.field, problem.start, times, method=method, step_size=step_size)
    return _compared(problem, run, times)


def adaptive_steps(
    problem: InitialValueProblem,
    *,
    tolerance: float,
    horizon: float,
    method: str = "dopri5",
    count: int = 9,
    estimate_error: bool = False,
) -> Comparison:
    """Solve a problem with steps of the method's choice, and compare at `count` times up to T.

    The tolerance is both the relative and the absolute one; `estimate_error` is that of
    :func:`~gfgd.integrate`.

    Raises
    ------
    ValueError
        If T or the tolerance is not positive, or the method is unknown.
    RuntimeError
        If the method does not reach T.
    """
    checks.positive(tolerance=tolerance, horizon=horizon)
    times = torch.linspace(0, horizon, count, dtype=torch.float64)
    run = integrate(
        problem.field,
        problem.start,
        times,
        method=method,
        rtol=tolerance,
        atol=tolerance,
        estimate_error=estimate_error,
    )
    return _compared(problem, run, times)


def _compared(problem: InitialValueProblem, run: Solution, times: Tensor) -> Comparison:
    if len(run.times) < len(times):
        raise RuntimeError(f"{problem.name}: {run.status}")
    return Comparison(problem, run, problem.solution(problem.start, times))


def local_errors(compared: Comparison) -> Tensor:
    """Return the error of each Euler step that starts on the exact solution, shape ``(K, ...)``.

    ‖θ(t_{k+1}) − θ(t_k) − (t_{k+1} − t_k) g(t_k, θ(t_k))‖ for the K steps between its times.
    """
    slopes = _slopes(compared.problem, compared.times[:-1], compared.exact[:-1])
    elapsed = compared.times.diff().reshape(-1, *[1] * (slopes.dim() - 1))
    return (compared.exact.diff(dim=0) - elapsed * slopes).norm(dim=-1)


def euler_bounds(compared: Comparison, *, step_size: float) -> tuple[Tensor, Tensor]:
    """Return the bound on Euler's error, and the classical one with L for m, at each time.

    Both are :func:`~gfgd.bounds.euler_bound` with the constants of
    :func:`~gfgd.problems.initial_value_problems.euler_constants`, shape ``(K + 1, ...)``; the
    second takes the Lipschitz constant in place of the logarithmic norm.

    Raises
    ------
    ValueError
        As those two do.
    """
    found = euler_constants(compared.problem, compared.times, compared.states, compared.exact)
    one = found.slope.new_ones(())  # the slope is κ_k, the product that the bound asks for
    return (
        euler_bound(step_size, found.slope, one, found.growth),
        euler_bound(step_size, found.slope, one, found.lipschitz),
    )


def sampled_bound(
    problem: InitialValueProblem, times: Tensor, states: Tensor, *, parts: int = 20
) -> tuple[Tensor, Tensor]:
    """Return the true error of a smooth curve through some states, and the bound on it.

    The curve has the given states and the field's slopes there, and is cubic in between. Its defect
    ‖ϑ' − g(t, ϑ)‖ is evaluated at the ends of `parts` cells a step, and the larger end stands for
    the cell, which is no supremum: the bound of :func:`~gfgd.bounds.fundamental_bound` with it is
    evaluated, not proved.

    Parameters
    ----------
    problem
        One problem, not a batch.
    times, states
        t_0 < … < t_K equally spaced, shape ``(K + 1,)``, and states, shape ``(K + 1, d)``.
    parts
        Cells in each step.

    Returns
    -------
    tuple[Tensor, Tensor]
        Error and bound at the ends of all cells, shape ``(parts K + 1,)``.

    Raises
    ------
    ValueError
        If there are not at least two times, or `parts` is not a positive whole number.
    """
    checks.whole(1, parts=parts)
    if len(times) < 2 or len(times) != len(states):
        raise ValueError(f"times has {len(times)} entries for {len(states)} states: at least 2")
    slopes = _slopes(problem, times, states)
    cubic = CubicHermiteSpline(times.numpy(), states.numpy(), slopes.numpy())
    cell = (times[1] - times[0]).item() / parts
    fine = times[0] + torch.arange((len(times) - 1) * parts + 1, dtype=torch.float64) * cell
    curve, speed = (torch.from_numpy(cubic(fine.numpy(), order)) for order in (0, 1))
    defect = (speed - _slopes(problem, fine, curve)).norm(dim=-1)
    exact = problem.solution(problem.start, fine)
    ends = torch.stack([curve[:-1], curve[1:], exact[:-1], exact[1:]])
    box = Box(fine[:-1], fine[1:], ends.amin(dim=0), ends.amax(dim=0))
    growth = problem.constants(box).growth.expand(len(fine) - 1)
    bound = fundamental_bound(fine, torch.maximum(defect[:-1], defect[1:]), growth)
    return (curve - exact).norm(dim=-1), bound


def _slopes(problem: InitialValueProblem, times: Tensor, states: Tensor) -> Tensor:
    """Return g(t_k, θ_k) for each time; a field takes one time and all its states at once."""
    clock: Sequence[float] = times.tolist()
    return torch.stack([problem.field(t, state) for t, state in zip(clock, states, strict=True)])
