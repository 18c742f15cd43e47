"""A Sphinx extension for the page "API": reads the docstrings of gfgd as they are meant.

They are numpy-style, with formulas in plain text. In reStructuredText ``|x|`` would be the name of
a substitution; here it is an absolute value.
"""

import re
from typing import Any

# Inline literals stay as they are, bars elsewhere are escaped.
_LITERAL_OR_BAR = re.compile(r"``.*?``|\|")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}


def escape_bars(
    app: Any, what: str, name: str, thing: object, options: Any, lines: list[str]
) -> None:
    """Escape the bars of a docstring's lines in place, outside literals and examples."""
    example = False
    for index, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[index] = _LITERAL_OR_BAR.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    return r"\|" if found.group() == "|" else found.group()
