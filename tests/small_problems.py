"""Objectives with known derivatives: the oracles that several test files share."""

import torch

from gfgd import gradient_descent, networks
from gfgd.imperfections import gates
from gfgd.objective import Objective


def quadratic(*eigenvalues: float) -> Objective:
    """½ Σ λ_i θ_i²: flow θ_i(0) e^{−λ_i t}, descent θ_i(0) (1 − ηλ_i)^k."""
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    return Objective(lambda p: 0.5 * (values.to(p) * p.square()).sum(-1), dimension=len(values))


def quartic() -> Objective:
    """x⁴/4 + x²y: not quadratic, with cross terms."""
    return Objective(lambda p: p[..., 0] ** 4 / 4 + p[..., 0] ** 2 * p[..., 1], dimension=2)


def small_network(activation: str = "tanh", hidden=(5, 4), seed: int = 0, **options):
    """A network on 12 random samples with 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 3
    return networks.fully_connected(inputs, labels, hidden=hidden, activation=activation, **options)


def on_the_kink(activation="relu", sample=3, column=7, seed=2):
    """Return a network and a θ at which one unit's input vanishes for one sample."""
    objective = small_network(activation)
    point = objective.initial(seed)
    layer, unit = gates.layer_and_unit(objective, column)
    weights = [weight.clone() for weight in objective.weights(point)]
    entering = objective.inputs[sample]
    for weight in weights[: layer - 1]:
        entering = objective.activation.apply(weight @ entering)
    row = weights[layer - 1][unit]
    row -= (row @ entering) / (entering @ entering) * entering
    return objective, torch.cat([weight.reshape(-1) for weight in weights])


def unit_input(objective, sample, column):
    """Return z_ij(θ) as an objective."""
    return Objective(
        lambda point: gates.unit_input(objective, point, sample, column),
        dimension=objective.dimension,
    )


def both_sides(kind):
    """Return a network, a gate whose kink is of that kind, and GD from either side of it."""
    for seed in range(20):
        for column in range(9):
            objective, point = on_the_kink(column=column, seed=seed)
            found = gates.kinks(objective, point)
            velocities = (
                float(side[3, column]) for side in (found.velocities_off, found.velocities_on)
            )
            if gates.kind_of_kink(*velocities) == kind and found.jumps[3, column] > 0.05:
                normal = unit_input(objective, 3, column).gradient(point)
                runs = [
                    gradient_descent(
                        objective, point + side * normal, step_size=1e-3, iterations=40
                    )
                    for side in (1e-6, -1e-6)
                ]
                return objective, column, float(found.jumps[3, column]), runs
    raise AssertionError(f"no kink {kind}")
