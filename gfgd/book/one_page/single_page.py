r"""A chapter's run as one HTML file, which opens anywhere and without a network.

myst-nb's parser for docutils does the work. What only Sphinx knows (theorems with numbers, links
between pages, citations) is said in words: see `gfgd.book.pages.docutils_words`. Pictures lie in
the file, and so does MathJax: docutils makes MathML itself, but some of it wrong (``\tfrac12 x``).
"""

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from myst_nb.docutils_ import Parser
from nbformat import NotebookNode

from gfgd.book.contents import title
from gfgd.book.pages.docutils_words import numbers, register
from gfgd.book.pages.first_screen import arranged
from gfgd.book.pages.mathjax import mathjax_script
from gfgd.book.pages.pictures import COLOURS, figure_html
from gfgd.book.running.outputs import structured
from gfgd.figures.style import MIME_TYPE
from gfgd.files import replacing

_PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
_SETTINGS: dict[str, Any] = {
    "nb_execution_mode": "off",
    "nb_output_stderr": "remove",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",  # tables and formulas in what a run says
    "myst_enable_extensions": [
        "amsmath",
        "attrs_inline",
        "colon_fence",
        "deflist",
        "dollarmath",
        "html_image",
        "smartquotes",
    ],
    "math_output": "MathJax",
    "output_encoding": "unicode",
    "stylesheet_path": "",
    "embed_stylesheet": False,
    "report_level": 4,  # what a single page cannot show is no error of the chapter
    "halt_level": 5,
}
# Characters of a figure in two renderings: above, it has one, so that pages are below 2 MB.
_LARGE = 150_000
# docutils would have MathJax come from its own host.
_REMOTE_SCRIPT = re.compile(r"<script[^>]*\bsrc=[^>]*></script>")
_CHARSET = re.compile(r"<meta charset=[^>]*>\s*")
#: The colours of a dark page, as in the book's ``_static/gfgd.css``, by role.
DARK = {
    "flow": "#5ab7f2",
    "descent": "#ff9d5c",
    "bound": "#dd9fd3",
    "prediction": "#3fcf9f",
    "error": "#9aa4af",
    "threshold": "#e6e6e6",
    "series": "#aab0ff",
    "ink": "#e6e6e6",
    "muted": "#a3abb5",
    "hair": "#343b44",
    "contour": "#55606b",
    "paper": "#121212",
    "wash": "#221c29",
}
#: Those of a light page, in which the figures are drawn.
LIGHT = COLOURS | {"wash": "#f4eef3"}


def _variables(colours: Mapping[str, str]) -> str:
    return "; ".join(f"--gfgd-{role}: {colour}" for role, colour in colours.items())


_STYLE = (
    f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
"""
    + """
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.55 system-ui, sans-serif;
  color: var(--gfgd-ink); background: var(--gfgd-paper); overflow-wrap: break-word }
a { color: var(--gfgd-flow) }
h1 code, h1 .literal { overflow-wrap: anywhere }
.gfgd-flow { color: var(--gfgd-flow) } .gfgd-descent { color: var(--gfgd-descent) }
.gfgd-bound { color: var(--gfgd-bound) } .gfgd-prediction { color: var(--gfgd-prediction) }
figure.gfgd-figure svg { display: block; overflow: visible }
figure.gfgd-figure svg text { paint-order: stroke; stroke: var(--gfgd-paper);
  stroke-linejoin: round; stroke-width: 2.5px }
figure.gfgd-figure svg.gfgd-narrow { display: none }
td p, th p { margin: 0 }
@media screen and (max-width: 40rem) {
  h1 { font-size: 1.5rem }
  figure.gfgd-figure svg.gfgd-wide { display: none }
  figure.gfgd-figure svg.gfgd-narrow { display: block }
}
pre, mjx-container { overflow-x: auto; overflow-y: hidden; max-width: 100% }
mjx-container:not([display]) { display: inline-block; vertical-align: middle }
pre { font-size: 0.85rem; background: var(--gfgd-wash); padding: 0.6rem; border-radius: 4px }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: 0.9rem }
td, th { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--gfgd-hair); text-align: left }
figure { margin: 1rem 0 } img, svg { max-width: 100%; height: auto }
figcaption, summary { color: var(--gfgd-muted); font-size: 0.9rem }
.statement, aside.admonition { border-left: 4px solid var(--gfgd-bound); padding: 0.1rem 1rem;
  margin: 1rem 0 }
