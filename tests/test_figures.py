import re

import numpy as np
import pytest
import torch

from gfgd import figures
from gfgd.figures.style import wrapped
from gfgd.flow import gradient_flow
from gfgd.problems.landscapes import landscape
from gfgd.spectrum import spectrum_along
from tests.small_problems import quadratic


def names(figure):
    """Return the entries of a figure's only legend, or else the names at its lines' ends."""
    if figure.legends:
        (legend,) = figure.legends
        return [text.get_text() for text in legend.get_texts()]
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_curves_have_labels_and_differ_in_colour_and_dashes():
    times = torch.linspace(0, 1, 5)
    figure = figures.curves(times, {"a": times, "b": 2 * times}, ylabel="distance")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "distance" and axes.get_xlabel() == "time t = kη"
    assert names(figure) == ["a", "b"]
    first, second = axes.get_lines()
    assert (first.get_color(), first.get_alpha()) != (second.get_color(), second.get_alpha())
    assert first.get_linestyle() != second.get_linestyle()
    assert np.isnan(first.get_ydata()[0])  # 0 has no place on a log scale


@pytest.mark.parametrize("title", ["", "A title"])
def test_the_name_of_the_upright_axis_is_inside_the_picture(title):
    figure = figures.curves([1, 2], {"a": [1, 2]}, ylabel="distance", title=title)
    svg = figure._repr_mimebundle_()["image/svg+xml"]
    size, height = map(
        float, re.search(r"size: (\S+)px[^>]*y=\"(\S+)\"[^>]*>distance<", svg).groups()
    )
    assert height > size  # the foot of the letters, from the picture's upper edge


def test_ticks_between_powers_of_ten_are_written_like_the_others():
    figure = figures.curves([1, 2], {"a": [2e-6, 5e-6], "b": [3e-6, 4e-6]}, ylabel="distance")
    svg = figure._repr_mimebundle_()["image/svg+xml"]
    assert ">3 × 10⁻⁶</text>" in svg and "mathdefault" not in svg
    figure = figures.curves([1, 2], {"a": [0.2, 0.5], "b": [0.3, 0.4]}, ylabel="distance")
    assert ">0.3</text>" in figure._repr_mimebundle_()["image/svg+xml"]


def test_lines_may_have_times_of_their_own():
    figure = figures.curves(
        {"a": [0, 1], "b": [0, 1, 2]}, {"a": [1, 2], "b": [1, 2, 3]}, ylabel="f"
    )
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [2, 3]


def test_few_values_are_drawn_with_their_points():
    few, many = np.arange(1, 4), np.arange(1, 40)
    figure = figures.curves({"few": few, "many": many}, {"few": few, "many": many}, ylabel="f")
    assert [line.get_marker() for line in figure.axes[0].get_lines()] == ["o", "None"]


def test_panels_with_times_of_their_own():
    groups = {"short": {"GD": [1, 2]}, "long": {"GD": [1, 2, 3]}}
    times = {"short": {"GD": [0, 1]}, "long": {"GD": [0, 2, 4]}}
    drawn = [
        axes.lines[0].get_xdata().tolist()
        for axes in figures.panels(times, groups, ylabel="loss").axes
    ]
    assert drawn == [[0, 1], [0, 2, 4]]


def test_equal_labels_look_alike_in_all_panels():
    values = np.linspace(1, 2, 20)
    figure = figures.panels(
        values,
        {"one": {"GF": values, "GD": 2 * values}, "two": {"GD": values, "a third line": values}},
        ylabel="distance",
    )
    first, second = figure.axes
    assert first.get_lines()[1].get_color() == second.get_lines()[0].get_color()
    assert [text.get_text() for text in first.texts] == ["GF", "GD"]


def test_names_at_the_ends_keep_apart_and_have_their_lines_colours():
    values = np.linspace(1, 2, 20)
    lines = {f"line {k}": values * (1 + 1e-6 * k) for k in range(5)}
    figure = figures.curves(values, lines, ylabel="distance")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    right = figure.axes[0].get_window_extent().x1
    assert all(box.x0 > right and box.x1 <= figure.bbox.x1 for box in boxes)


