"""Objectives: scalar functions of a flat parameter vector, and their derivatives.

A point of parameter space is a tensor θ of shape ``(d,)``, or ``(..., d)`` for many points
at once. An :class:`Objective` holds no state and counts nothing: whoever calls it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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
            return _total(term(point) for term in self.terms)

    def gradient(self, point: Tensor) -> Tensor:
        """Return ∇f(θ), shape ``(..., d)``."""
        return self.value_and_gradient(point)[1]

    def value_and_gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∇f(θ) for the cost of one gradient."""
        self._check(point)
        point = point.detach().requires_grad_()
        values, gradients = [], []
        with torch.enable_grad():
            for term in self.terms:
                value = term(point)
                gradients.append(torch.autograd.grad(value.sum(), point)[0])
                values.append(value.detach())
        return _total(values), _total(gradients)

    def hessian_vector_product(self, point: Tensor, vector: Tensor) -> Tensor:
        """Return ∇²f(θ) v, shape ``(..., d)``; θ and v broadcast against each other."""
        return self.gradient_and_hessian_vector_product(point, vector)[1]

    def gradient_and_hessian_vector_product(
        self, point: Tensor, vector: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ∇f(θ) and ∇²f(θ) v for the cost of one Hessian-vector product."""
        point, vector = self._paired(point, vector)
        gradients, products = [], []
        with torch.enable_grad():
            for term in self.terms:
                gradient = derivative(term(point), point)
                products.append(derivative((gradient * vector).sum(-1), point).detach())
                gradients.append(gradient.detach())
        return _total(gradients), _total(products)

    def third_derivative(self, point: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the vector D³f(θ)[u, v], shape ``(..., d)``: ∇_θ ⟨u, ∇²f(θ) v⟩."""
        point, first = self._paired(point, first)
        point, second = self._paired(point, second)
        contributions = []
        with torch.enable_grad():
            for term in self.terms:
                gradient = derivative(term(point), point)
                product = derivative((gradient * first).sum(-1), point)
                third = derivative((product * second).sum(-1), point)
                contributions.append(third.detach())
        return _total(contributions)

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
        order of ``module.named_parameters()``. The module itself stays untouched; its own
        parameters, flattened, are ``objective.start``. Buffers are copied for every
        evaluation, so that no running statistic changes.

        Raises
        ------
        ValueError
            If the module has no parameter to train, or draws random numbers in training
            mode (dropout): then f is no function of θ. Call ``module.eval()`` first.
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
        _refuse_dropout(module)
        trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("module: has no parameter that requires a gradient")
        fixed = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
        shapes = [parameter.shape for parameter in trained.values()]

        def one(point: Tensor) -> Tensor:
            buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
            weights = dict(zip(trained, unflatten(point, shapes), strict=True))
            state = {**fixed, **buffers, **weights}
            return loss(torch.func.functional_call(module, state, (inputs,)), targets)

        def term(points: Tensor) -> Tensor:
            # One evaluation a point: a user's module need not know of a batch of parameters.
            flat = points.reshape(-1, points.shape[-1])
            return torch.stack([one(point) for point in flat]).reshape(points.shape[:-1])

        self.start = torch.cat([parameter.reshape(-1) for parameter in trained.values()])
        super().__init__(term, dimension=self.start.numel())
        if (shape := one(self.start).shape) != ():
            raise ValueError(f"loss: returned shape {tuple(shape)}, must return one number")


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


def _total(parts) -> Tensor:
    """Sum of one or more tensors, without a pass over the only one."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def _refuse_dropout(module: torch.nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.training and part.p > 0:
            raise ValueError(
                f"module: {name or 'itself'} is dropout in training mode, so that the loss is "
                "random and no function of the parameters; call module.eval() first"
            )
