"""Small linear networks on the digits, and their flow to 1e-12."""

from functools import cache

import torch

from gfgd import gradient_descent, gradient_flow, networks
from gfgd.problems import datasets
from gfgd.verified import enclose

#: hidden widths, loss, step size
SMALL = [
    ((6,), "cross_entropy", 0.01),
    ((6, 5), "cross_entropy", 0.01),
    ((6, 5), "half_squared_error", 0.001),
    ((5, 6, 7), "cross_entropy", 0.01),
    ((5, 6, 7), "half_squared_error", 0.0002),
]


@cache
def digits_network(hidden=(6, 5), loss="cross_entropy", activation="linear", samples=120):
    images, labels = datasets.digits()
    targets = labels[:samples]
    if loss == "half_squared_error":
        targets = torch.nn.functional.one_hot(targets, 10).double()
    return networks.fully_connected(
        images[:samples].double(), targets, hidden=hidden, activation=activation, loss=loss
    )


@cache
def truth(hidden, loss, step_size, iterations=60, seed=1):
    """Return GD's iterates in float64, and the flow at the same times, to about 1e-12."""
    objective = digits_network(hidden, loss)
    start = objective.initial(seed)
    run = gradient_descent(objective, start, step_size=step_size, iterations=iterations)
    flow = gradient_flow(
        objective, start, run.times, method="dopri8", rtol=1e-12, atol=1e-14, estimate_error=False
    )
    return run.points, flow.points


@cache
def enclosed(hidden, loss, step_size, iterations=60, seed=1):
    objective = digits_network(hidden, loss)
    return enclose(
        objective,
        objective.initial(seed),
        step_size=step_size,
        iterations=iterations,
        keep=range(iterations + 1),
    )
