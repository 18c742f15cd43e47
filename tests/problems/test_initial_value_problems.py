"""Every solution and constant of a problem against an oracle that does not know it."""

import math

import pytest
import torch

from gfgd import integrate
from gfgd.bounds import euler_bound
from gfgd.problems import initial_value_problems as ivp
from gfgd.problems.initial_value_problems import PROBLEMS, Box, euler_constants, problem

GENERATOR_SEED = 5


def random(*shape, low=0.0, high=1.0, seed=GENERATOR_SEED):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


BATCHES = [
    ivp.linear(random(4, 3, 3, low=-1.0), name="linear_batch"),
    ivp.logistic(random(4, low=0.3, high=3.0), random(4, 1), name="logistic_batch"),
    ivp.seasonal(
        random(4, low=0.5, high=2.0), random(4, low=0.5, high=3.0, seed=6), name="seasonal_batch"
    ),
    ivp.tracking(random(4, low=0.5, high=5.0), name="tracking_batch"),
]
OTHERS = [
    ivp.linear(torch.tensor([[-1.0, 3.0], [0.0, -1.0]]), name="shear"),
    ivp.seasonal(0.5, 3.0, radius=2.0, name="seasonal_fast"),
]
SINGLE = [*PROBLEMS.values(), *OTHERS]
EVERY = [*SINGLE, *BATCHES]
every = pytest.mark.parametrize("known", EVERY, ids=lambda known: known.name)
single = pytest.mark.parametrize("known", SINGLE, ids=lambda known: known.name)


@every
@pytest.mark.parametrize("begin", [0.0, 0.7])
def test_solution_is_the_integrated_one(known, begin):
    times = begin + torch.linspace(0, 2, 5, dtype=torch.float64)
    found = integrate(known.field, known.start, times, method="dopri8", rtol=1e-11, atol=1e-12)
    exact = known.solution(known.start, times)
    assert exact.shape == (5, *known.start.shape)
    torch.testing.assert_close(exact, found.states, rtol=1e-8, atol=1e-9)


def boxes(known, count=12):
    """Boxes of times up to 9 and of states in the problem's region, or in a box of size 4."""
    corners = random(2, count, known.dimension, seed=7)
    low = known.region.low.clamp(min=-2.0)
    high = known.region.high.clamp(max=2.0)
    corners = (low + (high - low) * corners).sort(dim=0).values
    begin = random(count, high=8.0, seed=8)
    width = random(count, low=0.01, high=1.0, seed=9)
    return [Box(begin[i], begin[i] + width[i], corners[0, i], corners[1, i]) for i in range(count)]


def measured(known, box, count=40):
    """λmax(sym J), ‖J‖ and ‖∂g/∂t‖ at points of the box, corners among them, by derivatives."""
    share = random(count, known.dimension, seed=10)
    share[::3] = share[::3].round()
    states = box.low + (box.high - box.low) * share
    times = torch.linspace(box.begin, box.end, count, dtype=torch.float64)
    growth, lipschitz, drift = [], [], []
    for time, state in zip(times.tolist(), states, strict=True):
        J = torch.autograd.functional.jacobian(lambda q, t=time: known.field(t, q), state)
        growth.append(torch.linalg.eigvalsh((J + J.T) / 2)[-1])
        lipschitz.append(torch.linalg.matrix_norm(J, ord=2))
        ahead, behind = known.field(time + 1e-6, state), known.field(time - 1e-6, state)
        drift.append((ahead - behind).norm() / 2e-6)
    return torch.stack(growth), torch.stack(lipschitz), torch.stack(drift)


@single
def test_constants_bound_the_derivatives_on_random_boxes(known):
    for box in boxes(known):
        growth, lipschitz, drift = measured(known, box)
        constants = known.constants(box)
        assert growth.max() <= constants.growth + 1e-12
        assert lipschitz.max() <= constants.lipschitz + 1e-12
        assert drift.max() <= constants.drift + 1e-8
        assert constants.growth <= constants.lipschitz + 1e-12


@single
def test_constants_are_attained_in_the_region(known):
    # Times of one period and more; states to the ends of the region where it has ends.
    box = Box(
        torch.tensor(0.0),
        torch.tensor(7.0),
        known.region.low.clamp(min=-100),
        known.region.high.clamp(max=100),
    )
    growth, lipschitz, drift = measured(known, box, count=900)
    constants = known.region_constants
    assert growth.max().item() == pytest.approx(constants.growth.item(), abs=2e-2)
    assert lipschitz.max().item() == pytest.approx(constants.lipschitz.item(), abs=2e-2)
    assert drift.max().item() == pytest.approx(constants.drift.item(), rel=2e-2, abs=1e-8)


@pytest.mark.parametrize("known", BATCHES, ids=lambda known: known.name)
def test_a_batch_is_its_members(known):
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    exact = known.solution(known.start, times)
    polygon = integrate(known.field, known.start, times, method="euler", step_size=0.1).states
    found = euler_constants(known, times, polygon, exact)
    assert found.slope.shape == found.growth.shape == found.lipschitz.shape == (10, 4)
    bound = euler_bound(0.1, found.slope, torch.tensor(1.0), found.growth)
    assert ((polygon - exact).norm(dim=-1) <= bound + 1e-13).all()


