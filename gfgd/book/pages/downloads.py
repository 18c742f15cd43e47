"""What a reader can take away: every chapter as a notebook to run, and the book as one file.

The notebook that a page offers is the chapter as it stands in the checkout, without outputs. Where
the book's repository is known it opens with a cell that installs gfgd if it is missing, so that
the same notebook runs on a machine that has nothing of the book, such as Colab's.
"""

import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from gfgd.book.contents import chapters

BOOK_ZIP = "gfgd-book.zip"
INSTALL_TAG = "install"


@dataclass(frozen=True)
class Repository:
    """Where the notebooks with the installing cell are published: a URL, and a branch there."""

    url: str
    branch: str

    def requirement(self) -> str:
        """Return what pip installs: the package from this branch."""
        return f"gfgd @ git+{self.url}@{self.branch}"


def read_repository(root: Path) -> Repository | None:
    """Return the repository that the package's metadata name, or None while they name none.

    Its URL is ``Repository`` in the table ``project.urls`` of ``pyproject.toml``; the branch that
    the notebooks are published on stands in ``_config.yml``.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = project.get("urls", {}).get("Repository", "").rstrip("/")
    options = _theme_options(yaml.safe_load(_read_config(root)))
    return Repository(url, options["repository_branch"]) if url else None


def configuration(root: Path) -> str:
    """Return the book's configuration with the repository's URL, or without launch buttons.

    The theme cannot build their links without it.
    """
    repository = read_repository(root)
    config = yaml.safe_load(_read_config(root))
    if repository:
        _theme_options(config)["repository_url"] = repository.url
    else:
        del _theme_options(config)["launch_buttons"]
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False)


def _read_config(root: Path) -> str:
    return (root / "_config.yml").read_text(encoding="utf-8")


def _theme_options(config: dict[str, Any]) -> dict[str, Any]:
    return config["sphinx"]["config"]["html_theme_options"]


def notebook_to_run(chapter: Path, repository: Repository | None) -> nbformat.NotebookNode:
    """Return a chapter as it stands, with a first cell that installs gfgd where it is missing."""
    notebook = nbformat.read(chapter, as_version=4)
    if repository:
        cell = nbformat.v4.new_code_cell(
            "# Only where gfgd is missing, as on Colab.\n"
            "import importlib.util\n\n"
            'if importlib.util.find_spec("gfgd") is None:\n'
            f'    %pip install --quiet "{repository.requirement()}"',
            id="install-gfgd",
            metadata={"tags": [INSTALL_TAG]},
        )
        notebook.cells.insert(0, cell)
    return notebook


def add_downloads(root: Path, html: Path) -> None:
    """Put the notebooks to run and the zip of the book into its HTML.

    Parameters
    ----------
    root
        The checkout.
    html
        The folder of pages, fresh from jupyter-book: its ``_sources`` hold the executed notebooks,
        which the theme's download button would serve.
    """
    repository = read_repository(root)
    for chapter in chapters(root):
        target = html / "_sources" / chapter.relative_to(root)
        nbformat.write(notebook_to_run(chapter, repository), target)
    zip_book(html, html / BOOK_ZIP)


def zip_book(html: Path, target: Path) -> None:
    """Write the pages to a zip that unpacks into one folder; the same pages give the same bytes."""
    files = sorted(path for path in html.rglob("*") if path.is_file() and path != target)
    with zipfile.ZipFile(target, "w") as archive:
        for path in files:
            contents = path.read_bytes()
            if path.suffix == ".html":
                # The zip does not hold itself: there its own link would lead nowhere.
                contents = contents.replace(f'href="{BOOK_ZIP}"'.encode(), b"")
            name = f"{target.stem}/{path.relative_to(html).as_posix()}"
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents, zipfile.ZIP_DEFLATED)
