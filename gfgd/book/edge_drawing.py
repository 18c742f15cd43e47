"""The live picture of the edge of stability as a drawing: for paper and pages without script."""

from collections.abc import Mapping, Sequence

from gfgd.figures.style import ROLES

#: Sides of a panel; the vertical range in units of 2/η, the steps, and the largest |x|.
WIDE, HIGH, GAP, RANGE, STEPS, REACH = 300, 260, 30, (0.95, 1.05), 600, 1.3

# The theme's colours, and on a page without its style sheet those of the figures.
FLOW, DESCENT, CENTRAL, INK = (
    f"var(--gfgd-{name}, {colour})"
    for name, colour in (
        ("flow", ROLES["flow"]),
        ("descent", ROLES["descent"]),
        ("prediction", ROLES["prediction"]),
        ("ink", ROLES["threshold"]),
    )
)
WORDS = (
    "The valley. Left, every second iterate of gradient descent winds around the point where the "
    "sharpness is two over eta. Right, the sharpness swings around that level; gradient flow rises "
    "past it, and the central flow stops at it."
)


def edge_drawing(settings: Mapping[str, float]) -> str:
    """Return an SVG with its legend: the plane (x, y), and y against the step, up to step k.

    `settings` are those of the live picture: eta, c, x, ratio = y_0/(2/η), and k.
    """
    eta, c, x = settings["eta"], settings["c"], settings["x"]
    edge, y = 2 / eta, settings["ratio"] * 2 / eta
    drift = [(y + c * eta * k) / edge for k in range(STEPS + 1)]
    points = [(x, y)]
    for _ in range(int(settings["k"])):
        x, y = points[-1]
        points.append(((1 - eta * y) * x, y + eta * (c - x * x / 2)))
    plane = [((x / REACH + 1) / 2, y / edge) for x, y in points]
    level = _line([(0, 1), (1, 1)], INK, 1)
    left = level + _line(plane[::2], DESCENT, 1.5) + _line(plane[1::2], DESCENT, 1.5)
    right = level + _line(_by_step(drift), FLOW, 3)
    right += _line(_by_step([min(y, 1) for y in drift]), CENTRAL, 3)
    right += _line(_by_step([y for _, y in plane]), DESCENT, 1.8)
    return (
        f'<svg viewBox="0 0 {2 * WIDE + GAP} {HIGH + 30}" style="width: 100%; max-width: 44rem" '
        f'role="img" aria-label="{WORDS}">{_panel(left, 0, "sharpness against x")}'
        f"{_panel(right, WIDE + GAP, 'sharpness against the step')}</svg>"
        f"<p>{_named('gradient descent', DESCENT)}, {_named('gradient flow', FLOW)}, "
        f"{_named('central flow', CENTRAL)}, and the level 2/η. "
        "With JavaScript the picture can be steered.</p>"
    )


def _by_step(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(k / STEPS, y) for k, y in enumerate(values)]


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    """Draw points whose x is in [0, 1] and whose y is in units of 2/η; what is far away is cut."""
    low, high = RANGE
    heights = (HIGH * (high - y) / (high - low) for _, y in points)
    at = " ".join(
        f"{WIDE * x:.1f},{min(2 * HIGH, max(-HIGH, h)):.1f}"
        for (x, _), h in zip(points, heights, strict=True)
    )
    return f'<polyline points="{at}" fill="none" style="stroke: {colour}" stroke-width="{width}"/>'


def _panel(lines: str, shift: float, title: str) -> str:
    return (
        f'<svg x="{shift}" width="{WIDE}" height="{HIGH}">{lines}</svg>'
        f'<text x="{shift + WIDE / 2}" y="{HIGH + 20}" font-size="15" text-anchor="middle" '
        f'style="fill: {INK}">{title}</text>'
    )


def _named(text: str, colour: str) -> str:
    return f'<b style="color: {colour}">{text}</b>'
