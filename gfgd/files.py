"""Files that are there whole or not at all, and the commit of the checkout they lie in."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What :func:`commit` adds to the name where tracked files differ from it.
MODIFIED = " with local changes"


_DEVICES, _PROCESSES = Path("/dev"), Path("/proc")


class OutputError(ValueError):
    """A place where nothing can be written."""


def place_to_write(path: Path) -> Path:
    """Return where a file that is written as `path` lies: `path`, or what it is a link to.

    Raises
    ------
    OutputError
        If a folder, a device or a file that may not be written stands there. To rename a new file
        onto a device such as ``/dev/stdout`` would replace the device.
    """
    try:
        place = path.resolve()
        # /dev/stdout may lead to a regular file, which whoever ran us writes to.
        folder = path.absolute().parent.resolve()
        regular = place.is_file() and folder != _DEVICES and _PROCESSES not in folder.parents
        if place.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if place.exists() and not regular:
            raise OutputError(f"{path}: is no regular file; give the name of one, old or new")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise _unwritable(path, error) from error
    if regular and not os.access(place, os.W_OK):
        raise OutputError(f"{path}: is read-only; give another name, or make it writable")
    return place


def check_output(path: Path) -> Path:
    """Return where `path` lies, if a file can be written there; its folder is made if need be.

    To be called ahead of a long run: a new file is made in the folder, and removed.

    Raises
    ------
    OutputError
        If none can.
    """
    place = place_to_write(path)
    probe = place.with_name(f".{uuid.uuid4().hex[:8]}.probe")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"?")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return place


def _unwritable(path: Path, error: Exception) -> OutputError:
    why = getattr(error, "strerror", None) or error
    return OutputError(f"{path}: cannot be written: {why}; give another place")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new name beside `path`; what is written there becomes `path` when the block ends.

    A link stays one, and what it leads to is replaced. If the block raises, `path` stays as it was
    and the new file is removed. A process that is killed leaves ``.NAME.XXXXXXXX.part`` behind, and
    `path` as it was.

    Raises
    ------
    OutputError
        If `path` is there and is no regular file.
    """
    path = place_to_write(path)
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
