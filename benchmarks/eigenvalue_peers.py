"""(g) λmin and λmax at a point: here, PyHessian's power iteration, curvlinops with scipy's solvers.

All reach the same relative residual ‖Hv − λv‖ ≤ 0.01 |λ|, λ = vᵀHv, which is computed anew from
the vectors that they return. Where a peer has settings on which its cost depends, it is tried with
each of them, and the one counts that reaches the residual with the fewest products.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg
from torch import Tensor, nn

from benchmarks.measure import Measured, Table, alternate, quartiles, ratios, shown
from benchmarks.peers import CURVLINOPS, PYHESSIAN, Nothing, Peer, attempt
from gfgd import Objective, extreme_eigenvalues, networks
from gfgd.spectrum import FAILURE_PROBABILITY

TOLERANCE = 1e-2
#: After so many products a peer gives up.
MAX_PRODUCTS = 1000
#: Images of the convolutional network, whose products take a tenth of a second then.
IMAGES = 50
#: Timings of a method, unless it takes more seconds than `LONG`: then there is one.
ROUNDS, LONG = 3, 20.0

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Problem:
    """f and θ; the same as a module of PyTorch with its data, for the peers.

    `sizes`: |λmin| and |λmax|, for a method that must be told which ‖Hv − λv‖ to reach.
    """

    name: str
    objective: Objective
    point: Tensor
    module: nn.Module
    inputs: Tensor
    labels: Tensor
    sizes: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Found:
    """The vectors of λmin and of λmax, None where not looked for, and the products taken."""

    smallest: Tensor | None
    largest: Tensor | None
    products: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method found with one setting: values and relative residuals at each end."""

    run: Callable[[], Found]
    products: int
    seconds: float
    values: tuple[float | None, float | None]
    residuals: tuple[float | None, float | None]

    @property
    def worst(self) -> float:
        """The larger of the residuals."""
        return max(residual for residual in self.residuals if residual is not None)


Search = Callable[[Problem], Found]


@dataclass(frozen=True)
class Method:
    """A way to look for eigenvalues, with each setting that is tried; whose; at which ends."""

    name: str
    settings: Sequence[Search]
    peer: Peer | None = None
    #: The method here with which it is compared; None for these themselves.
    against: str | None = None

    @property
    def title(self) -> str:
        """The name with the peer's and its version."""
        return self.name if self.peer is None else f"{self.peer.title}, {self.name}"


def eigenvalue_peers(
    images: Tensor,
    labels: Tensor,
    rounds: int,
    *,
    hidden: Sequence[int] = (50, 50),
    channels: tuple[int, int] = (32, 64),
    units: int = 300,
) -> Table:
    """Compare products and seconds on a tanh network and on a convolutional one, at their starts.

    `hidden` are the widths of the one, `channels` and `units` those of the other.
    """
    convolutional = convolutional_problem(images[:IMAGES], labels[:IMAGES], channels, units)
    rows: list[tuple[str, ...]] = []
    measured: list[Measured] = []
    for problem in (tanh_problem(images, labels, hidden), convolutional):
        outcomes = {method.title: settled(problem, method) for method in METHODS}
        taken = timed(outcomes, min(rounds, ROUNDS), f"(g) {problem.name}")
        rows += [(problem.name, title, *_cells(outcomes, title, taken)) for title in outcomes]
        measured += comparison(problem.name, outcomes, taken)
    return Table(
        f"(g) λmin and λmax at a random start, relative residual {TOLERANCE:g}",
        ("network", "method", "Hv products", "seconds", "at λmin", "at λmax", "off by", "note"),
        rows,
        measured,
        (
            f"The tanh network takes {len(images)} images in float64, the convolutional one, of "
            f"{convolutional.objective.dimension:,} parameters, {len(convolutional.inputs)} in "
            f"float32. What takes more than {LONG:g} s is timed once, outside the turns.",
            "Relative residuals stand under the eigenvalues. 'Off by' is the distance from the "
            "outermost value that any method found, relative to it. PyHessian looks for the "
            "eigenvalue that is the largest in size, which may be λmin.",
            "PyHessian keeps the graph of the gradient from product to product, and a product "
            "takes it less time; the others differentiate anew.",
            "With bounds, the values are checked to be the extreme ones with probability 0.9999; "
            "the other rows certify a residual, and no more. LOBPCG is told what to reach, or "
            "a part of it where it otherwise stops at an eigenvalue near 0.",
        ),
    )


