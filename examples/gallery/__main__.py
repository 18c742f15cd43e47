"""Make ``data/archive/gallery.json``: the networks of the gallery, from three starts each.

    python -m examples.gallery            # what is missing
    python -m examples.gallery gru lora   # of these only
    python -m examples.gallery --reports  # the reports only

From each start GD and gradient flow are compared over 50 iterations of the usual step size, 0.1,
and the largest step size is looked for with which GD stays within 1 % of the way that the flow
travels.
Each network is then reported on, once, by ``gfgd report``; the pages lie in ``_build/gallery``.
Numbers are kept as soon as they are there, with commit, seconds and versions.
"""

import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from examples.gallery.networks import GALLERY
from gfgd import Objective, Trajectory, gradient_descent, gradient_flow, spectrum_along
from gfgd.book import cli
from gfgd.book.importing import make_data, make_network
from gfgd.derivative_checks import kinked_operations
from gfgd.files import commit, replacing
from gfgd.modules import ModuleObjective, converted
from gfgd.paper.long_runs import check_committed

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "data" / "archive" / "gallery.json"
NETWORKS = Path(__file__).with_name("networks.py")
#: The usual step size, its iterations, the seeds, and the part of the way that is asked for.
STEP_SIZE, ITERATIONS, SEEDS, PART = 0.1, 50, (1, 2, 3), 0.01
#: Numbers of iterations that are tried over the same horizon, each a tenth more than the last.
TRIED = sorted({round(5 * 1.1**power) for power in range(60)})
#: Times of the distance for each, at least; and of the eigenvalues.
TIMES, SPECTRUM_TIMES = 10, 26


