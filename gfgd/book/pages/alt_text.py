"""Every picture of the built book says in words what it shows."""

from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

SUFFIXES = {".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp"}


class _Pictures(HTMLParser):
    """Collects the source and the alt text of each ``<img>``."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a picture."""
        if tag == "img":
            values = dict(attrs)
            self.found.append((values.get("src") or "", (values.get("alt") or "").strip()))


def missing_alt_text(html: Path) -> list[str]:
    """Return a line for each picture under a folder of HTML pages that has no alt text.

    Sphinx writes a picture's file name where nothing else is given; that counts as none.
    """
    lines = []
    for page in sorted(html.rglob("*.html")):
        if "_static" in page.relative_to(html).parts:
            continue
        pictures = _Pictures()
        pictures.feed(page.read_text(encoding="utf-8"))
        lines += [
            f"{page.relative_to(html).as_posix()}: {source[:100]} has no alt text"
            for source, alt in pictures.found
            if not alt or PurePosixPath(alt).suffix in SUFFIXES
        ]
    return lines
