"""The search behind :mod:`gfgd.spectrum`: Rayleigh–Ritz on subspaces, and bounds from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfgd import checks
from gfgd.lanczos_bounds import Matrix, deflated_lower_bound, smallest_weight, upper_bound

#: Below this fraction of the spectral radius a residual counts as zero, whatever λ is.
RESIDUAL_FLOOR = 1e-6


class NonFiniteHessianError(ValueError):
    """Raised where a Hessian, or its product with a vector, is not finite."""


def wanted_places(size: int, smallest: int, largest: int) -> list[int]:
    """Return the places of the wanted among `size` ascending values: from below, from above."""
    low = range(min(smallest, size))
    high = range(size - 1, max(size - 1 - largest, -1), -1)
    return [*low, *high]


class Subspace:
    """Orthonormal rows q_i, their images H q_i and the projection (⟨q_i, H q_j⟩)."""

    #: Columns that are turned at a time: a copy of all would take as much memory again.
    BLOCK = 2**16
    #: Gram–Schmidt is repeated if it took away more than this part of what is left.
    REPEATED_ABOVE = 0.1

    def __init__(self, product: Callable[[Tensor], Tensor], like: Tensor, *, room: int = 0) -> None:
        self.product = product
        self.basis = like.new_empty(room, len(like))
        self.images = like.new_empty(room, len(like))
        self.projected = np.empty((0, 0))  # in float64, on the CPU
        self.products = 0

    def __len__(self) -> int:
        return len(self.projected)

    def rows(self) -> Tensor:
        """Return the q_i, shape ``(n, d)``."""
        return self.basis[: len(self)]

    def image_rows(self) -> Tensor:
        """Return the H q_i, shape ``(n, d)``."""
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
        column = numbers(self.basis[: count + 1] @ image)
        projected = np.empty((count + 1, count + 1))
        projected[:count, :count] = self.projected
        projected[count], projected[:, count] = column, column
        self.projected = projected

    def restrict(self, coordinates: Matrix) -> None:
        """Go over to the span of some combinations of the rows, columns of `coordinates`."""
        turn = torch.from_numpy(coordinates.T.copy()).to(self.basis)
        for rows in (self.basis, self.images):
            for columns in rows.split(self.BLOCK, dim=1):
                columns[: len(turn)] = turn @ columns[: len(self)]
        self.projected = coordinates.T @ self.projected @ coordinates

    def remainder(self, vector: Tensor, shared: Tensor | None = None) -> tuple[Tensor, float]:
        """Return the unit vector along what is orthogonal to the rows, and its length.

        The length is 0 where that is nothing but rounding errors. Gram–Schmidt, and again where it
        took much away, so that rounding errors are small beside what is left (Daniel, Gragg,
        Kaufman & Stewart 1976). `shared` are the products ⟨q_i, v⟩ if they are known.
        """
        rows, size = self.rows(), float(vector.norm())
        vector = vector.clone()
        shared = rows @ vector if shared is None else shared
        while True:
            vector.addmv_(rows.T, shared, alpha=-1)
            length = float(vector.norm())
            if not length > 100 * torch.finfo(vector.dtype).eps * size:
                return vector, 0.0
            if float(shared.norm()) <= self.REPEATED_ABOVE * length:
                return vector.div_(length), length
            shared = rows @ vector

    def remainder_of_last_image(self) -> tuple[Tensor, float]:
        """Return the same of H q_n, whose products with the rows are the projection's last row."""
        shared = torch.from_numpy(self.projected[-1]).to(self.basis)
        return self.remainder(self.images[len(self) - 1], shared)

    def coupling(self) -> Matrix:
        """Return RᵀR, shape ``(n, n)``, R = HQ − QM with the rows as columns of Q, M = QᵀHQ."""
        turn = torch.from_numpy(self.projected).to(self.basis)
        total = torch.zeros(len(self), len(self), dtype=torch.float64)
        blocks = self.rows().split(self.BLOCK, 1), self.image_rows().split(self.BLOCK, 1)
        for basis, images in zip(*blocks, strict=True):
            beyond = images - turn @ basis
            total += (beyond @ beyond.T).cpu()
        return total.numpy()


