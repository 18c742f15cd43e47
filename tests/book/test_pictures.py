import nbformat
import numpy as np
import pytest

from gfgd import figures
from gfgd.book.errors import BookError
from gfgd.book.pictures import figure_html, with_pictures


@pytest.fixture(scope="module")
def bundle():
    values = np.linspace(1, 2, 20)
    figure = figures.curves(values, {"GF": values, "GD": 2 * values}, ylabel="distance")
    return figure.captioned("**GD** < GF, at 0.0012345.")._repr_mimebundle_()


def test_a_figure_follows_the_theme_and_the_width(bundle):
    html = figure_html(bundle, alt="Two <lines>", number="3.1")
    assert html.count('role="img" aria-label="Two &lt;lines&gt;"') == 2
    assert 'class="gfgd-wide"' in html and 'class="gfgd-narrow"' in html
    assert "stroke: var(--gfgd-flow)" in html and "var(--gfgd-descent)" in html
    assert not any(colour in html for colour in figures.ROLES.values())
    assert "<style" not in html and "\n\n" not in html
    caption = "<figcaption>Figure 3.1. <strong>GD</strong> &lt; GF, at 0.0012345.</figcaption>"
    assert caption in html


def test_ids_are_a_figures_own(bundle):
    first, second = (figure_html(bundle, alt="a", number=number) for number in ("3.1", "3.2"))
    ids = [set(nb.split('id="')[1:]) for nb in (first, second)]
    found = [{part.split('"')[0] for part in parts} for parts in ids]
    assert found[0] and not found[0] & found[1]
    assert all(f"#{name}" in second for name in found[1] if "clip" in name)


def notebook(bundle, metadata):
    cell = nbformat.v4.new_code_cell("figure", metadata=metadata)
    cell.outputs = [nbformat.v4.new_output("display_data", data=bundle)]
    return nbformat.v4.new_notebook(cells=[cell])


def test_in_a_notebook_figures_become_html_with_numbers(bundle):
    metadata = {"mystnb": {"image": {"alt": "Two lines."}}}
    made = with_pictures(notebook(bundle, metadata), "07_a")
    (output,) = made.cells[0].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert "Figure 7.1. " in output.data["text/html"]


def test_a_figure_without_alt_text_is_refused(bundle):
    with pytest.raises(BookError, match="07_a: cell 0: its figure has no alt text"):
        with_pictures(notebook(bundle, {}), "07_a")
