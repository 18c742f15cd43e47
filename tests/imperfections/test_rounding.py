from fractions import Fraction

import numpy as np
import pytest
import torch

from gfgd.descent import gradient_descent
from gfgd.imperfections.rounding import (
    CompensatedSum,
    ImitatedRounding,
    RelativeNoise,
    StochasticRounding,
    quantised,
    rounding_bounds,
    spacing,
    two_sum,
)
from gfgd.objective import Objective
from tests.small_problems import quadratic, small_network

SINGLE, DOUBLE = torch.float32, torch.float64
#: f(θ) = −θ: every step of size 1 adds 1.
ramp = Objective(lambda p: -p.sum(-1), dimension=1)


def wide(count: int, seed: int) -> torch.Tensor:
    """Float32 numbers of magnitudes from 2^-20 to 2^20."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(-20, 21, (count,), generator=generator)
    return torch.randn(count, generator=generator) * 2.0**exponents


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_spacing_is_numpys(dtype):
    points = torch.cat([wide(200, 0).to(dtype), torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=dtype)])
    assert np.array_equal(spacing(points).numpy(), np.spacing(points.abs().numpy()))


def test_spacing_in_another_precision():
    points = torch.tensor([1.0, -1.5, 2.0, 1e-3], dtype=DOUBLE)
    found = spacing(points, SINGLE)
    assert found.dtype == DOUBLE
    assert found.tolist() == np.spacing(np.abs(points.numpy()).astype(np.float32)).tolist()
    assert spacing(torch.ones(1), torch.bfloat16).item() == 2.0**-7


def test_two_sum_loses_nothing():
    left, right = wide(500, 1), wide(500, 2)
    total, rest = two_sum(left, right)
    assert torch.equal(total, left + right) and rest.any()
    for a, b, s, e in zip(*(x.tolist() for x in (left, right, total, rest)), strict=True):
        assert Fraction(a) + Fraction(b) == Fraction(s) + Fraction(e)


@pytest.mark.parametrize(("dtype", "last"), [(torch.bfloat16, 256.0), (torch.float16, 2048.0)])
def test_sums_of_ones_stop_where_the_spacing_passes_two(dtype, last):
    start = torch.zeros(1, dtype=dtype)
    settings = {"step_size": 1.0, "iterations": 2200, "record_every": 100}
    plain = gradient_descent(ramp, start, **settings)
    assert plain.points[-1].item() == last
    kept = gradient_descent(ramp, start, update=CompensatedSum(), **settings)
    exact = torch.arange(0, 2201, 100, dtype=DOUBLE)[:, None]
    assert (kept.points.double() - exact).abs().max() <= spacing(kept.points[-1]).item() / 2


def test_descent_stands_still_where_its_steps_fall_below_half_the_spacing():
    # f = ½(θ − 1)², θ_0 = 2. On [1, 2) floats are 2^-23 apart: steps of (θ − 1)/16 are lost as
    # soon as θ − 1 ≤ 16 · 2^-24, the tie included, since 1 + 8 · 2^-23 has an even last bit.
    objective = Objective(lambda p: 0.5 * (p - 1).square().sum(-1), dimension=1)
    start = torch.tensor([2.0])
    settings = {"step_size": 2.0**-4, "iterations": 400}
    plain = gradient_descent(objective, start, **settings)
    assert plain.points[-1].item() == 1 + 2.0**-20
    imitated = gradient_descent(objective, start.double(), update=ImitatedRounding(1), **settings)
    assert torch.equal(imitated.points, plain.points.double())
    kept = gradient_descent(objective, start, update=CompensatedSum(), **settings)
    assert kept.points[-1].item() == 1


def test_quantised_is_the_step_that_single_precision_takes():
    generator = torch.Generator().manual_seed(0)
    points = (1.1 + 0.8 * torch.rand(1000, generator=generator)).double()  # one binade
    steps = 1e-6 * torch.randn(1000, generator=generator, dtype=DOUBLE)
    taken = points - (points.float() - steps.float()).double()
    assert (quantised(points, steps) == taken).double().mean() > 0.99  # but for ties
    assert (quantised(points, 1e-3 * steps) == 0).all()


def test_imitation_of_many_small_steps():
    objective = small_network("linear", dtype=SINGLE)
    start = objective.initial(0)

    def end(at, size, count, update):
        run = gradient_descent(
            objective, at, step_size=size, iterations=count, record_every=count, update=update
        )
        return run.points[-1].double()

    exact = end(start.double(), 1e-4, 20, torch.sub)
    rounded = end(start, 1e-6, 2000, torch.sub)
    imitated = end(start.double(), 1e-4, 20, ImitatedRounding(100))
    lost = (rounded - exact).norm()
    assert (imitated - rounded).norm() < 0.2 * lost


def test_stochastic_rounding_is_right_on_average():
    for place, share in ((1.5, 0.3), (1.0, 0.3), (-1.0, 2.7), (1.5, -0.8)):
        point = torch.full((100_000,), place)
        gap = 2.0**-24 if (place, share) == (1.0, 0.3) else 2.0**-23  # below 1 they are denser
        found = StochasticRounding(0)(point, torch.full_like(point, share * gap))
        moved = (point.double() - found.double()) / gap
        low = np.floor(share)
        assert set(moved.tolist()) == {low, low + 1}
        # Five standard deviations of the mean of so many draws.
        assert moved.mean().item() == pytest.approx(share, abs=5 * 0.5 / 100_000**0.5)


def test_relative_noise_is_that_large_and_has_no_mean():
    point = torch.linspace(-3, 3, 100_000, dtype=torch.float64)  # without 0
    step = torch.full_like(point, 0.25)
    noise = (RelativeNoise(1e-3, seed=1)(point, step) - point + step) / (1e-3 * point.abs())
    assert 0.999 < noise.abs().max() <= 1 + 1e-6
    assert abs(noise.mean()) < 0.01
    assert noise.square().mean().item() == pytest.approx(1 / 3, rel=0.02)
    again = RelativeNoise(1e-3, seed=1)
    first = again(point, step)
    assert torch.equal(first, RelativeNoise(1e-3, seed=1)(point, step))
    assert not torch.equal(first, again(point, step))
    with pytest.raises(ValueError, match="size = 0"):
        RelativeNoise(0, seed=1)


def test_stochastic_rounding_has_its_own_random_numbers():
    point, step = torch.ones(50), torch.full((50,), 1e-8)
    before = torch.get_rng_state()
    rule = StochasticRounding(3)
    first, second = rule(point, step), rule(point, step)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, StochasticRounding(3)(point, step))
    assert not torch.equal(first, second)
    exact = StochasticRounding(0)(point, torch.full((50,), 0.25))
    assert (exact == 0.75).all()


@pytest.mark.parametrize("step_size", [2.0**-5, 2.0**-8])
def test_the_bounds_hold(step_size):
    # In bfloat16, where few steps are enough to see rounding: 8 bits, so that u = 2^-8.
    # Eigenvalues are powers of two, so that the gradient is exact.
    eigenvalues = torch.tensor([2.0, 1.0, 0.5, -0.5], dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, 4, generator=generator).bfloat16()
    count = round(2 / step_size)
    settings = {"step_size": step_size, "iterations": count, "record_every": count // 4}
    objective = quadratic(*eigenvalues.tolist())
    ran = {
        name: gradient_descent(objective, start, update=rule, **settings)
        for name, rule in (
            ("nearest", torch.sub),
            ("stochastic", StochasticRounding(1)),
            ("compensated", CompensatedSum()),
        )
    }
    factors = (1 - step_size * eigenvalues) ** (torch.arange(5)[:, None] * (count // 4))
    exact = factors[:, None] * start.double()
    largest = exact.abs().amax(dim=(0, 1)) * 1.001
    bounds = rounding_bounds(
        ran["nearest"].times,
        0.5,
        step_size=step_size,
        spacing_norm=spacing(largest, torch.bfloat16).norm().item(),
        smoothness=2.0,
        gradient_norm=(largest * eigenvalues).norm().item(),
        unit_roundoff=2.0**-8,
    )
    distance = {name: (run.points.double() - exact).norm(dim=-1) for name, run in ran.items()}
    assert (distance["nearest"] <= bounds.nearest[:, None]).all()
    assert (distance["compensated"] <= bounds.compensated[:, None]).all()
    assert (distance["stochastic"].square().mean(1).sqrt() <= bounds.stochastic).all()
    if step_size < 0.01:  # steps below the spacing: now each remedy helps
        mean = {name: found.square().mean().sqrt() for name, found in distance.items()}
        assert mean["compensated"] < mean["stochastic"] / 3 < mean["nearest"] / 6


def test_bounds_grow_with_the_number_of_steps_as_they_should():
    common = {"spacing_norm": 1e-6, "smoothness": 10.0, "gradient_norm": 0.0}
    coarse, fine = (
        rounding_bounds(torch.tensor([0.0, 1.0]), 0.0, step_size=size, **common)
        for size in (1e-2, 1e-4)
    )
    # At m = 0: Ω t/(2η), Ω (t/η)^½/2 and βΩt/2 + Ω/2.
    assert coarse.nearest[-1].item() == pytest.approx(1e-6 / 2e-2)
    assert coarse.stochastic[-1].item() == pytest.approx(1e-6 * 10 / 2)
    assert coarse.compensated[-1].item() == pytest.approx(5.5e-6, rel=1e-3)
    assert (fine.nearest / coarse.nearest)[-1].item() == pytest.approx(100)
    assert (fine.stochastic / coarse.stochastic)[-1].item() == pytest.approx(10)
    assert (fine.compensated / coarse.compensated)[-1].item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": -1.0}, "rate = -1: must not be negative"),
        ({"step_size": 0.0}, "step_size = 0.0"),
        ({"spacing_norm": 0.0}, "spacing_norm = 0.0"),
        ({"smoothness": -1.0}, "smoothness = -1.0"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "times": torch.tensor([0.0, 1.0]),
        "rate": 0.0,
        "step_size": 0.1,
        "spacing_norm": 1e-6,
        "smoothness": 1.0,
        "gradient_norm": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        rounding_bounds(**(arguments | change))
    with pytest.raises(ValueError, match="ratio = 0"):
        ImitatedRounding(0)
