from dataclasses import replace

import pytest
import torch

from gfgd.paper import archive
from gfgd.paper.archive import FLOW, Archived, ArchiveError, descent_name
from gfgd.spectrum import Spectrum

RUNS = (FLOW, descent_name(1), descent_name(20, "float32"))


def results(start="3", spectrum=None) -> Archived:
    """Three random curves in the plane, as if run at four times."""
    points = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = (points[:, None] - points[None]).norm(dim=-1)
    travelled = (points - points[:, :1]).norm(dim=-1)
    return Archived(
        network="toy",
        start=start,
        runs=RUNS,
        times=torch.arange(4, dtype=torch.float64),
        losses=points.square().sum(-1),
        distances=distances,
        travelled=travelled,
        weight_distances=distances / 2,
        weights_travelled=travelled / 2,
        spectrum=spectrum,
        provenance={"protocol": {"step_size": 0.1}, FLOW: {"gradients": 7}},
    )


def test_what_is_written_is_read(tmp_path):
    written = results()
    archive.write(written, tmp_path)
    found = archive.read("toy", start="3", folder=tmp_path)
    assert (found.network, found.start, found.runs) == ("toy", "3", RUNS)
    assert found.provenance == written.provenance
    for name in ("times", "losses", "distances", "travelled"):
        torch.testing.assert_close(getattr(found, name), getattr(written, name), rtol=0, atol=0)
    torch.testing.assert_close(found.weight_distances, written.weight_distances, rtol=0, atol=0)
    assert found.spectrum is None
    assert [path.name for path in tmp_path.iterdir()] == ["toy-seed3.npz"]


def test_spectrum_is_kept(tmp_path):
    column = torch.arange(4, dtype=torch.float64)[:, None]
    true = torch.ones(4, 1, dtype=torch.bool)
    spectrum = Spectrum(
        smallest=-column,
        largest=column,
        smallest_residuals=column,
        largest_residuals=column,
        smallest_certified=true,
        largest_certified=true,
        smallest_bounds=-column,
        largest_bounds=column,
        smallest_converged=true,
        largest_converged=true,
        failure_probability=column[:, 0] / 100,
        products=torch.arange(4),
        times=column[:, 0],
    )
    archive.write(results(spectrum=spectrum), tmp_path)
    found = archive.read("toy", start="3", folder=tmp_path).spectrum
    assert found is not None and found.converged
    torch.testing.assert_close(found.smallest, -column)
    assert found.products.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found.failure_probability, column[:, 0] / 100)


def test_a_spectrum_from_before_there_were_bounds_is_certified_only():
    found = archive.read("fully_connected_linear", start="1").spectrum
    assert found is not None and found.certified and not found.checked.any()
    assert found.smallest_bounds.isneginf().all() and found.largest_bounds.isposinf().all()


def test_runs_are_found_by_name():
    found = results()
    assert torch.equal(found.distance(RUNS[2], RUNS[1]), found.distances[1, 2])
    assert torch.equal(found.distance(RUNS[1]), found.distances[0, 1])
    assert torch.equal(found.distance(RUNS[1], biases=False), found.distances[0, 1] / 2)
    assert torch.equal(found.loss(RUNS[1]), found.losses[1])
    assert torch.equal(found.distance_from_start(RUNS[2], biases=False), found.travelled[2] / 2)
    assert found.cost(FLOW) == {"gradients": 7}
    with pytest.raises(ArchiveError, match="has no run 'η₀/5, float64'"):
        found.loss(descent_name(5))


def test_available_lists_networks_and_starts(tmp_path):
    archive.write(results(), tmp_path)
    archive.write(replace(results(start="paper"), network="a-b"), tmp_path)
    assert archive.available(tmp_path) == [("a-b", "paper"), ("toy", "3")]


def test_absent_and_damaged_results_are_told(tmp_path):
    with pytest.raises(ArchiveError, match="make archive"):
        archive.read("toy", folder=tmp_path)
    path = archive.write(results(), tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArchiveError, match="restore it from git"):
        archive.read("toy", start="3", folder=tmp_path)


def test_what_is_archived_stays_and_what_is_new_is_added():
    old, whole = results(), results()
    names = (FLOW, descent_name(1), descent_name(2))
    new = replace(whole, runs=names, losses=whole.losses + 1, provenance={descent_name(2): {}})
    new.distances[1:, 1:] = torch.nan  # between the second and third nothing was compared
    both = archive.merged(old, new)
    assert both.runs == (*RUNS, descent_name(2))
    assert torch.equal(both.losses[:3], old.losses)
    assert torch.equal(both.losses[3], new.losses[2])
    assert torch.equal(both.distances[:3, :3], old.distances)
    assert torch.equal(both.distance(descent_name(2)), new.distances[0, 2])
    assert torch.equal(both.distance(FLOW, descent_name(2)), new.distances[0, 2])
    assert both.distance(descent_name(2), RUNS[2]).isnan().all()
    assert both.provenance == {**old.provenance, descent_name(2): {}}


def test_names():
    assert descent_name(5, "float32", 2) == "η₀/5, float32, order 2"
    assert archive.flow_name(1) == FLOW
    assert archive.flow_name(10) == archive.LOOSER_FLOW
    assert archive.flow_name(0.7) == "GF, tolerances × 0.7"


def test_the_effect_of_a_step_size_where_both_runs_are_there():
    toy = results()
    assert toy.step_effect(20, dtype="float32") is None  # there is no float32 run at η₀
    runs = (FLOW, descent_name(1), descent_name(20))
    double = replace(toy, runs=runs)
    torch.testing.assert_close(double.step_effect(20), toy.distances[1, 2])
    torch.testing.assert_close(double.step_effect(20, biases=False), toy.weight_distances[1, 2])
    effects = double.step_effects()
    assert list(effects) == [20]
    torch.testing.assert_close(effects[20], toy.distances[1, 2])
