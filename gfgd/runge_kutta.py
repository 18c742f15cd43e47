"""Steps of torchdiffeq's adaptive Runge–Kutta pairs that keep few vectors.

torchdiffeq multiplies the stages by their weights before it sums them, and fits an interpolant
after each step, whether a time is asked for there or not: about 19 vectors of the state with
``dopri5``. Here the stages are rows of one matrix, a weighted sum of them is one product with it,
and the state between two steps is such a sum too: s + 2 vectors for s stages, and three more for
the error; with ``dopri5`` that is 12.
Tableaus, tolerances, first step and step control are torchdiffeq's own.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torchdiffeq._impl.misc import _optimal_step_size
from torchdiffeq._impl.odeint import SOLVERS


class FewVectors:
    """Mixed into a solver of torchdiffeq: takes its steps, and gives the states between them.

    Between two steps ``rk_state`` holds y1, f1, t0, t1 and the next step dt, as torchdiffeq's does.
    Its y1 and f1 are overwritten by the step after the next `prepare`, never before.
    """

    _nodes: list[float]  # of the stages after the first, in the step: 0 to 1
    _at_last_stage: bool  # whether the last stage is evaluated at the step's end, as in most pairs
    _quartic: list[Tensor]  # see the function of that name
    _stages: Tensor  # (s, n), one row a stage; n counts all members of a batch
    _ends: tuple[Tensor, Tensor]  # the state at the beginning and at the end of the last step
    _step: Tensor  # the length of the last step

    def begin(self: Any, times: Tensor) -> None:
        """Evaluate the field at the start, and choose the first step."""
        self._before_integrate(times)
        now = self.rk_state
        end, last = self.tableau.c_sol, self.tableau.beta[-1]
        self._nodes = self.tableau.alpha.tolist()
        self._at_last_stage = bool(end[-1] == 0 and (end[:-1] == last).all())
        self._quartic = _quartic(end, self.mid)
        self._stages = now.y1.new_empty(len(self._nodes) + 1, now.y1.numel())
        # A copy: the start is the caller's, and the buffer will be written over.
        self._ends = (torch.empty_like(now.y1), now.y1.clone(memory_format=_CONTIGUOUS))
        self.rk_state = now._replace(
            y1=self._ends[1], f1=self._velocity(-1, now.f1), interp_coeff=()
        )

    def resume(
        self: Any, state: Tensor, velocity: Tensor, end: Tensor, step: Tensor, next_step_index: int
    ) -> None:
        """Go on after `begin` from where an integration had been between two steps."""
        self._ends[1].copy_(state)
        self.rk_state = self.rk_state._replace(
            f1=self._velocity(-1, velocity), t0=end, t1=end, dt=step
        )
        self.next_step_index = next_step_index

    def prepare(self: Any) -> None:
        """Make room for a step: what is needed to look back into the last one is given up."""
        self.rk_state = self.rk_state._replace(f1=self._velocity(0, self.rk_state.f1))

    def advance(self: Any) -> None:
        """Try one step after `prepare`; whether it is accepted, the field's callbacks are told."""
        now = self.rk_state
        y0, t0, dt = now.y1, now.t1, now.dt
        if not torch.isfinite(dt):
            dt = self.min_step
        self.func.callback_step(t0, y0, dt)
        t1 = t0 + dt
        on_requested = False
        if len(self.step_t):
            requested = self.step_t[self.next_step_index]
            on_requested = bool(t0 < requested < t1)
            if on_requested:
                t1, dt = requested, requested - t0
        y1 = self._ends[0]
        short = dt.to(y0.dtype)
        begin, length = float(t0), float(dt)
        for row, (alpha, beta) in enumerate(
            zip(self._nodes, self.tableau.beta, strict=True), start=1
        ):
            self._sum(beta * short, y0, out=y1)
            self._velocity(row, self.func(begin + alpha * length, y1))
        if not self._at_last_stage:
            self._sum(self.tableau.c_sol * short, y0, out=y1)
        ratio = self._error_ratio(self.tableau.c_error * short, y0, y1)
        following = _optimal_step_size(
            dt, ratio, self.safety, self.ifactor, self.dfactor, self.order
        )
        if ratio <= 1:
            self.func.callback_accept_step(t0, y0, dt)
            if on_requested and self.next_step_index != len(self.step_t) - 1:
                self.next_step_index += 1
            self._ends, self._step = (y0, y1), short
            velocity = self._stages[-1].view_as(y1)
            self.rk_state = now._replace(y1=y1, f1=velocity, t0=t0, t1=t1, dt=following)
        else:
            self.func.callback_reject_step(t0, y0, dt)
            self.rk_state = now._replace(t0=t0, t1=t0, dt=following)

    def at(self: Any, time: Tensor) -> Tensor:
        """Return the state at a time of the last step: torchdiffeq's quartic in t."""
        now = self.rk_state
        if time == now.t1:
            return now.y1
        x = ((time - now.t0) / (now.t1 - now.t0)).to(now.y1.dtype)
        first, second, third, fourth = self._quartic
        weights = x * (first + x * (second + x * (third + x * fourth))) * self._step
        return self._sum(weights, self._ends[0], out=torch.empty_like(now.y1))

    def _sum(self, weights: Tensor, base: Tensor, *, out: Tensor) -> Tensor:
        """Write base + Σ weights[i] · stages[i] into `out`, and return it."""
        rows = self._stages[: len(weights)]
        torch.addmv(base.view(-1), rows.T, weights, out=out.view(-1))
        return out

    def _velocity(self, row: int, velocity: Tensor) -> Tensor:
        """Keep a velocity as a row of the stages; return that row, in the state's shape."""
        kept = self._stages[row].view(velocity.shape)
        return kept.copy_(velocity)

    def _error_ratio(self: Any, weights: Tensor, y0: Tensor, y1: Tensor) -> Tensor:
        """Return the norm of the estimated error over atol + rtol max(|y0|, |y1|)."""
        error = (weights @ self._stages).view_as(y0)
        scale = y0.abs()
        torch.maximum(scale, y1.abs(), out=scale)
        scale.mul_(self.rtol).add_(self.atol)
        return self.norm(error.div_(scale)).abs()


_CONTIGUOUS = torch.contiguous_format


def _quartic(end: Tensor, middle: Tensor) -> list[Tensor]:
    """Return the weights of the stages in (y(t0 + x h) − y0)/h: those of x, x², x³ and x⁴.

    The quartic agrees with y0, y1, y′0, y′1 and with the state in the middle of the step, and each
    of the five is y0 or a sum of stages; `end` and `middle` are those of y1 and of the middle.
    """
    first, last = torch.zeros_like(end), torch.zeros_like(end)
    first[0] = last[-1] = 1
    second = last - 4 * first - 5 * end + 16 * middle
    third = 5 * first - 3 * last + 14 * end - 32 * middle
    fourth = 2 * (last - first) - 8 * end + 16 * middle
    return [first, second, third, fourth]


@cache
def solver(method: str) -> type[Any]:
    """Return torchdiffeq's solver of that name with `FewVectors` mixed in."""
    name = f"{SOLVERS[method].__name__}InFewVectors"
    return cast("type[Any]", type(name, (FewVectors, SOLVERS[method]), {}))