def test_names_of_lines_that_end_together_stand_as_the_lines_come_in():
    times = np.linspace(0, 1, 50)
    lines = {f"{i}": -np.exp(-((12 * times - i) ** 2)) for i in (3, 1, 4, 2)}
    deeper = {f"{i}": -i * (1 - times) for i in (3, 1, 4, 2)}
    for together in (lines, deeper):
        figure = figures.curves(times, together, ylabel="f", yscale="linear")
        from_above = sorted(figure.axes[0].texts, key=lambda text: -text.xy[1])
        assert "".join(text.get_text() for text in from_above) == "1234"


def test_a_name_stands_by_the_right_end_of_its_line():
    falling = figures.curves(
        {"a": [3, 2, 1], "b": [1, 2]}, {"a": [9, 5, 1], "b": [4, 5]}, ylabel="f", yscale="linear"
    )
    (axes,) = falling.axes
    assert [text.get_text() for text in axes.texts] == ["b", "a"]
    # The end of b is far from the edge: a line leads to its name.
    (leader,) = axes.collections
    assert leader.get_linestyle() != [(0, None)]
    heights = leader.get_paths()[0].vertices[:, 1]
    assert heights[0] == pytest.approx(heights[1]) == pytest.approx(axes.texts[0].xy[1])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_labels_of_ticks_keep_apart_on_a_phone(scale):
    places = np.linspace(-0.68, 1.28, 30) if scale == "linear" else np.linspace(0.003, 0.03, 30)
    figure = figures.curves(places, {"GD": 2 + places}, ylabel="f", xscale=scale).narrow()
    figure.draw_without_rendering()
    labels = figure.axes[0].xaxis.get_ticklabels(which="both")
    boxes = [label.get_window_extent().padded(3) for label in labels if label.get_text()]
    assert len(boxes) >= 3
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_step_sizes_are_named_where_they_were_taken():
    sizes = [0.03, 0.01, 0.003]
    for figure in (
        wide := figures.order_of_convergence(sizes, {"GD": [3, 1, 0.3]}, ylabel="error"),
        wide.narrow(),
    ):
        figure.draw_without_rendering()
        labels = figure.axes[0].xaxis.get_ticklabels(which="both")
        assert [label.get_text() for label in labels if label.get_text()] == [
            "0.003",
            "0.01",
            "0.03",
        ]


def test_for_a_phone_names_stand_below_and_cover_no_line():
    values = np.linspace(1, 2, 20)
    wide = figures.small_multiples(
        values, {"one": {"GF": values, "GD": values}, "two": {"GD": values}}, ylabel="distance"
    )
    narrow = wide.narrow()
    assert narrow.get_figwidth() < wide.get_figwidth() / 2
    assert len({round(axes.get_position().x0, 3) for axes in narrow.axes}) == 1
    narrow.draw_without_rendering()
    (legend,) = narrow.legends
    frame = legend.get_window_extent()
    assert frame.y0 >= 0
    assert not any(frame.overlaps(axes.get_tightbbox()) for axes in narrow.axes)


def test_for_a_phone_a_bold_title_is_broken_before_it_is_cut():
    title = "ReLU network, hidden widths [20, 20], seed 0"
    narrow = figures.curves([1, 2], {"a": [1, 2]}, ylabel="f", title=title).narrow()
    assert max(map(len, narrow.axes[0].get_title(loc="left").split("\n"))) <= 40


def test_roles_are_told_by_labels_or_given():
    labels = ["GF", "GD, η₀", "the talk's bound", "predicted", "error of the flow", "depth 3"]
    roles = ["flow", "descent", "bound", "prediction", "error", "series"]
    found = figures.looks([labels])
    assert [found[label].colour for label in labels] == [figures.ROLES[role] for role in roles]
    given = figures.looks([["depth 2", "depth 3"]], {"depth 3": "bound"})
    assert given["depth 3"].colour == figures.ROLES["bound"]
    assert given["depth 2"].colour == figures.ROLES["series"]


