"""Initial value problems θ' = g(t, θ) whose solutions and constants are known.

They are the examples of the chapter on numerical integration, and they are oracles: each has
its exact solution, and the three numbers that the fundamental theorem of numerical integration
asks for, on any box of times and states: a bound m on the logarithmic norm λmax(sym ∂g/∂θ), a
Lipschitz constant L of g in θ, and one, τ, of g in t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.flow import Field

#: Maps θ(t_0), shape ``(..., d)``, and times t_0 < …, shape ``(T,)``, to θ, ``(T, ..., d)``.
ExactSolution = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Box:
    """Times `begin` ≤ t ≤ `end`, shape ``(...)``, and states `low` ≤ θ ≤ `high`, ``(..., d)``.

    States are compared coordinate by coordinate. Where `end` or the states have no bound, they
    are infinite.
    """

    begin: Tensor
    end: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Constants:
    """What the fundamental theorem asks of g on a box, each of shape ``(...)``.

    Attributes
    ----------
    growth
        m ≥ λmax(½(J + Jᵀ)), J = ∂g/∂θ: the rate at which two solutions can move apart.
        Negative where they approach each other.
    lipschitz
        L ≥ ‖J‖₂, so that ‖g(t, p) − g(t, q)‖ ≤ L ‖p − q‖.
    drift
        τ ≥ ‖∂g/∂t‖, so that ‖g(s, q) − g(t, q)‖ ≤ τ |s − t|.
    """

    growth: Tensor
    lipschitz: Tensor
    drift: Tensor


@dataclass(frozen=True, eq=False)
class InitialValueProblem:
    """θ' = g(t, θ) with what is known of it.

    Attributes
    ----------
    name, formula
        The name, and the equation in LaTeX.
    field
        g: maps a time and states of shape ``(..., d)`` to the same shape.
    solution
        Maps θ(t_0) and times t_0 < t_1 < …, shape ``(T,)``, to θ, shape ``(T, ..., d)``.
    constants
        Maps a `Box` to `Constants` that hold on it.
    region
        The box in which the problem is posed; `region_constants` hold in all of it.
    start
        θ(0) of the book's example, shape ``(d,)``, or ``(B, d)`` for a batch of B problems.
    domain
        An interval for each coordinate, to draw.
    """

    name: str
    formula: str
    field: Field
    solution: ExactSolution
    constants: Callable[[Box], Constants]
    region: Box
    start: Tensor
    domain: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.domain) != self.dimension:
            raise ValueError(
                f"domain has {len(self.domain)} intervals: must be d = {self.dimension}"
            )

    @property
    def dimension(self) -> int:
        """d, the number of coordinates of a state."""
        return self.start.shape[-1]

    @property
    def region_constants(self) -> Constants:
        """The constants that hold in all of the problem's region."""
        return self.constants(self.region)


@dataclass(frozen=True, eq=False)
class EulerConstants:
    """What the theorem on Euler's error asks for, at each of K steps, shape ``(K, ...)``.

    Attributes
    ----------
    slope
        κ_k = L_k ‖g_k‖ + τ_k: the Euler polygon's defect at time s after iterate k is at most
        κ_k s. The first two arguments of `gfgd.bounds.euler_bound` are κ and 1.
    growth
        m_k, on the segments between the polygon and the exact solution.
    lipschitz
        L_k, the classical stand-in for m_k.
    """

    slope: Tensor
    growth: Tensor
    lipschitz: Tensor


