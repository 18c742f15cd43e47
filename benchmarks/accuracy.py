"""(a) Gradients and error of gradient flow: here, its stand-in, and RK4 at 1/sharpness.

On the linear network the flow is smooth, so that a method of order 8 at tight tolerances gives a
reference that is far more accurate than any of the three.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.measure import Measured, Table, alternate, quartiles, shown
from gfgd import (
    Objective,
    Trajectory,
    extreme_eigenvalues,
    gradient_descent,
    gradient_flow,
    networks,
)
from gfgd.paper import archive

#: The stand-in of Elkabetz & Cohen (2021): GD with a twentieth of the step size.
STEP_SIZE, RATIO = 1e-3, 20
REFERENCE = "reference, order 8, rtol 1e-10"
HERE, RK4 = "gradient_flow", "RK4, step 1/sharpness"


@dataclass(frozen=True)
class Run:
    """What a method did: gradients, Hessian-vector products, error, seconds, where from."""

    gradients: int
    products: int
    error: float
    seconds: float
    source: str = "this run"


def accuracy(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    live: bool = False,
    end: float = 10.0,
    recordings: int = 100,
) -> Table:
    """Compare the ways to integrate the flow of the linear network 784–50–50–10 to T = `end`.

    The stand-in takes 200 000 gradients in each precision. Its runs are read from the archive,
    unless `live`.
    """
    objective, start = linear_network(images, labels, torch.float64)
    times = torch.linspace(0, end, recordings + 1, dtype=torch.float64)
    reference = gradient_flow(
        objective, start, times, method="dopri8", rtol=1e-10, atol=1e-12, estimate_error=False
    )
    flow = gradient_flow(objective, start, times)
    runs = {REFERENCE: Run(reference.counts["gradients"], 0, 0.0, math.nan)}
    runs |= adaptive_and_rk4(objective, flow, reference, rounds)
    for dtype in ("float64", "float32"):
        run = integrated(images, labels, dtype, reference) if live else archived(dtype)
        if run is not None:
            runs[f"GD, η₀/{RATIO}, {dtype}"] = run
    notes = [
        f"gradient_flow took {flow.counts['estimate_gradients']} more gradients to estimate its "
        f"error, at most {float(flow.error.max()):.1e}."
    ]
    if not live:
        notes.append("Archived errors are distances from the archive's own gradient_flow.")
    if len(runs) < 5:
        notes.append("GD at η₀/20 is not in the archive in both precisions: see --live.")
    return Table(
        "(a) Gradient flow on MNIST, 784-50-50-10, linear: gradients and error to "
        f"T = {end:g} (largest of {recordings + 1} times)",
        ("method", "gradients", "Hv products", "error", "seconds", "from"),
        [(name, *_cells(run)) for name, run in runs.items()],
        _comparison(runs),
        tuple(notes),
    )


def adaptive_and_rk4(
    objective: Objective, flow: Trajectory, reference: Trajectory, rounds: int
) -> dict[str, Run]:
    """Return the runs of `gradient_flow`, which found `flow`, and of RK4, timed in turn."""
    start, times = flow.points[0], flow.times
    rk4, products = rk4_at_sharpness(objective, start, times)
    seconds = alternate(
        min(rounds, 3),
        partial(gradient_flow, objective, start, times, estimate_error=False),
        partial(rk4_at_sharpness, objective, start, times),
        title="(a) flows",
    )
    mine, theirs = (quartiles(one)[0] for one in seconds)
    return {
        HERE: Run(flow.counts["gradients"], 0, largest_error(flow, reference), mine),
        RK4: Run(rk4.counts["gradients"], products, largest_error(rk4, reference), theirs),
    }


def linear_network(
    images: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[networks.FullyConnected, Tensor]:
    """Return the linear network of the paper and its start."""
    objective = networks.fully_connected(
        images, labels, hidden=(50, 50), activation="linear", dtype=dtype
    )
    return objective, objective.initial(1)


def rk4_at_sharpness(objective: Objective, start: Tensor, times: Tensor) -> tuple[Trajectory, int]:
    """Integrate with classical RK4 at steps of at most 1/λmax; return also the products for λmax.

    λmax is measured at each of `times` and an interval is cut into equal steps, as Cohen et al.
    (2021) do, but for the last step of an interval, which is shorter in their code.
    """
    points, steps, products, vectors = [start], 0, 0, None
    for begin, end in pairwise(times.tolist()):
        # Without a search for bounds, which that method has not either: its cost is counted.
        top = extreme_eigenvalues(
            objective, points[-1], smallest=0, warm_start=vectors, failure_probability=None
        )
        vectors = top.largest_vectors
        products += int(top.products)
        count = max(1, math.ceil((end - begin) * float(top.largest[0])))
        point = points[-1]
        for _ in range(count):
            point = rk4_step(objective, point, (end - begin) / count)
        points.append(point)
        steps += count
    trajectory = Trajectory(
        times=times,
        points=torch.stack(points),
        losses=torch.stack([objective.value(point) for point in points]),
        counts={"gradients": 4 * steps},
    )
    return trajectory, products


def rk4_step(objective: Objective, point: Tensor, step: float) -> Tensor:
    """Return one step of the classical Runge–Kutta method for θ' = −∇f(θ)."""
    k1 = -objective.gradient(point)
    k2 = -objective.gradient(point + step / 2 * k1)
    k3 = -objective.gradient(point + step / 2 * k2)
    k4 = -objective.gradient(point + step * k3)
    return point + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def archived(dtype: str) -> Run | None:
    """Return the stand-in's run from the archive, or None if it is not there."""
    name = archive.descent_name(RATIO, dtype)
    try:
        kept = archive.read("fully_connected_linear", start="1")
        error, cost = float(kept.distance(name).max()), kept.cost(name)
    except archive.ArchiveError:
        return None
    return Run(cost["gradients"], 0, error, cost["seconds"], f"archive, {cost['finished'][:10]}")


