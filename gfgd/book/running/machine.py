"""The machine that a command runs on: how many cores it may use, and how they are shared out."""

import os

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(processes: int) -> dict[str, str]:
    """Return the environment that shares the cores out, but for what the user has set."""
    share = str(max(1, cores() // processes))
    return {name: share for name in _THREADS if name not in os.environ}
