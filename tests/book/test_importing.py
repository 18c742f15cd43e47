import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from gfgd.book import cli, commands
from gfgd.book.errors import ParameterError, UsageError
from gfgd.book.importing import (
    load_factory,
    load_function,
    load_loss,
    make_data,
    make_network,
    make_objective,
    shapes,
)
from gfgd.book.running.execute import read_claims
from gfgd.book.running.parameters import validate

CHAPTER = Path(__file__).parents[2] / "chapters" / "21_your_network.ipynb"

GOOD = """
import torch
from neighbour import WIDTH

number = 3

def make_network():
    return torch.nn.Linear(2, WIDTH)

def make_data():
    return torch.randn(5, 2), torch.arange(5) % WIDTH
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """An empty folder with one module and its neighbour, whose names no other test has."""
    stem = f"net_{abs(hash(request.node.name))}"
    (tmp_path / f"{stem}.py").write_text(GOOD.replace("neighbour", f"{stem}_neighbour"))
    (tmp_path / f"{stem}_neighbour.py").write_text("WIDTH = 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path, stem


def test_a_module_of_the_working_directory(folder):
    _, stem = folder
    assert make_network(f"{stem}:make_network", seed=0).out_features == 4


def test_a_file_by_its_path_from_another_folder(folder, monkeypatch, tmp_path_factory):
    place, stem = folder
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    path = os.path.relpath(place / f"{stem}.py")
    assert make_network(f"{path}:make_network", seed=0).out_features == 4
    assert load_function(f"{place / stem}.py:make_data") is load_function(f"{path}:make_data")


def test_the_seed_decides_the_start_and_nothing_else(folder):
    _, stem = folder
    before = torch.get_rng_state()
    first, again, other = (
        make_network(f"{stem}:make_network", seed=seed).weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss_of_a_network_at_a_path_is_a_function_of_its_weights(folder, dtype):
    _, stem = folder
    network, data = f"{stem}:make_network", make_data(f"{stem}:make_data", seed=0)
    objective = make_objective(network, "cross_entropy", data, seed=3, dtype=dtype)
    module = make_network(network, seed=3).to(dtype)
    inputs, labels = data
    expected = torch.nn.functional.cross_entropy(module(inputs.to(dtype)), labels)
    assert objective.start.dtype == dtype
    torch.testing.assert_close(objective.value(objective.start), expected.detach())
    other = make_objective(network, "cross_entropy", data, seed=4, dtype=dtype)
    assert not torch.equal(objective.start, other.start)


def test_shapes_of_inputs_of_each_kind():
    pair = torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64)
    assert shapes(pair[1]) == "(5,), `torch.int64`"
    assert shapes(dict(zip("ab", pair, strict=True))) == shapes(pair)
    assert shapes(None) == "NoneType"


def test_data_may_be_arrays(folder):
    place, stem = folder
    (place / f"{stem}_arrays.py").write_text(
        "import numpy as np\ndef make():\n    return [np.eye(3), np.arange(3)]\n"
    )
    inputs, targets = make_data(f"{stem}_arrays:make", seed=0)
    assert inputs.dtype == torch.float64
    assert targets.tolist() == [0, 1, 2]
    assert np.asarray(inputs).shape == (3, 3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_colon", "write package.module:function"),
        ("module:", "write package.module:function"),
        ("module:two words", "write package.module:function"),
        ("absent_module:make", "there is no module 'absent_module', neither in .* nor installed"),
        ("os.absent:make", "there is no module 'os.absent'"),
        ("absent.py:make", "there is no file .*absent.py"),
        ("STEM:make_netwrok", "has no 'make_netwrok'; did you mean make_network"),
        ("STEM.py:qqq", "it has torch, WIDTH, number, make_network, make_data"),
        ("STEM:number", "is a int, must be a function or a class"),
        ("gfgd..objective:Objective", "importing it failed|there is no module"),
    ],
)
def test_what_cannot_be_loaded(folder, path, message):
    path = path.replace("STEM", folder[1])
    with pytest.raises(ValueError, match=rf"network = .*{message}"):
        load_function(path, "network")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import absent_dependency", "ModuleNotFoundError: No module named 'absent_dependency'"),
        ("def make(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("form", ["{}:make", "{}.py:make"])
def test_a_module_that_does_not_import(folder, source, message, form):
    place, stem = folder
    name = f"{stem}_broken"
    (place / f"{name}.py").write_text(source)
    for _ in range(2):  # nothing half imported is left behind
        with pytest.raises(ValueError, match=f"importing it failed: {message}"):
            load_function(form.format(name))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "returned a int, no torch.nn.Module"),
        ("return torch.nn.ReLU", "returned the class ReLU, no torch.nn.Module"),
        ("return torch.nn.Linear(2, 3).weight", "returned a Parameter, no torch.nn.Module"),
        ("raise RuntimeError('no luck')", "without arguments failed: RuntimeError: no luck"),
    ],
)
def test_a_network_that_is_none(folder, body, message):
    place, stem = folder
    name = f"{stem}_{abs(hash(body))}"
    (place / f"{name}.py").write_text(f"import torch\ndef make():\n    {body}\n")
    with pytest.raises(ValueError, match=message):
        make_network(f"{name}:make", seed=0)


def test_a_factory_that_wants_arguments(folder):
    with pytest.raises(ValueError, match="without arguments failed: TypeError"):
        make_network("torch.nn:Linear", seed=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3", "returned a int; must return a pair"),
        ("torch.zeros(2, 2)", "returned a Tensor; must return a pair"),
        ("(torch.zeros(2), 'two')", "targets are a str; must be a tensor"),
        ("(torch.zeros(2), torch.zeros(3))", r"returned tensors of shapes \(2,\), \(3,\)"),
        ("(torch.zeros(0, 2), torch.zeros(0))", "must have a row for a sample"),
        ("(torch.tensor(1.0), torch.zeros(3))", "must have a row for a sample"),
        ("(torch.full((2, 1), torch.nan), torch.zeros(2))", "inputs: must be finite"),
    ],
)
def test_data_that_are_none(folder, value, message):
    place, stem = folder
    name = f"{stem}_{abs(hash(value))}"
    (place / f"{name}.py").write_text(f"import torch\ndef make():\n    return {value}\n")
    with pytest.raises(ValueError, match=message):
        make_data(f"{name}:make", seed=0)


def test_inputs_may_be_a_tuple_or_a_dict_and_targets_none(folder):
    place, stem = folder
    (place / f"{stem}_several.py").write_text(
        "import torch, numpy as np\n"
        "def pair(): return (torch.ones(3, 2), np.arange(3)), np.zeros(3, dtype=np.uint8)\n"
        "def named(): return {'tokens': np.arange(3), 'mask': [[1.0], [0.0], [1.0]]}, None\n"
        "def unequal(): return {'tokens': np.arange(3), 'mask': [1.0]}, None\n"
    )
    inputs, targets = make_data(f"{stem}_several:pair", seed=0)
    assert [tuple(one.shape) for one in inputs] == [(3, 2), (3,)]
    assert targets.dtype == torch.int64
    inputs, targets = make_data(f"{stem}_several:named", seed=0)
    assert inputs["mask"].shape == (3, 1)
    assert targets is None
    with pytest.raises(ValueError, match=r"shapes \(3,\), \(1,\)"):
        make_data(f"{stem}_several:unequal", seed=0)


def test_a_module_itself_is_no_factory(folder):
    place, stem = folder
    (place / f"{stem}_made.py").write_text("import torch\nnet = torch.nn.Linear(2, 3)\n")
    with pytest.raises(ValueError, match=r"network = .* is a Linear itself; name a function that"):
        load_factory(f"{stem}_made:net", "network")
    with pytest.raises(ParameterError, match="is a Linear itself"):
        validate(CHAPTER, {"network": f"{stem}_made:net"})


def test_of_a_class_of_losses_an_instance_is_made():
    loss = load_loss("torch.nn:CrossEntropyLoss")
    assert isinstance(loss, torch.nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match="is a class, and making it without arguments failed"):
        load_loss("torch.nn:AdaptiveLogSoftmaxWithLoss")


def test_losses_by_name_and_by_path():
    assert load_loss("mse") is torch.nn.functional.mse_loss
    assert load_loss("torch.nn.functional:huber_loss") is torch.nn.functional.huber_loss
    with pytest.raises(ValueError, match="loss = 'crossentropy': must be 'cross_entropy', 'mse'"):
        load_loss("crossentropy")


def test_the_installed_command_finds_modules_of_the_working_directory(folder):
    """A console script has its own folder on the path, not the one that it is called in."""
    place, stem = folder
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]\n"
        "from gfgd.book.importing import make_network\n"
        f"print(make_network('{stem}:make_network', seed=0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=place, capture_output=True, text=True
    )
    assert "Linear(in_features=2, out_features=4" in done.stdout, done.stderr


def test_the_chapter_refuses_what_it_cannot_load_before_it_runs(folder):
    _, stem = folder
    typed = validate(CHAPTER, {"network": f"{stem}:make_network", "data": f"{stem}.py:make_data"})
    assert typed["network"] == f"{stem}:make_network"
    with pytest.raises(ParameterError, match=r"data = .*did you mean make_data"):
        validate(CHAPTER, {"network": f"{stem}:make_network", "data": f"{stem}:make_dat"})
    with pytest.raises(ParameterError, match="there is no module 'absent_module'"):
        validate(CHAPTER, {"network": "absent_module:make"})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit", r"network = .*ended Python \(SystemExit\(\)\); keep what runs it"),
        ("import sys; sys.exit(4)", r"ended Python \(SystemExit\(4\)\)"),
    ],
)
def test_a_module_that_ends_python_is_an_error_of_the_command(folder, capsys, script, message):
    place, stem = folder
    (place / f"{stem}_ends.py").write_text(script)
    for path in (f"{stem}_ends.py:make", f"{stem}_ends:make"):
        assert cli.main(["run", str(CHAPTER), "--output", "o.ipynb", "-p", "network", path]) == 2
        assert re.search(message, capsys.readouterr().err)


def test_a_function_that_ends_python_is_named(folder):
    place, stem = folder
    (place / f"{stem}_ends.py").write_text("def make(): raise SystemExit(3)")
    with pytest.raises(ValueError, match="calling it without arguments failed: SystemExit: 3"):
        make_network(f"{stem}_ends:make", seed=0)


def test_a_module_that_reads_a_command_line_reads_none_of_ours(folder):
    place, stem = folder
    (place / f"{stem}_args.py").write_text(
        "import argparse, sys\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--width', type=int, default=7)\n"
        "width = parser.parse_args().width\ndef make(): return width\n"
    )
    before = sys.argv
    assert load_function(f"{stem}_args:make")() == load_function(f"{stem}_args.py:make")() == 7
    assert sys.argv is before


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "mixed"])
def test_the_chapter_runs_in_a_folder_that_has_a_module_and_no_checkout(
    folder, dtype, monkeypatch, capsys
):
    def no_checkout():
        raise UsageError("no checkout")

    monkeypatch.setattr(commands, "find_root", no_checkout)
    place, stem = folder
    small = {"iterations": 20, "recordings": 10, "spectrum_times": 5, "dtype": dtype}
    own = {"network": f"{stem}:make_network", "data": f"{stem}.py:make_data"}
    chosen = [word for name, value in (own | small).items() for word in ("-p", name, str(value))]
    assert cli.main(["run", str(CHAPTER), *chosen]) == 2
    assert "no checkout" in capsys.readouterr().err
    assert cli.main(["run", str(CHAPTER), "--output", "out.ipynb", *chosen]) == 0
    notebook = nbformat.read(place / "out.ipynb", as_version=4)
    assert read_claims(notebook) == ()  # claims are about the example network only
    shown = "".join(
        output["data"]["text/markdown"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    )
    assert "keeps the distance" in shown
