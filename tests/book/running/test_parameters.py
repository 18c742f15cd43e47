import nbformat
import pytest

from gfgd.book.errors import ParameterError
from gfgd.book.running.parameters import coerce, read_parameters, read_preset, validate

from ..conftest import write_notebook


def test_read(chapter):
    found = read_parameters(chapter)
    assert list(found) == ["step_size", "widths", "dataset"]
    assert found["step_size"].default == 0.001
    assert found["step_size"].type == "float"
    assert found["step_size"].help == "η₀"
    assert found["widths"].default == [50, 50]


def test_text_is_read_as_the_declared_type(chapter):
    values = validate(chapter, {"step_size": "1e-2", "widths": "[3, 4]", "dataset": "mnist"})
    assert values == {"step_size": 0.01, "widths": [3, 4], "dataset": "mnist"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stepsize": 1}, "no parameter 'stepsize'; did you mean step_size"),
        ({"zzz": 1}, "it has step_size, widths, dataset"),
        ({"step_size": "big"}, "step_size = 'big': must be of type float"),
        ({"step_size": True}, "must be of type float"),
        ({"widths": [1.5]}, "must be of type list"),
        ({"widths": 3}, "must be of type list"),
        ({"dataset": 3}, "must be of type str"),
        ({"step_size": -1}, "step_size = -1.0: must be greater than 0"),
        ({"step_size": "nan"}, "step_size = nan: must be finite"),
    ],
)
def test_refused(chapter, overrides, message):
    with pytest.raises(ParameterError, match=message):
        validate(chapter, overrides)


def test_the_check_may_use_imports_ahead_of_the_parameters(chapter):
    notebook = nbformat.read(chapter, as_version=4)
    setup = "%matplotlib inline\nimport math\nraise RuntimeError('not run for a check')"
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup))
    notebook.cells[3].source = "if step_size > math.pi:\n    raise ValueError('step_size: too big')"
    nbformat.write(notebook, chapter)
    assert validate(chapter, {"step_size": 3}) == {"step_size": 3.0}
    with pytest.raises(ParameterError, match="01_tiny: step_size: too big"):
        validate(chapter, {"step_size": 4})


@pytest.mark.parametrize("line", ["a = b = 1", "a = 1  # no type", "a: int = 1\nb = 2"])
def test_a_line_that_declares_no_parameter_is_refused(tmp_path, line):
    path = write_notebook(tmp_path / "x.ipynb", parameters=line, check="")
    with pytest.raises(ParameterError, match="a line of its own,  name: type = value"):
        read_parameters(path)


def test_a_default_may_hold_any_sign(tmp_path):
    lines = """\
pair: str = "a=b"  # an equals sign
tag: str = "# no comment"  # a number sign
widths: list[int] = [
    1,  # this one is not the meaning
    2,
]  # on several lines
bare: int = 3"""
    path = write_notebook(tmp_path / "x.ipynb", parameters=lines, check="")
    found = read_parameters(path)
    assert [(p.default, p.type, p.help) for p in found.values()] == [
        ("a=b", "str", "an equals sign"),
        ("# no comment", "str", "a number sign"),
        ([1, 2], "list[int]", "on several lines"),
        (3, "int", ""),
    ]
    assert validate(path, {"pair": "c=d"}) == {"pair": "c=d"}


def test_code_that_ends_python_while_it_is_checked_is_an_error(chapter, tmp_path, monkeypatch):
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[2].source = "raise SystemExit(0)"
    nbformat.write(notebook, chapter)
    with pytest.raises(ParameterError, match=r"ended Python with SystemExit\(0\)"):
        validate(chapter, {})


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("7", "int", 7),
        (2, "float", 2.0),
        ("true", "bool", True),
        ("False", "bool", False),
        ("1, 2", "tuple[int, int]", (1, 2)),
        ([1, 2], "tuple[float, ...]", (1.0, 2.0)),
        ("50", "str", "50"),
        ("inf", "float", float("inf")),
        ("['a']", "list[str]", ["a"]),
    ],
)
def test_coerce(value, annotation, expected):
    found = coerce("x", value, annotation)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(1.5, "int"), ("1e4", "int"), (1, "bool"), ("(1, 2, 3)", "tuple[int, int]"), (None, "float")],
)
def test_coerce_refuses(value, annotation):
    with pytest.raises(ParameterError, match="must be of type"):
        coerce("x", value, annotation)


def test_unknown_annotation():
    with pytest.raises(ParameterError, match="declared type"):
        coerce("x", 1, "Tensor")


def test_preset(tmp_path):
    path = tmp_path / "quick.yaml"
    path.write_text("01_tiny:\n  step_size: 0.1\n02_other:\n")
    assert read_preset(path, ["01_tiny", "02_other"]) == {
        "01_tiny": {"step_size": 0.1},
        "02_other": {},
    }
    with pytest.raises(ParameterError, match="no chapter '01_tiny'; did you mean 01_tinny"):
        read_preset(path, ["01_tinny"])
    with pytest.raises(ParameterError, match="no preset 'slow'; there is"):
        read_preset(tmp_path / "slow.yaml", [])