def measure(name: str, seed: int) -> dict[str, Any]:
    """Return what is measured of a network of the gallery from one start."""
    began = time.perf_counter()
    objective = loss_of(name, seed)
    kinks = kinked_operations(objective, objective.start)
    horizon = STEP_SIZE * ITERATIONS
    flow = long_flow(objective, horizon, tolerance_for(objective))
    assert flow.error is not None
    travel = float(flow.distance_from_start().max())
    usual = largest_distance(objective, flow, ITERATIONS)
    at = flow.at(torch.linspace(0, horizon, SPECTRUM_TIMES, dtype=torch.float64))
    curved = curvature(objective, at)
    guess = ITERATIONS * usual / (PART * travel)
    if not usual < travel:  # GD is nowhere near the flow: begin at half the limit of stability
        guess = 2 * horizon / curved["stability_limit"]
    fewest, more = fewest_tried(objective, flow, PART * travel, guess)
    return {
        "parameters": objective.dimension,
        "kinks": list(kinks),
        "loss": [float(flow.losses[0]), float(flow.losses[-1])],
        "travel": travel,
        "distance": usual,
        "flow_error": float(flow.error.max()),
        "largest_step": horizon / fewest if fewest else None,
        "distance_with_it": more["kept"],
        "too_large": horizon / more["failed_at"] if more["failed_at"] else None,
        **curved,
        "descent_gradients": fewest,
        "flow_gradients": flow.counts["gradients"],
        "estimate_gradients": flow.counts["estimate_gradients"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def curvature(objective: ModuleObjective, flow: Trajectory) -> dict[str, Any]:
    """Return what the extreme eigenvalues at the times of a flow say."""
    spectrum = spectrum_along(objective, flow)
    lowest = spectrum.smallest[:, 0]
    return {
        "stability_limit": 2 / float(spectrum.largest[:, 0].max()),
        "lambda_min": float(lowest.min()),
        "stretch": math.exp(-float(torch.trapezoid(lowest, flow.times))),
        "certified": bool(spectrum.certified),
        "spectrum_times": len(lowest),
    }


def tolerance_for(objective: ModuleObjective) -> float:
    """Return the flow's tolerance: larger where there are kinks, at which its steps shrink."""
    return 1e-6 if kinked_operations(objective, objective.start) else 1e-7


def loss_of(name: str, seed: int) -> ModuleObjective:
    """Return the training loss of a network, as `gfgd report` makes it."""
    inputs, targets = make_data(f"{NETWORKS}:{GALLERY[name]}", seed=seed)
    parts = (
        make_network(f"{NETWORKS}:{name}", seed=seed),
        torch.nn.functional.cross_entropy,
        inputs,
        targets,
    )
    return Objective.from_module(*(converted(part, torch.float64) for part in parts))


def compared(iterations: int) -> Tensor:
    """Return the numbers of the iterates that are compared with the flow, the last among them."""
    every = max(1, iterations // TIMES)
    return torch.tensor(sorted({*range(0, iterations, every), iterations}))


def long_flow(objective: ModuleObjective, horizon: float, tolerance: float) -> Trajectory:
    """Return the flow at all times at which a run of GD is compared with it."""
    times = {0.0, *torch.linspace(0, horizon, SPECTRUM_TIMES, dtype=torch.float64).tolist()}
    for iterations in {*TRIED, ITERATIONS}:
        times |= set(times_of(iterations, horizon).tolist())
    flow = gradient_flow(
        objective,
        objective.start,
        torch.tensor(sorted(times), dtype=torch.float64),
        rtol=tolerance,
        atol=tolerance / 100,
        max_gradients=20_000,
    )
    if not flow.completed:
        raise RuntimeError(f"the flow {flow.status}")
    return flow


def times_of(iterations: int, horizon: float) -> Tensor:
    """Return the times at which a run with so many iterations is compared."""
    return horizon / iterations * compared(iterations).double()


def largest_distance(objective: ModuleObjective, flow: Trajectory, iterations: int) -> float:
    """Return the largest distance of GD from the flow at the times of `compared`; inf: diverged."""
    horizon = float(flow.times[-1])
    descent = gradient_descent(
        objective,
        objective.start,
        step_size=horizon / iterations,
        iterations=iterations,
        record_every=max(1, iterations // TIMES),
    )
    if not descent.completed:
        return math.inf
    steps = compared(iterations)
    places = flow.at(times_of(iterations, horizon)).points
    return float((descent.points[: len(steps)] - places).norm(dim=-1).max())


def fewest_tried(
    objective: ModuleObjective, flow: Trajectory, distance: float, guess: float
) -> tuple[int | None, dict[str, Any]]:
    """Return the fewest of `TRIED` that keep a distance, while the next fewer do not.

    They are looked for from a guess on, one by one. Also the distance with them, ``kept``, and the
    next fewer, ``failed_at``; None where there are none.
    """
    place = min(range(len(TRIED)), key=lambda i: abs(math.log(TRIED[i] / max(guess, 1))))
    reached: dict[int, float] = {}
    while 0 <= place < len(TRIED):
        reached[place] = largest_distance(objective, flow, TRIED[place])
        place += -1 if reached[place] <= distance else 1
        if place in reached:
            break
    kept = [i for i, reach in reached.items() if reach <= distance]
    if not kept:
        return None, {"kept": None, "failed_at": TRIED[max(reached)]}
    best = min(kept)
    return TRIED[best], {
        "kept": reached[best],
        "failed_at": TRIED[best - 1] if best - 1 in reached else None,
    }


def reported(name: str) -> dict[str, Any]:
    """Return what `gfgd report` says of a network."""
    page = ROOT / "_build" / "gallery" / f"{name}.html"
    began = time.perf_counter()
    functions = [f"{NETWORKS}:{one}" for one in (name, GALLERY[name])]
    options = ["--step-size", str(STEP_SIZE), "--iterations", str(ITERATIONS)]
    code = cli.main(["report", *functions, *options, "--output", str(page)])
    if code:
        raise RuntimeError(f"{name}: gfgd report ended with exit code {code}")
    said = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    return {
        "answer": said["answer"],
        "against": said["against"],
        "numbers": said["numbers"],
        "bytes": page.stat().st_size,
        "seconds": round(time.perf_counter() - began, 1),
    }


def provenance() -> dict[str, str]:
    """Return what a number was made with."""
    return {
        "commit": commit(ROOT, apart_from="data/archive"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} thread(s)",
    }


def main(names: Sequence[str]) -> None:
    """Make what is missing of some networks, or of all."""
    check_committed(ROOT)
    kept: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    kept["settings"] = {"step_size": STEP_SIZE, "iterations": ITERATIONS, "part": PART}
    networks = kept.setdefault("networks", {})
    only_reports = "--reports" in names
    names = [name for name in names if name != "--reports"] or list(GALLERY)
    jobs = [(name, str(seed)) for seed in SEEDS for name in names if not only_reports]
    jobs += [(name, "report") for name in names]
    for name, job in jobs:
        entry = networks.setdefault(name, {"seeds": {}})
        place = entry if job == "report" else entry["seeds"]
        if job in place:
            continue
        found = reported(name) if job == "report" else measure(name, int(job))
        place[job] = found | {"provenance": provenance()}
        print(name, job, found, flush=True)
        with replacing(RESULT) as temporary:
            text = json.dumps(kept, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
