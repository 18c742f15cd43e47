import numpy as np
import pytest

from gfgd import checks


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.positive, 1e-3, 0.0),
        (checks.non_negative, 0, -1),
        (lambda **v: checks.at_least(2, **v), 2, 1.9),
        (lambda **v: checks.between(0, 1, **v), 0.5, 1.1),
        (lambda **v: checks.whole(1, **v), np.int64(3), 0),
        (lambda **v: checks.whole(1, **v), 3, 2.5),
        (lambda **v: checks.whole(1, **v), 3, True),
        (lambda **v: checks.one_of(["relu", "tanh"], **v), "relu", "rellu"),
    ],
)
def test_good_passes_and_bad_is_named(check, good, bad):
    check(width=good)
    with pytest.raises(ValueError, match="width = "):
        check(width=bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "much", "1e-3", None])
def test_no_finite_number(bad):
    with pytest.raises(ValueError, match="step_size"):
        checks.positive(step_size=bad)


def test_close_match_is_suggested():
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        checks.one_of(["relu", "tanh"], activation="rellu")
