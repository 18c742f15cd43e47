import importlib.util
import zipfile

import nbformat
import pytest
import yaml

from gfgd.book.build import build_book
from gfgd.book.pages.downloads import (
    BOOK_ZIP,
    INSTALL_TAG,
    Repository,
    configuration,
    notebook_to_run,
    read_repository,
    zip_book,
)
from gfgd.book.running.fingerprint import plain_python

from ..conftest import ROOT

REPOSITORY = Repository("https://github.com/someone/some-book", "notebooks")


def name_repository(root):
    """Write a repository's URL into the metadata of a checkout's package."""
    with (root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[project.urls]\nRepository = "{REPOSITORY.url}/"\n')


def test_without_a_repository_the_notebook_is_the_chapter(chapter):
    assert notebook_to_run(chapter, None) == nbformat.read(chapter, as_version=4)


def test_with_one_it_opens_with_the_installing_cell(chapter):
    notebook = notebook_to_run(chapter, REPOSITORY)
    nbformat.validate(notebook)
    assert notebook.cells[0].metadata.tags == [INSTALL_TAG]
    assert notebook.cells[1:] == nbformat.read(chapter, as_version=4).cells


class Shell:
    """Stands for IPython's shell: remembers the magics that a cell asks for."""

    def __init__(self):
        self.magics = []

    def run_line_magic(self, *magic):
        self.magics.append(magic)


@pytest.mark.parametrize("installed", [True, False])
def test_the_cell_installs_gfgd_where_it_is_missing_and_nothing_else(
    chapter, monkeypatch, installed
):
    source = notebook_to_run(chapter, REPOSITORY).cells[0].source
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", {"gfgd": None}.__getitem__)
    shell = Shell()
    exec(plain_python(source), {"get_ipython": lambda: shell})
    wanted = "install --quiet " + f'"gfgd @ git+{REPOSITORY.url}@notebooks"'
    assert shell.magics == ([] if installed else [("pip", wanted)])


def test_launch_buttons_only_where_there_is_a_repository(book):
    assert read_repository(book) is None
    assert "launch_buttons" not in configuration(book)
    name_repository(book)
    assert read_repository(book) == REPOSITORY
    config = yaml.safe_load(configuration(book))["sphinx"]["config"]
    assert config["html_theme_options"]["repository_url"] == REPOSITORY.url
    buttons = config["html_theme_options"]["launch_buttons"]
    assert {"binderhub_url", "colab_url"} <= buttons.keys()
    assert "thebe" not in buttons, "live code would ask other hosts"


@pytest.mark.slow
def test_downloads_of_a_built_book(book):
    html = book / "_build" / "html"
    notebook = html / "_sources" / "chapters" / "01_tiny.ipynb"
    page = html / "chapters" / "01_tiny.html"
    build_book(book)
    assert "_sources/chapters/01_tiny.ipynb" in page.read_text("utf-8")
    assert "colab" not in page.read_text("utf-8")
    chapter = nbformat.read(book / "chapters" / "01_tiny.ipynb", as_version=4)
    assert nbformat.read(notebook, as_version=4) == chapter
    with zipfile.ZipFile(html / BOOK_ZIP) as archive:
        assert "gfgd-book/index.html" in archive.namelist()

    name_repository(book)
    again = build_book(book)
    assert [run.fresh for run in again.runs] == [False], "no chapter depends on these pages"
    text = page.read_text("utf-8")
    place = "github.com/someone/some-book"
    assert f"https://colab.research.google.com/{place.replace('.com', '')}" in text
    assert "blob/notebooks/chapters/01_tiny.ipynb" in text
    assert "https://mybinder.org/v2/gh/someone/some-book/notebooks?urlpath=lab/tree" in text
    first = nbformat.read(notebook, as_version=4).cells[0]
    assert f"gfgd @ git+https://{place}@notebooks" in first.source


def test_zip_holds_every_page_once_and_not_itself(tmp_path):
    html = tmp_path / "html"
    (html / "chapters").mkdir(parents=True)
    (html / "index.html").write_text(f'<a href="{BOOK_ZIP}">all</a> <a href="b.html">b</a>')
    (html / "chapters" / "data.bin").write_bytes(b"\0" * 10_000)
    target = html / BOOK_ZIP
    zip_book(html, target)
    first = target.read_bytes()
    zip_book(html, target)
    assert target.read_bytes() == first, "the same pages give the same bytes"
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        names = ["gfgd-book/chapters/data.bin", "gfgd-book/index.html"]
        assert archive.namelist() == names
        assert archive.read(names[0]) == b"\0" * 10_000
        assert archive.read(names[1]) == b'<a >all</a> <a href="b.html">b</a>'


def test_binder_builds_what_the_package_asks_for():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (torch,) = [name for name in environment["dependencies"] if name.startswith("pytorch-cpu")]
    assert f'"{torch.replace("pytorch-cpu", "torch")}"' in project
    post_build = ROOT / ".binder" / "postBuild"
    assert post_build.stat().st_mode & 0o111, "Binder runs it"
    assert "pip install" in post_build.read_text()
