"""From the leading order of the distance to the talk's bound: each inequality, measured.

Along gradient flow, with H = ∇²f and u the leading-order error of :mod:`gfgd.bounds.leading_order`,

    ‖u(t)‖ ≤ ½ ∫₀ᵗ exp(−∫ₛᵗ ρ) ‖H∇f‖ ds          ρ = ⟨u, Hu⟩/‖u‖²
           ≤ ½ ∫₀ᵗ exp(−∫ₛᵗ λmin) ‖H∇f‖ ds       (a)
           ≤ ½ ∫₀ᵗ exp(−∫ₛᵗ λmin) ‖H‖‖∇f‖ ds     (b)
           ≤ ½ γ₀ ∫₀ᵗ ‖H‖ ds · exp(−∫₀ᵗ λmin)    (c), the signed formula
           ≤ ½ βγ₀ t · exp(−∫₀ᵗ λmin)            (d), the talk's, with its constant.

What enters is measured at some times, and integrated by the trapezoid rule between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.bounds.distance import fundamental_bound, mean_of_ends, signed_coefficient
from gfgd.objective import Objective
from gfgd.spectrum import Spectrum
from gfgd.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class AlongFlow:
    """What the bounds are made of, at T times along a flow.

    Attributes
    ----------
    times
        Shape ``(T,)``.
    gradients, curved
        ∇f and H∇f, shape ``(T, d)``.
    secant
        ‖∇f(θ − η∇f(θ)) − ∇f(θ)‖/η: what one step of GD changes the gradient by, jumps included.
    u, rho
        ‖u‖, and the curvature ρ in the direction of u (where u = 0, of −H∇f, in which it starts).
    lowest, norm
        λmin, and ‖H‖ = max(|λmin|, |λmax|).

    The last five have the shape ``(T,)``.
    """

    times: Tensor
    gradients: Tensor
    curved: Tensor
    secant: Tensor
    u: Tensor
    rho: Tensor
    lowest: Tensor
    norm: Tensor

    @property
    def gradient_norm(self) -> Tensor:
        """‖∇f‖, shape ``(T,)``."""
        return self.gradients.norm(dim=-1)

    @property
    def defect(self) -> Tensor:
        """‖H∇f‖, shape ``(T,)``."""
        return self.curved.norm(dim=-1)

    @property
    def stretch(self) -> Tensor:
        """exp(−∫₀ᵗ λmin), shape ``(T,)``."""
        total = torch.cumulative_trapezoid(-self.lowest, self.times)
        return torch.cat([torch.zeros_like(total[:1]), total]).exp()

    def integrated(self, defect: Tensor, rate: Tensor, every: int = 1) -> Tensor:
        """Return ½ ∫₀ᵗ exp(∫ₛᵗ rate) defect ds, from each `every`-th time counted from the end.

        With `every` = 2 it shows what the trapezoid rule errs by. The first time is always used.
        """
        checks.whole(1, every=every)
        at = sorted({0, *range(len(self.times) - 1, 0, -every)})
        cells = mean_of_ends(defect[at]) / 2, mean_of_ends(rate[at])
        return fundamental_bound(self.times[at], *cells)

    def chain(self) -> dict[str, Tensor]:
        """Return ‖u‖, the bound that knows u's direction, and (a) to (d), each shape ``(T,)``."""
        elapsed = self.times - self.times[0]
        beta, start = self.norm.cummax(0).values, self.gradient_norm[0]
        return {
            "u": self.u,
            "direction": self.integrated(self.defect, -self.rho),
            "a": self.integrated(self.defect, -self.lowest),
            "b": self.integrated(self.norm * self.gradient_norm, -self.lowest),
            "c": signed_coefficient(
                self.times,
                mean_of_ends(self.norm),
                mean_of_ends(-self.lowest),
                gradient_norm=start,
            ),
            "d": 0.5 * beta * start * elapsed * self.stretch,
        }


def along_flow(
    objective: Objective,
    flow: Trajectory,
    spectrum: Spectrum,
    coefficient: Tensor,
    *,
    step_size: float,
) -> AlongFlow:
    """Measure what the chain of inequalities needs: two gradients and two products a time.

    Parameters
    ----------
    objective, flow
        f, and its flow from one start, points of shape ``(T, d)``.
    spectrum
        The extreme eigenvalues at the flow's points.
    coefficient
        u at the flow's times, shape ``(T, d)``.
    step_size
        η of the secants.

    Raises
    ------
    ValueError
        If η ≤ 0 or a shape does not fit.
    """
    checks.positive(step_size=step_size)
    if flow.points.dim() != 2 or coefficient.shape != flow.points.shape:
        raise ValueError(
            f"coefficient has shape {tuple(coefficient.shape)}, the flow's points "
            f"{tuple(flow.points.shape)}: give u at the times of a flow from one start"
        )
    gradients, curved, secants, rho = [], [], [], []
    for point, direction in zip(flow.points, coefficient, strict=True):
        gradient, hessian = objective.gradient_and_hessian_at(point)
        product = hessian(gradient)
        if not direction.any():  # u starts at 0, in the direction of −H∇f
            direction = -product
        image = hessian(direction)
        step = objective.gradient(point - step_size * gradient) - gradient
        gradients.append(gradient)
        curved.append(product)
        secants.append(step.norm() / step_size)
        rho.append((direction @ image) / (direction @ direction))
    lowest, highest = spectrum.smallest[:, 0], spectrum.largest[:, 0]
    return AlongFlow(
        times=flow.times,
        gradients=torch.stack(gradients),
        curved=torch.stack(curved),
        secant=torch.stack(secants),
        u=coefficient.norm(dim=-1),
        rho=torch.stack(rho),
        lowest=lowest,
        norm=torch.maximum(highest.abs(), lowest.abs()),
    )
