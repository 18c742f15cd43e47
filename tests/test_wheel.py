"""The wheel alone, on a machine that has none of the extras' packages."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Hides what the extras alone would install, as if it were not there.
HIDE = """\
import sys

HIDDEN = {hidden!r}


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Hide())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: setuptools leaves folders in the tree."""
    copy, built = (tmp_path_factory.mktemp(name) for name in ("copy", "built"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "gfgd", copy / "gfgd", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(built), str(copy)]
    subprocess.run(command, check=True)
    (found,) = built.glob("*.whl")
    return found


def needed() -> set[str]:
    """Return the distributions that gfgd without extras brings along, and theirs."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            waiting += map(Requirement, requires(name) or [])
        except ModuleNotFoundError:  # for another system
            found.remove(name)
    return found


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    """Run Python with the wheel's contents and without the extras' packages."""
    place, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    here = needed() | {"gfgd", "pip", "setuptools"}
    hidden = {
        module
        for module, owners in packages_distributions().items()
        if not here.intersection(map(canonicalize_name, owners))
    }
    assert {"IPython", "papermill", "nbformat", "yaml", "distributed", "pytest"} <= hidden
    (place / "sitecustomize.py").write_text(HIDE.format(hidden=hidden))

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(place)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def test_the_wheel_holds_the_types_and_the_scripts(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
    assert "gfgd/py.typed" in names
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gfgd").rglob("*.js")}
    assert scripts and scripts <= names
    assert f"\nVersion: {PROJECT['version']}\n" in text


def test_every_module_of_the_library_imports(alone):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "gfgd").rglob("*.py")
        if "book" not in path.parts
    ]
    code = f"import importlib\nfor name in {sorted(modules)!r}: importlib.import_module(name)"
    assert alone("-c", code).returncode == 0


def test_the_example_of_the_readme(alone):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    before = (
        "import torch\n"
        "inputs, labels = torch.randn(6, 3).double(), torch.arange(6) % 2\n"
        "module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(),"
        " torch.nn.Linear(4, 2)).double()\n"
    )
    short = example.replace("iterations=1000", "iterations=20")
    assert short != example
    done = alone("-c", before + short)
    assert done.returncode == 0 and "tensor" in done.stdout


@pytest.mark.parametrize("command", ["", "run", "report", "book", "sweep", "archive", "data"])
def test_help(alone, command):
    done = alone("-m", "gfgd.book.cli", *filter(None, [command]), "--help")
    assert done.returncode == 0 and "usage: gfgd" in done.stdout


@pytest.mark.parametrize(
    "command", [["run", "01"], ["book"], ["sweep", "07", "-p", "radius", "1"], ["archive"]]
)
def test_a_command_that_needs_an_extra_names_it(alone, command):
    done = alone("-m", "gfgd.book.cli", *command)
    assert done.returncode == 2
    assert f"gfgd: gfgd {command[0]} needs more packages: pip install 'gfgd[book]'" in done.stderr


def test_data_needs_no_extra(alone, tmp_path):
    code = (
        "from gfgd.book import cli\n"
        "from pathlib import Path\n"
        "cli.fetch_mnist = lambda: Path('found')\n"
        "raise SystemExit(cli.main(['data']))"
    )
    done = alone("-c", code)
    assert done.returncode == 0 and "MNIST, verified: " in done.stdout


def test_a_claim_says_what_it_needs(alone):
    code = (
        "try:\n    from gfgd.book import claim\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert "pip install 'gfgd[book]'" in alone("-c", code).stdout
