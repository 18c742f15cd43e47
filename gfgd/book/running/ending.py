"""Ending as one is told to: what a scheduler or a closed terminal sends ends a command like Ctrl-C.

Python would end at once, and leave temporary files and kernels behind.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from typing import Any, NoReturn

#: The signals that ask a process to end, as far as the system has them.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """A signal has asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.args[0]).name}"


def end_cleanly() -> None:
    """From now on, let the signals raise `Ended`, so that what cleans up on its way out does so."""
    for number in SIGNALS:
        signal.signal(number, _end)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let the signals raise `Ended` inside the block; in the main thread only, as Python asks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    end_cleanly()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: Any) -> NoReturn:
    # Ctrl-C reaches a whole group of processes; these signals reach one, which passes them on.
    for child in active_children():
        child.terminate()
    raise Ended(number)
