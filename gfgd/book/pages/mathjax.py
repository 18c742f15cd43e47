"""MathJax for the built book, so that formulas need no other host.

The package ``sphinx-mathjax-offline`` carries MathJax 3.2.2 (Apache License 2.0). Only what the
book's pages ask for is copied: the TeX-to-HTML component, its fonts and its TeX extensions.
"""

import base64
import gzip
import shutil
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "sphinx-mathjax-offline"
COMPONENT = "tex-chtml.js"
#: All of TeX, and glyphs drawn as paths: this one asks for no other file.
WHOLE = "tex-svg-full.js"
WANTED = (
    COMPONENT,
    "input/tex/extensions/",
    "output/chtml/fonts/woff-v2/",
    "a11y/",
    "sre/mathmaps/en.json",
    "sre/mathmaps/base.json",
    "ui/",
)
_UNPACK = """
{
  const bytes = Uint8Array.from(atob("PACKED"), (letter) => letter.charCodeAt(0));
  const code = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(code).text().then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  });
}
"""


def copy_mathjax(destination: Path) -> None:
    """Copy MathJax's files into a folder, which must not exist.

    Raises
    ------
    FileNotFoundError
        If the distribution does not hold the component.
    """
    files = metadata.files(DISTRIBUTION) or []
    for file in files:
        _, found, name = file.as_posix().partition("/static/mathjax/")
        if found and name.startswith(WANTED):
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    if not (destination / COMPONENT).is_file():
        raise FileNotFoundError(f"{DISTRIBUTION} has no {COMPONENT}: run `make book` to install it")


def mathjax_script() -> str:
    """Return MathJax as one script that holds its fonts and loads nothing, to stand in a page.

    It is 2.3 MB, glyphs mostly, so it stands there compressed, at less than half of that, and the
    browser unpacks it.

    Raises
    ------
    FileNotFoundError
        If the distribution does not hold it.
    """
    for file in metadata.files(DISTRIBUTION) or []:
        if file.as_posix().endswith(f"/static/mathjax/{WHOLE}"):
            packed = gzip.compress(Path(str(file.locate())).read_bytes(), mtime=0)
            return _UNPACK.replace("PACKED", base64.b64encode(packed).decode())
    raise FileNotFoundError(f"{DISTRIBUTION} has no {WHOLE}: run `make book` to install it")
