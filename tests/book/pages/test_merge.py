"""Outputs of a run under prose that has changed since."""

import nbformat
import pytest
from nbformat import v4

from gfgd.book.build import build_book
from gfgd.book.pages.merge import with_fresh_prose
from gfgd.book.running.execute import execute_chapter

from ..conftest import CLAIM, write_notebook


def shown(notebook):
    """Return a line for each cell: prose, or code with the text that it printed."""
    return [
        f"prose: {cell.source}" if cell.cell_type == "markdown" else f"code: {printed(cell)}"
        for cell in notebook.cells
    ]


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs).strip()


@pytest.fixture
def run(tmp_path):
    """A chapter, and the notebook of its run with one parameter of its own."""
    path = write_notebook(tmp_path / "01_tiny.ipynb", "print('one')", "print('two')", CLAIM)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(4, v4.new_markdown_cell("Between one and two."))
    nbformat.write(notebook, path)
    done = execute_chapter(path, tmp_path / "done.ipynb", {"step_size": 0.01}, progress=False)
    return notebook, nbformat.read(done.path, as_version=4)


def test_an_unchanged_chapter_is_its_run(run):
    chapter, executed = run
    merged = with_fresh_prose(chapter, executed)
    nbformat.validate(merged)
    assert shown(merged) == shown(executed)
    assert [cell.id for cell in merged.cells] == [cell.id for cell in executed.cells]
    assert merged.metadata == executed.metadata


def test_markdown_may_change_move_come_and_go(run):
    chapter, executed = run
    chapter.cells[0].source = "# Another title"
    chapter.cells.append(chapter.cells.pop(4))  # moved to the end
    chapter.cells[-1].source = "Behind all."
    chapter.cells.insert(1, v4.new_markdown_cell("Ahead of the parameters."))
    chapter.cells.insert(3, v4.new_markdown_cell("Between the parameters and their check."))
    merged = with_fresh_prose(chapter, executed)
    nbformat.validate(merged)
    lines = shown(merged)
    assert lines.pop().startswith("prose: ## How this page was made")
    assert lines == [
        "prose: # Another title",
        "prose: Ahead of the parameters.",
        "code: ",
        "code: ",  # what papermill injected stays with the parameters
        "prose: Between the parameters and their check.",
        "code: ",
        "code: one",
        "code: two",
        "code: ",
        "prose: Behind all.",
    ]
    assert merged.cells[3].metadata.tags == ["injected-parameters"]
    assert len({cell.id for cell in merged.cells}) == len(merged.cells)
    del chapter.cells[-1], chapter.cells[3], chapter.cells[1]
    assert [line for line in shown(with_fresh_prose(chapter, executed)) if "prose" in line] == [
        "prose: # Another title",
        f"prose: {executed.cells[-1].source}",
    ]


def test_folds_and_alt_texts_are_those_of_now(run):
    chapter, executed = run
    alt = {"image": {"alt": "A line."}}
    chapter.cells[3].metadata = {"tags": ["hide-input"], "mystnb": alt}
    merged = with_fresh_prose(chapter, executed)
    (cell,) = [cell for cell in merged.cells if cell.id == chapter.cells[3].id]
    assert cell.metadata.mystnb == alt and printed(cell) == "one"


def test_outputs_never_come_under_other_code(run):
    chapter, executed = run
    chapter.cells[3].source = "print('three')"
    with pytest.raises(ValueError, match="its code cells are not the chapter's"):
        with_fresh_prose(chapter, executed)


@pytest.mark.slow
def test_a_changed_sentence_makes_the_page_and_runs_nothing(book):
    build_book(book)
    path = book / "chapters" / "01_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "# A new title\n\nAnd a sentence."
    nbformat.write(notebook, path)
    again = build_book(book)
    assert again.html_built and [run.fresh for run in again.runs] == [False]
    html = (book / "_build" / "html" / "chapters" / "01_tiny.html").read_text("utf-8")
    assert "And a sentence." in html and "Steps are small." in html
    assert "A new title" in (book / "_build" / "html" / "what_holds.html").read_text("utf-8")
