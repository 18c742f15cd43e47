"""The benchmarks run, on tiny problems, and compare things that are the same. Nothing is timed."""

import json
import math
import re

import numpy as np
import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import (
    accuracy,
    convolution,
    descent,
    large_steps,
    measure,
    memory,
    scaling,
    spectrum,
    vectors,
)
from gfgd import gradient_descent, networks
from gfgd.paper import archive
from gfgd.problems import landscapes
from gfgd.spectrum import extreme_eigenvalues


@pytest.fixture
def data():
    """Eight random images of 28 × 28 bytes, normalised as MNIST is, one of each label."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, 784)).double()
    return (pixels / 255 - 0.1307) / 0.3081, torch.arange(8)


@pytest.fixture
def empty_archive(monkeypatch):
    def read(network, **_):
        raise archive.ArchiveError(f"{network}: is not in the archive")

    monkeypatch.setattr(archive, "read", read)


def test_quartiles_and_what_is_reached():
    one = measure.Measured.median("a", [3.0, 1.0, 2.0, 4.0, 5.0], at_least=3)
    assert (one.value, one.low, one.high, one.reached) == (3, 2, 4, True)
    assert measure.Measured.count("b", 2.0, at_most=1.9).reached is False
    assert measure.Measured.count("c", 2.0).reached is None
    lines = measure.summary([one, measure.Measured.count("b", 2.0, at_most=1.9)]).splitlines()
    assert lines[1].split() == ["a", "3", "2", "to", "4", "≥", "3", "yes"]
    assert lines[2].split() == ["b", "2", "≤", "1.9", "NO"]


def test_functions_take_turns():
    calls = []
    taken = measure.alternate(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * 3  # a round to warm up is not counted
    assert [len(one) for one in taken] == [2, 2]


def test_runge_kutta_is_of_order_four():
    objective = landscapes.quadratic(1.0, 3.0).objective
    point = torch.tensor([1.0, -2.0], dtype=torch.float64)
    z = -0.1 * torch.tensor([1.0, 3.0], dtype=torch.float64)
    taylor = sum(z**k / math.factorial(k) for k in range(5))
    torch.testing.assert_close(accuracy.rk4_step(objective, point, 0.1), taylor * point)


def test_steps_of_runge_kutta_stay_below_one_over_the_sharpness():
    objective = landscapes.quadratic(1.0, 30.0).objective
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    times = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64)
    flow, products = accuracy.rk4_at_sharpness(objective, start, times)
    assert flow.counts["gradients"] == 4 * (15 + 12)
    assert products == 4  # two dense solves
    exact = start * torch.exp(-times[:, None] * torch.tensor([1.0, 30.0]))
    torch.testing.assert_close(flow.points, exact, rtol=0, atol=2e-2)


def test_accuracy_of_the_flow_and_of_its_stand_in(data, empty_archive):
    table = accuracy.accuracy(*data, 2, end=0.02, recordings=2, live=True)
    found = {one.name: one.value for one in table.measured}
    assert found["(a) gradients, GD, η₀/20, float64 / here"] > 1
    assert found["(a) error, GD, η₀/20, float64 / here"] > 1
    assert len(table.rows) == 5
    without = accuracy.accuracy(*data, 2, end=0.02, recordings=2)
    assert len(without.rows) == 3
    assert "not in the archive" in without.notes[-1]


def test_the_stand_in_is_read_from_the_archive(monkeypatch, tmp_path):
    names = (archive.FLOW, archive.descent_name(20, "float32"))
    distances = torch.zeros(2, 2, 3, dtype=torch.float64)
    distances[0, 1] = distances[1, 0] = torch.tensor([0.0, 2.0, 1.0])
    plain = torch.zeros(2, 3, dtype=torch.float64)
    kept = archive.Archived(
        "fully_connected_linear",
        "1",
        names,
        torch.arange(3.0, dtype=torch.float64),
        plain,
        distances,
        plain,
        distances,
        plain,
        None,
        {names[1]: {"gradients": 77, "seconds": 5.0, "finished": "2026-11-25 01:02 UTC"}},
    )
    archive.write(kept, tmp_path)
    read = archive.read
    monkeypatch.setattr(
        archive, "read", lambda name, start: read(name, start=start, folder=tmp_path)
    )
    run = accuracy.archived("float32")
    assert run == accuracy.Run(77, 0, 2.0, 5.0, "archive, 2026-11-25")
    assert accuracy.archived("float64") is None


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_papers_style_takes_the_same_steps(data, activation):
    images, labels = data
    objective = networks.fully_connected(
        images, labels, hidden=(50, 50), activation=activation, dtype=torch.float32
    )
    module = descent.paper_style(objective, images, labels)(5)
    ours = gradient_descent(
        objective, objective.initial(1), step_size=descent.STEP_SIZE, iterations=5
    )
    theirs = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    moved = (ours.points[-1] - ours.points[0]).norm()
    assert (theirs - ours.points[-1]).norm() < 1e-3 * moved


def test_iterations_of_descent(data):
    table = descent.descent(*data, 2)
    assert len(table.measured) == 2 * 3 + 1
    assert all(one.value > 0 and one.low <= one.value <= one.high for one in table.measured)
    assert len(table.rows) == 4 + 5


def test_all_find_the_smallest_eigenvalue(data):
    table = spectrum.spectrum(*data, 2, times=2, end=0.05)
    assert len(table.rows) == 4
    assert all(float(row[3]) <= 1.1e-2 for row in table.rows)
    assert all(float(row[4]) < 1e-3 for row in table.rows)
    # Two times are both searched from fresh starts: nothing is saved on them, and more is known.
    assert all(one.value > 0.1 for one in table.measured)


def test_peers_against_a_dense_solution():
    objective = networks.fully_connected(
        torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 3, hidden=(5,)
    )
    point = objective.initial(0)
    dense = extreme_eigenvalues(objective, point)
    start = np.random.default_rng(0).standard_normal(objective.dimension)
    for solver in spectrum.SOLVERS.values():
        hessian = spectrum.Hessian(objective, point)
        value, vector = solver(hessian, start, 1e-3 * abs(float(dense.smallest)))
        assert value == pytest.approx(float(dense.smallest), rel=1e-3)
        assert hessian.products > 1
        assert abs(vector @ dense.smallest_vectors[0].numpy()) > 0.99


def test_growth_of_time(data):
    table = scaling.scaling(*data, 2, widths=(5, 6), depths=(2,), samples=(4, 8))
    assert len(table.rows) == 2 + 1 + 2 + 1
    assert all(math.isfinite(one.value) for one in table.measured)


def test_exponents_are_slopes():
    sizes = (10, 20, 40)
    times = [(s**1.5, 3.0 * s) for s in sizes]
    assert scaling.exponents(sizes, times) == pytest.approx([1.5, 1.0])


def test_operations_of_a_gradient(data):
    objective = scaling.network(*data, (5,))
    # Outputs and weights' gradients in both layers, the inputs' gradient in the second.
    assert scaling.operations(objective) == 2 * 8 * (2 * 784 * 5 + 3 * 5 * 8)


def test_memory_is_that_of_a_new_process():
    ballast = np.ones(50_000_000)  # 400 MB
    before, after = memory.measure_apart(100, (5,), 10)
    assert 5e7 < before <= after
    assert after < ballast.nbytes


@pytest.mark.slow
def test_vectors_are_those_that_descent_keeps():
    """The iterate, its successor and the gradient at least; a flow's seven stages are not there."""
    assert 1 <= vectors.measure_apart("GD") < 5


