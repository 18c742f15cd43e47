"""Modified flows: differential equations that follow gradient descent at larger step sizes.

Gradient flow θ' = −∇f is at a distance O(η) from gradient descent (GD). Each flow of this module
has terms in the step size η besides, taken from the backward error analysis of GD, and is at a
distance O(η²) or O(η³). All of them are rows of one table, `MODIFIED_FLOWS`: a field, its order,
its cost and its source; one function integrates them all.

The second half bounds what is left: the defect of a curve under GD's map, and the distance from
GD that follows from it.

Below g = ∇f(θ), H = ∇²f(θ), and D³f[u, v] is the vector ∇⟨u, ∇²f v⟩.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from gfgd import checks
from gfgd.flow import FlowStopError, Solution, integrate
from gfgd.objective import Objective, Point, Term, derivative
from gfgd.trajectory import COMPLETED, Trajectory, starting_point

#: Largest d for which `principal_flow` forms the Hessian, at d products an evaluation.
LARGEST_DENSE = 1000

#: What the velocity of `second_order_flow` may be called at the start.
VELOCITIES = ("slow", "gradient", "rest")


class Accuracy(TypedDict, total=False):
    """Options that are handed on to :func:`gfgd.integrate`, where they are described.

    Unlike there `estimate_error` is True unless it is given. `max_evaluations` counts
    evaluations of the field; see `ModifiedFlow` for what one costs.
    """

    method: str
    rtol: float
    atol: float
    estimate_error: bool
    max_evaluations: int | None


@dataclass(frozen=True)
class ModifiedFlow:
    """A row of the table: y' = field(objective, y, η).

    Attributes
    ----------
    field
        Maps f, the state and η to the state's derivative. The state is θ, shape ``(..., d)``;
        for `second_order_flow` it is (θ, θ') and for `principal_flow` (Re θ, Im θ), each of shape
        ``(..., 2d)``.
    formula
        θ' in words and symbols.
    order
        p: on a smooth objective and over a fixed time the distance from GD is O(η^p).
    source
        Where it comes from.
    gradients, hessian_vector_products, third_derivatives, hessians
        What one evaluation of the field costs. A Hessian costs d products.
    """

    field: Callable[[Objective, Tensor, float], Tensor]
    formula: str
    order: int
    source: str
    gradients: int = 1
    hessian_vector_products: int = 0
    third_derivatives: int = 0
    hessians: int = 0

    @property
    def cost(self) -> str:
        """What one evaluation of the field costs, in words."""
        parts = {
            "gradient": self.gradients,
            "Hessian-vector product": self.hessian_vector_products,
            "third derivative": self.third_derivatives,
            "Hessian": self.hessians,
        }
        return ", ".join(f"{n} {part}{'s' if n > 1 else ''}" for part, n in parts.items() if n)

    def counts(self, evaluations: int, dimension: int) -> dict[str, int]:
        """Return what so many evaluations of the field cost for d parameters."""
        products = self.hessian_vector_products + self.hessians * dimension
        return {
            "gradients": self.gradients * evaluations,
            "hessian_vector_products": products * evaluations,
            "third_derivatives": self.third_derivatives * evaluations,
        }


# The fields


def _gradient_field(objective: Objective, point: Tensor, step_size: float) -> Tensor:
    return -objective.gradient(point)


def _barrett_dherin_field(objective: Objective, point: Tensor, step_size: float) -> Tensor:
    gradient, hessian = objective.gradient_and_hessian_at(point)
    return -gradient - step_size / 2 * hessian(gradient)


def _next_order_field(objective: Objective, point: Tensor, step_size: float) -> Tensor:
    gradient, hessian = objective.gradient_and_hessian_at(point)
    once = hessian(gradient)
    twice = hessian(once)
    third = objective.third_derivative(point, gradient, gradient)
    return -gradient - step_size / 2 * once - step_size**2 * (twice / 3 + third / 12)


def _principal_field(objective: Objective, state: Tensor, step_size: float) -> Tensor:
    """Return the real and the imaginary part of V φ(ηΛ) V⁻¹ ∇f, φ(x) = log(1 − x)/x."""
    real, imaginary = state.split(objective.dimension, dim=-1)
    if imaginary.any():
        point = torch.complex(real, imaginary)
        gradient, hessian = _analytic_derivatives(objective, point)
        eigenvalues, vectors = torch.linalg.eig(hessian)  # symmetric, and not Hermitian
        coordinates = torch.linalg.solve(vectors, gradient)
    else:  # a real point: any objective will do, and the eigenvectors are orthonormal
        hessian, gradient = objective.hessian(real), objective.gradient(real)
        if not hessian.isfinite().all():
            raise FlowStopError("the Hessian is not finite there")
        eigenvalues, vectors = (part.to(torch.complex128) for part in torch.linalg.eigh(hessian))
        coordinates = vectors.mT @ gradient.to(vectors)
    scaled = step_size * eigenvalues
    if ((scaled - 1).abs() < 1e-12).any():
        raise FlowStopError("ηλ = 1 there, where log(1 − ηλ) is infinite")
    small = scaled.abs() < 1e-8  # there the quotient is 0/0, and −1 − ηλ/2 to rounding
    divisor = torch.where(small, torch.ones_like(scaled), scaled)
    # Cut along the negative imaginary axis: the principal branch jumps from iπ to −iπ at the
    # negative numbers, where 1 − ηλ is, and the flow would be torn between the two.
    logarithm = torch.log(-1j * (1 - scaled)) + 0.5j * math.pi
    factors = torch.where(small, -1 - scaled / 2, logarithm / divisor)
    velocity = vectors @ (factors * coordinates)
    return torch.cat([velocity.real, velocity.imag]).to(state)


def _analytic_derivatives(objective: Objective, point: Tensor) -> tuple[Tensor, Tensor]:
    """Return ∇f and ∇²f, (d,) and (d, d), of the analytic continuation of f at a complex θ.

    PyTorch returns ∂u/∂x + i ∂u/∂y for u = Re f, the conjugate of f'. Row j of the Hessian comes
    from copy j of the point.
    """
    copies = point.detach().expand(objective.dimension, -1).clone().requires_grad_()
    with torch.enable_grad():
        try:
            value = torch.stack([term(copies) for term in objective.terms]).sum(0)
            gradient = derivative(value.real, copies).conj()
            other = derivative(value.imag, copies).conj()
            hessian = derivative(gradient.diagonal().real, copies).conj().detach()
        except RuntimeError as cause:  # PyTorch: an operation that takes no complex numbers
            raise FlowStopError("θ turns complex there, and f takes no complex numbers") from cause
    if not torch.allclose(other, -1j * gradient, rtol=1e-6, atol=1e-9):
        # The equations of Cauchy and Riemann, for Re f and Im f.
        raise FlowStopError("θ turns complex there, and f is not analytic")
    return gradient[0].detach(), (hessian + hessian.T) / 2


def _second_order_field(objective: Objective, state: Tensor, step_size: float) -> Tensor:
    point, velocity = state.split(objective.dimension, dim=-1)
    acceleration = -2 / step_size * (velocity + objective.gradient(point))
    return torch.cat([velocity, acceleration], dim=-1)


def _stochastic_field(objective: Objective, point: Tensor, step_size: float) -> Tensor:
    assert isinstance(objective, _Minibatches)
    total = torch.zeros_like(point)
    for part in objective.parts:
        gradient, hessian = part.gradient_and_hessian_at(point)
        total -= gradient + step_size / 2 * hessian(gradient)
    return total / len(objective.parts)


#: Every flow of the book that models GD, by name, the plain one first.
MODIFIED_FLOWS: Mapping[str, ModifiedFlow] = MappingProxyType(
    {
        "gradient": ModifiedFlow(
            _gradient_field,
            formula="θ' = −∇f",
            order=1,
            source="Elkabetz & Cohen 2021",
        ),
        "barrett_dherin": ModifiedFlow(
            _barrett_dherin_field,
            formula="θ' = −∇f − (η/2) H∇f",
            order=2,
            source="Barrett & Dherin 2021",
            hessian_vector_products=1,
        ),
        "second_order": ModifiedFlow(
            _second_order_field,
            formula="(η/2) θ'' + θ' = −∇f",
            order=2,
            source="Kunin et al. 2021",
        ),
        "next_order": ModifiedFlow(
            _next_order_field,
            formula="θ' = −∇f − (η/2) H∇f − η² (⅓ H²∇f + (1/12) D³f[∇f, ∇f])",
            order=3,
            source="Rosca et al. 2023; Miyagawa 2022",
            hessian_vector_products=2,
            third_derivatives=1,
        ),
        "principal": ModifiedFlow(
            _principal_field,
            formula="θ' = H⁻¹ log(1 − ηH)/η ∇f",
            order=2,  # exact where the third derivative vanishes
            source="Rosca et al. 2023",
            hessians=1,
        ),
        "stochastic": ModifiedFlow(
            _stochastic_field,
            formula="θ' = −∇f − (η/2m) Σ_b H_b∇f_b",
            order=2,
            source="Smith et al. 2021",
            hessian_vector_products=1,
        ),
    }
)


# The flows


def unmodified_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate θ' = −g, gradient flow, with the arguments of the others: distance O(η) from GD.

    An evaluation costs a gradient. The flow is the same for every η. Arguments, result and errors
    are those of :func:`barrett_dherin_flow`; :func:`gfgd.gradient_flow` is for its own sake.
    """
    return _follow(MODIFIED_FLOWS["gradient"], objective, start, times, step_size, accuracy)


def barrett_dherin_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate θ' = −g − (η/2) Hg = −∇(f + (η/4)‖∇f‖²): distance O(η²) from GD.

    An evaluation costs a gradient and a Hessian-vector product.

    Parameters
    ----------
    objective
        f, three times differentiable.
    start
        θ(times[0]), shape ``(d,)`` or ``(..., d)``.
    times
        Increasing, shape ``(T,)``. GD's iterate k stands at time kη.
    step_size
        η > 0 of the GD that is modelled, in units of time; not a step of the integration.
    **accuracy
        See :class:`Accuracy`.

    Returns
    -------
    Trajectory
        `losses` are f, not the modified objective. `counts` has ``gradients``,
        ``hessian_vector_products`` and ``third_derivatives``, the same with ``estimate_``
        in front, ``evaluations`` of the field and the integrator's steps. Where the run stops early
        `status` says at which time, why, and what to try.

    Raises
    ------
    ValueError
        If η ≤ 0, an argument of the integration is out of range or `start` is not finite.

    Notes
    -----
    Barrett & Dherin 2021. Where f is bounded below so is f + (η/4)‖∇f‖², which
    never increases along this flow: it cannot diverge as GD does at large η.
    """
    flow = MODIFIED_FLOWS["barrett_dherin"]
    return _follow(flow, objective, start, times, step_size, accuracy)


def next_order_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate θ' = −[g + (η/2) Hg + η²(⅓ H²g + (1/12) D³f[g, g])]: distance O(η³) from GD.

    An evaluation costs a gradient, two Hessian-vector products and a directional third
    derivative. Arguments, result and errors are those of :func:`barrett_dherin_flow`; f is four
    times differentiable.

    Notes
    -----
    The next term of the backward error analysis of Euler's method (Hairer, Lubich & Wanner
    2006, section IX.1); for GD in Rosca et al. 2023 and Miyagawa 2022. Unlike the order before
    it need not be a gradient: the η² term is ∇⟨g, Hg⟩/12 + H²g/6, and H²g is not one in general.
    """
    return _follow(MODIFIED_FLOWS["next_order"], objective, start, times, step_size, accuracy)


@dataclass(frozen=True, eq=False)
class PrincipalFlow:
    """The principal flow at T recorded times: a curve in C^d, of which f sees the real part.

    Attributes
    ----------
    path
        Re θ(t_i), with f there, as a :class:`Trajectory`: what is compared with GD.
    imaginary
        Im θ(t_i), shape ``(T, d)``; 0 as long as no ηλ has passed 1.
    """

    path: Trajectory
    imaginary: Tensor

    @property
    def times(self) -> Tensor:
        """The recorded times, shape ``(T,)``."""
        return self.path.times

    @property
    def points(self) -> Tensor:
        """θ(t_i), complex, shape ``(T, d)``."""
        return torch.complex(self.path.points, self.imaginary)

    @property
    def status(self) -> str:
        """``"completed"``, or where the flow stopped, why, and what can be done."""
        return self.path.status

    @property
    def completed(self) -> bool:
        """Whether the flow reached its last time."""
        return self.path.completed


def principal_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    **accuracy: Unpack[Accuracy],
) -> PrincipalFlow:
    """Integrate θ' = H⁻¹ log(1 − ηH)/η g in C^d, the flow that is exact for GD on quadratics.

    In the eigenbasis of H the component along an eigenvector of eigenvalue λ is multiplied by
    log(1 − ηλ)/(ηλ), which is −1 at λ = 0. For ηλ > 1 the logarithm is log|1 − ηλ| + iπ, and the
    flow leaves R^d: it turns by half a circle in a time η, which is the change of sign in a step of
    GD, and grows where GD does, for ηλ > 2. At the times kη it is real again on a quadratic.
    On other objectives it lacks all terms with D³f, so that its distance from GD is O(η²) there.

    An evaluation costs a gradient, d Hessian-vector products and a dense eigen-decomposition, for
    one θ of shape ``(d,)``, d ≤ `LARGEST_DENSE`. The arguments are those of
    :func:`barrett_dherin_flow`.

    Returns
    -------
    PrincipalFlow
        Stopped early, besides the reasons there, where an eigenvalue is at ηλ = 1 exactly, or
        where θ is complex and f cannot be continued: it must be built of analytic functions
        (sums, products, exp, tanh, …; no absolute values, ReLU or maxima).

    Raises
    ------
    ValueError
        Also for a batch of starts and for larger d.

    Notes
    -----
    Rosca et al. 2023, definition of the principal flow. The logarithm is continuous around the
    negative numbers, its imaginary part between −π/2 and 3π/2.
    """
    start = starting_point(start)
    if start.dim() != 1:
        raise ValueError(f"start has shape {tuple(start.shape)}: give one θ, shape (d,)")
    if objective.dimension > LARGEST_DENSE:
        raise ValueError(
            f"objective: has d = {objective.dimension} parameters, and the principal flow "
            f"decomposes its Hessian, for d ≤ {LARGEST_DENSE} only; use next_order_flow"
        )
    both = torch.cat([start, torch.zeros_like(start)])
    run = _follow(MODIFIED_FLOWS["principal"], objective, both, times, step_size, accuracy)
    real, imaginary = run.points.split(objective.dimension, dim=-1)
    return PrincipalFlow(replace(run, points=real.clone()), imaginary.clone())


