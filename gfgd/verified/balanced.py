"""Balanced deep linear networks with one output, in ball arithmetic: flow, descent, certificates.

From a balanced start with end-to-end row w, ‖w‖ = r₀, at the cosine c₀ to the target Λ, ‖Λ‖ = L,
both GF and GD on f = ½‖W_n ⋯ W_1 − Λ‖² keep W_1 = q_1 aᵀ with a in the plane of w and Λ, and
W_j = b q_j q_{j−1}ᵀ for j ≥ 2, with fixed unit vectors q_j. So they are GF and GD of a function of
x = (a_1, a_2, b), a_1 along Λ, in the metric ‖x‖² = a_1² + a_2² + (n − 1) b² of the whole network:

    a' = −b^{n−1} e,   b' = −b^{n−2} ⟨e, a⟩,   e = b^{n−1} a − (L, 0),   ‖a‖ = b at the start.

Everything here is computed with balls (Arb, by python-flint): numbers with an error bound, which
every operation encloses. Trusted are that library, and that the programs do what they say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain

import flint
from flint import arb, arb_poly, fmpq

from gfgd import checks
from gfgd.verified.directed import NotVerifiedError, exact

State = list[arb]  # (a_1, a_2, b)
Jet = list[arb_poly]  # the same as polynomials in time

#: Bits of a ball's midpoint. Errors start at 2^-192 and grow with the flow's own sensitivity.
PRECISION = 192


@dataclass(frozen=True)
class BalancedStart:
    """A balanced start of a deep linear network with one output.

    `depth` n ≥ 2, `radius` r₀ > 0, `cosine` c₀ in (−1, 1], `target_norm` L > 0, exact numbers.
    """

    depth: int
    radius: Fraction
    cosine: Fraction
    target_norm: Fraction

    @classmethod
    def of(
        cls,
        depth: int,
        *,
        radius: float | str | Fraction,
        cosine: float | str | Fraction,
        target_norm: float | str | Fraction = 1.0,
    ) -> BalancedStart:
        """Return the start; a float stands for the decimal number that it prints as.

        Raises
        ------
        ValueError
            If the depth is below 2, a length is not positive, or c₀ is not in (−1, 1].
        """
        checks.whole(2, depth=depth)
        numbers = {"radius": radius, "cosine": cosine, "target_norm": target_norm}
        radius, cosine, target_norm = (exact(value, name=name) for name, value in numbers.items())
        checks.positive(radius=float(radius), target_norm=float(target_norm))
        checks.between(-1, 1, cosine=float(cosine))
        if cosine == -1:
            raise ValueError("cosine = -1: the flow runs into the saddle at 0; give more")
        return cls(depth, radius, cosine, target_norm)

    def state(self) -> State:
        """Return (a_1, a_2, b): b = r₀^{1/n}, a = b (c₀, √(1 − c₀²))."""
        b, c = ball(self.radius).root(self.depth), ball(self.cosine)
        return [b * c, b * (1 - c * c).sqrt(), b]

    def length(self, x: Sequence[arb]) -> arb:
        """Return ‖x‖ in the metric of the whole network."""
        square = x[0] * x[0] + x[1] * x[1] + (self.depth - 1) * x[2] * x[2]
        return square.nonnegative_part().sqrt()


def ball(value: Fraction) -> arb:
    """Return a ball that contains the fraction."""
    return arb(fmpq(value.numerator, value.denominator))


def above(value: arb) -> float:
    """Return a float64 number that is at least all of the ball."""
    return math.nextafter(float(value.upper()), math.inf)


def below(value: arb) -> float:
    """Return a float64 number that is at most all of the ball."""
    return math.nextafter(float(value.lower()), -math.inf)


# ------------------------------------------------- the modified curve, order by order in η and t


def field(depth: int, target: arb, x: list[list[arb_poly]], degree: int) -> list[list[arb_poly]]:
    """Return −∇f along Σ_i ηⁱ x_i(t): its coefficients in η up to that of x, as polynomials in t.

    `x` has (a_1, a_2, b), each a list over i of polynomials in t, which are cut after `degree`.
    """

    def times(left: list[arb_poly], right: list[arb_poly]) -> list[arb_poly]:
        return [
            sum((left[i] * right[k - i] for i in range(k + 1)), arb_poly()).truncate(degree + 1)
            for k in range(len(left))
        ]

    a1, a2, b = x
    power = [arb_poly([1])] + [arb_poly()] * (len(b) - 1)  # b^{n-2}
    for _ in range(depth - 2):
        power = times(power, b)
    whole = times(power, b)  # b^{n-1}
    e1, e2 = times(whole, a1), times(whole, a2)
    e1[0] = e1[0] - target
    inner = [p + q for p, q in zip(times(e1, a1), times(e2, a2), strict=True)]
    parts = times(whole, e1), times(whole, e2), times(power, inner)
    return [[-p for p in part] for part in parts]


def jets(start: BalancedStart, states: Sequence[State], degree: int) -> list[list[list[arb]]]:
    """Return Taylor coefficients in t of u_0 … u_q from the states, up to `degree` at least.

    u_0 = θ is the flow. y = Σ ηⁱ u_i is the curve that solves y(t + η) = y(t) − η∇f(y(t)) up to
    O(η^{q+2}); comparing powers of η,

        u_k' = [−∇f(y)]_k − Σ_{j=2}^{k+1} u_{k+1−j}^{(j)}/j! .

    u_i comes with the degrees up to `degree` + q − i, as ``result[i][coordinate][power]``. A pass
    makes one more degree final, those of u_i i passes later.
    """
    q = len(states) - 1
    target = ball(start.target_norm)
    top = degree + q
    x = [[arb_poly([states[i][c]]) for i in range(q + 1)] for c in range(3)]
    for reached in range(1, top + 1):
        slopes = field(start.depth, target, x, reached - 1)
        for i in range(q + 1):
            for c in range(3):
                slope = slopes[c][i]
                for j in range(2, i + 2):
                    slope = slope - _derivative(x[c][i + 1 - j], j)
                cut = min(reached, top - i) + 1
                x[c][i] = (slope.integral() + states[i][c]).truncate(cut)
    return [[[x[c][i][k] for k in range(top - i + 1)] for c in range(3)] for i in range(q + 1)]


def _derivative(polynomial: arb_poly, order: int) -> arb_poly:
    """Return p^{(j)}/j!, with coefficients (k choose j) p_k."""
    return arb_poly([polynomial[k] * math.comb(k, order) for k in range(order, len(polynomial))])


# ------------------------------------------------------------------------------- the flow enclosed


@dataclass(frozen=True, eq=False)
class Cell:
    """u_0 … u_q on [t_i, t_i + h], and what certificates need of them there.

    Attributes
    ----------
    start
        t_i.
    paths
        For each i and coordinate a polynomial in t − t_i that contains it on the whole cell: its
        last coefficient is a ball over the cell (Taylor's remainder in Lagrange's form).
    drift
        A bound of Σ_i sup ‖u_i^{(q+2−i)}‖/(q + 2 − i)!: what y(t + η) has beyond the powers of η
        that cancel, over η^{q+2}, on the cell.
    left
        Bounds of ‖[∇f(y)]_k‖ on the cell for k = q + 1, q + 2, …: the powers of η in the gradient
        that do not cancel.
    """

    start: Fraction
    paths: list[list[arb_poly]]
    drift: float
    left: list[float]

    def at(self, time: arb) -> list[State]:
        """Return u_0 … u_q at t_i + time, time in [0, h], or at all times of a ball."""
        return [[path(time) for path in paths] for paths in self.paths]


def _enclosed_cell(
    start: BalancedStart, time: Fraction, states: list[State], length: Fraction, degree: int
) -> tuple[Cell, list[State]]:
    """Return the cell from the states at its start, and the states at its end."""
    h = ball(length)
    whole = h.union(arb(0))
    box = _box(start, states, whole)
    near, over = jets(start, states, degree), jets(start, box, degree)
    paths = [
        [arb_poly([*near[i][c][:degree], over[i][c][degree]]) for c in range(3)]
        for i in range(len(states))
    ]
    # Once more, from the middle: a box as tight as the slopes allow.
    q = len(states) - 1
    middle = [[path(h / 2) for path in parts] for parts in paths]
    half = (h / 2).union(-h / 2)
    slopes = jets(start, box, 1)
    tight = [[middle[i][c] + half * slopes[i][c][1] for c in range(3)] for i in range(q + 1)]
    turned = jets(start, tight, 2)
    drift = sum(
        (start.length([turned[i][c][q + 2 - i] for c in range(3)]) for i in range(q + 1)), arb(0)
    )
    cell = Cell(time, paths, above(drift), _left_over(start, tight))
    return cell, [[path(h) for path in parts] for parts in paths]


def _box(start: BalancedStart, states: list[State], whole: arb) -> list[State]:
    """Return a box that contains u_0 … u_q on the cell [0, h] = `whole`.

    If x + [0, h] F(B) lies in B then the solution from x stays in it (Picard and Banach).
    """
    image = states
    for _ in range(40):
        box = [[_inflated(x) for x in state] for state in image]
        slopes = jets(start, box, 1)
        image = [
            [x + whole * part[1] for x, part in zip(state, parts, strict=True)]
            for state, parts in zip(states, slopes, strict=True)
        ]
        pairs = zip(chain(*box), chain(*image), strict=True)
        if all(outer.contains(inner) for outer, inner in pairs):
            return image
    raise NotVerifiedError("a cell is too long to enclose the flow on it; ask for more cells")


def _inflated(x: arb) -> arb:
    """Return a ball with the same middle, a fifth wider and a little more."""
    return arb(x.mid(), x.rad() * 1.2 + 2.0**-40)


def _left_over(start: BalancedStart, states: list[State]) -> list[float]:
    """Return bounds of ‖[∇f(Σ ηⁱ u_i)]_k‖ for k > q: exact, the gradient being a polynomial."""
    q = len(states) - 1
    # As polynomials in η instead of t: one coefficient list, nothing cut.
    highest = q * (2 * start.depth - 1)
    y = [[arb_poly([states[i][c] for i in range(q + 1)])] for c in range(3)]
    gradient = field(start.depth, ball(start.target_norm), y, highest)
    return [
        above(start.length([gradient[c][0][k] for c in range(3)]))
        for k in range(q + 1, highest + 1)
    ]


@dataclass(frozen=True, eq=False)
class BalancedFlow:
    """GF from a balanced start, and the corrections u_1 … u_q, enclosed on cells up to T.

    Made by :func:`enclosed_flow`.
    """

    start: BalancedStart
    horizon: Fraction
    cells: list[Cell]

    @property
    def order(self) -> int:
        """Q."""
        return len(self.cells[0].paths) - 1

    @cached_property
    def length(self) -> Fraction:
        """The length of a cell."""
        return self.horizon / len(self.cells)

    def at(self, time: Fraction) -> list[State]:
        """Return u_0 … u_q at a time in [0, T], as balls."""
        cell = self.cells[min(int(time / self.length), len(self.cells) - 1)]
        return cell.at(ball(time - cell.start))

    def first(self, cells: int) -> BalancedFlow:
        """Return the flow up to the end of so many of its cells; nothing is computed again.

        Raises
        ------
        ValueError
            If there are not so many, or less than one is asked for.
        """
        checks.whole(1, cells=cells)
        if cells > len(self.cells):
            raise ValueError(f"cells = {cells}: the flow has {len(self.cells)}")
        return BalancedFlow(self.start, self.length * cells, self.cells[:cells])


def enclosed_flow(
    start: BalancedStart,
    horizon: float | str | Fraction,
    *,
    order: int = 2,
    cells: int | None = None,
    degree: int = 16,
) -> BalancedFlow:
    """Enclose GF from a balanced start up to `horizon` T, with u_1 … u_q, q = `order`.

    Parameters
    ----------
    start
        The start.
    horizon
        T > 0; a float stands for the decimal number that it prints as.
    order
        q ≥ 0; certificates need 1 or more.
    cells
        Their number, all of one length; by default 10 n for each unit of time at L = 1, and
        twice or four or eight times as many where that does not do.
    degree
        Of the polynomials.

    Raises
    ------
    ValueError
        If an argument is out of range.
    NotVerifiedError
        If a cell is too long to be enclosed.
    """
    checks.whole(0, order=order)
    checks.whole(2, degree=degree)
    time = exact(horizon, name="horizon")
    checks.positive(horizon=float(time))
    if cells is not None:
        checks.whole(1, cells=cells)
        return _enclose(start, time, cells, order, degree)
    rate = float(start.target_norm) ** (2 - 2 / start.depth)
    count = max(8, math.ceil(10 * start.depth * float(time) * rate))
    for _ in range(3):
        try:
            return _enclose(start, time, count, order, degree)
        except NotVerifiedError:
            count *= 2
    return _enclose(start, time, count, order, degree)


def _enclose(
    start: BalancedStart, time: Fraction, cells: int, order: int, degree: int
) -> BalancedFlow:
    """Return the flow up to `time`, on that many cells."""
    length = time / cells
    made: list[Cell] = []
    with flint.ctx.workprec(PRECISION):
        states = [start.state()] + [[arb(0)] * 3 for _ in range(order)]
        for i in range(cells):
            cell, states = _enclosed_cell(start, i * length, states, length, degree)
            made.append(cell)
    return BalancedFlow(start, time, made)


# ------------------------------------------------------------------------------------ a posteriori


def descent_distance(flow: BalancedFlow, iterations: int) -> tuple[float, float]:
    """Return an interval that contains max_k ‖θ_k − θ(kη)‖, k = 0 … K, η = T/K: a posteriori.

    GD itself is run, in balls.

    Raises
    ------
    NotVerifiedError
        If the balls of GD grow so wide that the interval is wider than a tenth of the distance.
    """
    low, high, _ = _descend(flow, iterations)
    return low, high


def _descend(flow: BalancedFlow, iterations: int) -> tuple[float, float, State]:
    """Return the interval of the largest distance, and GD's last iterate."""
    checks.whole(1, iterations=iterations)
    start, eta = flow.start, flow.horizon / iterations
    low = high = 0.0
    with flint.ctx.workprec(PRECISION):
        size, target = ball(eta), ball(start.target_norm)
        x = start.state()
        for k in range(iterations + 1):
            flowed = flow.at(k * eta)[0]
            gap = start.length([own - other for own, other in zip(x, flowed, strict=True)])
            low, high = max(low, below(gap)), max(high, above(gap))
            if not high < math.inf or math.isnan(below(gap)):
                raise NotVerifiedError(
                    f"iteration {k}: GD with η = {float(eta):.4g} leaves all bounds; take "
                    "more steps"
                )
            if k < iterations:
                x = descent_step(start, target, size, x)
    if high - low > 0.1 * high:
        raise NotVerifiedError(
            f"max ‖θ_k − θ(kη)‖ lies between {low:.3g} and {high:.3g} with η = {float(eta):.4g}: "
            "too wide to be of use; take more steps"
        )
    return low, high, x


