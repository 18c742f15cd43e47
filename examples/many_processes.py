"""Gradient descent and gradient flow with the data spread over processes.

    torchrun --nproc-per-node 2 examples/many_processes.py

Copy it, and put your network, data and loss in place of these. Every process runs this program on
its own part of the data; all of them hold the same point θ.
"""

from datetime import timedelta

import torch
from torch import distributed, nn

from gfgd import Objective, extreme_eigenvalues, gradient_descent, gradient_flow
from gfgd.sharding import sharded


def make_network() -> nn.Module:
    """Return a network in float64."""
    torch.manual_seed(0)  # the same weights in every process
    return nn.Sequential(nn.Linear(10, 30), nn.Tanh(), nn.Linear(30, 1)).double()


def make_data(rank: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this process's samples; they may differ in number from process to process."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(1001, 10, generator=generator, dtype=torch.float64)
    targets = (inputs[:, :1] * inputs[:, 1:2]).tanh()
    return inputs[rank::size], targets[rank::size]


def main() -> None:
    """Compare descent with the flow, and print what was found."""
    torch.set_num_threads(1)  # the same in every process
    # A process that hangs ends the others after the timeout, one that dies at once. On GPUs:
    # "nccl", torch.cuda.set_device(int(os.environ["LOCAL_RANK"])), and module and data there.
    distributed.init_process_group("gloo", timeout=timedelta(minutes=5))
    inputs, targets = make_data(distributed.get_rank(), distributed.get_world_size())
    mine = None  # of a process without data
    if len(inputs):
        mine = Objective.from_module(make_network(), nn.functional.mse_loss, inputs, targets)
    objective = sharded(mine, samples=len(inputs))

    start = objective.start
    # A long run goes on where it was with checkpoint=FOLDER, in which all processes can write.
    descent = gradient_descent(objective, start, step_size=0.05, iterations=200, record_every=20)
    flow = gradient_flow(objective, start, descent.times)
    spectrum = extreme_eigenvalues(objective, flow.points[-1])
    if objective.leads:  # only one process prints and writes files
        print(f"distance {descent.distance_to(flow)[-1]:.6e} at t = {descent.times[-1]:g}")
        print(f"loss {descent.losses[-1]:.6e}, sharpness {spectrum.largest[0]:.6e}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
