"""Step sizes on quadratics, where both paths are explicit."""

import pytest
import torch

from gfgd import gradient_flow
from gfgd.bounds import step_sizes
from gfgd.problems import landscapes


def flow_on(known, horizon=2.0, count=401):
    times = torch.linspace(0, horizon, count, dtype=torch.float64)
    start = torch.tensor([0.3], dtype=torch.float64)
    return gradient_flow(known.objective, start, times, rtol=1e-11, atol=1e-13)


def test_the_formula_along_a_flow_is_the_closed_form_on_a_hill():
    hill = landscapes.quadratic(-1.0)
    flow = flow_on(hill)
    spectra = torch.full((len(flow.times), 1), -1.0, dtype=torch.float64)
    found = step_sizes.signed_along_flow(hill.objective, flow, spectra)
    expected = 0.5 * 0.3 * flow.times * torch.exp(flow.times)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("curvature", [-1.0, 1.0])
def test_a_proved_step_size_is_enough_on_a_quadratic(curvature):
    known = landscapes.quadratic(curvature)
    size, formula = step_sizes.proved_on_landscape(known, flow_on(known), distance=0.05)
    times = size * torch.arange(int(2.0 / size) + 1, dtype=torch.float64)
    start = torch.tensor([0.3], dtype=torch.float64)
    apart = (known.descent(start, size, len(times) - 1) - known.flow(start, times)).norm(dim=-1)
    assert apart.max() < 0.05
    assert size * formula.max() == pytest.approx(0.05, rel=0.02)


def test_a_tube_beyond_the_constants_is_refused():
    known = landscapes.landscape("quartic")
    start = torch.tensor([1.9, 0.9], dtype=torch.float64)
    flow = gradient_flow(known.objective, start, torch.linspace(0, 1, 11, dtype=torch.float64))
    with pytest.raises(ValueError, match="radius = 2"):
        step_sizes.proved_on_landscape(known, flow, distance=2.0)


def largest_distance(rate, size, time):
    steps = torch.arange(int(time / size + 1e-9) + 1, dtype=torch.float64)
    return ((1 - size * rate) ** steps - torch.exp(-rate * size * steps)).abs().max()


@pytest.mark.parametrize("eigenvalue", [1.0, -1.0, 1j])
def test_the_step_size_that_is_needed_is_enough_and_a_longer_one_is_not(eigenvalue):
    times = torch.tensor([0.5, 3.0, 5.0], dtype=torch.float64)
    sizes = step_sizes.needed_on_linear(eigenvalue, times, distance=0.01)
    rate = torch.tensor(eigenvalue, dtype=torch.complex128)
    for time, size in zip(times.tolist(), sizes.tolist(), strict=True):
        assert largest_distance(rate, size, time) <= 0.01 * (1 + 1e-9)
        assert largest_distance(rate, 1.3 * size, time + 1.3 * size) > 0.01


@pytest.mark.parametrize(("eigenvalue", "distance"), [(0.0, 0.1), (1.0, 1.0), (1.0, 0.0)])
def test_what_no_step_size_answers_is_refused(eigenvalue, distance):
    with pytest.raises(ValueError, match="distance"):
        step_sizes.needed_on_linear(eigenvalue, torch.ones(1), distance=distance)


def test_the_predicted_step_size_on_a_hill_is_the_closed_form():
    times = torch.linspace(0, 3, 7, dtype=torch.float64)
    found = step_sizes.predicted(
        landscapes.quadratic(-1.0).objective, [0.3], times, distance=0.01, rtol=1e-10, atol=1e-12
    )
    t = times[1:]
    expected = torch.minimum(0.01 / (0.5 * 0.3 * t * torch.exp(t)), t)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0.0)
