import io

import pytest
from PIL import Image

from gfgd import figures
from gfgd.book.claims import Claim
from gfgd.book.pages.generated import Gathered
from gfgd.book.pages.poster import CLAIM, HEIGHT, WIDTH, poster
from gfgd.figures.style import ROLES


@pytest.fixture(scope="module")
def svg():
    lines = {"GD": [1, 2, 2], "bound": [1, 3, 9]}
    figure = figures.curves([1, 2, 3], lines, ylabel="distance")
    return figure._repr_mimebundle_()["image/svg+xml"]


def drawn(svg, measured):
    claim = Claim(CLAIM, "s", measured, below=1.0)
    data = poster(svg, [Gathered(claim, "chapters/11_a", "A", "default", None)])
    return data, Image.open(io.BytesIO(data)).convert("RGB")


def test_it_has_the_shape_of_a_preview_and_the_colours_of_the_figure(svg):
    data, image = drawn(svg, 0.5)
    assert image.size == (WIDTH, HEIGHT)
    assert len(data) < 200_000
    found = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in image.getcolors(WIDTH * HEIGHT)}
    assert {ROLES["descent"], ROLES["bound"]} <= found
    assert ROLES["prediction"] not in found


def test_it_says_what_the_run_found_and_nothing_that_does_not_hold(svg):
    first, second, failed = (drawn(svg, measured)[0] for measured in (0.25, 0.5, 2.0))
    assert first != second and drawn(svg, 0.25)[0] == first
    assert failed == poster(svg, [])