.statement.proof, .statement.solution { border-color: var(--gfgd-hair) }
.equation-number { float: right; color: var(--gfgd-muted) }
@media print { summary { display: none } .statement, figure, tr { break-inside: avoid }
  h2, h3 { break-after: avoid } }
"""
)


def write_single_page(executed: Path, page: Path) -> None:
    """Write the page of an executed notebook; an earlier file of that name is replaced.

    Parameters
    ----------
    executed
        The notebook of a run; that of a chapter begins with its answer and key picture.
    page
        The HTML file.
    """
    notebook = nbformat.read(executed, as_version=4)
    html = single_page(notebook)
    with replacing(page) as temporary:
        temporary.write_text(html, encoding="utf-8")


def single_page(notebook: NotebookNode) -> str:
    """Return an executed notebook as one HTML document that asks no other host."""
    heading = title(notebook)
    number = notebook.metadata.get("papermill", {}).get("input_path", "").partition("_")[0]
    if number.isdecimal():
        notebook = arranged(notebook, int(number))
    _embed_pictures(notebook, number)
    register(numbers(notebook))
    settings = _SETTINGS | {"title": heading}
    with TemporaryDirectory() as folder:  # for what myst-nb would have lie beside the page
        document = publish_doctree(
            nbformat.writes(notebook),
            parser=Parser(),
            settings_overrides=settings | {"nb_output_folder": folder},
        )
    _fold_code(document)
    html = publish_from_doctree(document, writer_name="html5", settings_overrides=settings)
    text = html if isinstance(html, str) else html.decode()
    text = _CHARSET.sub("", _REMOTE_SCRIPT.sub("", text))
    text = text.replace("<head>", '<head>\n<meta charset="utf-8">', 1)
    about = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f"{about}\n<style>{_STYLE}</style>\n<script>{mathjax_script()}</script>\n"
    return text.replace("</head>", f"{head}</head>", 1)


def _embed_pictures(notebook: NotebookNode, chapter: str) -> None:
    """Put the outputs' pictures into the page, in place of files beside it."""
    count = 0
    for cell in notebook.cells:
        about = cell.metadata.get("mystnb", {})
        alt = about.get("image", {}).get("alt", "A figure of this run.")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in _PICTURES if kind in data), None)
            if kind is None or "text/html" in data:
                continue
            if MIME_TYPE in data:  # it follows the page's width and colours
                count += 1
                # Taken out: myst-nb would make a second figure around this one.
                caption = about.pop("figure", {}).get("caption", "")
                number = f"{int(chapter)}.{count}" if chapter.isdecimal() else str(count)
                html = _inline_figure(data, alt=alt, number=number, caption=caption)
            else:
                html = _figure(data, kind, alt)
            output["data"] = nbformat.from_dict({"text/html": html})


def _inline_figure(data: Any, **about: str) -> str:
    """Return a figure of the library in both renderings, or, where it is large, the wide one."""
    html = figure_html(data, **about)
    if len(html) <= _LARGE:
        return html
    wide_only = structured(data, MIME_TYPE) | {"narrow": None}
    return figure_html({**data, MIME_TYPE: wide_only}, **about)


def _figure(data: Any, kind: str, alt: str) -> str:
    stored = "".join(data[kind])
    coded = base64.b64encode(stored.encode()).decode() if kind.endswith("xml") else stored.strip()
    return f'<figure><img src="data:{kind};base64,{coded}" alt="{escape(alt)}"></figure>'


def _fold_code(document: nodes.document) -> None:
    """Fold what the chapter's page folds: the code of cells tagged ``hide-input``."""
    for cell in list(document.findall(nodes.container)):
        if "tag_hide-input" not in cell["classes"]:
            continue
        for code in list(cell.findall(nodes.container)):
            if "cell_input" not in code["classes"]:
                continue
            opened = "<details><summary>Show the code</summary>"
            code.parent.replace(code, [_raw(opened), code, _raw("</details>")])


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")
