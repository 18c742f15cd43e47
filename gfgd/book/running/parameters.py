"""A chapter's parameters: what they are, and whether a reader's values for them can be used.

A chapter declares its parameters in the cell tagged ``parameters``, one a line, with type, default
and meaning (``step_size: float = 0.001  # η₀``), and checks them in the next cell, tagged
``check-parameters``. papermill by itself only warns of an unknown name and never looks at a type
or a range; here each is refused before the chapter runs.
"""

import ast
import io
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import nbformat
import yaml

from gfgd.book.errors import ParameterError
from gfgd.book.running.fingerprint import plain_python

PARAMETERS_TAG = "parameters"
CHECK_TAG = "check-parameters"
_TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "tuple": tuple}


@dataclass(frozen=True)
class Parameter:
    """One line of a ``parameters`` cell: name, type as written, default value, meaning."""

    name: str
    type: str
    default: Any
    help: str


def tagged_source(notebook: nbformat.NotebookNode, tag: str) -> str:
    """Return the source of the first cell with a tag, or an empty string."""
    for cell in notebook.cells:
        if tag in cell.metadata.get("tags", []):
            return cell.source
    return ""


def read_parameters(chapter: Path) -> dict[str, Parameter]:
    """Return a chapter's parameters by name, in the order in which they are declared.

    Raises
    ------
    ParameterError
        If a line of the cell is no ``name: type = value  # meaning``.
    """
    source = tagged_source(nbformat.read(chapter, as_version=4), PARAMETERS_TAG)
    defaults = _run(source, {}, chapter)
    declared = {name: (annotation, text) for name, annotation, text in _declarations(source)}
    unread = sorted(set(defaults) - set(declared))
    if unread:
        raise ParameterError(
            f"{chapter.name}: the parameters {unread} cannot be read from the parameters cell; "
            "write each as a line of its own,  name: type = value  # meaning"
        )
    return {
        name: Parameter(name, declared[name][0], defaults[name], declared[name][1])
        for name in declared
        if name in defaults
    }


def _declarations(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and meaning of each ``name: type = value  # meaning``.

    papermill's own reader takes a cell apart with a pattern that a ``=`` in a value defeats.
    """
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for line in ast.parse(source).body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            meaning = comments.get(line.end_lineno or 0, "")
            yield line.target.id, ast.unparse(line.annotation), meaning


def validate(chapter: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides with the types that the chapter declares, or refuse them.

    A value may be text (from a command line); it is then read as the declared type.

    Parameters
    ----------
    chapter
        The notebook.
    overrides
        Values by parameter name; may be empty, which checks the defaults.

    Raises
    ------
    ParameterError
        For a name that the chapter does not have, a value of another type, or a value that the
        chapter's own check refuses. The message names the parameter, the value and the remedy.
    """
    declared = read_parameters(chapter)
    typed = {}
    for name, value in overrides.items():
        if name not in declared:
            raise ParameterError(_unknown(chapter, name, list(declared)))
        typed[name] = coerce(name, value, declared[name].type)
    _check_range(chapter, typed)
    return typed


def coerce(name: str, value: Any, annotation: str) -> Any:
    """Return a value as the type of an annotation such as ``float`` or ``list[int]``.

    Text is read as a Python literal where the type is not ``str``; a whole number is also a
    float, and a list also a tuple.

    >>> coerce("widths", "[50, 50]", "list[int]"), coerce("step_size", "1e-3", "float")
    ([50, 50], 0.001)
    """
    try:
        wanted = eval(annotation, {"__builtins__": {}}, _TYPES)
    except (NameError, SyntaxError, TypeError):
        raise ParameterError(
            f"{name}: its declared type {annotation!r} is not one of {sorted(_TYPES)}, "
            "or a list or tuple of them"
        ) from None
    try:
        return _as_type(value, wanted)
    except (TypeError, ValueError, SyntaxError):
        raise ParameterError(f"{name} = {value!r}: must be of type {annotation}") from None


def read_preset(path: Path, chapters: list[str]) -> dict[str, dict[str, Any]]:
    """Return a preset's parameters by chapter.

    A preset is a YAML file whose keys are file stems of chapters, and whose values are that
    chapter's parameters, as papermill's own parameter files write them.

    Raises
    ------
    ParameterError
        If the file is absent, is no such mapping, or names an unknown chapter.
    """
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ParameterError(f"there is no preset {path.stem!r}; there is {known}")
    preset = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(preset, dict):
        raise ParameterError(f"{path.name}: must map chapters to their parameters")
    for chapter, values in preset.items():
        if chapter not in chapters:
            raise ParameterError(_unknown(path, str(chapter), chapters, kind="chapter"))
        if not isinstance(values or {}, dict):
            raise ParameterError(f"{path.name}: {chapter}: must map parameters to values")
    return {chapter: dict(values or {}) for chapter, values in preset.items()}


def _unknown(where: Path, name: str, known: list[str], kind: str = "parameter") -> str:
    close = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known)}"
    return f"{where.name} has no {kind} {name!r}; {hint}"


def _as_type(value: Any, wanted: Any) -> Any:
    if isinstance(wanted, types.GenericAlias):
        return _as_sequence(value, typing.get_origin(wanted), typing.get_args(wanted))
    if wanted in (list, tuple):
        return _as_sequence(value, wanted, ())
    if wanted is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, str):
        value = _literal(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise TypeError
    return value


def _as_sequence(value: Any, wanted: type, items: tuple) -> Any:
    if isinstance(value, str):
        value = ast.literal_eval(value.strip())
    if not isinstance(value, (list, tuple)):
        raise TypeError
    if items and wanted is tuple and items[-1] is not Ellipsis:
        if len(items) != len(value):
            raise ValueError
        return tuple(_as_type(*pair) for pair in zip(value, items, strict=True))
    return wanted(_as_type(item, items[0]) for item in value) if items else wanted(value)


def _literal(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return float(text)


def _run(source: str, namespace: dict[str, Any], chapter: Path) -> dict[str, Any]:
    """Execute a cell in a namespace; return the public names that it has afterwards."""
    exec(compile(source, f"{chapter.name}: parameters", "exec"), namespace)
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def _imports_before_parameters(notebook: nbformat.NotebookNode) -> str:
    """Return the import statements ahead of the parameters, which the check may use."""
    source = ""
    for cell in notebook.cells:
        if PARAMETERS_TAG in cell.metadata.get("tags", []):
            break
        if cell.cell_type == "code":
            source += plain_python(cell.source)
    body = ast.parse(source).body
    return "\n".join(ast.unparse(x) for x in body if isinstance(x, (ast.Import, ast.ImportFrom)))


def _check_range(chapter: Path, overrides: Mapping[str, Any]) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    namespace: dict[str, Any] = {}
    exec(_imports_before_parameters(notebook), namespace)
    _run(tagged_source(notebook, PARAMETERS_TAG), namespace, chapter)
    namespace.update(overrides)
    try:
        _run(tagged_source(notebook, CHECK_TAG), namespace, chapter)
    except ValueError as error:
        raise ParameterError(f"{chapter.stem}: {error}") from error
    except SystemExit as error:  # a reader's own file, imported for the check, may end Python
        raise ParameterError(
            f"{chapter.stem}: code that was imported for the check of the parameters ended Python "
            f"with {error!r}; keep what runs a script under  if __name__ == '__main__':"
        ) from error
