"""A page in the browser: what goes wrong on it, noted, and a finger that moves over it."""

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
