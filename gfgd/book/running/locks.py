"""A folder to oneself: a second process that wants it waits for the first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def exclusive(folder: Path, say: Callable[[str], None], waiting: str) -> Iterator[None]:
    """Hold a folder, made if need be, to oneself; wait, and say so, while another process has it.

    The system lets go of the lock when the process that holds it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
