"""The repository itself: chapters as they should be, and nothing of a machine in it."""

import re
import shutil
import subprocess

import nbformat
import pytest

from gfgd.book.build import preset_path
from gfgd.book.contents import chapters
from gfgd.book.running.parameters import CHECK_TAG, PARAMETERS_TAG, read_preset, validate

from .conftest import ROOT

CHAPTERS = sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))
# Assembled, so that this file does not hold what it looks for.
FORBIDDEN = {"../" + "shared": ".ci/run", "/" + "work/": None, "/" + "opt/": None}

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for line in listed.splitlines() if (path := ROOT / line).is_file()]


def test_every_chapter_of_the_contents_is_there():
    assert {path.name for path in chapters(ROOT)} <= {path.name for path in CHAPTERS}


@each_chapter
def test_chapter_is_stripped(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs"), "run nbstripout"
        assert cell.get("execution_count") is None, "run nbstripout"


@each_chapter
def test_chapter_declares_and_checks_its_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    first = next(index for index, found in enumerate(tags) if PARAMETERS_TAG in found)
    assert CHECK_TAG in tags[first + 1]
    assert notebook.metadata.kernelspec.name == "python3"
    validate(path, {})


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_presets_are_valid(name):
    stems = [path.stem for path in CHAPTERS]
    for stem, values in read_preset(preset_path(ROOT, name), stems).items():
        assert validate(ROOT / "chapters" / f"{stem}.ipynb", values).keys() == values.keys()


def test_no_file_names_a_place_on_this_machine():
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = [word for word, allowed in FORBIDDEN.items() if word in text and name != allowed]
        assert not found, f"{name} names {found}"


def test_changelog_has_this_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version.group(1)}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version.group(1)}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
