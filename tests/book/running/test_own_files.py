"""Which of a reader's files a run depends on."""

import sys

import pytest

from gfgd.book.running.own_files import own_files, own_files_digest

from ..conftest import ROOT


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A reader's folder: a script, its neighbour, and a package."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    files = {
        "net.py": "import math, torch\nimport near\ndef net(): ...",
        "near.py": "WIDTH = 4",
        "other.py": "",
        "pack/__init__.py": "",
        "pack/model.py": "from . import blocks\ndef make(): ...",
        "pack/blocks.py": "import near",
        "lib/far.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "own"


def names(place, *values):
    parameters = {str(number): value for number, value in enumerate(values)}
    return [path.relative_to(place).as_posix() for path in own_files(parameters, place, ROOT)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("net.py:net", ["near.py", "net.py"]),
        ("net:net", ["near.py", "net.py"]),
        ("pack.model:make", ["near.py", "pack/__init__.py", "pack/blocks.py", "pack/model.py"]),
        (["other.py:x", "lib/far.py:y"], ["lib/far.py", "other.py"]),
        ("torch.nn.functional:mse_loss", []),
        ("math:sqrt", []),
        ("absent.py:net", []),
        ("absent:net", []),
        ("mse", []),
        ("a sentence: with a colon", []),
        (0.5, []),
    ],
)
def test_what_a_value_names_and_what_that_imports(place, value, expected):
    assert names(place, value) == expected


def test_an_absolute_path_a_module_beside_it_and_the_python_path(place, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    parameters = {"network": f"{place}/lib/far.py:y", "data": "far:y", "loss": "near:x"}
    assert own_files(parameters, elsewhere, ROOT) == [place / "lib" / "far.py"]
    monkeypatch.setenv("PYTHONPATH", str(place))
    found = own_files(parameters, elsewhere, ROOT)
    assert found == [place / "lib" / "far.py", place / "near.py"]


def test_a_package_installed_in_place_counts(place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    assert own_files({"network": "pack.model:make"}, tmp_path, ROOT)[-1].name == "model.py"


def test_what_it_imports_of_gfgd_counts(place):
    (place / "net.py").write_text("from gfgd.problems import landscapes")
    found = {path.name for path in own_files({"network": "net:f"}, place, ROOT)}
    assert {"net.py", "landscapes.py"} <= found


def test_the_digest_is_that_of_the_contents(place):
    def digest(value="pack.model:make"):
        return own_files_digest({"network": value}, place, ROOT)

    assert digest("mse") == ""
    first = digest()
    assert first == digest()
    (place / "near.py").write_text("WIDTH = 5")
    assert digest() != first
    (place / "near.py").write_text("WIDTH = (")
    assert digest() != first, "a file that is no Python is for the run to refuse"