@dataclass(frozen=True, eq=False)
class Pairs:
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
        """Which of the wanted have a residual within the tolerance, shape ``(w,)``."""
        return self.norms <= self.allowed

    @property
    def wanted(self) -> Matrix:
        """The wanted Ritz values, shape ``(w,)``."""
        return self.values[self.places]


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The wanted pairs at a point, those of the smallest eigenvalues first, w in all.

    `values`, `residuals`, `bounds` and whether they are `certified` and have `converged`, shape
    (w,); `vectors` (w, d); the `failure_probability` of the bounds; the `products` used; rows
    `kept` for the next solve; and whether following from the given vectors had `missed` some.
    """

    values: Matrix
    vectors: Tensor
    residuals: Matrix
    certified: NDArray[np.bool_]
    bounds: Matrix
    converged: NDArray[np.bool_]
    failure_probability: float
    products: int
    kept: Tensor
    missed: bool


class EigenpairSearch:
    """Rayleigh–Ritz on a subspace that begins with given vectors, or with a random one.

    Two ways to extend it alternate. *By the residual* of the wanted pair that is farthest from
    being certified: from one vector this spans the Krylov space, that is Lanczos; from the Ritz
    vectors of a nearby Hessian it is Davidson's method without preconditioner, a warm start
    that Lanczos cannot take. *By Lanczos from a fresh random vector*, in the complement of
    the Ritz vectors: that meets what the subspace is orthogonal to, and bounds the rest.

    With `max_vectors` the subspace is cut down sooner, to the wanted Ritz vectors of now and of the
    step before. Their span holds the direction of a conjugate gradient, which LOBPCG (Knyazev 2001)
    keeps, too; so little is lost by the cuts (Stathopoulos 2007). There is no room for bounds.
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
        max_vectors: int | None = None,
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
        self.capacity, self.few_vectors = self._room(max_vectors), max_vectors is not None
        self.rows = max(self.CAPACITY, min(self.ROWS, self.NUMBERS // dimension))
        self.generator = torch.Generator().manual_seed(seed)

    def _room(self, max_vectors: int | None) -> int:
        """Return how many rows the subspace has at most, each with its image.

        Beside them there are the wanted residuals, as many vectors on the way to them or to be
        returned, and a direction with its image.
        """
        wanted = self.smallest + self.largest
        if max_vectors is None:
            return self.CAPACITY + wanted
        checks.whole(6 * wanted + 4, max_vectors=max_vectors)  # a cut leaves 2 · wanted rows
        return (max_vectors - 2 - 2 * wanted) // 2

    def solve(
        self,
        product: Callable[[Tensor], Tensor],
        like: Tensor,
        start: Tensor | None,
        failure_probability: float | None,
    ) -> Eigenpairs:
        """Return the wanted pairs at one point; with bounds unless the probability is None."""
        space = Subspace(product, like, room=self.capacity if self.few_vectors else 0)
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

    def _done(self, space: Subspace, pairs: Pairs, bounds: Matrix, last: int) -> bool:
        converged = pairs.certified & self._near(pairs, bounds)
        return bool(converged.all()) or len(space) == self.dimension or space.products >= last

    def _certified_pairs(self, space: Subspace) -> Pairs:
        """Extend by residuals until the wanted pairs are certified, or no product is left."""
        wanted = self.smallest + self.largest
        if len(space) == 0:
            space.extend(self._new_direction(space, self._random(space)))
        before = None
        while True:
            pairs = self._pairs(space)
            enough = len(space) >= min(self.dimension, 2 * wanted + 2, self.capacity)
            if (
                (enough and pairs.certified.all())
                or len(space) == self.dimension
                or space.products >= self.max_products
            ):
                return pairs
            worst = int((pairs.norms / np.maximum(pairs.allowed, 1e-300)).argmax())
            direction = pairs.residuals[worst]
            if len(space) >= self.capacity:
                space.restrict(self._kept_at_cut(pairs, before))
                before = np.eye(len(space))[:, :wanted]
            else:
                before = pairs.coordinates[:, pairs.places]
            space.extend(self._new_direction(space, direction))

    def _kept_at_cut(self, pairs: Pairs, before: Matrix | None) -> Matrix:
        """Return the coordinates of what a full subspace is cut down to, the wanted first."""
        size = len(pairs.values)
        if not self.few_vectors:
            return pairs.coordinates[:, self._ends(size, self.KEPT_AT_CUT)]
        now = pairs.coordinates[:, pairs.places]
        if before is None:
            return now
        padded = np.zeros((size, before.shape[1]))
        padded[: len(before)] = before
        both, factor = np.linalg.qr(np.hstack([now, padded]))
        return both[:, np.abs(np.diag(factor)) > 1e-8]  # what has not moved counts once

    def _bounds_from_fresh_start(
        self, space: Subspace, bounds: Matrix, failure_probability: float
    ) -> Matrix:
        """Run Lanczos from a random vector in the complement of the Ritz vectors that serve.

        Ends when the bounds meet the tolerance; the space then holds what Lanczos met. With no
        vector to deflate by, only the outermost eigenvalue of each end gets a bound of use.
        """
        coupling = space.coupling()
        if len(space):
            kept = self._deflating(space, coupling)
            space.restrict(kept)
            coupling = kept.T @ coupling @ kept  # the span of Ritz vectors is invariant under M
        held, first, projected = len(space), space.products, space.projected
        direction, start_norm = space.remainder(self._random(space))
        weight = smallest_weight(failure_probability, start_norm)
        diagonal: list[float] = []
        off_diagonal: list[float] = []
        look = self.LOOK_EVERY
        while True:
            space.extend(direction)
            diagonal.append(float(space.projected[-1, -1]))
            direction, length = space.remainder_of_last_image()
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

    def _unrefuted(self, pairs: Pairs, bounds: Matrix) -> Matrix:
        """Drop bounds that a Ritz value lies beyond: they belong to the cases that fail.

        Ritz values are inside for certain. By no more than the tolerance: that is rounding.
        """
        outwards = np.where(np.arange(len(bounds)) < self.smallest, -1.0, 1.0)
        excess = outwards * (pairs.wanted - bounds)
        kept = np.where(excess > 0, pairs.wanted, bounds)
        return np.where(excess > pairs.allowed, outwards * np.inf, kept)

    def _near(self, pairs: Pairs, bounds: Matrix) -> NDArray[np.bool_]:
        return np.abs(pairs.wanted - bounds) <= pairs.allowed

    def _reached(self, space: Subspace, bounds: Matrix, places: list[int]) -> bool:
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

    def _deflating(self, space: Subspace, coupling: Matrix) -> Matrix:
        """Return the coordinates of the Ritz vectors to deflate by: wanted ones, and others.

        Every vector narrows the spectrum of the complement, but one with a residual r and a
        Ritz value at a distance D from the end costs the bound there about r²/D.
        """
        pairs = self._pairs(space)
        turn = pairs.coordinates
        squared = np.einsum("ij,ij->j", turn, coupling @ turn)  # ‖Hv − θv‖² of each
        good = np.ones(len(pairs.values), dtype=bool)
        for place, allowed in zip(pairs.places, pairs.allowed, strict=True):
            good &= squared <= 0.5 * allowed * np.abs(pairs.values - pairs.values[place])
        good[pairs.places] = True
        chosen = np.flatnonzero(good)
        outer = {*chosen[: self.DEFLATED], *chosen[-self.DEFLATED :], *pairs.places}
        return pairs.coordinates[:, sorted(outer)]

    def _pairs(self, space: Subspace) -> Pairs:
        values, coordinates = np.linalg.eigh(space.projected)
        places = wanted_places(len(values), self.smallest, self.largest)
        turn = torch.from_numpy(coordinates[:, places].T.copy()).to(space.basis)
        wanted = torch.from_numpy(values[places, None]).to(space.basis)
        residuals = turn @ space.image_rows()
        residuals.addmm_(wanted * turn, space.rows(), alpha=-1)
        floor = RESIDUAL_FLOOR * np.abs(values).max()
        return Pairs(
            values=values,
            coordinates=coordinates,
            places=places,
            residuals=residuals,
            norms=numbers(residuals.norm(dim=1)),
            allowed=self.tolerance * np.maximum(np.abs(values[places]), floor),
        )

    def _ends(self, size: int, extra: int) -> list[int]:
        """Return the places of the wanted Ritz values and of `extra` more at their ends."""
        low = set(range(min(self.smallest + extra, size))) if self.smallest else set()
        high = set(range(max(size - self.largest - extra, 0), size)) if self.largest else set()
        return sorted(low | high)

    def _random(self, space: Subspace) -> Tensor:
        like = space.basis
        return torch.randn(self.dimension, generator=self.generator, dtype=like.dtype).to(like)

    def _new_direction(self, space: Subspace, vector: Tensor) -> Tensor:
        """Return a unit vector along the vector's part outside the space, or a random one."""
        while True:
            direction, length = space.remainder(vector)
            if length:
                return direction
            vector = self._random(space)

    def _solved(
        self,
        space: Subspace,
        pairs: Pairs,
        bounds: Matrix,
        failure_probability: float | None,
        missed: bool,
    ) -> Eigenpairs:
        turn = torch.from_numpy(pairs.coordinates.T.copy()).to(space.basis)
        whole = len(space) == self.dimension
        bounds = pairs.wanted if whole else bounds
        delta = 1.0 if failure_probability is None else failure_probability
        vectors = turn[pairs.places] @ space.rows()
        kept = turn[self._ends(len(space), self.KEPT_BETWEEN)]
        return Eigenpairs(
            values=pairs.wanted,
            vectors=vectors,
            residuals=pairs.norms,
            certified=pairs.certified,
            bounds=bounds,
            converged=pairs.certified & self._near(pairs, bounds),
            failure_probability=0.0 if whole else delta,
            products=space.products,
            kept=vectors if self.few_vectors else kept @ space.rows(),
            missed=missed,
        )


def numbers(values: Tensor) -> Matrix:
    """Return a tensor's numbers in float64, on the CPU."""
    return values.detach().cpu().double().numpy()
