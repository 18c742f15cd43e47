"""What may go wrong on a page in the browser, noted."""

PATIENCE = 120_000  # milliseconds: a page of many formulas, on a busy machine


def watch(page, wrong):
    """Note each error, warning, failed request, and request that is not for a file."""
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url)
    )
