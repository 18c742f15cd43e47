"""Live pictures of curves: what the browser computes is what the library does."""

import json
import math

import pytest
import torch
from scipy.integrate import quad

from gfgd import Objective, gradient_descent, gradient_flow
from gfgd.book import live
from gfgd.bounds import signed_coefficient, signed_step_size
from gfgd.bounds.curvature import aligned_smallest_eigenvalue, rate_integral_bound
from gfgd.imperfections.gates import kind_of_kink, saltation
from gfgd.imperfections.rounding import CompensatedSum, spacing
from gfgd.large_steps.modified import barrett_dherin_flow, next_order_flow

from .watching import drag, swipe

FACTORS = {"direction": 21.0, "norms": 13.0, "constants": 220.0}
PICTURES = {
    "curvature": live.curvature_along_a_flow,
    "depth": live.depth_and_curvature,
    "steps": live.steps_in_single_precision,
    "series": live.series_of_modified_flows,
    "kink": live.flow_at_a_kink,
    "stairs": lambda: live.stairs_to_a_bound(6.2e-4, FACTORS),
}


def result(page):
    return json.loads(page.locator(".gfgd-scene").get_attribute("data-result"))


def fill(page, **values):
    for name, value in values.items():
        page.get_by_role("slider", name=name.replace("_", " ")).fill(str(value))
    return result(page)


def assert_is_the_bound(shown):
    times = torch.linspace(0, shown["horizon"], 201, dtype=torch.float64)
    knots = [shown[key] for key in ("first", "middle", "last")]
    centres = (times[1:] + times[:-1]) / 2
    part = 2 * centres / shown["horizon"]
    curve = torch.where(
        part < 1,
        knots[0] + (knots[1] - knots[0]) * part,
        knots[1] + (knots[2] - knots[1]) * (part - 1),
    )
    constants = {"smoothness": shown["smoothness"], "gradient_norm": shown["gradient"]}
    bound = signed_coefficient(times, rate=-curve, **constants)[-1]
    step = signed_step_size(10 ** shown["power"], times, rate=-curve, **constants)
    assert shown["coefficient"] == pytest.approx(float(bound), rel=1e-6)
    assert shown["step_size"] == pytest.approx(step, rel=1e-6)
    area = (knots[0] + 2 * knots[1] + knots[2]) * shown["horizon"] / 4
    assert shown["stretch"] == pytest.approx(math.exp(-area), rel=1e-9)


@pytest.mark.browser
def test_the_bound_of_a_curve_by_mouse_keyboard_and_slider(open_html):
    page = open_html(live.curvature_along_a_flow().html)
    assert_is_the_bound(result(page))
    drag(page, page.locator(".handle .ring").nth(1), 30, 60)
    dragged = result(page)
    assert dragged["middle"] < -0.7 and dragged["first"] == -0.5
    assert_is_the_bound(dragged)
    page.locator(".handle").nth(2).focus()
    page.keyboard.press("Shift+ArrowUp")
    assert result(page)["last"] == pytest.approx(0.9)
    for _ in range(5):  # it stays in the picture
        page.keyboard.press("Shift+ArrowUp")
    assert result(page)["last"] == 2
    shown = fill(page, gap=-1)
    assert shown["power"] == -1
    assert_is_the_bound(shown)
    page.get_by_role("button", name="Reset").click()
    assert result(page)["middle"] == -0.2
    page.get_by_role("status").get_by_text("is proved to do").wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("knots", [(2, 2, 2), (-2, -2, -2), (0, 0, 0), (2, -2, 2)])
def test_the_bound_of_extreme_curves(open_html, knots):
    page = open_html(live.curvature_along_a_flow(knots=knots, power=-1).html)
    assert_is_the_bound(result(page))


def opposite(radius, depth):
    """Return λmin of ½(W_n ⋯ W_1 − 1)², hidden widths 2, where the product is −radius."""
    one = torch.zeros(2, 2, dtype=torch.float64)
    one[0, 0] = radius ** (1 / depth)
    layers = [one[:, :1], *[one] * (depth - 2), -one[:1]]
    sizes = [layer.numel() for layer in layers]

    def loss(point):
        product = torch.eye(1, dtype=torch.float64)
        for part, layer in zip(point.split(sizes), layers, strict=True):
            product = part.view(layer.shape) @ product
        return 0.5 * (product - 1).square().sum()

    point = torch.cat([layer.flatten() for layer in layers])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, point))[0].item()


