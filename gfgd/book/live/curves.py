"""Live pictures of curves that follow sliders; their first states are computed by the library."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import torch
from torch import Tensor

from gfgd import checks
from gfgd.book.live.drawing import Line, Panel, drawing
from gfgd.book.live.picture import LivePicture, scene
from gfgd.bounds import signed_coefficient
from gfgd.bounds.curvature import aligned_smallest_eigenvalue, rate_integral_bound
from gfgd.imperfections.rounding import CompensatedSum, spacing

#: Points of a drawn curve; iterations of the picture of rounding; its weight is this times 2^e.
POINTS, ITERATIONS, MANTISSA = 100, 40, 1.3
#: β, γ₀ and T of the picture of a curve λ(t).
SMOOTHNESS, GRADIENT, HORIZON = 2.0, 1.0, 5.0


def curvature_along_a_flow(
    *, knots: Sequence[float] = (-0.5, -0.2, 0.4), power: float = -2.0
) -> LivePicture:
    """Return the live picture of λmin along a flow and what the signed formula makes of it.

    The reader drags a curve λ(t) of two straight pieces, and sees ½βγ₀t exp(−∫λ), and the largest
    step size that keeps a distance ε up to T = 5, both for β = 2 and γ₀ = 1.

    Parameters
    ----------
    knots
        λ(0), λ(T/2) and λ(T) at first, each in [−2, 2].
    power
        log₁₀ ε in [−4, −1] at first.

    Raises
    ------
    ValueError
        For another number of knots, or a number out of range.
    """
    if len(knots) != 3:
        raise ValueError(f"knots = {knots!r}: give three values, at 0, T/2 and T")
    for value in knots:
        checks.between(-SMOOTHNESS, SMOOTHNESS, knots=value)
    checks.between(-4, -1, power=power)
    times = torch.linspace(0, HORIZON, POINTS + 1, dtype=torch.float64)
    first, middle, last = knots
    half = HORIZON / 2
    centres = (times[1:] + times[:-1]) / 2
    curve = torch.where(
        centres < half,
        first + (middle - first) * centres / half,
        middle + (last - middle) * (centres / half - 1),
    )
    bound = signed_coefficient(times, SMOOTHNESS, -curve, gradient_norm=GRADIENT)
    settings = {
        "first": float(first),
        "middle": float(middle),
        "last": float(last),
        "power": power,
        "horizon": HORIZON,
        "smoothness": SMOOTHNESS,
        "gradient": GRADIENT,
    }
    shape = list(zip((0.0, half, HORIZON), map(float, knots), strict=True))
    return _curves(
        "curvature",
        settings,
        [
            Panel("λmin against time", (0, HORIZON), (-2, 2), [Line(shape, "flow", 3)], level=0),
            Panel(
                "log₁₀ of the bound over η",
                (0, HORIZON),
                (-3, 5),
                [Line(_points(times[1:], bound[1:].log10()), "bound")],
            ),
        ],
        alt=(
            "Left, the smallest eigenvalue along a flow, a curve of two straight pieces. Right, "
            "the bound on the distance that follows from it, on a log scale: it grows while the "
            "curve is below zero."
        ),
        names={"flow": "λmin along the flow", "bound": "bound on the distance"},
        words="a curve of the smallest eigenvalue, and the bound that follows",
    )


def depth_and_curvature(*, depth: int = 3, power: float = -2.0) -> LivePicture:
    """Return the live picture of λmin along GF of a deep linear network, by depth and start.

    From an aligned balanced start of length r_0 to the target's length 1, with
    :func:`gfgd.bounds.curvature.aligned_smallest_eigenvalue`; beside it λmin on the opposite ray.

    Parameters
    ----------
    depth
        n in 2 … 8 at first.
    power
        log₁₀ r_0 in [−4, −0.5] at first.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    checks.whole(2, depth=depth)
    checks.between(2, 8, depth=depth)
    checks.between(-4, -0.5, power=power)
    logs = torch.linspace(power, 0, POINTS + 1, dtype=torch.float64)
    radii = 10**logs
    along = aligned_smallest_eigenvalue(radii, 1.0, depth)
    opposite = -(1 + radii) * radii ** ((depth - 2) / depth)
    bound = rate_integral_bound(float(radii[0]), radii, 1.0, depth) / math.log(10)
    lines = [
        Line(_points(logs, opposite), "threshold", 1),
        Line(_points(logs, along), "flow", 3),
    ]
    return _curves(
        "depth",
        {"depth": int(depth), "power": power},
        [
            Panel("λmin against log₁₀ r", (power, 0), (-2, 0.2), lines, level=0),
            Panel(
                "log₁₀ of the growth of errors",
                (power, 0),
                (0, max(1, math.ceil(float(bound[-1])))),
                [Line(_points(logs, bound), "bound")],
            ),
        ],
        alt=(
            "Left, the smallest eigenvalue along gradient flow dips below zero and comes back; on "
            "the opposite ray it falls without end. Right, the bound on the growth of errors, a "
            "straight line on log axes."
        ),
        names={"flow": "along gradient flow", "threshold": "on the opposite ray", "bound": "bound"},
        words="the smallest eigenvalue of deep linear networks by depth and start",
    )