def test_convolutional_ratios_are_those_of_its_table(data):
    table = convolution.convolution(*data, 2)
    assert len(table.rows) == len(table.measured) == 4
    for row, one in zip(table.rows, table.measured, strict=True):
        shown = [float(number) for number in re.findall(r"[\d.]+", row[2])]
        assert shown == pytest.approx([one.value, one.low, one.high], rel=1e-2)
        assert one.at_least == 1.5


def test_the_command_prints_ratios_and_keeps_them(monkeypatch, tmp_path, data, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench.datasets, "load", lambda name: data)
    bench.main(["b", "--rounds", "2"])
    printed = capsys.readouterr().out
    assert "seconds an iteration, relu" in printed and "threads: " in printed
    kept = json.loads((tmp_path / bench.RESULTS).read_text(encoding="utf-8"))
    assert [table["part"] for table in kept["tables"]] == ["b"]
    assert kept["rounds"] == 2
    assert [path.name for path in (tmp_path / "_build").iterdir()] == ["benchmarks.json"]


@pytest.mark.parametrize("arguments", [["z"], ["--rounds", "1"]])
def test_what_cannot_be_measured_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert arguments[-1] in capsys.readouterr().err


def test_the_flows_for_large_steps_share_a_stretch_at_the_edge(data, monkeypatch):
    monkeypatch.setattr(large_steps, "HIDDEN", (4,))
    monkeypatch.setattr(large_steps, "START_SCALE", 0.3)
    monkeypatch.setattr(large_steps, "WINDOW", 5)
    monkeypatch.setattr(large_steps, "RECORD_EVERY", 2)
    monkeypatch.setattr(large_steps, "ITERATIONS", 28)
    monkeypatch.setattr(large_steps, "STEP_SIZE", 0.8)
    monkeypatch.setattr(large_steps, "alternate", once)
    table = large_steps.large_steps(*data, rounds=2)
    assert [row[0] for row in table.rows] == [
        "central flow", "Rod Flow, one rod", "pair flow, order 1", "pair flow, order 2"
    ]  # fmt: skip
    found = {one.name: one for one in table.measured}
    assert found["(f) seconds, pair flow, order 2 / central flow"].at_most == 1
    assert 0 < found["(f) distance, pair flow, order 2 / central flow"].value < 10


def once(rounds, *functions, title=""):
    """Call each function once, and let each take two seconds twice."""
    for function in functions:
        function()
    return [(2.0, 2.0)] * len(functions)
