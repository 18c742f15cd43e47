import json
from pathlib import Path

import nbformat
import pytest

from gfgd.book.build import build_book, gather, overrides
from gfgd.book.cli import main
from gfgd.book.errors import BookError
from gfgd.book.running.execute import execute_chapter
from gfgd.book.running.runs import Run

from .conftest import CLAIM, write_notebook


@pytest.mark.slow
def test_build_rebuild_and_edit(book):
    first = build_book(book)
    assert [run.fresh for run in first.runs] == [True]
    assert first.failures() == []
    html = (book / "_build" / "html" / "what_holds.html").read_text("utf-8")
    assert "Steps are small." in html
    assert "chapters/01_tiny.html#claim-small-steps" in html
    assert 'id="claim-small-steps"' in (
        book / "_build" / "html" / "chapters" / "01_tiny.html"
    ).read_text("utf-8")
    assert "step_size" in (book / "_build" / "html" / "parameters.html").read_text("utf-8")
    assert (book / "_build" / "html" / "mathjax" / "tex-chtml.js").is_file()
    (claim,) = json.loads((book / "_build" / "html" / "claims.json").read_text("utf-8"))
    assert (claim["chapter"], claim["dataset"], claim["holds"]) == (
        "chapters/01_tiny",
        "digits",
        True,
    )
    again = build_book(book)
    assert [run.fresh for run in again.runs] == [False]
    assert not again.html_built
    write_notebook(book / "chapters" / "01_tiny.ipynb", "import matplotlib.pyplot as plt", CLAIM)
    assert build_book(book).html_built


@pytest.mark.slow
def test_a_failing_claim_fails_the_command_and_is_named(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    monkeypatch.setattr("gfgd.book.commands.fetch_mnist", lambda: book)
    bad = CLAIM.replace("below=0.02", "above=0.02")
    write_notebook(book / "chapters" / "01_tiny.ipynb", bad)
    assert main(["book"]) == 1
    printed = capsys.readouterr()
    assert "chapters/01_tiny: ✗ small-steps does not hold" in printed.err
    assert (book / "_build" / "html" / "index.html").resolve().as_uri() in printed.out
    assert main(["book"]) == 1, "an unchanged book that does not hold must go on failing"


def test_duplicate_names_are_an_error(book, chapter, tmp_path):
    done = execute_chapter(chapter, tmp_path / "done.ipynb", {})
    run = Run(book / "chapters" / "01_tiny.ipynb", done.path, {}, fresh=True, seconds=1.0)
    assert len(gather(book, [run], "default")) == 1
    with pytest.raises(BookError, match="'small-steps' is made 2 times"):
        gather(book, [run, run], "default")


@pytest.mark.slow
def test_a_warning_fails_the_build_each_time(book):
    with (book / "index.md").open("a") as file:
        file.write("\n{doc}`nowhere`\n")
    for _ in range(2):
        with pytest.raises(BookError, match="jupyter-book"):
            build_book(book)
    assert not (book / "_build" / "html").exists()


def test_a_figure_needs_alt_text(book):
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    write_notebook(book / "chapters" / "01_tiny.ipynb", plot, CLAIM)
    with pytest.raises(BookError, match=r"01_tiny.html: .*png has no alt text"):
        build_book(book)


def test_a_page_that_is_not_there(book):
    with (book / "_toc.yml").open("a") as file:
        file.write("  - file: absent\n")
    with pytest.raises(BookError, match="'absent'"):
        build_book(book)
    assert not (book / "_build").exists(), "no chapter runs before the contents are right"


def test_dataset_override_only_where_the_chapter_has_one(chapter, tmp_path):
    other = write_notebook(tmp_path / "b.ipynb", parameters="step_size: float = 0.001  # η₀")
    preset = {"step_size": 0.1, "dataset": "mnist"}
    assert overrides(chapter, preset, "digits") == {"step_size": 0.1, "dataset": "digits"}
    assert overrides(chapter, {}, None) == {}
    assert overrides(other, {}, "digits") == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "01", "-p", "stepsize", "1"], "did you mean step_size"),
        (["run", "01", "-p", "step_size", "-1"], "must be greater than 0"),
        (["run", "77"], "there is no chapter '77'"),
        (["run", "01", "--preset", "slow"], "there is no preset 'slow'"),
    ],
)
def test_a_users_mistake_is_exit_code_2(book, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(book)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_run_with_a_preset_and_a_parameter(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    arguments = ["run", "01", "--preset", "quick", "-p", "widths", "[3]", "--output", "my.ipynb"]
    assert main(arguments) == 0
    assert "measured 0.01" in capsys.readouterr().out
    last = nbformat.read(Path("my.ipynb"), as_version=4).cells[-1]
    assert "step_size = 0.01, widths = [3]" in last.source


def test_help_says_what_there_is(capsys):
    for arguments in (["--help"], ["run", "--help"], ["book", "--help"], ["data", "--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
    assert "NAME VALUE" in capsys.readouterr().out
