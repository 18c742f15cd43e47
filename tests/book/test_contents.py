import pytest

from gfgd.book.contents import chapters, documents, find_chapter, parts
from gfgd.book.errors import UsageError

from .conftest import ROOT, write_notebook


def test_parts_have_names_and_pages(book):
    assert parts(book) == [("", documents(book)[1:])]
    names = [name for name, _ in parts(ROOT)]
    assert len(names) == 6 and all(names)
    assert [page for _, pages in parts(ROOT) for page in pages] == documents(ROOT)[1:]


def test_find_chapter(book):
    assert find_chapter("01", book).stem == "01_tiny"
    assert find_chapter("01_tiny", book) == book / "chapters" / "01_tiny.ipynb"
    with pytest.raises(UsageError, match="there is 01_tiny"):
        find_chapter("1_tiny", book)
    write_notebook(book / "chapters" / "01_other.ipynb")
    with pytest.raises(UsageError, match="could be 01_other, 01_tiny"):
        find_chapter("01", book)
    assert [path.stem for path in chapters(book)] == ["01_tiny"]
