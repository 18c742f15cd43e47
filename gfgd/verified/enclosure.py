"""How far gradient descent is from gradient flow on a network: a proof, by computer."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from gfgd import checks
from gfgd.networks import FullyConnected
from gfgd.verified.descent_radius import Ball, Comparison, OutOfReachError, Place, descent_on
from gfgd.verified.directed import (
    NotVerifiedError,
    Upper,
    check_arithmetic,
    distance_below,
    exact,
    length_of,
    norm,
    norm_below,
    total,
)
from gfgd.verified.flow_tube import Cell, Settings, tube
from gfgd.verified.gated_network import GatedNetwork
from gfgd.verified.linear_network import (
    NetworkData,
    checked_data,
    checked_start,
    digest,
)
from gfgd.verified.smooth_enclosure import GatedDescent, network_of
from gfgd.verified.switches import Switch, Watch, not_decided

#: What the proof takes for granted.
TRUSTED = (
    "float64 arithmetic by IEEE 754: +, −, ×, / and √ rounded to nearest, operands not flushed",
    "sums and products of NumPy's arrays and matrices, and their maxima, taken conventionally, in "
    "any order, with or without fused operations; no scheme like Strassen's",
    "the numbers of the data and of the start as they are stored, taken as exact",
    "Python's whole numbers and fractions, and that the programs do what they say",
)
#: What it does not: each only proposes numbers, which are then checked.
NOT_TRUSTED = (
    "LAPACK (QR, Cholesky), ARPACK, the recurrences for Taylor coefficients, exp and pow of any "
    "library, PyTorch, this library's integrators",
)


@dataclass(frozen=True, eq=False)
class Enclosure:
    """‖θ_k − θ(kη)‖ in an interval for every k, and what the proof is made of.

    θ_k are exact iterates of GD with exactly the step size η, θ(t) is the exact flow, both from
    the start given, of the loss on the data given, all in real numbers.

    Attributes
    ----------
    step_size
        η, exact.
    lower, upper
        Bounds of ‖θ_k − θ(kη)‖, float64, shape ``(K + 1,)``.
    flow_radius, descent_radius
        Of the enclosures of θ(kη) and of θ_k, shape ``(K + 1,)``.
    node_times, node_rates
        Where λmin was verified, shape ``(cells + 1,)``: λmin(∇²f) ≥ −node_rates at the points of
        the approximate flow there.
    exponents, defects, radii
        For each cell ∫m, ∫δ and the tube's radius at its end, shape ``(cells,)``.
    largest_curvature
        λmax(∇²f) is at most this near the flow; η times it is at most 2.
    iterates, flow_points
        The k that were asked for, and points v, shape ``(len(iterates), d)``, such that
        ‖v − θ(kη)‖ ≤ `flow_error`.
    flow_error
        Shape ``(len(iterates),)``.
    switch
        On a ReLU network, the first switch of a gate along the flow, if it comes before t = Kη.
        Then all that is above ends before it: `iterations` is the last k with kη ≤
        `switch.earliest`, or the last before GD's own gates are no longer proved to be the same.
    provenance
        SHA-256 sums of the data and the start; versions.
    trusted
        What the proof takes for granted.
    """

    step_size: Fraction
    lower: np.ndarray
    upper: np.ndarray
    flow_radius: np.ndarray
    descent_radius: np.ndarray
    node_times: np.ndarray
    node_rates: np.ndarray
    exponents: np.ndarray
    defects: np.ndarray
    radii: np.ndarray
    largest_curvature: float
    iterates: tuple[int, ...]
    flow_points: np.ndarray
    flow_error: np.ndarray
    switch: Switch | None
    provenance: dict[str, str] = field(repr=False)
    trusted: tuple[str, ...] = field(default=TRUSTED, repr=False)

    @property
    def iterations(self) -> int:
        """K."""
        return len(self.lower) - 1

    @property
    def times(self) -> np.ndarray:
        """The times kη, rounded to float64, shape ``(K + 1,)``."""
        return np.array([float(k * self.step_size) for k in range(self.iterations + 1)])

    @property
    def largest(self) -> tuple[float, float]:
        """An interval that contains max_k ‖θ_k − θ(kη)‖."""
        return float(self.lower.max()), float(self.upper.max())

    @property
    def stretch(self) -> float:
        """An upper bound of exp(∫m): how much the tube may stretch an error."""
        return float(total(self.exponents.tolist()).exp())

    def distances_from_flow(self, points: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds of ‖points − θ(kη)‖ for the iterates that were asked for.

        `points` has shape ``(len(iterates), d)``; both results have shape ``(len(iterates),)``.

        Raises
        ------
        ValueError
            If the points have another shape, or are not float64.
        """
        if points.shape != self.flow_points.shape or points.dtype != torch.float64:
            raise ValueError(
                f"points are {points.dtype} of shape {tuple(points.shape)}: give float64 points "
                f"of shape {self.flow_points.shape}"
            )
        differences = points.detach().cpu().numpy() - self.flow_points
        lower = [
            distance_below(norm_below(row) * (1 - 2.0**-50), Upper(error))
            for row, error in zip(differences, self.flow_error.tolist(), strict=True)
        ]
        upper = [
            float(norm(row) * (1 + 2.0**-50) + error)
            for row, error in zip(differences, self.flow_error.tolist(), strict=True)
        ]
        return np.array(lower), np.array(upper)


