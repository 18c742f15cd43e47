import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch

from gfgd import extreme_eigenvalues, networks
from gfgd.verified import NotVerifiedError, Settings, enclose, flow_tube
from gfgd.verified.directed import Upper

from .examples import SMALL, digits_network, enclosed, truth


@pytest.mark.parametrize(("hidden", "loss", "step_size"), SMALL)
def test_the_truth_lies_inside(hidden, loss, step_size):
    found = enclosed(hidden, loss, step_size)
    descent, flow = truth(hidden, loss, step_size)
    distances = (descent - flow).norm(dim=1).numpy()
    # GD in float64 and dopri8 at 1e-12 are off by less than this.
    assert (found.lower - 1e-12 <= distances).all()
    assert (distances <= found.upper + 1e-12).all()
    low, high = found.largest
    assert low <= distances.max() <= high
    assert high - low < 1e-5 * high
    nearest, farthest = found.distances_from_flow(flow)
    assert nearest.max() == 0
    assert farthest.max() < 1e-9


@pytest.mark.parametrize(("hidden", "loss", "step_size"), SMALL)
def test_curvature_at_the_nodes(hidden, loss, step_size):
    found = enclosed(hidden, loss, step_size)
    objective = digits_network(hidden, loss)
    _, flow = truth(hidden, loss, step_size)
    times = found.times
    for node, rate in zip(found.node_times[::4], found.node_rates[::4], strict=True):
        k = int(np.abs(times - node).argmin())
        eigenvalues = extreme_eigenvalues(objective, flow[k])
        slack = 10 * rate * abs(times[k] - node) + 1e-3
        assert eigenvalues.smallest[0] >= -rate - slack
        assert rate < 3 * -float(eigenvalues.smallest[0]) + 0.1
        assert eigenvalues.largest[0] <= found.largest_curvature


def test_the_tube_obeys_its_own_theorem():
    """Each cell's radius is exp(∫m)(e + ∫δ) at least, from the cell before; in exact numbers."""
    found = enclosed((6, 5), "cross_entropy", 0.01)
    before = Fraction(0)
    for exponent, defect, radius in zip(found.exponents, found.defects, found.radii, strict=True):
        x = Fraction(float(exponent))
        growth = 1 + x + x**2 / 2 + x**3 / 6  # below exp
        assert Fraction(float(radius)) >= growth * (before + Fraction(float(defect)))
        before = Fraction(float(radius))
    assert found.flow_radius[-1] == found.radii[-1]
    assert (np.diff(found.descent_radius) > 0).all()
    assert found.stretch >= np.exp(found.exponents.sum())


def test_coverage():
    """Kη need not be a multiple of the time's quantum; k = K is covered all the same."""
    objective = digits_network()
    found = enclose(objective, objective.initial(1), step_size="7/3000", iterations=11)
    assert found.iterations == 11
    assert found.step_size == Fraction(7, 3000)
    assert found.node_times[-1] >= 11 * 7 / 3000
    assert np.isfinite(found.upper).all()
    assert found.upper[0] < 1e-11
    assert (found.lower[1:] > 0).all()
    assert found.iterates == ()
    assert found.flow_points.shape == (0, objective.dimension)


def test_a_float_is_the_decimal_that_it_prints():
    objective = digits_network()
    found = enclose(objective, objective.initial(1), step_size=0.001, iterations=1)
    assert found.step_size == Fraction(1, 1000)
    assert set(found.provenance) >= {"inputs", "targets", "start", "numpy", "blas"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.step_size = Fraction(1, 2)  # type: ignore[misc]


def test_a_step_past_what_can_be_proved():
    objective = digits_network()
    with pytest.raises(NotVerifiedError, match=r"step_size = 0.1, iteration 0 \(t = 0\).*<= 0\.0"):
        enclose(objective, objective.initial(1), step_size=0.1, iterations=3)


def test_an_enclosure_that_is_too_wide_is_refused():
    objective = digits_network()
    with pytest.raises(NotVerifiedError, match="wider than 1e-09"):
        enclose(objective, objective.initial(1), step_size=0.01, iterations=9, widest=1e-9)


def test_a_flow_that_cannot_be_followed():
    objective = digits_network()
    with pytest.raises(NotVerifiedError, match=r"beyond t = 0: the shortest cell"):
        enclose(
            objective,
            objective.initial(1),
            step_size=0.01,
            iterations=9,
            settings=Settings(order=2, defect=1e-14),
        )


def test_an_enclosure_that_outgrows_its_tube(monkeypatch):
    objective = digits_network()
    monkeypatch.setattr(flow_tube, "lipschitz", lambda *_: Upper(1e15))
    with pytest.raises(NotVerifiedError, match=r"outgrew its tube at t = 0:"):
        enclose(objective, objective.initial(1), step_size=0.01, iterations=9)


def test_numbers_that_overflow():
    objective = digits_network()
    with pytest.raises(NotVerifiedError, match="iteration 0"):
        enclose(objective, 1e60 * objective.initial(1), step_size=0.01, iterations=9)
    with pytest.raises(NotVerifiedError, match="iteration 0"):
        enclose(objective, 1e200 * objective.initial(1), step_size=0.01, iterations=9)


def not_finite():
    start = digits_network().initial(1)
    start[3] = torch.nan
    return start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": digits_network(hidden=())}, "one layer"),
        ({"start": not_finite()}, "non-finite"),
        ({"start": torch.zeros(7, dtype=torch.float64)}, r"\(7,\)"),
        ({"start": digits_network().initial(1).float()}, "float32"),
        ({"step_size": -0.1}, "step_size"),
        ({"step_size": float("nan")}, "step_size|nan"),
        ({"iterations": 0}, "iterations"),
        ({"keep": [3, 12]}, "12"),
        ({"widest": 0}, "widest"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "objective": digits_network(),
        "start": digits_network().initial(1),
        "step_size": 0.01,
        "iterations": 9,
    } | change
    with pytest.raises(ValueError, match=message):
        enclose(arguments.pop("objective"), arguments.pop("start"), **arguments)


def test_data_in_float32_are_refused():
    images = torch.rand(20, 5)
    objective = networks.fully_connected(
        images, torch.arange(20) % 3, hidden=(4,), activation="linear", dtype=torch.float32
    )
    with pytest.raises(ValueError, match="float32"):
        enclose(objective, objective.initial(1).double(), step_size=0.01, iterations=1)


def test_points_of_another_shape():
    found = enclosed((6, 5), "cross_entropy", 0.01)
    with pytest.raises(ValueError, match="of shape"):
        found.distances_from_flow(torch.zeros(3, 4, dtype=torch.float64))
