"""Data that come in batches, the same ones in each pass."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

#: Samples of a batch, where a data set is given and no loader.
BATCH_SIZE = 1024

_REMEDY = (
    "the loss would be no function of the parameters; load with shuffle=False and without random "
    "augmentation"
)


class Batches:
    """Pairs (inputs, targets) from a ``Dataset`` or ``DataLoader``, the same in each pass.

    A batch that is a tuple or list of two is (inputs, targets); any other is inputs without
    targets. Inputs that are a list, as loaders collate tuples, become a tuple. Going through the
    batches reads them anew, one at a time; what was read is not kept.

    Parameters
    ----------
    data
        A data set, read in batches of `BATCH_SIZE`, or a loader, read as it is.

    Attributes
    ----------
    sizes
        How many samples are in each batch: the length of the first tensor among the targets, or
        among the inputs where there are none.

    Raises
    ------
    ValueError
        If there is no batch, one has no samples, their dtypes differ, or a second pass does not
        bring the same as the first: the loader shuffles, augments at random, or can be read only
        once. Later, if a batch has another size than in those two passes.
    """

    def __init__(self, data: Dataset | DataLoader) -> None:
        self._loader = data if isinstance(data, DataLoader) else _loader(data)
        self.sizes: list[int] = []
        with torch.random.fork_rng([]):  # the second pass goes on in it, so that chance shows
            dtypes: list[str] = []
            first = [self._described(pair, dtypes) for pair in map(_pair, self._loader)]
            if not first:
                raise ValueError("data: the loader yields no batch; is the data set empty?")
            second = [_fingerprint(pair) for pair in map(_pair, self._loader)]
        if len(second) < len(first):
            raise ValueError(
                f"data: a first pass yields {len(first)} batches, a second {len(second)}; a flow "
                "goes through them again and again, so that __iter__ must start anew each time"
            )
        if second != first:
            changed = [a != b for a, b in zip(first, second[: len(first)], strict=True)]
            where = f"batch {changed.index(True)}" if any(changed) else "the number of batches"
            raise ValueError(f"data: {where} changes between two passes, so that {_REMEDY}")

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        with torch.random.fork_rng([]):  # a loader draws a seed for its workers
            reading = map(_pair, self._loader)
        for number, size in enumerate(self.sizes):
            # No name here may hold the batch while the next one is read.
            yield _of_size(next(reading, None), number, size)
        if next(reading, None) is not None:
            raise ValueError(f"data: has more than {len(self.sizes)} batches now: {_REMEDY}")

    def first(self) -> tuple[Any, Any]:
        """Return the first batch."""
        return next(iter(self))

    def _described(self, pair: tuple[Any, Any], dtypes: list[str]) -> bytes:
        """Note a batch's size and dtypes, and return its fingerprint."""
        number = len(self.sizes)
        self.sizes.append(_size(pair, number))
        dtypes.append(", ".join(str(one.dtype) for one in tensors(pair)))
        if dtypes[number] != dtypes[0]:
            raise ValueError(
                f"data: batch {number} is of {dtypes[number]}, but batch 0 of {dtypes[0]}; convert "
                "all samples to the same dtypes"
            )
        return _fingerprint(pair)


