import ast
import dataclasses
import json
import math

import nbformat
import pytest
import torch
from IPython.core.formatters import format_display_data
from IPython.utils.capture import capture_output

from gfgd.book import Claim, claim, claims_on, maximum, minimum, record, report, table
from gfgd.book.claims import MIME_TYPE, RECORD_TYPE
from gfgd.book.contents import chapters

from .conftest import ROOT


def made(measured=0.5, **criterion):
    return Claim("a-claim", "It is so.", measured, **criterion)


@pytest.mark.parametrize(
    ("measured", "criterion", "holds"),
    [
        (0.5, {"below": 1}, True),
        (1.0, {"below": 1}, False),
        (1.5, {"above": 1}, True),
        (1.0, {"above": 1}, False),
        (1.0, {"between": (1, 2)}, True),
        (2.1, {"between": (1, 2)}, False),
        (math.nan, {"below": 1}, False),
        (math.nan, {"above": 1}, False),
        (math.nan, {"between": (-math.inf, math.inf)}, False),
    ],
)
def test_verdict(measured, criterion, holds):
    assert made(measured, **criterion).holds is holds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "exactly one"),
        ({"below": 1, "above": 0}, "exactly one"),
        ({"between": (2, 1)}, "low <= high"),
        ({"between": (1, 2, 3)}, "low <= high"),
        ({"below": math.nan}, "NaN"),
        ({"below": "much"}, "single number"),
        ({"below": 1, "measured": [1, 2]}, "measured"),
        ({"below": 1, "kind": "guessed"}, "guessed"),
    ],
)
def test_malformed_claims_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        made(**change)


def test_name_must_be_a_slug():
    with pytest.raises(ValueError, match="lower-case words"):
        Claim("No Slug", "s", 1.0, below=2)


@pytest.mark.parametrize("measured", [0.25, math.nan, math.inf])
def test_json_round_trip(measured):
    before = made(measured, between=(0, 1), slide="S", dataset="digits")
    text = json.dumps(before.to_json(), allow_nan=False)
    after = Claim.from_json(json.loads(text))
    assert after.to_json() == before.to_json()


def test_a_claim_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        made(below=1).measured = 2  # type: ignore[misc]


def test_claim_shows_itself_and_never_raises_for_a_verdict(capsys):
    stated = claim("no-claim", "1 < 0 & so on", measured=1, below=0, slide="S")
    assert not stated.holds
    assert "does not hold" in capsys.readouterr().out
    html = stated.to_html()
    assert "1 &lt; 0 &amp; so on" in html
    assert "✗" in html
    assert "does not hold" in html


def test_display_bundle(monkeypatch):
    shown = []
    monkeypatch.setattr("gfgd.book.claims.display", lambda data, **_: shown.append(data))
    stated = claim("a-claim", "s", measured=1, above=0, slide="S", kind="theorem")
    report("The step is **small**.")
    assert shown[0][MIME_TYPE] == stated.to_json()
    assert {"text/html", "text/plain"} < set(shown[0])
    assert format_display_data(shown[1])[0]["text/markdown"] == "The step is **small**."


def test_plain_capture_does_not_need_a_notebook():
    with capture_output() as captured:
        report("text")
    assert captured.outputs or captured.stdout


@pytest.mark.parametrize(("value", "stored"), [(2, 2.0), (math.inf, "inf")])
def test_a_recorded_number(monkeypatch, value, stored):
    shown = []
    monkeypatch.setattr("gfgd.book.claims.display", lambda data, **_: shown.append(data))
    record("largest-step", value)
    (bundle,) = shown
    assert json.loads(json.dumps(bundle[RECORD_TYPE], allow_nan=False)) == {
        "name": "largest-step",
        "value": stored,
    }
    assert bundle["text/plain"].startswith("largest-step: ")


@pytest.mark.parametrize(("name", "value"), [("No Slug", 1.0), ("steps", "many"), ("steps", [1])])
def test_a_malformed_record_is_refused(name, value):
    with pytest.raises(ValueError, match=r"name|value"):
        record(name, value)


def shown_table(monkeypatch, *arguments):
    shown = []
    monkeypatch.setattr("gfgd.book.claims.display", lambda data, **_: shown.append(data))
    table(*arguments)
    return shown[0].data


def test_a_table_has_text_and_numbers_as_a_reader_writes_them(monkeypatch):
    rows = [("first", 12000, 1.234e-5), ("b", 1, "–")]
    assert shown_table(monkeypatch, "Two runs:", ["run", "steps", "distance"], rows) == (
        "Two runs:\n\n| run | steps | distance |\n|---|---|---|\n"
        "| first | 12,000 | 1.2 × 10⁻⁵ |\n| b | 1 | – |"
    )


def test_a_table_without_a_text_begins_with_its_heads(monkeypatch):
    assert shown_table(monkeypatch, "", ["a"], [["b"]]) == "| a |\n|---|\n| b |"


def test_a_row_with_a_cell_too_many_is_refused():
    with pytest.raises(ValueError, match=r"row \['x', 'y'\]: has 2 cells, and there are 1 heads"):
        table("", ["a"], [("x", "y")])


def test_a_bar_in_a_table_ends_no_cell(monkeypatch):
    shown = shown_table(monkeypatch, "", ["|a|", "b"], [[r"\|c\|", "|d"]])
    assert shown == "| \\|a\\| | b |\n|---|---|\n| \\|c\\| | \\|d |"


def test_claims_of_a_chapter_are_on_its_slide_unless_they_say_another(capsys):
    on_one = claims_on("One")
    assert on_one("a", "So.", measured=0.5, below=1).slide == "One"
    assert on_one("b", "So.", measured=0.5, below=1, slide="Two").slide == "Two"


@pytest.mark.parametrize("extreme", [maximum, minimum])
@pytest.mark.parametrize("numbers", [[0.1, math.nan], [math.nan, 0.1], [torch.tensor(math.nan), 1]])
def test_a_number_that_is_none_is_never_passed_over(extreme, numbers):
    assert math.isnan(extreme(numbers)) and math.isnan(extreme(*numbers))
    assert math.isnan(extreme(iter(numbers), key=abs))


def test_the_largest_and_the_smallest_are_those_of_python():
    assert (maximum(1, 3.5, 2), minimum([2, -1]), maximum([], default=2)) == (3.5, -1, 2)
    assert maximum([-3, 2], key=abs) == -3


def extremes_of_python(node):
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} & {"max", "min"}


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_no_claim_is_measured_or_gathered_with_pythons_own(path):
    cells = nbformat.read(path, as_version=4).cells
    trees = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "claim":
            measured = [word for word in node.keywords if word.arg == "measured"] or [node]
            assert not any(map(extremes_of_python, measured)), ast.unparse(node.args[0])
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            gathered = set(map(ast.unparse, node.targets)) & set(map(ast.unparse, node.value.args))
            assert not (gathered and extremes_of_python(node.value.func)), ast.unparse(node)
