"""A chapter that does next to nothing, and takes its orders from its parameters."""

from pyarrow import parquet

from gfgd.book.claims import MIME_TYPE, RECORD_TYPE
from gfgd.book.sweeps.point import Point, sources

from .conftest import write_notebook

PARAMETERS = """\
depth: int = 2  # layers
scale: float = 0.1  # of the start
act: str = "none"  # what happens on the way
seconds: float = 0.0  # to sleep
log: str = ""  # a file that is told of each run"""
CHECK = "if depth < 0:\n    raise ValueError(f'depth = {depth}: must be 0 or more')"
# Says what `claim` and `record` say, but does not import torch.
WORK = f"""\
import os, signal, time
from pathlib import Path
from IPython.display import display
if log:
    with open(log, "a") as file:
        print(os.getpid(), depth, scale, act, file=file)
time.sleep(seconds)
if act == "raise":
    raise RuntimeError("as it was told")
marker = Path(log + ".killed")
if act == "kill" or (act == "kill once" and not marker.exists()):
    if act == "kill once":
        marker.touch()
    os.kill(int(os.environ["JPY_PARENT_PID"]), signal.SIGKILL)  # the worker, and nothing else
    time.sleep(60)
if act == "die":
    os._exit(1)
stated = {{"name": "small-steps", "statement": "So.", "measured": depth * scale, "below": 0.25}}
display({{{MIME_TYPE!r}: stated, "text/plain": ""}}, raw=True)
display({{{RECORD_TYPE!r}: {{"name": "layers", "value": depth}}, "text/plain": ""}}, raw=True)"""


def write_tiny(path, *before):
    """Write the chapter, with other cells ahead of what it does."""
    return write_notebook(path, *before, WORK, parameters=PARAMETERS, check=CHECK)


def point(book, **overrides):
    chapter = book / "chapters" / "01_tiny.ipynb"
    defaults = {"depth": 2, "scale": 0.1, "act": "none"}
    where = (chapter, book, book, book / "out")
    return Point(*where, overrides, defaults | overrides, sources(chapter, book), "")


def rows_of(path):
    return parquet.read_table(path).to_pylist()
