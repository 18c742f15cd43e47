"""Which operation of a module has a derivative that is wrong or missing, and what to do about it.

PyTorch lets a mode watch every function that is called on tensors. The calls of one evaluation are
kept with their arguments, and each is checked by itself as a function of those arguments that
depend on the parameters. So the operation is found however the module is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfgd.derivative_checks import check_derivatives, jumps_at
from gfgd.objective import Objective, unflatten

_NORMALISE = "write it out, as (x - mean) / (variance + eps).sqrt() with x.mean and x.var"

#: What to do instead, by the name of a function or of a layer's class.
REMEDIES = {
    "layer_norm": _NORMALISE,
    "batch_norm": f"{_NORMALISE}, or call module.eval(), which uses the running statistics",
    "instance_norm": _NORMALISE,
    "_weight_norm": "compute g * v / v.norm() in a module of your own",
    "_SpectralNorm": "call module.eval(), which keeps its singular vectors fixed",
    "cdist": "give it compute_mode='use_mm_for_euclid_dist'",
    "embedding": (
        "use an embedding without padding_idx, scale_grad_by_freq, max_norm and sparse, which "
        "change its gradient or have no second one; multiply by a mask what is to be ignored"
    ),
    "embedding_bag": "use torch.nn.Embedding, and take sum or mean yourself",
    "detach": "remove it, or give from_module checked=False if this gradient is what you want",
    "_Orthogonal": "give it orthogonal_map='matrix_exp' or 'cayley': 'householder' rounds weights",
    "softmax": "give a row that is masked as a whole finite scores",
    "hardsigmoid": "write it as (x / 6 + 0.5).clamp(0, 1)",
}

#: Classes of ``torch.nn``, and parametrisations, whose derivatives are wrong or missing in torch
#: 2.13, by the first such order: what the library's tests find when they try all classes as they
#: are built, in training mode. What contains them (``Transformer``) is left out here.
WRONG_IN_TORCH_2_13: dict[int, tuple[str, ...]] = {
    1: ("CrossMapLRN2d", "spectral_norm"),
    2: (
        *("CTCLoss", "EmbeddingBag", "Hardsigmoid", "MultiLabelMarginLoss", "MultiMarginLoss"),
        "weight_norm",
    ),
    3: (
        *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"),
        *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm"),
    ),
}


@dataclass(frozen=True)
class WrongOperation:
    """An operation, the layer that calls it, what is wrong with it, and a remedy."""

    name: str
    layer: str
    fault: str
    remedy: str

    def __str__(self) -> str:
        where = f" in {self.layer}" if self.layer else ""
        return f"{self.name}{where} {self.fault}; {self.remedy}"


def wrong_operation(
    evaluate: Callable[[], Tensor], modules: dict[str, nn.Module], order: int
) -> WrongOperation | None:
    """Return the first operation whose derivative of an order is its first that is wrong.

    Parameters
    ----------
    evaluate
        Computes f(θ) in float64, θ requiring a gradient.
    modules
        The layers, by their names; they are what `evaluate` calls.
    order
        1, 2 or 3: the first derivative of f that is wrong. 0 if f itself jumps at θ.
    """
    for call in _calls(evaluate, modules):
        fault = call.fault(order)
        if fault:
            layer = modules.get(call.layer)
            kind = type(layer).__name__
            where = f"layer {call.layer!r} ({kind})" if call.layer else ""
            remedy = REMEDIES.get(kind) or REMEDIES.get(call.name) or call.remedy
            return WrongOperation(call.name, where, fault, remedy)
    return None


@dataclass(eq=False)
class _Call:
    """A call of a function on tensors, as a function of those that require a gradient."""

    name: str
    layer: str
    function: Callable[..., Any]
    arguments: Any  # nested tuples, lists and dicts, as (args, kwargs)
    differentiated: bool = True
    variables: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arguments = _mapped(self.arguments, self._kept)

    @property
    def remedy(self) -> str:
        """What to do about an operation that nothing is known about."""
        if self.differentiated:
            return "write it with other operations"
        return "let autograd follow it (spectral_norm keeps its vectors fixed after module.eval())"

    def _kept(self, tensor: Tensor) -> Tensor | _Place:
        """Return a copy of a constant, or the place of a variable among the variables."""
        copy = tensor.detach().clone()
        if not (tensor.requires_grad and tensor.dtype == torch.float64):
            return copy
        self.variables.append(copy)
        return _Place(len(self.variables) - 1)

    def fault(self, order: int) -> str | None:
        """Say what is wrong with the derivative of an order, if those before it are right."""
        values = torch.cat([variable.reshape(-1) for variable in self.variables])
        finite = values.isfinite()  # masks of attention are −∞: constants
        point = values.where(finite, 0.0)
        objective = Objective(
            lambda moved: self._scalar(moved, values, finite), dimension=len(point)
        )
        try:
            if objective.value(point).isnan():
                return "returns NaN, which has no derivative"
            if order == 0:
                return "jumps" if jumps_at(objective, point) else None
            errors = check_derivatives(objective, point, directions=2, orders=order)
        except RuntimeError as cause:  # NotImplementedError is one of them
            return f"has no derivative here ({cause})"
        if errors.wrong != order:
            return None
        if errors.missing:
            return f"has no derivative of order {order}"
        if not self.differentiated:
            return "is computed where gradients are off (no_grad, or an autograd.Function)"
        return f"has a wrong derivative of order {order}"

    def _scalar(self, moved: Tensor, values: Tensor, finite: Tensor) -> Tensor:
        """Return a random quadratic function of all that the call returns, at other arguments."""
        flat = moved + values.where(~finite, 0.0)
        pieces = unflatten(flat, [variable.shape for variable in self.variables])
        args, kwargs = _mapped(
            self.arguments,
            torch.clone,  # operations in place
            lambda place: pieces[place.index].clone(),
        )
        with torch.set_grad_enabled(self.differentiated and torch.is_grad_enabled()):
            outputs = list(_tensors(self.function(*args, **kwargs)))
        first = second = 0 * moved.sum()  # so that autograd always finds a path
        for number, output in enumerate(outputs):
            real = torch.view_as_real(output) if output.is_complex() else output
            generator = torch.Generator().manual_seed(number)
            weights = torch.randn(2, *real.shape, generator=generator, dtype=torch.float64)
            weighted = real.where(~real.isinf(), 0.0) * weights.to(real.device)
            first, second = first + weighted[0].sum(), second + weighted[1].sum()
        return first + first * second  # not linear: else a linear call needs no second derivative


@dataclass(frozen=True)
class _Place:
    """Stands in a call's arguments for a variable."""

    index: int


