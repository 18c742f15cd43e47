"""Modules of PyTorch as objectives."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

from gfgd.batches import Batches, joined, reduction, rows, tensors
from gfgd.derivative_checks import (
    DerivativeErrors,
    check_derivatives,
    generic_point,
    jumps_at,
    kinked_operations,
)
from gfgd.objective import Inputs, Objective, Point, Term, TermSum, as_point, unflatten
from gfgd.wrong_operations import WrongOperation, wrong_operation

# What derivatives of an order are called in messages.
_NAMES = {1: "first derivatives", 2: "second derivatives", 3: "third derivatives"}


class ModuleObjective(Objective):
    """The objective of a ``torch.nn.Module``; made by :meth:`Objective.from_module`.

    Derivatives of each order are compared with differences before they are first returned, and
    refused where they are wrong.
    """

    start: Tensor

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[..., Tensor],
        inputs: Inputs | Dataset | DataLoader,
        targets: object = None,
        *,
        checked: bool = True,
    ) -> None:
        _refuse_wrappers(module)
        batches = _batches(inputs, targets)
        if isinstance(loss, type):
            raise ValueError(f"loss: is the class {loss.__name__}; give an instance of it")
        trained = _trained(module)
        evaluation = _Evaluation(
            module,
            loss,
            cast(Inputs, inputs),
            targets,
            shapes={name: parameter.shape for name, parameter in trained.items()},
            dtypes={name: parameter.dtype for name, parameter in trained.items()},
            frozen={
                n: p.detach().clone() for n, p in module.named_parameters() if n not in trained
            },
            buffers={n: b.detach().clone() for n, b in module.named_buffers()},
        )
        self.start = torch.cat([parameter.reshape(-1) for parameter in trained.values()])
        if batches is None:
            data = _Data(evaluation)
            _refuse_no_function(evaluation, self.start)
        else:
            data = _in_batches(evaluation, batches, self.start)
        self._data = data
        self.total, self.dimension = TermSum(data), self.start.numel()
        self._complaints: dict[int, str | None] = {}
        self._checked = checked
        self.require_derivatives(1)

    def _only_term(self) -> Term | None:
        """Return the term that holds all data, or None where they come in batches."""
        return next(iter(self._data)) if self._data.in_one_batch else None

    @property
    def unchecked(self) -> Objective:
        """The same function, whose derivatives are taken as they come."""
        same = copy.copy(self)
        same._checked = False
        return same

    def outputs(self, point: Point) -> Any:
        """Return what the module makes of the inputs at one θ, shape ``(d,)``.

        Where data come in batches, those of all samples, one after the other.
        """
        point = self._check(point)
        with torch.no_grad():
            outputs = [one.outputs(point) for one in self._data.evaluations()]
        return outputs[0] if len(outputs) == 1 else joined(outputs)

    def require_derivatives(self, order: int) -> None:
        """Raise ``ValueError`` if derivatives up to `order`, 1 to 3, are wrong near `start`.

        The message names the operation, its layer and a remedy. They are looked at once, when an
        order is first used.
        """
        if self._checked and (complaint := self.wrong_derivatives(order)):
            raise ValueError(complaint)

    def wrong_derivatives(self, order: int) -> str | None:
        """Return what is wrong with derivatives up to `order`, 1 to 3, in words, or None."""
        if order not in self._complaints:
            self._complaints[order] = self._complaint(order)
        return self._complaints[order]

    def _complaint(self, order: int) -> str | None:
        if order > 1 and (earlier := self.wrong_derivatives(order - 1)):
            return earlier
        evaluation = next(self._data.evaluations()).in_double()
        objective = Objective(_term(evaluation), dimension=self.dimension)
        start = self.start.double()
        try:
            point = _place(objective, start)
            jumps = order == 1 and jumps_at(objective, start)
        except Exception as cause:  # a user's module may raise anything
            return _not_checked(order, f"the module cannot compute in float64 ({cause})")
        if jumps:
            return _described(
                "jump at the start", "a weight is rounded", _suspect(evaluation, 0, start)
            )
        try:
            errors = check_derivatives(objective, point, directions=2, orders=order)
        except RuntimeError as cause:  # of the gradient itself
            errors = DerivativeErrors(gradient=math.inf, missing=str(cause))
        if errors.suspicious is None:
            return None
        operation = _suspect(evaluation, order, point)
        if operation is None and errors.missing is None:
            if kinked_operations(objective, point):
                return None  # the gradient jumps between θ ± hv
            if errors.wrong is None:
                return _not_checked(order, "differences are too rough (float32 inside?)")
        return _described(*_fault(order, errors), operation)


def load_into(module: nn.Module, point: Point) -> None:
    """Write θ into a module's parameters: the way back from `Objective.from_module`.

    Each parameter that requires a gradient takes its part of θ, rounded to its own precision, in
    the order of ``module.named_parameters()``. Frozen parameters and buffers stay.

    Parameters
    ----------
    module
        A module like the one that the objective was made from, or that one.
    point
        θ, shape ``(d,)``.

    Raises
    ------
    ValueError
        If θ is not one point of as many numbers as the module has parameters to train.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> load_into(layer, [3.0, 4.0])
    >>> layer.weight.tolist()
    [[3.0, 4.0]]
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    size = sum(parameter.numel() for parameter in trained)
    point = as_point(point).detach()
    if point.shape != (size,):
        raise ValueError(
            f"point has shape {tuple(point.shape)}: the module's parameters take one θ of shape "
            f"({size},)"
        )
    with torch.no_grad():
        for parameter, piece in zip(
            trained, unflatten(point, [parameter.shape for parameter in trained]), strict=True
        ):
            parameter.copy_(piece)


