"""Small pictures for lists of chapters: the first panel of a figure, without words.

A thumbnail is inline SVG in the theme's colours, as the figure itself. Axes and text, which nobody
could read at that size, are left out; the curves are the figure's own.
"""

import re
from xml.etree import ElementTree

from nbformat import NotebookNode

from gfgd.book.pages.first_screen import PICTURE
from gfgd.book.pages.pictures import themed
from gfgd.figures.style import MIME_TYPE

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
# Groups of matplotlib's SVG that a thumbnail leaves out.
_LEFT_OUT = ("matplotlib.axis", "text", "legend")
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")


def key_picture(notebook: NotebookNode) -> str | None:
    """Return the SVG of a chapter's key picture, or of its first figure, or None without any."""
    cells = sorted(
        notebook.cells, key=lambda cell: PICTURE not in cell.metadata.get("tags", [])
    )  # stable: the others stay in their order
    for cell in cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if MIME_TYPE in data:
                return "".join(data["image/svg+xml"])
    return None


def thumbnail(svg: str, *, name: str) -> str:
    """Return the first panel of a figure's SVG as inline SVG of one line, for decoration.

    `name` goes before its ids, which are unique in a page.
    """
    axes = first_panel(svg)
    x, y, width, height = extent(axes)
    shared = list(ElementTree.fromstring(svg).iter(f"{{{_SVG}}}clipPath"))
    inside = "".join(_written(part) for part in [*shared, axes])
    inside = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", inside)
    return themed(
        f'<svg class="gfgd-thumbnail" viewBox="{x:g} {y:g} {width:g} {height:g}"'
        f' preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'
    )


def first_panel(svg: str) -> ElementTree.Element:
    """Return the group of a figure's first panel, without axes, text and legends."""
    groups = ElementTree.fromstring(svg).iter(f"{{{_SVG}}}g")
    axes = next(part for part in groups if part.get("id") == "axes_1")
    _strip(axes)
    return axes


def extent(axes: ElementTree.Element) -> tuple[float, float, float, float]:
    """Return x, y, width and height of a panel: of its background, the first path in it."""
    path = next(axes.iter(f"{{{_SVG}}}path")).get("d", "")
    numbers = [float(number) for number in _NUMBERS.findall(path)]
    xs, ys = numbers[0::2], numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _strip(group: ElementTree.Element) -> None:
    """Remove axes, text and legends, and groups that are empty without them."""
    for part in list(group):
        _strip(part)
        named = (part.get("id") or "").startswith(_LEFT_OUT)
        empty = part.tag == f"{{{_SVG}}}g" and len(part) == 0
        if named or empty or part.tag == f"{{{_SVG}}}text":
            group.remove(part)


def _written(part: ElementTree.Element) -> str:
    """Return an element as HTML has it inside an ``<svg>``: without namespaces, in one line."""
    for inner in part.iter():
        inner.tag = inner.tag.rpartition("}")[2]
        inner.tail = None
        inner.text = (inner.text or "").strip() or None
        if _LINK in inner.attrib:
            inner.set("href", inner.attrib.pop(_LINK))
    return ElementTree.tostring(part, encoding="unicode").replace("\n", " ")
