"""The sentences that the search page shows: prose, by section, without code and raw formulas."""

import json

from gfgd.book.pages.search_texts import (
    SCRIPT,
    drop_search_index,
    sections,
    write_search_texts,
)

PAGE = r"""
<html><head><title>No. Not this one at all.</title></head><body>
<nav>Not this one either.</nav>
<article class="bd-article"><section id="top">
<h1>Deep linear networks<a class="headerlink">#</a></h1>
<p>Weights stay balanced along the flow. With
<span class="math notranslate nohighlight">\(\lambda_{\min} \ge 0\)</span>
nothing <b>grows</b> here.</p>
<img src="a.svg"><div class="math">\[\theta' = -\nabla f\]</div>
<section id="proof"><h2>Proof</h2><pre>import torch; print('No code here.')</pre>
<p>Sum over all of the layers.<br>Then let the step vanish.</p></section>
<p>Back in the first section now.</p></section></article>
<p>Below the article is nothing.</p></body></html>"""


def test_the_sentences_of_an_article():
    assert sections(PAGE) == [
        (
            "top",
            [
                "Weights stay balanced along the flow.",
                "With λ_min ≥ 0 nothing grows here.",
            ],
        ),
        ("proof", ["Sum over all of the layers.", "Then let the step vanish."]),
        ("top", ["Back in the first section now."]),
    ]


def test_a_long_sentence_is_cut_at_a_word():
    page = PAGE.replace("Back in", "Back in " + "that and " * 100)
    *_, (_, [sentence]) = sections(page)
    assert len(sentence) <= 402 and sentence.endswith((" that …", " and …"))


def test_all_pages_are_in_the_script(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "01_one.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "search.html").write_text("<p>No article is on this page.</p>", encoding="utf-8")
    write_search_texts(tmp_path)
    text = (tmp_path / SCRIPT).read_text(encoding="utf-8")
    data = json.loads(text.removeprefix("window.gfgdTexts = ").rstrip(";\n"))
    assert list(data) == ["chapters/01_one"]
    assert data["chapters/01_one"][0][0] == "top"


def test_only_the_search_page_loads_the_index(tmp_path):
    scripts = ("../_static/searchtools.js", "../_static/language_data.js", "../searchindex.js")
    head = "".join(f'\n  <script src="{script}"></script>' for script in scripts)
    kept = '<script src="../_static/doctools.js"></script>'
    for name in ("search.html", "page.html"):
        (tmp_path / name).write_text(f"<head>{kept}{head}</head>")
    drop_search_index(tmp_path)
    assert (tmp_path / "page.html").read_text() == f"<head>{kept}</head>"
    assert (tmp_path / "search.html").read_text() == f"<head>{kept}{head}</head>"
