"""Figures one after the other."""

import base64
import io
from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure
from PIL import Image

from gfgd import checks
from gfgd.book.live.picture import LivePicture, as_json, new_name, scripts

#: Colours in an animation's frames: figures of a few lines need no more.
FRAME_COLOURS = 32


def animation(
    frames: Sequence[Figure], *, alt: str, interval: int = 300, dpi: int = 80
) -> LivePicture:
    """Return figures one after the other, with a button to pause and a slider.

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

    Raises
    ------
    ValueError
        For fewer than two frames or a number out of range.
    """
    checks.at_least(2, frames=len(frames))
    checks.positive(interval=interval, dpi=dpi)
    uris = [_data_uri(frame, dpi) for frame in frames]
    name = new_name()
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
        f"<script>{scripts('animation')}\n"
        f'gfgdAnimation(document.getElementById("{name}"), {as_json(uris)}, {interval});</script>'
    )
    return LivePicture(html, f"animation: {alt}")


def _data_uri(figure: Figure, dpi: int) -> str:
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white")
    # Maximum coverage keeps the colours of thin lines, which fill few pixels.
    image = Image.open(drawn).convert("RGB")
    image = image.quantize(
        FRAME_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    image.save(packed, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()