def euler_constants(
    problem: InitialValueProblem, times: Tensor, polygon: Tensor, exact: Tensor
) -> EulerConstants:
    """Return κ_k, m_k and L_k for each step of an Euler polygon.

    They are the problem's constants on the box that the ends of both curves span in each step.
    That box holds the whole step where it has to: the polygon is straight; where m depends on
    the state at all (the logistic equation), d = 1 and solutions are monotone.

    Parameters
    ----------
    problem
        One of this module's.
    times
        t_k, shape ``(K + 1,)``.
    polygon, exact
        Euler's iterates θ_k and the exact solution θ(t_k), shape ``(K + 1, ..., d)``.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a state lies outside the region in which the constants of
        the problem hold.
    """
    if polygon.shape != exact.shape or len(times) != len(exact):
        raise ValueError(
            f"polygon and exact have shapes {tuple(polygon.shape)} and {tuple(exact.shape)} for "
            f"{len(times)} times: must be (K + 1, ..., d) for K + 1 times"
        )
    ends = torch.stack([polygon[:-1], polygon[1:], exact[:-1], exact[1:]])
    low, high = ends.amin(dim=0), ends.amax(dim=0)
    region = problem.region
    if not ((low >= region.low) & (high <= region.high)).all():
        raise ValueError(
            f"polygon: leaves the region in which the constants of {problem.name!r} hold; "
            "take shorter steps"
        )
    clock = _column(times, polygon[0, ..., 0])
    found = problem.constants(Box(clock[:-1], clock[1:], low, high))
    speed = polygon.diff(dim=0).norm(dim=-1) / clock.diff(dim=0)
    shape = speed.shape
    return EulerConstants(
        slope=found.lipschitz * speed + found.drift,
        growth=found.growth.expand(shape),
        lipschitz=found.lipschitz.expand(shape),
    )


def linear(
    matrix: Tensor, start: Tensor | None = None, name: str = "linear"
) -> InitialValueProblem:
    """Return θ' = Aθ, with solution e^{tA} θ(0).

    Everywhere m = λmax(½(A + Aᵀ)) and L = ‖A‖₂, exactly; τ = 0.

    Parameters
    ----------
    matrix
        A, shape ``(d, d)``, or ``(B, d, d)`` for B systems at once.
    start
        θ(0), by default all ones.

    Raises
    ------
    ValueError
        If A is not square or not finite.

    Examples
    --------
    >>> turn = linear(torch.tensor([[0.0, -2.0], [2.0, 0.0]]))
    >>> float(turn.region_constants.growth), float(turn.region_constants.lipschitz)
    (0.0, 2.0)
    """
    A = torch.as_tensor(matrix, dtype=torch.float64)
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"matrix has shape {tuple(A.shape)}: must be (d, d) or (B, d, d)")
    if not A.isfinite().all():
        raise ValueError("matrix: has non-finite entries")
    growth = torch.linalg.eigvalsh((A + A.mT) / 2)[..., -1]
    lipschitz = torch.linalg.matrix_norm(A, ord=2)
    d = A.shape[-1]

    def solution(initial: Tensor, times: Tensor) -> Tensor:
        elapsed = _column(times - times[0], A)
        return _apply(torch.linalg.matrix_exp(elapsed * A), initial)

    return InitialValueProblem(
        name=name,
        formula=rf"\theta' = {_matrix(A)}\,\theta",
        field=lambda time, state: _apply(A, state),
        solution=solution,
        constants=lambda box: Constants(growth, lipschitz, torch.zeros_like(growth)),
        region=_everywhere(d),
        start=torch.ones(A.shape[:-1], dtype=torch.float64) if start is None else start.double(),
        domain=((-2.0, 2.0),) * d,
    )


