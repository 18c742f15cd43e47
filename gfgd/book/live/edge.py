"""The live picture of the edge of stability."""

from gfgd import checks
from gfgd.book.live.drawing import Line, Panel, drawing
from gfgd.book.live.picture import LivePicture, scene

#: Steps that the picture shows, and the largest |x|; the vertical range is in units of 2/η.
STEPS, REACH, RANGE = 600, 1.3, (0.95, 1.05)
WORDS = (
    "The valley. Left, every second iterate of gradient descent winds around the point where the "
    "sharpness is two over eta. Right, the sharpness swings around that level; gradient flow rises "
    "past it, and the central flow stops at it."
)


def edge_of_stability(
    *,
    step_size: float = 0.1,
    pull: float = 0.05,
    start: float = 0.3,
    sharpness: float = 0.98,
    step: int = 330,
) -> LivePicture:
    """Return the live picture of GD on ½yx² − cy at the edge, beside its central flow.

    Parameters
    ----------
    step_size, pull
        η in [0.06, 0.16] and c in [0.01, 0.1] at first.
    start
        x_0 in [−1, 1] at first.
    sharpness
        y_0 in units of 2/η, in [0.955, 1.045], at first.
    step
        The iterate in 0 … 600 up to which GD is drawn at first.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    checks.between(0.06, 0.16, step_size=step_size)
    checks.between(0.01, 0.1, pull=pull)
    checks.between(-1, 1, start=start)
    checks.between(0.955, 1.045, sharpness=sharpness)
    checks.between(0, STEPS, step=step)
    settings = {"eta": step_size, "c": pull, "x": start, "ratio": sharpness, "k": step}
    return scene(
        "gfgdEdge",
        settings,
        drawing=_drawing(step_size, pull, start, sharpness, step),
        words="the edge of stability",
        needs="edge",
    )


def _drawing(eta: float, c: float, x: float, ratio: float, steps: int) -> str:
    """Draw the plane (x, y), and y against the step, up to the last step."""
    edge, y = 2 / eta, ratio * 2 / eta
    drift = [(y + c * eta * k) / edge for k in range(STEPS + 1)]
    points = [(x, y)]
    for _ in range(int(steps)):
        x, y = points[-1]
        points.append(((1 - eta * y) * x, y + eta * (c - x * x / 2)))
    plane = [(x, y / edge) for x, y in points]
    left = [Line(plane[::2], "descent", 1.5), Line(plane[1::2], "descent", 1.5)]
    right = [
        Line(list(enumerate(drift)), "flow", 3),
        Line(list(enumerate(min(y, 1) for y in drift)), "prediction", 3),
        Line(list(enumerate(y for _, y in plane)), "descent", 1.8),
    ]
    return drawing(
        [
            Panel("sharpness against x", (-REACH, REACH), RANGE, left, level=1),
            Panel("sharpness against the step", (0, STEPS), RANGE, right, level=1),
        ],
        words=WORDS,
        names={
            "descent": "gradient descent",
            "flow": "gradient flow",
            "prediction": "central flow",
        },
        note=", and the level 2/η.",
    )