def converted(value: Any, dtype: torch.dtype, device: str | torch.device | None = None) -> Any:
    """Return modules, tensors, and tuples, lists and dicts of them with all numbers in `dtype`.

    That is for numbers with a fraction: half precision becomes `dtype`, complex numbers complex
    ones of that precision (unlike ``Module.to``, which drops their imaginary parts), whole numbers
    stay. A module is copied. What is none of these is returned as it is.

    Parameters
    ----------
    value
        A network, a loss or data.
    dtype
        ``torch.float32`` or ``torch.float64``.
    device
        Where to; None: where it is.

    Raises
    ------
    ValueError
        If a module cannot be copied.
    """
    if isinstance(value, nn.Module):
        try:
            own = copy.deepcopy(value).to(device)
        except RuntimeError as cause:
            raise ValueError(
                f"module: {type(value).__name__} cannot be copied: {cause}. Does it hold tensors "
                "that were computed from its parameters, as torch.nn.utils.weight_norm does? "
                "Compute them in forward(), as torch.nn.utils.parametrizations does"
            ) from cause
        return own.double() if dtype == torch.float64 else own.float()
    if isinstance(value, Tensor):
        if value.is_complex():
            return value.to(device, dtype.to_complex())
        return value.to(device, dtype) if value.is_floating_point() else value.to(device)
    if isinstance(value, PackedSequence):
        moved = value if device is None else cast(Any, value).to(device)
        return moved.to(dtype=dtype) if moved.data.is_floating_point() else moved
    if type(value) in (tuple, list):
        return type(value)(converted(one, dtype, device) for one in value)
    if isinstance(value, Mapping):
        return {key: converted(one, dtype, device) for key, one in value.items()}
    return value


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """f(θ) = loss(module_θ(inputs), targets) at one θ, shape (d,)."""

    module: nn.Module
    loss: Callable[..., Tensor]
    inputs: Inputs
    targets: object
    shapes: dict[str, torch.Size]
    dtypes: dict[str, torch.dtype]
    frozen: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def __call__(self, point: Tensor) -> Tensor:
        return self.loss_of(self.outputs(point), self.targets)

    def loss_of(self, outputs: Any, targets: object) -> Tensor:
        """Return loss(outputs, targets), without targets where there are none."""
        return self.loss(outputs) if targets is None else self.loss(outputs, targets)

    def outputs(self, point: Tensor) -> Any:
        pieces = unflatten(point, list(self.shapes.values()))
        weights = {
            name: piece.to(self.dtypes[name])
            for name, piece in zip(self.shapes, pieces, strict=True)
        }
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        args, kwargs = self.inputs, {}
        if isinstance(self.inputs, Mapping):
            args, kwargs = (), dict(self.inputs)
        elif type(self.inputs) is not tuple:  # a packed sequence is a kind of tuple
            args = (self.inputs,)
        state = {**self.frozen, **buffers, **weights}
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.functional_call(self.module, state, args, kwargs)

    def on(self, inputs: Inputs, targets: object) -> _Evaluation:
        """Return the same for a batch of data, in the parameters' precision and on their device."""
        dtype = next(iter(self.dtypes.values()))
        device = next(self.module.parameters()).device
        batch = (converted(one, dtype, device) for one in (inputs, targets))
        return replace(self, inputs=next(batch), targets=next(batch))

    def in_double(self) -> _Evaluation:
        """Return the same function, computed in float64."""
        double = torch.float64
        if {*self.dtypes.values()} == {double}:
            return self
        return replace(
            self,
            loss=converted(self.loss, double),
            inputs=converted(self.inputs, double),
            targets=converted(self.targets, double),
            dtypes=dict.fromkeys(self.dtypes, double),
            frozen=converted(self.frozen, double),
            buffers=converted(self.buffers, double),
        )

    def layers(self) -> dict[str, nn.Module]:
        """Return all that may be to blame for a wrong derivative, by name."""
        loss = {"loss": self.loss} if isinstance(self.loss, nn.Module) else {}
        return {**dict(self.module.named_modules()), **loss}

    def given(self) -> str:
        """Say what module and loss were given, for messages."""
        first = next(iter(self.shapes))
        tensors = {f"inputs{i}": x for i, x in _named(self.inputs)}
        tensors |= {f"targets{i}": x for i, x in _named(self.targets)}
        if isinstance(self.loss, nn.Module):
            tensors |= {f"the loss's {name}": x for name, x in self.loss.named_buffers()}
        device = next(self.module.parameters()).device
        parameter = (
            f"the first parameter of shape {tuple(self.shapes[first])}, {self.dtypes[first]}, on "
            f"{device}"
        )
        return ", ".join(
            [
                parameter,
                *(
                    f"{name} of shape {tuple(x.shape)}, {x.dtype}, on {x.device}"
                    for name, x in tensors.items()
                ),
            ]
        )


