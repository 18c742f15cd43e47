"""Reading the built book from its folder, the network cut: search, navigation, moving pictures."""

import json

import pytest

from gfgd.book.contents import documents

from .conftest import HTML, ROOT, built_pages
from .watching import pages_of

pytestmark = [pytest.mark.browser, pytest.mark.book]

#: The chapters' pages, or one stand-in if there is no book.
CHAPTERS = sorted((HTML / "chapters").glob("[0-9]*.html")) or [HTML / "index.html"]


def with_a(name):
    """Return the pages that have an element of a class, or one stand-in if there is no book."""
    mark = f'class="{name}"'
    found = [path for path in built_pages() if mark in path.read_text(encoding="utf-8")]
    return pytest.mark.parametrize("path", found or [HTML / "index.html"], ids=lambda p: p.stem)


@pytest.fixture
def open_page(browser, html):
    with pages_of(browser) as open_it:
        yield lambda path, width=1440: open_it(path, viewport={"width": width, "height": 900})


def search(page, word):
    """Search from the keyboard; return where the results lead."""
    page.keyboard.press("Control+k")
    page.keyboard.type(word)
    page.keyboard.press("Enter")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    return results.evaluate_all("links => links.map(link => link.getAttribute('href'))")


def test_search_finds_balanced_and_opens_the_page(open_page):
    page = open_page(HTML / "index.html")
    found = search(page, "balanced")
    assert any(link.startswith("chapters/07_deep_linear_flow.html") for link in found)
    # The library's functions of that name may come first.
    page.locator("#search-results li a[href^='chapters/']").first.click()
    page.wait_for_url("**/chapters/*")
    assert "balanced" in page.locator("main").inner_text().lower()


def test_search_finds_a_function_of_the_library(open_page):
    page = open_page(HTML / "index.html")
    assert search(page, "tube_step_size")[0] == "api/bounds.html#gfgd.bounds.tube_step_size"


def test_a_result_shows_the_sentence_that_was_found(open_page):
    page = open_page(HTML / "index.html")
    search(page, "balancedness")
    chapter = page.locator("#search-results li:has(> a[href*='chapters/'])").first
    sentence = chapter.locator("p.context")
    sentence.wait_for()
    assert "balancedness" in sentence.locator("mark").first.inner_text().lower()
    shown = page.locator("#search-results p.context").all_inner_texts()
    assert not [text for text in shown if "import " in text or "\\" in text]


def name(page):
    return page.url.split("/html/")[1].split(".html")[0]


def test_a_reader_goes_on_and_back_and_chooses_from_the_contents(open_page):
    order = documents(ROOT)
    page = open_page(HTML / "index.html")
    page.locator("a.right-next").click()
    assert name(page) == order[1]
    page.locator("a.left-prev").click()
    assert name(page) == order[0]
    contents = page.get_by_role("navigation", name="Main")
    contents.get_by_role("link", name="References", exact=True).click()
    assert name(page) == "references"


def test_on_a_phone_the_contents_open_by_a_button(open_page):
    page = open_page(HTML / "run_it_yourself.html", width=390)
    chosen = page.get_by_role("link", name="What holds", exact=True)
    assert not chosen.first.is_visible()
    page.locator("button.primary-toggle").click()
    chosen.first.click()
    assert name(page) == "what_holds"


@with_a("gfgd-animation")
def test_animations_play_and_stop(open_page, path):
    page = open_page(path)
    for animation in page.locator(".gfgd-animation").all():
        animation.scroll_into_view_if_needed()
        before = animation.locator("img").get_attribute("src")
        page.wait_for_function(
            "([part, src]) => part.querySelector('img').src !== src",
            arg=[animation.element_handle(), before],
        )
        animation.get_by_role("button", name="Pause").click()
        assert animation.get_by_role("button", name="Play").is_visible()


