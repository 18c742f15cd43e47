"""(g) Gradient flow of a tanh network: here, diffrax, and stable-solvers' exponential Euler.

Each Runge–Kutta method takes the loosest tolerance at which its error at the end is not above that
of `gradient_flow` at its defaults; errors are distances from a much tighter reference. Exponential
Euler is of first order and has no tolerance: it takes given steps, and its error is what it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.eigenvalue_peers import tanh_module
from benchmarks.measure import Measured, Table, alternate, quartiles, ratios, shown
from benchmarks.peers import DIFFRAX, STABLE_SOLVERS, Nothing, Peer, attempt
from gfgd import Trajectory, gradient_flow, networks
from gfgd.networks import FullyConnected

END = 5.0
#: Of `gradient_flow` at its defaults.
DEFAULT_RTOL = 1e-7
#: Tolerances to choose from, ever tighter; atol is a hundredth of rtol.
TOLERANCES = tuple(10 ** (-k / 4) for k in range(12, 41))
ROUNDS = 3
#: Largest steps of exponential Euler, and how many eigenvectors it is exact along. Its authors
#: advise one less than there are classes; fewer vectors are found with fewer products.
EULER = ((0.2, 9), (0.1, 2), (0.05, 2))


@dataclass(frozen=True, eq=False)
class Problem:
    """f, the start, the time to reach, and θ then by a tight reference."""

    objective: FullyConnected
    start: Tensor
    end: float
    reached: Tensor

    def error(self, point: Tensor) -> float:
        """Return the distance from the reference at the end."""
        return float((point - self.reached).norm())


@dataclass(frozen=True)
class Integrator:
    """Takes rtol: `solve` returns θ at the end, `count` the gradients that this takes.

    `prepared`: the seconds that it took to compile.
    """

    solve: Callable[[float], Tensor]
    count: Callable[[float], int]
    prepared: float = 0.0


@dataclass(frozen=True)
class Run:
    """What a method took, at which tolerance or steps, and its error at the end."""

    setting: str
    gradients: int
    products: int
    error: float
    seconds: tuple[float, ...]
    prepared: float = 0.0


HERE = "here, dopri5"


def flow_peers(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    hidden: Sequence[int] = (50, 50),
    end: float = END,
) -> Table:
    """Compare gradients, seconds and errors at the end on the tanh network, one thread each."""
    with one_thread():
        problem, doubt = posed(images, labels, hidden, end)
        runs = runge_kutta(problem, min(rounds, ROUNDS))
        for step, vectors in EULER:
            name = f"{STABLE_SOLVERS.title}, exponential Euler, {vectors} vectors, step {step:g}"
            runs[name] = attempt(STABLE_SOLVERS, partial(exponential_euler, problem, step, vectors))
    compiled = [
        f"{name} {run.prepared:.1f} s"
        for name, run in runs.items()
        if isinstance(run, Run) and run.prepared
    ]
    return Table(
        f"(g) Gradient flow to T = {end:g}, tanh network, {len(images)} images, float64, at equal "
        "error at the end",
        ("method", "setting", "gradients", "Hv products", "seconds", "error", "note"),
        [(name, *_cells(run)) for name, run in runs.items()],
        comparison(runs),
        (
            "The reference is gradient_flow of order 8 at rtol 1e-10; its error is estimated to be "
            f"{doubt:.0e}. Only the end is recorded.",
            *([f"Compiled before, which is not counted: {', '.join(compiled)}."] * bool(compiled)),
            "Exponential Euler, of first order, does not reach that error: its ratios of cost are "
            "those at the error that it has. It runs once; each vector of a block is a product.",
        ),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, and JAX if it is not imported yet."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    os.environ.setdefault("NPROC", "1")  # the size of JAX's pool
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def posed(
    images: Tensor, labels: Tensor, hidden: Sequence[int], end: float
) -> tuple[Problem, float]:
    """Return the problem, and the estimated error of its reference."""
    objective = networks.fully_connected(images, labels, hidden=hidden, activation="tanh")
    start = objective.initial(1)
    reference = gradient_flow(objective, start, [0, end], method="dopri8", rtol=1e-10, atol=1e-12)
    assert reference.error is not None
    return Problem(objective, start, end, reference.points[-1]), float(reference.error.max())


def runge_kutta(problem: Problem, rounds: int) -> dict[str, Run | Nothing]:
    """Return the runs of the adaptive methods, those that exist timed in turns."""
    mine = here(problem, "dopri5")
    target = problem.error(mine.solve(DEFAULT_RTOL))
    chosen: dict[str, tuple[Integrator, float] | Nothing] = {HERE: (mine, DEFAULT_RTOL)}
    others: dict[str, tuple[Peer | None, Callable[[], Integrator]]] = {
        "here, dopri8": (None, partial(here, problem, "dopri8")),
        f"{DIFFRAX.title}, Tsit5": (DIFFRAX, partial(with_diffrax, problem, "Tsit5")),
        f"{DIFFRAX.title}, Dopri8": (DIFFRAX, partial(with_diffrax, problem, "Dopri8")),
    }
    for name, (peer, make) in shown([*others.items()], "(g) tolerances"):
        chosen[name] = attempt(peer, partial(fitted, problem, make, target))
    ready = {name: one for name, one in chosen.items() if not isinstance(one, Nothing)}
    taken = alternate(
        rounds, *[partial(one.solve, rtol) for one, rtol in ready.values()], title="(g) flows"
    )
    times = dict(zip(ready, taken, strict=True))
    runs: dict[str, Run | Nothing] = {}
    for name, one in chosen.items():
        if isinstance(one, Nothing):
            runs[name] = one
            continue
        method, rtol = one
        error = problem.error(method.solve(rtol))
        runs[name] = Run(
            f"rtol {rtol:.0e}", method.count(rtol), 0, error, times[name], method.prepared
        )
    return runs


def here(problem: Problem, method: str) -> Integrator:
    """Return `gradient_flow` with one of its methods, without an estimate of its error."""

    def run(rtol: float) -> Trajectory:
        return gradient_flow(
            problem.objective,
            problem.start,
            [0, problem.end],
            method=method,
            rtol=rtol,
            atol=rtol / 100,
            estimate_error=False,
        )

    return Integrator(lambda rtol: run(rtol).points[-1], lambda rtol: run(rtol).counts["gradients"])


def with_diffrax(problem: Problem, solver: str) -> Integrator:
    """Return one of diffrax's solvers on JAX's gradient of the same loss, on the CPU."""
    jax, diffrax = import_module("jax"), import_module("diffrax")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    loss = loss_in_jax(problem.objective)
    evaluations = 0

    def count() -> None:
        nonlocal evaluations
        evaluations += 1

    def made(counting: bool) -> Callable[[Any, float, float], Any]:
        def field(time: Any, point: Any, _: Any) -> Any:
            if counting:
                jax.debug.callback(count)
            return -jax.grad(loss)(point)

        def solve(point: Any, rtol: float, atol: float) -> Any:
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                getattr(diffrax, solver)(),
                t0=0.0,
                t1=problem.end,
                dt0=None,  # it chooses the first step
                y0=point,
                saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
                max_steps=None,
            )
            return solution.ys[-1]

        return jax.jit(solve)

    start = jax.numpy.asarray(problem.start.numpy())
    begun = time.perf_counter()
    compiled = made(counting=False).lower(start, 1.0, 1.0).compile()
    prepared = time.perf_counter() - begun
    counting = made(counting=True)  # apart, because a callback takes time

    def counted(rtol: float) -> int:
        before = evaluations
        counting(start, rtol, rtol / 100).block_until_ready()
        jax.effects_barrier()
        return evaluations - before

    return Integrator(
        lambda rtol: torch.from_numpy(np.array(compiled(start, rtol, rtol / 100))),
        counted,
        prepared,
    )


def loss_in_jax(objective: FullyConnected) -> Callable[[Any], Any]:
    """Return the loss of the tanh network as a function of a flat array of JAX."""
    jax = import_module("jax")
    inputs = jax.numpy.asarray(objective.inputs.numpy())
    labels = jax.numpy.asarray(objective.targets.numpy())
    sizes = [rows * columns for rows, columns in objective.shapes]
    ends = np.cumsum(sizes)[:-1]

    def loss(point: Any) -> Any:
        parts = jax.numpy.split(point, ends)
        first, *others = (
            part.reshape(shape) for part, shape in zip(parts, objective.shapes, strict=True)
        )
        outputs = first @ inputs.T
        for weight in others:
            outputs = weight @ jax.numpy.tanh(outputs)
        logarithms = jax.nn.log_softmax(outputs, axis=0)
        return -jax.numpy.take_along_axis(logarithms, labels[None], axis=0).mean()

    return loss


def fitted(
    problem: Problem, make: Callable[[], Integrator], target: float
) -> tuple[Integrator, float]:
    """Return a method and its loosest tolerance with an error of at most `target`, by bisection.

    Raises
    ------
    ValueError
        If the tightest of `TOLERANCES` does not reach it.
    """
    method = make()
    loose, tight = -1, len(TOLERANCES) - 1
    if (error := problem.error(method.solve(TOLERANCES[tight]))) > target:
        raise ValueError(f"error {error:.1e} at rtol {TOLERANCES[tight]:.0e}, above {target:.1e}")
    while tight - loose > 1:
        middle = (loose + tight) // 2
        if problem.error(method.solve(TOLERANCES[middle])) <= target:
            tight = middle
        else:
            loose = middle
    return method, TOLERANCES[tight]


def exponential_euler(problem: Problem, step: float, vectors: int) -> Run:
    """Run stable-solvers' exponential Euler to the end, with steps of at most `step`.

    Its own bound on a step, 1/|λ| of the next eigenvalue, stays in force. Steps are shortened at
    the end only.
    """
    peer = import_module("stable_solvers")
    objective, passes = problem.objective, 0

    class Counted(peer.LossFunction):
        """Counts how often the data are gone through: for a gradient, or a block of products."""

        def dataloader(self, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
            nonlocal passes
            passes += 1
            return super().dataloader(device)

    batch = (objective.inputs, objective.targets)
    module = tanh_module(objective.weights(problem.start))
    # All images are one batch as it is: the loader need not gather them anew at each pass.
    loss = Counted([batch], nn.CrossEntropyLoss(), module, batch_size=None)
    point, steps, remaining = problem.start.clone(), 0, problem.end
    solver = peer.ExponentialEulerSolver(point, loss, max_step_size=step, stiff_dim=vectors)
    begun = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the first vectors
        while remaining > 1e-12 * problem.end:
            solver.max_step_size = min(step, remaining)
            remaining -= solver.step().dt
            steps += 1
    taken = time.perf_counter() - begun
    products = (passes - steps) * (vectors + 1)  # the next eigenvalue bounds the step
    return Run(f"{steps} steps", steps, products, problem.error(point), (taken,))


def comparison(runs: dict[str, Run | Nothing]) -> list[Measured]:
    """Return how many times the cost, and where it differs the error, of the flow here."""
    mine = runs[HERE]
    assert isinstance(mine, Run)
    found = []
    for name, run in runs.items():
        if name == HERE or isinstance(run, Nothing):
            continue
        if run.products:
            evaluations = (run.gradients + run.products) / mine.gradients
            longer = run.seconds[0] / quartiles(mine.seconds)[0]
            found += [
                Measured.count(f"(g) gradients and products, {name} / {HERE}", evaluations),
                Measured.count(f"(g) seconds, {name} / {HERE}", longer),
                Measured.count(f"(g) error, {name} / {HERE}", run.error / mine.error),
            ]
        else:
            more = run.gradients / mine.gradients
            found += [
                Measured.count(f"(g) gradients, {name} / {HERE}", more),
                Measured.median(f"(g) seconds, {name} / {HERE}", ratios(run.seconds, mine.seconds)),
            ]
    return found


def _cells(run: Run | Nothing) -> tuple[str, ...]:
    if isinstance(run, Nothing):
        return ("",) * 5 + (run.reason,)
    return (
        run.setting,
        str(run.gradients),
        str(run.products) if run.products else "",
        f"{quartiles(run.seconds)[0]:.2f}",
        f"{run.error:.1e}",
        "",
    )
