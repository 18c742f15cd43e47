"""A run as one HTML file."""

import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat import v4

from gfgd.book import commands
from gfgd.book.cli import main
from gfgd.book.one_page.single_page import DARK, LIGHT, single_page
from gfgd.book.pages.docutils_words import numbers
from gfgd.book.running.execute import Executed
from gfgd.figures import curves

from ..conftest import CLAIM, write_notebook
from ..watching import PATIENCE, watch

PROSE = r"""\
# A title, with η

Before {prf:ref}`second` and {eq}`wave`: $\tfrac12\lVert x\rVert^2$, see
{doc}`a page </chapters/02_b>`,
{doc}`/chapters/03_some_page`, a {term}`balanced` one {cite:p}`someone2021`.

```{prf:theorem} Of $x$
:label: first

It is so.
```

```{prf:proof}
Clear.
```

:::{prf:theorem}
:label: second
It is so again.
:::

```{math}
:label: wave
u_{tt} = u_{xx}
```
"""
LONG = f"<desc>{'x' * 200_000}</desc></svg>"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


@pytest.fixture
def notebook():
    picture = v4.new_output("display_data", {"image/png": PIXEL, "text/plain": "a figure"})
    folded = v4.new_code_cell("hidden = 1", metadata={"tags": ["hide-input"]}, outputs=[picture])
    folded.metadata["mystnb"] = {"image": {"alt": "A red dot."}}
    shown = v4.new_code_cell("print(2)", outputs=[v4.new_output("stream", text="two\n")])
    return v4.new_notebook(cells=[v4.new_markdown_cell(PROSE), folded, shown])


def test_the_page_says_what_the_notebook_says(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = single_page(notebook)
    assert not list(tmp_path.iterdir()), "nothing lies beside the page"
    assert page.index('<meta charset="utf-8">') < 1024
    body = page[page.index("<body") :]
    assert "<title>A title, with η</title>" in page
    assert r"\(\tfrac12\lVert x\rVert^2\)" in body
    words = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", body))
    assert "Before Theorem 2 and (1):" in words
    assert "see a page, 03 some page, a balanced one [someone2021]." in words
    assert "Theorem 1. Of" in words and "Proof. Clear." in words and "Theorem 2. It is so" in words
    assert f'<img src="data:image/png;base64,{PIXEL}" alt="A red dot.">' in body
    assert body.count("<details>") == body.count("</details>") == 1
    assert body.index("<details>") < body.index("hidden") < body.index("</details>")
    assert body.index("</details>") < body.index("data:image/png") < body.index("two")
    assert "system-message" not in body


def test_what_a_run_says_has_tables_and_formulas():
    table = "| $x$ | y |\n|---|---|\n| 1 | 2 |"
    said = v4.new_output("display_data", {"text/markdown": table, "text/plain": table})
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("said", outputs=[said])]
    page = single_page(v4.new_notebook(cells=cells))
    body = page[page.index("<body") :]
    assert "<table" in body and r"\(x\)" in body and "|---" not in body


def test_a_figure_follows_width_and_theme_and_is_one_rendering_where_it_is_large():
    line = torch.linspace(0, 1, 5)
    drawn = curves(line, {"gradient flow": line}, ylabel="y")._repr_mimebundle_()
    large = dict(drawn, **{"image/svg+xml": drawn["image/svg+xml"].replace("</svg>", LONG)})
    caption = {"figure": {"caption": "**Says.** What."}, "image": {"alt": "A line."}}
    cells = [v4.new_markdown_cell("# Title")]
    for data in (drawn, large):
        output = v4.new_output("display_data", data)
        cells.append(v4.new_code_cell("draw()", outputs=[output], metadata={"mystnb": caption}))
    body = single_page(v4.new_notebook(cells=cells)).partition("<body")[2]
    assert body.count('class="gfgd-wide"') == body.count('class="gfgd-narrow"') == 1
    assert body.count("<svg") == 3 and body.count("<img") == 0
    assert "Figure\N{NO-BREAK SPACE}2. <strong>Says.</strong>" in body
    assert "var(--gfgd-flow)" in body and "#0069a8" not in body


