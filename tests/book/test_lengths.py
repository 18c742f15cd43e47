"""How long a chapter is, for a reader's time."""

import re

import pytest
from nbformat import read

from gfgd.book.contents import chapters

from .conftest import ROOT

WORDS = 4000
CODE = re.compile(r"~~~.*?~~~", re.DOTALL)
FORMULAS = re.compile(r"```\{math\}.*?```|\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)


def words(path):
    """Return the words of a chapter's prose; a formula in a line counts as one."""
    cells = [cell.source for cell in read(path, 4).cells if cell.cell_type == "markdown"]
    return len(FORMULAS.sub("x", CODE.sub("", "\n".join(cells))).split())


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_a_chapter_is_read_in_one_sitting(path):
    assert words(path) <= WORDS
