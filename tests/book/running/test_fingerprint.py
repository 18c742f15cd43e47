import nbformat
import pytest

from gfgd.book.contents import chapters
from gfgd.book.running.fingerprint import fingerprint, imported_files, notebook_imports

from ..conftest import ROOT, write_notebook


@pytest.fixture
def root(tmp_path):
    package = tmp_path / "gfgd"
    (package / "book").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "book" / "__init__.py").write_text("from .claims import claim\n")
    (package / "book" / "claims.py").write_text("")
    (package / "book" / "build.py").write_text("")
    (package / "flow.py").write_text("from gfgd import trajectory\n")
    (package / "trajectory.py").write_text("")
    (package / "figures.py").write_text("")
    (tmp_path / "requirements.lock").write_text("numpy==1\n")
    check = "from gfgd.book import claim"
    write_notebook(tmp_path / "a.ipynb", "%matplotlib inline\nimport gfgd.flow", check=check)
    write_notebook(tmp_path / "b.ipynb", "import math", check="")
    return tmp_path


def both(root):
    return [fingerprint(root / f"{name}.ipynb", root, {}) for name in "ab"]


def changed(root, path, text="# edited\n"):
    before = both(root)
    with (root / path).open("a") as file:
        file.write(text)
    return [old != new for old, new in zip(before, both(root), strict=True)]


@pytest.mark.parametrize("path", ["flow.py", "trajectory.py", "__init__.py", "book/claims.py"])
def test_editing_what_a_chapter_imports_changes_that_chapter_only(root, path):
    assert changed(root, f"gfgd/{path}") == [True, False]


@pytest.mark.parametrize("path", ["figures.py", "book/build.py"])
def test_editing_what_no_chapter_imports_changes_none(root, path):
    assert changed(root, f"gfgd/{path}") == [False, False]


def test_a_modules_scripts_belong_to_it(root):
    assert changed(root, "gfgd/book/fold.js") == [True, False]
    (root / "gfgd" / "other").mkdir()
    assert changed(root, "gfgd/other/fold.js") == [False, False]


def test_the_lock_changes_all(root):
    assert changed(root, "requirements.lock") == [True, True]


@pytest.fixture
def edited(root):
    """Edit a chapter's notebook; return whether its fingerprint and another's change."""

    def edit(change):
        before, path = both(root), root / "a.ipynb"
        notebook = nbformat.read(path, as_version=4)
        change(notebook.cells)
        nbformat.write(notebook, path)
        return [old != new for old, new in zip(before, both(root), strict=True)]

    return edit


def test_prose_outputs_and_what_only_the_page_shows_change_nothing(edited):
    def change(cells):
        cells[1].outputs = [nbformat.v4.new_output("stream", text="hello")]
        cells[1].execution_count = 3
        cells[0].source += " more prose"
        cells.insert(2, nbformat.v4.new_markdown_cell("A new paragraph."))
        cells[-1].metadata = {"tags": ["hide-input"], "mystnb": {"image": {"alt": "A line."}}}

    assert edited(change) == [False, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: cells[-1].update(source=cells[-1].source + "\nprint(1)"),
        lambda cells: cells.append(nbformat.v4.new_code_cell("1")),
        lambda cells: cells.insert(1, cells.pop()),
        lambda cells: cells[-1].metadata.update(tags=["raises-exception"]),
    ],
)
def test_code_its_order_and_how_it_is_run_change_their_chapter(edited, change):
    assert edited(change) == [True, False]


def test_parameters_and_data_count(root):
    path, data = root / "a.ipynb", root / "data.csv"
    data.write_text("1")
    first = fingerprint(path, root, {"x": 1}, data=[data])
    assert fingerprint(path, root, {"x": 2}, data=[data]) != first
    data.write_text("2")
    assert fingerprint(path, root, {"x": 1}, data=[data]) != first


def test_imported_files_follow_relative_imports(root):
    names = {path.relative_to(root).as_posix() for path in imported_files({"gfgd.book"}, root)}
    assert names == {"gfgd/__init__.py", "gfgd/book/__init__.py", "gfgd/book/claims.py"}


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_how_pages_are_made_runs_no_chapter_again(path):
    # A function of gfgd.book with a module's name would count as that module.
    imported = imported_files(notebook_imports(nbformat.read(path, as_version=4)), ROOT)
    names = {file.relative_to(ROOT).as_posix() for file in imported}
    assert "gfgd/book/claims.py" in names
    pages = {"assemble", "build", "first_screen", "pages", "single_page"}
    assert not names & {f"gfgd/book/{page}.py" for page in pages}