def enclose(
    objective: FullyConnected,
    start: Tensor,
    *,
    step_size: float | str | Fraction,
    iterations: int,
    keep: Sequence[int] = (),
    settings: Settings | None = None,
    widest: float = 0.1,
    progress: Callable[[int], object] = lambda iteration: None,
) -> Enclosure:
    """Return intervals that are proved to contain ‖θ_k − θ(kη)‖, k = 0 … K.

    Parameters
    ----------
    objective
        A fully connected network that is linear, or has tanh, softplus, ReLU or leaky ReLU (any
        depth from 2, any widths, cross-entropy or half the squared error) over float64 data. The
        float64 numbers are the data, exactly. The mathematical log(1 + eᶻ) is meant by softplus;
        what PyTorch computes for z > 20 is not. With ReLU and leaky ReLU the proof ends at the
        first switch of a gate along the flow (:class:`~gfgd.verified.Switch`), or before t = Kη.
    start
        θ_0 = θ(0), float64, shape ``(d,)``.
    step_size
        η. A float stands for the decimal number that it prints as: 0.001 is exactly 1/1000.
    iterations
        K; the flow is enclosed up to t = Kη, or up to its first switch.
    keep
        Iterates k at which to return points of the flow, with their radius; those past the last k
        that is covered are left out.
    settings
        How finely the flow is followed.
    widest
        Refuse a result whose interval for max_k ‖θ_k − θ(kη)‖ is wider than this part of it.
    progress
        Called with k after each cell.

    Raises
    ------
    ValueError
        If the network's activation is another, it has one layer, data, start or arguments are
        unfit.
    NotVerifiedError
        If something cannot be proved: which, at which t or k, and what would help.
    """
    checks.whole(1, iterations=iterations)
    checks.positive(widest=widest)
    eta = exact(step_size, name="step_size")
    checks.positive(step_size=float(eta))
    kept = _checked_iterates(keep, iterations)
    checked_data(objective)  # says what is wrong before the start is looked at
    point = checked_start(objective, start)
    check_arithmetic()
    run = None
    try:
        with np.errstate(all="ignore"):  # what overflows is caught by the bounds, which say so
            network = network_of(objective, point)
            weights = network.weights(point)
            given = weights, eta, iterations, set(kept)
            if isinstance(network, GatedNetwork):
                run = _GatedRun(network, *given)
            else:
                run = _Run(network, *given)
            for cell in tube(network, weights, iterations * eta, settings or Settings()):
                run.through(cell)
                progress(run.descent.iteration)
                if run.ended:
                    break
    except OverflowError as cause:
        reached = run.descent.iteration if run else 0
        raise NotVerifiedError(
            f"iteration {reached}, t = {float(reached * eta):.6g}: {cause}. GD or the flow seems "
            "to leave what float64 can hold; try a smaller step size or another start"
        ) from cause
    return run.result(kept, digest(start.detach().cpu().numpy()), widest)


