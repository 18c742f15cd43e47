import io
import json

import numpy as np
import pytest

from gfgd.paper import published
from gfgd.paper.archive import ArchiveError


def test_published_curves():
    linear = published.curves("fully_connected_linear")
    assert list(linear.distances) == [2, 5, 10, 20]
    assert list(linear.losses) == [1, 2, 5, 10, 20]
    for values in (linear.travelled, *linear.distances.values()):
        assert values.shape == linear.times.shape == (101,)
        assert abs(float(values[0])) < 1e-7
    # As read off the printed figure by eye.
    assert float(linear.travelled[-1]) == pytest.approx(2.6, abs=0.05)
    assert float(linear.distances[20][-1]) == pytest.approx(0.016, abs=0.001)
    for losses in linear.losses.values():
        assert float(losses[0]) == pytest.approx(3.431314, abs=1e-6)
        assert float(losses[-1]) == pytest.approx(0.0835, abs=1e-4)


def test_published_curves_that_are_not_there(tmp_path):
    with pytest.raises(ArchiveError, match=r"toy: published\.json has fully_connected_linear"):
        published.curves("toy")
    with pytest.raises(ArchiveError, match="comes with a checkout"):
        published.curves("toy", tmp_path)


def figure(curves: int = 5) -> tuple[bytes, np.ndarray]:
    """Return a figure as the authors' code draws them, and its numbers, shape (2, 5, 101)."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    numbers = np.random.default_rng(0).uniform(0, 2.8, (2, 5, 101)).cumsum(-1) / 120
    drawn = Figure(figsize=(6, 3.05))
    FigureCanvasPdf(drawn)
    for panel, rows in zip(drawn.subplots(1, 2), numbers, strict=True):
        for row in rows[:curves]:
            panel.plot(range(0, 10_001, 100), row, linestyle=(0, (1, 1)), marker="o", markevery=10)
        panel.set_xlim(0, 10_000)
        panel.set_ylim(bottom=0, top=3)
    drawn.tight_layout()
    content = io.BytesIO()
    drawn.savefig(content, format="pdf", bbox_inches="tight")
    return content.getvalue(), numbers


def test_a_figure_is_read_back():
    content, numbers = figure()
    read = published.read_figure(content)
    assert list(read["losses"]) == [1, 2, 5, 10, 20]
    np.testing.assert_allclose(list(read["losses"].values()), numbers[0], rtol=0, atol=3e-8)
    np.testing.assert_allclose(read["travelled"], numbers[1, 0], rtol=0, atol=3e-8)
    np.testing.assert_allclose(list(read["distances"].values()), numbers[1, 1:], rtol=0, atol=3e-8)


def test_all_figures_become_one_file(tmp_path):
    content, numbers = figure()
    for name in published.FIGURES.values():
        (tmp_path / name).write_bytes(content)
    path = published.make(tmp_path, tmp_path / published.FILE)
    assert json.loads(path.read_text("utf-8"))["source"] == published.SOURCE
    curves = published.curves("convolutional_adapted", tmp_path)
    assert float(curves.times[-1]) == 10
    np.testing.assert_allclose(curves.losses[20], numbers[0, 4], rtol=0, atol=3e-8)
    np.testing.assert_allclose(curves.distances[2], numbers[1, 1], rtol=0, atol=3e-8)


def test_another_figure_is_refused():
    with pytest.raises(ValueError, match=r"panels with \[4, 4\] curves"):
        published.read_figure(figure(curves=4)[0])
    with pytest.raises(ValueError, match="no compressed streams"):
        published.read_figure(b"%PDF-1.4")
