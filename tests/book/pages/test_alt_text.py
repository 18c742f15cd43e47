from gfgd.book.pages.alt_text import missing_alt_text


def test_alt_text(tmp_path):
    page = tmp_path / "chapters" / "a.html"
    page.parent.mkdir()
    page.write_text("<img src='x.png' alt='A line.'><p><img src='y.png' alt=' '/><img src='z.svg'>")
    assert missing_alt_text(tmp_path) == [
        "chapters/a.html: y.png has no alt text",
        "chapters/a.html: z.svg has no alt text",
    ]
