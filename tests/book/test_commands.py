"""What a reader is told to type names chapters and parameters that there are."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest

from gfgd.book.running.parameters import validate

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("chapters/*.ipynb"))]
COMMAND = re.compile(r"(?:gfgd run|papermill chapters/)\s*(\d{1,2})(?!\d)([^`\n]*)")


def texts():
    for path in dict.fromkeys(PAGES):
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            yield path.name, "\n".join(c.source for c in cells if c.cell_type == "markdown")
        else:
            yield path.name, path.read_text(encoding="utf-8")


def commands():
    """Yield the page, the chapter's number and the parameters of each command."""
    for page, text in texts():
        text = re.sub(r"\\\n\s*", " ", text)  # a line that goes on
        text = re.sub(r"(`[^`\n]*)\n([^`\n]*`)", r"\1 \2", text)  # code across two lines
        for number, rest in COMMAND.findall(text):
            words = shlex.split(rest)
            given = [at for at, word in enumerate(words) if word in ("-p", "-r")]
            yield page, number, {words[at + 1]: words[at + 2] for at in given}


@pytest.mark.parametrize(("page", "number", "given"), list(commands()))
def test_a_command_names_parameters_that_there_are(page, number, given):
    if {"network", "data"} & set(given):
        pytest.skip("names a file of the reader's own")
    (chapter,) = (ROOT / "chapters").glob(f"{int(number):02}_*.ipynb")
    assert validate(chapter, given).keys() == given.keys()


def test_there_are_commands_to_look_at():
    found = list(commands())
    assert {"README.md", "run_it_yourself.md"} <= {page for page, _, _ in found}
    assert sum(bool(given) for _, _, given in found) >= 15
