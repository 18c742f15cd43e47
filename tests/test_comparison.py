import pytest
import torch

from gfgd.comparison import descent_and_flow, distance_from_path
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


def test_every_third_iterate_and_the_last_are_recorded_of_both():
    bowl = landscapes.landscape("bowl")
    descent, flow = descent_and_flow(
        bowl.objective, [1.0, -0.5], step_size=0.1, horizon=0.8, record_every=3
    )
    assert descent.times.tolist() == pytest.approx([0.0, 0.3, 0.6, 0.8])
    torch.testing.assert_close(flow.times, descent.times)


def test_distance_from_a_path_by_hand():
    path = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 3.0]], dtype=torch.float64)
    points = [[1.0, 0.5], [-3.0, 4.0], [2.5, 1.0], [2.0, 3.0], [3.0, -1.0]]
    found = distance_from_path(torch.tensor(points, dtype=torch.float64), path)
    expected = torch.tensor([0.5, 5.0, 0.5, 0.0, 2**0.5], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_distance_from_a_path_is_that_of_its_nearest_point():
    """Against a broken line that is cut into many short pieces."""
    generator = torch.Generator().manual_seed(0)
    path, points = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (6, 9))
    share = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None, None]
    fine = (path[:-1] + share * path.diff(dim=0)).flatten(0, 1)
    expected = torch.cdist(points, fine).min(dim=1).values
    torch.testing.assert_close(distance_from_path(points, path), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("points", "path"), [((3, 2), (4, 3)), ((3, 2), (1, 2)), ((2,), (4, 2))])
def test_a_path_has_two_points_or_more_of_the_same_dimension(points, path):
    with pytest.raises(ValueError, match="path"):
        distance_from_path(torch.zeros(points), torch.zeros(path))


@pytest.mark.parametrize("bad", [{"step_size": 0.0}, {"horizon": -1.0}])
def test_what_is_not_positive_is_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        descent_and_flow(
            landscapes.landscape("bowl").objective,
            [1.0, 1.0],
            **{"step_size": 0.1, "horizon": 1.0} | bad,
        )
