"""One page on a reader's own network, end to end."""

import json
import re
import sys

import nbformat
import pytest
import torch

from gfgd import Objective, gradient_descent, gradient_flow
from gfgd.book import commands
from gfgd.book.cli import main

NETWORK = """
import torch

def make_network():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))

def make_data():
    inputs = torch.linspace(-1, 1, 20).reshape(10, 2)
    return inputs, inputs.prod(1, keepdim=True)

def make_batches():
    return torch.utils.data.TensorDataset(*make_data())

def make_nothing():
    return 3

def make_dropout():
    return torch.nn.Sequential(make_network(), torch.nn.Dropout(0.5))

def make_without_targets():
    return make_data()[0], None
"""
STEP, SEED = 0.05, 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def report(network="make_network", data="make_data", *options):
    names = [f"my_net.py:{name}" for name in (network, data)]
    return main(["report", *names, "--step-size", str(STEP), *options])


def own_run():
    """Return the distance and the way at the report's times, by the library alone."""
    scope: dict = {}
    exec(NETWORK, scope)
    torch.manual_seed(SEED)
    module = scope["make_network"]().double()
    inputs, targets = (one.double() for one in scope["make_data"]())
    objective = Objective.from_module(module, torch.nn.functional.mse_loss, inputs, targets)
    descent = gradient_descent(objective, objective.start, step_size=STEP, iterations=50)
    flow = gradient_flow(objective, objective.start, descent.times, rtol=1e-9, atol=1e-11)
    return descent, flow


@pytest.mark.slow
def test_the_report_of_a_tiny_network(folder, capsys):
    options = ("--iterations", "50", "--seed", str(SEED), "--output", "out/mine.html")
    assert report("make_network", "make_batches", *options) == 0
    said = capsys.readouterr().out
    page = (folder / "out" / "mine.html").read_text(encoding="utf-8")
    found = json.loads((folder / "out" / "mine.json").read_text(encoding="utf-8"))
    nbformat.validate(nbformat.read(folder / "out" / "mine.ipynb", as_version=4))
    descent, flow = own_run()
    numbers = found["numbers"]
    expected = {
        "distance": descent.distance_to(flow).max(),
        "travel": flow.distance_from_start().max(),
        "loss-at-start": descent.losses[0],
        "loss-at-end": descent.losses[-1],
    }
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(float(value), rel=1e-4), name
    assert numbers["wanted-distance"] == pytest.approx(0.01 * numbers["travel"])
    assert numbers["distance-with-that"] <= numbers["wanted-distance"]
    assert numbers["parameters"] == 13
    kept = numbers["distance"] <= numbers["wanted-distance"]
    assert found["answer"].startswith("Yes, to 1" if kept else "Not to 1")
    assert found["answer"] in said
    assert found["parameters"]["loss"] == "mse"
    assert any(line.startswith("Horizon.") for line in found["against"])
    assert "Commit" in found["how_it_was_made"]
    order = [
        "Does gradient flow represent gradient descent",
        "of the way that gradient flow travels",
        "The step size for a distance",
        "The pictures",
        "What speaks against it",
        "How this page was made",
    ]
    body = page[page.index("<body") :]
    words = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", body))
    places = [words.index(one) for one in order]
    assert places == sorted(places)
    assert body.count('class="gfgd-wide"') == body.count('class="gfgd-narrow"') == 4
    assert "|---" not in body and body.count("<table") == 3
    assert not re.search(r"""(src|href)=.(?!data:|#)""", body)
    assert "Exercise" not in page and len(page.encode()) < 2e6


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("make_net", "make_data"), "has no 'make_net'; did you mean make_network"),
        (("make_nothing", "make_data"), "network = .* returned a int, no torch.nn.Module"),
        (("make_network", "make_nothing"), "returned a int; must return a pair"),
        (("make_dropout", "make_data"), "draws random numbers"),
        (("make_network", "make_without_targets"), "give --loss"),
        (("make_network", "make_data", "--loss", "cross"), "loss = 'cross': must be"),
        (("make_network", "make_data", "--iterations", "130"), "multiple of 50, such as 150"),
        (("make_network", "make_data", "--output", "folder.html"), "folder.html: is a folder"),
        (("make_network", "make_data", "--output", "page.txt"), "a name that ends in .html"),
    ],
)
def test_mistakes_are_told_before_anything_runs(folder, capsys, monkeypatch, arguments, complaint):
    (folder / "folder.html").mkdir()
    monkeypatch.setattr(commands, "execute_chapter", None)
    assert report(*arguments) == 2
    said = capsys.readouterr().err
    assert re.search(complaint, said), said


def test_a_page_that_cannot_be_written_loses_no_run(folder, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "execute_chapter", lambda chapter, output, values: None)
    monkeypatch.setattr("gfgd.book.one_page.network_report.write_report", full)
    assert report() == 1
    assert "No space left on device; the run is kept in" in capsys.readouterr().err


def test_the_loss_suits_the_targets(folder, monkeypatch):
    given = []

    def run(chapter, output, values):
        given.append(values)

    monkeypatch.setattr(commands, "execute_chapter", run)
    monkeypatch.setattr("gfgd.book.one_page.network_report.write_report", lambda *_: "")
    assert report() == report("make_network", "make_batches") == 0
    assert [values["loss"] for values in given] == ["mse", "mse"]
