import pytest
import torch

from gfgd import gradient_descent
from gfgd.imperfections import gates
from tests.small_problems import both_sides, on_the_kink, small_network, unit_input


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_unit_input_written_out(activation):
    objective = small_network(activation, hidden=(5, 4, 3))
    points = torch.stack([objective.initial(seed) for seed in (1, 2)])
    for column, layer, unit in ((2, 1, 2), (6, 2, 1), (11, 3, 2)):
        found = gates.unit_input(objective, points, 3, column)
        for value, point in zip(found, points, strict=True):
            weights, h = objective.weights(point), objective.inputs[3]
            for weight in weights[: layer - 1]:
                h = objective.activation.apply(weight @ h)
            torch.testing.assert_close(value, weights[layer - 1][unit] @ h)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("column", [1, 7])
def test_both_sides_of_a_kink_against_gradients_taken_there(activation, column):
    # The oracle: step a little to either side along the normal, take the gradient there.
    objective, point = on_the_kink(activation, column=column)
    z = unit_input(objective, 3, column)
    assert abs(float(z.value(point))) < 1e-14
    normal = z.gradient(point)
    small = 1e-9 * normal / normal.norm()
    off, on = -objective.gradient(point - small), -objective.gradient(point + small)
    found = gates.kinks(objective, point)
    close = {"rtol": 1e-5, "atol": 1e-8}
    torch.testing.assert_close(found.norms[3, column], normal.norm())
    torch.testing.assert_close(found.velocities_off[3, column], normal @ off, **close)
    torch.testing.assert_close(found.velocities_on[3, column], normal @ on, **close)
    torch.testing.assert_close(found.jumps[3, column], (on - off).norm(), **close)
    torch.testing.assert_close(off - on, found.strengths[3, column] * normal, **close)


def test_every_gate_beside_finite_differences_and_autograd():
    objective = small_network("relu", hidden=(5, 4, 3))
    point = objective.initial(4)
    found = gates.kinks(objective, point)
    step = -1e-6 * objective.gradient(point)
    for sample in (0, 5):
        for column in (0, 4, 6, 9, 11):
            z = unit_input(objective, sample, column)
            rate = (z.value(point + step) - z.value(point - step)) / 2e-6
            torch.testing.assert_close(found.inputs[sample, column], z.value(point))
            torch.testing.assert_close(found.velocities[sample, column], rate, rtol=1e-6, atol=1e-9)
            norm = z.gradient(point).norm()
            torch.testing.assert_close(found.norms[sample, column], norm)
    torch.testing.assert_close(gates.gates(objective, point), found.inputs > 0)


def test_gates_of_many_points():
    objective = small_network("relu")
    points = torch.stack([objective.initial(seed) for seed in (1, 2, 3)])
    found = gates.gates(objective, points)
    assert found.shape == (3, 12, 9)
    for row, point in zip(found, points, strict=True):
        assert torch.equal(row, gates.gates(objective, point))


@pytest.mark.parametrize(
    ("off", "on", "kind"),
    [(1, 2, "switches on"), (-1, -2, "switches off"), (1, -1, "slides"), (-1, 1, "branches")],
)
def test_kinds(off, on, kind):
    assert gates.kind_of_kink(off, on) == kind
    assert kind in gates.KINDS


def test_saltation_is_the_derivative_of_the_crossing():
    # z' = v₋ below 0 and v₊ above, from z(0) = −1: for t past the crossing
    # z = v₊ (t − 1/v₋), and a start moved by e moves it by e v₊/v₋.
    before, after = 0.5, 2.0

    def final(start, t=5.0):
        return after * (t + start / before)

    measured = (final(-1 + 1e-3) - final(-1)) / 1e-3
    factor = gates.saltation(torch.tensor(before), torch.tensor(after))
    assert float(factor) == pytest.approx(measured)