@pytest.mark.browser
def test_depth_and_start(open_html):
    page = open_html(live.depth_and_curvature().html)
    for depth, power in ((2, -0.5), (2, -4), (3, -2), (5, -1), (8, -4), (8, -0.5)):
        shown = fill(page, depth=depth, start=power)
        start, stop = 10.0**power, 1 - 1e-12
        radii = 10 ** torch.linspace(power, 0, 201, dtype=torch.float64).clamp(max=-1e-16)
        smallest = aligned_smallest_eigenvalue(radii, 1.0, depth).min()
        assert shown["smallest"] == pytest.approx(float(smallest), rel=1e-6)
        assert shown["bound"] == pytest.approx(
            math.exp(rate_integral_bound(start, 1.0, 1.0, depth)), rel=1e-6
        )

        def rate(log_radius, depth=depth):  # −λmin dt / d log r, with r′ = n (1 − r) r^(2 − 2/n)
            radius = math.exp(log_radius)
            lowest = float(aligned_smallest_eigenvalue(torch.tensor(radius), 1.0, depth))
            return -lowest / (depth * (1 - radius) * radius ** (1 - 2 / depth))

        turn = max((depth - 2) / (2 * depth - 2), start)
        begin, middle, end = math.log(start), math.log(turn), math.log(stop)
        grown = quad(rate, begin, middle)[0] + quad(rate, middle, end)[0]
        assert shown["stretch"] == pytest.approx(math.exp(grown), rel=1e-6)
        assert shown["opposite"] == pytest.approx(opposite(start, depth), rel=1e-6)


@pytest.mark.browser
def test_steps_in_single_precision(open_html):
    page = open_html(live.steps_in_single_precision().html)
    ends = []
    for part, power in ((0.45, 0), (0.5, -3), (0.55, 4), (1.7, 1), (0, -6)):
        shown = fill(page, step=part, exponent=power)
        weight = torch.tensor(1.3 * 2.0**power)
        assert shown["weight"] == float(weight)
        assert shown["spacing"] == float(spacing(weight))
        step, single, carried, carry = torch.tensor(shown["step"]), weight, weight, CompensatedSum()
        for _ in range(40):
            single, carried = single + step, carry(carried, -step)
        assert shown["end"] == float(single)
        assert shown["carried"] == float(carried)
        assert shown["exact"] == pytest.approx(float(weight) + 40 * float(step), rel=1e-12)
        ends.append((shown["end"] - shown["weight"]) / shown["spacing"])
    assert ends[0] == 0 and ends[2] == 40  # 0.45 is rounded away, 0.55 up to 1


