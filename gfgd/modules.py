"""Modules of PyTorch as objectives."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from gfgd.objective import Objective, unflatten


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
