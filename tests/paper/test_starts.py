import numpy as np
import pytest
import torch

from gfgd import networks
from gfgd.paper import starts
from gfgd.paper.long_runs import ARCHITECTURES
from gfgd.paper.starts import CudaGenerator, authors_start, philox
from gfgd.problems import datasets


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that the authors of Philox publish with Random123
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = philox(np.array([counter, counter], dtype=np.uint32), key)
    assert words.dtype == np.uint32
    assert words.tolist() == [expected, expected]


def test_draws_are_those_of_a_gpu():
    # torch.manual_seed(0); torch.rand(10, device="cuda")
    expected = [0.3990, 0.5167, 0.0249, 0.9401, 0.9459, 0.7967, 0.4150, 0.8203, 0.2290, 0.9096]
    stream = CudaGenerator(0)
    assert stream.uniform((10,)).tolist() == pytest.approx(expected, abs=5e-5)
    assert stream.offset == 4


def test_long_draws_take_several_rounds():
    count = 256 * 80 * 4 + 5
    stream = CudaGenerator(7, offset=8)
    long = stream.uniform((count,), -2.0, 2.0)
    assert stream.offset == 8 + 2 * 4
    assert long.dtype == torch.float32 and float(long.min()) >= -2 and float(long.max()) < 2
    assert float(long.mean()) == pytest.approx(0, abs=0.02)
    assert float(long.var()) == pytest.approx(16 / 12, rel=0.02)
    second = CudaGenerator(7, offset=12).uniform((count,), -2.0, 2.0)  # begins with round two
    assert torch.equal(long[-5:], second[:5])


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_a_start_has_its_network_layout(network):
    architecture = ARCHITECTURES[network]
    images = torch.rand(4, 28 * 28, generator=torch.Generator().manual_seed(0))
    objective = architecture.make(images, torch.tensor([0, 1, 9, 3]), **architecture.arguments)
    point = authors_start(network)
    assert point.dtype == torch.float32 and point.shape == (objective.dimension,)
    ours = objective.initial(1)
    begin = 0
    for shape in objective.shapes:  # each layer is as wide as a draw of PyTorch's own
        end = begin + int(np.prod(shape))
        if len(shape) > 1:
            ratio = point[begin:end].std() / ours[begin:end].std()
            assert float(ratio) == pytest.approx(1, abs=0.2)
        begin = end
    assert torch.equal(starts.initial(objective, network, "paper"), point.double())
    assert torch.equal(starts.initial(objective, network, "3"), objective.initial(3))


@pytest.mark.parametrize(
    ("network", "published"),
    [
        ("fully_connected_linear", 3.431315),
        ("fully_connected_relu", 2.662731),
        ("convolutional_adapted", 2.304062),
        ("convolutional_off_the_shelf", 2.325473),
    ],
)
def test_initial_losses_are_the_published_ones(network, published):
    try:
        images, labels = datasets.load("mnist_subset")
    except datasets.DatasetError:
        pytest.skip("MNIST is not here")
    architecture = ARCHITECTURES[network]
    objective = architecture.make(images, labels, **architecture.arguments)
    loss = float(objective.value(authors_start(network).double()))
    assert loss == pytest.approx(published, abs=1e-6)


def test_unusable_starts_are_told():
    with pytest.raises(ValueError, match="network = 'fully_conected_relu'"):
        authors_start("fully_conected_relu")
    small = networks.fully_connected(torch.rand(3, 5), torch.tensor([0, 1, 2]), hidden=(4,))
    with pytest.raises(ValueError, match="42200 parameters, this one 32; give a seed"):
        starts.initial(small, "fully_connected_relu", "paper")
    assert starts.fitting("paper", small, "fully_connected_relu") == "1"
    assert starts.fitting("7", small, "fully_connected_relu") == "7"
    begin = starts.initial_or_seed(small, "fully_connected_relu", "paper")
    assert torch.equal(begin, small.initial(1))
    starts.check(start="paper")
    for start in ("papers", "-1", "1.5"):
        with pytest.raises(ValueError, match="give 'paper' or a seed"):
            starts.check(start=start)
        with pytest.raises(ValueError, match="give 'paper' or a seed"):
            starts.initial(small, "fully_connected_relu", start)
    assert starts.described("paper") == "the paper's start"
    assert starts.described("12") == "seed 12"
