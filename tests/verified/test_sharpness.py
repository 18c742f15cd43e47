import pytest

from .sharpness import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_bound_holds_and_is_nearly_attained(check):
    check()
