import nbformat
import numpy as np
import pytest

from gfgd import figures
from gfgd.book.errors import BookError
from gfgd.book.pages.pictures import figure_html, with_pictures


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
    gd = '<span class="gfgd-descent">GD</span>'
    gf = '<span class="gfgd-flow">GF</span>'
    words = f"Figure\N{NO-BREAK SPACE}3.1. <strong>{gd}</strong> &lt; {gf}, at 0.0012345."
    assert f"<figcaption>{words}</figcaption>" in html


def test_a_figures_words_have_no_e_notation(bundle):
    svg = "".join(bundle["image/svg+xml"]).replace("</svg>", "<text>below 1e-6</text></svg>")
    html = figure_html(bundle | {"image/svg+xml": svg}, alt="a", number="3.1")
    assert "<text>below 10⁻⁶</text>" in html


def test_ids_are_a_figures_own(bundle):
    first, second = (figure_html(bundle, alt="a", number=number) for number in ("3.1", "3.2"))
    ids = [set(nb.split('id="')[1:]) for nb in (first, second)]
    found = [{part.split('"')[0] for part in parts} for parts in ids]
    assert found[0] and not found[0] & found[1]
    assert all(f"#{name}" in second for name in found[1] if "clip" in name)


def test_a_caption_has_only_the_colours_of_its_figure():
    values = np.linspace(1, 2, 20)
    bundle = figures.curves(values, {"GD": values}, ylabel="y")._repr_mimebundle_()
    html = figure_html(bundle, alt="a", number="3.1", caption="GD, no bound, no GF.")
    assert '<span class="gfgd-descent">GD</span>, no bound, no GF.</figcaption>' in html


def test_a_captions_lines_end_between_words_only():
    bundle = figures.curves([1, 2], {"GD": [1, 2]}, ylabel="y")._repr_mimebundle_()
    html = figure_html(bundle, alt="a", number="3.1", caption="At t = 3, `t = 3`, 2/λmax.")
    words = "At t\u00a0=\u00a03, <code>t = 3</code>, 2/\u2060λ<sub>max</sub>."
    assert f"{words}</figcaption>" in html


def notebook(bundle, metadata):
    cell = nbformat.v4.new_code_cell("figure", metadata=metadata)
    cell.outputs = [nbformat.v4.new_output("display_data", data=bundle)]
    return nbformat.v4.new_notebook(cells=[cell])


def test_in_a_notebook_figures_become_html_with_numbers(bundle):
    metadata = {"mystnb": {"image": {"alt": "Two lines."}}}
    made = with_pictures(notebook(bundle, metadata), "07_a")
    (output,) = made.cells[0].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert "Figure\N{NO-BREAK SPACE}7.1. " in output.data["text/html"]


@pytest.mark.parametrize("figure", [{}, {"figure": {"caption": "**Apart.** Far."}}])
def test_a_caption_is_the_cells_own_or_what_the_alt_text_begins_with(figure):
    plain = figures.curves([1, 2], {"a": [1, 2]}, ylabel="y")._repr_mimebundle_()
    metadata = {"mystnb": {"image": {"alt": "Two lines at x. One is higher."}} | figure}
    (cell,) = with_pictures(notebook(plain, metadata), "07_a").cells
    found = cell.outputs[0].data["text/html"].partition("<figcaption>")[2]
    assert found.startswith("Figure\N{NO-BREAK SPACE}7.1. ")
    assert ("Two lines at x.</figcaption>" in found) == (not figure)
    assert ("<strong>Apart.</strong> Far.</figcaption>" in found) == bool(figure)
    # myst-nb would put a figure of its own around this one.
    assert "figure" not in cell.metadata.mystnb


def test_a_figure_without_alt_text_is_refused(bundle):
    with pytest.raises(BookError, match="07_a: cell 0: its figure has no alt text"):
        with_pictures(notebook(bundle, {}), "07_a")