@pytest.mark.browser
def test_series_of_modified_flows(open_html):
    page = open_html(live.series_of_modified_flows().html)
    one = torch.ones(1, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    tight = {"rtol": 1e-10, "atol": 1e-12}
    for x in (0.35, 1.2, 2.4):
        bowl = Objective(lambda p, x=x: 0.5 * x * p[..., 0] ** 2, dimension=1)
        flows = [
            gradient_flow(bowl, one, times, **tight),
            barrett_dherin_flow(bowl, one, times, step_size=1.0, **tight),
            next_order_flow(bowl, one, times, step_size=1.0, **tight),
        ]
        for order, flow in enumerate(flows, 1):
            shown = fill(page, order=order, ηλ=x)
            assert shown["modified"] == pytest.approx(flow.points[-1].item(), rel=1e-6)
        descent = gradient_descent(bowl, one, step_size=1.0, iterations=1).points[-1].item()
        assert shown["descent"] == pytest.approx(descent, abs=1e-12)
    assert abs(fill(page, order=20, ηλ=0.5)["modified"] - 0.5) < 1e-7  # the series converges


@pytest.mark.browser
def test_a_flow_at_a_kink(open_html):
    page = open_html(live.flow_at_a_kink().html)
    for off, on, step in ((1.0, 0.5, 0.25), (0.5, 1.5, 0.1), (1.0, -0.8, 0.3), (1.5, 0.0, 0.05)):
        shown = fill(page, below=off, above=on, step_size=step)
        assert shown["kind"] == kind_of_kink(off, on)
        slope = Objective(
            lambda p, off=off, on=on: torch.where(p[..., 0] > 0, -on * p[..., 0], -off * p[..., 0]),
            dimension=1,
        )
        run = gradient_descent(
            slope,
            torch.tensor([-1.0], dtype=torch.float64),
            step_size=step,
            iterations=shown["iterations"],
        )
        assert shown["descent"] == pytest.approx(run.points[-1].item(), abs=1e-9)
        if on > 0:
            factor = saltation(torch.tensor(off), torch.tensor(on)).item()
            assert shown["after"] == pytest.approx(factor * shown["before"], rel=1e-6)
        else:
            assert shown["flow"] == shown["after"] == 0  # it slides, and both are in one place


@pytest.mark.browser
def test_stairs_without_some_of_the_inequalities(open_html):
    page = open_html(live.stairs_to_a_bound(6.2e-4, FACTORS).html)
    assert result(page)["bound"] == pytest.approx(6.2e-4 * math.prod(FACTORS.values()))
    page.get_by_role("status").get_by_text("60\u202f100 times the distance").wait_for()
    page.get_by_label("2. norms").uncheck()
    assert result(page)["bound"] == pytest.approx(6.2e-4 * 21 * 220)
    page.get_by_label("1. direction").uncheck()
    page.get_by_role("status").get_by_text("220 times the distance").wait_for()
    page.get_by_role("button", name="Reset").click()
    assert page.get_by_label("2. norms").is_checked()


@pytest.mark.browser
@pytest.mark.parametrize("name", PICTURES)
def test_it_fits_a_phone(open_html, name):
    page = open_html(
        PICTURES[name]().html,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    assert result(page)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    texts = page.locator(".gfgd-scene svg text")
    sizes = texts.evaluate_all("all => all.map(one => parseFloat(getComputedStyle(one).fontSize))")
    assert min(sizes) >= 12
    ends = texts.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(ends) <= 390
    for control in page.locator(".gfgd-scene :is(button, .slider input, .switch)").all():
        assert control.bounding_box()["height"] >= 39


@pytest.mark.browser
def test_a_finger_drags_the_curve_and_elsewhere_scrolls(open_html):
    page = open_html(
        live.curvature_along_a_flow().html + "<div style='height: 3000px'></div>",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    ring = page.locator(".handle .ring").nth(1).bounding_box()
    swipe(page, ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2, 0, 50)
    shown = result(page)
    assert shown["middle"] < -0.8 and page.evaluate("scrollY") == 0
    assert_is_the_bound(shown)
    swipe(page, 200, 420, 0, -100)
    page.wait_for_function("scrollY > 30")


@pytest.mark.browser
@pytest.mark.parametrize("name", PICTURES)
def test_without_a_script_a_drawing_stands_there(open_html, name):
    picture = PICTURES[name]()
    page = open_html(picture.html, java_script_enabled=False)
    drawing = page.locator("svg[role=img]")
    assert drawing.bounding_box()["height"] > 150
    assert drawing.get_attribute("aria-label")
    assert page.locator("polyline").count() >= 2
    assert page.get_by_text("With JavaScript the picture can be steered").is_visible()
    assert "http" not in picture.html.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: live.curvature_along_a_flow(knots=(0, 1)), "three values"),
        (lambda: live.curvature_along_a_flow(knots=(0, 3, 0)), "knots = 3"),
        (lambda: live.depth_and_curvature(depth=1), "depth = 1"),
        (lambda: live.depth_and_curvature(power=0), "power = 0"),
        (lambda: live.steps_in_single_precision(part=3), "part = 3"),
        (lambda: live.series_of_modified_flows(order=21), "order = 21"),
        (lambda: live.flow_at_a_kink(off=0), "off = 0"),
        (lambda: live.stairs_to_a_bound(0, FACTORS), "measured = 0"),
        (lambda: live.stairs_to_a_bound(1, {}), "factors = 0"),
        (lambda: live.stairs_to_a_bound(1, {"a": -1}), "'a'"),
    ],
)
def test_what_a_picture_cannot_show_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
