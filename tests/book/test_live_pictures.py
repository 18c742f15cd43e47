"""The live picture and the animation, in a real browser with the network cut."""

import json
import re

import pytest
import torch
from matplotlib.figure import Figure

from gfgd import Objective, gradient_descent, gradient_flow
from gfgd.book import live
from gfgd.problems.landscapes import LANDSCAPES, landscape

from .watching import drag, swipe


def picture(name="bowl", start=(1.5, 1.0), step_size=0.1, horizon=3.0):
    return live.gradient_paths(
        landscape=name, start=start, step_size=step_size, horizon=horizon
    ).html


def result(page):
    return json.loads(page.locator(".gfgd-live").get_attribute("data-result"))


def from_the_library(shown):
    objective = landscape(shown["landscape"]).objective
    start = torch.tensor(shown["start"], dtype=torch.float64)
    gd = gradient_descent(
        objective, start, step_size=shown["step_size"], iterations=shown["iterations"]
    )
    times = torch.tensor([0.0, shown["time"]], dtype=torch.float64)
    gf = gradient_flow(objective, start, times, rtol=1e-11, atol=1e-12, estimate_error=False)
    return gd, gf


def assert_agrees(shown):
    gd, gf = from_the_library(shown)
    assert gd.completed and shown["diverged"] is None and shown["reached"]
    assert shown["gd"] == pytest.approx(gd.points[-1].tolist(), rel=1e-6, abs=1e-6)
    assert shown["gf"] == pytest.approx(gf.points[-1].tolist(), rel=1e-6, abs=1e-6)
    assert shown["gd_loss"] == pytest.approx(gd.losses[-1].item(), rel=1e-6, abs=1e-6)
    assert shown["gf_loss"] == pytest.approx(gf.losses[-1].item(), rel=1e-6, abs=1e-6)


@pytest.mark.browser
@pytest.mark.parametrize("name", LANDSCAPES)
def test_numbers_are_the_librarys(open_html, name):
    page = open_html(picture(name, start=(-1.3, 0.55), step_size=0.05, horizon=4.0))
    assert_agrees(result(page))
    page.locator("input.x").fill("0.85")
    page.locator("input.y").fill("1.25")
    page.locator("input.horizon").fill("1.5")
    shown = result(page)
    assert shown["start"] == [0.85, 1.25] and shown["time"] == pytest.approx(1.5)
    assert_agrees(shown)


@pytest.mark.browser
def test_the_picture_says_when_descent_diverges(open_html):
    page = open_html(picture("quartic", start=(2.0, 2.0), step_size=1.0, horizon=10.0))
    shown = result(page)
    gd, _ = from_the_library(shown)
    assert not gd.completed and f"iteration {shown['diverged']}" in gd.status
    page.get_by_role("status").get_by_text("GD diverges").wait_for()


@pytest.mark.browser
def test_mouse_keyboard_and_choices(open_html):
    page = open_html(picture())
    handle = page.get_by_role("slider", name="Start")
    x, y = drag(page, handle, -60, 30)
    dragged = result(page)
    assert dragged["start"][0] < 1.4 and dragged["start"][1] < 0.95
    assert_agrees(dragged)
    page.mouse.move(x, y)  # released: it stays
    assert result(page)["start"] == dragged["start"]

    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    after = result(page)["start"]
    assert after == pytest.approx([dragged["start"][0] + 0.05, dragged["start"][1] + 0.5])
    assert f"x = {after[0]:g}" in handle.get_attribute("aria-valuetext")
    for _ in range(20):  # the start cannot leave the drawing
        page.keyboard.press("Shift+ArrowRight")
    assert result(page)["start"][0] == 2.0

    page.get_by_label("Step size").focus()
    page.keyboard.press("ArrowRight")
    assert result(page)["step_size"] == 0.15
    page.get_by_role("combobox").select_option("valley")
    page.get_by_label("Step size").fill("1")
    shown = result(page)
    assert shown["step_size"] == 0.02
    assert shown["landscape"] == "valley" and shown["start"][0] == 1.6
    assert_agrees(shown)
    page.get_by_role("status").get_by_text("apart").wait_for()
    assert page.locator(".contours").get_attribute("d")


