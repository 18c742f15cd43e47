"""Objectives: scalar functions of a flat parameter vector, and their derivatives.

A point of parameter space is a tensor θ of shape ``(d,)``, or ``(..., d)`` for many points
at once. An :class:`Objective` holds no state and counts nothing: whoever calls it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

    from gfgd.modules import ModuleObjective

Term = Callable[[Tensor], Tensor]
Point = Tensor | ArrayLike
Inputs = Tensor | tuple[object, ...] | Mapping[str, object]


class TermSum:
    """Σ_b over the terms of an objective: the one place where a loss is summed over its data.

    Where the data lie in several processes, :mod:`gfgd.sharding` adds up theirs.

    Attributes
    ----------
    terms
        The terms, which can be gone through again and again.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        self.terms = terms

    def __call__(self, contribution: Callable[[Term], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return Σ_b contribution(term_b), entry by entry of the tuples.

        Only the sums and what one term needs are held: each term is let go before the next one
        comes, which may read its batch of data only then.
        """
        sums: tuple[Tensor, ...] | None = None
        for term in self.terms:
            one = contribution(term)
            sums = one if sums is None else tuple(a + b for a, b in zip(sums, one, strict=True))
            del term, one
        assert sums is not None  # whoever made the terms has seen that there are some
        return sums


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
        self.total = TermSum(terms)
        self.dimension = dimension

    @property
    def terms(self) -> Iterable[Term]:
        """The terms, whose sum f is; where data come in batches, going through them reads these."""
        return self.total.terms

    def value(self, point: Point) -> Tensor:
        """Return f(θ), shape ``(...)``."""
        point = self._check(point)
        with torch.no_grad():
            return self.total(lambda term: (term(point),))[0]

    def gradient(self, point: Point) -> Tensor:
        """Return ∇f(θ), shape ``(..., d)``."""
        return self.value_and_gradient(point)[1]

    def value_and_gradient(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∇f(θ) for the cost of one gradient."""
        point = self._check(point).detach().requires_grad_()

        def contribution(term: Term) -> tuple[Tensor, ...]:
            value = term(point)
            return value.detach(), torch.autograd.grad(value.sum(), point)[0]

        with torch.enable_grad():
            value, gradient = self.total(contribution)
        return value, gradient

    def hessian_vector_product(self, point: Point, vector: Point) -> Tensor:
        """Return ∇²f(θ) v, shape ``(..., d)``; θ and v broadcast against each other."""
        return self.gradient_and_hessian_vector_product(point, vector)[1]

    def gradient_and_hessian_vector_product(
        self, point: Point, vector: Point
    ) -> tuple[Tensor, Tensor]:
        """Return ∇f(θ) and ∇²f(θ) v for the cost of one Hessian-vector product."""
        self.require_derivatives(2)
        point, vector = self._paired(point, vector)

        def contribution(term: Term) -> tuple[Tensor, ...]:
            gradient = derivative(term(point), point)
            product = derivative((gradient * vector).sum(-1), point, again=False)
            return gradient.detach(), product

        with torch.enable_grad():
            gradient, product = self.total(contribution)
        return gradient, product

    def hessian_at(self, point: Point) -> Callable[[Point], Tensor]:
        """Return the map v ↦ ∇²f(θ) v for many products at one θ, as `hessian_vector_product`.

        Where f has one term, which then holds all data, the graph of ∇f(θ) is kept as long as the
        map is: a product is one differentiation of it, a quarter to a half of the cost.
        """
        graph = self._gradient_graph(point)
        return graph.product if graph else partial(self.hessian_vector_product, point)

    def gradient_and_hessian_at(self, point: Point) -> tuple[Tensor, Callable[[Point], Tensor]]:
        """Return ∇f(θ), shape ``(..., d)``, and the map v ↦ ∇²f(θ) v of `hessian_at`.

        For vectors that depend on ∇f(θ). Where the graph of ∇f(θ) is kept, ∇f(θ) costs nothing
        beside the first product.
        """
        graph = self._gradient_graph(point)
        if graph is None:
            return self.gradient(point), partial(self.hessian_vector_product, point)
        return graph.gradient.detach(), graph.product

    def third_derivative(self, point: Point, first: Point, second: Point) -> Tensor:
        """Return the vector D³f(θ)[u, v], shape ``(..., d)``: ∇_θ ⟨u, ∇²f(θ) v⟩."""
        self.require_derivatives(3)
        point, first = self._paired(point, first)
        point, second = self._paired(point, second)

        def contribution(term: Term) -> tuple[Tensor, ...]:
            gradient = derivative(term(point), point)
            product = derivative((gradient * first).sum(-1), point)
            return (derivative((product * second).sum(-1), point, again=False),)

        with torch.enable_grad():
            return self.total(contribution)[0]

    def hessian(self, point: Point) -> Tensor:
        """Return ∇²f(θ) in full, shape ``(..., d, d)``.

        Costs d Hessian-vector products and d² numbers for each θ: for small d only.
        """
        point = self._check(point)
        identity = torch.eye(self.dimension, dtype=point.dtype, device=point.device)
        product = self.hessian_at(point)
        rows = [product(direction) for direction in identity]
        dense = torch.stack(rows, dim=-2)
        return (dense + dense.mT) / 2

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        loss: Callable[..., Tensor],
        inputs: Inputs | Dataset | DataLoader,
        targets: object = None,
        *,
        checked: bool = True,
    ) -> ModuleObjective:
        """Return f(θ) = loss(module_θ(inputs), targets) for any ``torch.nn.Module``.

        θ is the concatenation of the module's parameters that require a gradient, in the
        order of ``module.named_parameters()``; a parameter that is used twice (tied) counts
        once. The module's own parameters, flattened, are ``objective.start``;
        :func:`gfgd.modules.load_into` puts a θ back. The module itself
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
        inputs
            All samples in one batch, on the module's device and in dtypes that it takes: a tensor,
            a tuple of arguments, or a dict of keyword arguments. Or a ``Dataset`` or ``DataLoader``
            of pairs (inputs, targets), for more data than one batch can hold: see the notes.
        targets
            What `loss` takes besides the output. None: it is called with the output alone.
        checked
            Compare derivatives with differences, as described in the notes. False takes them as
            they come, for a gradient that on purpose is not that of the loss.

        Raises
        ------
        ValueError
            If the module has no parameter to train, or one that is neither float32 nor float64;
            if it is wrapped (``DataParallel``), scripted or compiled;
            if module and loss cannot be evaluated, do not return one number, broadcast the
            targets against outputs of another shape, or do not depend on θ; if they draw random
            numbers (dropout in training mode) or keep a state between evaluations, because
            then f is no function of θ. And, here and in every later call that needs them, if its
            derivatives are wrong. For data in batches see the notes, too.

        Notes
        -----
        PyTorch differentiates what the author of an operation declared. That may be another
        function's gradient on purpose (``detach``, straight-through estimators, ``padding_idx``),
        and higher derivatives of some operations are wrong: in version 2.13 the second of
        ``weight_norm`` and the third of layer normalisation, and of batch and
        instance normalisation with the statistics of the batch. So gradients are compared with
        differences of f here, Hessian-vector products before the first one is returned, and third
        derivatives as well, near ``start`` and in float64, by
        :func:`gfgd.derivative_checks.check_derivatives`. What is wrong is refused, with the name
        of the operation, its layer and a remedy. Jumps of the gradient (ReLU) are no error. Where
        the module cannot compute in float64 nothing can be told, and a warning says so.

        Attention runs on PyTorch's plain kernel, because its fused ones have no second derivative.

        *Data in batches.* f is the loss of all samples together, whatever the batches' sizes:
        Σ_b (N_b/N) loss_b for a loss that is a mean over samples, Σ_b loss_b for a sum, where batch
        b has N_b of the N samples. Which one it is, is told by evaluating it on parts of batches.
        Values and derivatives go through the data once, and take the memory of one batch. A data
        set is read in batches of ``gfgd.batches.BATCH_SIZE``, a loader as it is. A batch is a pair
        (inputs, targets), or inputs alone where that is no tuple or list; numbers with a fraction
        are converted to the parameters' dtype and moved to their device. Refused are loaders whose
        second pass differs from the first (they shuffle, augment at random, or can be read once),
        or yield nothing; batches of different dtypes; parameters of several dtypes; losses that are
        neither a mean nor a sum over samples (class weights, ignored labels); and modules whose
        output for a sample depends on the others of its batch (batch normalisation in training
        mode). Derivatives are compared with differences on the first batch.
        """
        from gfgd.modules import ModuleObjective  # which is an Objective itself

        return ModuleObjective(module, loss, inputs, targets, checked=checked)

    @property
    def unchecked(self) -> Objective:
        """The same function, whose derivatives are taken as they come; see `from_module`."""
        return self

    def require_derivatives(self, order: int) -> None:
        """Raise ``ValueError`` if derivatives up to `order`, 1 to 3, are wrong.

        Every method that returns derivatives calls it. Only objectives of modules look, the first
        time that an order is used.
        """

    def everywhere(self, names: Collection[str]) -> set[str]:
        """Return what was found in f by those names, in all processes that hold a part of it."""
        return set(names)

    def _only_term(self) -> Term | None:
        """Return the term that f consists of, which is in memory as a whole, if there is one."""
        terms = self.total.terms
        return terms[0] if isinstance(terms, tuple) and len(terms) == 1 else None

    def _has_products_of_its_own(self) -> bool:
        """Whether a subclass computes ∇²f(θ) v otherwise than by differentiating the terms."""
        names = ("hessian_vector_product", "gradient_and_hessian_vector_product")
        return any(getattr(type(self), name) is not getattr(Objective, name) for name in names)

    def _gradient_graph(self, point: Point) -> _GradientGraph | None:
        """Return ∇f(θ) with its graph, if products are differentiations of it."""
        self.require_derivatives(2)
        term = self._only_term()
        if term is None or self._has_products_of_its_own():
            return None
        at = self._check(point).detach().clone().requires_grad_()
        with torch.enable_grad():
            return _GradientGraph(self, at, derivative(term(at), at))

    def _check(self, point: Point) -> Tensor:
        point = as_point(point, any_precision=True)
        if point.shape[-1:] != (self.dimension,):
            raise ValueError(
                f"point has shape {tuple(point.shape)}: its last dimension must be "
                f"d = {self.dimension}, the number of parameters"
            )
        return point

    def _paired(self, point: Point, vector: Point) -> tuple[Tensor, Tensor]:
        """Broadcast θ against v, and let autograd follow θ."""
        at, along = torch.broadcast_tensors(
            self._check(point).detach(), self._check(vector).detach()
        )
        return at.clone().requires_grad_(), along


@dataclass(frozen=True)
class _GradientGraph:
    """∇f(θ), which autograd can differentiate at θ as often as one likes; shapes ``(..., d)``."""

    objective: Objective
    at: Tensor
    gradient: Tensor

    def product(self, vector: Point) -> Tensor:
        """Return ∇²f(θ) v, shape ``(..., d)``."""
        along = self.objective._check(vector).detach().expand_as(self.at)
        if not self.gradient.requires_grad:  # f is linear in θ
            return torch.zeros_like(self.gradient)
        return torch.autograd.grad(
            self.gradient,
            self.at,
            along,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )[0]


def as_point(values: Point, name: str = "point", *, any_precision: bool = False) -> Tensor:
    """Return a point of parameter space, or several, as a tensor of float32 or float64.

    With `any_precision` half precision and bfloat16 will do, too: rounding is studied in them.

    A tensor stays what it is, an array keeps its precision, and a list of numbers, which Python
    holds in double precision, becomes float64.

    Raises
    ------
    ValueError
        That says `name`, for other dtypes (half precision cannot hold a step of gradient descent)
        and for what is no array of numbers.
    """
    if not isinstance(values, Tensor):
        try:
            values = torch.as_tensor(np.array(values))  # a copy: read-only arrays are no tensors
        except (TypeError, ValueError, RuntimeError):
            what = type(values).__name__
            raise ValueError(
                f"{name}: is a {what}; give a tensor, or an array of numbers"
            ) from None
    usable = values.dtype in (torch.float32, torch.float64)
    if not (usable or (any_precision and values.is_floating_point())):
        raise ValueError(
            f"{name}: has dtype {values.dtype}, must be float32 or float64; convert it to float64"
        )
    return values


def unflatten(point: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Cut θ of shape ``(..., d)`` into tensors of shapes ``(..., *shape)``, in order."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    pieces = point.split(sizes, dim=-1)
    return [
        piece.reshape((*point.shape[:-1], *shape))
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


def derivative(values: Tensor, point: Tensor, *, again: bool = True) -> Tensor:
    """Return ∇_θ Σ values, of θ's shape; zero where autograd sees no path.

    `values` were computed from `point`, which requires a gradient. Unless `again` is False the
    result can be differentiated itself, for which autograd keeps all that went into it.
    """
    if not values.requires_grad:  # locally constant or linear in θ
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(
        values.sum(), point, create_graph=again, allow_unused=True, materialize_grads=True
    )
    return gradient
