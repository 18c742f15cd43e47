"""A tiny notebook and a tiny book, so that no test here runs a real chapter."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from ..conftest import missing
from .watching import pages_of

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGE = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'

PARAMETERS = "step_size: float = 0.001  # η₀\nwidths: list[int] = [50, 50]  # hidden widths\n"
PARAMETERS += 'dataset: str = "digits"  # which data'
CHECK = "from gfgd import checks\n\nchecks.positive(step_size=step_size)"
CLAIM = """\
from gfgd.book import claim
claim("small-steps", "Steps are small.", measured=step_size, below=0.02, slide="One");"""


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS, check: str = CHECK):
    """Write a chapter with a title, the two parameter cells, and code cells."""
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    cells = [
        v4.new_markdown_cell(f"# Chapter {path.stem}"),
        v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        v4.new_code_cell(check, metadata={"tags": ["check-parameters"]}),
        *map(v4.new_code_cell, sources),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """A chapter that makes one claim."""
    return write_notebook(tmp_path / "01_tiny.ipynb", CLAIM)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A checkout of a book of one chapter."""
    root = tmp_path / "book"
    write_notebook(root / "chapters" / "01_tiny.ipynb", CLAIM)
    for name in ("_config.yml", "references.bib", "CITATION.cff", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    (root / "index.md").write_text("# Tiny\n\n{cite}`chen2018neural`\n", encoding="utf-8")
    (root / "references.md").write_text("# References\n\n```{bibliography}\n```\n")
    toc = "format: jb-book\nroot: index\nchapters:\n"
    pages = ("chapters/01_tiny", "what_holds", "parameters", "references")
    (root / "_toc.yml").write_text(toc + "".join(f"  - file: {page}\n" for page in pages))
    (root / "chapters" / "presets").mkdir()
    (root / "chapters" / "presets" / "quick.yaml").write_text("01_tiny:\n  step_size: 1e-2\n")
    return root


def built_pages() -> list[Path]:
    """Return the pages of the built book; none if there is no built book."""
    return [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.parts]


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book."""
    if not (HTML / "index.html").is_file():
        missing("there is no built book: run `make book` first")
    return HTML


@pytest.fixture
def tiny(book: Path) -> Path:
    """A checkout whose only chapter takes its orders from its parameters."""
    from .tiny import write_tiny

    write_tiny(book / "chapters" / "01_tiny.ipynb")
    return book


@pytest.fixture
def open_html(browser, tmp_path):
    """Open HTML as a page of its own, the network cut; nothing may go wrong on it."""
    path = tmp_path / "page.html"
    with pages_of(browser) as open_page:

        def open_it(html, **options):
            path.write_text(PAGE + html, encoding="utf-8")
            return open_page(path, **options)

        yield open_it
