"""The leading-order error of gradient descent: a prediction, where a bound only limits.

With the same start, θ_k − θ(kη) = η u(kη) + O(η²), where u solves the variational equation
u' = −H u − ½ H ∇f = −H (u + ½ ∇f), u(0) = 0, along the flow. One integration thus predicts the
distance for every small step size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.flow import integrate
from gfgd.objective import Objective, Point
from gfgd.trajectory import Trajectory, starting_point


@dataclass(frozen=True, eq=False)
class LeadingOrderError:
    """The flow and the coefficient u of the step size in GD's error along it.

    `flow` holds times (T,), points (T, ..., d) and counts (``gradients``,
    ``hessian_vector_products``); `coefficient` is u at those times, shape ``(T, ..., d)``.
    """

    flow: Trajectory
    coefficient: Tensor

    def distance(self, step_size: float) -> Tensor:
        """Return η‖u(t)‖, shape ``(T, ...)``: the predicted distance ‖θ_k − θ(kη)‖ at t = kη."""
        checks.positive(step_size=step_size)
        return step_size * self.coefficient.norm(dim=-1)

    def step_size(self, distance: float) -> Tensor:
        """Return η = ε / max_t ‖u(t)‖, shape ``(...)``: predicted to keep the distance ε."""
        checks.positive(distance=distance)
        return distance / self.coefficient.norm(dim=-1).amax(dim=0)


def leading_order_error(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    max_evaluations: int | None = None,
) -> LeadingOrderError:
    """Integrate gradient flow and u' = −H (u + ½ ∇f), u = 0 at times[0], side by side.

    Costs a gradient and a Hessian-vector product for each evaluation. Needs f three times
    continuously differentiable near the flow: on a ReLU network the O(η²) is lost where a unit
    switches.

    Parameters
    ----------
    objective, start, times
        f, θ(times[0]) of shape ``(d,)`` or ``(..., d)``, and increasing times, shape ``(T,)``.
    method, rtol, atol, max_evaluations
        As :func:`gfgd.flow.integrate`; the tolerances hold for θ and u together.

    Returns
    -------
    LeadingOrderError
        Whose `flow` says in `status` if the integration stopped early.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    start = starting_point(start)

    def field(_: float, state: Tensor) -> Tensor:
        point, coefficient = state.chunk(2, dim=-1)
        velocity = torch.empty_like(state)  # filled in place: few vectors at a time
        gradient, curved = velocity.chunk(2, dim=-1)
        found, hessian = objective.gradient_and_hessian_at(point)
        gradient.copy_(found)
        curved.copy_(hessian(torch.add(coefficient, gradient, alpha=0.5)))
        return velocity.neg_()

    solution = integrate(
        field,
        torch.cat([start, torch.zeros_like(start)], dim=-1),
        times,
        method=method,
        rtol=rtol,
        atol=atol,
        max_evaluations=max_evaluations,
    )
    points, coefficient = solution.states.chunk(2, dim=-1)
    evaluations = solution.counts["evaluations"]
    flow = Trajectory(
        times=solution.times,
        points=points,
        losses=torch.stack([objective.value(point) for point in points]),
        counts={
            "gradients": evaluations,
            "hessian_vector_products": evaluations,
            **{name: n for name, n in solution.counts.items() if name.endswith("_steps")},
        },
        status=solution.status,
    )
    return LeadingOrderError(flow, coefficient)