def logistic(
    rate: Tensor | float = 1.0, start: Tensor | None = None, name: str = "logistic"
) -> InitialValueProblem:
    """Return θ' = rθ(1 − θ) for 0 ≤ θ ≤ 1, r > 0: growth that saturates.

    Solution θ(0) / (θ(0) + (1 − θ(0)) e^{−rt}), monotone in t. J = r(1 − 2θ): on an interval
    [a, b] of states m = r(1 − 2a) and L = r max(|1 − 2a|, |1 − 2b|), exactly; on the whole
    region both are r. A number r, or shape ``(B,)`` for B problems at once.
    """
    r = _positive(rate=rate)

    def solution(initial: Tensor, times: Tensor) -> Tensor:
        decay = torch.exp(-_column(times - times[0], initial) * r[..., None])
        return initial / (initial + (1 - initial) * decay)

    def constants(box: Box) -> Constants:
        left, right = r * (1 - 2 * box.low[..., 0]), r * (1 - 2 * box.high[..., 0])
        return Constants(left, torch.maximum(left.abs(), right.abs()), torch.zeros_like(left))

    return InitialValueProblem(
        name=name,
        formula=rf"\theta' = {_factor(r, 'r')}\theta(1 - \theta)",
        field=lambda time, state: r[..., None] * state * (1 - state),
        solution=solution,
        constants=constants,
        region=_always(low=0.0, high=1.0),
        start=_start(start, r, 0.02),
        domain=((0.0, 1.15),),
    )


def seasonal(
    amplitude: Tensor | float = 1.0,
    frequency: Tensor | float = 1.0,
    radius: float = 10.0,
    start: Tensor | None = None,
    name: str = "seasonal",
) -> InitialValueProblem:
    """Return θ' = a cos(ωt) θ for |θ| ≤ R, a, ω, R > 0: growth and decay take turns.

    Solution θ(0) exp((a/ω) sin ωt). J = a cos ωt changes sign, so that m is its maximum over
    the times in question and ∫m stays below 2a/ω, while L = max a|cos ωt| and
    τ = aω max|θ| max|sin ωt|, all exact. Numbers a, ω, or shape ``(B,)`` for B problems at once.
    """
    checks.positive(radius=radius)
    a, omega = torch.broadcast_tensors(
        _positive(amplitude=amplitude), _positive(frequency=frequency)
    )

    def solution(initial: Tensor, times: Tensor) -> Tensor:
        phase = torch.sin(omega[..., None] * _column(times, initial))
        return initial * torch.exp((a / omega)[..., None] * (phase - phase[:1]))

    def constants(box: Box) -> Constants:
        begin, end = omega * box.begin, omega * box.end
        size = torch.maximum(box.low.abs(), box.high.abs())[..., 0]
        quarter = math.pi / 2
        return Constants(
            growth=a * _largest_cosine(begin, end),
            lipschitz=a * _largest_cosine_size(begin, end),
            drift=a * omega * size * _largest_cosine_size(begin - quarter, end - quarter),
        )

    return InitialValueProblem(
        name=name,
        formula=rf"\theta' = {_factor(a, 'a')}\cos({_factor(omega, 'ω')}t)\,\theta",
        field=lambda time, state: (a * torch.cos(omega * time))[..., None] * state,
        solution=solution,
        constants=constants,
        region=_always(-radius, radius),
        start=_start(start, a, 1.0),
        domain=((0.0, 3.0),),
    )


def tracking(
    rate: Tensor | float = 4.0, start: Tensor | None = None, name: str = "tracking"
) -> InitialValueProblem:
    """Return θ' = −λ(θ − cos t) − sin t, λ > 0: θ is drawn to cos t, which solves it.

    The test problem of Prothero & Robinson (1974). Solution cos t + (θ(0) − 1) e^{−λt};
    everywhere m = −λ, L = λ, and τ = max |λ sin t + cos t| over the times in question, exactly.
    A number λ, or shape ``(B,)`` for B problems at once.
    """
    r = _positive(rate=rate)

    def field(time: float, state: Tensor) -> Tensor:
        return -r[..., None] * (state - math.cos(time)) - math.sin(time)

    def solution(initial: Tensor, times: Tensor) -> Tensor:
        clock = _column(times, initial)
        decay = torch.exp(-r[..., None] * (clock - clock[:1]))
        return torch.cos(clock) + (initial - torch.cos(clock[:1])) * decay

    def constants(box: Box) -> Constants:
        phase = torch.atan(r)  # λ sin t + cos t = √(1 + λ²) cos(t − atan λ)
        wave = _largest_cosine_size(box.begin - phase, box.end - phase)
        return Constants(-r, r, torch.sqrt(1 + r.square()) * wave)

    return InitialValueProblem(
        name=name,
        formula=rf"\theta' = -{_factor(r, 'λ')}(\theta - \cos t) - \sin t",
        field=field,
        solution=solution,
        constants=constants,
        region=_everywhere(1),
        start=_start(start, r, 0.0),
        domain=((-1.4, 1.8),),
    )


