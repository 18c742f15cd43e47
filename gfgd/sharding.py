"""One objective whose data are spread over the processes of ``torch.distributed``.

Every process, a *rank*, holds its shard of the data and runs the same program. Values, gradients
and products are summed over the ranks, so that whatever takes an :class:`Objective` runs unchanged
under ``torchrun``, and each rank ends with the whole result.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from gfgd import checks
from gfgd.objective import Objective, Point, Term

# Integers of the same width, to look at the bits of numbers.
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
# What ranks do together, by the order of the highest derivative.
_OPERATIONS = ("value", "gradient", "Hessian-vector product", "third derivative")


class ShardError(Exception):
    """Another rank failed, ended, or has not answered within the group's timeout."""


def sharded(
    objective: Objective | None,
    *,
    samples: float,
    reduction: str = "mean",
    group: dist.ProcessGroup | None = None,
) -> ShardedObjective:
    """Return f = Σ_r w_r f_r, the objective of all data, from each rank's own f_r.

    To be called by all ranks of the group, each with its part. With the mean of n_r samples for
    f_r the weight is w_r = n_r / Σ n, and f the mean over all samples, however unequal the shards
    are. Derivatives of f_r up to the third are summed alike.

    Parameters
    ----------
    objective
        f_r, on this rank's shard. None where the rank has no data.
    samples
        n_r: how many samples the rank has; or, where its mean divides by something else (the sum
        of class weights, the number of tokens that are not ignored), that.
    reduction
        ``"mean"``: f_r is a mean over its samples, and so is f. ``"sum"``: f_r is a sum, w_r = 1.
    group
        Of processes; by default all.

    Raises
    ------
    ValueError
        If ``torch.distributed`` has not been initialised, and, on all ranks alike, if an argument
        is wrong on one of them: no rank has data, a rank has data and no objective, d or
        the modules' starts differ.

    Notes
    -----
    *All ranks take the same decisions*, such as whether a step of the flow is accepted, because
    they see the same bits: the sum is made on the first rank of the group and copied to the others.
    (No backend promises equal bits after ``all_reduce``.) What they do with it is the same
    arithmetic. But machines of different kinds, or with different numbers of threads, may round it
    differently, and ranks may be given different starts. Therefore the bits of θ are compared at
    each evaluation, and where they differ all ranks stop with a ``ValueError``.

    An evaluation moves four times d numbers at most to and from a rank, and takes two vectors of
    memory beside those of f_r.

    If a rank raises an exception in an evaluation, the others raise a :class:`ShardError` that says
    which and why. If one is killed, the others raise it as soon as its connections close (gloo); if
    it hangs, after the ``timeout`` of ``init_process_group``, 30 minutes if not said otherwise.

    With the backend ``nccl`` call ``torch.cuda.set_device`` first, and move module and data there.
    """
    checks.one_of(("mean", "sum"), reduction=reduction)
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "torch.distributed is not initialised: call torch.distributed.init_process_group(), in "
            "a program that torchrun starts"
        )
    ranks = _Ranks(group)
    complaint = _complaint(objective, samples)
    start = getattr(objective, "start", None)
    mine = (
        complaint,
        None if complaint else float(samples),
        objective.dimension if objective is not None else None,
        None if start is None else (str(start.dtype), fingerprint("start", [start])),
    )
    complaints, counts, dimensions, starts = zip(*ranks.gathered(mine), strict=True)
    _refuse([f"rank {rank}: {said}" for rank, said in enumerate(complaints) if said])
    total = sum(counts)
    if total == 0:
        raise ValueError("samples = 0 on every rank: there are no data")
    _refuse_different("dimension", dimensions, "give each rank the same network")
    remedy = "make the network after torch.manual_seed with the same seed on every rank"
    _refuse_different("start", starts, remedy)
    if None in starts and set(starts) != {None}:
        source = next(rank for rank, one in enumerate(starts) if one is not None)
        sent = ranks.sent(None if start is None else start.cpu(), source)
        start = sent.to(ranks.device) if start is None else start
    return ShardedObjective(
        objective if samples > 0 else None,
        weight=float(samples) / total if reduction == "mean" else 1.0,
        dimension=next(one for one in dimensions if one is not None),
        start=start,
        ranks=ranks,
    )


