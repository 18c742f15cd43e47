"""The bounds against exact distances, and their formulas against numerical integration."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from gfgd import bounds, gradient_descent, gradient_flow
from gfgd.bounds.leading_order import leading_order_error
from gfgd.problems import landscapes

NUMBERS = {"allow_nan": False, "allow_infinity": False}
#: Room for rounding: relative, in a bound or a distance.
ROUNDING = 1 + 1e-9


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def random_quadratics(seed, count, dimension, low):
    """Eigenvalues in [low, 3] and starts, many at once; only diagonal ones: rotations keep all."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(2, count, dimension, generator=generator, dtype=torch.float64)
    return low + (3 - low) * draw[0], 2 * draw[1] - 1


def paths(eigenvalues, start, step_size, iterations):
    """GF and GD of ½ Σ λ_i θ_i² in closed form, shapes (K + 1, count, d)."""
    steps = torch.arange(iterations + 1, dtype=torch.float64).reshape(-1, 1, 1)
    flow = start * torch.exp(-eigenvalues * step_size * steps)
    return flow, start * (1 - step_size * eigenvalues) ** steps


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.floats(0.01, 0.5, **NUMBERS), min_size=1, max_size=6),
    data=st.data(),
)
def test_fundamental_bound_is_the_integral(widths, data):
    cells = st.lists(st.floats(-3, 3, **NUMBERS), min_size=len(widths), max_size=len(widths))
    rate, defect = tensor(data.draw(cells)), tensor(data.draw(cells)).abs()
    times = torch.cat([tensor([0.0]), tensor(widths).cumsum(0)])
    found = bounds.fundamental_bound(times, defect, rate)

    def integrand(s):
        cell = int(torch.searchsorted(times[1:], s, right=True).clamp(max=len(widths) - 1))
        rest = rate[cell] * (times[cell + 1] - s) + (rate * times.diff())[cell + 1 :].sum()
        return float(rest.exp() * defect[cell])

    pieces = [quad(integrand, float(a), float(b))[0] for a, b in pairwise(times)]
    assert float(found[-1]) == pytest.approx(sum(pieces), rel=1e-8, abs=1e-12)
    assert found[0] == 0


def test_fundamental_bound_in_known_cases():
    times = tensor([0.0, 0.5, 2.0])
    assert bounds.fundamental_bound(times, 0.3, 0.0).tolist() == pytest.approx([0, 0.15, 0.6])
    decaying = bounds.fundamental_bound(times, 1.0, -2.0)
    assert decaying.tolist() == pytest.approx([0, (1 - math.e**-1) / 2, (1 - math.e**-4) / 2])
    batched = bounds.fundamental_bound(times, torch.ones(2, 3), torch.zeros(2))
    assert batched.tolist() == [[0] * 3, [0.5] * 3, [2.0] * 3]


def test_fundamental_bound_survives_exponents_that_overflow_on_the_way():
    # e^{800} is infinite, but what was gained late has grown little.
    times = tensor([0.0, 1.0, 2.0, 3.0])
    found = bounds.fundamental_bound(times, tensor([0.0, 0.0, 1.0]), tensor([800.0, 800.0, 1.0]))
    assert found.tolist() == pytest.approx([0, 0, 0, math.e - 1])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    low=st.sampled_from([-2.0, 0.0, 0.5]),
    step_size=st.floats(0.001, 0.3),
    iterations=st.integers(1, 40),
)
def test_no_bound_is_violated_on_quadratics(seed, low, step_size, iterations):
    eigenvalues, start = random_quadratics(seed, count=30, dimension=3, low=low)
    flow, descent = paths(eigenvalues, start, step_size, iterations)
    distance = (flow - descent).norm(dim=-1)
    convexity, smoothness = eigenvalues.amin(-1), eigenvalues.abs().amax(-1)
    gradient_norms = (eigenvalues * descent[:-1]).norm(dim=-1)
    sharp = bounds.euler_bound(
        step_size,
        smoothness[None].expand_as(gradient_norms),
        gradient_norms,
        -convexity[None].expand_as(gradient_norms),
    )
    assert (distance <= sharp * ROUNDING + 1e-14).all()
    # From the start's gradient alone: no sharper than with the gradients met, and still true.
    slopes = gradient_norms[0]
    step_constants = (value.expand(iterations, -1) for value in (smoothness, -convexity))
    signed = bounds.signed_bound(step_size, *step_constants, gradient_norm=slopes)
    assert (sharp <= signed * ROUNDING + 1e-14).all()
    times = step_size * torch.arange(iterations + 1, dtype=torch.float64)[:, None]
    plain = bounds.convexity_bound(
        times, step_size=step_size, convexity=convexity, smoothness=smoothness, gradient_norm=slopes
    )
    assert (signed <= plain * ROUNDING + 1e-14).all()


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["ripples", "steep_ripples", "bent_saddle", "quartic"]),
    seed=st.integers(0, 1000),
    iterations=st.integers(5, 60),
)
def test_no_bound_is_violated_off_quadratics(name, seed, iterations):
    known = landscapes.landscape(name)
    generator = torch.Generator().manual_seed(seed)
    start = 2 * torch.rand(20, 2, generator=generator, dtype=torch.float64) - 1
    step_size = 2.0 / iterations * min(1, 1 / known.smoothness)
    descent = gradient_descent(known.objective, start, step_size=step_size, iterations=iterations)
    flow = gradient_flow(known.objective, start, descent.times)
    norms = known.objective.gradient(descent.points[:-1]).norm(dim=-1)
    bound = bounds.euler_bound(
        step_size,
        torch.full_like(norms, known.smoothness),
        norms,
        torch.full_like(norms, -known.convexity_bound),
    )
    assert (descent.distance_to(flow) <= bound + flow.error + 1e-12).all()


