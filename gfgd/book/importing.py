"""A reader's own network and data, named by import path.

An import path is ``package.module:name`` or ``folder/file.py:name``.

.. warning::
   This runs code. What stands in the module is executed with the rights of whoever runs the
   chapter: files, network and all. Pass only paths of code that you have read or trust, and never
   one that came from elsewhere, such as a form on a web page.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfgd.modules import converted
from gfgd.objective import Objective

#: Losses that have a short name.
LOSSES = {
    "cross_entropy": "torch.nn.functional:cross_entropy",
    "mse": "torch.nn.functional:mse_loss",
}


def load_function(path: str, argument: str = "path") -> Callable[..., Any]:
    """Return the function (or class) that an import path names. The module's code runs.

    Parameters
    ----------
    path
        ``package.module:name``, looked for in the working directory and among what is installed;
        or ``folder/file.py:name``, a file, relative to the working directory.
    argument
        What the caller calls the path, for the error messages.

    Notes
    -----
    The working directory (for a file its folder) is put in front of ``sys.path`` and stays there,
    as Python does for a script, so that the module finds its neighbours. A module is imported once
    per process: restart the kernel after editing it.

    Raises
    ------
    ValueError
        If the path is malformed, there is no such file, module or name, the module cannot be
        imported, or what is named cannot be called.

    Examples
    --------
    >>> load_function("math:hypot")(3, 4)
    5.0
    """
    said = f"{argument} = {path!r}"
    place, _, name = path.rpartition(":")
    if not place or not name.isidentifier():
        raise ValueError(f"{said}: write package.module:function or folder/file.py:function")
    module = _from_file(place, said) if place.endswith(".py") else _from_name(place, said)
    public = [key for key in vars(module) if not key.startswith("_")]
    if not hasattr(module, name):
        close = get_close_matches(name, public, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(public)}"
        raise ValueError(f"{said}: {place} has no {name!r}; {hint}")
    found = getattr(module, name)
    if not callable(found):
        raise ValueError(f"{said}: is a {type(found).__name__}, must be a function or a class")
    return found


def load_factory(path: str, argument: str = "path") -> Callable[[], Any]:
    """Return the function that an import path names and that makes something without arguments.

    Raises
    ------
    ValueError
        As `load_function`, or if what is named is a ``torch.nn.Module`` itself: it would keep what
        an earlier run has left in it.
    """
    found = load_function(path, argument)
    if isinstance(found, torch.nn.Module):
        raise ValueError(
            f"{argument} = {path!r}: is a {type(found).__name__} itself; name a function that "
            "makes and returns it"
        )
    return found


def make_network(path: str, *, seed: int) -> torch.nn.Module:
    """Return the module that the function at an import path makes when called without arguments.

    ``torch.manual_seed(seed)`` is called first, so that the seed determines the start; torch's
    random state is restored afterwards.

    Raises
    ------
    ValueError
        As `load_function`, or if the function fails or returns no ``torch.nn.Module``.
    """
    module = _call(path, "network", seed)
    if not isinstance(module, torch.nn.Module):
        hint = "call the class in a function" if isinstance(module, type) else "return one"
        raise ValueError(
            f"network = {path!r}: returned {_described(module)}, no torch.nn.Module; {hint}"
        )
    return module


def make_data(path: str, *, seed: int) -> tuple[Any, Any]:
    """Return the inputs and targets, one sample a row, that the function at a path returns.

    A ``Dataset`` or ``DataLoader`` of such pairs takes the place of inputs; targets then are None.

    Arrays are turned into tensors, whole numbers among the targets into int64, as PyTorch's losses
    want labels. Inputs may be a tuple or a dict, arguments of the module; targets may be None. The
    function is called without arguments, after ``torch.manual_seed(seed)``.

    Raises
    ------
    ValueError
        As `load_function`, or if the function fails or does not return two of these, of equal,
        positive length with finite entries.
    """
    said = f"data = {path!r}"
    pair = _call(path, "data", seed)
    if isinstance(pair, (Dataset, DataLoader)):
        return pair, None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(
            f"{said}: returned {_described(pair)}; must return a pair (inputs, targets)"
        )
    inputs, targets = _tensors(pair[0], f"{said}: inputs"), pair[1]
    if targets is not None:
        targets = _tensor(targets, f"{said}: targets")
        targets = targets if targets.is_floating_point() else targets.long()
    parts = inputs.values() if isinstance(inputs, dict) else inputs
    tensors = [*(parts if isinstance(inputs, (tuple, dict)) else [inputs]), targets]
    shapes = [tuple(tensor.shape) for tensor in tensors if tensor is not None]
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{said}: returned tensors of shapes {', '.join(map(str, shapes))}; the first "
            "dimension, the samples, must be the same"
        )
    return inputs, targets


def load_loss(name: str) -> Callable[..., Any]:
    """Return a loss, which maps outputs and targets to one number, by name or import path.

    Raises
    ------
    ValueError
        If it is neither a key of `LOSSES` nor an import path that `load_function` can load, or is a
        class that cannot be called without arguments.

    Notes
    -----
    Of a class, such as ``torch.nn:CrossEntropyLoss``, an instance is made without arguments.
    """
    if ":" not in name and name not in LOSSES:
        known = ", ".join(repr(key) for key in LOSSES)
        raise ValueError(f"loss = {name!r}: must be {known}, or package.module:function")
    loss = load_function(LOSSES.get(name, name), "loss")
    if not isinstance(loss, type):
        return loss
    try:
        return loss()
    except Exception as error:  # a user's class may raise anything
        raise ValueError(
            f"loss = {name!r}: is a class, and making it without arguments failed: "
            f"{type(error).__name__}: {error}; name a function of outputs and targets"
        ) from error


def make_objective(
    network: str,
    loss: str,
    data: tuple[Any, Any],
    *,
    seed: int,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> Objective:
    """Return the loss of a network at an import path on data, as a function of its weights.

    Parameters
    ----------
    network, loss
        As `make_network` and `load_loss` take them.
    data
        Inputs and targets, as `make_data` returns them.
    seed
        Of the network's start.
    dtype, device
        Of all numbers with a fraction in the module, the loss and the data; of all tensors.

    Raises
    ------
    ValueError
        As `make_network`, `load_loss` and ``Objective.from_module``.
    """
    parts = make_network(network, seed=seed), load_loss(loss), *data
    return Objective.from_module(*(converted(part, dtype, device) for part in parts))


def shapes(values: Any) -> str:
    """Return what tensors there are in inputs, targets or outputs, in Markdown.

    Examples
    --------
    >>> shapes((torch.zeros(5, 2), None))
    '(5, 2), `torch.float32`; NoneType'
    """
    if isinstance(values, Tensor):
        return f"{tuple(values.shape)}, `{values.dtype}`"
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, tuple):
        return "; ".join(map(shapes, values))
    return type(values).__name__


def _from_name(name: str, said: str) -> ModuleType:
    """Import a module by its dotted name, with the working directory in front."""
    here = str(Path.cwd())
    _in_front(here)
    try:
        with _no_arguments(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"{said}: there is no module {error.name!r}, neither in {here} nor installed; "
                "change into the folder that has it, or write path/to/file.py:function"
            ) from None
        raise _broken(said, error) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise _broken(said, error) from error


def _from_file(name: str, said: str) -> ModuleType:
    """Import a file under a name of its own, with its folder in front."""
    file = Path(name).expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"{said}: there is no file {file}")
    alias = f"{file.stem}_{sha256(str(file).encode()).hexdigest()[:12]}"
    if alias in sys.modules:
        return sys.modules[alias]
    _in_front(str(file.parent))
    spec = importlib.util.spec_from_file_location(alias, file)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # as import does: dataclasses look their module up
    try:
        with _no_arguments(name):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[alias]
        raise _broken(said, error) from error
    return module


def _in_front(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


@contextmanager
def _no_arguments(name: str) -> Iterator[None]:
    """Keep our command line from a module that reads one at import, as scripts do."""
    ours, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = ours


def _broken(said: str, error: BaseException) -> ValueError:
    if isinstance(error, SystemExit):
        return ValueError(
            f"{said}: importing it ended Python ({error!r}); keep what runs it as a script under "
            "if __name__ == '__main__':"
        )
    return ValueError(f"{said}: importing it failed: {type(error).__name__}: {error}")


def _call(path: str, argument: str, seed: int) -> Any:
    """Call a reader's function without arguments, with torch seeded for it alone."""
    function = load_factory(path, argument)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        try:
            return function()
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise ValueError(
                f"{argument} = {path!r}: calling it without arguments failed: "
                f"{type(error).__name__}: {error}"
            ) from error


def _tensors(value: Any, said: str) -> Any:
    """Return inputs as a tensor, or a tuple or dict of tensors."""
    if isinstance(value, tuple):
        return tuple(_tensor(one, f"{said}[{i}]") for i, one in enumerate(value))
    if isinstance(value, dict):
        return {key: _tensor(one, f"{said}[{key!r}]") for key, one in value.items()}
    return _tensor(value, said)


def _tensor(value: Any, said: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{said} are {_described(value)}; must be a tensor or an array") from None
    if tensor.dim() == 0 or len(tensor) == 0:
        raise ValueError(f"{said} have shape {tuple(tensor.shape)}; must have a row for a sample")
    if tensor.is_complex() or not tensor.isfinite().all():
        raise ValueError(f"{said}: must be finite real numbers")
    return tensor


def _described(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
