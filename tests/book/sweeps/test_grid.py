import pytest

from gfgd.book.errors import ParameterError
from gfgd.book.sweeps.grid import grid
from gfgd.book.sweeps.sweep import run_sweep


def test_the_grid_is_typed_and_in_order(tiny):
    chapter = tiny / "chapters" / "01_tiny.ipynb"
    points = grid(chapter, [("depth", ["2", "3"]), ("scale", ["1e-3", 1])], {"act": "die"})
    assert points == [
        {"act": "die", "depth": depth, "scale": scale} for depth in (2, 3) for scale in (0.001, 1.0)
    ]
    assert grid(chapter, [("act", ["x"])], {"act": "die"}) == [{"act": "x"}]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ([("depht", [1])], "did you mean depth"),
        ([("depth", ["2", "2.5"])], r"depth = '2.5': must be of type int"),
        ([("scale", [1]), ("depth", [2, -1])], "depth = -1: must be 0 or more"),
        ([("depth", [2]), ("depth", [3])], "depth: given twice"),
        ([("scale", ["1", "1.0"])], r"scale = 1.0: given twice"),
    ],
)
def test_the_whole_grid_is_checked_before_anything_runs(tiny, tmp_path, axes, message):
    with pytest.raises(ParameterError, match=message):
        run_sweep(tiny / "chapters" / "01_tiny.ipynb", tiny, axes, tmp_path / "out")
    assert not (tmp_path / "out").exists()
