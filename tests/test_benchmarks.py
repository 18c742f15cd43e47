"""The benchmarks run, on tiny problems, and compare things that are the same. Nothing is timed."""

import dataclasses
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import (
    accuracy,
    convolution,
    descent,
    eigenvalue_peers,
    flow_peers,
    large_steps,
    measure,
    memory,
    peers,
    processes,
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
    assert len(table.measured) == 2 * (3 + 1)
    assert all(one.value > 0 and one.low <= one.value <= one.high for one in table.measured)
    assert len(table.rows) == 2 * 5
    assert [one.at_most for one in table.measured if "bare products" in one.name] == [1.1, 1.1]


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


def test_a_gradient_of_two_processes_is_that_of_one(data):
    images, labels = (torch.cat([one, one[:3]]) for one in data)  # 11 do not halve
    table = processes.processes(images, labels, 2, widths=(5,), samples=11)
    (row,), (clock, processor) = table.rows, table.measured
    assert float(row[5]) < 1e-12
    assert float(row[3]) == pytest.approx(clock.value, abs=0.006)
    assert float(row[4]) == pytest.approx(processor.value, abs=0.006)
    assert "11 images" in table.title


def test_as_many_images_as_given_where_there_is_no_mnist(data, monkeypatch, capsys):
    def missing():
        raise processes.datasets.DatasetError("no such folder")

    monkeypatch.setattr(processes.datasets, "mnist", missing)
    images, labels = processes.many(*data, 60_000)
    assert len(images) == len(labels) == 8
    assert "8 images are taken: no such folder" in capsys.readouterr().err
    assert len(processes.many(*data, 5)[0]) == 5


NOBODY = peers.Peer("Nobody", "nobodys-package", "nobodys_module")
SOMEBODY = peers.Peer("NumPy", "numpy", "numpy")


def test_a_missing_peer_is_named_with_the_remedy():
    found = peers.attempt(NOBODY, lambda: 1)
    assert found == peers.Nothing("not installed: pip install nobodys-package")
    assert NOBODY.title == "Nobody"
    assert peers.attempt(SOMEBODY, lambda: 1) == 1
    assert SOMEBODY.title == f"NumPy {np.__version__}"


def test_a_peers_failure_is_shown_with_its_message():
    def fail():
        raise RuntimeError("out of order\nand more")

    assert peers.attempt(SOMEBODY, fail) == peers.Nothing("failed: RuntimeError: out of order")
    with pytest.raises(RuntimeError, match="out of order"):  # an error here is no peer's
        peers.attempt(None, fail)


def test_pip_can_install_each_peer_as_a_group():
    project = Path(bench.__file__).parents[1] / "pyproject.toml"
    group = tomllib.loads(project.read_text(encoding="utf-8"))["dependency-groups"]["peers"]
    assert [one.split(">=")[0] for one in group] == [peer.package for peer in peers.PEERS]


@pytest.fixture
def no_peers(monkeypatch):
    monkeypatch.setattr(peers.Peer, "installed", property(lambda peer: False))


def test_eigenvalues_with_no_peer_installed(data, no_peers):
    small = {"hidden": (6, 5), "channels": (2, 3), "units": 8}
    table = eigenvalue_peers.eigenvalue_peers(*data, 2, **small)
    titles = [method.title for method in eigenvalue_peers.METHODS]
    assert [row[1] for row in table.rows] == 2 * titles
    missing = [row[-1] for row in table.rows if row[-1]]
    packages = ["pyhessian", "curvlinops-for-pytorch", "curvlinops-for-pytorch"]
    assert missing == [f"not installed: pip install {package}" for package in 2 * packages]
    solved = [row for row in table.rows if not row[-1]]
    assert len(solved) == 2 * 3
    assert all(0 < float(size) <= 1e-2 for row in solved for size in row[4:6] if size)
    products = {row[:2]: int(row[2]) for row in solved}
    found = {one.name: one.value for one in table.measured}
    for network in ("tanh", "CNN"):
        name = f"(g) Hv products, {network}, here, with bounds / here"
        wanted = products[network, "here, with bounds"] / products[network, "here"]
        assert found[name] == pytest.approx(wanted)
    assert len(found) == 2 * 2  # nothing is compared with what is not there


def outcome(products, residual, values=(-1.0, 5.0), seconds=1.0):
    """Return what a method found, with the same residual at both ends."""
    return eigenvalue_peers.Outcome(lambda: None, products, seconds, values, (residual, residual))


def test_the_best_setting_has_the_fewest_products_within_the_tolerance():
    few, some, many = outcome(5, 0.02), outcome(7, 0.01), outcome(9, 0.001)
    assert eigenvalue_peers.best([few, some, many]) is some
    assert eigenvalue_peers.best([outcome(3, 0.5), few]) is few


def test_what_takes_long_is_timed_once():
    ran = []

    def named(name, seconds):
        one = outcome(5, 0.01, seconds=seconds)
        return dataclasses.replace(one, run=lambda: ran.append(name))

    outcomes = {"short": named("short", 20.0), "long": named("long", 21.0)}
    taken = eigenvalue_peers.timed(outcomes | {"missing": peers.Nothing("")}, 2, "")
    assert ran == ["short"] * 3  # the first to warm up
    assert taken["long"] == (21, 21)
    assert len(taken["short"]) == 2 and "missing" not in taken


def test_only_what_found_the_extremes_is_compared():
    both, top, bounds, power, arpack, lobpcg = (method.title for method in eigenvalue_peers.METHODS)
    outcomes = {
        both: outcome(10, 0.01),
        top: outcome(8, 0.01, (None, 5.0)),
        bounds: peers.Nothing("failed"),
        power: outcome(20, 0.01, (None, -1.0)),
        arpack: outcome(15, 0.011),
        lobpcg: outcome(25, 0.009, (-0.995, 5.0)),
    }
    outermost = eigenvalue_peers.extremes(outcomes.values())
    assert outermost == (-1, 5)
    said = [eigenvalue_peers.complaint(one, outermost) for one in outcomes.values()]
    assert said == ["", "", "failed", "another eigenvalue", "residual not reached", ""]
    taken = dict.fromkeys(outcomes, (2.0,)) | {lobpcg: (3.0,)}
    found = eigenvalue_peers.comparison("net", outcomes, taken)
    assert [one.value for one in found] == [2.5, 1.5]
    assert [one.name.split(" / ")[1] for one in found] == [both, both]


def test_flows_with_no_peer_installed(data, no_peers, monkeypatch):
    monkeypatch.setattr(flow_peers, "EULER", ((0.1, 2),))
    table = flow_peers.flow_peers(*data, 2, hidden=(6, 5), end=0.02)
    here, higher, *missing = table.rows
    assert float(higher[5]) <= float(here[5])  # at the same error, or below
    packages = ("diffrax", "diffrax", "stable-solvers")
    assert [row[-1] for row in missing] == [f"not installed: pip install {one}" for one in packages]
    gradients, seconds = table.measured
    assert gradients.value == pytest.approx(int(higher[2]) / int(here[2]))
    assert seconds.value > 0


def test_the_loosest_tolerance_that_reaches_an_error():
    problem = flow_peers.Problem(None, None, 1.0, torch.zeros(2, dtype=torch.float64))
    method = flow_peers.Integrator(
        lambda rtol: torch.tensor([3.0, 4.0], dtype=torch.float64) * rtol, lambda rtol: 1
    )
    tolerances = flow_peers.TOLERANCES
    for place in (0, 7, len(tolerances) - 1):
        target = 5 * tolerances[place] * 1.01
        assert flow_peers.fitted(problem, lambda: method, target) == (method, tolerances[place])
    with pytest.raises(ValueError, match=r"above 1\.0e-12"):
        flow_peers.fitted(problem, lambda: method, 1e-12)


def test_products_count_as_much_as_gradients_beside_the_flow():
    found = flow_peers.comparison(
        {
            flow_peers.HERE: flow_peers.Run("", 100, 0, 1e-7, (1.0, 2.0, 3.0)),
            "other order": flow_peers.Run("", 150, 0, 1e-7, (3.0, 3.0, 3.0)),
            "first order": flow_peers.Run("", 20, 280, 1e-3, (8.0,)),
            "missing": peers.Nothing("not installed"),
        }
    )
    assert [one.value for one in found] == pytest.approx([1.5, 1.5, 3, 4, 1e4])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what curvlinops imports
@pytest.mark.parametrize("method", eigenvalue_peers.METHODS, ids=lambda method: method.name)
def test_each_package_solves_a_problem_with_a_dense_solution(data, method):
    if method.peer is not None:
        pytest.importorskip(method.peer.module)
    problem = eigenvalue_peers.tanh_problem(data[0][:, ::200], data[1], (6,))
    dense = torch.linalg.eigvalsh(problem.objective.hessian(problem.point))
    found = eigenvalue_peers.settled(problem, method)
    assert found.products > 1 and found.worst <= 1e-2
    low, high = found.values
    assert low is None or low == pytest.approx(float(dense[0]), rel=1e-2)
    assert min(abs(high - one) for one in dense[[0, -1]]) < 1e-2 * abs(high)


def test_jax_has_the_same_gradient(data):
    jax = pytest.importorskip("jax")
    pytest.importorskip("diffrax")
    with flow_peers.one_thread():
        problem, _ = flow_peers.posed(*data, (6, 5), 0.02)
        method = flow_peers.with_diffrax(problem, "Tsit5")
        theirs = jax.grad(flow_peers.loss_in_jax(problem.objective))(problem.start.numpy())
        mine = problem.objective.gradient(problem.start).numpy()
        assert np.abs(np.array(theirs) - mine).max() < 1e-14
        assert problem.error(method.solve(1e-8)) < 1e-7
        assert method.count(1e-4) % 6 == 1  # of seven stages a step takes the last one over


def test_exponential_euler_is_of_first_order(data):
    pytest.importorskip("stable_solvers")
    problem, _ = flow_peers.posed(*data, (6, 5), 0.02)
    coarse, fine = (flow_peers.exponential_euler(problem, step, 2) for step in (2e-3, 1e-3))
    assert (coarse.gradients, fine.gradients) == (10, 20)
    assert coarse.products % 3 == fine.products % 3 == 0
    assert coarse.error / fine.error == pytest.approx(2, rel=0.2)
