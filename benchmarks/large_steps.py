"""(f) Seconds and distances of the flows for large steps, beside those of the central flow.

The network, the start and the settings are those of the chapter on the edge of stability. The
distance is that from GD's time average, in the mean over the stretch at the edge; the central flow
runs at the setting whose own error that chapter shows to be small beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Measured, Table, alternate, quartiles, ratios, spread
from gfgd import Objective, Trajectory, gradient_descent, networks
from gfgd.large_steps.central import CentralFlow, central_flow, time_average
from gfgd.large_steps.pair_flow import PairFlow, pair_flow
from gfgd.large_steps.rod_flow import RodFlow, rod_flow

IMAGES, INPUT_LENGTH, HIDDEN, START_SCALE = 100, 2.4, (12, 12, 12), 0.5
STEP_SIZE, ITERATIONS, RECORD_EVERY, WINDOW = 0.4, 450, 6, 41
#: A run takes many seconds: so often it is repeated at the most.
ROUNDS = 3
CENTRAL = "central flow"

Flow = CentralFlow | PairFlow | RodFlow


def large_steps(images: Tensor, labels: Tensor, rounds: int) -> Table:
    """Time each flow over the same time from the same start, and take its distance from GD."""
    objective = smooth_network(images, labels)
    start = objective.initial(1, scale=START_SCALE)
    results: dict[str, Flow] = {}
    named = flows(objective, start)
    runs = [partial(keep, results, name, run) for name, run in named.items()]
    seconds = alternate(min(rounds, ROUNDS), *runs, title="(f)")
    taken = dict(zip(named, seconds, strict=True))
    far = distances(objective, start, results)
    rows, measured = [], []
    for name, flow in results.items():
        cost = ratios(taken[name], taken[CENTRAL])
        steps = max(1, round(float(flow.times[-1]) / STEP_SIZE))  # fewer, if it stopped early
        counts = (
            f"{flow.counts.get(kind, 0) / steps:.1f}"
            for kind in ("gradients", "hessian_vector_products", "third_derivatives")
        )
        rows.append(
            (
                name,
                f"{quartiles(taken[name])[0]:.1f}",
                spread(cost),
                f"{far[name]:.3f}",
                " / ".join(counts),
                "" if flow.completed else flow.status.split(":")[0],
            )
        )
        if name != CENTRAL:
            reach = {"at_most": 1.0} if name == "pair flow, order 2" else {}
            measured.append(Measured.median(f"(f) seconds, {name} / {CENTRAL}", cost, **reach))
            if flow.completed:
                ratio = far[name] / far[CENTRAL]
                measured.append(Measured.count(f"(f) distance, {name} / {CENTRAL}", ratio, **reach))
    return Table(
        f"(f) {ITERATIONS} steps of GD at the edge of stability, tanh network, d = {len(start)}",
        ("flow", "s", "times the central flow's", "distance", "g / Hv / D³f a step", "stopped"),
        rows,
        measured,
    )


def smooth_network(images: Tensor, labels: Tensor) -> networks.FullyConnected:
    """Return the chapter's tanh network on images averaged to 7 × 7 pixels."""
    pixels = torch.nn.functional.avg_pool2d(images[:IMAGES].reshape(-1, 1, 28, 28), 4).flatten(1)
    return networks.fully_connected(
        pixels * (INPUT_LENGTH / pixels.norm(dim=1).mean()),
        torch.nn.functional.one_hot(labels[:IMAGES], 10),
        hidden=HIDDEN,
        activation="tanh",
        loss="half_squared_error",
        dtype=torch.float64,
    )


def flows(objective: Objective, start: Tensor) -> dict[str, Callable[[], Flow]]:
    """Return the flows to run, with the chapter's settings."""
    options = {
        "step_size": STEP_SIZE,
        "iterations": ITERATIONS,
        "record_every": RECORD_EVERY,
    }
    pair = partial(pair_flow, objective, start, **options)
    return {
        CENTRAL: partial(
            central_flow, objective, start, max_critical=8, check_every=100, **options
        ),
        "Rod Flow, one rod": partial(rod_flow, objective, start, substeps=9, **options),
        "pair flow, order 1": partial(pair, order=1, substeps=3),
        "pair flow, order 2": partial(pair, order=2, substeps=5, resummed=True),
    }


def keep(results: dict[str, Flow], name: str, run: Callable[[], Flow]) -> None:
    """Run a flow and keep what it found."""
    results[name] = run()


def distances(objective: Objective, start: Tensor, results: dict[str, Flow]) -> dict[str, float]:
    """Return the mean distance from GD's time average from where the central flow meets the edge.

    Of a flow that stopped early, over the part that it reached.
    """
    run = gradient_descent(objective, start, step_size=STEP_SIZE, iterations=ITERATIONS)
    average: Trajectory = time_average(run, WINDOW)
    central = results[CENTRAL]
    assert isinstance(central, CentralFlow)
    at_edge = central.times[central.variances[:, 0] > 0]
    found = {}
    for name, flow in results.items():
        last = min(float(average.times[-1]), float(flow.times[-1])) + 1e-9
        stretch = at_edge[(at_edge >= average.times[0]) & (at_edge <= last)]
        apart = average.at(stretch).distance_to(flow.path.at(stretch))
        found[name] = float(apart.mean()) if len(stretch) else float("nan")
    return found