def test_a_member_of_a_batch_is_the_problem_alone():
    matrices = random(3, 2, 2, low=-1.0)
    times = torch.linspace(0, 1, 6, dtype=torch.float64)

    def constants(known):
        exact = known.solution(known.start, times)
        polygon = integrate(known.field, known.start, times, method="euler", step_size=0.2).states
        return euler_constants(known, times, polygon, exact)

    together = constants(ivp.linear(matrices))
    for member, matrix in enumerate(matrices):
        alone = constants(ivp.linear(matrix))
        torch.testing.assert_close(together.slope[:, member], alone.slope)
        torch.testing.assert_close(together.growth[:, member], alone.growth)


@single
def test_the_slope_bounds_the_defect_of_the_polygon(known):
    step = 0.1
    times = torch.arange(21, dtype=torch.float64) * step
    polygon = integrate(known.field, known.start, times, method="euler", step_size=step).states
    found = euler_constants(known, times, polygon, known.solution(known.start, times))
    for k in range(20):
        velocity = known.field(times[k].item(), polygon[k])
        for share in (0.25, 0.5, 1.0):
            inside = polygon[k] + share * step * velocity
            defect = velocity - known.field(times[k].item() + share * step, inside)
            assert defect.norm() <= found.slope[k] * share * step + 1e-12


@single
def test_euler_stays_below_its_bound(known):
    for step in (0.2, 0.1, 0.025):
        times = torch.arange(round(6 / step) + 1, dtype=torch.float64) * step
        polygon = integrate(known.field, known.start, times, method="euler", step_size=step).states
        exact = known.solution(known.start, times)
        found = euler_constants(known, times, polygon, exact)
        bound = euler_bound(step, found.slope, torch.tensor(1.0), found.growth)
        size = torch.maximum(polygon.norm(dim=-1), exact.norm(dim=-1)).max()
        assert ((polygon - exact).norm(dim=-1) - bound).max() <= 1e-13 * size
        classical = euler_bound(step, found.slope, torch.tensor(1.0), found.lipschitz)
        assert (bound <= classical * (1 + 1e-12)).all()


@pytest.mark.parametrize("rate", [-1.3, 0.8])
def test_the_bound_is_the_error_for_one_linear_equation(rate):
    known = ivp.linear(torch.tensor([[rate]], dtype=torch.float64))
    step = 0.1
    times = torch.arange(51, dtype=torch.float64) * step
    polygon = (1 + step * rate) ** torch.arange(51, dtype=torch.float64)[:, None]
    exact = torch.exp(rate * times)[:, None]
    found = euler_constants(known, times, polygon, exact)
    bound = euler_bound(step, found.slope, torch.tensor(1.0), found.growth)
    torch.testing.assert_close(bound, (polygon - exact).abs()[:, 0], rtol=1e-9, atol=1e-13)


def test_largest_cosine_against_a_fine_grid():
    begin = torch.linspace(-7, 7, 57, dtype=torch.float64)
    for width in (0.0, 0.3, 2.0, 4.0, 8.0):
        grid = begin + width * torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
        for function, values in (
            (ivp._largest_cosine, torch.cos(grid)),
            (ivp._largest_cosine_size, torch.cos(grid).abs()),
        ):
            found = function(begin, begin + width)
            assert (found >= values.amax(dim=0) - 1e-15).all()
            torch.testing.assert_close(found, values.amax(dim=0), rtol=0, atol=1e-5)


def test_the_problems_offered_by_name():
    assert list(PROBLEMS) == [
        "stable",
        "unstable",
        "rotation",
        "logistic",
        "seasonal",
        "tracking",
    ]
    for known in PROBLEMS.values():
        assert known.formula.startswith(r"\theta' =")
        assert ((known.start >= known.region.low) & (known.start <= known.region.high)).all()
        for interval, value in zip(known.domain, known.start.tolist(), strict=True):
            assert interval[0] <= value <= interval[1]
    assert problem("stable").region_constants.growth == -1
    assert problem("seasonal").region_constants.drift == 10
    assert BATCHES[1].formula == r"\theta' = r\theta(1 - \theta)"
    assert BATCHES[0].formula == r"\theta' = A\,\theta"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"problem = 'rotate'.*did you mean 'rotation'"):
        problem("rotate")
    with pytest.raises(ValueError, match="rate = -1"):
        ivp.logistic(-1.0)
    with pytest.raises(ValueError, match=r"frequency = 0"):
        ivp.seasonal(1.0, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="radius = 0"):
        ivp.seasonal(radius=0)
    with pytest.raises(ValueError, match=r"matrix has shape \(2, 3\)"):
        ivp.linear(torch.ones(2, 3))
    with pytest.raises(ValueError, match="non-finite"):
        ivp.linear(torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match="domain has 1"):
        known = problem("stable")
        ivp.InitialValueProblem(
            "flat",
            "",
            known.field,
            known.solution,
            known.constants,
            known.region,
            known.start,
            domain=((0.0, 1.0),),
        )
    known = problem("logistic")
    times = torch.tensor([0.0, 3.0], dtype=torch.float64)
    polygon = torch.tensor([[0.5], [1.25]], dtype=torch.float64)
    with pytest.raises(ValueError, match="leaves the region"):
        euler_constants(known, times, polygon, known.solution(polygon[0], times))
    with pytest.raises(ValueError, match=r"polygon and exact have shapes \(1, 1\)"):
        euler_constants(known, times, polygon[:1], polygon)