def test_euler_bound_is_half_the_plain_one_where_nothing_grows():
    ones = torch.ones(10, dtype=torch.float64)
    sawtooth = bounds.euler_bound(0.1, 2 * ones, 3 * ones, 0 * ones)
    plain = 0.1 * bounds.fundamental_bound(0.1 * torch.arange(11), 6 * ones, 0.0)
    assert torch.allclose(sawtooth, plain / 2)
    signed = bounds.convexity_bound(
        0.1 * torch.arange(11), step_size=0.1, convexity=0, smoothness=2, gradient_norm=3
    )
    assert torch.allclose(sawtooth, signed)


@pytest.mark.parametrize("rate", [-4.0, -1e-3, 1e-9, 0.5])
def test_euler_bound_is_the_integral_of_the_sawtooth(rate):
    step_size, steps = 0.3, 3
    expected = sum(
        quad(lambda s, k=k: math.exp(rate * (steps * step_size - s)) * 2 * (s - k * step_size),
             k * step_size, (k + 1) * step_size)[0]
        for k in range(steps)
    )  # fmt: skip
    found = bounds.euler_bound(step_size, torch.ones(steps), torch.tensor(2.0), torch.tensor(rate))
    assert float(found[-1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("eigenvalue", [2.0, 0.3, -0.3, -2.0])
@pytest.mark.parametrize("step_size", [0.5, 0.1, 1e-3])
def test_signed_bound_is_the_distance_on_a_quadratic(eigenvalue, step_size):
    known, start = landscapes.quadratic(eigenvalue), tensor([0.7])
    times = step_size * torch.arange(31, dtype=torch.float64)
    apart = (known.flow(start, times) - known.descent(start, step_size, 30)).norm(dim=-1)
    size = abs(eigenvalue)
    found = bounds.signed_bound(
        step_size, tensor([size] * 30), -eigenvalue, gradient_norm=size * 0.7
    )
    largest = known.flow(start, times).abs().max()
    torch.testing.assert_close(found, apart, rtol=1e-9, atol=1e-14 * float(largest))


def test_signed_bound_by_hand_with_signs_that_change():
    # E' = −H(θ)e + defect, two steps, m = 1 and then −2; the gradient is 3 and then 3(1 + η).
    eta = 0.1
    phi = [(math.exp(m * eta) - 1 - m * eta) / m**2 for m in (1.0, -2.0)]
    first = 4 * 3 * phi[0]
    second = math.exp(-2 * eta) * first + 5 * 3 * (1 + eta) * phi[1]
    found = bounds.signed_bound(eta, tensor([4.0, 5.0]), tensor([1.0, -2.0]), gradient_norm=3.0)
    assert found.tolist() == pytest.approx([0.0, first, second], rel=1e-12)


@pytest.mark.parametrize("name", sorted(landscapes.LANDSCAPES))
def test_signed_step_size_keeps_gd_in_the_tube(name):
    known, epsilon = landscapes.landscape(name), 0.03
    horizon = 3 / known.smoothness
    start = tensor([0.9, 0.3])
    times = torch.linspace(0, horizon, 101, dtype=torch.float64)
    flow = gradient_flow(known.objective, start, times, rtol=1e-10, atol=1e-12)
    smoothness, rate = landscapes.tube_constants(known, flow, epsilon)
    slope, beta = float(known.objective.gradient(start).norm()), float(smoothness.max())
    largest = bounds.signed_step_size(epsilon, times, beta, rate, gradient_norm=slope)
    each = math.ceil(horizon / largest / 100)
    step_size = horizon / (100 * each)
    descent = gradient_descent(
        known.objective, start, step_size=step_size, iterations=100 * each, record_every=each
    )
    distance = descent.distance_to(flow)
    assert distance.max() <= epsilon
    # The same formula as a function of time, with the step size that GD took.
    damping = max(0.0, -float(rate.min()))
    bound = bounds.signed_coefficient(times, beta, rate, gradient_norm=slope)
    assert (distance <= step_size * math.exp(step_size * damping) * bound + 1e-9).all()


def test_signed_step_size_is_the_largest_that_the_formula_allows():
    times = torch.linspace(0, 3, 31, dtype=torch.float64)
    rate = torch.where(times[:-1] < 1, 1.5, -2.0)  # first apart, then together
    constants = {"gradient_norm": 0.8}
    found = bounds.signed_step_size(0.01, times, 4.0, rate, **constants)

    def largest(step_size):
        # The maximum of t exp(∫m) by brute force, on a grid far finer than the cells.
        fine = torch.linspace(0, 3, 300_001, dtype=torch.float64)
        grown = torch.where(fine < 1, 1.5 * fine, 1.5 - 2.0 * (fine - 1))
        return float(0.5 * step_size * 4 * 0.8 * (fine * grown.exp()).max()) * math.exp(
            2 * step_size
        )

    assert largest(found) == pytest.approx(0.01, rel=1e-6)
    # A tube so wide that only the condition on the gradients is left: η (β + m₋) = 2.
    assert bounds.signed_step_size(50.0, times, 4.0, rate, **constants) == pytest.approx(2 / 6)
    assert bounds.signed_step_size(0.01, times, 0.0, 0.0, **constants) == math.inf


def test_signed_coefficient_is_the_leading_order_error_of_a_quadratic():
    # u = −½ λ² t e^{−λt} θ_0 for f = ½λθ², of either sign.
    times = torch.linspace(0, 5, 21, dtype=torch.float64)
    for eigenvalue in (1.7, -0.6):
        found = bounds.signed_coefficient(
            times, abs(eigenvalue), -eigenvalue, gradient_norm=abs(eigenvalue) * 0.4
        )
        exact = 0.5 * eigenvalue**2 * times * torch.exp(-eigenvalue * times) * 0.4
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(landscapes.LANDSCAPES))
def test_signed_coefficient_bounds_the_leading_order_error(name):
    # 40 starts on each landscape; λmin and ‖H‖ by the trapezoidal rule along the flow.
    known = landscapes.landscape(name)
    low, high = tensor(known.domain).T
    generator = torch.Generator().manual_seed(3)
    start = low + (high - low) * torch.rand(40, 2, generator=generator, dtype=torch.float64)
    times = torch.linspace(0, 8 / known.smoothness, 201, dtype=torch.float64)
    found = leading_order_error(known.objective, start, times, rtol=1e-8, atol=1e-11)
    product = known.objective.hessian_vector_product
    directions = [torch.eye(2, dtype=torch.float64)[i].expand(201, 40, 2) for i in range(2)]
    hessians = torch.stack([product(found.flow.points, v) for v in directions], dim=-1)
    spectra = torch.linalg.eigvalsh(hessians)
    mean = [(v[1:] + v[:-1]) / 2 for v in (spectra.abs().amax(-1), -spectra[..., 0])]
    slopes = known.objective.gradient(start).norm(dim=-1)
    bound = bounds.signed_coefficient(times, *mean, gradient_norm=slopes)
    ratio = (found.coefficient.norm(dim=-1) / bound)[5:]
    assert ratio.max() <= 1 + 1e-3
    assert ratio.max() >= 0.7  # some start puts it to the test


@pytest.mark.parametrize("convexity", [1.5, 1e-12, 0.0, -1.5])
def test_guaranteed_step_size_inverts_the_bound(convexity):
    times = tensor([0.1, 0.5, 1.0, 7.0])
    constants = {"convexity": convexity, "smoothness": 3.0, "gradient_norm": 0.7}
    sizes = bounds.guaranteed_step_size(0.01, times=times, **constants)
    for time, size in zip(times, sizes, strict=True):
        earlier = torch.linspace(0, float(time), 20_001, dtype=torch.float64)
        reached = bounds.convexity_bound(earlier, step_size=float(size), **constants)
        assert float(reached.max()) == pytest.approx(0.01, rel=1e-6)


def test_strongly_convex_step_size_is_free_of_time():
    forever = bounds.guaranteed_step_size(
        0.1, times=math.inf, convexity=2.0, smoothness=4.0, gradient_norm=5.0
    )
    size = float(forever)
    # η e^{2η} ½·4·5/(2e) = 0.1, which 2λε/(βγ₀) satisfies with room to spare.
    assert size * math.exp(2 * size) == pytest.approx(0.1 * 2 * 2 * math.e / 20)
    assert size > 2 * 2.0 * 0.1 / (4.0 * 5.0)
    never = bounds.guaranteed_step_size(
        0.1, times=math.inf, convexity=0.0, smoothness=4.0, gradient_norm=5.0
    )
    assert float(never) == 0
    at_once = bounds.guaranteed_step_size(
        0.1, times=0.0, convexity=0.0, smoothness=4.0, gradient_norm=5.0
    )
    assert float(at_once) == 0.5  # 2/β: no distance to keep, but gradients to bound


def test_tube_step_size_where_nothing_bends_or_moves():
    times = tensor([0.0, 1.0])
    assert bounds.tube_step_size(0.1, times, 0.0, 2.0, 1.0) == math.inf
    assert bounds.tube_step_size(0.1, times, tensor([3.0]), tensor([0.0]), 1.0) == math.inf


def test_tube_step_size_keeps_gd_in_the_tube():
    known, epsilon, horizon = landscapes.landscape("bent_saddle"), 0.05, 4.0
    times = torch.linspace(0, horizon, 401, dtype=torch.float64)
    start = tensor([1.0, 0.2])
    flow = gradient_flow(known.objective, start, times)
    gradient_norm = known.objective.gradient(flow.points).norm(dim=-1).max() + epsilon
    step_size = bounds.tube_step_size(epsilon, times, tensor(1.0), gradient_norm, tensor(1.0))
    iterations = math.ceil(horizon / step_size)
    descent = gradient_descent(
        known.objective, start, step_size=horizon / iterations, iterations=iterations
    )
    distance = descent.distance_to(gradient_flow(known.objective, start, descent.times))
    assert distance.max() <= epsilon


CONSTANTS = {"convexity": 1.0, "smoothness": 1.0, "gradient_norm": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.convexity_bound(1.0, step_size=0, **CONSTANTS), "step_size = 0"),
        (lambda: bounds.convexity_bound(-1.0, step_size=1, **CONSTANTS), "times: must not be"),
        (lambda: bounds.guaranteed_step_size(0, times=1.0, **CONSTANTS), "distance = 0"),
        (lambda: bounds.fundamental_bound(tensor([0.0]), 1, 1), "at least two increasing"),
        (lambda: bounds.fundamental_bound(tensor([0.0, 1.0]), -1, 1), "defect = -1"),
        (lambda: bounds.fundamental_bound(tensor([0.0, 1.0]), tensor([1.0, 2.0]), 1), "defect has"),
        (lambda: bounds.fundamental_bound(tensor([0.0, 1.0]), 1, math.nan), "rate: has entries"),
        (lambda: bounds.euler_bound(-1, tensor([1.0]), 1, 1), "step_size = -1"),
        (lambda: bounds.euler_bound(1, 1, 1, 1), "one of them must have shape"),
        (lambda: bounds.signed_bound(0.3, tensor([5.0]), -2.0, gradient_norm=1), "step_size = 0.3"),
        (
            lambda: bounds.signed_bound(0.1, tensor([1.0]), -2.0, gradient_norm=1),
            "smoothness: λmin",
        ),
        (lambda: bounds.signed_bound(0.1, 1.0, 1.0, gradient_norm=1), "one of them must have"),
        (
            lambda: bounds.signed_bound(0.1, tensor([1.0]), 1, gradient_norm=-1),
            "gradient_norm: must",
        ),
        (lambda: bounds.convexity_bound(1.0, step_size=1.1, **CONSTANTS), "step_size = 1.1"),
        (
            lambda: bounds.signed_step_size(0, tensor([0.0, 1.0]), 1.0, 1.0, gradient_norm=1),
            "distance = 0",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
