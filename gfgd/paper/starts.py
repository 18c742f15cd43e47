"""The starts of Elkabetz & Cohen (2021), recomputed.

Their code drew its weights on a GPU, with seed 1. CUDA's generator is a formula that any machine
evaluates: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011), numbers of seed, place and offset
alone. So their four starts follow from the seed and from how many numbers were drawn before; no
weights need be stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks import Network

#: What a chapter's or the archive's ``start`` is where it is no seed.
PAPER = "paper"

# Words of 32 bits that one call of Philox gives.
_WORDS = 4
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the 4 random words of Philox4x32-10 for each counter.

    Each of 10 rounds multiplies two of the counter's words to 64 bits, and mixes the halves with
    the other words and the key; the key then advances by fixed amounts (Salmon et al. 2011,
    "Parallel random numbers: as easy as 1, 2, 3", section 4.3).

    Parameters
    ----------
    counter
        Words of 32 bits, shape ``(..., 4)``.
    key
        Two such words; CUDA's seed is ``key[0] + 2³² key[1]``.

    Returns
    -------
    np.ndarray
        uint32, shape ``(..., 4)``.
    """
    c0, c1, c2, c3 = (counter[..., j].astype(np.uint64) for j in range(_WORDS))
    for number in range(10):
        k0, k1 = (np.uint64((k + number * w) % 2**32) for k, w in zip(key, _WEYL, strict=True))
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ k0,
            second & _LOW,
            (first >> _HALF) ^ c3 ^ k1,
            first & _LOW,
        )
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


@dataclass
class CudaGenerator:
    """PyTorch's generator on a GPU, float32, as of 2021.

    Attributes
    ----------
    seed
        What ``torch.manual_seed`` was given.
    offset
        How far the stream has come; a draw moves it on.
    most_blocks
        How many blocks of 256 threads draw at once at most. The card sets it, and with it which
        number goes where: 80 on the authors'.
    """

    seed: int
    offset: int = 0
    most_blocks: int = 80

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return numbers uniform in [low, high), float32, and move the offset on.

        T threads share a draw of n numbers. Thread i calls Philox once a round, and its four words
        go to the places i, i + T, i + 2T, i + 3T of the round's 4T.
        """
        count = math.prod(shape)
        threads = 256 * min(math.ceil(count / 256), self.most_blocks)
        rounds = math.ceil(count / (_WORDS * threads))
        place = self.offset // _WORDS + np.arange(rounds)[:, None]
        thread = np.arange(threads)[None, :]
        counter = np.stack(
            np.broadcast_arrays(place % 2**32, place >> 32, thread % 2**32, thread >> 32), axis=-1
        )
        words = philox(counter, (self.seed % 2**32, self.seed >> 32))  # (rounds, threads, 4)
        flat = words.transpose(0, 2, 1).reshape(-1)[:count]
        self.offset += _WORDS * rounds
        return torch.from_numpy(_scaled(flat, low, high).reshape(shape))


def _scaled(words: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return (x + ½) 2⁻³² scaled to [low, high), each operation rounded once to float32.

    float64 holds products of float32 numbers exactly, so that what a GPU does in one fused
    multiply-add is computed in it and then rounded.
    """
    unit = (words.astype(np.float32).astype(np.float64) * 2**-32 + 2**-33).astype(np.float32)
    unit[unit == 1] = 0  # CUDA's numbers lie in (0, 1], PyTorch's in [0, 1)
    first, last = np.float32(low), np.float32(high)
    width = np.float64(last - first)
    return (unit.astype(np.float64) * width + np.float64(first)).astype(np.float32)


