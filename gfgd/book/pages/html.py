"""From the assembled source tree to HTML, through jupyter-book with its own execution off.

A page that could not be built, or was built with a warning, is an error. The HTML appears under
its final name only when all of it is right.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gfgd.book.errors import BookError
from gfgd.book.pages.alt_text import missing_alt_text
from gfgd.book.running.fingerprint import tree_fingerprint


def build_html(
    source: Path, work: Path, html: Path, *, library: Path, finish: Callable[[Path], None]
) -> bool:
    """Build the HTML of a source tree, unless it is there already; return whether it was built.

    Parameters
    ----------
    source
        The source tree: configuration, table of contents, pages, executed notebooks.
    work
        jupyter-book's own folder, kept so that the next build does only what has changed.
    html
        The result.
    library
        The folder of the library, whose docstrings are on its pages too.
    finish
        Is given the folder of new pages before it appears under its final name.

    Raises
    ------
    BookError
        If jupyter-book fails or warns, or a picture has no alt text.
    """
    record = html.with_name(html.name + ".sha256")
    now = tree_fingerprint(source) + tree_fingerprint(library, "*.py")
    if (html / "index.html").is_file() and record.is_file() and record.read_text() == now:
        return False
    _forget_if_files_changed(source, work)
    record.unlink(missing_ok=True)
    try:
        _jupyter_book(source, work)
        _check_pictures(work / "_build" / "html")
    except BookError:
        # The next build must see every warning again, so nothing may count as done.
        shutil.rmtree(work, ignore_errors=True)
        raise
    _replace(work / "_build" / "html", html, finish)
    record.write_text(now)
    return True


# jupyter-book has no module to run with -m, and its script may stand under a path with spaces.
_MAIN = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"


def _jupyter_book(source: Path, work: Path) -> None:
    # torch, imported for the docstrings, warns of itself when Sphinx goes through all objects.
    command = [sys.executable, "-W", "ignore::FutureWarning", "-c", _MAIN, "build", str(source)]
    command += ["--path-output", str(work), "-W", "--keep-going", "-q"]
    # Its standard output only names its own folders; warnings and errors go to standard error.
    none = subprocess.DEVNULL
    if subprocess.run(command, stdin=none, stdout=none).returncode != 0:
        raise BookError("jupyter-book failed or warned; its messages are above")


def _check_pictures(html: Path) -> None:
    lines = missing_alt_text(html)
    if lines:
        remedy = 'set it in the cell\'s metadata: "mystnb": {"image": {"alt": "…"}}'
        raise BookError("\n".join([*lines, remedy]))


def _forget_if_files_changed(source: Path, work: Path) -> None:
    """Drop what jupyter-book remembers where the set of pages or the configuration changed."""
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.*"))
    settings = [(source / name).read_text("utf-8") for name in ("_config.yml", "_toc.yml")]
    now = "\n".join([*files, *settings])
    memory = work / "files.txt"
    if not memory.is_file() or memory.read_text(encoding="utf-8") != now:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    memory.write_text(now, encoding="utf-8")


def _replace(new: Path, final: Path, finish: Callable[[Path], None]) -> None:
    """Put a finished copy of a folder in the place of another, whole or not at all."""
    staged = final.with_name(f".{final.name}.new")
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(new, staged, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
    finish(staged)
    if final.exists():
        final.replace(old)
    staged.replace(final)
    shutil.rmtree(old, ignore_errors=True)
