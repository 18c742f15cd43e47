"""Extreme eigenvalues of the Hessian, at a point and along a trajectory.

Matrix-free: only Hessian-vector products are taken. Three statements about a number λ that is
offered as the smallest eigenvalue of H (for the largest, mirrored) are kept apart:

*Certified*: ‖Hv − λv‖ ≤ r for a unit vector v. Then *an* eigenvalue of H lies within r of λ
(Parlett 1998, section 4.5), and no more follows: it need not be the smallest.

*Found*: λ is a Ritz value, so λmin ≤ λ for certain (Courant & Fischer). An eigenvector that the
search never met may lie below.

*Converged*: besides being certified, λ is the smallest eigenvalue up to the tolerance. No number of
products below d shows that for certain. A fresh random start shows it with a probability: Lanczos
from a Gaussian vector, drawn after the vectors that it is deflated by, gives a bound b such that
λmin ≥ b with probability at least 1 − δ, whatever H is (:mod:`gfgd.lanczos_bounds` has the theorem
and its proof); and λ has converged when λ − b is within the tolerance, too.

In floating point these hold up to rounding errors of about 1e-15 ‖H‖ (1e-7 ‖H‖ in float32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfgd import checks
from gfgd.lanczos_bounds import Matrix, deflated_lower_bound, smallest_weight, upper_bound
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: Below this fraction of the spectral radius a residual counts as zero, whatever λ is.
RESIDUAL_FLOOR = 1e-6

_OPTIONAL = ("smallest_vectors", "largest_vectors", "times")

#: δ, at each point and each end of the spectrum, if not said otherwise.
FAILURE_PROBABILITY = 1e-4


class NonFiniteHessianError(ValueError):
    """Raised where a Hessian, or its product with a vector, is not finite."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Extreme eigenvalues of H at one point, or at each of T points (then (T, …) in front).

    Attributes
    ----------
    smallest, largest
        What was found of λ_1 ≤ … ≤ λ_a, shape ``(a,)``, and of the largest, λ_d ≥ …, shape
        ``(b,)``. Certain: the j-th value of `smallest` is at least λ_j, the j-th of `largest` at
        most the j-th largest eigenvalue.
    smallest_residuals, largest_residuals
        ‖Hv − λv‖, ‖v‖ = 1, same shapes: some eigenvalue of H is so near to λ.
    smallest_certified, largest_certified
        Whether the residual met the tolerance. Says nothing of being the extreme one.
    smallest_bounds, largest_bounds
        Bounds from outside: λ_j is at least the j-th of `smallest_bounds`, and the j-th largest
        eigenvalue at most the j-th of `largest_bounds`, each end with probability at least
        1 − `failure_probability` over the random start. Infinite where none was looked for.
    smallest_converged, largest_converged
        Whether, besides being certified, the value is within the tolerance of its bound: it is
        then that extreme eigenvalue, up to the tolerance, with that probability.
    failure_probability
        δ, shape ``()`` or ``(T,)``: 0 where the whole spectrum was computed, 1 where no bound
        was looked for.
    products
        Hessian-vector products used (at each of the T points).
    smallest_vectors, largest_vectors
        Unit vectors v, shapes ``(a, d)`` and ``(b, d)``; None along a trajectory.
    times
        Along a trajectory its times, shape ``(T,)``.
    """

    smallest: Tensor
    largest: Tensor
    smallest_residuals: Tensor
    largest_residuals: Tensor
    smallest_certified: Tensor
    largest_certified: Tensor
    smallest_bounds: Tensor
    largest_bounds: Tensor
    smallest_converged: Tensor
    largest_converged: Tensor
    failure_probability: Tensor
    products: Tensor
    smallest_vectors: Tensor | None = None
    largest_vectors: Tensor | None = None
    times: Tensor | None = None

    def vectors(self) -> Tensor:
        """Return all vectors as rows, those of the smallest eigenvalues first, ``(a + b, d)``.

        Raises
        ------
        ValueError
            Along a trajectory, where none are kept.
        """
        if self.smallest_vectors is None or self.largest_vectors is None:
            raise ValueError("this spectrum keeps no vectors; call extreme_eigenvalues at a point")
        return torch.cat([self.smallest_vectors, self.largest_vectors])

    def without_vectors(self) -> Spectrum:
        """Return the same spectrum without its vectors, which take the memory."""
        return replace(self, smallest_vectors=None, largest_vectors=None)

    @property
    def certified(self) -> bool:
        """Whether every value is an eigenvalue of H up to the tolerance."""
        return bool(self.smallest_certified.all() and self.largest_certified.all())

    @property
    def converged(self) -> bool:
        """Whether every value is the extreme eigenvalue that it stands for, up to the tolerance.

        With probability at least 1 − `failure_probability` at each point and each end.
        """
        return bool(self.smallest_converged.all() and self.largest_converged.all())

    @property
    def checked(self) -> Tensor:
        """At which points every value has converged, shape ``()`` or ``(T,)``."""
        return self.smallest_converged.all(-1) & self.largest_converged.all(-1)

    @property
    def evidence(self) -> str:
        """What is certified and what is found, in a sentence or two."""
        certified = self.smallest_certified.all(-1) & self.largest_certified.all(-1)
        few, many = int(self.checked.sum()), self.checked.numel()
        sure = f"{1 - float(self.failure_probability[self.checked].max()):.6g}" if few else ""
        where = "" if many == 1 else f" at {int(certified.sum())} of {many} times"
        if not certified.any():
            return "No residual met the tolerance: these are no eigenvalues yet."
        first = f"Each value is certified to be an eigenvalue up to the tolerance{where}. "
        if not few:
            return first + "That it is the extreme one was found, not checked."
        how = "by the whole spectrum" if sure == "1" else f"with probability {sure} at each end"
        if few == many:
            return f"{first}That it is the extreme one was checked {how}."
        return (
            f"{first}That it is the extreme one was checked at {few} times, {how}; at the others "
            "it was found by following eigenvectors from one time to the next."
        )


def extreme_eigenvalues(
    objective: Objective,
    point: Tensor,
    *,
    smallest: int = 1,
    largest: int = 1,
    tolerance: float = 1e-2,
    failure_probability: float | None = FAILURE_PROBABILITY,
    max_products: int = 2000,
    dense_below: int = 200,
    seed: int = 0,
    warm_start: Tensor | None = None,
) -> Spectrum:
    """Return the extreme eigenvalues of ∇²f(θ), with residuals and with bounds from outside.

    Rayleigh–Ritz on a subspace that is extended by residuals (from one vector: Lanczos; from
    several: Davidson's method without preconditioner) until the residuals meet the tolerance,
    and by Lanczos from fresh random starts, deflated, until the bounds do. For d ≤ `dense_below`
    the Hessian is formed and solved densely.

    Parameters
    ----------
    objective, point
        f and θ, shape ``(d,)``.
    smallest, largest
        How many eigenvalues of each end, a and b; one of them may be 0.
    tolerance
        Allows an error of tolerance · max(|λ|, 1e-6 ρ), ρ the largest |λ| seen. A value is
        certified when its residual is that small, and has converged when its distance from its
        bound is, too. A certified λ is nearer still to some eigenvalue: its error is at most
        ‖Hv − λv‖²/gap, with the gap between λ and the other eigenvalues (Parlett 1998, section
        11.7).
    failure_probability
        δ: a bound, and with it what is called converged, may be wrong with this probability at
        each end. None looks for no bound, which saves most of the products where vectors are
        known from a nearby point; nothing is then called converged.
    max_products
        After so many Hessian-vector products what is not certified, or has not converged, is
        marked so.
    dense_below
        Largest d that is solved densely, at d products.
    seed
        Of the random starts.
    warm_start
        Vectors to begin with, shape ``(k, d)``: near eigenvectors, such as ``largest_vectors`` of
        a nearby point. They need be neither orthogonal nor normalised.

    Raises
    ------
    ValueError
        If an argument is out of range, `point` is not one point, or (a
        :class:`NonFiniteHessianError`) the Hessian is not finite.
    """
    checks.whole(0, dense_below=dense_below)
    search = _Search(objective.dimension, smallest, largest, tolerance, max_products, seed)
    if failure_probability is not None and not 0 < failure_probability < 1:
        raise ValueError(f"failure_probability = {failure_probability!r}: must be between 0 and 1")
    point = objective._check(point)
    if point.dim() != 1:
        raise ValueError(
            f"point has shape {tuple(point.shape)}: give one θ, shape ({objective.dimension},); "
            "for many points call this for each, or spectrum_along for a trajectory"
        )
    warm = _checked_start(warm_start, point)
    if objective.dimension <= dense_below:
        return _dense(objective, point, smallest, largest)
    product = _product_at(objective, point)
    return search.solve(product, point, warm, failure_probability).spectrum


def spectrum_along(
    objective: Objective,
    trajectory: Trajectory,
    *,
    smallest: int = 1,
    largest: int = 1,
    tolerance: float = 1e-2,
    failure_probability: float = FAILURE_PROBABILITY,
    check_every: int = 25,
    max_products: int = 2000,
    dense_below: int = 200,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Spectrum:
    """Return the extreme eigenvalues of ∇²f at each recorded point of `trajectory`.

    As :func:`extreme_eigenvalues`, but each solve starts from the Ritz vectors that the one
    before it ended with, and from the wanted vectors of the one before that: the span then
    holds the linear extrapolation in time. So eigenvectors are followed, at a fraction of the
    cost of a search. What enters from outside the span is not seen by following; therefore the
    first point, every `check_every`-th and the last are *checked*: searched from fresh random
    starts until the bounds meet the tolerance. Where a check finds what following had missed, that
    is followed back, and the points in between are checked by halves until nothing more is
    missed. Only at checked points is anything called converged; at the others the values are
    certified and found. ``check_every=1`` checks all.

    `max_products` holds for each solve; where something was missed, a point is solved again.

    Raises
    ------
    ValueError
        As :func:`extreme_eigenvalues`.
    """
    checks.whole(0, dense_below=dense_below)
    checks.whole(1, check_every=check_every)
    search = _Search(objective.dimension, smallest, largest, tolerance, max_products, seed)
    if not 0 < failure_probability < 1:
        raise ValueError(f"failure_probability = {failure_probability!r}: must be between 0 and 1")
    final = len(trajectory.times) - 1
    path = _Path(search, objective, trajectory.points, failure_probability)
    for index in progress(range(final + 1)):
        if objective.dimension <= dense_below:
            dense = _dense(objective, trajectory.points[index], smallest, largest)
            path.spectra.append(dense.without_vectors())
        else:
            path.go_on(check=index % check_every == 0 or index == final)
    return _stacked(path.spectra, trajectory.times)


def _stacked(spectra: Sequence[Spectrum], times: Tensor) -> Spectrum:
    """Return one spectrum of many points, without their vectors."""
    names = [entry.name for entry in fields(Spectrum) if entry.name not in _OPTIONAL]
    stacks = {name: torch.stack([getattr(one, name) for one in spectra]) for name in names}
    return Spectrum(**stacks, times=times)


def _checked_start(vectors: Tensor | None, point: Tensor) -> Tensor | None:
    if vectors is None or len(vectors) == 0:
        return None
    if vectors.dim() != 2 or vectors.shape[1] != len(point) or len(vectors) > len(point):
        raise ValueError(
            f"warm_start has shape {tuple(vectors.shape)}: give at most d vectors as rows, "
            f"shape (k, {len(point)})"
        )
    if not vectors.isfinite().all():
        raise ValueError("warm_start: has non-finite entries")
    return vectors.detach().to(point)


def _product_at(objective: Objective, point: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda vector: objective.hessian_vector_product(point, vector)


def _dense(objective: Objective, point: Tensor, smallest: int, largest: int) -> Spectrum:
    """Solve the whole eigenproblem; the residuals are those of the dense solver."""
    hessian = objective.hessian(point)
    if not hessian.isfinite().all():
        raise NonFiniteHessianError("point: the Hessian is not finite there")
    values, vectors = torch.linalg.eigh(hessian)
    residuals = (hessian @ vectors - vectors * values).norm(dim=0)
    chosen = _wanted(len(values), smallest, largest)
    return _spectrum(
        values[chosen],
        vectors[:, chosen].T,
        residuals[chosen],
        certified=torch.ones(len(chosen), dtype=torch.bool, device=point.device),
        bounds=values[chosen],
        converged=torch.ones(len(chosen), dtype=torch.bool, device=point.device),
        failure_probability=0.0,
        products=objective.dimension,
        smallest=smallest,
    )


def _wanted(size: int, smallest: int, largest: int) -> list[int]:
    """Return the places of the wanted among `size` ascending values: from below, from above."""
    low = range(min(smallest, size))
    high = range(size - 1, max(size - 1 - largest, -1), -1)
    return [*low, *high]


def _spectrum(
    values: Tensor,
    vectors: Tensor,
    residuals: Tensor,
    *,
    certified: Tensor,
    bounds: Tensor,
    converged: Tensor,
    failure_probability: float,
    products: int,
    smallest: int,
) -> Spectrum:
    """Return the result; of each tensor the first `smallest` entries belong to the lower end."""
    low, high = slice(None, smallest), slice(smallest, None)
    return Spectrum(
        smallest=values[low],
        largest=values[high],
        smallest_residuals=residuals[low],
        largest_residuals=residuals[high],
        smallest_certified=certified[low],
        largest_certified=certified[high],
        smallest_bounds=bounds[low],
        largest_bounds=bounds[high],
        smallest_converged=converged[low],
        largest_converged=converged[high],
        failure_probability=torch.tensor(failure_probability, dtype=torch.float64),
        products=torch.tensor(products),
        smallest_vectors=vectors[low],
        largest_vectors=vectors[high],
    )


class _Subspace:
    """Orthonormal rows q_i, their images H q_i and the projection (⟨q_i, H q_j⟩)."""

    def __init__(self, product: Callable[[Tensor], Tensor], like: Tensor) -> None:
        self.product = product
        self.basis = like.new_empty(0, len(like))
        self.images = like.new_empty(0, len(like))
        self.projected = np.empty((0, 0))  # in float64, on the CPU
        self.products = 0

    def __len__(self) -> int:
        return len(self.projected)

    def rows(self) -> Tensor:
        return self.basis[: len(self)]

    def image_rows(self) -> Tensor:
        return self.images[: len(self)]

    def extend(self, direction: Tensor) -> None:
        """Add a unit vector that is orthogonal to the rows, for one product."""
        image = self.product(direction)
        self.products += 1
        if not image.isfinite().all():
            raise NonFiniteHessianError("point: the Hessian is not finite there")
        count = len(self)
        if count == len(self.basis):  # room for twice as many
            room = self.basis.new_empty(max(16, count), self.basis.shape[1])
            self.basis = torch.cat([self.basis, room])
            self.images = torch.cat([self.images, room])
        self.basis[count], self.images[count] = direction, image
        column = _numbers(self.basis[: count + 1] @ image)
        projected = np.empty((count + 1, count + 1))
        projected[:count, :count] = self.projected
        projected[count], projected[:, count] = column, column
        self.projected = projected

    def restrict(self, coordinates: Matrix) -> None:
        """Go over to the span of some combinations of the rows, columns of `coordinates`."""
        turn = torch.from_numpy(coordinates.T.copy()).to(self.basis)
        self.basis, self.images = turn @ self.rows(), turn @ self.image_rows()
        self.projected = coordinates.T @ self.projected @ coordinates

    def remainder(self, vector: Tensor) -> tuple[Tensor, float]:
        """Return the unit vector along what is orthogonal to the rows, and its length.

        The length is 0 where that is nothing but rounding errors. Gram–Schmidt, twice.
        """
        rows, size = self.rows(), float(vector.norm())
        for _ in range(2):
            vector = vector - rows.T @ (rows @ vector)
        length = float(vector.norm())
        if not length > 100 * torch.finfo(vector.dtype).eps * size:
            return vector, 0.0
        vector = vector / length
        vector = vector - rows.T @ (rows @ vector)
        return vector / vector.norm(), length


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All n Ritz values of a subspace, ascending, and the residuals of the wanted ones.

    `values` (n,), `coordinates` of the Ritz vectors (n, n); of the wanted: `places` among them,
    `residuals` (w, d), their `norms` (w,) and the errors `allowed` (w,).
    """

    values: Matrix
    coordinates: Matrix
    places: list[int]
    residuals: Tensor
    norms: Matrix
    allowed: Matrix

    @property
    def certified(self) -> NDArray[np.bool_]:
        return self.norms <= self.allowed

    @property
    def wanted(self) -> Matrix:
        return self.values[self.places]


@dataclass(frozen=True, eq=False)
class _Solved:
    """The spectrum at a point, rows for the next solve, and whether following had missed some."""

    spectrum: Spectrum
    kept: Tensor
    missed: bool


class _Search:
    """Rayleigh–Ritz on a subspace that begins with given vectors, or with a random one.

    Two ways to extend it alternate. *By the residual* of the wanted pair that is farthest from
    being certified: from one vector this spans the Krylov space, that is Lanczos; from the Ritz
    vectors of a nearby Hessian it is Davidson's method without preconditioner, a warm start
    that Lanczos cannot take. *By Lanczos from a fresh random vector*, in the complement of
    the Ritz vectors: that meets what the subspace is orthogonal to, and bounds the rest.
    """

    #: Rows at which the subspace is cut down to the Ritz vectors next to both ends.
    CAPACITY = 60
    #: Ritz vectors kept per end beyond those wanted: at a cut, and from point to point.
    KEPT_AT_CUT = 8
    KEPT_BETWEEN = 1
    #: Ritz vectors per end that a fresh Lanczos run is deflated by, at most.
    DEFLATED = 16
    #: A fresh Lanczos run holds at most so many numbers, and so many rows.
    NUMBERS, ROWS = 2**24, 400
    #: Its bounds are looked at after every fourth product, later after every sixteenth more.
    LOOK_EVERY = 4
    #: Bounds are given up after so many products at a point.
    PRODUCTS_FOR_BOUNDS = 400

    def __init__(
        self,
        dimension: int,
        smallest: int,
        largest: int,
        tolerance: float,
        max_products: int,
        seed: int,
    ) -> None:
        checks.positive(tolerance=tolerance)
        checks.whole(0, smallest=smallest, largest=largest)
        if not 1 <= smallest + largest <= dimension:
            raise ValueError(
                f"smallest + largest = {smallest + largest}: must be at least 1, and there are "
                f"only d = {dimension} eigenvalues"
            )
        checks.whole(smallest + largest, max_products=max_products)
        self.dimension = dimension
        self.smallest, self.largest = smallest, largest
        self.tolerance = tolerance
        self.max_products = max_products
        self.rows = max(self.CAPACITY, min(self.ROWS, self.NUMBERS // dimension))
        self.generator = torch.Generator().manual_seed(seed)

    def solve(
        self,
        product: Callable[[Tensor], Tensor],
        like: Tensor,
        start: Tensor | None,
        failure_probability: float | None,
    ) -> _Solved:
        """Return the wanted pairs at one point; with bounds unless the probability is None."""
        space = _Subspace(product, like)
        for vector in () if start is None else start[: self.max_products]:
            space.extend(self._new_direction(space, vector))
        bounds = np.array([-np.inf] * self.smallest + [np.inf] * self.largest)
        delta = failure_probability
        pairs = None if start is None and delta is not None else self._certified_pairs(space)
        followed = None if pairs is None else pairs.wanted
        last = min(self.max_products, space.products + self.PRODUCTS_FOR_BOUNDS)
        while delta is not None and (pairs is None or not self._done(space, pairs, bounds, last)):
            delta /= 2  # over all runs: δ/2 + δ/4 + … = δ
            bounds = self._bounds_from_fresh_start(space, bounds, delta)
            pairs = self._certified_pairs(space)
            bounds = self._unrefuted(pairs, bounds)
        assert pairs is not None
        missed = followed is not None and bool(
            (np.abs(followed - pairs.wanted) > pairs.allowed).any()
        )
        return self._solved(space, pairs, bounds, failure_probability, missed)

    def _done(self, space: _Subspace, pairs: _Pairs, bounds: Matrix, last: int) -> bool:
        converged = pairs.certified & self._near(pairs, bounds)
        return bool(converged.all()) or len(space) == self.dimension or space.products >= last

    def _certified_pairs(self, space: _Subspace) -> _Pairs:
        """Extend by residuals until the wanted pairs are certified, or no product is left."""
        wanted = self.smallest + self.largest
        if len(space) == 0:
            space.extend(self._new_direction(space, self._random(space)))
        while True:
            pairs = self._pairs(space)
            enough = len(space) >= min(self.dimension, 2 * wanted + 2)
            if (
                (enough and pairs.certified.all())
                or len(space) == self.dimension
                or space.products >= self.max_products
            ):
                return pairs
            worst = int((pairs.norms / np.maximum(pairs.allowed, 1e-300)).argmax())
            direction = pairs.residuals[worst]
            if len(space) >= self.CAPACITY + wanted:
                space.restrict(pairs.coordinates[:, self._ends(len(space), self.KEPT_AT_CUT)])
            space.extend(self._new_direction(space, direction))

    def _bounds_from_fresh_start(
        self, space: _Subspace, bounds: Matrix, failure_probability: float
    ) -> Matrix:
        """Run Lanczos from a random vector in the complement of the Ritz vectors that serve.

        Ends when the bounds meet the tolerance; the space then holds what Lanczos met. With no
        vector to deflate by, only the outermost eigenvalue of each end gets a bound of use.
        """
        if len(space):
            space.restrict(self._deflating(space))
        held, first = len(space), space.products
        projected = space.projected
        coupling = space.image_rows() - torch.from_numpy(projected).to(space.basis) @ space.rows()
        coupling = _numbers(coupling @ coupling.T)  # RᵀR of gfgd.lanczos_bounds
        start = self._random(space)
        start = start - space.rows().T @ (space.rows() @ start)
        weight = smallest_weight(failure_probability, float(start.norm()))
        direction, _ = space.remainder(start)
        diagonal: list[float] = []
        off_diagonal: list[float] = []
        look = self.LOOK_EVERY
        while True:
            space.extend(direction)
            diagonal.append(float(space.projected[-1, -1]))
            direction, length = space.remainder(space.images[len(space) - 1])
            off_diagonal.append(length)
            stop = (
                length == 0
                or len(space) in (self.dimension, self.rows + held)
                or space.products >= min(self.max_products, first + self.PRODUCTS_FOR_BOUNDS)
            )
            if stop or len(diagonal) >= look:
                look += max(self.LOOK_EVERY, look // 16)
                beyond = self._beyond(projected, coupling, diagonal, off_diagonal, min(weight, 1.0))
                tighter = self._tighter(bounds, beyond)
                if stop or self._reached(space, tighter, self._all if held else self._outermost):
                    return tighter

    def _beyond(
        self,
        projected: Matrix,
        coupling: Matrix,
        diagonal: Sequence[float],
        off_diagonal: Sequence[float],
        weight: float,
    ) -> Matrix:
        """Return the bounds that one Lanczos run gives, shape (w,); see gfgd.lanczos_bounds."""
        bounds = []
        if self.smallest:
            low = -upper_bound([-alpha for alpha in diagonal], off_diagonal, weight)
            bounds += [
                deflated_lower_bound(projected, coupling, low, j) for j in range(self.smallest)
            ]
        if self.largest:
            high = upper_bound(diagonal, off_diagonal, weight)
            bounds += [
                -deflated_lower_bound(-projected, coupling, -high, j) for j in range(self.largest)
            ]
        return np.array(bounds)

    def _tighter(self, bounds: Matrix, others: Matrix) -> Matrix:
        low = np.arange(len(bounds)) < self.smallest
        return np.where(low, np.maximum(bounds, others), np.minimum(bounds, others))

    def _unrefuted(self, pairs: _Pairs, bounds: Matrix) -> Matrix:
        """Drop bounds that a Ritz value lies beyond: they belong to the cases that fail.

        Ritz values are inside for certain. By no more than the tolerance: that is rounding.
        """
        outwards = np.where(np.arange(len(bounds)) < self.smallest, -1.0, 1.0)
        excess = outwards * (pairs.wanted - bounds)
        kept = np.where(excess > 0, pairs.wanted, bounds)
        return np.where(excess > pairs.allowed, outwards * np.inf, kept)

    def _near(self, pairs: _Pairs, bounds: Matrix) -> NDArray[np.bool_]:
        return np.abs(pairs.wanted - bounds) <= pairs.allowed

    def _reached(self, space: _Subspace, bounds: Matrix, places: list[int]) -> bool:
        """Whether these bounds are within the tolerance of the Ritz values."""
        if len(space) < self.smallest + self.largest:
            return False
        return bool(self._near(self._pairs(space), bounds)[places].all())

    @property
    def _all(self) -> list[int]:
        return list(range(self.smallest + self.largest))

    @property
    def _outermost(self) -> list[int]:
        """The places of λmin and λmax among the wanted."""
        return [0] * bool(self.smallest) + [self.smallest] * bool(self.largest)

    def _deflating(self, space: _Subspace) -> Matrix:
        """Return the coordinates of the Ritz vectors to deflate by: wanted ones, and others.

        Every vector narrows the spectrum of the complement, but one with a residual r and a
        Ritz value at a distance D from the end costs the bound there about r²/D.
        """
        pairs = self._pairs(space)
        turn = torch.from_numpy(pairs.coordinates.T.copy()).to(space.basis)
        residuals = turn @ space.image_rows() - torch.from_numpy(pairs.values[:, None]).to(turn) * (
            turn @ space.rows()
        )
        squared = _numbers(residuals.square().sum(1))
        good = np.ones(len(pairs.values), dtype=bool)
        for place, allowed in zip(pairs.places, pairs.allowed, strict=True):
            good &= squared <= 0.5 * allowed * np.abs(pairs.values - pairs.values[place])
        good[pairs.places] = True
        chosen = np.flatnonzero(good)
        outer = {*chosen[: self.DEFLATED], *chosen[-self.DEFLATED :], *pairs.places}
        return pairs.coordinates[:, sorted(outer)]

    def _pairs(self, space: _Subspace) -> _Pairs:
        values, coordinates = np.linalg.eigh(space.projected)
        places = _wanted(len(values), self.smallest, self.largest)
        turn = torch.from_numpy(coordinates[:, places].T.copy()).to(space.basis)
        wanted = torch.from_numpy(values[places, None]).to(space.basis)
        residuals = turn @ space.image_rows() - wanted * (turn @ space.rows())
        floor = RESIDUAL_FLOOR * np.abs(values).max()
        return _Pairs(
            values=values,
            coordinates=coordinates,
            places=places,
            residuals=residuals,
            norms=_numbers(residuals.norm(dim=1)),
            allowed=self.tolerance * np.maximum(np.abs(values[places]), floor),
        )

    def _ends(self, size: int, extra: int) -> list[int]:
        """Return the places of the wanted Ritz values and of `extra` more at their ends."""
        low = set(range(min(self.smallest + extra, size))) if self.smallest else set()
        high = set(range(max(size - self.largest - extra, 0), size)) if self.largest else set()
        return sorted(low | high)

    def _random(self, space: _Subspace) -> Tensor:
        like = space.basis
        return torch.randn(self.dimension, generator=self.generator, dtype=like.dtype).to(like)

    def _new_direction(self, space: _Subspace, vector: Tensor) -> Tensor:
        """Return a unit vector along the vector's part outside the space, or a random one."""
        while True:
            direction, length = space.remainder(vector)
            if length:
                return direction
            vector = self._random(space)

    def _solved(
        self,
        space: _Subspace,
        pairs: _Pairs,
        bounds: Matrix,
        failure_probability: float | None,
        missed: bool,
    ) -> _Solved:
        rows = space.rows()

        def combined(places: list[int]) -> Tensor:
            return torch.from_numpy(pairs.coordinates[:, places].T.copy()).to(rows) @ rows

        def like(numbers: np.ndarray) -> Tensor:
            return torch.from_numpy(numbers).to(rows.device)

        whole = len(space) == self.dimension
        bounds = pairs.wanted if whole else bounds
        delta = 1.0 if failure_probability is None else failure_probability
        spectrum = _spectrum(
            like(pairs.wanted).to(rows),
            combined(pairs.places),
            like(pairs.norms).to(rows),
            certified=like(pairs.certified),
            bounds=like(bounds).to(rows),
            converged=like(pairs.certified & self._near(pairs, bounds)),
            failure_probability=0.0 if whole else delta,
            products=space.products,
            smallest=self.smallest,
        )
        return _Solved(spectrum, combined(self._ends(len(space), self.KEPT_BETWEEN)), missed)


@dataclass(eq=False)
class _Path:
    """Follows the wanted eigenvectors from point to point, and checks."""

    search: _Search
    objective: Objective
    points: Tensor
    failure_probability: float
    spectra: list[Spectrum] = field(default_factory=list)
    start: Tensor | None = None
    last_check: int = 0

    def go_on(self, *, check: bool) -> None:
        """Solve at the next point; mend what lies behind if a check finds something missed."""
        index = len(self.spectra)
        solved = self._solve(index, self.start, check)
        rows = [solved.kept] if index == 0 else [solved.kept, self.spectra[-1].vectors()]
        self.start = torch.cat(rows)
        self.spectra.append(solved.spectrum)
        if check:
            if solved.missed:
                self._follow(range(index - 1, self.last_check, -1), solved.spectrum)
                self._check_between(self.last_check, index)
            self.last_check = index
            # Vectors serve to follow back to the last check, and to extrapolate from.
            self.spectra[:-1] = [one.without_vectors() for one in self.spectra[:-1]]

    def _solve(self, index: int, start: Tensor | None, check: bool) -> _Solved:
        product = _product_at(self.objective, self.points[index])
        delta = self.failure_probability if check else None
        start = start if start is None else start[: self.objective.dimension]
        return self.search.solve(product, self.points[index], start, delta)

    def _follow(self, indices: Iterable[int], spectrum: Spectrum) -> None:
        """Solve again from the vectors of the point before, as long as that changes a value.

        Each point keeps its own vectors in the span: a Ritz value from a larger span is no worse.
        """
        for index in indices:
            before = self.spectra[index]
            start = torch.cat([spectrum.vectors(), before.vectors()])
            spectrum = self._solve(index, start, check=False).spectrum
            self.spectra[index] = replace(spectrum, products=spectrum.products + before.products)
            change = torch.cat([spectrum.smallest, spectrum.largest]) - torch.cat(
                [before.smallest, before.largest]
            )
            residuals = torch.cat([before.smallest_residuals, before.largest_residuals])
            if (change.abs() <= residuals).all():
                return

    def _check_between(self, first: int, last: int) -> None:
        """Check halfway; where that, too, finds something missed, follow it and check by halves."""
        middle = (first + last) // 2
        if middle == first:
            return
        before = self.spectra[middle]
        solved = self._solve(middle, before.vectors(), check=True)
        self.spectra[middle] = replace(
            solved.spectrum, products=solved.spectrum.products + before.products
        )
        if solved.missed:
            self._follow(range(middle - 1, first, -1), solved.spectrum)
            self._follow(range(middle + 1, last), solved.spectrum)
            self._check_between(first, middle)
            self._check_between(middle, last)


def _numbers(values: Tensor) -> Matrix:
    return values.detach().cpu().double().numpy()