def steps_in_single_precision(*, part: float = 0.45, power: int = 0) -> LivePicture:
    """Return the live picture of forty equal steps on a weight, in float32 and exactly.

    Parameters
    ----------
    part
        A step in units of the weight's spacing, in [0, 2] at first.
    power
        e in −6 … 4 at first; the weight is 1.3·2^e.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    checks.between(0, 2, part=part)
    checks.between(-6, 4, power=power)
    weight = torch.tensor(MANTISSA * 2.0**power, dtype=torch.float32)
    gap = spacing(weight)
    step = (part * gap.double()).float()
    carry = CompensatedSum()
    rounded, carried = [weight], [weight]
    for _ in range(ITERATIONS):
        rounded.append(rounded[-1] + step)
        carried.append(carry(carried[-1], -step))

    def way(values: Iterable[Tensor]) -> list[tuple[float, float]]:
        return [(k, float((one - weight) / gap)) for k, one in enumerate(values)]

    top = max(20.0, ITERATIONS * part)
    lines = [
        Line([(0, 0), (ITERATIONS, ITERATIONS * part)], "flow", 3),
        Line(way(carried), "prediction"),
        Line(way(rounded), "descent"),
    ]
    return _curves(
        "steps",
        {"part": part, "power": int(power)},
        [Panel("way in spacings against the step", (0, ITERATIONS), (0, top), lines)],
        alt=(
            "The way of a weight in units of its spacing against the step: exactly a straight "
            "line, in float32 stairs or no way at all, with a carry stairs along the line."
        ),
        names={"flow": "exact", "descent": "float32", "prediction": "float32 with a carry"},
        words="steps below the spacing of float32",
    )


def series_of_modified_flows(*, order: int = 3, x: float = 1.2) -> LivePicture:
    """Return the live picture of one step's factor on ½λθ²: GD's 1 − ηλ and the flows' exp(−Sₙ).

    S_n = ηλ + (ηλ)²/2 + … + (ηλ)ⁿ/n are the partial sums of −log(1 − ηλ).

    Parameters
    ----------
    order
        n in 1 … 20 at first.
    x
        ηλ in [0, 2.4] at first.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    checks.whole(1, order=order)
    checks.between(1, 20, order=order)
    checks.between(0, 2.4, x=x)
    places = torch.linspace(0, 2.4, POINTS + 1, dtype=torch.float64)
    sums = torch.stack([places**j / j for j in range(1, order + 1)]).sum(0)
    lines = [
        Line(_points(places, torch.exp(-places)), "flow"),
        Line(_points(places, torch.exp(-sums)), "prediction", 3),
        Line([(0, 1), (2.4, -1.4)], "descent"),
    ]
    return _curves(
        "series",
        {"order": int(order), "x": x},
        [Panel("factor of one step against ηλ", (0, 2.4), (-1.4, 1), lines, level=0)],
        alt=(
            "The factor of one step against eta lambda: gradient descent is a straight line that "
            "crosses zero at one; the flows stay positive and fall to zero."
        ),
        names={
            "descent": "gradient descent",
            "flow": "gradient flow",
            "prediction": f"modified flow of order {order}",
        },
        words="the series of modified flows and where it ends",
    )