def descent_step(start: BalancedStart, target: arb, size: arb, x: State) -> State:
    """Return x − η∇f(x)."""
    a1, a2, b = x
    power = arb(1)
    for _ in range(start.depth - 2):
        power = power * b
    whole = power * b
    e1, e2 = whole * a1 - target, whole * a2
    return [
        a1 - size * whole * e1,
        a2 - size * whole * e2,
        b - size * power * (e1 * a1 + e2 * a2),
    ]


def fewest_steps(flow: BalancedFlow, distance: float | str | Fraction, *, guess: int = 1) -> int:
    """Return a K for which ‖θ_k − θ(kη)‖ ≤ ε is verified for all k, η = T/K, and not for K − 1.

    With K − 1 the largest distance is verified to exceed ε, or nothing could be verified. The
    search begins at `guess`.
    """
    epsilon = exact(distance, name="distance")

    def within(iterations: int) -> bool:
        try:
            return Fraction(descent_distance(flow, iterations)[1]) <= epsilon
        except NotVerifiedError:
            return False

    return smallest(within, guess)


def smallest(enough: Callable[[int], bool], guess: int = 1) -> int:
    """Return K with enough(K) and not enough(K − 1), by strides from a guess and bisection."""
    low, high, stride = 0, max(1, guess), max(1, guess // 50)
    if enough(high):
        low = max(0, high - stride)
        while low > 0 and enough(low):
            low, high, stride = max(0, low - 2 * stride), low, 2 * stride
    else:
        low = high
        while not enough(high := low + stride):
            low, stride = high, 2 * stride
            if high > 2**40:
                raise NotVerifiedError("no number of iterations up to 2^40 will do")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# ------------------------------------------------------------------------------------ convergence


@dataclass(frozen=True)
class Convergence:
    """A ball in which GD provably converges to a global minimum.

    `radius` ρ of the ball around the point, `loss` a bound of f there (at the start of that phase),
    `rate` a bound below 1 of f(θ_{k+1})/f(θ_k).
    """

    radius: float
    loss: float
    rate: float


def convergence(
    flow: BalancedFlow, iterations: int, *, within: float | str | Fraction | None = None
) -> Convergence:
    """Return the ball around θ_K in which GD with η = T/K goes on to a global minimum; verified.

    θ_K comes from running GD in balls. With `within` GD is not run: the result holds for every
    θ_K with ‖θ_K − θ(T)‖ ≤ `within`, which a certificate promises, so it is known in advance.

    On the ball of radius ρ, ‖∇f‖² ≥ 2μf with √μ = b^{n−1} − ((b + ρ)^{n−1} − b^{n−1}), and
    ‖∇²f‖ ≤ β. If ηβ < 2 and √(2f/μ)/(1 − ηβ/2) ≤ ρ at θ_K, GD stays in the ball and
    f(θ_{k+1}) ≤ (1 − ημ(2 − ηβ)) f(θ_k).

    Raises
    ------
    ValueError
        If `iterations` is below 1, or `within` is not positive.
    NotVerifiedError
        If no ρ ≤ 1 will do.
    """
    checks.whole(1, iterations=iterations)
    if within is None:
        _, _, x = _descend(flow, iterations)
    else:
        away = exact(within, name="within")
        checks.positive(within=float(away))
        with flint.ctx.workprec(PRECISION):
            # No coordinate is off by more than the whole distance: b counts √(n − 1) ≥ 1 times.
            around = ball(away).union(-ball(away))
            x = [middle + around for middle in flow.at(flow.horizon)[0]]
    with flint.ctx.workprec(PRECISION):
        eta = ball(flow.horizon / iterations)
        for j in range(60, -1, -1):
            found = _ball_of_convergence(flow.start, x, eta, arb(2) ** (-arb(j) / 4))
            if found is not None:
                return found
    raise NotVerifiedError(
        "no ball of radius up to 1 around the last iterate is proved to keep GD; go on to a "
        "smaller loss"
    )


def _ball_of_convergence(start: BalancedStart, x: State, eta: arb, rho: arb) -> Convergence | None:
    """Return the ball of radius ρ around x, if it is proved to keep GD."""
    n, (a1, a2, b) = start.depth, x
    first = (a1 * a1 + a2 * a2).sqrt()
    whole = b ** (n - 1)
    e = [whole * a1 - ball(start.target_norm), whole * a2]
    square = (e[0] * e[0] + e[1] * e[1]).nonnegative_part()
    omega = [first + rho] + [b + rho] * (n - 1)
    product = omega[0] * omega[1] ** (n - 1)
    residual = square.sqrt() + product - first * whole
    squares = sum((product / w * (product / w) for w in omega), arb(0))
    pairs = arb(1)
    if n > 2:
        pairs = max(product / (omega[0] * omega[1]), product / (omega[1] * omega[1]), key=above)
    smoothness = squares + (n - 1) * residual * pairs
    gain = whole * 2 - omega[1] ** (n - 1)
    slack = 1 - eta * smoothness / 2
    if not (gain > 0 and slack > 0 and square.sqrt() / gain / slack < rho):
        return None
    rate = 1 - eta * gain * gain * 2 * slack
    return Convergence(above(rho), above(square / 2), above(rate))