def _mapped(
    nested: Any, tensor: Callable[[Tensor], Any], place: Callable[[_Place], Tensor] | None = None
) -> Any:
    """Return nested tuples, lists and dicts with their tensors (and places) replaced."""
    if isinstance(nested, Tensor):
        return tensor(nested)
    if isinstance(nested, _Place):
        assert place is not None
        return place(nested)
    if type(nested) in (tuple, list):
        return type(nested)(_mapped(one, tensor, place) for one in nested)
    if isinstance(nested, dict):
        return {key: _mapped(one, tensor, place) for key, one in nested.items()}
    return nested


def _tensors(nested: Any) -> Iterator[Tensor]:
    """Yield the tensors of real or complex numbers in nested tuples, lists and dicts."""
    if isinstance(nested, Tensor):
        if nested.is_floating_point() or nested.is_complex():
            yield nested
    elif isinstance(nested, (tuple, list)):
        for one in nested:
            yield from _tensors(one)
    elif isinstance(nested, dict):
        yield from _tensors(list(nested.values()))


def _calls(evaluate: Callable[[], Tensor], modules: dict[str, nn.Module]) -> list[_Call]:
    """Return the calls of one evaluation: functions first, then layers, innermost first.

    Layers are for what is no function of PyTorch's, such as an ``autograd.Function``.
    """
    watch = _Watch({id(module): name for name, module in modules.items()})
    with watch.layers(), watch, torch.enable_grad():
        evaluate()
    return [*watch.functions.values(), *watch.modules.values()]


class _Watch(TorchFunctionMode):
    """Keeps the first call of each function in each layer, and of each layer."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.inside: list[str] = []
        self.functions: dict[tuple[str, str], _Call] = {}
        self.modules: dict[str, _Call] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        arguments = (tuple(args), dict(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        place = (name, self.inside[-1] if self.inside else "")
        call = None
        if place not in self.functions and any(one.requires_grad for one in _tensors(arguments)):
            call = _Call(*place, func, arguments, differentiated=torch.is_grad_enabled())
        result = func(*args, **(kwargs or {}))
        if call is not None and call.variables and any(True for _ in _tensors(result)):
            self.functions[place] = call
        return result

    @contextlib.contextmanager
    def layers(self) -> Iterator[None]:
        """Follow which layer is being called."""

        def before(module: nn.Module, args: Any) -> None:
            self.inside.append(self.names.get(id(module), ""))

        def after(module: nn.Module, args: Any, output: Any) -> None:
            name = self.inside.pop()
            if name and name not in self.modules:
                self._keep(name, module, args)

        hooks = nn.modules.module
        handles = [
            hooks.register_module_forward_pre_hook(before),
            hooks.register_module_forward_hook(after),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, name: str, module: nn.Module, args: Any) -> None:
        """Keep a layer's call, as a function of its parameters as well."""

        def function(state: dict[str, Tensor], *inputs: Any) -> Any:
            return torch.func.functional_call(module, state, inputs)

        state = dict(module.named_parameters()) | dict(module.named_buffers())
        with torch._C.DisableTorchFunction():
            call = _Call(type(module).__name__, name, function, ((state, *args), {}))
        if call.variables:
            self.modules[name] = call
