"""The gallery: networks as their users write them, what is archived of them, and a report."""

import json
import math
from typing import Any

import pytest
import torch

from examples.gallery import __main__ as gallery
from examples.gallery import networks
from gfgd import gradient_flow
from gfgd.book.cli import main
from gfgd.modules import ModuleObjective

CHEAPEST = "gru"


@pytest.mark.parametrize("name", networks.GALLERY)
def test_the_library_takes_each_as_it_is(name):
    objective = gallery.loss_of(name, seed=1)
    objective.require_derivatives(2)
    torch.manual_seed(1)
    module = getattr(networks, name)()
    trained = {id(one): one.numel() for one in module.parameters() if one.requires_grad}
    assert objective.dimension == sum(trained.values()) < 5000
    assert objective.value(objective.start) == gallery.loss_of(name, seed=1).value(objective.start)


def test_what_they_are_named_for_is_there():
    gpt: Any = networks.tiny_gpt()
    assert gpt.head.weight is gpt.embedding.weight
    lora = networks.lora()
    frozen = [name for name, one in lora.named_parameters() if not one.requires_grad]
    assert frozen == ["0.frozen.weight", "0.frozen.bias", "2.frozen.weight", "2.frozen.bias"]
    with torch.no_grad():
        images = networks.images()[0]
        cnn: Any = networks.cnn_batch_norm()
        first, normalise, *_ = cnn
        outputs = first(images)
    assert not cnn.training
    torch.testing.assert_close(
        normalise.running_mean, outputs.mean((0, 2, 3)), rtol=0.01, atol=1e-3
    )
    torch.testing.assert_close(normalise.running_var, outputs.var((0, 2, 3)), rtol=0.01, atol=0.01)


def of_one_weight(loss, start):
    """Return a loss of the single weight of a network, which starts at `start`."""
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(module.weight, start)
    one = torch.ones(1, 1, dtype=torch.float64)
    return ModuleObjective(module, lambda outputs: loss(outputs).sum(), one)


def test_the_distance_and_the_fewest_iterations_on_a_bowl(monkeypatch):
    monkeypatch.setattr(gallery, "TRIED", gallery.TRIED[:24])  # up to 54
    # The flow of ½θ² is e^{−t}, and its descent (1 − η)^k.
    horizon, objective = 2.0, of_one_weight(lambda w: 0.5 * w**2, 1.0)
    flow = gallery.long_flow(objective, horizon, tolerance=1e-9)

    def distance(iterations):
        steps = gallery.compared(iterations).double()
        size = horizon / iterations
        return float(((1 - size) ** steps - torch.exp(-size * steps)).abs().max())

    for iterations in (8, 28, 49):
        found = gallery.largest_distance(objective, flow, iterations)
        assert found == pytest.approx(distance(iterations), abs=1e-7)
    wanted = next(n for n in gallery.TRIED if distance(n) <= 0.01)
    for guess in (1.0, wanted, 900.0):
        fewest, more = gallery.fewest_tried(objective, flow, 0.01, guess)
        assert fewest == wanted
        assert more["kept"] == pytest.approx(distance(wanted), abs=1e-7)
        assert more["failed_at"] == gallery.TRIED[gallery.TRIED.index(wanted) - 1]
    assert gallery.fewest_tried(objective, flow, 0.0, 9.0)[0] is None


def test_a_run_that_diverges_is_infinitely_far():
    objective = of_one_weight(lambda w: 0.25 * w**4, 10.0)
    flow = gradient_flow(objective, objective.start, gallery.times_of(5, 1.0))
    assert gallery.largest_distance(objective, flow, 5) == math.inf


def archived():
    return json.loads(gallery.RESULT.read_text(encoding="utf-8"))


def test_the_archive_has_each_network_from_each_seed_and_its_report():
    kept = archived()
    assert kept["settings"] == {"step_size": 0.1, "iterations": 50, "part": 0.01}
    assert list(kept["networks"]) == list(networks.GALLERY)
    for name, entry in kept["networks"].items():
        assert list(entry["seeds"]) == [str(seed) for seed in gallery.SEEDS], name
        for found in [*entry["seeds"].values(), entry["report"]]:
            assert "local changes" not in found["provenance"]["commit"]
        assert entry["report"]["bytes"] < 2e6
        same = entry["report"]["numbers"]["stretch"]  # of the first seed, at as many times
        assert entry["seeds"]["1"]["stretch"] == pytest.approx(same, rel=0.02), name
        for found in entry["seeds"].values():
            assert found["spectrum_times"] == gallery.SPECTRUM_TIMES
            assert found["distance_with_it"] <= 0.01 * found["travel"], name
            assert found["too_large"] == pytest.approx(1.1 * found["largest_step"], rel=0.1)


@pytest.mark.slow
def test_a_report_finds_what_is_archived(tmp_path, capsys):
    page = tmp_path / "page.html"
    functions = [f"{gallery.NETWORKS}:{one}" for one in (CHEAPEST, networks.GALLERY[CHEAPEST])]
    options = ["--step-size", "0.1", "--iterations", "50", "--output", str(page)]
    assert main(["report", *functions, *options]) == 0
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    kept = archived()["networks"][CHEAPEST]
    # The report takes λmax at more times, so that its largest is no less.
    numbers, before = found["numbers"], kept["seeds"]["1"]
    assert numbers["parameters"] == before["parameters"]
    assert numbers["travel"] == pytest.approx(before["travel"], rel=1e-4)
    assert numbers["distance"] == pytest.approx(before["distance"], rel=0.02)
    assert numbers["step-size-for-distance"] <= before["too_large"]
    assert 0.99 < numbers["lambda-max"] * before["stability_limit"] / 2 < 1.1
    verdict = found["answer"].partition(":")[0]
    assert verdict == kept["report"]["answer"].partition(":")[0]
    assert page.stat().st_size < 2e6
