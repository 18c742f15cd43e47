"""(c) λmin along a trajectory: here, ARPACK from scratch and warm, LOBPCG warm.

All solve to the same relative residual ‖Hv − λv‖ ≤ 0.01 |λ|. The peers' residuals are computed
anew from what they return, and each λmin is held against the smallest that any method found: a
Ritz value is never below λmin.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg
from torch import Tensor

from benchmarks.measure import Measured, Table, shown
from gfgd import Objective, Trajectory, gradient_flow, networks, spectrum_along

TOLERANCE = 1e-2
HERE = "spectrum_along"

Array = NDArray[np.float64]


class Hessian:
    """∇²f(θ) as scipy wants it, and how many products were taken with it."""

    def __init__(self, objective: Objective, point: Tensor) -> None:
        self.objective, self.point = objective, point
        self.products = 0
        size = objective.dimension
        # LOBPCG hands over a block of one column, ARPACK a vector: the same numbers in a row.
        self.operator = LinearOperator((size, size), self.times, matmat=self.times, dtype=float)

    def times(self, vector: Array) -> Array:
        """Return H v."""
        self.products += 1
        flat = torch.from_numpy(np.array(vector).reshape(-1))
        product = self.objective.hessian_vector_product(self.point, flat)
        return product.numpy().reshape(vector.shape)


#: Returns λmin and its unit eigenvector, from a nearby eigenvector; the residual allowed is given.
Solver = Callable[[Hessian, Array, float], tuple[float, Array]]


def arpack(hessian: Hessian, start: Array, allowed: float) -> tuple[float, Array]:
    """Solve with scipy's ARPACK, whose tolerance is relative to |λ|."""
    values, vectors = eigsh(hessian.operator, k=1, which="SA", tol=TOLERANCE, v0=start)
    return float(values[0]), vectors[:, 0]


def arpack_from_scratch(hessian: Hessian, start: Array, allowed: float) -> tuple[float, Array]:
    """Solve with ARPACK from a random vector, the same each time: the count of products varies."""
    return arpack(hessian, np.random.default_rng(0).standard_normal(len(start)), allowed)


def lobpcg_warm(hessian: Hessian, start: Array, allowed: float) -> tuple[float, Array]:
    """Solve with scipy's LOBPCG, with a block of one: larger blocks take more products here."""
    with warnings.catch_warnings():
        # It warns of an iterate in between that was worse; the residual is checked afterwards.
        warnings.simplefilter("ignore", UserWarning)
        values, vectors = lobpcg(
            hessian.operator, start[:, None], tol=allowed, maxiter=1000, largest=False
        )
    return float(values[0]), vectors[:, 0]


SOLVERS: dict[str, Solver] = {
    "ARPACK from scratch": arpack_from_scratch,
    "ARPACK, last vector": arpack,
    "LOBPCG, last vector": lobpcg_warm,
}


@dataclass(frozen=True)
class Found:
    """λmin and its relative residual at each time, and what they cost.

    `checked`: at how many times a bound from outside came within the tolerance.
    """

    values: Array
    residuals: Array
    products: int
    seconds: float
    checked: int = 0


def spectrum(
    images: Tensor, labels: Tensor, rounds: int, *, times: int = 51, end: float = 10.0
) -> Table:
    """Compare the products and seconds for λmin along the flow of the linear network.

    Products are counts, which do not vary: each method runs once, whatever `rounds`.
    """
    objective = networks.fully_connected(images, labels, hidden=(50, 50), activation="linear")
    grid = torch.linspace(0, end, times, dtype=torch.float64)
    flow = gradient_flow(objective, objective.initial(1), grid, estimate_error=False)
    here = found_here(objective, flow)
    found = {HERE: here}
    for name, solver in SOLVERS.items():
        found[name] = found_by(solver, name, objective, flow.points, here)
    lowest = np.min([one.values for one in found.values()], axis=0)
    return Table(
        f"(c) λmin at {times} times along gradient flow, 784-50-50-10, linear, relative residual "
        f"{TOLERANCE:g}",
        ("method", "Hv products", "seconds", "largest residual", "λmin off by"),
        [(name, *_cells(one, lowest)) for name, one in found.items()],
        [
            Measured.count(
                f"(c) products for λmin: {name} / here",
                one.products / here.products,
                at_least=12 if name == "ARPACK from scratch" else None,
            )
            for name, one in found.items()
            if name != HERE
        ],
        (
            "Residuals and offsets are relative to |λmin|. LOBPCG, which bounds ‖Hv − λv‖ itself, "
            "is told what to reach.",
            f"Here {here.checked} of the times are checked from fresh random starts, to a bound "
            "within the tolerance that holds with probability 0.9999; that is counted. The peers "
            "certify a residual, and no more.",
        ),
    )


def found_here(objective: Objective, flow: Trajectory) -> Found:
    """Solve with this library."""
    begun = time.perf_counter()
    solved = spectrum_along(
        objective,
        flow,
        largest=0,
        tolerance=TOLERANCE,
        progress=lambda steps: shown(steps, f"(c) {HERE}"),
    )
    seconds = time.perf_counter() - begun
    values = solved.smallest[:, 0].numpy()
    residuals = solved.smallest_residuals[:, 0].numpy() / np.abs(values)
    checked = int(solved.checked.sum())
    return Found(values, residuals, int(solved.products.sum()), seconds, checked)


def found_by(solver: Solver, name: str, objective: Objective, points: Tensor, here: Found) -> Found:
    """Solve with a peer at one point after the other; the first start is random."""
    vector = np.random.default_rng(0).standard_normal(objective.dimension)
    values, residuals, products, seconds = [], [], 0, 0.0
    for index, point in enumerate(shown(points, f"(c) {name}")):
        hessian = Hessian(objective, point)
        begun = time.perf_counter()
        value, vector = solver(hessian, vector, TOLERANCE * abs(here.values[index]))
        seconds += time.perf_counter() - begun
        products += hessian.products
        values.append(value)
        residuals.append(np.linalg.norm(hessian.times(vector) - value * vector) / abs(value))
    return Found(np.array(values), np.array(residuals), products, seconds)


def _cells(one: Found, lowest: Array) -> tuple[str, ...]:
    offset = float(np.max((one.values - lowest) / np.abs(lowest)))
    return (
        str(one.products),
        f"{one.seconds:.1f}",
        f"{one.residuals.max():.2e}",
        f"{offset:.0e}",
    )