class _Data:
    """The terms of f: w_b · loss(module_θ(inputs_b), targets_b) for each batch b of the data.

    Going through them reads a batch only when its turn comes, and keeps none.
    """

    def __init__(
        self,
        evaluation: _Evaluation,
        batches: Batches | None = None,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self._evaluation, self._batches, self._weights = evaluation, batches, weights

    @property
    def in_one_batch(self) -> bool:
        """Whether the data were given as a whole, and are in memory."""
        return self._batches is None

    def __iter__(self) -> Iterator[Term]:
        return map(_term, self.evaluations(), self._weights)  # unlike zip, map keeps nothing

    def evaluations(self) -> Iterator[_Evaluation]:
        """Go through the batches' losses, without the weights."""
        if self._batches is None:
            return iter([self._evaluation])
        return starmap(self._evaluation.on, self._batches)


def _batches(inputs: object, targets: object) -> Batches | None:
    """Return what reads the data, or None where they are one batch."""
    if isinstance(inputs, Iterator):
        raise ValueError(
            f"inputs: is a {type(inputs).__name__}, which can be read only once, and a flow reads "
            "the data again and again; give the DataLoader or the Dataset itself"
        )
    if not isinstance(inputs, (Dataset, DataLoader)):
        return None
    if targets is not None:
        raise ValueError("targets: the batches of a Dataset or DataLoader bring theirs; give none")
    return Batches(inputs)


def _in_batches(evaluation: _Evaluation, batches: Batches, start: Tensor) -> _Data:
    """Return f over all batches: the loss that all samples together would have."""
    dtypes = sorted({str(dtype) for dtype in evaluation.dtypes.values()})
    if len(dtypes) > 1:
        raise ValueError(
            f"module: has parameters of {' and '.join(dtypes)}; batches are converted to the "
            "parameters' dtype, so there must be one: call module.double()"
        )
    first = evaluation.on(*batches.first())
    _refuse_no_function(first, start)
    point = generic_point(start).to(start)  # networks start where all samples have the same loss
    with torch.no_grad():
        _refuse_mixing(first, point, batches.sizes[0])
        kind = reduction(
            evaluation.loss_of,
            (_with_outputs(one, point) for one in starmap(evaluation.on, batches)),
            batches.sizes,
            says=evaluation.loss,
        )
    total = sum(batches.sizes)
    weights = [size / total if kind == "mean" else 1.0 for size in batches.sizes]
    return _Data(evaluation, batches, weights)


def _with_outputs(evaluation: _Evaluation, point: Tensor) -> tuple[Any, object]:
    """Return the outputs and targets of a batch whose loss can be evaluated."""
    outputs = _evaluated(evaluation, lambda: evaluation.outputs(point))
    _refuse_no_number(
        _evaluated(evaluation, lambda: evaluation.loss_of(outputs, evaluation.targets))
    )
    return outputs, evaluation.targets


def _refuse_mixing(evaluation: _Evaluation, point: Tensor, size: int) -> None:
    """Refuse modules that make something else of a sample when others are beside it."""
    if size < 2:
        return
    part = size - 1  # batch normalisation takes no single sample
    alone = replace(evaluation, inputs=rows(evaluation.inputs, slice(part), size))
    whole = evaluation.outputs(point)
    try:
        outputs = alone.outputs(point)
    except Exception:  # a user's module may raise anything: then samples are no rows of its inputs
        return
    for among, one in zip(tensors(whole), tensors(outputs), strict=False):
        if among.dim() and len(among) == size and one.shape == among[:part].shape:
            far = (among[:part] - one).abs().max() if one.numel() else 0
            if far > math.sqrt(torch.finfo(point.dtype).eps) * (1 + among.abs().max()):
                raise ValueError(
                    "module: its output for a sample depends on the others of the batch (batch "
                    "normalisation in training mode?), so that the loss over all data cannot be "
                    "put together from batches; call module.eval(), or give all data as tensors"
                )


def _named(nested: object) -> list[tuple[str, Tensor]]:
    """Return the tensors among inputs or targets, with where they stand as text."""
    if isinstance(nested, Tensor):
        return [("", nested)]
    if isinstance(nested, Mapping):
        items = [(f"[{key!r}]", one) for key, one in nested.items()]
    elif isinstance(nested, (tuple, list)):
        items = [(f"[{i}]", one) for i, one in enumerate(nested)]
    else:
        items = []
    return [(place, one) for place, one in items if isinstance(one, Tensor)]


def _term(evaluation: _Evaluation, weight: float = 1.0) -> Term:
    """Return w·loss for several points, one evaluation a point: a module knows of no such batch."""

    def term(points: Tensor) -> Tensor:
        flat = points.reshape(-1, points.shape[-1])
        values = torch.stack([evaluation(point) for point in flat]).reshape(points.shape[:-1])
        return values if weight == 1 else weight * values

    return term


def _suspect(evaluation: _Evaluation, order: int, point: Tensor) -> WrongOperation | None:
    """Return the operation that is to blame for a derivative, computed in float64."""
    tracked = point.clone().requires_grad_()
    return wrong_operation(lambda: evaluation(tracked), evaluation.layers(), order)


def _place(objective: Objective, start: Tensor) -> Tensor:
    """Return a generic point near the start at which f is finite, or else the start."""
    point = generic_point(start)
    return point if objective.value(point).isfinite() else start


def _not_checked(order: int, why: str) -> None:
    warnings.warn(f"module, loss: their {_NAMES[order]} could not be checked: {why}", stacklevel=2)


def _fault(order: int, errors: DerivativeErrors) -> tuple[str, str]:
    """Return what is wrong with derivatives of an order, and a guess at the cause."""
    size = errors.by_order[order - 1]
    if errors.missing:
        return f"have no {_NAMES[order]}", errors.missing
    if math.isnan(size):
        return f"have {_NAMES[order]} that are not finite", "look for 0/0 and masked rows"
    return (
        f"have wrong {_NAMES[order]} (off by {size:.2g} of their size, compared with differences)",
        "look for detach, no_grad and custom backward functions",
    )


def _described(fault: str, guess: str, operation: WrongOperation | None) -> str:
    return f"module, loss: they {fault}: {operation or guess}"


def _refuse_wrappers(module: nn.Module) -> None:
    """Refuse modules whose inside PyTorch's functional calls or second derivatives cannot reach."""
    if not isinstance(module, nn.Module):
        said = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise ValueError(f"module: is {said}, must be a torch.nn.Module")
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    for name, part in module.named_modules():
        said = f"module: {name or 'it'} is a {type(part).__name__}"
        if isinstance(part, parallel):
            raise ValueError(f"{said}; give what it wraps, its attribute .module")
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(f"{said}; give the module that it was scripted or traced from")
        if isinstance(getattr(part, "_orig_mod", None), nn.Module):
            raise ValueError(
                f"{said}: compiled modules have no second derivative; give the uncompiled module, "
                "its attribute ._orig_mod"
            )
        if getattr(part, "_compiled_call_impl", None) is not None:
            raise ValueError(
                f"{said} that was compiled in place: compiled modules have no second derivative; "
                "make it without module.compile()"
            )


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's parameters that require a gradient, by name, detached."""
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"module: {name} has no shape yet; call module(inputs) once first")
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            remedy = (
                "make its real and imaginary part two parameters"
                if parameter.is_complex()
                else "module.double() turns half precision into float64"
            )
            raise ValueError(
                f"module: {name} has dtype {parameter.dtype}, must be float32 or float64; {remedy}"
            )
    trained = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
    if not any(parameter.numel() for parameter in trained.values()):
        raise ValueError("module: has no parameter that requires a gradient")
    places = sorted({str(parameter.device) for parameter in trained.values()})
    if len(places) > 1:
        raise ValueError(f"module: has parameters on {' and '.join(places)}; move it to one device")
    return trained


