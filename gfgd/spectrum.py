"""Extreme eigenvalues of the Hessian, at a point and along a trajectory.

Matrix-free: only Hessian-vector products are taken. Every eigenvalue comes with its
residual ‖Hv − λv‖, ‖v‖ = 1, which bounds its distance from *an* eigenvalue of H, and with
whether the residual met the tolerance. Nothing that did not converge is passed off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gfgd import checks
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

#: Below this fraction of the spectral radius a residual counts as zero, whatever λ is.
RESIDUAL_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Extreme eigenpairs of H at one point, or at each of T points (then (T, …) in front).

    Attributes
    ----------
    smallest, largest
        λmin = λ_1 ≤ … ≤ λ_a, shape ``(a,)``, and λmax ≥ … , shape ``(b,)``.
    smallest_vectors, largest_vectors
        Unit eigenvectors, shapes ``(a, d)`` and ``(b, d)``; None along a trajectory.
    smallest_residuals, largest_residuals
        ‖Hv − λv‖, same shapes as the eigenvalues.
    smallest_converged, largest_converged
        Whether the residual met the tolerance.
    products
        Hessian-vector products used (at each of the T points).
    times
        Along a trajectory its times, shape ``(T,)``.
    """

    smallest: Tensor
    largest: Tensor
    smallest_residuals: Tensor
    largest_residuals: Tensor
    smallest_converged: Tensor
    largest_converged: Tensor
    products: Tensor
    smallest_vectors: Tensor | None = None
    largest_vectors: Tensor | None = None
    times: Tensor | None = None

    @property
    def converged(self) -> bool:
        """Whether every eigenvalue met the tolerance."""
        return bool(self.smallest_converged.all() and self.largest_converged.all())


def extreme_eigenvalues(
    objective: Objective,
    point: Tensor,
    *,
    smallest: int = 1,
    largest: int = 1,
    tolerance: float = 1e-2,
    max_products: int = 2000,
    dense_below: int = 200,
    seed: int = 0,
    warm_start: Tensor | None = None,
) -> Spectrum:
    """Return the extreme eigenvalues of ∇²f(θ), with residuals.

    Thick-restart Lanczos (Wu & Simon 2000) with full orthogonalisation; for d ≤
    `dense_below` the Hessian is formed and solved densely.

    Parameters
    ----------
    objective, point
        f and θ, shape ``(d,)``.
    smallest, largest
        How many eigenvalues of each end, a and b; one of them may be 0.
    tolerance
        An eigenvalue has converged when ‖Hv − λv‖ ≤ tolerance · max(|λ|, 1e-6 ρ), ρ the
        largest |λ| seen. λ itself is then nearer: its error is at most ‖Hv − λv‖²/gap, with the
        gap between λ and the rest of the spectrum (Parlett 1998, section 11.7).
    max_products
        After so many Hessian-vector products what has not converged is marked so.
    dense_below
        Largest d that is solved densely, at d products.
    seed
        Of the random start.
    warm_start
        Vectors to start from in place of a random one, shape ``(k, d)``: near eigenvectors,
        such as ``largest_vectors`` of a nearby point, save most of the products. They need
        be neither orthogonal nor normalised.

    Raises
    ------
    ValueError
        If an argument is out of range or the Hessian is not finite at θ.
    """
    checks.whole(0, dense_below=dense_below)
    search = _Search(objective.dimension, smallest, largest, tolerance, max_products, seed)
    warm = _checked_start(warm_start, point)
    if objective.dimension <= dense_below:
        return _dense(objective, point, smallest, largest)
    search.warm = warm
    return search.solve(_product_at(objective, point), point)


def spectrum_along(
    objective: Objective,
    trajectory: Trajectory,
    *,
    smallest: int = 1,
    largest: int = 1,
    tolerance: float = 1e-2,
    max_products: int = 2000,
    dense_below: int = 200,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Spectrum:
    """Return the extreme eigenvalues of ∇²f at each recorded point of `trajectory`.

    As :func:`extreme_eigenvalues`, but each solve starts from the Ritz vectors that the one
    before it ended with, and from the wanted vectors of the one before that: the span then
    holds the linear extrapolation in time. `max_products` holds for each point.
    """
    checks.whole(0, dense_below=dense_below)
    search = _Search(objective.dimension, smallest, largest, tolerance, max_products, seed)
    found = []
    for index in progress(range(len(trajectory.times))):
        point = trajectory.points[index]
        if objective.dimension <= dense_below:
            found.append(_dense(objective, point, smallest, largest))
        else:
            found.append(search.solve(_product_at(objective, point), point))

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(one, name) for one in found])

    return Spectrum(
        smallest=stacked("smallest"),
        largest=stacked("largest"),
        smallest_residuals=stacked("smallest_residuals"),
        largest_residuals=stacked("largest_residuals"),
        smallest_converged=stacked("smallest_converged"),
        largest_converged=stacked("largest_converged"),
        products=stacked("products"),
        times=trajectory.times,
    )


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
        raise ValueError("point: the Hessian is not finite there")
    values, vectors = torch.linalg.eigh(hessian)
    residuals = (hessian @ vectors - vectors * values).norm(dim=0)
    low = torch.arange(smallest, device=point.device)
    high = torch.arange(len(values) - 1, len(values) - 1 - largest, -1, device=point.device)
    return Spectrum(
        smallest=values[low],
        largest=values[high],
        smallest_residuals=residuals[low],
        largest_residuals=residuals[high],
        smallest_converged=torch.ones_like(low, dtype=torch.bool),
        largest_converged=torch.ones_like(high, dtype=torch.bool),
        products=torch.tensor(objective.dimension),
        smallest_vectors=vectors[:, low].T,
        largest_vectors=vectors[:, high].T,
    )


