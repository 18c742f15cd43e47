import numpy as np
import pytest
import torch

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


def test_each_member_of_a_list_is_checked_and_named():
    checks.each(checks.whole, 1, hidden=[1, 2], depths=())
    with pytest.raises(ValueError, match=r"hidden\[1\] = 0: must be at least 1"):
        checks.each(checks.whole, 1, hidden=[1, 0])
    with pytest.raises(ValueError, match=r"names\[0\] = 'c'"):
        checks.each(checks.one_of, ["a", "b"], names=["c"])


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.different(3, sizes=[1, 2, 2]), r"sizes = \[1, 2, 2\].* 3 different"),
        (lambda: checks.increasing(sizes=[1, 1]), r"sizes = \[1, 1\]"),
        (lambda: checks.increasing(sizes=[2, 1]), r"sizes = \[2, 1\]"),
        (lambda: checks.same_length(a=[1], b=[1, 2]), r"a = \[1\], b = \[1, 2\]"),
        (lambda: checks.same_length(a=[], b=[]), r"a = \[\]"),
        (lambda: checks.multiple(4, steps=10), "steps = 10: must be a multiple of 4"),
        (lambda: checks.multiple(4, steps=8.0), "steps = 8.0: must be a whole number"),
        (lambda: checks.device(device="tpu"), "device = 'tpu'"),
    ],
)
def test_lists_and_counts_that_do_not_fit(check, message):
    with pytest.raises(ValueError, match=message):
        check()


def test_lists_and_counts_that_fit():
    checks.different(2, sizes=[1, 2, 2])
    checks.increasing(sizes=[1, 2])
    checks.same_length(a=[1], b="x")
    checks.multiple(4, steps=8)
    checks.device(device="cpu")


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device = 'cuda': PyTorch finds no GPU"):
        checks.device(device="cuda")
