"""(e) How many vectors of the parameters each algorithm keeps, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Measured, Table, shown
from benchmarks.memory import peak
from gfgd import Objective, extreme_eigenvalues, gradient_descent, gradient_flow
from gfgd.bounds.leading_order import leading_order_error

#: Parameters: a vector is 48 MB, which goes back to the system as soon as it is let go.
SIZE = 6_000_000
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)

Algorithm = Callable[[Objective, Tensor], object]
#: Each with the vectors of θ that it returns, which the caller asked for.
ALGORITHMS: dict[str, tuple[Algorithm, int]] = {
    "GD": (lambda f, start: gradient_descent(f, start, step_size=0.1, iterations=3), 4),
    "GF": (lambda f, start: gradient_flow(f, start, ENDS, estimate_error=False), 2),
    "GF with its estimated error": (lambda f, start: gradient_flow(f, start, ENDS), 2),
    "GF, bosh3": (
        lambda f, start: gradient_flow(f, start, ENDS, method="bosh3", estimate_error=False),
        2,
    ),
    "leading-order error": (lambda f, start: leading_order_error(f, start, ENDS), 4),
    "leading-order error, bosh3": (
        lambda f, start: leading_order_error(f, start, ENDS, method="bosh3"),
        4,
    ),
    "leading-order error, adaptive_heun": (
        lambda f, start: leading_order_error(f, start, ENDS, method="adaptive_heun", rtol=1e-3),
        4,
    ),
    "λmax": (
        lambda f, start: extreme_eigenvalues(
            f,
            start,
            smallest=0,
            largest=1,
            failure_probability=None,
            tolerance=0.1,
            max_vectors=12,
        ),
        1,
    ),
}


def vectors(images: Tensor, labels: Tensor, rounds: int) -> Table:
    """Measure on a quadratic of many parameters; `images`, `labels`, `rounds` play no part."""
    kept = {name: measure_apart(name) for name in shown([*ALGORITHMS], "(e) vectors")}
    return Table(
        "(e) Vectors of θ that are kept, beside what is returned and what a gradient or a product "
        f"needs by itself; {SIZE:,} parameters, float64",
        ("algorithm", "vectors"),
        [(name, f"{count:.1f}") for name, count in kept.items()],
        [
            Measured.count(f"(e) vectors of θ, {name}", count, at_most=12)
            for name, count in kept.items()
        ],
    )


def measure_apart(name: str) -> float:
    """Return what `measure` returns, from a new process."""
    command = [sys.executable, "-m", "benchmarks.vectors", name]
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder)
    return json.loads(done.stdout)


def measure(name: str, size: int = SIZE) -> float:
    """Return the vectors of θ by which this process grows at most while an algorithm runs."""
    algorithm, returned = ALGORITHMS[name]
    algorithm(quadratic(3), torch.ones(3, dtype=torch.float64))  # loads what there is to load
    objective, start = quadratic(size), torch.ones(size, dtype=torch.float64)
    before = peak()
    objective.gradient(start)
    if not name.startswith("G"):
        objective.hessian_vector_product(start, start)
    own = peak() - before
    algorithm(objective, start)
    return (peak() - before - own) / (8 * size) - returned


def quadratic(size: int) -> Objective:
    """Return ½ Σ a_i θ_i² with curvatures a_i from 0.1 to 1, and one of 2."""
    curvatures = torch.linspace(0.1, 1, size, dtype=torch.float64)
    curvatures[-1] = 2
    return Objective(lambda point: 0.5 * (point.square() @ curvatures), dimension=size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1])))
