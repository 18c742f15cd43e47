"""The built book, opened from its folder in a real browser with the network cut."""

import os
import shutil

import pytest

from .conftest import ROOT

HTML = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, so that it starts as root too; the rest keeps Chromium itself off the network.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync", "--no-first-run"]

pytestmark = [pytest.mark.browser, pytest.mark.book]


def missing(what):
    """Skip, but fail where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser():
    if not (HTML / "index.html").is_file():
        missing("there is no built book: run `make book` first")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing(f"none of {BROWSERS} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield chromium
        chromium.close()


def pages():
    return [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.parts]


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_complete_and_without_the_network(browser, width, scheme):
    context = browser.new_context(
        offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url)
    )
    for path in pages():
        page.goto(path.as_uri())
        formulas = page.locator("span.math, div.math").count()
        if formulas:
            page.wait_for_function("window.MathJax?.startup?.promise")
            page.evaluate("MathJax.startup.promise")
            if page.locator("mjx-container").count() < formulas:
                wrong.append(f"{formulas} formulas, fewer rendered")
            wrong += ["a formula that MathJax cannot read"] * page.locator("mjx-merror").count()
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append("the page scrolls sideways")
        assert wrong == [], path.relative_to(HTML)
    context.close()


def test_links_to_claims_lead_to_them(browser):
    page = browser.new_page()
    page.goto((HTML / "what_holds.html").as_uri())
    targets = page.locator("td a").evaluate_all("links => links.map(link => link.href)")
    for target in targets:
        page.goto(target)
        assert page.locator(f"#{target.split('#')[1]}").count() == 1, target
