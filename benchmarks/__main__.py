"""What the library costs, as ratios measured side by side in one run: `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from gfgd import datasets, gradient_descent, gradient_flow, networks, spectrum_along

ROUNDS = 9


def main() -> None:
    """Print the tables."""
    name = "mnist_subset"
    images, labels = datasets.load(name)
    print(f"{name}, 784-50-50-10, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    descent_iteration(images, labels)
    flow_accuracy(images, labels)


def descent_iteration(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Time one iteration of GD against the matrix products that it cannot do without."""
    print("One GD iteration over its bare matrix products (forward, backward), ReLU:")
    for dtype in (torch.float32, torch.float64):
        objective = networks.fully_connected(images, labels, hidden=(50, 50), dtype=dtype)
        start = objective.initial(1)
        products = bare_products(objective, start)
        run = partial(
            gradient_descent, objective, start, step_size=1e-3, iterations=99, record_every=99
        )
        pairs = [(timed(run), timed(products)) for _ in range(ROUNDS)]
        ratios = [whole / bare for whole, bare in pairs]
        print(
            f"  {dtype!s:14} ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{10 * statistics.median(whole for whole, _ in pairs):.2f} ms an iteration"
        )


def bare_products(objective: networks.FullyConnected, start: torch.Tensor) -> Callable[[], None]:
    """Return a function that does the matrix products of 100 gradients and nothing else."""
    first, second, third = objective.weights(start)
    inputs = objective.inputs
    hidden = torch.randn(len(inputs), 50).to(inputs)
    outputs = torch.randn(len(inputs), 10).to(inputs)

    def products() -> None:
        for _ in range(100):
            a = inputs @ first.T
            b = a @ second.T
            _ = b @ third.T
            _ = outputs @ third, outputs.T @ b
            _ = hidden @ second, hidden.T @ a
            _ = hidden.T @ inputs

    return products


def flow_accuracy(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Compare the flow, and GD, with a reference of order 8 at rtol 1e-10, to T = 10."""
    print("\nGF on the linear network, T = 10, against an order-8 reference at rtol 1e-10:")
    objective = networks.fully_connected(images, labels, hidden=(50, 50), activation="linear")
    start = objective.initial(1)
    times = 0.1 * torch.arange(101, dtype=torch.float64)
    reference = gradient_flow(
        objective, start, times, method="dopri8", rtol=1e-10, atol=1e-12, estimate_error=False
    )
    print(f"  reference: {reference.counts['gradients']} gradients")
    flow = gradient_flow(objective, start, times)
    print(
        f"  gradient_flow: {flow.counts['gradients']} gradients "
        f"(+ {flow.counts['estimate_gradients']} for the estimate), true error "
        f"{flow.distance_to(reference).max():.1e}, estimated {flow.error.max():.1e}"
    )
    for ratio in (1, 2):
        descent = gradient_descent(
            objective,
            start,
            step_size=1e-3 / ratio,
            iterations=10_000 * ratio,
            record_every=100 * ratio,
        )
        distance = descent.distance_to(reference).max()
        print(f"  GD, 0.001/{ratio}: {10_000 * ratio} gradients, distance {distance:.2e}")
    found = spectrum_along(objective, flow.at(times[::2]))
    print(f"  λmin and λmax at 51 times: {int(found.products.sum())} Hessian-vector products")


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    before = time.perf_counter()
    function()
    return time.perf_counter() - before


if __name__ == "__main__":
    main()
