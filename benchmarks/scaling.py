"""(e) How the time of a full-batch gradient grows with width, depth and number of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from benchmarks.measure import Measured, Table, alternate, quartiles, ratios
from gfgd import networks
from gfgd.problems import datasets

WIDTHS = (50, 100, 200, 400, 800)
DEPTHS = (2, 3, 4, 6, 8)
SAMPLES = (1_000, 3_000, 10_000, 30_000, 60_000)
#: Samples that are differentiated at a time.
CHUNK = 1_000


def scaling(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    samples: Sequence[int] = SAMPLES,
) -> Table:
    """Time a gradient of ReLU networks in float64; samples beyond those given are MNIST's."""
    many = (images, labels) if max(samples) <= len(images) else tuple(datasets.mnist())
    cases = {f"784-{w}-{w}-10": network(images, labels, (w, w)) for w in widths}
    cases |= {f"depth {n}, width 50": network(images, labels, (50,) * (n - 1)) for n in depths}
    cases |= {
        samples_name(count): network(many[0][:count], many[1][:count], (50, 50), CHUNK)
        for count in samples
    }
    whole = f"{samples_name(max(samples))} in one batch"
    cases[whole] = network(many[0][: max(samples)], many[1][: max(samples)], (50, 50))
    taken = alternate(
        min(rounds, 5),
        *[partial(one.gradient, one.initial(1)) for one in cases.values()],
        title="(e) gradients",
    )
    times = dict(zip(cases, taken, strict=True))
    parameters = [cases[f"784-{w}-{w}-10"].dimension for w in widths]
    by_width = [times[f"784-{w}-{w}-10"] for w in widths]
    by_samples = [times[samples_name(count)] for count in samples]
    return Table(
        f"(e) Seconds of a gradient, ReLU, float64; {len(images)} images where no number is given, "
        f"chunks of {CHUNK}",
        ("network", "parameters", "samples", "ms", "GFLOP/s"),
        [(name, *_cells(cases[name], seconds)) for name, seconds in times.items()],
        [
            Measured.median(
                "(e) seconds of a gradient ∝ samples^p: p",
                exponents(samples, by_samples),
                at_most=1.1,
            ),
            Measured.median(
                "(e) seconds of a gradient ∝ parameters^p by width: p",
                exponents(parameters, by_width),
            ),
            Measured.median(
                f"(e) seconds, {max(samples)} samples: one batch / chunks",
                ratios(times[whole], times[samples_name(max(samples))]),
            ),
        ],
    )


def network(
    images: Tensor, labels: Tensor, hidden: Sequence[int], chunk_size: int | None = None
) -> networks.FullyConnected:
    """Return a ReLU network in float64."""
    return networks.fully_connected(images, labels, hidden=hidden, chunk_size=chunk_size)


def samples_name(count: int) -> str:
    """Return the name of the case with so many samples."""
    return f"784-50-50-10, {count} samples"


def exponents(sizes: Sequence[int], times: Sequence[Sequence[float]]) -> list[float]:
    """Return the slope of log seconds over log size, fitted in each round."""
    return [float(np.polyfit(np.log(sizes), np.log(one), 1)[0]) for one in zip(*times, strict=True)]


def operations(objective: networks.FullyConnected) -> int:
    """Return the floating-point operations of the matrix products of a gradient.

    A multiplication and an addition for each sample and weight, three times: outputs, gradients of
    the weights, gradients of the layers' inputs, of which the first layer needs none.
    """
    first = math.prod(objective.shapes[0])
    return 2 * len(objective.inputs) * (3 * objective.dimension - first)


def _cells(objective: networks.FullyConnected, seconds: Sequence[float]) -> tuple[str, ...]:
    middle = quartiles(seconds)[0]
    return (
        str(objective.dimension),
        str(len(objective.inputs)),
        f"{1e3 * middle:.2f}",
        f"{operations(objective) / middle / 1e9:.1f}",
    )
