"""Gradient descent at the edge of stability: beside gradient flow, on average, and in its bursts.

Past a sharpness of 2/η gradient descent (GD) begins to oscillate. The oscillation grows from almost
nothing, becomes so large that it lowers the sharpness, and dies out: a *burst*. What is computed
here says where that happens, and how large the sharpness was; nothing models it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.descent import gradient_descent
from gfgd.flow import gradient_flow
from gfgd.large_steps.central import oscillation, time_average
from gfgd.objective import Objective, Point
from gfgd.spectrum import extreme_eigenvalues
from gfgd.trajectory import Trajectory

#: An oscillation is loud from where it has this share of its largest size.
LOUD = 0.2
#: Steps before and after the first loud one that :func:`first_burst` looks at.
BEFORE, AFTER = 30, 20
#: A burst that begins up to here cannot be told from the motion of the start.
EARLIEST = 20


@dataclass(frozen=True, eq=False)
class EdgeRuns:
    """GD, GF at the same times, and GD's time average, all from S starts.

    Attributes
    ----------
    step_size
        η.
    descent
        GD, every iterate, points of shape ``(T, S, d)``.
    flow
        GF at every so many of GD's times.
    average
        GD averaged over time, see :func:`gfgd.large_steps.central.time_average`.
    """

    step_size: float
    descent: Trajectory
    flow: Trajectory
    average: Trajectory


def runs_at_the_edge(
    objective: Objective,
    starts: Point,
    *,
    step_size: float,
    iterations: int,
    record_every: int,
    window: int,
    rtol: float = 1e-5,
) -> EdgeRuns:
    """Run GD from several starts, average it over time, and integrate GF to the same times.

    Parameters
    ----------
    objective, starts
        f, and the starts, shape ``(S, d)``.
    step_size, iterations
        η, and the number of steps of GD.
    record_every
        GF is recorded at every so many of GD's iterates.
    window
        So many iterates are averaged, an odd number.
    rtol
        GF's relative tolerance in a step; its absolute one is a hundredth of it.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If GD or GF does not complete: the message says where.
    """
    checks.whole(1, record_every=record_every)
    descent = gradient_descent(objective, starts, step_size=step_size, iterations=iterations)
    descent.require_completed(f"GD, η = {step_size:g}")
    average = time_average(descent, window)
    times = descent.times[::record_every]
    flow = gradient_flow(objective, starts, times, rtol=rtol, atol=rtol / 100)
    return EdgeRuns(step_size, descent, flow.require_completed("GF"), average)


def sharpness_at(objective: Objective, points: Tensor) -> Tensor:
    """Return λmax(∇²f) at T points that follow one another, shape ``(T,)``.

    The top eigenvector is followed from point to point, with the second one beside it for where the
    two change places. What would enter from outside is not looked for: see
    :func:`gfgd.spectrum.spectrum_along`, which looks, at a multiple of the cost.
    """
    warm, values = None, []
    for point in points:
        found = extreme_eigenvalues(
            objective, point, smallest=0, largest=2, warm_start=warm, failure_probability=None
        )
        warm = found.largest_vectors
        values.append(found.largest[0])
    return torch.stack(values)


def onset(amplitudes: Tensor) -> Tensor:
    """Return the first entry along the first axis that has a fifth of the largest.

    Shape ``(T, ...)`` in, ``(...)`` out. Where the amplitudes are the norms of what
    :func:`gfgd.large_steps.central.oscillation` returns, entry i belongs to iterate i + 1.
    """
    return (amplitudes > LOUD * amplitudes.amax(0)).to(torch.int8).argmax(0)


@dataclass(frozen=True, eq=False)
class Burst:
    """GD around the first burst of its oscillation.

    Attributes
    ----------
    iterate
        The first at which the oscillation has a fifth of its largest size.
    near
        The iterates k that were looked at, shape ``(N,)``.
    along
        ⟨u, δ_k⟩ there: the oscillation along the top eigenvector u of shortly before.
    middle_sharpness
        λmax / (2/η) at the middle (θ_{k−1} + 2θ_k + θ_{k+1})/4, shape ``(N,)``.
    """

    iterate: int
    near: Tensor
    along: Tensor
    middle_sharpness: Tensor

    @property
    def peak(self) -> tuple[int, float]:
        """The iterate at which the sharpness of the middle is largest, and that value."""
        top = int(self.middle_sharpness.argmax())
        return int(self.near[top]), float(self.middle_sharpness[top])


def first_burst(objective: Objective, descent: Trajectory, step_size: float) -> Burst:
    """Return what happens around the first burst of one run of GD that holds every iterate.

    Raises
    ------
    ValueError
        If no oscillation grows after iterate 20: what is largest then is the motion of the start.
    """
    points = descent.points
    wobble = oscillation(points)  # entry k − 1 belongs to iterate k
    burst = int(onset(wobble.norm(dim=-1))) + 1
    if burst <= EARLIEST:
        raise ValueError(
            f"no burst of GD's oscillation sets in after iterate {EARLIEST} of {len(points) - 1}; "
            f"take more iterations, or a larger step_size (η = {step_size:g})"
        )
    near = torch.arange(max(1, burst - BEFORE), min(len(points) - 2, burst + AFTER) + 1)
    before = extreme_eigenvalues(objective, points[burst - 8], smallest=0)
    middle = (points[near - 1] + 2 * points[near] + points[near + 1]) / 4
    assert before.largest_vectors is not None
    return Burst(
        iterate=burst,
        near=near,
        along=wobble[near - 1] @ before.largest_vectors[0],
        middle_sharpness=sharpness_at(objective, middle) * step_size / 2,
    )
