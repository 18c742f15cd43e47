"""The live picture of GD and GF on a landscape: the reader drags the start."""

from collections.abc import Sequence

from gfgd import checks
from gfgd.book.live.picture import LivePicture, as_json, new_name, scripts
from gfgd.problems.landscapes import LANDSCAPES


def gradient_paths(
    *,
    landscape: str,
    start: Sequence[float],
    step_size: float,
    horizon: float,
    name: str | None = None,
) -> LivePicture:
    """Return the live picture: drag the start, and GD and GF are drawn from there.

    Parameters
    ----------
    landscape
        Which of `gfgd.problems.landscapes.LANDSCAPES` it shows at first.
    start
        (x, y) at first; moved into the landscape's domain.
    step_size, horizon
        η and T at first; the nearest that the picture's sliders have.
    name
        The element's id; by default a new one.

    Raises
    ------
    ValueError
        For an unknown landscape or a number out of range.
    """
    checks.one_of(LANDSCAPES, landscape=landscape)
    checks.positive(step_size=step_size, horizon=horizon)
    settings = {
        "landscapes": {
            known: {
                "title": f"{known.replace('_', ' ')} ({shape.convexity})",
                "domain": shape.domain,
            }
            for known, shape in LANDSCAPES.items()
        },
        "landscape": landscape,
        "start": [float(x) for x in start],
        "step_size": step_size,
        "horizon": horizon,
    }
    name = name or new_name()
    html = (
        '<div class="gfgd-live-frame" style="container: gfgd-live / inline-size">'
        f'<div class="gfgd-live" id="{name}">This picture needs JavaScript.</div></div>\n'
        f"<script>{scripts('gradient_paths')}\n"
        f'gfgdGradientPaths(document.getElementById("{name}"), {as_json(settings)});</script>'
    )
    return LivePicture(
        html, "live picture: gradient descent and gradient flow; open the page to use it"
    )
