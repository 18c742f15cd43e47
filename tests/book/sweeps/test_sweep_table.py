import json
from pathlib import Path

from pyarrow import parquet

from gfgd.book.claims import Claim
from gfgd.book.sweeps.point import Point, Result
from gfgd.book.sweeps.sweep_table import Row, draw, write_figure, write_table

from ..tiny import rows_of


def made(depth, scale, status="done", mode: object = (1, "a"), folder=Path("/sweep")):
    parameters = {"depth": depth, "scale": scale, "widths": [depth] * 2, "mode": mode}
    places = (Path("/book/01_tiny.ipynb"), Path("/book"), Path("/book"), folder)
    where = Point(*places, {}, parameters, "abc", "")
    if status != "done":
        return Row(where, Result(status, 1.0, "it broke"))
    claim = Claim("small-steps", "So.", scale**depth, below=0.01, slide="S")
    return Row(where, Result("done", 2.0, None, (claim,), {"layers": float(depth)}))


def test_the_table_has_a_row_for_each_point(tmp_path):
    rows = [made(1, 0.1), made(2, 0.01), made(3, 0.1, "failed")]
    path = write_table(rows, tmp_path / "a.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.parquet"]
    first, _, last = rows_of(path)
    assert first["parameters.depth"] == 1
    assert first["parameters.widths"] == [1, 1]
    assert first["parameters.mode"] == '[1, "a"]'
    assert (first["claims.small-steps"], first["claims.small-steps.holds"]) == (0.1, False)
    assert (first["recorded.layers"], first["status"], first["error"]) == (1.0, "done", None)
    assert (last["claims.small-steps"], last["status"], last["error"]) == (
        None,
        "failed",
        "it broke",
    )
    about = json.loads(parquet.read_schema(path).metadata[b"gfgd"])
    assert about == {"chapter": "01_tiny", "swept": ["depth", "scale", "widths"], "sources": "abc"}
    assert str(parquet.read_schema(write_table(rows[:2], path)).field("error").type) == "string"


def test_the_figure_shows_what_does_not_hold_and_what_failed(tmp_path):
    rows = [made(d, s) for d in (1, 2, 3) for s in (0.1, 0.01)] + [made(4, 0.1, "failed")]
    rows = [
        Row(
            Point(
                row.point.chapter,
                row.point.root,
                row.point.directory,
                row.point.folder,
                {},
                {key: row.point.parameters[key] for key in ("depth", "scale")},
                "",
                "",
            ),
            row.result,
        )
        for row in rows
    ]
    figure = draw(rows)
    assert figure is not None
    claims, layers = figure.axes
    assert claims.get_title(loc="left") == "small-steps, to be below 0.01"
    assert layers.get_title(loc="left") == "layers"
    assert (claims.get_xlabel(), claims.get_yscale(), layers.get_yscale()) == (
        "depth",
        "log",
        "linear",
    )
    faces = [line.get_markerfacecolor() for line in claims.lines if line.get_marker() in "os"]
    assert faces.count("white") == 3  # 0.1, 0.01 and (0.1)² are not below 0.01
    assert [line.get_marker() for line in claims.lines].count("x") == 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["scale = 0.1", "scale = 0.01", "does not hold", "no number: not done"]
    assert write_figure(rows, tmp_path / "a.svg") == tmp_path / "a.svg"
    assert write_figure([made(4, 0.1, "failed")], tmp_path / "a.svg") is None
    assert not list(tmp_path.iterdir())


def test_words_and_many_lines_can_be_drawn():
    rows = [made(depth, 0.1, mode=mode) for depth in range(1, 10) for mode in ("a", "b")]
    figure = draw(rows)
    assert figure is not None
    words = draw([made(2, 0.1, mode=mode) for mode in ("a", "b")])
    assert words is not None
    assert [tick.get_text() for tick in words.axes[0].get_xticklabels()] == ["'a'", "'b'"]
