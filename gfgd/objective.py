"""Objectives: scalar functions of a flat parameter vector, and their derivatives.

A point of parameter space is a tensor θ of shape ``(d,)``, or ``(..., d)`` for many points
at once. An :class:`Objective` holds no state and counts nothing: whoever calls it counts.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from gfgd import checks

Term = Callable[[Tensor], Tensor]


class Objective:
    """A twice differentiable function f(θ) = Σ_b term_b(θ), with derivatives by autograd.

    Parameters
    ----------
    *terms
        Functions that map θ of shape ``(..., d)`` to values of shape ``(...)``. Entry i of
        the result may depend on θ[i] only. Most objectives have one term. Several terms
        (chunks of a data set) are differentiated one after the other, so that peak memory
        is that of the largest term.
    dimension
        d, the number of parameters.

    Examples
    --------
    >>> bowl = Objective(lambda point: 0.5 * point.square().sum(-1), dimension=2)
    >>> bowl.gradient(torch.tensor([3.0, 4.0]))
    tensor([3., 4.])
    """

    def __init__(self, *terms: Term, dimension: int) -> None:
        if not terms:
            raise ValueError("terms: an objective needs at least one")
        if dimension < 1:
            raise ValueError(f"dimension = {dimension}: must be at least 1")
        self.terms = terms
        self.dimension = dimension

    def value(self, point: Tensor) -> Tensor:
        """Return f(θ), shape ``(...)``."""
        self._check(point)
        with torch.no_grad():
            return _total((term(point),) for term in self.terms)[0]

    def gradient(self, point: Tensor) -> Tensor:
        """Return ∇f(θ), shape ``(..., d)``."""
        return self.value_and_gradient(point)[1]

    def value_and_gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∇f(θ) for the cost of one gradient."""
        self._check(point)
        point = point.detach().requires_grad_()

        def contribution(term: Term) -> tuple[Tensor, ...]:
            value = term(point)
            return value.detach(), torch.autograd.grad(value.sum(), point)[0]

        with torch.enable_grad():
            value, gradient = _total(contribution(term) for term in self.terms)
        return value, gradient

    def hessian_vector_product(self, point: Tensor, vector: Tensor) -> Tensor:
        """Return ∇²f(θ) v, shape ``(..., d)``; θ and v broadcast against each other."""
        return self.gradient_and_hessian_vector_product(point, vector)[1]

    def gradient_and_hessian_vector_product(
        self, point: Tensor, vector: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ∇f(θ) and ∇²f(θ) v for the cost of one Hessian-vector product."""
        point, vector = self._paired(point, vector)

        def contribution(term: Term) -> tuple[Tensor, ...]:
            gradient = derivative(term(point), point)
            product = derivative((gradient * vector).sum(-1), point)
            return gradient.detach(), product.detach()

        with torch.enable_grad():
            gradient, product = _total(contribution(term) for term in self.terms)
        return gradient, product

    def third_derivative(self, point: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the vector D³f(θ)[u, v], shape ``(..., d)``: ∇_θ ⟨u, ∇²f(θ) v⟩."""
        point, first = self._paired(point, first)
        point, second = self._paired(point, second)

        def contribution(term: Term) -> tuple[Tensor, ...]:
            gradient = derivative(term(point), point)
            product = derivative((gradient * first).sum(-1), point)
            return (derivative((product * second).sum(-1), point).detach(),)

        with torch.enable_grad():
            return _total(contribution(term) for term in self.terms)[0]

    def hessian(self, point: Tensor) -> Tensor:
        """Return ∇²f(θ) in full, shape ``(d, d)``, for one θ of shape ``(d,)``.

        Costs d Hessian-vector products and d² numbers: for small d only.
        """
        self._check(point)
        if point.dim() != 1:
            raise ValueError(f"point has shape {tuple(point.shape)}: give one θ, shape (d,)")
        identity = torch.eye(self.dimension, dtype=point.dtype, device=point.device)
        rows = [self.hessian_vector_product(point, direction) for direction in identity]
        dense = torch.stack(rows)
        return (dense + dense.T) / 2

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        targets: Tensor,
    ) -> ModuleObjective:
        """Return f(θ) = loss(module_θ(inputs), targets) for any ``torch.nn.Module``.

        θ is the concatenation of the module's parameters that require a gradient, in the
        order of ``module.named_parameters()``; a parameter that is used twice (tied) counts
        once. The module's own parameters, flattened, are ``objective.start``. The module itself
        stays untouched. Its frozen parameters and its buffers are copied now, and the buffers
        again for every evaluation, so that no running statistic changes. Whether it is in
        training mode is its own affair: batch normalisation in training mode uses the
        statistics of `inputs`, and is a function of θ as it should be.

        The module computes in its own precision: θ may be float64 where the parameters are
        float32, and each is handed over rounded to its dtype. ``module.double()`` (and inputs
        to match) gives derivatives in float64.

        Parameters
        ----------
        module, loss
            `loss` maps the module's output and `targets` to one number, such as a function of
            ``torch.nn.functional``.
        inputs, targets
            All samples in one batch, on the module's device and in dtypes that it takes.

        Raises
        ------
        ValueError
            If the module has no parameter to train, or one that is neither float32 nor float64;
            if module and loss cannot be evaluated, do not return one number, broadcast the
            targets against outputs of another shape, or do not depend on θ; if they draw random
            numbers (dropout in training mode) or keep a state between evaluations, because
            then f is no function of θ.

        Notes
        -----
        What cannot be seen from a few evaluations is left to :func:`check_derivatives`: a
        gradient that is not that of f (``detach``, straight-through estimators,
        ``spectral_norm``), and second derivatives that PyTorch gets wrong (``weight_norm`` in
        version 2.13). In that version third derivatives are wrong as well for layer
        normalisation, and for batch normalisation in training mode. Attention runs on PyTorch's
        plain kernel, because its fused ones have no second derivative.
        """
        return ModuleObjective(module, loss, inputs, targets)

    def _check(self, point: Tensor) -> None:
        if point.shape[-1:] != (self.dimension,):
            raise ValueError(
                f"point has shape {tuple(point.shape)}: its last dimension must be "
                f"d = {self.dimension}, the number of parameters"
            )
        if not point.is_floating_point():
            raise ValueError(f"point has dtype {point.dtype}: must be float32 or float64")

    def _paired(self, point: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Broadcast θ against v, and let autograd follow θ."""
        self._check(point)
        self._check(vector)
        point, vector = torch.broadcast_tensors(point.detach(), vector.detach())
        return point.clone().requires_grad_(), vector


class ModuleObjective(Objective):
    """The objective of a ``torch.nn.Module``; made by :meth:`Objective.from_module`."""

    start: Tensor

    def __init__(
        self,
        module: torch.nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        targets: Tensor,
    ) -> None:
        trained = _trained(module)
        fixed = {n: p.detach().clone() for n, p in module.named_parameters() if n not in trained}
        buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
        shapes = [parameter.shape for parameter in trained.values()]
        dtypes = [parameter.dtype for parameter in trained.values()]

        def one(point: Tensor) -> Tensor:
            pieces = zip(trained, unflatten(point, shapes), dtypes, strict=True)
            weights = {name: piece.to(dtype) for name, piece, dtype in pieces}
            state = {**fixed, **{n: b.clone() for n, b in buffers.items()}, **weights}
            with sdpa_kernel(SDPBackend.MATH):
                return loss(torch.func.functional_call(module, state, (inputs,)), targets)

        def term(points: Tensor) -> Tensor:
            # One evaluation a point: a user's module need not know of a batch of parameters.
            flat = points.reshape(-1, points.shape[-1])
            return torch.stack([one(point) for point in flat]).reshape(points.shape[:-1])

        self.start = torch.cat([parameter.reshape(-1) for parameter in trained.values()])
        super().__init__(term, dimension=self.start.numel())
        given = {"the first parameter": next(iter(trained.values()))}
        _refuse_no_function(one, self.start, given | {"inputs": inputs, "targets": targets})


@dataclass(frozen=True)
class DerivativeErrors:
    """How far an objective's derivatives at θ are from what they should be, relative to their size.

    All three are maxima over random directions v with entries of size 1, and a small h:

    - `gradient`: |⟨∇f, v⟩ − (f(θ+hv) − f(θ−hv))/2h| / ‖∇f‖
    - `symmetry`: |⟨u, Hv⟩ − ⟨v, Hu⟩| / ‖Hv‖, u another such direction
    - `curvature`: ‖Hv − (∇f(θ+hv) − ∇f(θ−hv))/2h‖ / ‖Hv‖
    """

    gradient: float
    symmetry: float
    curvature: float


def check_derivatives(
    objective: Objective, point: Tensor, *, directions: int = 3, seed: int = 0
) -> DerivativeErrors:
    """Compare ∇f and H v with differences of f and ∇f, and H with its transpose, at one θ.

    A module's gradient is what its author wrote, which need not be that of its value (``detach``,
    straight-through estimators); `gradient` shows that. Second derivatives that are wrong show in
    `curvature`, and mostly in `symmetry` too. Kinks between θ ± hv (ReLU) spoil `curvature`, and
    hardly the other two. Costs two gradients and a Hessian-vector product for each direction.

    f must compute in float64; where it is smooth the errors then are about 1e-8.

    Parameters
    ----------
    objective, point
        f and θ, shape ``(d,)``.
    directions
        How many directions, at least 2.
    seed
        Of the directions.

    Raises
    ------
    ValueError
        If an argument is out of range, or θ is not of shape ``(d,)`` and float64.
    """
    checks.whole(2, directions=directions)
    if point.shape != (objective.dimension,) or point.dtype != torch.float64:
        raise ValueError(
            f"point has shape {tuple(point.shape)}, {point.dtype}: give one θ, shape (d,), float64"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(directions, objective.dimension, generator=generator, dtype=point.dtype)
    vectors = drawn.to(point.device)
    # The step that balances cubic truncation against rounding, relative to the size of θ.
    steps = 1e-5 * (1 + point.norm()) / vectors.norm(dim=-1, keepdim=True)
    value, gradient = zip(
        *(objective.value_and_gradient(point + h * vectors) for h in (steps, -steps)), strict=True
    )
    slopes = (value[0] - value[1]) / (2 * steps[:, 0])
    bends = (gradient[0] - gradient[1]) / (2 * steps)
    here = objective.gradient(point)
    products = objective.hessian_vector_product(point, vectors)
    size = products.norm(dim=-1).max()
    form = vectors @ products.T
    return DerivativeErrors(
        gradient=_relative((slopes - vectors @ here).abs().max(), here.norm()),
        symmetry=_relative((form - form.T).abs().max(), size),
        curvature=_relative((products - bends).norm(dim=-1).max(), size),
    )


def _relative(error: Tensor, size: Tensor) -> float:
    """Return error / size, where size may be 0."""
    return float(error / size) if size > 0 else float(error)


#: Operations whose first derivative jumps, by the beginning of their names in autograd's graph.
KINKED = (
    *("Abs", "AdaptiveMaxPool", "Amax", "Amin", "Clamp", "FractionalMaxPool", "Hard", "Kthvalue"),
    *("LeakyRelu", "Max", "Median", "Min", "Multilabel", "MultiMargin", "Nanmedian", "Prelu"),
    *("Relu", "Rrelu", "Sort", "Softshrink", "Threshold", "Topk"),
)


def kinked_operations(objective: Objective, point: Tensor) -> tuple[str, ...]:
    """Return the operations with kinks, such as ``Relu``, that f(θ) is computed with.

    They are looked for in autograd's graph, so that it does not matter how they are written. An
    empty result is no proof of smoothness: ``torch.where`` can join anything, a norm has its kink
    at 0, and ELU, SELU and Huber's loss are not looked for, of which only SELU has a kink.
    """
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        waiting = [term(point).grad_fn for term in objective.terms]
    seen, found = set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [child for child, _ in node.next_functions]
        name = node.name().removesuffix("Backward0").removesuffix("Backward1")
        found |= {name} if name.startswith(KINKED) else set()
    return tuple(sorted(found))


def unflatten(point: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Cut θ of shape ``(..., d)`` into tensors of shapes ``(..., *shape)``, in order."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    pieces = point.split(sizes, dim=-1)
    return [
        piece.reshape(*point.shape[:-1], *shape)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


def derivative(values: Tensor, point: Tensor) -> Tensor:
    """Return ∇_θ Σ values, of θ's shape, itself differentiable; zero where autograd sees no path.

    `values` were computed from `point`, which requires a gradient.
    """
    if not values.requires_grad:  # locally constant or linear in θ
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(
        values.sum(), point, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient


def _total(contributions: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Sum tuples of tensors entry by entry, as they come: only the sums and one tuple are held."""

    def added(sums: tuple[Tensor, ...], one: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(a + b for a, b in zip(sums, one, strict=True))

    return functools.reduce(added, contributions)


def _trained(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return the module's parameters that require a gradient, by name, detached."""
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"module: {name} has no shape yet; call module(inputs) once first")
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"module: {name} has dtype {parameter.dtype}, must be float32 or float64; "
                "module.double() turns half precision into float64"
            )
    trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
    if not any(parameter.numel() for parameter in trained.values()):
        raise ValueError("module: has no parameter that requires a gradient")
    places = sorted({str(parameter.device) for parameter in trained.values()})
    if len(places) > 1:
        raise ValueError(f"module: has parameters on {' and '.join(places)}; move it to one device")
    return trained