class ShardedObjective(Objective):
    """f = Σ_r w_r f_r over the ranks of ``torch.distributed``; made by :func:`sharded`.

    All ranks must call the same methods in the same order, at the same points. Results have the
    precision of θ. Its one term sums over the ranks, too, also when autograd differentiates it; it
    holds all chunks of the rank's data in memory at once, which the methods do not.
    """

    def __init__(
        self,
        local: Objective | None,
        *,
        weight: float,
        dimension: int,
        start: Tensor | None,
        ranks: _Ranks,
    ) -> None:
        self._local, self._weight, self._ranks = local, weight, ranks
        self._start = start
        self._complaints: dict[int, list[str]] = {}
        super().__init__(_summed_term(local, weight, ranks), dimension=dimension)

    @property
    def start(self) -> Tensor:
        """θ of the modules that the ranks' objectives were made from, shape ``(d,)``.

        Raises
        ------
        AttributeError
            If the ranks' objectives have no start of their own.
        """
        if self._start is None:
            raise AttributeError("start: the ranks' objectives have none; choose one")
        return self._start

    @property
    def leads(self) -> bool:
        """Whether this rank is the first: the one to print and to write files."""
        return self._ranks.rank == 0

    def value(self, point: Point) -> Tensor:
        """Return f(θ), shape ``(...)``."""
        at = self._check(point)
        (value,) = self._summed(0, [at], [at.shape[:-1]], lambda shard: (shard.value(at),))
        return value

    def value_and_gradient(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return f(θ) and ∇f(θ) for the cost of one gradient."""
        at = self._check(point)
        value, gradient = self._summed(
            1,
            [at],
            [at.shape[:-1], at.shape],
            lambda shard: shard.value_and_gradient(at),
        )
        return value, gradient

    def gradient_and_hessian_vector_product(
        self, point: Point, vector: Point
    ) -> tuple[Tensor, Tensor]:
        """Return ∇f(θ) and ∇²f(θ) v for the cost of one Hessian-vector product."""
        at, along = self._check(point), self._check(vector)
        shape = torch.broadcast_shapes(at.shape, along.shape)
        gradient, product = self._summed(
            2,
            [at, along],
            [shape, shape],
            lambda shard: shard.gradient_and_hessian_vector_product(at, along),
        )
        return gradient, product

    def third_derivative(self, point: Point, first: Point, second: Point) -> Tensor:
        """Return the vector D³f(θ)[u, v], shape ``(..., d)``: ∇_θ ⟨u, ∇²f(θ) v⟩."""
        at, one, other = self._check(point), self._check(first), self._check(second)
        (third,) = self._summed(
            3,
            [at, one, other],
            [torch.broadcast_shapes(at.shape, one.shape, other.shape)],
            lambda shard: (shard.third_derivative(at, one, other),),
        )
        return third

    def _only_term(self) -> None:
        """Return None: the data are in several processes, and go through in chunks."""

    @property
    def unchecked(self) -> Objective:
        """The same function, whose derivatives are taken as they come."""
        return ShardedObjective(
            None if self._local is None else self._local.unchecked,
            weight=self._weight,
            dimension=self.dimension,
            start=self._start,
            ranks=self._ranks,
        )

    def require_derivatives(self, order: int) -> None:
        """Raise ``ValueError``, on all ranks, if derivatives up to `order` are wrong on one."""
        if order not in self._complaints:
            mine = None
            try:
                if self._local is not None:
                    self._local.require_derivatives(order)
            except ValueError as error:
                mine = str(error)
            everyone = enumerate(self._ranks.gathered(mine))
            self._complaints[order] = [f"rank {rank}: {said}" for rank, said in everyone if said]
        _refuse(self._complaints[order])

    def everywhere(self, names: Collection[str]) -> set[str]:
        """Return the names that were found on some rank."""
        return set().union(*self._ranks.gathered(sorted(names)))

    def _summed(
        self,
        order: int,
        operands: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        derivatives: Callable[[Objective], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """Return Σ_r w_r derivatives(f_r), tensors of the given shapes; all ranks take part.

        `order` is that of the highest derivative among them.
        """
        operands = [operand.detach() for operand in operands]
        self._ranks.agree(_OPERATIONS[order], operands)
        if order:
            self.require_derivatives(order)
        dtype = operands[0].dtype
        sizes = [shape.numel() for shape in shapes]
        # One message, led by the number of ranks that failed.
        message = operands[0].new_zeros(
            1 + sum(sizes), dtype=torch.promote_types(dtype, torch.float32)
        )
        failure: Exception | None = None
        if self._local is not None:
            try:
                shares = derivatives(self._local)
                for place, share in zip(message[1:].split(sizes), shares, strict=True):
                    place.copy_(share.reshape(-1)).mul_(self._weight)
            except Exception as error:  # the other ranks wait, and must hear of anything
                failure = error
                message.zero_()[0] = 1
        self._ranks.add(message)
        if message[0] > 0:
            self._ranks.raise_failures(failure)
        parts = message[1:].split(sizes)
        return tuple(
            part.to(dtype).reshape(shape) for part, shape in zip(parts, shapes, strict=True)
        )


class _Ranks:
    """The processes of a group, and what they say to each other."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.device = torch.device("cpu")
        if dist.get_backend(group) == "nccl":  # which moves nothing else
            self.device = torch.device("cuda", torch.cuda.current_device())

    def gathered(self, mine: object) -> list[Any]:
        """Return what each rank gave, by rank."""
        everyone: list[Any] = [None] * self.size
        self._together(lambda: dist.all_gather_object(everyone, mine, group=self.group))
        return everyone

    def sent(self, mine: object, source: int) -> Any:
        """Return what the rank `source` gave."""
        carried = [mine]
        self._together(
            lambda: dist.broadcast_object_list(carried, group=self.group, group_src=source)
        )
        return carried[0]

    def add(self, numbers: Tensor) -> None:
        """Replace `numbers` by the sum over the ranks, with the same bits on all of them."""

        def added() -> None:
            dist.reduce(numbers, group=self.group, group_dst=0)
            dist.broadcast(numbers, group=self.group, group_src=0)

        self._together(added)

    def agree(self, name: str, operands: Sequence[Tensor]) -> None:
        """Raise ``ValueError`` on all ranks unless all evaluate the same thing at the same bits."""
        mine = fingerprint(name, operands)
        ends = torch.tensor([mine, -mine], dtype=torch.int64, device=self.device)
        self._together(lambda: dist.all_reduce(ends, dist.ReduceOp.MAX, group=self.group))
        if ends[0] == -ends[1]:
            return
        said = [f"‖{'θuv'[i]}‖ = {float(x.double().norm())!r}" for i, x in enumerate(operands)]
        said.append(f"of shape {tuple(operands[0].shape)}, {operands[0].dtype}")
        everyone = self.gathered(f"{name} at {', '.join(said)}")
        listed = "; ".join(f"rank {rank}: {one}" for rank, one in enumerate(everyone))
        raise ValueError(
            f"the ranks have come apart: {listed}; give all of them the same start and arguments, "
            "the same number of threads and machines of one kind"
        )

    def raise_failures(self, mine: Exception | None) -> None:
        """Raise this rank's own error again, or a ShardError that tells those of others."""
        everyone = enumerate(
            self.gathered(None if mine is None else f"{type(mine).__name__}: {mine}")
        )
        if mine is not None:
            raise mine
        raise ShardError(
            "; ".join(f"rank {rank} failed: {said}" for rank, said in everyone if said)
        )

    def _together(self, communicate: Callable[[], object]) -> None:
        try:
            communicate()
        except RuntimeError as error:  # what all backends raise
            raise ShardError(
                f"rank {self.rank} of {self.size} lost another: a process was killed, or has not "
                f"answered within the timeout; its own messages say more ({_shortened(error)})"
            ) from error


def fingerprint(name: str, operands: Sequence[Tensor]) -> int:
    """Return a number below 2⁶² that tells operations, shapes, dtypes and bits apart.

    Sums of bits as integers do not depend on the order of summation.
    """
    shapes = [(tuple(operand.shape), str(operand.dtype)) for operand in operands]
    found = zlib.crc32(f"{name} {shapes}".encode())
    for operand in operands:
        bits = operand.detach().contiguous().view(_BITS[operand.element_size()])
        found = (1_000_003 * found + int(bits.sum(dtype=torch.int64))) % 2**62
    return found


class _Spread(torch.autograd.Function):
    """θ ↦ θ on every rank; derivatives with respect to it are summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, point: Tensor, ranks: _Ranks) -> Tensor:
        ctx.ranks = ranks
        return point.view_as(point)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return _Summed.apply(gradients[0], ctx.ranks), None


class _Summed(torch.autograd.Function):
    """x_r ↦ Σ_r x_r, on every rank. The adjoint of _Spread, so each is the other's derivative."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, ranks: _Ranks) -> Tensor:
        ctx.ranks = ranks
        total = share.detach().clone(memory_format=torch.contiguous_format)
        ranks.add(torch.view_as_real(total) if total.is_complex() else total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return _Spread.apply(gradients[0], ctx.ranks), None


def _summed_term(local: Objective | None, weight: float, ranks: _Ranks) -> Term:
    """Return f as one term that autograd differentiates over all ranks, as often as it likes."""

    def nothing(point: Tensor) -> Tensor:
        # Zero with all derivatives, which autograd must not notice: it would skip this rank.
        return 0 * point.sin().sum(-1)

    terms = (nothing,) if local is None else local.terms

    def term(point: Tensor) -> Tensor:
        mine: Any = _Spread.apply(point, ranks)
        share = torch.stack([part(mine) for part in terms]).sum(0) * weight
        precision = torch.promote_types(share.dtype, point.dtype)  # the same on all ranks
        total: Any = _Summed.apply(share.to(precision), ranks)
        return total

    return term


def _complaint(objective: Objective | None, samples: object) -> str | None:
    """Return what is wrong with a rank's arguments, or None."""
    try:
        checks.non_negative(samples=samples)
    except ValueError as error:
        return str(error)
    if objective is None and samples:
        return f"samples = {samples!r} without an objective; give one, or samples=0"
    return None


def _refuse(complaints: Sequence[str]) -> None:
    if complaints:
        raise ValueError("; ".join(complaints))


def _refuse_different(name: str, values: Sequence[object], remedy: str) -> None:
    """Raise if two of the values that are not None differ."""
    given = [(rank, value) for rank, value in enumerate(values) if value is not None]
    for rank, value in given[1:]:
        if value != given[0][1]:
            what = f"{given[0][1]} and {value}" if name == "dimension" else "is not the same"
            raise ValueError(f"{name}: {what} on ranks {given[0][0]} and {rank}; {remedy}")


def _shortened(error: Exception) -> str:
    """Return the first line of an error: backends add stacks."""
    return str(error).strip().partition("\n")[0][:200]
