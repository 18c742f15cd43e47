"""Every page of the built book, opened from its folder in a real browser with the network cut.

A page is opened once, on a wide screen; all tests look at it, and the last ones change it. To lay
out its thousands of formulas anew costs most, so that its width changes twice only.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from .conftest import HTML, built_pages
from .watching import PATIENCE, watch

pytestmark = [pytest.mark.browser, pytest.mark.book]

PHONE, DESKTOP = 390, 1440
TEX = re.compile(r"\\[a-zA-Z]+|\\[\[\](){}]|\$")

UNFOLD = """() => {
  document.querySelectorAll("details").forEach((part) => (part.open = true));
  document.querySelectorAll(".toggle-hidden").forEach((b) => b.classList.remove("toggle-hidden"));
}"""
WORDS = """() => {
  const page = document.querySelector("main").cloneNode(true);
  page.querySelectorAll("pre, code, script, style, mjx-container").forEach((part) => part.remove());
  return page.textContent;
}"""
# The frame after a change of size gives what scrolls its place in the order of the keys: however
# busy the machine is, the one after that finds it there.
TWO_FRAMES = """() => new Promise(
  (done) => requestAnimationFrame(() => requestAnimationFrame(done))
)"""
REACHABLE = """() => [
  ...document.querySelectorAll("pre, .cell_output > .output, .pst-scrollable-table-container")
].every((box) => box.scrollWidth <= box.clientWidth || box.tabIndex === 0)"""
# Figures are drawn in dark ink for a light ground, unless they are shown inverted.
DARK_GROUND = """() => {
  const ground = (part) => {
    const colour = getComputedStyle(part).backgroundColor.match(/[\\d.]+/g).map(Number);
    return colour[3] === 0 && part.parentElement ? ground(part.parentElement) : colour;
  };
  const dark = (image) => Math.min(...ground(image).slice(0, 3)) < 180
    && !getComputedStyle(image).filter.includes("invert");
  return [...document.querySelectorAll("main img")].filter(dark).map((image) => image.alt);
}"""
# What repeats by the thousand costs axe-core most: a few formulas and tokens of each kind stay.
FEW_OF_EACH = """() => {
  const left = {};
  const enough = (kind) => (left[kind] = (left[kind] ?? 3) - 1) < 0;
  for (const formula of document.querySelectorAll("mjx-container")) {
    if (enough(`formula ${formula.hasAttribute("display")}`)) formula.replaceChildren("x");
  }
  for (const token of document.querySelectorAll(".highlight pre span")) {
    if (!token.children.length && enough(token.className)) token.replaceWith(token.textContent);
  }
}"""
# axe-core looks at one text of each kind: element, colours, size, weight.
CONTRAST = """() => {
  const style = (part) => getComputedStyle(part);
  const grounds = (part) =>
    part ? style(part).backgroundColor + grounds(part.parentElement) : "";
  const kinds = new Map();
  for (const part of document.body.querySelectorAll("*")) {
    const own = [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !part.checkVisibility() || part.closest("svg, mjx-container > *")) continue;
    const { color, fontSize, fontWeight } = style(part);
    kinds.set([part.tagName, color, fontSize, fontWeight, grounds(part)].join(), part);
  }
  const rules = ["color-contrast", "link-in-text-block"];
  return axe.run({ include: [...kinds.values()] }, { ...axeOptions, runOnly: rules });
}"""


# What the tab key reaches in a chapter's article; in a closed fold it reaches the summary only.
TAB_STOPS = """() => [...document.querySelectorAll(
  ["a[href]", "button", "input", "select", "summary", "[tabindex]"]
    .map((kind) => `article.bd-article ${kind}`).join(),
)].filter((part) => part.tabIndex >= 0 && part.checkVisibility({ checkVisibilityCSS: true }) &&
  (part.matches("summary") || !part.closest("details:not([open])"))).length"""
MOST_TAB_STOPS = 65


@dataclass
class Opened:
    """A page in the browser, and what went wrong on it so far."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def resize(self, width):
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.wait_for_function("width => innerWidth === width", arg=width)
        self.page.evaluate(TWO_FRAMES)


@pytest.fixture(scope="module")
def context(browser, html):
    context = browser.new_context(
        offline=True,
        color_scheme="light",
        reduced_motion="reduce",
        viewport={"width": DESKTOP, "height": 900},
    )
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(
    scope="module",
    params=built_pages() or [None],
    ids=lambda path: path.relative_to(HTML).as_posix() if path else "no book",
)
def opened(context, request):
    opened = Opened(context.new_page())
    watch(opened.page, opened.wrong)
    opened.page.goto(request.param.as_uri())
    if opened.page.locator("span.math, div.math").count():
        opened.page.wait_for_function("window.MathJax?.startup?.promise")
        opened.page.evaluate("MathJax.startup.promise")
    yield opened
    opened.page.close()
    assert opened.wrong == []


def test_it_opens_complete_and_without_the_network(opened):
    assert opened.wrong == []
    assert opened.page.title()
    assert opened.page.locator("main h1:visible").count() == 1


def test_every_formula_is_rendered(opened):
    formulas = opened.page.locator("span.math, div.math").count()
    assert opened.page.locator("mjx-container").count() >= formulas
    assert opened.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert not TEX.findall(opened.page.evaluate(WORDS))


def test_the_tab_key_has_few_stops_in_a_chapter(opened):
    if "/chapters/" not in opened.page.url:
        pytest.skip("a page of lists, which are made of links")
    # A box that scrolled while the page was laid out loses its stop when the page is at rest.
    opened.page.wait_for_function(f"({TAB_STOPS})() <= {MOST_TAB_STOPS}")
    assert opened.page.evaluate(TAB_STOPS) <= MOST_TAB_STOPS


def test_it_never_scrolls_sideways(opened):
    opened.page.evaluate(UNFOLD)
    for width in (DESKTOP, PHONE):
        opened.resize(width)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def serious(results):
    """Return axe-core's serious and critical findings, a line each."""
    return [
        f"{violation['id']}: {node['target']}: {node['failureSummary']}"
        for violation in results["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.fixture
def axe(opened):
    """axe-core in the page; it preloads nothing, because from a folder it could not."""
    opened.page.evaluate(FEW_OF_EACH)
    opened.page.evaluate(AXE_SCRIPT)
    opened.page.evaluate("window.axeOptions = { preload: false, resultTypes: ['violations'] }")
    return lambda options: serious(
        opened.page.evaluate("options => axe.run({ ...axeOptions, ...options })", options)
    )


def test_what_scrolls_on_a_phone_scrolls_by_keyboard(opened, axe):
    opened.resize(PHONE)
    assert opened.page.evaluate(REACHABLE)
    assert axe({"runOnly": ["scrollable-region-focusable"]}) == []


def test_axe_finds_nothing_serious(opened, axe):
    opened.resize(DESKTOP)
    assert axe({"rules": {"color-contrast": {"enabled": False}}}) == []


@pytest.mark.usefixtures("axe")
def test_colours_contrast_in_both_themes(opened):
    for theme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=theme)
        opened.page.wait_for_function(
            "theme => document.documentElement.dataset.theme === theme", arg=theme
        )
        assert serious(opened.page.evaluate(CONTRAST)) == [], theme
        assert opened.page.evaluate(DARK_GROUND) == [], theme