def second_order_flow(
    objective: Objective,
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    velocity: str | Tensor = "slow",
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate (η/2) θ'' + θ' = −g as it stands.

    Its solutions approach a slow motion θ' = −g − (η/2) Hg + O(η²) at the rate e^{−2t/η}, and the
    transient displaces them by (η/2)(θ'(0) − slow velocity). So the velocity at the start decides:

    * ``"slow"``, θ'(0) = −g − (η/2) Hg: displaced by O(η³), distance O(η²) from GD;
    * ``"gradient"``, θ'(0) = −g: displaced by O(η²), distance O(η²) with another constant;
    * ``"rest"``, θ'(0) = 0, or anything else: displaced by O(η), distance O(η), no better than
      gradient flow.

    An evaluation costs a gradient; ``"slow"`` costs a Hessian-vector product more, once. But the
    equation is stiff: an explicit method needs steps of at most about 1.6η for its stability
    (dopri5), which makes a run at least three times as many gradients as the GD that is modelled.
    It is integrated for its own sake, not to save.

    Parameters
    ----------
    velocity
        θ'(times[0]): one of `VELOCITIES`, or a tensor of the shape of `start`.

    Returns
    -------
    Trajectory
        `error` estimates the error of (θ, θ') together. Other arguments and results are those of
        :func:`barrett_dherin_flow`.

    Raises
    ------
    ValueError
        Also for an unknown or ill-shaped velocity.

    Notes
    -----
    The talk's equation; Kunin et al. 2021.
    """
    checks.positive(step_size=step_size)
    start = starting_point(start)
    moving, cost = _initial_velocity(objective, start, step_size, velocity)
    run = _follow(
        MODIFIED_FLOWS["second_order"],
        objective,
        torch.cat([start, moving], dim=-1),
        times,
        step_size,
        accuracy,
    )
    counts = run.counts | {name: run.counts[name] + count for name, count in cost.items()}
    return replace(run, points=run.points[..., : objective.dimension].clone(), counts=counts)


def stochastic_flow(
    objectives: Sequence[Objective],
    start: Point,
    times: Tensor,
    *,
    step_size: float,
    **accuracy: Unpack[Accuracy],
) -> Trajectory:
    """Integrate θ' = −∇(f + (η/4m) Σ_b ‖∇f_b‖²), f = (1/m) Σ_b f_b: the mean of SGD.

    An epoch of stochastic gradient descent (SGD) takes m steps θ ← θ − η∇f_b(θ), one for each
    minibatch b in random order, and so lasts a time mη. Averaged over the m! orders, its result
    is at a distance O(m³η³) from this flow after one epoch, and O(η²) over a fixed time.

    An evaluation costs m gradients and m Hessian-vector products, those of the minibatches.

    Parameters
    ----------
    objectives
        f_1, …, f_m: the mean loss of each minibatch, all of one dimension d.

    Returns
    -------
    Trajectory
        `losses` are f. Other arguments, results and errors are those of
        :func:`barrett_dherin_flow`.

    Notes
    -----
    Smith et al. 2021. With m = 1 it is the flow of Barrett & Dherin.
    """
    minibatches = _Minibatches(objectives)
    flow = MODIFIED_FLOWS["stochastic"]
    size = len(minibatches.parts)
    return _follow(
        replace(flow, gradients=size, hessian_vector_products=size),
        minibatches,
        start,
        times,
        step_size,
        accuracy,
    )


def modified_objective(objective: Objective, step_size: float) -> Objective:
    """Return f + (η/4)‖∇f‖² as an objective, whose gradient flow is `barrett_dherin_flow`.

    GD with step size η stays nearer to its flow than to the flow of f: in this sense GD
    regularises implicitly (Barrett & Dherin 2021). A gradient of it costs about a Hessian-vector
    product of f, with all terms of f held in memory at once.

    Parameters
    ----------
    objective
        f.
    step_size
        η ≥ 0.

    Raises
    ------
    ValueError
        If η < 0, or f is an objective of a module whose derivatives are wrong: here those of order
        2, and when its Hessian is first used those of order 3. (Those of order 4 are not looked
        at.)

    Examples
    --------
    >>> bowl = Objective(lambda point: 0.5 * point.square().sum(-1), dimension=2)
    >>> modified_objective(bowl, 0.2).gradient(torch.tensor([3.0, 4.0]))
    tensor([3.3000, 4.4000])
    """
    checks.non_negative(step_size=step_size)
    return _Regularised(objective, step_size)


# How far a curve is from GD


def one_step_defects(objective: Objective, points: Tensor, step_size: float) -> Tensor:
    """Return d_k = ϑ_{k+1} − ϑ_k + η∇f(ϑ_k), by how much a curve misses GD's map in a step.

    Parameters
    ----------
    objective
        f.
    points
        ϑ_0, …, ϑ_K at the times 0, η, …, Kη, shape ``(K + 1, ..., d)``, K ≥ 1.
    step_size
        η > 0.

    Returns
    -------
    Tensor
        Shape ``(K, ..., d)``: O(η²) for gradient flow, O(η³) for flows of order 2, O(η⁴) for
        those of order 3. For computed points it includes what the integration missed.
    """
    checks.positive(step_size=step_size)
    checks.at_least(2, points=len(points))
    return points.diff(dim=0) + step_size * objective.gradient(points[:-1])


def defect_constants(objective: Objective, points: Tensor, step_size: float) -> Tensor:
    """Return c = ‖D³f[g, w] + H²w‖/12 + ‖H²g‖/4 with w = g + (η/2) Hg, shape ``(...)``.

    Along the flow of Barrett & Dherin d_k = ½∫₀^η s(η − s)(D³f[g, w] + H²w) ds
    + (η/2)∫₀^η (η − s) H²g ds at the time kη + s, so that ‖d_k‖ ≤ η³ sup c over the step.

    Parameters
    ----------
    objective, points, step_size
        f, θ of shape ``(..., d)`` and η > 0.
    """
    checks.positive(step_size=step_size)
    product = objective.hessian_vector_product
    gradient = objective.gradient(points)
    once = product(points, gradient)
    velocity = gradient + step_size / 2 * once
    third = objective.third_derivative(points, gradient, velocity)
    turning = third + product(points, product(points, velocity))
    return turning.norm(dim=-1) / 12 + product(points, once).norm(dim=-1) / 4


def tracking_bound(
    step_size: float,
    defects: Tensor,
    curvature: Callable[[int, float], tuple[float, float]],
) -> Tensor:
    """Return E_{k+1} = max(1 − ηλ_k, ηΛ_k − 1) E_k + ‖d_k‖, E_0 = 0: a bound on ‖θ_k − ϑ_k‖.

    For GD θ_k and any points ϑ_k from the same start. A step of GD turns their difference e_k
    into (I − ηH̄) e_k − d_k, with H̄ an average of ∇²f over the segment between them, which lies
    in the ball of radius E_k around ϑ_k.

    Parameters
    ----------
    step_size
        η > 0.
    defects
        ‖d_k‖ or upper bounds on it, shape ``(K,)``.
    curvature
        Maps k and a radius to λ_k ≤ Λ_k, bounds on the eigenvalues of ∇²f in the ball of that
        radius around ϑ_k.

    Returns
    -------
    Tensor
        E_0, …, E_K, shape ``(K + 1,)``, float64; infinite from where it overflows.

    Raises
    ------
    ValueError
        For a negative defect, or λ_k > Λ_k.
    """
    checks.positive(step_size=step_size)
    if defects.dim() != 1 or not (defects >= 0).all():
        raise ValueError(f"defects of shape {tuple(defects.shape)}: give norms ≥ 0, shape (K,)")
    bounds = [0.0]
    for k, defect in enumerate(defects.tolist()):
        low, high = curvature(k, bounds[-1]) if bounds[-1] < float("inf") else (0.0, 0.0)
        if low > high:
            raise ValueError(f"curvature: λ = {low:g} > Λ = {high:g} at k = {k}")
        bounds.append(max(1 - step_size * low, step_size * high - 1) * bounds[-1] + defect)
    return torch.tensor(bounds, dtype=torch.float64)


# How they are integrated


def _follow(
    flow: ModifiedFlow,
    objective: Objective,
    state: Point,
    times: Tensor,
    step_size: float,
    accuracy: Accuracy,
) -> Trajectory:
    """Integrate a row of the table from a state, and say what it cost."""
    checks.positive(step_size=step_size)
    options: Accuracy = {"estimate_error": True, **accuracy}

    def field(_: float, now: Tensor) -> Tensor:
        velocity = flow.field(objective, now, step_size)
        if not velocity.isfinite().all():
            raise FlowStopError("the field is not finite there")
        return velocity

    solution = integrate(field, state, times, **options)
    counts = dict(solution.counts)
    counts |= flow.counts(counts["evaluations"], objective.dimension)
    if "estimate_evaluations" in counts:
        again = flow.counts(counts["estimate_evaluations"], objective.dimension)
        counts |= {f"estimate_{name}": count for name, count in again.items()}
    places = solution.states[..., : objective.dimension]
    return Trajectory(
        times=solution.times,
        points=solution.states,
        losses=torch.stack([objective.value(place) for place in places]),
        counts=counts,
        status=_with_remedy(solution, flow, step_size),
        error=solution.error,
        error_doubt=solution.error_doubt,
    )


def _with_remedy(solution: Solution, flow: ModifiedFlow, step_size: float) -> str:
    """Add to the place and the cause of a stop which flow it was, and what to try."""
    if solution.status == COMPLETED:
        return COMPLETED
    remedy = "" if solution.spent else "; a smaller step size may help, too"
    return f"{solution.status}{remedy} ({flow.formula}, η = {step_size:g})"


def _initial_velocity(
    objective: Objective, start: Tensor, step_size: float, velocity: str | Tensor
) -> tuple[Tensor, dict[str, int]]:
    """Return θ'(0), and what it cost."""
    if isinstance(velocity, Tensor):
        if velocity.shape != start.shape or not velocity.isfinite().all():
            raise ValueError(
                f"velocity has shape {tuple(velocity.shape)}: give finite numbers of the shape of "
                f"start, {tuple(start.shape)}"
            )
        return velocity.to(start), {}
    checks.one_of(VELOCITIES, velocity=velocity)
    if velocity == "rest":
        return torch.zeros_like(start), {}
    flow = MODIFIED_FLOWS["gradient" if velocity == "gradient" else "barrett_dherin"]
    return flow.field(objective, start, step_size), flow.counts(1, objective.dimension)


class _Minibatches(Objective):
    """f = (1/m) Σ_b f_b, and its parts f_b."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.parts = list(objectives)
        if not self.parts:
            raise ValueError("objectives: give at least one minibatch")
        dimensions = sorted({part.dimension for part in self.parts})
        if len(dimensions) > 1:
            raise ValueError(f"objectives: have dimensions {dimensions}, must have the same one")
        terms = [self._share(term) for part in self.parts for term in part.terms]
        super().__init__(*terms, dimension=dimensions[0])

    def _share(self, term: Term) -> Term:
        return lambda point: term(point) / len(self.parts)


class _Regularised(Objective):
    """f + (η/4)‖∇f‖², whose derivatives of order n contain those of f of order n + 1."""

    def __init__(self, objective: Objective, step_size: float) -> None:
        self.unregularised = objective
        self.require_derivatives(1)

        def term(point: Tensor) -> Tensor:
            with torch.enable_grad():  # the value needs ∇f even where nobody differentiates it
                tracked = point if point.requires_grad else point.detach().requires_grad_()
                value = torch.stack([part(tracked) for part in objective.terms]).sum(0)
                gradient = derivative(value, tracked)
                total = value + step_size / 4 * gradient.square().sum(-1)
            return total if point.requires_grad else total.detach()

        super().__init__(term, dimension=objective.dimension)

    def require_derivatives(self, order: int) -> None:
        """Raise ``ValueError`` if those of f of the next order are wrong, up to the third."""
        self.unregularised.require_derivatives(min(order + 1, 3))
