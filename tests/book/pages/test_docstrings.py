import importlib
import inspect
import re
from types import ModuleType

import pytest
from bs4 import BeautifulSoup
from docutils import nodes

from gfgd.book.contents import documents
from gfgd.book.pages.docstrings import PAGES, formula, mark_formulas

from ..conftest import ROOT


def marked(*lines):
    """Return a docstring's lines as the pages get them."""
    changed = list(lines)
    mark_formulas(None, "function", "f", None, None, changed)
    return changed


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("at most |λ| t", r"at most \|λ\| t"),
        ("``a | b`` or |c|", r"``a | b`` or \|c\|"),
        ("no bars, ``a`` literal", "no bars, ``a`` literal"),
        ("θ' = −g, r' and W'(0)", "θ′ = −g, r′ and W′(0)"),
        ("Q_jj' and P_{jj'j''}, (AB)'", "Q_jj′ and P_{jj′j′′}, (AB)′"),
        ("GD's map, the users' data", "GD's map, the users' data"),
        ("'linear' or `f'`", "'linear' or `f'`"),
        ("f. Twice differentiable", r"\f. Twice differentiable"),
        ("f.value", "f.value"),
    ],
)
def test_signs_mean_mathematics_outside_literals(line, shown):
    assert marked(line) == [shown]


def test_examples_and_code_stay_as_they_are():
    assert marked(">>> 1 | 2", "3 | 4", "", "but |x|")[-1] == r"but \|x\|"
    assert marked(">>> 1 | 2", "3 | 4") == [">>> 1 | 2", "3 | 4"]
    assert marked("thus::", "", "    a | b") == ["thus::", "", "    a | b"]


def test_a_formula_further_in_keeps_its_lines():
    assert marked("that is", "", "    S = |A|,", "      B = 1,", "", "and so on") == [
        "that is",
        "",
        r"    | S = \|A\|,",
        "    |   B = 1,",
        "",
        "and so on",
    ]
    described = ["Parameters", "----------", "a, b", "    One.", "", "    Two.", "c", "    Three."]
    assert marked(*described) == described


def as_text(parts):
    """Return nodes as text, with ⌄index⌄ and ⌃power⌃."""
    signs = {nodes.subscript: "⌄", nodes.superscript: "⌃"}
    return "".join(
        f"{sign}{as_text(part.children)}{sign}" if (sign := signs.get(type(part))) else str(part)
        for part in parts
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("θ_k, W_1 and x_ij′", "θ⌄k⌄, W⌄1⌄ and x⌄ij′⌄"),
        ("e^{m_i h_i} B_{i+1}", "e⌃m⌄i⌄ h⌄i⌄⌃ B⌄i+1⌄"),
        ("E^(−1/q) + (ηλ_i)^k", "E⌃−1/q⌃ + (ηλ⌄i⌄)⌃k⌃"),
        ("∫_{z_0}^∞ max_j ‖∇f_b‖_F", "∫⌄z⌄0⌄⌄⌃∞⌃ max⌄j⌄ ‖∇f⌄b⌄‖⌄F⌄"),
        ("max_products, fan_in, step_size", "max_products, fan_in, step_size"),
        ("nothing here", "nothing here"),
    ],
)
def test_indices_are_lowered_and_powers_raised_but_not_in_names(text, shown):
    assert as_text(formula(text)) == shown


def pages():
    return [name for name in documents(ROOT) if name.split("/")[0] == PAGES]


def public_modules():
    """The modules of the ground floor, and of each room but the book's.

    A room that lists its own names (`__all__`) stands for the files that it takes them from.
    """
    package = ROOT / "gfgd"
    found = {f"gfgd.{path.stem}" for path in package.glob("[!_]*.py")} | {"gfgd.book"}
    for init in package.glob("*/__init__.py"):
        room = f"gfgd.{init.parent.name}"
        if room != "gfgd.book":
            text = init.read_text(encoding="utf-8")
            behind = set(re.findall(rf"^from ({room}\.\w+) import", text, re.MULTILINE))
            found |= {f"{room}.{path.stem}" for path in init.parent.glob("[!_]*.py")} - behind
            found |= {room} if "__all__" in text else set()
    return sorted(found)


def test_every_public_module_has_its_place_and_its_line_in_the_overview():
    first, *rest = [(ROOT / f"{page}.md").read_text(encoding="utf-8") for page in pages()]
    shown = re.findall(r"^\.\. automodule:: (\S+)$", "\n".join(rest), re.MULTILINE)
    assert sorted(shown) == public_modules()
    assert re.findall(r"^   (gfgd\.\S+)$", first, re.MULTILINE) == shown


def defined(module: ModuleType):
    """Yield the classes and functions that a module has for others, and its explained constants."""
    for name in getattr(module, "__all__", dir(module)):
        thing = getattr(module, name)
        is_one = inspect.isfunction(thing) or inspect.isclass(thing)
        if is_one and not name.startswith("_") and thing.__module__.startswith(module.__name__):
            yield f"{module.__name__}.{name}", thing
    for name in re.findall(r"^#: .*\n(\w+)", inspect.getsource(module), re.MULTILINE):
        yield f"{module.__name__}.{name}", None


@pytest.fixture(scope="module")
def entries(html):
    """What the pages define: the text of each entry's head by the name that leads to it."""
    texts = [(html / f"{page}.html").read_text("utf-8") for page in pages()]
    heads = [BeautifulSoup(text, "html.parser").select("dl.py > dt[id]") for text in texts]
    return {str(head["id"]): head.get_text() for page in heads for head in page}


@pytest.mark.book
@pytest.mark.parametrize("module", public_modules())
def test_each_name_is_on_a_page_with_its_signature(entries, module):
    for name, thing in defined(importlib.import_module(module)):
        assert name in entries, "the book is older than the library: run `make book`"
        if inspect.isfunction(thing):
            for parameter in inspect.signature(thing).parameters:
                assert re.search(rf"\b{parameter}\b", entries[name]), (name, parameter)
