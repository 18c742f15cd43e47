"""How well a flow follows gradient descent at the edge of stability: on average, and in its burst.

At the edge gradient descent (GD) oscillates, so a flow is held against its average over time, from
where the oscillation begins. A flow that also models the oscillation can tell when it sets in, and
how large the sharpness is by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd.large_steps.bursts import AFTER, BEFORE, onset, sharpness_at
from gfgd.large_steps.central import CentralFlow
from gfgd.large_steps.pair_flow import PairFlow
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: The sharpness is computed at every so many of the times: it costs most.
SHARPNESS_EVERY = 9


@dataclass(frozen=True, eq=False)
class Following:
    """A flow beside GD's time average over a stretch of times.

    Attributes
    ----------
    distances
        ‖θ(t_i) − average(t_i)‖ at the times of the stretch that the flow reached, shape ``(T,)``.
    sharpness
        The mean of λmax / (2/η) along the flow.
    loss_error
        The mean of |model's loss / averaged loss − 1|.
    complete
        Whether the flow reached the end of the stretch. If not, all of this is about a part.
    """

    distances: Tensor
    sharpness: float
    loss_error: float
    complete: bool


def stretch_at_the_edge(central: CentralFlow, average: Trajectory) -> Tensor:
    """Return the central flow's times from its first oscillation on that GD's average covers.

    Raises
    ------
    ValueError
        If the central flow never oscillates: it does not come to the edge.
    """
    oscillates = central.variances[:, 0] > 0
    if not oscillates.any():
        raise ValueError(
            "central: Σ is 0 throughout, the flow does not come to the edge; take more iterations "
            "or a larger step_size"
        )
    times = central.times
    first, last = average.times[[0, -1]]
    return times[(times >= torch.maximum(first, times[oscillates][0])) & (times <= last)]


def following(
    objective: Objective,
    flow: Trajectory,
    average: Trajectory,
    modelled: tuple[Tensor, Tensor],
    *,
    step_size: float,
) -> Following:
    """Hold a flow against GD's time average.

    Parameters
    ----------
    objective, flow
        f, and the flow's path, one start, recorded at the times of the stretch.
    average
        GD's time average at the times of the stretch, with its averaged losses.
    modelled
        Times, and what the flow says of the averaged loss there, shape ``(N,)`` each; times of the
        stretch that are not among them do not count.
    step_size
        η.

    Raises
    ------
    ValueError
        If the flow reached none of the times, or did not record one that it passed.
    """
    reached = average.times[average.times <= flow.times[-1] + 1e-6 * step_size]
    if len(reached) == 0:
        raise ValueError(
            f"flow: ends at t = {float(flow.times[-1]):g}, before the stretch begins at "
            f"t = {float(average.times[0]):g}"
        )
    path = flow.at(reached)
    moments, losses = modelled
    match = (moments[None, :] - average.times[:, None]).abs() < 1e-6 * step_size
    known = match.any(1)
    model = losses[match.to(torch.int8).argmax(1)][known]
    values = sharpness_at(objective, path.points[::SHARPNESS_EVERY])
    return Following(
        distances=path.distance_to(average.at(reached)),
        sharpness=float(values.mean()) * step_size / 2,
        loss_error=float((model / average.losses[known] - 1).abs().mean()),
        complete=len(reached) == len(average.times),
    )


def burst_of(objective: Objective, flow: PairFlow, member: int) -> tuple[int, float]:
    """Return the iterate k at which a pair flow is sharpest near its burst, and λmax / (2/η) there.

    `member` is the start among those of the flow's batch.

    Raises
    ------
    ValueError
        If the flow has not recorded every iterate.
    """
    if not torch.equal(flow.steps, torch.arange(len(flow.steps))):
        raise ValueError("flow: has not recorded every iterate; integrate with record_every=1")
    amplitudes = flow.amplitudes[:, member]
    loud = int(onset(amplitudes))
    near = torch.arange(max(1, loud - BEFORE), min(len(amplitudes), loud + AFTER), 2)
    values = sharpness_at(objective, flow.path.member(member).points[near])
    top = int(values.argmax())
    return int(near[top]), float(values[top]) * float(flow.times[1]) / 2