@with_a("gfgd-live")
def test_live_pictures_follow_the_reader(open_page, path):
    page = open_page(path)
    for picture in page.locator(".gfgd-live").all():
        before = json.loads(picture.get_attribute("data-result"))
        picture.get_by_label("Start, x").fill("0.35")
        after = json.loads(picture.get_attribute("data-result"))
        assert after["start"][0] == 0.35
        assert after["gf"] != before["gf"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_the_key_picture_is_complete_on_the_first_screen(open_page, path):
    # Its caption may stand below.
    picture = open_page(path).locator("div.cell.tag_first-screen").first
    drawn = picture.locator("svg.gfgd-wide, .gfgd-scene, .gfgd-live").first
    box = drawn.bounding_box()
    assert box["y"] + box["height"] <= 900


def test_the_edge_of_stability_follows_the_reader(open_page):
    page = open_page(HTML / "chapters" / "19_edge_of_stability.html")
    picture = page.locator(".gfgd-scene")
    assert picture.bounding_box()["y"] < 900  # on the first screen
    before = json.loads(picture.get_attribute("data-result"))
    picture.get_by_label("step size").fill("0.12")
    after = json.loads(picture.get_attribute("data-result"))
    assert after["eta"] == 0.12 and after["end"] != before["end"]


def test_folded_code_opens_by_keyboard_and_says_what_it_makes(open_page):
    page = open_page(HTML / "chapters" / "01_gradient_flow_and_descent.html")
    fold = page.locator("div.cell:has(> .cell_output img) > details.hide").first
    label = fold.locator("summary > p.collapsed")
    text = label.evaluate("p => p.innerText + getComputedStyle(p, '::after').content")
    assert text == 'Show the code" of this figure"'
    assert fold.locator("summary").get_attribute("aria-label") is None
    assert not fold.locator("pre").is_visible()
    fold.locator("summary").press("Enter")
    assert fold.locator("pre").is_visible()


def test_on_paper_code_stays_folded_and_figures_are_there(open_page):
    page = open_page(HTML / "chapters" / "01_gradient_flow_and_descent.html")
    page.emulate_media(media="print")
    cell = page.locator("div.cell:has(> details.hide):has(> .cell_output img)").first
    assert cell.locator("img").is_visible()
    assert not cell.locator("pre").is_visible()
    assert not cell.locator("summary").is_visible()


def test_on_paper_a_live_picture_shrinks_with_the_sheet(open_page):
    # A sheet is laid out without telling the script: what was as wide as the screen must shrink.
    page = open_page(HTML / "chapters" / "19_edge_of_stability.html")
    picture = page.locator(".gfgd-scene svg").first
    picture.evaluate("svg => { svg.setAttribute('width', 3000); }")
    page.emulate_media(media="print")
    widths = picture.evaluate("svg => [svg.clientWidth, svg.parentElement.clientWidth]")
    assert widths[0] <= widths[1]


def test_colours_follow_the_system_and_the_readers_choice(open_page):
    page = open_page(HTML / "index.html")
    theme = "document.documentElement.dataset.theme"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{theme} === 'dark'")
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{theme} === 'light'")
    modes = set()
    for _ in range(3):
        page.get_by_role("button", name="Color mode").click()
        modes.add(page.evaluate("document.documentElement.dataset.mode"))
    assert modes == {"light", "dark", "auto"}


def test_claims_can_be_filtered(open_page):
    page = open_page(HTML / "what_holds.html")
    shown = page.locator("ul.gfgd-claims > li:visible")
    everything = shown.count()
    page.get_by_label("kind").select_option("theorem")
    theorems = shown.count()
    assert 0 < theorems < everything
    assert page.locator(".gfgd-filter output").inner_text() == f"{theorems} of {everything}"
    assert set(shown.evaluate_all("all => all.map(one => one.dataset.kind)")) == {"theorem"}
    page.get_by_label("chapter").select_option("1")
    assert set(shown.evaluate_all("all => all.map(one => one.dataset.chapter)")) == {"1"}
    # No heading stands above nothing.
    for section in page.locator("main section section:visible").all():
        assert section.locator("ul.gfgd-claims > li:visible").count()
    page.get_by_label("kind").select_option("")
    page.get_by_label("chapter").select_option("")
    assert shown.count() == everything


def test_captions_are_as_heavy_as_text(open_page):
    page = open_page(HTML / "chapters" / "01_gradient_flow_and_descent.html")
    caption = page.locator("figure.gfgd-figure figcaption").first
    assert caption.evaluate("caption => getComputedStyle(caption).fontWeight") == "400"
