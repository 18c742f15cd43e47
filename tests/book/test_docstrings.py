import re

import pytest

from gfgd.book.docstrings import escape_bars

from .conftest import ROOT


@pytest.mark.parametrize(
    ("line", "escaped"),
    [
        ("at most |λ| t", r"at most \|λ\| t"),
        ("``a | b`` or |c|", r"``a | b`` or \|c\|"),
        ("no bars, ``a`` literal", "no bars, ``a`` literal"),
    ],
)
def test_bars_are_absolute_values_outside_literals(line, escaped):
    lines = [line]
    escape_bars(None, "function", "f", None, None, lines)
    assert lines == [escaped]


def test_examples_stay_as_they_are():
    lines = [">>> 1 | 2", "3 | 4", "", "but |x|"]
    escape_bars(None, "function", "f", None, None, lines)
    assert lines == [">>> 1 | 2", "3 | 4", "", r"but \|x\|"]


def test_every_public_module_is_on_the_page():
    modules = {
        f"gfgd.{path.stem}"
        for path in (ROOT / "gfgd").glob("*.py")
        if not path.stem.startswith("_")
    }
    page = (ROOT / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. automodule:: (\S+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(modules | {"gfgd.book"})
