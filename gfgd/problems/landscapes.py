"""Landscapes: objectives in a few variables whose flow, Hessian and constants are known.

They are drawn in the book's first chapters, and they are oracles: where a flow or the iterates
of gradient descent have a closed form, it is given; where λmin and ‖∇²f‖ can be bounded by hand,
the bounds are given, for all θ or for a ball around 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: Maps a start, shape ``(..., d)``, and times, shape ``(T,)``, to θ(t), shape ``(T, ..., d)``.
ExactFlow = Callable[[Tensor, Tensor], Tensor]
#: Maps a start, a step size and a number n of steps to θ_0 … θ_n, shape ``(n + 1, ..., d)``.
ExactDescent = Callable[[Tensor, float, int], Tensor]

STRONGLY_CONVEX, CONVEX, NON_CONVEX = "strongly convex", "convex", "non-convex"


@dataclass(frozen=True, eq=False)
class Landscape:
    """An objective with what is known of it.

    Attributes
    ----------
    name, formula
        The name, and f in LaTeX.
    objective
        f.
    convexity_bound
        λ with λmin(∇²f(θ)) ≥ λ: for all θ, or for ‖θ‖ ≤ `radius`.
    smoothness
        β with ‖∇²f(θ)‖₂ ≤ β on the same set: a Lipschitz constant of the gradient.
    domain
        An interval for each coordinate, to draw; contained in the ball, where there is one.
    radius
        Of the ball around 0 in which λ and β hold; infinite where they hold everywhere.
    third
        M₃ with |D³f(θ)[v, v, v]| ≤ M₃‖v‖³ in that ball: a Lipschitz constant of the Hessian, and
        so of each of its eigenvalues. Infinite where none is given.
    minimum
        A global minimiser θ*, shape ``(d,)``; None where f has none, or none is given.
    flow
        Gradient flow in closed form, or None.
    descent
        The iterates of gradient descent in closed form, or None.
    """

    name: str
    formula: str
    objective: Objective
    convexity_bound: float
    smoothness: float
    domain: tuple[tuple[float, float], ...]
    radius: float = math.inf
    third: float = math.inf
    minimum: Tensor | None = None
    flow: ExactFlow | None = None
    descent: ExactDescent | None = None

    def __post_init__(self) -> None:
        if len(self.domain) != self.objective.dimension:
            raise ValueError(
                f"domain has {len(self.domain)} intervals: must be d = {self.objective.dimension}"
            )

    @property
    def dimension(self) -> int:
        """d, the number of variables."""
        return self.objective.dimension

    @property
    def convexity(self) -> str:
        """``"strongly convex"``, ``"convex"`` or ``"non-convex"``: the sign of λ."""
        if self.convexity_bound > 0:
            return STRONGLY_CONVEX
        return CONVEX if self.convexity_bound == 0 else NON_CONVEX

    def contains(self, *paths: Trajectory) -> bool:
        """Whether the paths stay in the ball in which λ and β hold."""
        return all(bool((path.points.norm(dim=-1) <= self.radius).all()) for path in paths)

    @property
    def stable_step_size(self) -> float:
        """2/β: below it no step of gradient descent increases f, while it stays in the ball."""
        return 2 / self.smoothness


def quadratic(*eigenvalues: float, name: str = "quadratic") -> Landscape:
    """Return f(θ) = ½ Σ λ_i θ_i².

    Flow θ_i(0) e^{−λ_i t}, descent θ_i(0) (1 − ηλ_i)^k; λ = min λ_i and β = max |λ_i|, exactly.

    Examples
    --------
    >>> bowl = quadratic(1.0, 4.0)
    >>> bowl.convexity, bowl.stable_step_size
    ('strongly convex', 0.5)

    Raises
    ------
    ValueError
        If there is no eigenvalue, all are 0, or one is not finite.
    """
    checks.at_least(1, eigenvalues=len(eigenvalues))
    checks.non_negative(**{f"|eigenvalues[{i}]|": abs(v) for i, v in enumerate(eigenvalues)})
    if not any(eigenvalues):
        raise ValueError(f"eigenvalues = {eigenvalues}: at least one must differ from 0")
    values = torch.tensor(eigenvalues, dtype=torch.float64)

    def flow(start: Tensor, times: Tensor) -> Tensor:
        return start * torch.exp(-_column(times, start) * values.to(start))

    def descent(start: Tensor, step_size: float, iterations: int) -> Tensor:
        steps = _column(torch.arange(iterations + 1, device=start.device), start)
        return start * (1 - step_size * values.to(start)) ** steps

    return Landscape(
        name=name,
        formula=rf"\tfrac12 \left({_sum_of_squares(eigenvalues)}\right)",
        objective=Objective(
            lambda p: 0.5 * (values.to(p) * p.square()).sum(-1), dimension=len(values)
        ),
        convexity_bound=min(eigenvalues),
        smoothness=max(map(abs, eigenvalues)),
        third=0.0,
        domain=((-2.0, 2.0),) * len(eigenvalues),
        minimum=torch.zeros_like(values) if min(eigenvalues) >= 0 else None,
        flow=flow,
        descent=descent,
    )


def ripples(
    amplitude: float, frequency: float = 3.0, dimension: int = 2, name: str = "ripples"
) -> Landscape:
    """Return f(θ) = Σ [½ θ_i² + (a/ω²)(1 − cos ωθ_i)], with amplitude a ≥ 0 and frequency ω.

    The Hessian is diagonal with entries 1 + a cos ωθ_i, so that λ = 1 − a, β = 1 + a and
    M₃ = aω exactly: strongly convex for a < 1, convex for a = 1, non-convex for a > 1 (with
    local minima besides 0 once a is large beside ω). Not quadratic, and no closed form.
    """
    checks.non_negative(amplitude=amplitude)
    checks.positive(frequency=frequency)
    checks.whole(1, dimension=dimension)

    def value(p: Tensor) -> Tensor:
        waves = (1 - torch.cos(frequency * p)) * (amplitude / frequency**2)
        return (0.5 * p.square() + waves).sum(-1)

    return Landscape(
        name=name,
        formula=(
            rf"\sum_i \left[\tfrac12 \theta_i^2 + \tfrac{{{amplitude:g}}}"
            rf"{{{frequency:g}^2}}(1 - \cos {frequency:g}\theta_i)\right]"
        ),
        objective=Objective(value, dimension=dimension),
        convexity_bound=1 - amplitude,
        smoothness=1 + amplitude,
        third=amplitude * frequency,
        domain=((-3.0, 3.0),) * dimension,
        minimum=torch.zeros(dimension, dtype=torch.float64),
    )


def quartic(dimension: int = 2, radius: float = 3.0, name: str = "quartic") -> Landscape:
    """Return f(θ) = ¼ Σ θ_i⁴: convex, and not strongly, since ∇²f(0) = 0.

    Flow θ_i(0)/√(1 + 2θ_i(0)² t). The Hessian is diagonal with entries 3θ_i², so that λ = 0
    everywhere, β = 3R² and M₃ = 6R for ‖θ‖ ≤ R.
    """
    checks.whole(1, dimension=dimension)
    checks.positive(radius=radius)
    half = radius / math.sqrt(dimension)
    return Landscape(
        name=name,
        formula=r"\tfrac14 \sum_i \theta_i^4",
        objective=Objective(lambda p: 0.25 * p.pow(4).sum(-1), dimension=dimension),
        convexity_bound=0.0,
        smoothness=3 * radius**2,
        third=6 * radius,
        domain=((-half, half),) * dimension,
        radius=radius,
        minimum=torch.zeros(dimension, dtype=torch.float64),
        flow=lambda start, times: (
            start / torch.sqrt(1 + 2 * start.square() * _column(times, start))
        ),
    )


def logistic(
    *inputs: Sequence[float], tilt: Sequence[float] | None = None, name: str = "logistic"
) -> Landscape:
    """Return f(θ) = ⟨b, θ⟩ + (1/N) Σ_i ln(1 + e^{−⟨x_i, θ⟩}), with b = `tilt`, 0 if not given.

    The loss of logistic regression on the N points x_i, each multiplied by its label ±1; convex.
    ∇²f = (1/N) Σ s_i (1 − s_i) x_i x_iᵀ with s_i = 1/(1 + e^{⟨x_i, θ⟩}) tends to 0 far out, so
    that λ = 0; β = λmax(Σ x_i x_iᵀ)/(4N) exactly, at θ = 0; M₃ = Σ‖x_i‖³/(6√3 N), since
    |s(1 − s)(1 − 2s)| ≤ 1/(6√3). With b = 0 and a θ for which every
    ⟨x_i, θ⟩ > 0 (separable points) there is no minimum, and the flow runs to infinity. In one
    variable with x = −1 and b > 0 it is a slope whose steepness falls from 1 + b to b.

    Examples
    --------
    >>> slope = logistic([-1.0], tilt=[0.5])
    >>> slope.convexity, slope.smoothness
    ('convex', 0.25)

    Raises
    ------
    ValueError
        If there is no point, lengths differ, all points are 0, or a number is not finite.
    """
    checks.at_least(1, inputs=len(inputs))
    if len({len(point) for point in inputs}) > 1 or not len(inputs[0]):
        raise ValueError(f"inputs = {inputs}: give points of one length d ≥ 1")
    tilt = [0.0] * len(inputs[0]) if tilt is None else tilt
    if len(tilt) != len(inputs[0]):
        raise ValueError(f"tilt = {tilt}: must have the length of a point, {len(inputs[0])}")
    points = torch.tensor(inputs, dtype=torch.float64)
    slope = torch.tensor(tilt, dtype=torch.float64)
    if not points.isfinite().all() or not slope.isfinite().all() or not points.any():
        raise ValueError(f"inputs = {inputs}, tilt = {tilt}: give finite numbers, not all points 0")

    def value(p: Tensor) -> Tensor:
        margins = p @ points.to(p).T
        return p @ slope.to(p) + torch.logaddexp(torch.zeros_like(margins), -margins).mean(-1)

    return Landscape(
        name=name,
        formula=(
            r"\langle b, \theta \rangle + "
            r"\tfrac1N \sum_i \ln\left(1 + e^{-\langle x_i, \theta \rangle}\right)"
        ),
        objective=Objective(value, dimension=len(slope)),
        convexity_bound=0.0,
        smoothness=float(torch.linalg.matrix_norm(points, ord=2)) ** 2 / (4 * len(points)),
        third=float(points.norm(dim=-1).pow(3).mean()) / (6 * math.sqrt(3)),
        domain=((-4.0, 4.0),) * len(slope),
    )


def saddle(curvature: float = 1.0, name: str = "saddle") -> Landscape:
    """Return f(x, y) = ½ (x² − m y²), m > 0: the flow leaves the saddle at 0 as e^{mt}."""
    checks.positive(curvature=curvature)
    return quadratic(1.0, -curvature, name=name)


def bent_saddle(name: str = "bent_saddle") -> Landscape:
    """Return f(x, y) = ½ x² + cos y + 1: a saddle at 0 between minima at y = ±π, not quadratic.

    The Hessian is diagonal with entries 1 and −cos y, so that λ = −1, β = 1 and M₃ = 1
    exactly. Flow x(0) e^{−t} and tan(y(t)/2) = tan(y(0)/2) e^t.
    """

    def flow(start: Tensor, times: Tensor) -> Tensor:
        elapsed = _column(times, start)[..., 0]
        x, y = start.unbind(-1)
        turn = 2 * math.pi * torch.round(y / (2 * math.pi))
        bend = 2 * torch.atan(torch.tan((y - turn) / 2) * torch.exp(elapsed))
        return torch.stack([x * torch.exp(-elapsed), turn + bend], dim=-1)

    return Landscape(
        name=name,
        formula=r"\tfrac12 x^2 + \cos y + 1",
        objective=Objective(
            lambda p: 0.5 * p[..., 0].square() + torch.cos(p[..., 1]) + 1, dimension=2
        ),
        convexity_bound=-1.0,
        smoothness=1.0,
        third=1.0,
        domain=((-4.0, 4.0), (-4.0, 4.0)),
        minimum=torch.tensor([0.0, math.pi], dtype=torch.float64),
        flow=flow,
    )


def valley(steepness: float = 4.0, radius: float = 2.75, name: str = "valley") -> Landscape:
    """Return f(x, y) = ½ (x − 1)² + ½ c (y − x²)²: a curved valley with its minimum at (1, 1).

    With residuals r = (x − 1, √c (y − x²)) and their Jacobian J,
    ∇²f = JᵀJ − 2c (y − x²) e₁e₁ᵀ. So λ = −2cR and β = 1 + c(1 + 4R²) + 2c(R² + R) are bounds,
    not sharp, for ‖θ‖ ≤ R. D³f[v, v, v] = 12cx v₁³ − 6c v₁²v₂ gives M₃ = 12cR + 4c/√3.
    """
    checks.positive(steepness=steepness)
    checks.at_least(2.75, radius=radius)

    def value(p: Tensor) -> Tensor:
        x, y = p.unbind(-1)
        return 0.5 * (x - 1).square() + 0.5 * steepness * (y - x.square()).square()

    return Landscape(
        name=name,
        formula=rf"\tfrac12 (x - 1)^2 + {steepness / 2:g} (y - x^2)^2",
        objective=Objective(value, dimension=2),
        convexity_bound=-2 * steepness * radius,
        smoothness=1 + steepness * (1 + 4 * radius**2) + 2 * steepness * (radius**2 + radius),
        third=12 * steepness * radius + 4 * steepness / math.sqrt(3),
        domain=((-1.6, 1.6), (-0.8, 2.2)),
        radius=radius,
        minimum=torch.ones(2, dtype=torch.float64),
    )


def sharpening_valley(
    drift: float, *, sharpness: float = 20.0, radius: float = 25.0, name: str = "sharpening_valley"
) -> Landscape:
    """Return f(x, y) = ½ y x² − c y, c > 0: along its floor x = 0 the curvature y grows steadily.

    The smallest example of the edge of stability: gradient descent with step size η oscillates
    along x once y has passed 2/η, and x² lowers y. The Hessian is [[y, x], [x, 0]], so that
    λ = −2R/√3, β = 2R/√3 for ‖θ‖ ≤ R and M₃ = 2/√3 are sharp. `sharpness` is the y around which
    it is drawn.
    """
    checks.positive(drift=drift, sharpness=sharpness)
    checks.at_least(math.hypot(1.5, sharpness + 1.25), radius=radius)
    return Landscape(
        name=name,
        formula=rf"\tfrac12 y x^2 - {drift:g} y",
        objective=Objective(
            lambda p: 0.5 * p[..., 1] * p[..., 0].square() - drift * p[..., 1], dimension=2
        ),
        convexity_bound=-2 * radius / math.sqrt(3),
        smoothness=2 * radius / math.sqrt(3),
        third=2 / math.sqrt(3),
        domain=((-1.0, 1.5), (sharpness - 1.25, sharpness + 1.25)),
        radius=radius,
    )


def two_layer_net(
    target: float = 1.0, radius: float = 3.0, name: str = "two_layer_net"
) -> Landscape:
    """Return f(x, y) = ½ (xy − c)², c > 0: a linear network with two layers of one weight each.

    The smallest network whose loss is not convex: a saddle at 0, and minima on the hyperbola
    xy = c. For ‖θ‖ ≤ R the sharp constants are λ = −(c + R²/2) and β = c + 3R²/2, both at
    x = −y = R/√2, and M₃ = 3R, at x = y. The flow conserves x² − y²; started at x = y = s > 0
    it stays there, with x(t)² = c / (1 + (c/s² − 1) e^{−2ct}).
    """
    checks.positive(target=target, radius=radius)
    half = radius / math.sqrt(2)
    return Landscape(
        name=name,
        formula=rf"\tfrac12 (xy - {target:g})^2",
        objective=Objective(lambda p: 0.5 * (p[..., 0] * p[..., 1] - target).square(), dimension=2),
        convexity_bound=-(target + radius**2 / 2),
        smoothness=target + 1.5 * radius**2,
        third=3 * radius,
        domain=((-half, half),) * 2,
        radius=radius,
        minimum=torch.full((2,), math.sqrt(target), dtype=torch.float64),
    )


def semicircle(pieces: int = 12, apart: float = 4.0, name: str = "semicircle") -> Landscape:
    """Return f(θ) = ln Σ_i e^{⟨p_i, θ⟩ − c_i}: convex, its gradient runs along half a circle.

    The slopes p_i = cos ψ_i (cos ψ_i, sin ψ_i), ψ_i = iπ/(2(n + 1)), lie on the circle with
    diameter 1 through 0 and (1, 0). The offsets c_i are such that the flow from 0 passes from the
    region where slope p_i prevails to that of p_{i+1}, one after the other, and stays in each
    until the others are e^{−apart} times weaker. The leading-order error of gradient descent then
    comes near ¼‖∇f(0)‖, the most that a convex objective allows.

    λ = 0. ∇²f is the covariance of slopes in a disc of diameter 1, hence β = ¼; D³f is their third
    central moment, hence M₃ = ¼.

    Raises
    ------
    ValueError
        If there are fewer than two pieces or apart ≤ 0.
    """
    checks.whole(2, pieces=pieces)
    checks.positive(apart=apart)
    angles = torch.arange(1, pieces + 1, dtype=torch.float64) * math.pi / (2 * (pieces + 1))
    slopes = angles.cos()[:, None] * torch.stack([angles.cos(), angles.sin()], dim=-1)
    turns = slopes[:-1] - slopes[1:]
    # On piece i the flow is θ' = −p_i: the exponents of i and i + 1 near each other at the rate
    # ⟨turn, p_i⟩, and part at the rate ⟨turn, p_{i+1}⟩ on piece i + 1.
    near, part = (turns * slopes[:-1]).sum(-1), (turns * slopes[1:]).sum(-1)
    stays = apart * (1 / near + torch.cat([torch.zeros(1, dtype=torch.float64), 1 / part[:-1]]))
    corners = -(stays[:, None] * slopes[:-1]).cumsum(0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.float64), -(turns * corners).sum(-1).cumsum(0)])
    reach = float(corners[-1].abs().max())
    return Landscape(
        name=name,
        formula=r"\ln \sum_i e^{\langle p_i, \theta \rangle - c_i}",
        objective=Objective(
            lambda p: torch.logsumexp(p @ slopes.to(p).T - offsets.to(p), dim=-1), dimension=2
        ),
        convexity_bound=0.0,
        smoothness=0.25,
        third=0.25,
        domain=((-reach, reach),) * 2,
    )


def tube_constants(known: Landscape, flow: Trajectory, radius: float) -> tuple[Tensor, Tensor]:
    """Return β ≥ ‖∇²f‖ and m ≥ −λmin(∇²f) on the tube of radius ε around a flow, cell by cell.

    Between two recorded times t_i and t_{i+1} = t_i + h the flow is at most
    ρ = ‖∇f(θ(t_i))‖ h e^{μh} away from θ(t_i), μ = max(0, −λ). An eigenvalue of the Hessian
    changes by at most M₃ times the way. So with the Hessian at θ(t_i)

    β = ‖∇²f‖ + M₃ (ε + ρ)   and   m = −λmin(∇²f) + M₃ (ε + ρ),

    or the landscape's own constants where those are smaller.

    Parameters
    ----------
    known
        The landscape.
    flow
        Its gradient flow at T times, points of shape ``(T, d)``, taken as exact.
    radius
        ε ≥ 0.

    Returns
    -------
    tuple[Tensor, Tensor]
        β and m, each of shape ``(T − 1,)``.

    Raises
    ------
    ValueError
        If the tube may leave the ball in which the landscape's constants hold.
    """
    checks.non_negative(radius=radius)
    points, widths = flow.points[:-1], flow.times.diff()
    growth = torch.exp(max(0.0, -known.convexity_bound) * widths)
    reach = radius + known.objective.gradient(points).norm(dim=-1) * widths * growth
    if (points.norm(dim=-1) + reach > known.radius).any():
        raise ValueError(
            f"radius = {radius:g}: the tube may leave ‖θ‖ ≤ {known.radius:g}, where the constants "
            f"of {known.name!r} hold; take a smaller one, or record the flow more often"
        )
    spectra = torch.linalg.eigvalsh(torch.stack([known.objective.hessian(p) for p in points]))
    change = torch.where(reach > 0, known.third * reach, 0.0)  # M₃ may be infinite
    smoothness = spectra.abs().amax(dim=-1) + change
    rate = change - spectra[:, 0]
    return smoothness.clamp(max=known.smoothness), rate.clamp(max=-known.convexity_bound)


def _column(times: Tensor, start: Tensor) -> Tensor:
    """Give times the shape ``(T, 1, …, 1)``, to multiply a start of shape ``(..., d)``."""
    times = torch.as_tensor(times, dtype=start.dtype, device=start.device)
    return times.reshape(-1, *[1] * start.dim())


def _sum_of_squares(coefficients: tuple[float, ...]) -> str:
    factors = ["" if abs(c) == 1 else f"{abs(c):g}\\," for c in coefficients]
    terms = [
        f"{'-' if c < 0 else '+'} {factor}\\theta_{i}^2"
        for i, (c, factor) in enumerate(zip(coefficients, factors, strict=True), start=1)
    ]
    return " ".join(terms).removeprefix("+ ")


#: The landscapes that a chapter offers by name, all in two variables.
LANDSCAPES: dict[str, Landscape] = {
    known.name: known
    for known in (
        quadratic(1.0, 4.0, name="bowl"),
        ripples(0.8, name="ripples"),
        ripples(3.0, name="steep_ripples"),
        quartic(),
        saddle(),
        bent_saddle(),
        valley(),
        two_layer_net(),
    )
}


def landscape(name: str) -> Landscape:
    """Return one of `LANDSCAPES` by its name.

    Raises
    ------
    ValueError
        For a name that is not among them.
    """
    checks.one_of(LANDSCAPES, landscape=name)
    return LANDSCAPES[name]


def check_start(known: Landscape, *, start: Sequence[float]) -> None:
    """Raise ``ValueError`` unless `start` lies where the landscape is drawn, and moves from there.

    It must have d numbers, each in its interval of `domain`, and ∇f ≠ 0 there.
    """
    if len(start) != known.dimension:
        raise ValueError(f"start = {start}: give {known.dimension} numbers")
    for i, (low, high) in enumerate(known.domain):
        checks.between(low, high, **{f"start[{i}]": start[i]})
    if not known.objective.gradient(torch.tensor(start, dtype=torch.float64)).any():
        raise ValueError(f"start = {start}: ∇f = 0 there, and nothing moves; start elsewhere")