def tanh_problem(images: Tensor, labels: Tensor, hidden: Sequence[int]) -> Problem:
    """Return the fully connected network of the chapters, with tanh."""
    objective = networks.fully_connected(images, labels, hidden=hidden, activation="tanh")
    point = objective.initial(1)
    module = tanh_module(objective.weights(point))
    return _problem("tanh", objective, point, module, objective.inputs, labels)


def tanh_module(weights: Sequence[Tensor]) -> nn.Sequential:
    """Return layers with copies of the weights, and tanh between them."""
    layers: list[nn.Module] = []
    for weight in weights:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
        layer.weight = nn.Parameter(weight.clone())
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def convolutional_problem(
    images: Tensor, labels: Tensor, channels: tuple[int, int], units: int
) -> Problem:
    """Return a network with two convolutions of 3 × 3, ReLU and max-pooling, in float32."""
    few, many = channels
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            *(nn.Conv2d(1, few, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(few, many, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(49 * many, units), nn.ReLU(), nn.Linear(units, 10)),
        ).to(torch.float32)
    inputs = images.reshape(-1, 1, 28, 28).to(torch.float32)
    objective = Objective.from_module(module, nn.functional.cross_entropy, inputs, labels)
    return _problem("CNN", objective, objective.start, module, inputs, labels)


def _problem(
    name: str,
    objective: Objective,
    point: Tensor,
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
) -> Problem:
    ends = extreme_eigenvalues(objective, point, failure_probability=None)
    sizes = (abs(float(ends.smallest)), abs(float(ends.largest)))
    return Problem(name, objective, point, module, inputs, labels, sizes)


def here(problem: Problem, *, smallest: int = 1, bounds: bool = False) -> Found:
    """Solve with this library; `bounds` are those from outside, by default 0.9999 certain."""
    solved = extreme_eigenvalues(
        problem.objective,
        problem.point,
        smallest=smallest,
        tolerance=TOLERANCE,
        failure_probability=FAILURE_PROBABILITY if bounds else None,
    )
    assert solved.smallest_vectors is not None and solved.largest_vectors is not None
    lowest = solved.smallest_vectors[0] if smallest else None
    return Found(lowest, solved.largest_vectors[0], int(solved.products))


def power_iteration(problem: Problem, *, change: float) -> Found:
    """Iterate with PyHessian until the value changes by less than `change`, relative to it.

    A batch that is given as a whole, as here, has its gradient's graph made once.
    """
    peer = import_module("pyhessian.hessian")
    module = copy.deepcopy(problem.module)  # in which the gradients are left
    before = torch.get_default_dtype()
    torch.set_default_dtype(problem.point.dtype)  # in which PyHessian draws its start
    product = peer.hessian_vector_product
    try:
        with (
            torch.random.fork_rng(),
            warnings.catch_warnings(),
            patch.object(peer, "hessian_vector_product", wraps=product) as counted,
        ):
            # Of backward(create_graph=True), which is how PyHessian keeps the graph.
            warnings.simplefilter("ignore", UserWarning)
            torch.manual_seed(0)
            hessian = peer.hessian(
                module,
                nn.CrossEntropyLoss(),
                data=(problem.inputs, problem.labels),
                cuda=problem.point.is_cuda,
            )
            _, (vector,) = hessian.eigenvalues(maxIter=MAX_PRODUCTS, tol=change)
    finally:
        torch.set_default_dtype(before)
        module.zero_grad(set_to_none=True)  # else graph and gradients hold each other
    whole = torch.cat([part.detach().reshape(-1) for part in vector])
    return Found(None, whole, counted.call_count)


class Counted:
    """curvlinops' Hessian as scipy wants it, and how many products were taken with it."""

    def __init__(self, problem: Problem) -> None:
        peer = import_module("curvlinops")
        module = problem.module
        hessian = peer.HessianLinearOperator(
            module,
            nn.CrossEntropyLoss(),
            list(module.parameters()),
            [(problem.inputs, problem.labels)],
            check_deterministic=False,  # which takes products of its own
        )
        dtype = np.float32 if problem.point.dtype == torch.float32 else np.float64
        self.hessian = hessian.to_scipy(dtype=dtype)
        self.products = 0
        self.operator = LinearOperator(
            self.hessian.shape, matvec=self.times, matmat=self.times, dtype=dtype
        )

    def times(self, vectors: Array) -> Array:
        """Return H V; each column counts."""
        self.products += 1 if vectors.ndim == 1 else vectors.shape[1]
        return self.hessian @ vectors

    def start(self) -> Array:
        """Return a random vector, the same each time."""
        random = np.random.default_rng(0)
        return random.standard_normal(self.hessian.shape[0]).astype(self.hessian.dtype)


def arpack(problem: Problem, *, vectors: int) -> Found:
    """Look with scipy's ARPACK for both ends in one space of so many `vectors`."""
    counted = Counted(problem)
    values, found = eigsh(
        counted.operator, k=2, which="BE", tol=TOLERANCE, v0=counted.start(), ncv=vectors
    )
    low, high = found[:, values.argmin()], found[:, values.argmax()]
    return Found(_tensor(low), _tensor(high), counted.products)


def lobpcg_twice(problem: Problem, *, share: float) -> Found:
    """Look with scipy's LOBPCG for one end after the other.

    It stops at the first small ‖Hv − λv‖, which may belong to an eigenvalue near 0; therefore it
    is told to reach a `share` of what is allowed. With a block of one: larger blocks take more
    products on these networks.
    """
    counted = Counted(problem)
    ends: list[Tensor] = []
    with warnings.catch_warnings():
        # It warns of an iterate in between that was worse; the residual is checked afterwards.
        warnings.simplefilter("ignore", UserWarning)
        for largest, size in zip((False, True), problem.sizes, strict=True):
            _, found = lobpcg(
                counted.operator,
                counted.start()[:, None],
                tol=share * TOLERANCE * size,
                maxiter=MAX_PRODUCTS,
                largest=largest,
            )
            ends.append(_tensor(found[:, 0]))
    low, high = ends
    return Found(low, high, counted.products)


def _tensor(vector: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(vector))


BOTH, TOP, BOUNDS = "here", "here, λmax only", "here, with bounds"
METHODS = (
    Method(BOTH, [here]),
    Method(TOP, [partial(here, smallest=0)]),
    Method(BOUNDS, [partial(here, bounds=True)], against=BOTH),
    Method(
        "power iteration",
        [partial(power_iteration, change=change) for change in (1e-3, 1e-4, 1e-5)],
        PYHESSIAN,
        against=TOP,
    ),
    Method(
        "ARPACK",
        [partial(arpack, vectors=vectors) for vectors in (8, 10, 20)],
        CURVLINOPS,
        against=BOTH,
    ),
    Method(
        "LOBPCG",
        [partial(lobpcg_twice, share=share) for share in (1, 0.1, 0.01)],
        CURVLINOPS,
        against=BOTH,
    ),
)


def settled(problem: Problem, method: Method) -> Outcome | Nothing:
    """Return the outcome of the best of the settings, or why there is none."""
    settings = shown(method.settings, f"(g) {problem.name}, {method.title}")
    return attempt(method.peer, lambda: best([outcome(problem, search) for search in settings]))


def outcome(problem: Problem, search: Search) -> Outcome:
    """Run a method once, and compute its values and residuals anew."""
    run = partial(search, problem)
    begun = time.perf_counter()
    found = run()
    taken = time.perf_counter() - begun
    (low, below), (high, above) = (
        residual(problem, vector) for vector in (found.smallest, found.largest)
    )
    return Outcome(run, found.products, taken, (low, high), (below, above))


def residual(problem: Problem, vector: Tensor | None) -> tuple[float | None, float | None]:
    """Return λ = vᵀHv and ‖Hv − λv‖/|λ| for v along `vector`; sums are taken in float64."""
    if vector is None:
        return None, None
    unit = vector.double() / vector.double().norm()
    product = problem.objective.hessian_vector_product(problem.point, unit.to(problem.point))
    value = unit @ product.double()
    return float(value), float((product - value * unit).norm() / value.abs())


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the one with the fewest products within the tolerance; if none is, the nearest."""
    within = [one for one in outcomes if one.worst <= TOLERANCE]
    if not within:
        return min(outcomes, key=lambda one: one.worst)
    return min(within, key=lambda one: one.products)


def timed(
    outcomes: dict[str, Outcome | Nothing], rounds: int, title: str
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each method in each round, in turns; of a long one, those of before."""
    ran = {name: one for name, one in outcomes.items() if isinstance(one, Outcome)}
    taken = {name: (one.seconds,) * rounds for name, one in ran.items()}
    short = {name: one.run for name, one in ran.items() if one.seconds <= LONG}
    again = alternate(rounds, *short.values(), title=title)
    return taken | dict(zip(short, again, strict=True))


def extremes(outcomes: Iterable[Outcome | Nothing]) -> tuple[float, float]:
    """Return the smallest and the largest value that any method found."""
    ran = [one.values for one in outcomes if isinstance(one, Outcome)]
    lows, highs = zip(*ran, strict=True)
    return min(low for low in lows if low is not None), max(highs)


def offset(one: Outcome, outermost: tuple[float, float]) -> float:
    """Return the larger of the distances from the extremes, relative to these."""
    return max(
        abs(value - extreme) / abs(extreme)
        for value, extreme in zip(one.values, outermost, strict=True)
        if value is not None
    )


def complaint(one: Outcome | Nothing, outermost: tuple[float, float]) -> str:
    """Return why a method's cost says nothing, in words; empty where there is no reason."""
    if isinstance(one, Nothing):
        return one.reason
    if not one.worst <= TOLERANCE:
        return "residual not reached"
    return "another eigenvalue" if offset(one, outermost) > TOLERANCE else ""


def comparison(
    network: str, outcomes: dict[str, Outcome | Nothing], taken: dict[str, tuple[float, ...]]
) -> list[Measured]:
    """Return how many times the products and the seconds of those here each method takes.

    Of methods that found what they looked for.
    """
    outermost = extremes(outcomes.values())
    solved = {
        title: one
        for title, one in outcomes.items()
        if isinstance(one, Outcome) and not complaint(one, outermost)
    }
    found = []
    for method in METHODS:
        if method.against in solved and method.title in solved:
            more = solved[method.title].products / solved[method.against].products
            slower = ratios(taken[method.title], taken[method.against])
            name = f"{network}, {method.title} / {method.against}"
            found += [
                Measured.count(f"(g) Hv products, {name}", more),
                Measured.median(f"(g) seconds, {name}", slower),
            ]
    return found


def _cells(
    outcomes: dict[str, Outcome | Nothing], title: str, taken: dict[str, tuple[float, ...]]
) -> tuple[str, ...]:
    one, outermost = outcomes[title], extremes(outcomes.values())
    if isinstance(one, Nothing):
        return ("",) * 5 + (one.reason,)
    return (
        str(one.products),
        f"{quartiles(taken[title])[0]:.2f}",
        *("" if size is None else f"{size:.1e}" for size in one.residuals),
        f"{offset(one, outermost):.0e}",
        complaint(one, outermost),
    )
