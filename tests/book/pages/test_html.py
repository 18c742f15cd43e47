import pytest

from gfgd.book.pages import html as html_module
from gfgd.book.pages.html import build_html


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build of one page, with jupyter-book replaced by a copy of the source's text."""

    def copy(source, work):
        made = work / "_build" / "html"
        made.mkdir(parents=True, exist_ok=True)
        (made / "index.html").write_text((source / "index.md").read_text())

    monkeypatch.setattr(html_module, "_jupyter_book", copy)
    for name in ("_config.yml", "_toc.yml", "index.md"):
        path = tmp_path / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "gfgd").mkdir()
    finished = []

    def build_it(finish=finished.append):
        places = (tmp_path / name for name in ("source", "work", "html"))
        return build_html(*places, library=tmp_path / "gfgd", finish=finish)

    return build_it


def test_only_what_is_on_the_pages_makes_them_anew(build, tmp_path):
    assert build()
    assert not build(), "nothing has changed"
    (tmp_path / "gfgd" / "flow.py").write_text('"""A docstring."""')
    assert build(), "docstrings are on the pages"
    (tmp_path / "gfgd" / "flow.pyc").write_text("compiled")
    assert not build()
    (tmp_path / "source" / "index.md").write_text("more")
    assert build()
    assert (tmp_path / "html" / "index.html").read_text() == "more"


def test_pages_appear_finished_or_not_at_all(build, tmp_path):
    def finish(pages):
        (pages / "extra").write_text((pages / "index.html").read_text())

    assert build(finish)
    assert (tmp_path / "html" / "extra").read_text() == "index.md"
    (tmp_path / "source" / "index.md").write_text("new")

    def fail(pages):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        build(fail)
    assert (tmp_path / "html" / "index.html").read_text() == "index.md", "the old pages stay"
    assert build(finish), "and the next build makes the new ones"
    assert (tmp_path / "html" / "extra").read_text() == "new"