@pytest.mark.browser
def test_on_a_phone_by_touch_and_on_a_dark_page(open_html):
    page = open_html(
        picture(), viewport={"width": 390, "height": 800}, has_touch=True, color_scheme="dark"
    )
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    box = page.locator(".gfgd-live svg").bounding_box()
    page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 0.7 * box["height"])
    assert result(page)["start"][0] < 0
    for name in ("select", "input[type=range]", "input[type=number]"):
        assert page.locator(name).first.bounding_box()["height"] >= 24
    colours = page.locator(".gfgd-live").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert colours == ["rgb(31, 35, 40)", "rgb(255, 255, 255)"]  # a page without a theme


@pytest.mark.browser
def test_a_finger_on_the_ring_drags_it_and_elsewhere_scrolls_the_page(open_html):
    filler = "<div style='height: 3000px'></div>"
    page = open_html(
        picture() + filler, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    box = page.locator(".handle .ring").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    width = page.locator(".gfgd-live svg").bounding_box()["width"]
    swipe(page, x, y, -100, 60)
    moved = result(page)["start"][0] - 1.5
    # The bowl is 4 wide and the drawing 400 of 432 units.
    assert moved == pytest.approx(-100 * 4 / (width * 400 / 432), abs=0.06)
    assert page.evaluate("scrollY") == 0
    swipe(page, 60, 700, 0, -200)
    page.wait_for_function("scrollY > 50")


@pytest.mark.browser
def test_two_pictures_on_a_page_do_not_disturb_each_other(open_html):
    page = open_html(picture() + picture("saddle"))
    first, second = page.locator(".gfgd-live").all()
    second.locator("input.x").fill("0.5")
    assert json.loads(first.get_attribute("data-result"))["start"] == [1.5, 1.0]
    assert json.loads(second.get_attribute("data-result"))["start"] == [0.5, 1.0]


def frames():
    made = []
    for height in (1, 2, 3):
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().bar([0], [height])
        made.append(figure)
    return made


def animated():
    return live.animation(frames(), alt='Bars that "grow".', interval=60).html


@pytest.mark.browser
def test_animation_plays_and_pauses(open_html):
    page = open_html(animated())
    image = page.get_by_role("img", name='Bars that "grow".')
    first = image.get_attribute("src")
    page.wait_for_function("src => document.querySelector('img').src !== src", arg=first)
    page.get_by_role("button", name="Pause").click()
    stopped = image.get_attribute("src")
    page.wait_for_timeout(200)
    assert image.get_attribute("src") == stopped
    page.get_by_label("Frame").fill("1")
    assert page.get_by_role("button", name="Play").is_visible()


@pytest.mark.browser
def test_animation_waits_where_motion_is_unwelcome(open_html):
    page = open_html(animated(), reduced_motion="reduce")
    first = page.locator("img").get_attribute("src")
    page.wait_for_timeout(200)
    assert page.locator("img").get_attribute("src") == first
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("src => document.querySelector('img').src !== src", arg=first)


def test_what_is_shown_has_words_and_asks_no_other_host():
    shown = live.gradient_paths(landscape="bowl", start=(1, 1), step_size=0.1, horizon=2)
    bundle = shown._repr_mimebundle_()
    assert "live picture" in bundle["text/plain"]
    assert "http" not in bundle["text/html"]
    with pytest.raises(ValueError, match="landscape = 'hill'"):
        picture("hill")
    with pytest.raises(ValueError, match="step_size = 0"):
        picture(step_size=0)
    with pytest.raises(ValueError, match="frames = 1"):
        live.animation(frames()[:1], alt="one")


def edge(**changes):
    settings = {"step_size": 0.1, "pull": 0.05, "start": 0.3, "sharpness": 0.98, "step": 330}
    return live.edge_of_stability(**(settings | changes)).html


def assert_is_the_librarys_edge(shown):
    eta, c, k = shown["eta"], shown["c"], shown["k"]
    objective = Objective(lambda p: 0.5 * p[..., 1] * p[..., 0] ** 2 - c * p[..., 1], dimension=2)
    start = torch.tensor([shown["x"], shown["ratio"] * 2 / eta], dtype=torch.float64)
    run = gradient_descent(objective, start, step_size=eta, iterations=k)
    assert shown["end"] == pytest.approx(run.points[-1].tolist(), rel=1e-6, abs=1e-6)
    assert shown["loss"] == pytest.approx(run.losses[-1].item(), rel=1e-6, abs=1e-6)
    assert shown["mean_x2"] == pytest.approx((run.points[:-1, 0] ** 2).mean().item(), rel=1e-6)


def edge_result(page):
    return json.loads(page.locator(".gfgd-scene").get_attribute("data-result"))


@pytest.mark.browser
def test_the_edge_agrees_with_the_library_by_mouse_and_keyboard(open_html):
    page = open_html(edge())
    assert_is_the_librarys_edge(edge_result(page))
    drag(page, page.locator(".handle .ring"), 40, 20)
    dragged = edge_result(page)
    assert dragged["x"] > 0.35 and dragged["ratio"] < 0.98
    assert_is_the_librarys_edge(dragged)
    page.locator(".handle").focus()
    page.keyboard.press("Shift+ArrowUp")
    assert edge_result(page)["ratio"] == pytest.approx(dragged["ratio"] + 0.01)
    for name, value in (("step size", "0.12"), ("pull", "0.03"), ("step k", "250")):
        page.get_by_label(name).fill(value)
    shown = edge_result(page)
    assert (shown["eta"], shown["c"], shown["k"]) == (0.12, 0.03, 250)
    assert_is_the_librarys_edge(shown)
    page.get_by_role("button", name="Reset").click()
    assert edge_result(page)["k"] == 330
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(
        "JSON.parse(document.querySelector('.gfgd-scene').dataset.result).k !== 330"
    )
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("status").get_by_text("the mean of x²").wait_for()


@pytest.mark.browser
def test_the_edge_fits_a_phone_and_is_dragged_by_a_finger(open_html):
    filler = "<div style='height: 3000px'></div>"
    page = open_html(
        edge() + filler, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    sizes = page.locator(".gfgd-scene svg text").evaluate_all(
        "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 12
    for control in page.locator(".gfgd-scene :is(button, input)").all():
        assert control.bounding_box()["height"] >= 39
    ring = page.locator(".handle .ring").bounding_box()
    swipe(page, ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2, 60, 40)
    shown = edge_result(page)
    assert shown["x"] > 0.4 and page.evaluate("scrollY") == 0
    assert_is_the_librarys_edge(shown)
    swipe(page, 60, 120, 0, -90)
    page.wait_for_function("scrollY > 30")
    assert edge_result(page)["x"] == shown["x"]


@pytest.mark.browser
def test_without_a_script_the_edge_stands_finished(open_html):
    page = open_html(edge(), java_script_enabled=False, viewport={"width": 390, "height": 844})
    drawing = page.get_by_role("img", name="gradient descent winds")
    assert 150 < drawing.bounding_box()["height"] < 300
    assert page.get_by_text("central flow", exact=True).is_visible()
    shown = re.findall(r'points="([^"]*)"', edge())
    assert len(shown) == 7  # the level twice, both signs of x, three sharpnesses
    last = [float(entry) for entry in shown[-1].split()[-1].split(",")]
    objective = Objective(
        lambda p: 0.5 * p[..., 1] * p[..., 0] ** 2 - 0.05 * p[..., 1], dimension=2
    )
    start = torch.tensor([0.3, 0.98 * 20], dtype=torch.float64)
    y = gradient_descent(objective, start, step_size=0.1, iterations=330).points[-1, 1].item()
    # The panel is 260 high for 0.95 to 1.05 times 2/η, and 300 wide for 600 steps.
    assert last == pytest.approx([165, 2600 * (1.05 - y / 20)], abs=0.06)


@pytest.mark.browser
def test_a_script_takes_the_drawings_place(open_html):
    page = open_html(edge())
    assert page.get_by_role("img").count() == 0
    assert page.get_by_role("slider", name="Start").is_visible()


def test_the_edge_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"step_size = 0\.5"):
        edge(step_size=0.5)
