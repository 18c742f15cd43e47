"""A page in the browser: what goes wrong on it, noted, and a finger that moves over it."""

from contextlib import contextmanager

PATIENCE = 120_000  # milliseconds: a page of many formulas, on a busy machine


def watch(page, wrong):
    """Note each error, warning, failed request, and request that is not for a file."""
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url)
    )


def swipe(page, x, y, across, down, count=12):
    """Move a finger over the page."""
    session = page.context.new_cdp_session(page)

    def send(kind, points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", [{"x": x, "y": y}])
    for i in range(1, count + 1):
        send("touchMove", [{"x": x + across * i / count, "y": y + down * i / count}])
    send("touchEnd", [])


def drag(page, handle, across, down):
    """Drag what a locator finds by the mouse; return where it was."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y + down, steps=4)
    page.mouse.up()
    return x, y


@contextmanager
def pages_of(browser):
    """Give a function that opens a page offline; at the end nothing may have gone wrong on any."""
    contexts, wrong = [], []

    def open_it(path, **options):
        contexts.append(browser.new_context(offline=True, **options))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        watch(page, wrong)
        page.goto(path.as_uri())
        return page

    try:
        yield open_it
    finally:
        for context in contexts:
            context.close()
    assert wrong == []
