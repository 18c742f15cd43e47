"""The chain of inequalities on quadratics, where all that enters has a closed form."""

from itertools import pairwise

import pytest
import torch

from gfgd import bounds, spectrum_along
from gfgd.bounds.chain import along_flow
from gfgd.bounds.leading_order import leading_order_error
from gfgd.problems import landscapes

TIMES = torch.linspace(0, 2, 401, dtype=torch.float64)
ORDER = ["u", "direction", "a", "b", "c", "d"]


def measured(eigenvalues, start, step_size=0.01):
    """Return the ingredients on a quadratic, whose flow and u are integrated."""
    objective = landscapes.quadratic(*eigenvalues).objective
    error = leading_order_error(objective, torch.tensor(start, dtype=torch.float64), TIMES)
    found = spectrum_along(objective, error.flow)
    return along_flow(objective, error.flow, found, error.coefficient, step_size=step_size)


def test_ingredients_on_a_quadratic():
    # θ = e^{−λt}θ_0, ∇f = λθ, H∇f = λ²θ; one step changes the gradient by ηλ²θ, exactly.
    eigenvalues = torch.tensor([2.0, -0.5], dtype=torch.float64)
    q = measured(eigenvalues.tolist(), [1.0, 0.2])
    point = torch.exp(-eigenvalues * TIMES[:, None]) * torch.tensor([1.0, 0.2])
    torch.testing.assert_close(q.gradients, eigenvalues * point, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(q.curved, eigenvalues**2 * point, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(q.secant, q.defect, rtol=1e-9, atol=0)
    u = -0.5 * eigenvalues**2 * TIMES[:, None] * point
    rho = (eigenvalues * u.square()).sum(-1)[1:] / u.square().sum(-1)[1:]
    torch.testing.assert_close(q.rho[1:], rho, rtol=1e-5, atol=1e-7)
    assert (q.lowest + 0.5).abs().max() < 1e-9
    assert (q.norm - 2).abs().max() < 1e-9


@pytest.mark.parametrize("start", [[1.0, 0.2], [0.1, 1.0], [0.0, 1.0]])
@pytest.mark.parametrize("lowest", [-0.5, 0.3])
def test_each_link_is_below_the_next(lowest, start):
    chain = measured([2.0, lowest], start).chain()
    assert list(chain) == ORDER
    for below, above in pairwise(ORDER):
        assert (chain[below] <= chain[above] * (1 + 1e-4) + 1e-9).all(), (below, above)


def test_nothing_is_lost_where_all_directions_are_alike():
    # Equal curvature everywhere: every inequality is an equality, ½ λ² t e^{−λt} |θ_0|.
    for eigenvalue in (2.0, -0.5):
        exact = 0.5 * eigenvalue**2 * TIMES * torch.exp(-eigenvalue * TIMES)
        for values in measured([eigenvalue] * 2, [1.0, 0.0]).chain().values():
            torch.testing.assert_close(values, exact, rtol=1e-3, atol=1e-7)


def test_fewer_times_show_the_error_of_integration():
    q = measured([2.0, -0.5], [1.0, 0.2])
    fine, coarse = (q.integrated(q.defect, -q.lowest, every)[-1] for every in (1, 40))
    assert 1e-4 < abs(coarse / fine - 1) < 0.1
    assert len(q.integrated(q.defect, -q.lowest, 40)) == 11


def test_mean_of_ends():
    values = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, -1.0]])
    assert bounds.mean_of_ends(values).tolist() == [[1.0, 3.0], [3.0, 2.0]]


def test_a_coefficient_at_other_times_is_refused():
    objective = landscapes.quadratic(2.0, 1.0).objective
    error = leading_order_error(objective, torch.ones(2).double(), TIMES[:5])
    found = spectrum_along(objective, error.flow)
    with pytest.raises(ValueError, match="coefficient has shape"):
        along_flow(objective, error.flow, found, error.coefficient[1:], step_size=0.1)
