import json

import pytest
import torch

from gfgd import gradient_descent
from gfgd.imperfections import gates
from gfgd.paper import partings
from gfgd.paper.archive import ArchiveError
from tests.small_problems import both_sides


def test_runs_and_the_gate_that_parts_them():
    network, *_, (above, below) = both_sides("branches")
    farther = 2 * above.points[0] - below.points[0]
    runs = {
        "a": above,
        "b": gradient_descent(network, farther, step_size=1e-3, iterations=40),
        "c": below,
    }
    found = partings.parted(network, runs)
    assert [(row["left"], row["right"]) for row in found["pairs"]] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for row in found["pairs"]:
        left, right = runs[row["left"]], runs[row["right"]]
        assert row["distance"] == pytest.approx(float(left.distance_to(right)[-1]))
        if (gate := row["gate"]) is not None:
            assert gate["velocity_on"] > 0 > gate["velocity_off"]
            assert gate["share"] <= row["distance"]
            z = found["inputs"][f"{gate['sample']}, {gate['column']}"]
            index = round(gate["time"] / 1e-3)
            assert (z[row["left"]][index] > 0) != (z[row["right"]][index] > 0)
            column = gates.gates(network, left.points[index])[gate["sample"], gate["column"]]
            assert bool(column) == (z[row["left"]][index] > 0)
    assert [row["gate"] is not None for row in found["pairs"]] == [False, True, True]
    json.dumps(found)  # plain numbers and names


def test_nothing_to_read(tmp_path, monkeypatch):
    images, labels = torch.randn(4, 3).double(), torch.arange(4) % 2
    monkeypatch.setattr("gfgd.problems.datasets.load", lambda name: (images, labels))
    with pytest.raises(ArchiveError, match="has no runs"):
        partings.make(tmp_path)
