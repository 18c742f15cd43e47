"""Files that are there whole or not at all, and the commit of the checkout they lie in."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What :func:`commit` adds to the name where tracked files differ from it.
MODIFIED = " with local changes"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new name beside `path`; what is written there becomes `path` when the block ends.

    If the block raises, `path` stays as it was and the new file is removed. A process that is
    killed leaves ``.NAME.XXXXXXXX.part`` behind, and `path` as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def commit(directory: Path, *, apart_from: str | None = None) -> str:
    """Return the commit of the checkout that a directory lies in, and whether it is modified.

    Changes of the folder `apart_from`, relative to `directory`, do not count.
    """
    paths = [".", f":(exclude){apart_from}"] if apart_from else [":/"]
    try:
        name = _git(directory, "rev-parse", "--short", "HEAD")
        changes = _git(directory, "status", "--porcelain", "--untracked-files=no", "--", *paths)
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
    return f"{name}{MODIFIED}" if changes else name


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
