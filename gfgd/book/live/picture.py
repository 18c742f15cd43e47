"""What a live picture is: a drawing, and a script of our own inside the page that takes its place.

It works from a file, without a network.
"""

import json
from dataclasses import dataclass
from importlib import resources
from itertools import count

_numbers = count(1)


@dataclass(frozen=True)
class LivePicture:
    """HTML that a notebook shows, and words for where it cannot."""

    html: str
    words: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": f"[{self.words}]"}


def new_name() -> str:
    """Return an element's id that no other picture of the page has."""
    return f"gfgd-live-{next(_numbers)}"


def scripts(*names: str) -> str:
    """Return the text of scripts of this folder."""
    folder = resources.files("gfgd.book.live")
    return "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in names)


def as_json(value: object) -> str:
    """Return JSON that may stand inside a ``<script>``."""
    return json.dumps(value).replace("</", "<\\/")


def scene(function: str, settings: object, *, drawing: str, words: str, needs: str) -> LivePicture:
    """Return a scene: `drawing`, in whose place `function` of the scripts `needs` draws.

    `needs` are names of scripts, separated by spaces; what all scenes share comes first.
    """
    name = new_name()
    html = (
        f'<div class="gfgd-live-frame"><div id="{name}">{drawing}</div></div>\n'
        f"<script>{scripts('scene', *needs.split())}\n"
        f'{function}(document.getElementById("{name}"), {as_json(settings)});</script>'
    )
    return LivePicture(html, f"live picture: {words}; open the page to use it")