def _everywhere(dimension: int) -> Box:
    return _always(-math.inf, math.inf, dimension)


def _always(low: float, high: float, dimension: int = 1) -> Box:
    """All times t ≥ 0, and states between two numbers."""
    ones = torch.ones(dimension, dtype=torch.float64)
    return Box(0 * ones[0], math.inf * ones[0], low * ones, high * ones)


def _largest_cosine(begin: Tensor, end: Tensor) -> Tensor:
    """Return the maximum of cos over [begin, end], exactly."""
    inside = _next_multiple(begin, 2 * math.pi) <= end
    return torch.where(inside, 1.0, torch.maximum(torch.cos(begin), torch.cos(end)))


def _largest_cosine_size(begin: Tensor, end: Tensor) -> Tensor:
    """Return the maximum of |cos| over [begin, end], exactly."""
    inside = _next_multiple(begin, math.pi) <= end
    return torch.where(inside, 1.0, torch.maximum(torch.cos(begin).abs(), torch.cos(end).abs()))


def _next_multiple(begin: Tensor, period: float) -> Tensor:
    return period * torch.ceil(begin / period)


def _apply(matrix: Tensor, state: Tensor) -> Tensor:
    return (matrix @ state[..., None])[..., 0]


def _column(times: Tensor, like: Tensor) -> Tensor:
    """Give times the shape ``(T, 1, …, 1)``, to multiply something shaped as `like`."""
    return times.reshape(-1, *[1] * like.dim())


def _positive(**values: Tensor | float) -> Tensor:
    """Return the one value as a tensor of positive numbers."""
    ((name, value),) = values.items()
    numbers = torch.as_tensor(value, dtype=torch.float64)
    for number in numbers.reshape(-1).tolist():
        checks.positive(**{name: number})
    return numbers


def _start(start: Tensor | None, parameter: Tensor, default: float) -> Tensor:
    """Return θ(0), by default one number for each problem of the batch."""
    if start is not None:
        return start.double()
    return torch.full((*parameter.shape, 1), default, dtype=torch.float64)


def _factor(value: Tensor, symbol: str) -> str:
    """Write one number in LaTeX, leaving out a 1, and a batch as a letter."""
    if value.dim():
        return {"ω": r"\omega ", "λ": r"\lambda "}.get(symbol, symbol)
    return "" if value == 1 else f"{value:g}\\,"


def _matrix(A: Tensor) -> str:
    if A.dim() > 2:
        return "A"
    rows = [" & ".join(f"{entry:g}" for entry in row) for row in A.tolist()]
    return r"\begin{pmatrix} " + r" \\ ".join(rows) + r" \end{pmatrix}"


def _pair(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


#: The problems that a chapter offers by name.
PROBLEMS: dict[str, InitialValueProblem] = {
    known.name: known
    for known in (
        linear(_pair([-1, 0], [0, -4]), _pair([1.8, 1.5])[0], name="stable"),
        linear(_pair([-1, 0], [0, 1]), _pair([1.8, 0.02])[0], name="unstable"),
        linear(_pair([0, -2], [2, 0]), _pair([1, 0])[0], name="rotation"),
        logistic(),
        seasonal(),
        tracking(),
    )
}


def problem(name: str) -> InitialValueProblem:
    """Return one of `PROBLEMS` by its name.

    Raises
    ------
    ValueError
        For a name that is not among them.
    """
    checks.one_of(PROBLEMS, problem=name)
    return PROBLEMS[name]
