"""`environment.yml` for conda users, written from `requirements.lock`.

Stands alone (standard library only), so that `make lock` can run it before anything is installed:
``python tools/environment.py``.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEADER = """\
# For conda users: the versions of requirements.lock. Written by `make lock`; do not edit.
#   conda env create -f environment.yml && conda activate gfgd
#   pip install --no-deps --no-build-isolation -e . && gfgd book
name: gfgd
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(lock: str) -> list[str]:
    r"""Return the pinned requirements of a lock file, ``name==version`` and any ``; marker``.

    Hashes and comments are left out.

    >>> pins("# made by hand\nnumpy==2.0 ; python_version > '3' \\\n    --hash=sha256:00\n")
    ["numpy==2.0 ; python_version > '3'"]
    """
    lines = (line.rstrip("\\ ").strip() for line in lock.splitlines())
    return [line for line in lines if line and not line.startswith(("#", "--"))]


def torch_pin(makefile: str) -> str:
    """Return the torch requirement that the Makefile installs ahead of the lock."""
    found = re.search(r"^TORCH\s*:=\s*(torch==\S+)$", makefile, re.MULTILINE)
    if found is None:
        raise ValueError(
            "the Makefile has no line 'TORCH := torch==VERSION': environment.yml takes torch's "
            "version from there; put the line back"
        )
    return found.group(1)


def environment(lock: str, makefile: str) -> str:
    """Return the text of `environment.yml` for a lock file and a Makefile."""
    requirements = [torch_pin(makefile), *pins(lock)]
    return HEADER + "".join(f'      - "{requirement}"\n' for requirement in requirements)


if __name__ == "__main__":
    text = environment(
        (ROOT / "requirements.lock").read_text(encoding="utf-8"),
        (ROOT / "Makefile").read_text(encoding="utf-8"),
    )
    (ROOT / "environment.yml").write_text(text, encoding="utf-8")