def flow_at_a_kink(*, off: float = 1.0, on: float = 0.5, step_size: float = 0.25) -> LivePicture:
    """Return the live picture of a flow that meets a kink, a displaced one, and GD.

    Parameters
    ----------
    off, on
        Velocities below the kink, in [0.2, 1.5], and above it, in [−1.5, 1.5], at first.
    step_size
        η in [0.05, 0.5] at first.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    checks.between(0.2, 1.5, off=off)
    checks.between(-1.5, 1.5, on=on)
    checks.between(0.05, 0.5, step_size=step_size)
    end, begin, apart = 4.0, -1.0, 0.2

    def flow(start: float) -> list[tuple[float, float]]:
        meets = -start / off
        return [(0, start), (meets, 0), (end, max(on, 0) * (end - meets))]

    places = [begin]
    for _ in range(math.floor(end / step_size + 1e-9)):
        places.append(places[-1] + step_size * (on if places[-1] > 0 else off))
    lines = [
        Line(flow(begin), "flow", 3),
        Line(flow(begin + apart), "flow", 1),
        Line([(k * step_size, place) for k, place in enumerate(places)], "descent"),
    ]
    return _curves(
        "kink",
        {"off": off, "on": on, "step": step_size},
        [Panel("place across the kink against time", (0, end), (-1.2, 2.4), lines, level=0)],
        alt=(
            "Two flows reach the kink one after the other and leave it with another velocity, so "
            "that the gap between them changes; gradient descent goes beside the first."
        ),
        names={"flow": "gradient flow, from two starts", "descent": "gradient descent"},
        words="a flow that meets a kink",
    )


def stairs_to_a_bound(measured: float, factors: Mapping[str, float]) -> LivePicture:
    """Return the live picture of the way from a distance to a bound, an inequality a step.

    The reader takes inequalities out, and sees what the bound would be if they cost nothing.

    Parameters
    ----------
    measured
        The distance that was measured, positive.
    factors
        By which factor each inequality makes the bound larger, by its name, in their order.

    Raises
    ------
    ValueError
        For a number that is not positive, or no factor.
    """
    checks.positive(measured=measured)
    checks.at_least(1, factors=len(factors))
    for name, factor in factors.items():
        checks.positive(**{f"factors[{name!r}]": factor})
    total = math.log10(measured)
    low, lines = math.floor(total), []
    for i, factor in enumerate(factors.values()):
        after = total + math.log10(factor)
        lines.append(Line([(i + 0.5, total), (i + 0.5, after), (i + 1.5, after)], "bound", 2))
        total = after
    count = len(factors)
    high = max(math.ceil(y) for line in lines for _, y in line.points)
    title = "log₁₀ of the distance, then of the bounds"
    level = math.log10(measured)
    return _curves(
        "stairs",
        {"measured": float(measured), "factors": [[n, float(f)] for n, f in factors.items()]},
        [Panel(title, (0.5, count + 0.5), (low, high), lines, level=level)],
        alt="Stairs from the measured distance up to the bound, a step for each inequality.",
        names={"bound": "bounds", "threshold": "measured distance"},
        note=": " + "; ".join(f"{i + 1}. {escape(name)}" for i, name in enumerate(factors)) + ".",
        words="the stairs from the measured distance to the bound",
    )


def _curves(
    model: str,
    settings: Mapping[str, object],
    panels: Sequence[Panel],
    *,
    alt: str,
    names: Mapping[str, str],
    words: str,
    note: str = ".",
) -> LivePicture:
    """Return the scene that the script of a model draws with `curves.js`, after its drawing."""
    drawn = drawing(panels, words=alt, names=names, note=note)
    function = f"gfgd{model.capitalize()}"
    return scene(function, settings, drawing=drawn, words=words, needs=f"curves {model}")


def _points(x: Tensor, y: Tensor) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))
