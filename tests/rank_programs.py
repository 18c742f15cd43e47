"""What a rank of a test does: `python -m tests.rank_programs PROGRAM FOLDER`, see tests.ranks."""

import datetime
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from gfgd import gradient_descent, gradient_flow, spectrum_along
from gfgd.bounds.leading_order import leading_order_error
from gfgd.derivative_checks import kinked_operations
from gfgd.large_steps.modified import modified_objective
from gfgd.objective import Objective
from gfgd.sharding import ShardError, sharded

#: Of 12 samples: which a rank has. With three ranks the middle one has none.
SHARDS = {1: [range(12)], 2: [range(5), range(5, 12)], 3: [range(8), range(0), range(8, 12)]}


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.arange(12) % 3


def whole(activation="tanh", reduction="mean"):
    """The objective of all samples, in one process."""
    return of_samples(list(range(12)), activation, reduction)


def of_samples(places, activation="tanh", reduction="mean"):
    inputs, labels = data()
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh() if activation == "tanh" else nn.ReLU(), nn.Linear(5, 3)
    ).double()
    if len(places) == 0:
        return None
    loss = nn.CrossEntropyLoss(reduction=reduction)
    return Objective.from_module(module, loss, inputs[places], labels[places])


def shard(activation="tanh", reduction="mean"):
    places = list(SHARDS[dist.get_world_size()][dist.get_rank()])
    mine = of_samples(places, activation, reduction)
    return sharded(mine, samples=len(places), reduction=reduction)


def results(objective, summed, kinked):
    """Everything that is compared, on one objective with the mean of the losses, or their sum."""
    start = objective.start
    descent = gradient_descent(objective, start, step_size=0.1, iterations=50, record_every=10)
    flow = gradient_flow(objective, start, descent.times[:4])
    spectrum = spectrum_along(objective, descent.at(descent.times[[0, 5]]), dense_below=10)
    leading = leading_order_error(objective, start, descent.times[:3])
    torch.manual_seed(2)
    u, v = torch.randn(2, len(start), dtype=torch.float64)
    batch = torch.stack([start, start + 0.1 * u])
    found = {
        "start": start,
        "descent": descent.points,
        "losses": descent.losses,
        "flow": flow.points,
        "flow_error": flow.error,
        "flow_gradients": torch.tensor(flow.counts["gradients"]),
        "smallest": spectrum.smallest,
        "largest": spectrum.largest,
        "products": spectrum.products,
        "leading": leading.coefficient,
        "batch": objective.gradient(batch),
        "product": objective.hessian_vector_product(start, v),
        "product_at": objective.hessian_at(start)(v),
        "products_of_a_batch": objective.hessian_vector_product(start, torch.stack([u, v])),
        "third": objective.third_derivative(start, u, v),
        "hessian": objective.hessian(start),
        "term": modified_objective(objective, 0.1).gradient(start),
        "term_product": modified_objective(objective, 0.1).hessian_vector_product(start, v),
        "unchecked": objective.unchecked.gradient(start),
        "summed": summed.gradient(start),
        "summed_value": summed.value(start),
        "single": objective.gradient(start.float()),
    }
    assert flow.completed and flow.error_doubt is None
    assert kinked_operations(kinked, start) == ("Relu",)
    return {name: value.numpy() for name, value in found.items()}


def equal(folder):
    found = results(shard(), shard(reduction="sum"), shard("relu"))
    np.savez(folder / f"rank{dist.get_rank()}.npz", **found)


def refused(folder):
    """Each of these must fail on all ranks alike, and leave them able to go on."""
    rank, size = dist.get_rank(), dist.get_world_size()
    bowl = Objective(lambda p: p.square().sum(-1), dimension=3)
    other = Objective(lambda p: p.square().sum(-1), dimension=4)
    ones = torch.ones(3, dtype=torch.float64)

    def broken(point):
        if rank == 1:
            raise RuntimeError("out of order")
        return point.square().sum(-1)

    torch.manual_seed(rank)
    apart = nn.Linear(2, 1)
    halfway = Objective.from_module(
        apart, nn.functional.mse_loss, torch.ones(4, 2), torch.ones(4, 1)
    )
    second = WrongOnRankOne(rank)
    attempts = {
        "negative": lambda: sharded(bowl, samples=-rank),
        "text": lambda: sharded(bowl, samples="5"),
        "no objective": lambda: sharded(bowl if rank == 0 else None, samples=5),
        "no data": lambda: sharded(None, samples=0),
        "dimensions": lambda: sharded(bowl if rank == 0 else other, samples=5),
        "starts": lambda: sharded(halfway, samples=4),
        "reduction": lambda: sharded(bowl, samples=1, reduction="none"),
        "points": lambda: sharded(bowl, samples=1).gradient(ones * (1 + rank * 2**-52)),
        "calls": lambda: (
            sharded(bowl, samples=1).value(ones)
            if rank == 0
            else sharded(bowl, samples=1).gradient(ones)
        ),
        "raises": lambda: sharded(Objective(broken, dimension=3), samples=1).gradient(ones),
        "derivatives": lambda: sharded(second, samples=1).hessian_vector_product(ones, ones),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except (ValueError, RuntimeError, ShardError) as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    total = sharded(bowl, samples=1).value(ones)
    print(f"still here: {float(total):g} of {size}")


class WrongOnRankOne(Objective):
    """A bowl whose second derivatives are refused on rank 1."""

    def __init__(self, rank):
        super().__init__(lambda p: p.square().sum(-1), dimension=3)
        self.rank = rank

    def require_derivatives(self, order):
        if order > 1 and self.rank == 1:
            raise ValueError("wrong second derivatives")


def endless(folder):
    """Run until another rank is killed; slow enough for that to fall into the run."""
    objective = shard()

    def shown(iterations):
        for k in iterations:
            if k == 20:
                (folder / f"running{dist.get_rank()}").touch()
            time.sleep(0.001)
            yield k

    run = gradient_descent(
        objective,
        objective.start,
        step_size=0.1,
        iterations=10**6,
        record_every=10,
        progress=shown,
        checkpoint=folder / "run",
    )
    print(run.status)


def main(program, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=300))
    globals()[program](Path(folder))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
