"""A chapter's page folds code that only sets up, draws, or puts numbers into words.

It may also fold a cell that prepares: one that defines functions and names, and runs nothing else.
"""

import ast

import nbformat
import pytest

from gfgd.book.contents import chapters
from gfgd.book.running.fingerprint import plain_python

from .conftest import ROOT

SHOWN_BY = {"claim", "report", "record", "table"}
LONGEST = 20  # lines of a cell that a reader sees
COMPUTED_BY = {"fitted_slope", "use_style"}  # of gfgd.figures


def shows(source):
    """Whether a cell calls what puts something on the page."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = {call.id for call in calls if isinstance(call, ast.Name)}
    of_module = {
        (call.value.id, call.attr)
        for call in calls
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
    }
    drawn = {name for module, name in of_module if module in ("figures", "live")} - COMPUTED_BY
    return bool(named & SHOWN_BY or drawn)


def prepares(source):
    """Whether a cell only defines functions, and names for what they need."""
    statements = ast.parse(source).body
    kinds = (ast.FunctionDef, ast.Assign, ast.AnnAssign)
    defines = any(isinstance(statement, ast.FunctionDef) for statement in statements)
    return defines and all(isinstance(statement, kinds) for statement in statements)


def test_a_cell_that_runs_something_does_not_prepare():
    assert prepares("a = 1\ndef f():\n    return a")
    assert not prepares("a = 1")
    assert not prepares("def f():\n    return 1\nfor i in range(3):\n    f()")


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_code_that_shows_is_folded_and_code_that_computes_is_not(path):
    notebook = nbformat.read(path, as_version=4)
    imports, *code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "hide-input" in imports.metadata.get("tags", [])
    for cell in code:
        tags = cell.metadata.get("tags", [])
        setting_up = "check-parameters" in tags
        figure = "mystnb" in cell.metadata
        source = plain_python(cell.source)
        long = len(source.splitlines()) > LONGEST and "parameters" not in tags
        wanted = setting_up or figure or long or shows(source)
        folded = "hide-input" in tags
        assert folded == wanted or (folded and prepares(source)), cell.source


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_a_chapter_answers_its_question_in_one_cell(path):
    notebook = nbformat.read(path, as_version=4)
    answers = [cell for cell in notebook.cells if "answer" in cell.metadata.get("tags", [])]
    assert len(answers) == 1 and "**Answer.**" in answers[0].source
