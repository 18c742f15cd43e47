import json
from dataclasses import replace

import pytest
import torch

from gfgd import gradient_descent
from gfgd.imperfections.budget import Link
from gfgd.paper import partings
from gfgd.paper.archive import FLOW, ArchiveError, descent_name
from gfgd.paper.long_runs import Plan, Protocol, make_archive
from gfgd.problems import datasets
from tests.small_problems import both_sides

SMALL = Protocol("digits", step_size=1e-2, iterations=40, recordings=20)


def test_pairs_that_are_looked_at():
    names = [FLOW, "GF, looser", *(descent_name(r) for r in (1, 2, 5))]
    names += [descent_name(1, "float32"), descent_name(2, "float32")]
    pairs = partings.relevant_pairs(names)
    assert (descent_name(1), descent_name(5)) in pairs
    assert (descent_name(1, "float32"), descent_name(2, "float32")) in pairs
    assert (FLOW, "GF, looser") in pairs and (FLOW, descent_name(5)) in pairs
    assert (descent_name(1), FLOW) in pairs and (FLOW, descent_name(1)) not in pairs
    assert partings.HELD in pairs
    assert (descent_name(2), descent_name(5)) not in pairs
    assert not any("float32" in left and "float64" in right for left, right in pairs)


def test_runs_and_the_gate_that_parts_them():
    network, column, _, (above, below) = both_sides("branches")
    farther = 2 * above.points[0] - below.points[0]
    runs = {
        "a": above,
        "b": gradient_descent(network, farther, step_size=1e-3, iterations=40),
        "c": below,
    }
    found = partings.partings(network, runs, [("a", "b"), ("a", "c"), ("a", "a")])
    assert set(found.pairs) == {("a", "b"), ("a", "c")}
    pair = found.pairs["a", "c"]
    torch.testing.assert_close(pair.distance, above.distance_to(below))
    assert abs(float(pair.rest[-1])) < 0.05 * float(pair.distance[-1])
    (link,) = pair.links
    assert (link.sample, link.column) == (3, column)
    z = found.inputs[3, column]
    assert (z["a"][-1] > 0) and (z["b"][-1] > 0) and (z["c"][-1] <= 0)
    short = Protocol("digits", step_size=1e-3, iterations=40, recordings=40)
    other = gradient_descent(
        network, above.points[0], step_size=5e-4, iterations=80, record_every=2
    )
    held = partings.held_distances(network, above.points[0], other, pair.links, short)
    assert set(held) == {"links", "all"}
    assert float(held["all"].max()) < 1e-3


def test_the_file_is_made_read_and_added_to(tmp_path, monkeypatch):
    images, labels = datasets.load("digits")
    monkeypatch.setattr(datasets, "load", lambda name: (images[:40], labels[:40]))

    def made(ratios) -> partings.Partings:
        plan = Plan(dtypes=["float64"], ratios=ratios, flows=(), spectrum=False)
        make_archive(tmp_path, names=[partings.NETWORK], of=["2"], plan=plan, protocol=SMALL)
        partings.make(tmp_path, of=["2"], protocol=SMALL)
        return partings.read("2", tmp_path / "data" / "archive")

    found = made([1, 2])
    assert set(found.pairs) == {partings.HELD}
    assert set(found.held) == {"links", "all"}
    assert found.times.tolist() == pytest.approx(SMALL.times.tolist())
    for scratch in (tmp_path / "_build" / "archive").iterdir():
        for path in scratch.glob("*2, float64*"):
            path.unlink()  # a pair stays when the weights of its runs are gone
    more = made([1, 2, 5])
    assert set(more.pairs) == {partings.HELD, (descent_name(1), descent_name(5))}
    before, after = found.pairs[partings.HELD], more.pairs[partings.HELD]
    assert torch.equal(before.distance, after.distance)
    content = json.loads((tmp_path / "data" / "archive" / partings.FILE).read_text("utf-8"))
    assert content["starts"]["2"]["commit"].startswith("unknown")


def test_what_is_written_is_read(tmp_path):
    times = torch.arange(3, dtype=torch.float64)
    link = Link(5, 60, 2, 10, 0.1, 2.0, 0.4)
    pair = partings.Pair("a", "b", times, times / 2, times / 4, -times / 8, (link,))
    kept = partings.Partings(times, {("a", "b"): pair}, {(5, 60): {"a": -times}}, {"all": times})
    partings._store(tmp_path, "1", kept, tmp_path)
    partings._store(tmp_path, "2", replace(kept, held={}), tmp_path)
    assert partings.available(tmp_path) == ["1", "2"]
    found = partings.read("1", tmp_path)
    assert found.pairs["a", "b"].links == (link,)
    torch.testing.assert_close(found.pairs["a", "b"].rest, times * 3 / 8)
    torch.testing.assert_close(found.inputs[5, 60]["a"], -times)
    assert set(found.held) == {"all"} and partings.read("2", tmp_path).held == {}


def test_nothing_to_read(tmp_path):
    assert partings.available(tmp_path) == []
    with pytest.raises(ArchiveError, match="the paper's start: is not in"):
        partings.read(folder=tmp_path)