def _checked_iterates(keep: Sequence[int], iterations: int) -> tuple[int, ...]:
    checks.whole(0, **{f"keep[{i}]": k for i, k in enumerate(keep)})
    if any(k > iterations for k in keep):
        raise ValueError(f"keep has {max(keep)}: iterates go up to {iterations}")
    return tuple(sorted(set(keep)))


class _Run:
    """Takes GD through the cells, and gathers what they give."""

    def __init__(
        self,
        network: NetworkData,
        weights: list[np.ndarray],
        step_size: Fraction,
        iterations: int,
        keep: set[int],
    ) -> None:
        self.network = network
        self.iterations = iterations
        self.keep = keep
        self.descent = descent_on(network, weights, step_size)
        self.finished = False
        self.end = Fraction(0)
        self.cells: list[tuple[float, ...]] = []  # end, rates, exponent, defect, radius
        self.bounds = np.full((4, iterations + 1), np.nan)  # lower, upper, flow, descent
        self.flow_points: dict[int, np.ndarray] = {}
        self.flow_errors: dict[int, float] = {}
        self.largest_curvature = 0.0
        self.switch: Switch | None = None

    @property
    def ended(self) -> bool:
        """Whether what was to be shown is shown before the tube's end."""
        return False

    def through(self, cell: Cell) -> None:
        """Compare and take all iterates with t_i < kη ≤ t_i + h, and k = 0 in the first cell."""
        numbers = (cell.end, *cell.rates, cell.exponent, cell.defect, cell.radius)
        self.cells.append(tuple(float(number) for number in numbers))
        self.end = cell.end
        last = min(self.iterations, math.floor(cell.end / self.descent.exact_step))
        if self.finished or self.descent.iteration > last:
            return
        ball = self.descent.ball(cell, self._first_reach(cell))
        for place in self.descent.places(cell, last):
            ball, found = self._compare(cell, ball, place)
            if not self._goes_on(ball):
                return
            self._record(cell, ball, found, place)
            if self.descent.iteration == self.iterations:
                self.finished = True
            else:
                self.descent.step(cell, ball, place, found.changes)

    def _goes_on(self, ball: Ball) -> bool:
        """Whether the present iterate is GD's of the network that was given."""
        return True

    def _compare(self, cell: Cell, ball: Ball, place: Place) -> tuple[Ball, Comparison]:
        """Compare in the ball, or in one that is twice as large, until the step is past proof."""
        while True:
            try:
                return ball, self.descent.compare(cell, ball, place)
            except OutOfReachError:
                ball = self.descent.ball(cell, ball.reach * 2)

    def _first_reach(self, cell: Cell) -> Upper:
        """Return a radius to begin with: twice the last distance, and part of a step."""
        known = self.bounds[1][: self.descent.iteration]
        travel = length_of(part.frobenius for part in cell.models.gradient())
        last = Upper(known[-1].item() if len(known) else 0.0)
        return last * 2 + travel * self.descent.step_bound / 8

    def _record(self, cell: Cell, ball: Ball, found: Comparison, place: Place) -> None:
        k = self.descent.iteration
        self.bounds[:, k] = found.lower, found.upper, cell.radius, self.descent.radius
        self.largest_curvature = max(self.largest_curvature, float(ball.largest_curvature))
        if k in self.keep:
            self.flow_points[k] = np.concatenate([part.ravel() for part in place.flow])
            self.flow_errors[k] = float(cell.radius + ball.value_error)

    def result(self, kept: tuple[int, ...], start_hash: str, widest: float) -> Enclosure:
        """Return the enclosure, if all of it is there and narrow enough."""
        lower, upper, flow, descent = self.bounds
        kept = tuple(k for k in kept if k <= self.iterations)
        ended = self.iterations * self.descent.exact_step <= self.end
        if not (self.finished and ended and np.isfinite(self.bounds).all()):
            raise NotVerifiedError("the enclosure does not cover every iterate")
        if upper.max() - lower.max() > widest * upper.max():
            raise NotVerifiedError(
                f"max ‖θ_k − θ(kη)‖ lies between {lower.max():.3g} and {upper.max():.3g} (k = "
                f"{int(upper.argmax())}): wider than {widest:g} of it. Fewer iterations, or a "
                "smaller `defect` in the settings, would help"
            )
        ends, first, rates, exponents, defects, radii = np.array(self.cells).T
        dimension = sum(weight.size for weight in self.descent.weights)
        return Enclosure(
            step_size=self.descent.exact_step,
            lower=lower,
            upper=upper,
            flow_radius=flow,
            descent_radius=descent,
            node_times=np.concatenate([[0.0], ends]),
            node_rates=np.concatenate([first[:1], rates]),
            exponents=exponents,
            defects=defects,
            radii=radii,
            largest_curvature=self.largest_curvature,
            iterates=kept,
            flow_points=np.array([self.flow_points[k] for k in kept]).reshape(-1, dimension),
            flow_error=np.array([self.flow_errors[k] for k in kept]),
            switch=self.switch,
            provenance={**self.network.hashes(), "start": start_hash, **versions()},
        )


