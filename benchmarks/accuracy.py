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
    archive,
    extreme_eigenvalues,
    gradient_descent,
    gradient_flow,
    networks,
)

#: The stand-in of Elkabetz & Cohen (2021): GD with a twentieth of the step size.
STEP_SIZE, RATIO = 1e-3, 20


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
    rk4, products = rk4_at_sharpness(objective, start, times)
    taken = alternate(
        min(rounds, 3),
        partial(gradient_flow, objective, start, times, estimate_error=False),
        partial(rk4_at_sharpness, objective, start, times),
        title="(a) flows",
    )
    here = Run(flow.counts["gradients"], 0, largest_error(flow, reference), quartiles(taken[0])[0])
    runs = {
        "reference, order 8, rtol 1e-10": Run(reference.counts["gradients"], 0, 0.0, math.nan),
        "gradient_flow": here,
        "RK4, step 1/sharpness": Run(
            rk4.counts["gradients"], products, largest_error(rk4, reference), quartiles(taken[1])[0]
        ),
    }
    for dtype in ("float64", "float32"):
        run = integrated(images, labels, dtype, reference) if live else archived(dtype)
        if run is not None:
            runs[f"GD, η₀/{RATIO}, {dtype}"] = run
    return Table(
        "(a) Gradient flow on MNIST, 784-50-50-10, linear: gradients and error to "
        f"T = {end:g} (largest of {recordings + 1} times)",
        ("method", "gradients", "Hv products", "error", "seconds", "from"),
        [(name, *_cells(run)) for name, run in runs.items()],
        _comparison(here, runs),
        (
            f"gradient_flow took {flow.counts['estimate_gradients']} more gradients to estimate "
            f"its error, at most {float(flow.error.max()):.1e}.",
            *([] if len(runs) == 5 else ["GD at η₀/20 is not in the archive: see --live."]),
        ),
    )


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
        top = extreme_eigenvalues(objective, points[-1], smallest=0, warm_start=vectors)
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
        kept = archive.read("fully_connected_linear", seed=1)
        error, cost = float(kept.distance(name).max()), kept.cost(name)
    except archive.ArchiveError:
        return None
    return Run(cost["gradients"], 0, error, cost["seconds"], f"archive, {cost['date'][:10]}")


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


def _comparison(here: Run, runs: dict[str, Run]) -> list[Measured]:
    """Return how many times fewer gradients and how many times smaller an error."""
    reach = {
        f"GD, η₀/{RATIO}, float64": (250, 50),
        f"GD, η₀/{RATIO}, float32": (250, 1000),
        "RK4, step 1/sharpness": (None, None),
    }
    found = []
    for name, (gradients, error) in reach.items():
        if name in runs:
            run = runs[name]
            found += [
                Measured.count(
                    f"(a) gradients, {name} / here",
                    run.gradients / here.gradients,
                    at_least=gradients,
                ),
                Measured.count(f"(a) error, {name} / here", run.error / here.error, at_least=error),
            ]
    return found