def _refuse_no_function(
    one: Callable[[Tensor], Tensor], start: Tensor, given: dict[str, Tensor]
) -> None:
    """Evaluate f(θ) twice, and refuse what is not one number that depends on θ alone."""
    point = start.clone().requires_grad_()
    devices = [start.device] if start.is_cuda else []
    with torch.enable_grad(), torch.random.fork_rng(devices):
        before = _random_states(devices)
        first = _evaluated(one, point, given)
        after = _random_states(devices)
        drew = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        second = _evaluated(one, point, given)
    if drew:
        raise ValueError(
            "module: draws random numbers (dropout in training mode?), so that the loss is no "
            "function of the parameters; set the dropout probability to 0, or call module.eval(), "
            "which also makes batch normalisation use its running statistics"
        )
    if not isinstance(first, Tensor) or first.shape != ():
        shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ValueError(f"loss: returned shape {shape}, must return one number")
    if not first.requires_grad:
        raise ValueError(
            "module: the loss does not depend on the parameters as autograd sees it; does the "
            "module compute with detach, no_grad or numpy, or with tensors that are no parameters?"
        )
    # Rounding may differ from call to call on a GPU.
    tolerance = math.sqrt(torch.finfo(first.dtype).eps)
    if abs(first.item() - second.item()) > tolerance * abs(first.item()):
        raise ValueError(
            f"module: two evaluations at the same parameters gave {first.item():g} and "
            f"{second.item():g}; it must keep no state between calls, outside its buffers, and "
            "use no random numbers"
        )


def _evaluated(one: Callable[[Tensor], Tensor], point: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Evaluate a user's module and loss; say what they were given if that fails."""
    try:
        with warnings.catch_warnings():
            # PyTorch only warns where a loss broadcasts (N, 1) against (N,) to (N, N).
            warnings.filterwarnings("error", message="Using a target size")
            return one(point)
    except Exception as error:  # a user's module may raise anything
        known = ", ".join(
            f"{name} of shape {tuple(x.shape)}, {x.dtype}, on {x.device}"
            for name, x in given.items()
            if isinstance(x, Tensor)
        )
        raise ValueError(
            f"module, loss: evaluating them failed: {type(error).__name__}: {error}; they were "
            f"given {known}"
        ) from error


def _random_states(devices: Sequence[torch.device]) -> list[Tensor]:
    """Return the states of torch's generators, the CPU's and those of GPUs."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