def reduction(
    loss: Callable[[Any, Any], Tensor],
    batches: Iterable[tuple[Any, Any]],
    sizes: Sequence[int],
    *,
    says: object = None,
) -> str:
    """Return whether a loss is the "mean" or the "sum" of what it is on parts of its samples.

    It is evaluated on parts of the first batch, and then on each batch with the first sample
    beside it. Where that tells nothing, because outputs are no tensors with a row for each sample,
    the attribute or argument ``reduction`` of `says` counts.

    Parameters
    ----------
    loss
        Of outputs and targets.
    batches
        Their outputs and targets.
    sizes
        How many samples are in each.
    says
        The loss as its user gave it.

    Raises
    ------
    ValueError
        If it is neither, as with class weights, ignored labels or a loss of pairs; or if nothing
        tells.
    """
    possible, told, blind = {"mean", "sum"}, False, False
    beside = None
    for number, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
        if beside is None:
            cut = max(1, size // 3)
            parts = rows(batch, slice(cut), size), rows(batch, slice(cut, None), size)
            counts = cut, size - cut
            beside = rows(batch, slice(1), size)
        else:
            parts, counts = (beside, batch), (1, size)
        if blind or not counts[1]:
            continue
        found = _reductions(loss, parts, counts, None if number else batch)
        blind = found is None  # what does not see the samples of one batch sees those of none
        told = told or not blind
        if not (found is None or (possible := possible & found)):
            raise ValueError(
                f"loss: on batch {number} it is neither the mean nor the sum of what it is on "
                "parts of the samples (class weights, ignored labels, pairs of samples?), so that "
                "the loss over all data cannot be put together from batches; give a sum over "
                "samples (reduction='sum'), divided by a number of your choice"
            )
    return _chosen(possible, says, told=told)


def tensors(nested: Any) -> Iterator[Tensor]:
    """Go through the tensors in tuples, lists and dicts."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, (Mapping, tuple, list)):
        for one in nested.values() if isinstance(nested, Mapping) else nested:
            yield from tensors(one)


def rows(nested: Any, at: slice, size: int) -> Any:
    """Return the samples `at` of a batch of `size`: rows of each tensor that has so many."""

    def change(one: Tensor) -> Tensor:
        return one[at] if one.dim() and len(one) == size else one

    if isinstance(nested, Tensor):
        return change(nested)
    if isinstance(nested, Mapping):
        return {key: rows(one, at, size) for key, one in nested.items()}
    if type(nested) in (tuple, list):
        return type(nested)(rows(one, at, size) for one in nested)
    return nested


def joined(batches: Sequence[Any]) -> Any:
    """Return batches put together, sample after sample; what is no row is that of the first.

    Raises
    ------
    ValueError
        If they hold other things than tensors, tuples, lists and dicts.
    """
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batches)) if first.dim() else first
    if isinstance(first, Mapping):
        return {key: joined([one[key] for one in batches]) for key in first}
    if type(first) in (tuple, list):
        return type(first)(joined(parts) for parts in zip(*batches, strict=True))
    if first is None:
        return None
    raise ValueError(f"batches of {type(first).__name__} cannot be put together")


def _reductions(
    loss: Callable[[Any, Any], Tensor], parts: tuple[Any, Any], counts: tuple[int, int], both: Any
) -> set[str] | None:
    """Return how a loss over two parts may be made from theirs; None where it does not see them."""
    try:
        both = joined(parts) if both is None else both
        values = [loss(*pair) for pair in (*parts, both)]
        first, second, whole = map(float, values)
        tolerance = 1e3 * torch.finfo(values[2].dtype).eps * (abs(first) + abs(second))
    except Exception:  # a user's loss may raise anything where samples are no rows
        return None
    if tolerance and abs(first - second) <= tolerance and abs(first - whole) <= tolerance:
        return None
    mean = (counts[0] * first + counts[1] * second) / sum(counts)
    joints = {"mean": mean, "sum": first + second}
    return {name for name, joint in joints.items() if abs(joint - whole) <= tolerance}


def _chosen(possible: set[str], loss: object, *, told: bool) -> str:
    """Return which of the possible reductions a loss has, by what it says of itself if need be."""
    said = _said(loss)
    said = "mean" if said == "batchmean" else said
    if len(possible) == 1:
        return next(iter(possible))
    if said in possible:
        return str(said)
    if told:  # the loss is 0 on all data
        return "mean"
    raise ValueError(
        "loss: it cannot be told whether it is the mean or the sum over the samples of a batch; "
        "say so with loss.reduction = 'mean' or 'sum'"
    )


def _said(loss: object) -> object:
    """Return the reduction that a loss says it has, or None."""
    if isinstance(loss, functools.partial):
        return loss.keywords.get("reduction", _said(loss.func))
    if hasattr(loss, "reduction"):
        return cast(Any, loss).reduction
    try:
        told = inspect.signature(loss).parameters.get("reduction") if callable(loss) else None
    except (TypeError, ValueError):  # it has no signature
        told = None
    return told.default if told else None


def _loader(data: Dataset) -> DataLoader:
    try:
        return DataLoader(data, batch_size=BATCH_SIZE)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: no loader can be made of it: {error}") from error


def _pair(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and targets of what a loader yields."""
    inputs, targets = batch, None
    if isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence):
        if len(batch) not in (1, 2):
            raise ValueError(
                f"data: yields batches of {len(batch)} parts, must yield pairs (inputs, targets); "
                "several inputs are a tuple or a dict in such a pair"
            )
        inputs, targets = batch if len(batch) == 2 else (batch[0], None)
    return tuple(inputs) if type(inputs) is list else inputs, targets


def _size(pair: tuple[Any, Any], number: int) -> int:
    inputs, targets = pair
    one = next(tensors(targets), None)
    one = next(tensors(inputs), None) if one is None else one
    if one is None or not one.dim():
        raise ValueError(
            f"data: batch {number} has no tensor with a row for each sample; let the loader "
            "collate samples to tensors"
        )
    packed = next((part for part in pair if isinstance(part, PackedSequence)), None)
    size = len(one) if targets is not None or packed is None else int(packed.batch_sizes[0])
    if not size:
        raise ValueError(f"data: batch {number} has no samples; leave it out")
    return size


def _of_size(pair: tuple[Any, Any] | None, number: int, size: int) -> tuple[Any, Any]:
    found = 0 if pair is None else _size(pair, number)
    if pair is None or found != size:
        raise ValueError(
            f"data: batch {number} has {found} samples now, and had {size} before: {_REMEDY}"
        )
    return pair


def _fingerprint(pair: tuple[Any, Any]) -> bytes:
    """Return a hash of a batch's numbers and their shapes."""
    digest = hashlib.blake2b()
    for one in tensors(pair):
        digest.update(repr(one.shape).encode())
        digest.update(_bytes(one.detach().cpu()))
    return digest.digest()


def _bytes(one: Tensor) -> memoryview:
    dense = one.to_dense() if one.layout is not torch.strided else one
    return dense.contiguous().reshape(-1).view(torch.uint8).numpy().data