def integrated(images: Tensor, labels: Tensor, dtype: str, reference: Trajectory) -> Run:
    """Run the stand-in, GD with η₀/20; minutes at full length."""
    objective, start = linear_network(images, labels, getattr(torch, dtype))
    iterations = round(float(reference.times[-1]) / STEP_SIZE) * RATIO
    begun = time.perf_counter()
    descent = gradient_descent(
        objective,
        start,
        step_size=STEP_SIZE / RATIO,
        iterations=iterations,
        record_every=iterations // (len(reference.times) - 1),
        progress=partial(shown, title=f"(a) η₀/{RATIO}, {dtype}"),
    )
    return Run(iterations, 0, largest_error(descent, reference), time.perf_counter() - begun)


def largest_error(trajectory: Trajectory, reference: Trajectory) -> float:
    """Return the largest distance over the recorded times."""
    return float(trajectory.distance_to(reference).max())


def _cells(run: Run) -> tuple[str, ...]:
    return (
        str(run.gradients),
        str(run.products) if run.products else "",
        f"{run.error:.1e}" if run.error else "",
        "" if math.isnan(run.seconds) else f"{run.seconds:.1f}",
        run.source,
    )


def _comparison(runs: dict[str, Run]) -> list[Measured]:
    """Return how many times as many gradients, and how many times the error, of those here."""
    reach = {
        f"GD, η₀/{RATIO}, float64": (250, 50),
        f"GD, η₀/{RATIO}, float32": (250, 1000),
        RK4: (None, None),
    }
    found = []
    for name, (fewer, smaller) in reach.items():
        if name not in runs:
            continue
        more = runs[name].gradients / runs[HERE].gradients
        worse = runs[name].error / runs[HERE].error
        found.append(Measured.count(f"(a) gradients, {name} / here", more, at_least=fewer))
        found.append(Measured.count(f"(a) error, {name} / here", worse, at_least=smaller))
    return found
