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
from gfgd.eigenpair_search import (
    Eigenpairs,
    EigenpairSearch,
    Matrix,
    NonFiniteHessianError,
    numbers,
    wanted_places,
)
from gfgd.objective import Objective
from gfgd.trajectory import Trajectory

_OPTIONAL = ("smallest_vectors", "largest_vectors", "times")

#: δ, at each point and each end of the spectrum, if not said otherwise.
FAILURE_PROBABILITY = 1e-4


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

    @property
    def negative_curvature(self) -> Tensor:
        """∫ max(−λmin, 0) dt along a trajectory, shape ``()``: errors stretch by exp of it at most.

        By the trapezoid rule between the times, which makes a convex function's integral too large.

        Raises
        ------
        ValueError
            At a point, or without λmin.
        """
        if self.times is None or not self.smallest.shape[-1]:
            raise ValueError("this spectrum has no λmin along a trajectory; call spectrum_along")
        return torch.trapezoid((-self.smallest[:, 0]).clamp(min=0), self.times)

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
    max_vectors: int | None = None,
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
    max_vectors
        If given, at most so many vectors of the length d are kept beside what a product needs, at
        least 6 (a + b) + 4: for large d. The subspace is then cut down sooner, which takes some
        more products, and there is no room for bounds: give ``failure_probability=None``.
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
    search = EigenpairSearch(
        objective.dimension, smallest, largest, tolerance, max_products, seed, max_vectors
    )
    if max_vectors is not None and failure_probability is not None:
        raise ValueError(
            f"max_vectors = {max_vectors}: leaves no room for bounds from outside, which need many "
            "vectors; give failure_probability=None, or no max_vectors"
        )
    if failure_probability is not None and not 0 < failure_probability < 1:
        raise ValueError(f"failure_probability = {failure_probability!r}: must be between 0 and 1")
    point = objective._check(point)
    if point.dim() != 1:
        raise ValueError(
            f"point has shape {tuple(point.shape)}: give one θ, shape ({objective.dimension},); "
            "for many points call this for each, or spectrum_along for a trajectory"
        )
    warm = _checked_start(warm_start, point)
    if warm is not None and max_vectors is not None and len(warm) > search.capacity:
        raise ValueError(
            f"warm_start has {len(warm)} rows: with max_vectors = {max_vectors} there is room for "
            f"{search.capacity}"
        )
    if objective.dimension <= dense_below:
        return _dense(objective, point, smallest, largest)
    product = objective.hessian_at(point)
    return _spectrum(search.solve(product, point, warm, failure_probability), smallest)


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
    search = EigenpairSearch(objective.dimension, smallest, largest, tolerance, max_products, seed)
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


def _dense(objective: Objective, point: Tensor, smallest: int, largest: int) -> Spectrum:
    """Solve the whole eigenproblem; the residuals are those of the dense solver."""
    hessian = objective.hessian(point)
    if not hessian.isfinite().all():
        raise NonFiniteHessianError("point: the Hessian is not finite there")
    values, vectors = torch.linalg.eigh(hessian)
    residuals = (hessian @ vectors - vectors * values).norm(dim=0)
    places = wanted_places(len(values), smallest, largest)
    wanted = numbers(values[places])
    everyone = np.ones(len(places), dtype=bool)
    pairs = Eigenpairs(
        values=wanted,
        vectors=vectors[:, places].T,
        residuals=numbers(residuals[places]),
        certified=everyone,
        bounds=wanted,
        converged=everyone,
        failure_probability=0.0,
        products=objective.dimension,
        kept=vectors[:, places].T,
        missed=False,
    )
    return _spectrum(pairs, smallest)


def _spectrum(pairs: Eigenpairs, smallest: int) -> Spectrum:
    """Return the result; the first `smallest` of the pairs belong to the lower end."""
    low, high = slice(None, smallest), slice(smallest, None)
    vectors = pairs.vectors

    def real(numbers: Matrix) -> Tensor:
        return torch.from_numpy(numbers.copy()).to(vectors)

    def whether(truths: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(truths).to(vectors.device)

    return Spectrum(
        smallest=real(pairs.values[low]),
        largest=real(pairs.values[high]),
        smallest_residuals=real(pairs.residuals[low]),
        largest_residuals=real(pairs.residuals[high]),
        smallest_certified=whether(pairs.certified[low]),
        largest_certified=whether(pairs.certified[high]),
        smallest_bounds=real(pairs.bounds[low]),
        largest_bounds=real(pairs.bounds[high]),
        smallest_converged=whether(pairs.converged[low]),
        largest_converged=whether(pairs.converged[high]),
        failure_probability=torch.tensor(pairs.failure_probability, dtype=torch.float64),
        products=torch.tensor(pairs.products),
        smallest_vectors=vectors[low],
        largest_vectors=vectors[high],
    )


@dataclass(eq=False)
class _Path:
    """Follows the wanted eigenvectors from point to point, and checks."""

    search: EigenpairSearch
    objective: Objective
    points: Tensor
    failure_probability: float
    spectra: list[Spectrum] = field(default_factory=list)
    start: Tensor | None = None
    last_check: int = 0

    def go_on(self, *, check: bool) -> None:
        """Solve at the next point; mend what lies behind if a check finds something missed."""
        index = len(self.spectra)
        pairs, spectrum = self._solve(index, self.start, check)
        rows = [pairs.kept] if index == 0 else [pairs.kept, self.spectra[-1].vectors()]
        self.start = torch.cat(rows)
        self.spectra.append(spectrum)
        if check:
            if pairs.missed:
                self._follow(range(index - 1, self.last_check, -1), spectrum)
                self._check_between(self.last_check, index)
            self.last_check = index
            # Vectors serve to follow back to the last check, and to extrapolate from.
            self.spectra[:-1] = [one.without_vectors() for one in self.spectra[:-1]]

    def _solve(self, index: int, start: Tensor | None, check: bool) -> tuple[Eigenpairs, Spectrum]:
        product = self.objective.hessian_at(self.points[index])
        delta = self.failure_probability if check else None
        start = start if start is None else start[: self.objective.dimension]
        pairs = self.search.solve(product, self.points[index], start, delta)
        return pairs, _spectrum(pairs, self.search.smallest)

    def _follow(self, indices: Iterable[int], spectrum: Spectrum) -> None:
        """Solve again from the vectors of the point before, as long as that changes a value.

        Each point keeps its own vectors in the span: a Ritz value from a larger span is no worse.
        """
        for index in indices:
            before = self.spectra[index]
            start = torch.cat([spectrum.vectors(), before.vectors()])
            _, spectrum = self._solve(index, start, check=False)
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
        pairs, spectrum = self._solve(middle, before.vectors(), check=True)
        self.spectra[middle] = replace(spectrum, products=spectrum.products + before.products)
        if pairs.missed:
            self._follow(range(middle - 1, first, -1), spectrum)
            self._follow(range(middle + 1, last), spectrum)
            self._check_between(first, middle)
            self._check_between(middle, last)
