import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gfgd.book.claims import MIME_TYPE, Claim
from gfgd.book.pages.first_screen import arranged
from gfgd.book.running.execute import PROVENANCE_TAG

FOUND = "- First finding,\n  at length.\n- Second.\n- Third.\n- Fourth."


def code(source, *tags, **data):
    cell = new_code_cell(source, metadata={"tags": list(tags)})
    cell.outputs = [new_output("display_data", data=data)] if data else []
    return cell


@pytest.fixture
def page():
    claim = Claim("a-claim", "s", 1.0, below=2.0, kind="theorem").to_json()
    cells = [
        new_markdown_cell(
            "# Title\n\n**Question.** Why?\nSlide: *S*.\n\n"
            "Introduction, after {doc}`/chapters/03_c`.\n\nMore."
        ),
        code("import gfgd", "hide-input"),
        new_markdown_cell("## Parameters\n\nChange them."),
        code("seed: int = 1", "parameters"),
        code("checks", "check-parameters"),
        new_markdown_cell("## Section\n\nSee {doc}`/chapters/02_b` and {doc}`/chapters/09_z`."),
        code("compute"),
        code("figure", "hide-input", "first-screen"),
        code("claim", **{MIME_TYPE: claim}),
        new_markdown_cell("## What was found"),
        code("found", **{"text/markdown": FOUND}),
        code("report", "answer"),
        new_markdown_cell("## Exercises"),
        new_markdown_cell("## How this page was made", metadata={"tags": [PROVENANCE_TAG]}),
    ]
    return arranged(new_notebook(cells=cells), 5)


def test_the_answer_and_the_picture_come_first_and_the_plumbing_last(page):
    sources = [cell.source.splitlines()[0] for cell in page.cells]
    assert sources == [
        "# Title",
        "report",
        "figure",
        ":::{admonition} In short",
        "Introduction, after {doc}`/chapters/03_c`.",
        "## Section",
        "compute",
        "*The figure at the head of this page belongs here.*",
        "claim",
        "## What was found",
        "found",
        "## Exercises",
        "## Parameters",
        "import gfgd",
        "seed: int = 1",
        "checks",
        "## How this page was made",
    ]
    assert page.cells[0].source.endswith("Slide: *S*.")
    nbformat.validate(page)


def test_no_fold_of_code_stands_before_the_answer(page):
    assert "remove-input" in page.cells[1].metadata.tags
    assert "remove-input" not in page.cells[2].metadata.tags


def test_the_parameters_are_folded_at_the_end(page):
    (cell,) = [cell for cell in page.cells if cell.source.startswith("seed: int")]
    assert cell.metadata.tags == ["parameters", "hide-input"]


def test_longer_code_is_folded_and_short_code_is_not():
    long, short = ("\n".join(["x = 1"] * count) for count in (13, 12))
    cells = [
        new_markdown_cell("# Title\n\nWords."),
        new_markdown_cell("## A"),
        code(long),
        code(short),
    ]
    folds = {
        cell.source: "hide-input" in cell.metadata.tags
        for cell in arranged(new_notebook(cells=cells), 1).cells
        if cell.cell_type == "code"
    }
    assert folds == {long: True, short: False}


def test_findings_may_stand_under_the_second_heading_of_a_cell():
    cells = [
        new_markdown_cell("# Title"),
        new_markdown_cell("## Open\n\nWords.\n\n## What was found"),
        code("found", **{"text/markdown": FOUND}),
    ]
    box = arranged(new_notebook(cells=cells), 1).cells[1].source
    assert "- First finding,\n  at length." in box


def test_the_box_has_findings_claims_minutes_and_what_it_builds_on(page):
    box = page.cells[3].source
    assert "- First finding,\n  at length.\n- Second.\n- Third.\n\n" in box
    assert "Fourth" not in box
    assert "1 min to read · claims: 1 theorem · builds on chapter {doc}`3 </chapters/03_c>`" in box


def test_a_chapter_without_tags_and_sections_stays_whole():
    made = arranged(new_notebook(cells=[new_markdown_cell("# Only a title")]), 1)
    assert [cell.source.splitlines()[0] for cell in made.cells] == [
        "# Only a title",
        ":::{admonition} In short",
    ]
