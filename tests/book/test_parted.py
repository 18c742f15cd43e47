import json

import pytest
import torch

from gfgd import gates, gradient_descent
from gfgd.archive import ArchiveError
from gfgd.book import parted
from tests.problems import small_network


def test_runs_and_the_gate_that_parts_them():
    network = small_network("relu")
    start = network.initial(1)
    runs = {
        name: gradient_descent(network, start + shift, step_size=0.05, iterations=60)
        for name, shift in {"a": 0.0, "b": 1e-3, "c": 0.3}.items()
    }
    found = parted.parted(network, runs)
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
            index = round(gate["time"] / 0.05)
            assert (z[row["left"]][index] > 0) != (z[row["right"]][index] > 0)
            column = gates.gates(network, left.points[index])[gate["sample"], gate["column"]]
            assert bool(column) == (z[row["left"]][index] > 0)
    assert any(row["gate"] for row in found["pairs"])
    json.dumps(found)  # plain numbers and names


def test_nothing_to_read(tmp_path, monkeypatch):
    images, labels = torch.randn(4, 3).double(), torch.arange(4) % 2
    monkeypatch.setattr("gfgd.datasets.load", lambda name: (images, labels))
    with pytest.raises(ArchiveError, match="has no runs"):
        parted.make(tmp_path)
