"""Which step size keeps GD within a distance of GF: proved, predicted, needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfgd import checks
from gfgd.bounds.distance import mean_of_ends, signed_coefficient, signed_step_size
from gfgd.bounds.leading_order import leading_order_error
from gfgd.objective import Objective, Point
from gfgd.problems.landscapes import Landscape, tube_constants
from gfgd.trajectory import Trajectory


def signed_along_flow(objective: Objective, flow: Trajectory, spectra: Tensor) -> Tensor:
    """Return ½ γ₀ (∫₀ᵗ ‖H‖) exp(−∫₀ᵗ λmin) from values at a flow's points, shape ``(T, ...)``.

    The integrals are by the trapezoid rule: a bound to leading order that is evaluated, not proved.

    Parameters
    ----------
    objective, flow
        f, and its gradient flow at T times, points ``(T, ..., d)``.
    spectra
        Eigenvalues of the Hessian at the points, shape ``(T, ..., n)``, n ≥ 1: the smallest first,
        and the largest in size among them.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    first = objective.gradient(flow.points[0]).norm(dim=-1)
    smoothness, rate = spectra.abs().amax(dim=-1), -spectra[..., 0]
    return signed_coefficient(
        flow.times, mean_of_ends(smoothness), mean_of_ends(rate), gradient_norm=first
    )


def proved_on_landscape(
    known: Landscape, flow: Trajectory, *, distance: float
) -> tuple[float, Tensor]:
    """Return the step size that the signed formula proves for ε, and the formula over η.

    The constants are those of :func:`~gfgd.problems.landscapes.tube_constants` on the tube of
    radius ε around the flow; the formula, with its factor e^{η m₋}, is at the flow's times, shape
    ``(T,)``.

    Raises
    ------
    ValueError
        If the tube may leave the ball on which the landscape's constants hold.
    """
    smoothness, rate = tube_constants(known, flow, distance)
    beta, damping = float(smoothness.max()), max(0.0, -float(rate.min()))
    slope = float(known.objective.gradient(flow.points[0]).norm())
    size = signed_step_size(distance, flow.times, beta, rate, gradient_norm=slope)
    formula = signed_coefficient(flow.times, beta, rate, gradient_norm=slope)
    return size, formula * math.exp(size * damping)


def predicted(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    distance: float,
    rtol: float = 1e-7,
    atol: float = 1e-9,
) -> Tensor:
    """Return ε / max over s ≤ t of ‖u(s)‖ at times[1:], at most t: one step; shape ``(T − 1,)``.

    u is the leading-order error, integrated from times[0] = 0 to the tolerances of
    :func:`~gfgd.bounds.leading_order.leading_order_error`.

    Raises
    ------
    ValueError
        If ε is not positive, or an argument is out of range.
    """
    checks.positive(distance=distance)
    found = leading_order_error(objective, start, times, rtol=rtol, atol=atol)
    largest = found.coefficient.norm(dim=-1).cummax(dim=0).values[1:]
    return torch.minimum(distance / largest, times[1:])


def needed_on_linear(eigenvalue: complex, times: Tensor, *, distance: float) -> Tensor:
    """Return the largest η with which Euler's method for θ' = −λθ stays within ε, shape ``(T,)``.

    θ(0) = 1; e^{−λs} and (1 − ηλ)^{s/η} are compared at 401 times s ≤ t, those between iterates
    included, and η is found by bisection, because the distance grows with it. A real λ is gradient
    flow on ½λθ², of either sign; λ = i is the rotation, which is no gradient flow.

    Parameters
    ----------
    eigenvalue
        λ ≠ 0.
    times
        Each t > 0, shape ``(T,)``.
    distance
        ε, 0 < ε < 1.

    Raises
    ------
    ValueError
        If λ is 0, ε is not between 0 and 1, or a time is not positive.
    """
    checks.positive(distance=distance)
    if eigenvalue == 0 or distance >= 1 or not (times > 0).all():
        raise ValueError(
            f"eigenvalue = {eigenvalue}, distance = {distance:g}: give λ ≠ 0, ε < 1, t > 0"
        )
    rate = torch.tensor(eigenvalue, dtype=torch.complex128)
    high = times.clone()  # one step
    if rate.real > 0:
        high = high.clamp(max=(1 - 1e-9) / rate.real.item())
    low = torch.full_like(high, 1e-13)
    for _ in range(60):
        middle = (low * high).sqrt()
        enough = _worst_distance(rate, middle, times) <= distance
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low


def _worst_distance(rate: Tensor, step_size: Tensor, time: Tensor) -> Tensor:
    """Return max over s ≤ t of |e^{−λs} − (1 − ηλ)^{s/η}|; η and t of shape ``(T,)``."""
    s = time[:, None] * torch.linspace(0, 1, 401, dtype=torch.float64)
    error = torch.exp(s * _exponent_error(rate, step_size)[:, None]) - 1
    return (torch.exp(-rate * s) * error).abs().amax(dim=1)


def _exponent_error(rate: Tensor, step_size: Tensor) -> Tensor:
    """Return ln(1 − ηλ)/η + λ, by its series where that would cancel."""
    x = step_size * rate
    series = -rate * (x / 2 + x**2 / 3 + x**3 / 4 + x**4 / 5)
    return torch.where(x.abs() < 1e-3, series, torch.log(1 - x) / step_size + rate)
