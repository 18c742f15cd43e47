import pytest
import torch

from gfgd.comparison import descent_and_flow
from gfgd.problems import landscapes


@pytest.mark.parametrize(("step_size", "steps"), [(0.1, 3), (0.3, 1), (0.07, 4), (1.0, 1)])
def test_as_many_steps_as_fit_and_both_are_the_known_curves(step_size, steps):
    bowl = landscapes.landscape("bowl")
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    descent, flow = descent_and_flow(
        bowl.objective, start.tolist(), step_size=step_size, horizon=0.3, rtol=1e-10, atol=1e-12
    )
    assert len(descent.times) == steps + 1
    torch.testing.assert_close(descent.points, bowl.descent(start, step_size, steps))
    torch.testing.assert_close(flow.times, descent.times)
    torch.testing.assert_close(flow.points, bowl.flow(start, flow.times), rtol=0, atol=1e-8)


def test_the_flow_goes_as_far_as_a_descent_that_diverges():
    quartic = landscapes.landscape("quartic")
    descent, flow = descent_and_flow(quartic.objective, [2.9, 0.1], step_size=2.0, horizon=100.0)
    assert not descent.completed
    assert flow.completed
    assert len(flow.times) == len(descent.times) < 51


@pytest.mark.parametrize("bad", [{"step_size": 0.0}, {"horizon": -1.0}])
def test_what_is_not_positive_is_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        descent_and_flow(
            landscapes.landscape("bowl").objective,
            [1.0, 1.0],
            **{"step_size": 0.1, "horizon": 1.0} | bad,
        )