def test_its_colours_are_those_of_the_book():
    css = (Path(__file__).parents[3] / "_static" / "gfgd.css").read_text(encoding="utf-8")
    for selector, colours in (("html", LIGHT), (r'html\[data-theme="dark"\]', DARK)):
        block = re.search(rf"^{selector} {{(.*?)}}", css, flags=re.DOTALL | re.MULTILINE)
        assert block
        book = dict(re.findall(r"--gfgd-(\w+): (#\w+)", block[1]))
        if colours is LIGHT:  # figures tell ink from threshold, and paper from white, by one bit
            book |= {role: LIGHT[role] for role in ("ink", "paper")}
        assert colours == book


def test_it_asks_no_other_host(notebook):
    page = single_page(notebook)
    head, body = page[: page.index("<script>")], page[page.index("</script>") :]
    assert not re.search(r"(src|href)=.(?!data:|#)", head + body)
    assert page.count("<script") == 1


def test_numbers_of_references(notebook):
    assert numbers(notebook) == {"first": "Theorem 1", "second": "Theorem 2", "wave": "(1)"}
    exercise = v4.new_markdown_cell("````{exercise}\n:class: dropdown\n:label: ex\nDo it.\n````")
    assert numbers(v4.new_notebook(cells=[exercise])) == {"ex": "Exercise 1"}


@pytest.mark.parametrize("option", ["--html", "--open"])
def test_the_command_writes_it_and_opens_it(book, monkeypatch, capsys, option):
    monkeypatch.chdir(book)
    opened = []
    monkeypatch.setattr(commands.webbrowser, "open", lambda url: opened.append(url) or True)
    assert main(["run", "01", "--output", "out/mine.ipynb", option]) == 0
    page = book / "out" / "mine.html"
    assert f"The page: {page.resolve().as_uri()}" in capsys.readouterr().out
    assert opened == ([page.resolve().as_uri()] if option == "--open" else [])
    text = page.read_text(encoding="utf-8")
    assert "Chapter 01_tiny" in text and "Steps are small." in text and "In short" in text


def test_without_a_browser_the_page_is_there(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    monkeypatch.setattr(commands, "execute_chapter", done(book))
    monkeypatch.setattr(commands.webbrowser, "open", lambda url: False)
    assert main(["run", "01", "--output", "mine.ipynb", "--open"]) == 1
    assert "open the page by hand" in capsys.readouterr().err
    assert (book / "mine.html").is_file()


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(book, monkeypatch, capsys):
    monkeypatch.chdir(book)
    (book / "mine.html").mkdir()
    assert main(["run", "01", "--output", "mine.ipynb", "--html"]) == 2
    assert "mine.html: is a folder" in capsys.readouterr().err
    assert not (book / "mine.ipynb").exists()


def done(book):
    """Return what stands for a run: it writes the notebook as it is."""

    def execute(chapter, output, overrides):
        nbformat.write(nbformat.read(chapter, as_version=4), output)
        return Executed(output, (), 0.0)

    write_notebook(book / "chapters" / "01_tiny.ipynb", CLAIM)
    return execute


@pytest.mark.book
@pytest.mark.slow
def test_the_largest_chapters_of_the_book_fit_in_two_megabytes(html):
    runs = sorted((html.parent / "executed").glob("*/*.ipynb"))
    assert runs
    for path in sorted(runs, key=lambda path: path.stat().st_size)[-2:]:
        page = single_page(nbformat.read(path, as_version=4))
        assert len(page.encode()) < 2e6, path


@pytest.mark.browser
def test_its_formulas_are_set_without_a_network(notebook, browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(single_page(notebook), encoding="utf-8")
    assert page.stat().st_size < 1.1e6, "MathJax is packed"
    wrong = []
    tab = browser.new_page()
    tab.context.set_offline(True)
    watch(tab, wrong)
    tab.goto(page.as_uri())
    tab.wait_for_selector("mjx-container[display] svg", timeout=PATIENCE)
    assert tab.evaluate("document.querySelectorAll('mjx-container').length") >= 3
    assert not tab.evaluate("document.querySelectorAll('mjx-merror').length")
    assert not wrong
    tab.close()