class _Search:
    """Rayleigh–Ritz on a growing subspace that outlives one point.

    The subspace is extended by the residual of the wanted pair that is farthest from
    converging. From one random vector this spans the Krylov space, that is Lanczos; from
    the Ritz vectors of a nearby Hessian it is a warm start that Lanczos cannot take.
    """

    #: Size of the subspace at which it is cut down to the Ritz vectors next to both ends.
    CAPACITY = 60
    #: Ritz vectors kept per end beyond those wanted: at a cut, and from point to point.
    KEPT_AT_CUT = 8
    KEPT_BETWEEN = 1

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
        self.generator = torch.Generator().manual_seed(seed)
        self.warm: Tensor | None = None  # rows: what the next solve starts from
        self.previous: Tensor | None = None  # rows: the wanted vectors of the last solve

    def solve(self, product: Callable[[Tensor], Tensor], like: Tensor) -> Spectrum:
        basis = torch.empty(0, self.dimension, dtype=like.dtype, device=like.device)
        images = basis.clone()
        start = self._random(like)[None] if self.warm is None else self.warm
        queue = list(start[: self.max_products])
        products = 0
        while True:
            for vector in queue:
                direction = self._orthonormal(vector, basis, like)
                image = product(direction)
                if not image.isfinite().all():
                    raise ValueError("point: the Hessian is not finite there")
                basis = torch.cat([basis, direction[None]])
                images = torch.cat([images, image[None]])
                products += 1
            values, coordinates = _rayleigh_ritz(basis, images)
            wanted = self._wanted(len(values))
            residuals = coordinates[:, wanted].T @ images - values[wanted, None] * (
                coordinates[:, wanted].T @ basis
            )
            norms = residuals.norm(dim=1)
            allowed = self.tolerance * values[wanted].abs().clamp_min(
                RESIDUAL_FLOOR * values.abs().max()
            )
            enough = len(values) >= min(self.dimension, 2 * len(wanted) + 2)
            full = len(values) == self.dimension
            if (enough and bool((norms <= allowed).all())) or full or products >= self.max_products:
                break
            queue = [residuals[(norms / allowed).argmax()]]
            if len(values) >= self.CAPACITY + len(wanted):
                basis, images = self._cut(coordinates, basis, images, self.KEPT_AT_CUT)
        vectors = coordinates[:, wanted].T @ basis
        self._prepare_next(vectors, self._cut(coordinates, basis, images, self.KEPT_BETWEEN)[0])
        return self._result(values[wanted], vectors, norms, norms <= allowed, products)

    def _prepare_next(self, vectors: Tensor, kept: Tensor) -> None:
        """Start the next solve from the Ritz vectors, and the wanted ones one point earlier."""
        self.warm = kept if self.previous is None else torch.cat([kept, self.previous])
        self.warm = self.warm[: self.dimension]
        self.previous = vectors

    def _wanted(self, size: int) -> list[int]:
        """Return the indices of the wanted Ritz values, smallest first and then largest first."""
        low = range(min(self.smallest, size))
        high = range(size - 1, max(size - 1 - self.largest, -1), -1)
        return [*low, *high]

    def _cut(
        self, coordinates: Tensor, basis: Tensor, images: Tensor, extra: int
    ) -> tuple[Tensor, Tensor]:
        """Return the Ritz vectors next to the wanted ends, and their images."""
        size = coordinates.shape[1]
        low = set(range(min(self.smallest + extra, size))) if self.smallest else set()
        high = set(range(max(size - self.largest - extra, 0), size)) if self.largest else set()
        kept = coordinates[:, sorted(low | high)].T
        return kept @ basis, kept @ images

    def _random(self, like: Tensor) -> Tensor:
        return torch.randn(self.dimension, generator=self.generator, dtype=like.dtype).to(like)

    def _orthonormal(self, vector: Tensor, basis: Tensor, like: Tensor) -> Tensor:
        """Orthogonalise twice and normalise; a vector that vanishes is replaced at random."""
        while True:
            vector = vector / vector.norm().clamp_min(torch.finfo(like.dtype).tiny)
            for _ in range(2):
                vector = vector - basis.T @ (basis @ vector)
            norm = vector.norm()
            if norm > 100 * torch.finfo(like.dtype).eps:
                vector = vector / norm
                vector = vector - basis.T @ (basis @ vector)
                return vector / vector.norm()
            vector = self._random(like)

    def _result(
        self, values: Tensor, vectors: Tensor, norms: Tensor, converged: Tensor, products: int
    ) -> Spectrum:
        a = self.smallest
        return Spectrum(
            smallest=values[:a],
            largest=values[a:],
            smallest_residuals=norms[:a],
            largest_residuals=norms[a:],
            smallest_converged=converged[:a],
            largest_converged=converged[a:],
            products=torch.tensor(products),
            smallest_vectors=vectors[:a],
            largest_vectors=vectors[a:],
        )


def _rayleigh_ritz(basis: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of H projected on an orthonormal basis (rows)."""
    projected = basis @ images.T
    return torch.linalg.eigh((projected + projected.T) / 2)