def test_columns_are_layers_and_units():
    objective = small_network("relu")  # hidden widths 5 and 4
    assert gates.layer_and_unit(objective, 0) == (1, 0)
    assert gates.layer_and_unit(objective, 4) == (1, 4)
    assert gates.layer_and_unit(objective, 5) == (2, 0)
    with pytest.raises(ValueError, match="column = 9"):
        gates.layer_and_unit(objective, 9)


def test_shares_of_a_distance():
    objective = small_network("relu")
    difference = objective.initial(1) - objective.initial(2)
    shares = gates.unit_shares(objective, difference)
    assert [tuple(share.shape) for share in shares] == [(5,), (4,), (3,)]
    total = sum(share.square().sum() for share in shares)
    torch.testing.assert_close(total.sqrt(), difference.norm())
    torch.testing.assert_close(shares[0][2], difference[12:18].norm())


@pytest.mark.parametrize("activation", ["linear", "tanh", "softplus"])
def test_networks_without_kinks_are_refused(activation):
    objective = small_network(activation)
    with pytest.raises(ValueError, match="has no kink"):
        gates.gates(objective, objective.initial(1))


def test_one_point_at_a_time():
    objective = small_network("relu")
    with pytest.raises(ValueError, match="give one θ"):
        gates.kinks(objective, torch.zeros(2, objective.dimension, dtype=torch.float64))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_gradient_with_the_gates_as_they_are_is_the_gradient(activation):
    objective = small_network(activation, hidden=(5, 4, 3))
    point = objective.initial(4)
    own = gates.gates(objective, point)
    told = gates.gradient_with_gates(objective, point, own)
    torch.testing.assert_close(told, objective.gradient(point))


def test_gradient_with_a_gate_told_is_that_beyond_the_kink():
    # The oracle: the gradient on the other side of the kink, at a θ on it.
    objective, point = on_the_kink()
    normal = unit_input(objective, 3, 7).gradient(point)
    small = 1e-9 * normal / normal.norm()
    for side in (1, -1):
        on = gates.gates(objective, point - side * small)
        on[3, 7] = side > 0
        told = gates.gradient_with_gates(objective, point - side * small, on)
        beyond = objective.gradient(point + side * small)
        torch.testing.assert_close(told, beyond, rtol=1e-6, atol=1e-7)


def test_holding_a_gate_takes_away_the_distance_it_makes():
    objective, column, jump, (above, below) = both_sides("branches")
    held = [
        gates.descent_with_gates_held(
            objective, above.points[0], below.points[0], step_size=1e-3, iterations=40, held=which
        )
        for which in ([], [(3, column)], None)
    ]
    assert torch.equal(held[0].times, above.times)
    apart = [float(run.distance_to(below)[-1]) for run in held]
    assert apart[0] == pytest.approx(float(above.distance_to(below)[-1]), rel=1e-9)
    assert apart[0] > 0.9 * jump * 0.04
    assert apart[1] < 1e-5 and apart[2] < 1e-5
    torch.testing.assert_close(held[1].losses[-1], objective.value(held[1].points[-1]))


def test_the_leader_may_take_smaller_steps():
    objective = small_network("relu")
    point = objective.initial(4)
    with_leader = gates.descent_with_gates_held(
        objective, point, point, step_size=0.02, iterations=9, record_every=4, ratio=3, held=[]
    )
    alone = gradient_descent(objective, point, step_size=0.02, iterations=9, record_every=4)
    torch.testing.assert_close(with_leader.points, alone.points)
    torch.testing.assert_close(with_leader.times, alone.times)
    assert with_leader.counts == {"gradients": 36}


def test_pieces_of_the_kinks():
    objective, point = on_the_kink("leaky_relu")
    found = gates.kinks(objective, point)
    torch.testing.assert_close(gates.hidden_inputs(objective, point), found.inputs)
    pulls = gates.strengths(objective, point)
    assert gates.slope_jump(objective) == pytest.approx(0.99)
    torch.testing.assert_close(0.99 * pulls, found.strengths)
