"""Pictures that move: an animation, and a live picture that the reader steers.

Both are plain HTML with a script of our own inside the page: they work from a file, without a
network.
"""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import count

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from gfgd import checks
from gfgd.book.edge_drawing import edge_drawing
from gfgd.problems.landscapes import LANDSCAPES

#: Colours in an animation's frames: figures of a few lines need no more.
FRAME_COLOURS = 32

_numbers = count(1)


def gradient_paths(
    *, landscape: str, start: Sequence[float], step_size: float, horizon: float
) -> None:
    """Show the live picture: drag the start, and GD and GF are drawn from there.

    Parameters
    ----------
    landscape
        Which of `gfgd.problems.landscapes.LANDSCAPES` it shows at first.
    start
        (x, y) at first; moved into the landscape's domain.
    step_size, horizon
        η and T at first; the nearest that the picture's sliders have.

    Raises
    ------
    ValueError
        For an unknown landscape or a number out of range.
    """
    html = gradient_paths_html(
        landscape=landscape, start=start, step_size=step_size, horizon=horizon
    )
    _show(html, "[live picture: gradient descent and gradient flow; open the page to use it]")


def gradient_paths_html(
    *,
    landscape: str,
    start: Sequence[float],
    step_size: float,
    horizon: float,
    name: str | None = None,
) -> str:
    """Return the HTML that `gradient_paths` shows; `name` is its id, by default a new one."""
    checks.one_of(LANDSCAPES, landscape=landscape)
    checks.positive(step_size=step_size, horizon=horizon)
    settings = {
        "landscapes": {
            name: {"title": f"{name.replace('_', ' ')} ({known.convexity})", "domain": known.domain}
            for name, known in LANDSCAPES.items()
        },
        "landscape": landscape,
        "start": [float(x) for x in start],
        "step_size": step_size,
        "horizon": horizon,
    }
    name = name or f"gfgd-live-{next(_numbers)}"
    return (
        '<div class="gfgd-live-frame" style="container: gfgd-live / inline-size">'
        f'<div class="gfgd-live" id="{name}">This picture needs JavaScript.</div></div>\n'
        f"<script>{_script('live_gradient_paths.js')}\n"
        f'gfgdGradientPaths(document.getElementById("{name}"), {_json(settings)});</script>'
    )


def edge_of_stability(
    *,
    step_size: float = 0.1,
    pull: float = 0.05,
    start: float = 0.3,
    sharpness: float = 0.98,
    step: int = 330,
) -> None:
    """Show the live picture of GD on ½yx² − cy at the edge of stability, beside its central flow.

    Without JavaScript the drawing of the first state stands in its place.

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
    html = edge_of_stability_html(
        step_size=step_size, pull=pull, start=start, sharpness=sharpness, step=step
    )
    _show(html, "[live picture: the edge of stability; open the page to use it]")


def edge_of_stability_html(
    *, step_size: float, pull: float, start: float, sharpness: float, step: int
) -> str:
    """Return the HTML that `edge_of_stability` shows."""
    checks.between(0.06, 0.16, step_size=step_size)
    checks.between(0.01, 0.1, pull=pull)
    checks.between(-1, 1, start=start)
    checks.between(0.955, 1.045, sharpness=sharpness)
    checks.between(0, 600, step=step)
    settings = {"eta": step_size, "c": pull, "x": start, "ratio": sharpness, "k": step}
    name = f"gfgd-edge-{next(_numbers)}"
    return (
        f'<div class="gfgd-live-frame"><div id="{name}">{edge_drawing(settings)}</div></div>\n'
        f"<script>{_script('live_scene.js')}\n{_script('live_edge.js')}\n"
        f'gfgdEdge(document.getElementById("{name}"), {_json(settings)});</script>'
    )


def animation(frames: Sequence[Figure], *, alt: str, interval: int = 300, dpi: int = 80) -> None:
    """Show figures one after the other, with a button to pause and a slider.

    Without JavaScript, and in print, the last frame stands. Readers who ask their system for
    reduced motion start it themselves.

    Parameters
    ----------
    frames
        Figures of the same size.
    alt
        What the animation shows, in words.
    interval
        Milliseconds for each frame.
    dpi
        Resolution of the frames.
    """
    checks.at_least(2, frames=len(frames))
    checks.positive(interval=interval, dpi=dpi)
    uris = [_data_uri(frame, dpi) for frame in frames]
    name = f"gfgd-animation-{next(_numbers)}"
    html = (
        f'<div class="gfgd-animation" id="{name}" style="background: #fff; color: #222; '
        'color-scheme: light; max-width: 47.5rem; padding: 0.5em">'
        f'<img class="dark-light" src="{uris[-1]}" alt="{escape(alt)}" '
        'style="width: 100%; height: auto">'
        '<div class="controls" hidden style="text-align: center">'
        '<button type="button" style="min-width: 5em; min-height: 2em; color: #222; '
        'background: #eee">Play</button> '
        '<input type="range" min="0" value="0" step="1" aria-label="Frame" '
        'style="width: 60%; min-height: 2em"></div></div>\n'
        f"<script>{_script('live_animation.js')}\n"
        f'gfgdAnimation(document.getElementById("{name}"), {_json(uris)}, {interval});</script>'
    )
    _show(html, f"[animation: {alt}]")


def _show(html: str, text: str) -> None:
    display({"text/html": html, "text/plain": text}, raw=True)


def _script(name: str) -> str:
    return (resources.files("gfgd.book") / name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    """Return JSON that may stand inside a ``<script>``."""
    return json.dumps(value).replace("</", "<\\/")


def _data_uri(figure: Figure, dpi: int) -> str:
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    # Maximum coverage keeps the colours of thin lines, which fill few pixels.
    image = Image.open(drawn).convert("RGB")
    image = image.quantize(
        FRAME_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    image.save(packed, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()