def test_numbers_in_words_are_not_rounded():
    figure = figures.curves([0, 1], {"a": [1, 2]}, ylabel="f", title="η = 0.00512345")
    assert "η = 0.00512345</text>" in figure._repr_mimebundle_()["image/svg+xml"]


def test_a_notebook_gets_both_renderings_whose_text_is_text():
    values = np.linspace(1, 2, 20)
    figure = figures.curves(values, {"GF": values, "GD": values}, ylabel="distance")
    bundle = figure.captioned("**They agree.**")._repr_mimebundle_()
    wide, extra = bundle["image/svg+xml"], bundle[figures.MIME_TYPE]
    assert 'width="760"' in wide and 'width="358"' in extra["narrow"]
    assert extra["caption"] == "**They agree.**"
    for drawn in (wide, extra["narrow"]):
        assert ">distance</text>" in drawn and "DejaVu" not in drawn and "<metadata" not in drawn
        assert len(drawn) < 60_000
    assert figure._repr_mimebundle_() == bundle  # the same picture, the same file


def test_a_single_line_needs_no_legend():
    assert names(figures.curves([0, 1], {"a": [1, 2]}, ylabel="f")) == []


def test_no_two_lines_look_alike():
    found = figures.looks([[f"line {k}" for k in range(30)]])
    assert len(set(found.values())) == 30


def test_order_of_convergence_shows_the_slope():
    sizes = np.array([0.1, 0.05, 0.01])
    figure = figures.order_of_convergence(sizes, {"Euler": 3 * sizes**2}, ylabel="error")
    assert figure.axes[0].get_lines()[0].get_label() == "Euler: slope 2.00"
    assert figures.fitted_slope(sizes, sizes**-1.5) == pytest.approx(-1.5)


def test_spectrum_draws_both_ends():
    objective = quadratic(-1.0, 2.0)
    flow = gradient_flow(objective, torch.ones(2).double(), torch.linspace(0, 1, 4))
    figure = figures.spectrum({"flow": spectrum_along(objective, flow)})
    top, bottom = figure.axes
    np.testing.assert_allclose(top.get_lines()[0].get_ydata(), 2.0)
    np.testing.assert_allclose(bottom.get_lines()[0].get_ydata(), -1.0)
    assert bottom.get_ylim()[1] < 0  # no empty half for values that do not occur


def test_paths_on_contours_cuts_what_runs_away():
    bowl = landscape("bowl")
    away = torch.tensor([[1.0, 1.0], [-3.0, 3.0], [1e3, 1e200]])
    figure = figures.paths_on_contours(
        {
            "one": (bowl, {"GF": torch.ones(200, 2), "GD": away}),
            "two": (landscape("saddle"), {"GD": torch.zeros(5, 2)}),
            "three": (bowl, {"GF": torch.ones(200, 2)}),
        }
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "two", "three", ""]
    first, second = figure.axes[:2]
    assert first.get_xlim() == (-2, 2) and first.get_aspect() == 1
    lines = {line.get_label(): line for line in first.get_lines()}
    assert len(lines["GD"].get_xdata()) == 2
    assert lines["GD"].get_marker() == "o" and lines["GF"].get_marker() == "None"
    assert names(figure) == ["GF", "GD"]
    same = {line.get_label(): line for line in second.get_lines()}["GD"]
    assert same.get_color() == lines["GD"].get_color()
    figure.draw_without_rendering()