def _refuse_no_function(evaluation: _Evaluation, start: Tensor) -> None:
    """Evaluate f(θ) twice, and refuse what is not one number that depends on θ alone."""
    point = start.clone().requires_grad_()
    devices = [start.device] if start.is_cuda else []
    with torch.enable_grad(), torch.random.fork_rng(devices):
        before = _random_states(devices)
        first = _evaluated(evaluation, lambda: evaluation(point))
        after = _random_states(devices)
        drew = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        second = _evaluated(evaluation, lambda: evaluation(point))
    if drew:
        raise ValueError(
            "module: draws random numbers (dropout in training mode?), so that the loss is no "
            "function of the parameters; set the dropout probability to 0, or call module.eval(), "
            "which also makes batch normalisation use its running statistics"
        )
    _refuse_no_number(first)
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


def _refuse_no_number(value: Any) -> None:
    if not isinstance(value, Tensor) or value.shape != ():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"loss: returned shape {shape}, must return one number; with reduction='none', take "
            "'mean' or 'sum'"
        )


def _evaluated(evaluation: _Evaluation, compute: Callable[[], Any]) -> Any:
    """Evaluate a user's module or loss; say what they were given if that fails."""
    try:
        with warnings.catch_warnings():
            # PyTorch only warns where a loss broadcasts (N, 1) against (N,) to (N, N).
            warnings.filterwarnings("error", message="Using a target size")
            return compute()
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"module, loss: evaluating them failed: {type(error).__name__}: {error}; they were "
            f"given {evaluation.given()}"
        ) from error


def _random_states(devices: Sequence[torch.device]) -> list[Tensor]:
    """Return the states of torch's generators, the CPU's and those of GPUs."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