class _GatedRun(_Run):
    """The same on a network with gates, up to their first switch along the flow.

    The flow with the old gates is followed on until a gate is proved to have switched.
    """

    network: GatedNetwork
    descent: GatedDescent

    def __init__(self, network: GatedNetwork, *arguments: Any) -> None:
        super().__init__(network, *arguments)
        self.watch = Watch(network)
        self.wanted = self.iterations
        self.descent_iterate: int | None = None

    @property
    def ended(self) -> bool:
        """Whether a gate is proved to have switched."""
        return self.watch.switch is not None

    def through(self, cell: Cell) -> None:
        """Watch the gates on the cell, and compare up to where they hold."""
        self.watch.through(cell)
        if self.watch.earliest is not None:
            last = math.floor(self.watch.earliest / self.descent.exact_step)
            self._end_at(min(self.iterations, last))
        super().through(cell)

    def _goes_on(self, ball: Any) -> bool:
        if self.descent.gates_proved(ball):
            return True
        self.descent_iterate = self.descent.iteration
        self._end_at(self.descent.iteration - 1)
        return False

    def _end_at(self, last: int) -> None:
        """Let `last` be the last iterate of which something is said."""
        self.iterations = last
        self.bounds = self.bounds[:, : last + 1]
        self.finished = self.finished or self.descent.iteration > last

    def result(self, kept: tuple[int, ...], start_hash: str, widest: float) -> Enclosure:
        """Return the enclosure up to the switch, if its time is enclosed and a step comes first."""
        horizon = self.wanted * self.descent.exact_step
        earliest, switch = self.watch.earliest, self.watch.switch
        if earliest is not None and earliest < horizon:
            if switch is None:
                raise not_decided(self.watch, self.end)
            if self.iterations < 1:
                raise NotVerifiedError(
                    f"t = 0: the first gate switches for t in {switch.time}, before the first step "
                    "is over, or GD's gates do with it; give a smaller step_size"
                )
            self.switch = replace(switch, descent_iterate=self.descent_iterate)
        elif self.descent_iterate is not None:
            raise NotVerifiedError(
                f"iteration {self.descent_iterate}: a gate of GD differs from the start's, or its "
                "sign is not proved, and the flow's first switch comes after the last iteration. "
                f"Give more iterations than {self.wanted}, to enclose it, or fewer than "
                f"{self.descent_iterate}"
            )
        return super().result(kept, start_hash, widest)


def versions() -> dict[str, str]:
    """Return the versions of what computed, and NumPy's BLAS."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "machine": platform.machine(),
    }