def test_small_multiples_share_a_legend_and_not_a_scale():
    times = np.linspace(0, 1, 4)
    figure = figures.small_multiples(
        times,
        {"a": {"error": times, "bound": 2 * times}, "b": {"error": times}, "c": {"bound": times}},
        ylabel="error",
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b", "c", ""]
    assert names(figure) == ["error", "bound"]
    bound = figure.axes[0].get_lines()[1]
    assert figure.axes[2].get_lines()[0].get_color() == bound.get_color()
    assert np.isnan(bound.get_ydata()[0])
    figure.draw_without_rendering()


@pytest.mark.parametrize("count", [2, 6])
def test_rows_of_panels_fit_on_a_screen_together(count):
    groups = {f"panel {i}": {"GD": [1, 2, 3]} for i in range(count)}
    few = dict(list(groups.items())[:3])
    for figure in (
        figures.panels([1, 2, 3], few, ylabel="f"),
        figures.small_multiples([1, 2, 3], groups, ylabel="f", columns=1 + count // 4, height=4.0),
    ):
        assert 96 * figure.get_figheight() <= 520
    phone = figures.panels([1, 2, 3], groups, ylabel="f").narrow()
    assert 96 * phone.get_figheight() > 220 * count  # there panels keep their height


def test_distribution_is_the_share_of_values_below():
    figure = figures.distribution({"a": [1.0, 2.0, 4.0, 8.0]}, xlabel="ratio")
    (line,) = figure.axes[0].get_lines()
    x, y = line.get_data()
    assert y[x <= 2.0].max() == 0.5 and y.max() == 1.0
    with pytest.raises(ValueError, match=r"values\['a'\]"):
        figures.distribution({"a": [1.0, np.nan]}, xlabel="ratio")


def test_direction_fields_draw_directions_as_long_as_each_other():
    slope = figures.DirectionField(
        directions=lambda p: torch.stack([torch.ones_like(p[..., 0]), p[..., 1]], -1),
        domain=((0.0, 2.0), (-1.0, 1.0)),
        paths={"Euler": np.zeros((3, 2)), "exact": np.zeros((100, 2))},
    )
    plane = figures.DirectionField(
        directions=lambda p: -p,
        domain=((-1.0, 1.0), (-2.0, 2.0)),
        paths={"exact": np.zeros((100, 2))},
        labels=("θ₁", "θ₂"),
        equal=True,
    )
    figure = figures.direction_fields({"slopes": slope, "plane": plane})
    first, second = figure.axes
    assert (first.get_xlabel(), second.get_xlabel()) == ("time t", "θ₁")
    for axes in figure.axes:
        (arrows,) = axes.collections
        np.testing.assert_allclose(np.hypot(arrows.U, arrows.V), 1.0)
    assert second.get_box_aspect() == 2.0
    euler, exact = first.get_lines()
    assert euler.get_marker() == "o" and exact.get_marker() == "None"
    assert second.get_lines()[0].get_color() == exact.get_color()
    figure.draw_without_rendering()


def test_phase_portrait_draws_streamlines_paths_and_rest_points():
    flow = figures.DirectionField(
        lambda at: -at,
        ((-1.0, 1.0), (-1.0, 2.0)),
        {"inwards": torch.tensor([[1.0, 1.0], [0.0, 0.0]])},
        labels=("x", "y"),
    )
    marks = {"sink": [0.0, 0.0], "line": [[0.0, -1.0], [0.0, 2.0]]}
    figure = figures.phase_portrait({"a": flow, "b": flow, "c": flow}, marks=marks)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b", "c", ""]
    axes = figure.axes[0]
    assert axes.get_xlim() == (-1, 1) and axes.get_ylim() == (-1, 2)
    assert len(axes.get_xticks()) <= 6  # of two panels side by side they would touch
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert names(figure) == ["inwards", "sink", "line"]
    # Streamlines of −θ lie on rays: both ends have the same direction from 0.
    for start, end in (s[[0, -1]] for s in axes.collections[0].get_segments()):
        assert abs(start[0] * end[1] - start[1] * end[0]) < 0.02


def test_matrices_share_a_scale_and_leave_gaps():
    seen = np.array([[1.0, -2.0], [np.nan, 0.5]])
    figure = figures.matrices({"seen": seen, "all": torch.ones(2, 2)}, label="entry", columns=3)
    first, second, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["seen", "all"]
    images = [axes.get_images()[0] for axes in (first, second)]
    assert all(image.get_clim() == (-2, 2) for image in images)
    assert np.ma.is_masked(images[0].get_array()[1, 0])
    assert bar.get_ylabel() == "entry"


def test_on_a_phone_matrices_stand_in_twos():
    five = {f"matrix {i}": np.eye(3) for i in range(5)}
    phone = figures.matrices(five, label="entry").narrow()
    first, second, third = (axes.get_position() for axes in phone.axes[:3])
    assert first.y0 == pytest.approx(second.y0)
    assert second.x0 > first.x1
    assert third.y1 < first.y0
    assert 96 * phone.get_figheight() < 600


def test_staircase_leads_from_each_value_to_the_next():
    figure = figures.staircase({"measured": 1e-3, "sharp": 2e-3, "crude": 1.0}, xlabel="distance")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "distance"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["measured", "sharp", "crude"]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    np.testing.assert_allclose(bars, [(1e-3, 2e-3), (2e-3, 1.0)])
    assert [text.get_text() for text in axes.texts] == ["× 2", "× 500"]
    top, bottom = axes.get_ylim()[::-1]
    assert top < bottom  # the chain reads from top to bottom


@pytest.mark.parametrize("totals", [{"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": np.nan}])
def test_a_staircase_needs_positive_numbers(totals):
    with pytest.raises(ValueError, match="totals"):
        figures.staircase(totals, xlabel="distance")


def test_titles_side_by_side_are_equally_high():
    groups = {title: {"GF": [1, 2, 3]} for title in "abcd"}
    figure = figures.small_multiples([1, 2, 3], groups, ylabel="distance")
    figure.draw_without_rendering()
    heights = [axes._left_title.get_window_extent().y0 for axes in figure.axes]
    assert heights[0] == pytest.approx(heights[1])
    assert heights[2] == pytest.approx(heights[3])


def test_small_multiples_may_have_times_of_their_own():
    times = {"a": {"GF": np.arange(3.0)}, "b": {"GF": np.arange(4.0)}}
    groups = {"a": {"GF": np.ones(3)}, "b": {"GF": np.ones(4)}}
    figure = figures.small_multiples(times, groups, ylabel="distance")
    drawn = [axes.get_lines()[0].get_xdata() for axes in figure.axes[:2]]
    assert [list(xs) for xs in drawn] == [[0, 1, 2], [0, 1, 2, 3]]


def test_small_multiples_may_be_logarithmic_in_time_with_broad_lines():
    times = np.array([1.0, 10.0, 100.0])
    figure = figures.small_multiples(
        times,
        {"a": {"seen": times, "said": times}, "b": {"said": times}},
        ylabel="f",
        xscale="log",
        columns=1,
        broad=["seen"],
    )
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    seen, said = figure.axes[0].get_lines()
    assert seen.get_linewidth() > 2 * said.get_linewidth()
    assert seen.get_zorder() < said.get_zorder()


def test_raster_has_a_bar_where_a_switch_is_on():
    times = [0.0, 1.0, 2.0, 3.0]
    first = [[True, False], [True, True], [False, True], [False, True]]
    second = [[False, True], [False, False], [True, True], [False, False]]
    figure = figures.raster(times, {"a": first, "b": second}, ["image 3", "image 7"])
    bars = [
        [tuple(path.get_extents().intervalx) for path in collection.get_paths()]
        for collection in figure.axes[0].collections
    ]
    assert bars == [[(0, 2)], [(1, 3)], [(2, 3)], [(0, 1), (2, 3)]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["image 3", "image 7"]
    assert names(figure) == ["a", "b"]


def test_no_line_of_a_label_begins_with_a_bare_number():
    assert wrapped("off-the-shelf, seed 1", 20) == "off-the-shelf,\nseed 1"
    assert wrapped("300 digits and 10 units, 4", 12) == "300 digits\nand 10\nunits, 4"
