import pytest

from gfgd.paper import published
from gfgd.paper.archive import ArchiveError


def test_published_curves():
    linear = published.curves("fully_connected_linear")
    assert sorted(linear.distances) == [2, 5, 10, 20]
    for values in (linear.travelled, *linear.distances.values()):
        assert values.shape == linear.times.shape == (101,)
        assert values[0] == 0
    # As read off the printed figure by eye.
    assert float(linear.travelled[-1]) == pytest.approx(2.6, abs=0.05)
    assert float(linear.distances[20][-1]) == pytest.approx(0.016, abs=0.001)


def test_published_curves_that_are_not_there(tmp_path):
    with pytest.raises(ArchiveError, match=r"toy: published\.json has fully_connected_linear"):
        published.curves("toy")
    with pytest.raises(ArchiveError, match="comes with a checkout"):
        published.curves("toy", tmp_path)