@dataclass(frozen=True)
class _Layers:
    """The layers of a network of the paper: filters (O, C, k, k), then matrices (out, in)."""

    filters: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]
    biases: bool = False

    @property
    def weights(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all weights, in order."""
        return (*self.filters, *((out, into) for into, out in pairwise(self.widths)))


_FULLY_CONNECTED = (784, 50, 50, 10)
_FILTERS = ((6, 1, 5, 5), (16, 6, 5, 5))
_DENSE = (400, 120, 84, 10)

# In the order in which the authors ran them, one after the other, from one seed.
_NETWORKS = {
    "fully_connected_linear": _Layers((), _FULLY_CONNECTED),
    "fully_connected_relu": _Layers((), _FULLY_CONNECTED),
    "convolutional_adapted": _Layers(_FILTERS, _DENSE),
    "convolutional_off_the_shelf": _Layers(_FILTERS, _DENSE, biases=True),
}
_SEED = 1
#: Iterations of a network's five runs: 10 000 at η₀, and 10 000 r at η₀/r. Each passes once over
# the data, and to begin a pass PyTorch draws one number.
_PASSES = 10_000 * (1 + 2 + 5 + 10 + 20)


def authors_start(network: str) -> Tensor:
    """Return the weights from which the paper's figure of a network starts.

    Parameters
    ----------
    network
        A network of the paper, such as ``"fully_connected_relu"``.

    Returns
    -------
    Tensor
        θ(0), float32, shape ``(d,)``, in the order of :mod:`gfgd.networks`.

    Raises
    ------
    ValueError
        For another network.

    Notes
    -----
    The code is at github.com/elkabzo/cont_disc_opt_dnn (commit 4dd9089). Each network is built,
    which draws PyTorch's default for every layer in turn, and then its dense weights are drawn
    again, Xavier-uniform (Glorot & Bengio 2010). The five runs start from the same weights.
    """
    checks.one_of(_NETWORKS, network=network)
    stream = CudaGenerator(_SEED)
    for name, layers in _NETWORKS.items():
        point = _drawn(layers, stream)
        if name == network:
            break
        stream.offset += _WORDS * _PASSES
    return point


def _drawn(layers: _Layers, stream: CudaGenerator) -> Tensor:
    """Return one network's weights, drawn as its construction draws them."""
    pieces: list[Tensor] = []
    for shape in layers.weights:
        bound = math.prod(shape[1:]) ** -0.5  # 1/√fan_in
        pieces.append(stream.uniform(shape, -bound, bound))
        if layers.biases:
            pieces.append(stream.uniform(shape[:1], -bound, bound))
    for place, piece in enumerate(pieces):
        if piece.dim() == 2:
            bound = math.sqrt(6 / sum(piece.shape))
            pieces[place] = stream.uniform(tuple(piece.shape), -bound, bound)
    return torch.cat([piece.reshape(-1) for piece in pieces])


def initial(objective: Network, network: str, start: str) -> Tensor:
    """Return the point from which a run starts, in the objective's precision, shape ``(d,)``.

    Parameters
    ----------
    objective
        The network's loss.
    network
        Its name in the paper, as in :func:`authors_start`.
    start
        ``"paper"`` for the authors' own start; else a seed, for ``objective.initial``.

    Raises
    ------
    ValueError
        If `start` is neither, or if the objective has another number of parameters than the
        paper's network (as on other data).
    """
    if start != PAPER:
        return objective.initial(seed_of(start))
    point = authors_start(network)
    if len(point) != objective.dimension:
        raise ValueError(
            f"start = {start!r}: the paper's {network} has {len(point)} parameters, this one "
            f"{objective.dimension}; give a seed instead, such as start = '1'"
        )
    return point.to(objective.inputs)


def fitting(start: str, objective: Network, network: str) -> str:
    """Return `start`, or ``"1"`` where it is the paper's and `objective` is not its network.

    So on other data, such as the digits, or with other widths, or where the paper has no such
    network. A page that calls this says so.
    """
    if start == PAPER and (
        network not in _NETWORKS or len(authors_start(network)) != objective.dimension
    ):
        return "1"
    return start


def initial_or_seed(objective: Network, network: str, start: str) -> Tensor:
    """Return `initial`, from ``"1"`` where the paper has no such network (see `fitting`)."""
    return initial(objective, network, fitting(start, objective, network))


def check(*, start: str) -> None:
    """Raise ``ValueError`` unless `start` is ``"paper"`` or a seed."""
    if start != PAPER:
        seed_of(start)


def seed_of(start: str) -> int:
    """Return the seed that a ``start`` other than ``"paper"`` names."""
    if not (start.isascii() and start.isdigit()):
        raise ValueError(f"start = {start!r}: give {PAPER!r} or a seed, such as '1'")
    return int(start)


def described(start: str) -> str:
    """Return what a start is called: ``"the paper's start"`` or ``"seed 1"``."""
    return "the paper's start" if start == PAPER else f"seed {seed_of(start)}"
