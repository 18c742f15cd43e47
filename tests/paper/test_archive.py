from dataclasses import replace

import pytest
import torch

from gfgd.paper import archive
from gfgd.paper.archive import FLOW, Archived, ArchiveError, descent_name
from gfgd.spectrum import Spectrum

RUNS = (FLOW, descent_name(1), descent_name(20, "float32"))


def results(seed=3, spectrum=None) -> Archived:
    """Three random curves in the plane, as if run at four times."""
    points = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = (points[:, None] - points[None]).norm(dim=-1)
    travelled = (points - points[:, :1]).norm(dim=-1)
    return Archived(
        network="toy",
        seed=seed,
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
    found = archive.read("toy", seed=3, folder=tmp_path)
    assert (found.network, found.seed, found.runs) == ("toy", 3, RUNS)
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
        -column, column, column, column, true, true, torch.arange(4), times=column[:, 0]
    )
    archive.write(results(spectrum=spectrum), tmp_path)
    found = archive.read("toy", seed=3, folder=tmp_path).spectrum
    assert found is not None and found.converged
    torch.testing.assert_close(found.smallest, -column)
    assert found.products.tolist() == [0, 1, 2, 3]


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


def test_available_lists_networks_and_seeds(tmp_path):
    archive.write(results(), tmp_path)
    archive.write(replace(results(seed=1), network="a-b"), tmp_path)
    assert archive.available(tmp_path) == [("a-b", 1), ("toy", 3)]


def test_absent_and_damaged_results_are_told(tmp_path):
    with pytest.raises(ArchiveError, match="make archive"):
        archive.read("toy", folder=tmp_path)
    path = archive.write(results(), tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArchiveError, match="restore it from git"):
        archive.read("toy", seed=3, folder=tmp_path)


def test_published_curves():
    linear = archive.published("fully_connected_linear")
    assert sorted(linear.distances) == [2, 5, 10, 20]
    for values in (linear.travelled, *linear.distances.values()):
        assert values.shape == linear.times.shape == (101,)
        assert values[0] == 0
    # As read off the printed figure by eye.
    assert float(linear.travelled[-1]) == pytest.approx(2.6, abs=0.05)
    assert float(linear.distances[20][-1]) == pytest.approx(0.016, abs=0.001)


def test_published_curves_that_are_not_there(tmp_path):
    with pytest.raises(ArchiveError, match=r"toy: published\.json has fully_connected_linear"):
        archive.published("toy")
    with pytest.raises(ArchiveError, match="comes with a checkout"):
        archive.published("toy", tmp_path)
