from gfgd.book.pages.previews import add_previews, description, preview, published_at

PAGE = """<html><head><title>t</title></head><body>
<h1>A title</h1><h2>Contents</h2><h1>A <em>title</em>
<a class="headerlink" href="#a">#</a></h1>
<p>Let \\(\\frac x2\\) be.</p><p>Some words &lt; others.</p>{}</body></html>"""
ANSWER = "<p><strong>Answer.</strong> Yes, by <b>0.5</b>.</p>"


def test_a_page_is_described_by_its_answer_or_its_first_plain_paragraph():
    assert description(PAGE.format(ANSWER)) == "Yes, by 0.5."
    assert description(PAGE.format("")) == "Some words < others."
    formula = r"<p><strong>Answer.</strong> For all \(k &lt; 3\) by \(\lambda_{\min}\).</p>"
    assert description(PAGE.format(formula)) == "For all k < 3 by λ_min."
    long = PAGE.format("<p><strong>Answer.</strong> " + "word " * 100 + "</p>")
    assert len(description(long)) <= 200 and description(long).endswith("word…")


def test_a_picture_has_a_whole_address_where_the_book_has_one():
    text = PAGE.format(ANSWER)
    there = preview(text, place="chapters/01_a.html", address="https://a.b/")
    assert 'property="og:image" content="https://a.b/_static/poster.png"' in there
    assert 'property="og:url" content="https://a.b/chapters/01_a.html"' in there
    nowhere = preview(text, place="chapters/01_a.html", address="")
    assert 'property="og:image" content="../_static/poster.png"' in nowhere
    assert "og:url" not in nowhere
    assert 'property="og:title" content="A title">' in nowhere


def test_every_page_gets_them_and_no_host_is_named_that_the_metadata_do_not(tmp_path):
    root, html = tmp_path, tmp_path / "html"
    (html / "_static").mkdir(parents=True)
    for place in ("a.html", "_static/b.html"):
        (html / place).write_text(PAGE.format(ANSWER))
    (root / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    add_previews(root, html)
    text = (html / "a.html").read_text()
    assert "og:image" not in text, "there is no poster"
    assert text.count("og:title") == 1 and "http" not in text
    assert "og:" not in (html / "_static" / "b.html").read_text()
    (root / "pyproject.toml").write_text("[project.urls]\nDocumentation = 'https://a.b'\n")
    assert published_at(root) == "https://a.b/"
