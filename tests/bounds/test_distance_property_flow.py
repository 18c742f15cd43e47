"""The fundamental theorem as a property: no random system, step or start violates its bounds."""

import numpy as np
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfgd.bounds import euler_bound, fundamental_bound

SYSTEMS = settings(max_examples=60, deadline=None, derandomize=True)
systems = given(
    seed=st.integers(0, 10_000),
    dimension=st.integers(1, 4),
    scale=st.floats(0.1, 3.0),
    shift=st.floats(-2.0, 1.0),
    step=st.floats(0.01, 0.3),
    iterations=st.integers(1, 25),
)


def euler_and_exact(seed, dimension, scale, shift, step, iterations):
    """A random matrix, Euler's iterates and the exact states, without the library."""
    draw = np.random.default_rng(seed)
    A = scale * draw.normal(size=(dimension, dimension)) / np.sqrt(dimension)
    A += shift * np.eye(dimension)
    polygon = [draw.normal(size=dimension)]
    for _ in range(iterations):
        polygon.append(polygon[-1] + step * A @ polygon[-1])
    exact = [scipy.linalg.expm(k * step * A) @ polygon[0] for k in range(iterations + 1)]
    growth = np.linalg.eigvalsh((A + A.T) / 2)[-1]
    return A, growth, np.array(polygon), np.array(exact)


@SYSTEMS
@systems
def test_euler_never_leaves_its_bound(seed, dimension, scale, shift, step, iterations):
    A, growth, polygon, exact = euler_and_exact(seed, dimension, scale, shift, step, iterations)
    speeds = torch.from_numpy(np.linalg.norm(polygon[:-1] @ A.T, axis=1))
    bound = euler_bound(step, torch.tensor(np.linalg.norm(A, 2)), speeds, torch.tensor(growth))
    error = np.linalg.norm(polygon - exact, axis=1)
    size = max(np.linalg.norm(polygon, axis=1).max(), np.linalg.norm(exact, axis=1).max())
    assert (error <= bound.numpy() + 1e-12 * size).all()


@SYSTEMS
@systems
def test_suprema_of_the_defect_bound_too_and_are_looser(
    seed, dimension, scale, shift, step, iterations
):
    A, growth, polygon, exact = euler_and_exact(seed, dimension, scale, shift, step, iterations)
    times = torch.arange(iterations + 1, dtype=torch.float64) * step
    defect = torch.from_numpy(step * np.linalg.norm(polygon[:-1] @ (A @ A).T, axis=1))
    bound = fundamental_bound(times, defect, torch.full_like(defect, growth))
    error = np.linalg.norm(polygon - exact, axis=1)
    size = max(np.linalg.norm(polygon, axis=1).max(), np.linalg.norm(exact, axis=1).max())
    assert (error <= bound.numpy() + 1e-12 * size).all()
    sawtooth = euler_bound(step, defect / step, torch.tensor(1.0), torch.tensor(growth))
    assert (sawtooth <= bound + 1e-12 * size).all()


@SYSTEMS
@given(seed=st.integers(0, 10_000), dimension=st.integers(1, 4), end=st.floats(0.1, 3.0))
def test_two_solutions_separate_no_faster_than_the_logarithmic_norm(seed, dimension, end):
    # The theorem with defect 0 and different starts: ‖e(t)‖ ≤ e^{mt} ‖e(0)‖.
    draw = np.random.default_rng(seed)
    A = draw.normal(size=(dimension, dimension))
    growth = np.linalg.eigvalsh((A + A.T) / 2)[-1]
    stretched = np.linalg.norm(scipy.linalg.expm(end * A), 2)
    assert stretched <= np.exp(growth * end) * (1 + 1e-10)
