"""Data in batches are the same objective as all of them in one."""

import gc
import math
from functools import partial

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gfgd import Objective, gradient_descent, gradient_flow
from gfgd.derivative_checks import kinked_operations
from gfgd.modules import converted

SIZES = (5, 1, 7, 4)


def network(*, outputs=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, outputs)
    ).double()


def samples(count=17):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 4, generator=generator).double()
    return inputs, torch.randint(3, (count,), generator=generator)


class Given(IterableDataset):
    """Batches as they are given, to a loader that does not batch."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def loader(*batches):
    return DataLoader(Given(batches), batch_size=None)


def unequal(*tensors, sizes=SIZES):
    return loader(*zip(*(one.split(list(sizes)) for one in tensors), strict=True))


def assert_as_in_one_batch(objective, whole):
    """Compare value and derivatives of two objectives, at the start and elsewhere."""
    generator = torch.Generator().manual_seed(2)
    u, v = torch.randn(2, whole.dimension, generator=generator).double()
    for point in (whole.start, whole.start + 0.1 * u):
        for method, vectors in (
            ("value", ()),
            ("gradient", ()),
            ("hessian_vector_product", (u,)),
            ("third_derivative", (u, v)),
        ):
            one = getattr(objective, method)(point, *vectors)
            other = getattr(whole, method)(point, *vectors)
            assert (one - other).norm() <= 1e-12 * other.norm(), method
        one, other = objective.hessian_at(point)(v), whole.hessian_at(point)(v)
        assert (one - other).norm() <= 1e-12 * other.norm()


@pytest.mark.parametrize(
    "loss",
    [
        functional.cross_entropy,
        torch.nn.CrossEntropyLoss(),
        partial(functional.cross_entropy, reduction="sum"),
        lambda outputs, labels: functional.cross_entropy(outputs, labels, reduction="sum") / 17,
        lambda outputs, labels: -outputs.log_softmax(-1)[range(len(labels)), labels].mean(),
    ],
)
def test_unequal_batches_are_all_data_in_one(loss):
    inputs, labels = samples()
    whole = Objective.from_module(network(), loss, inputs, labels)
    assert_as_in_one_batch(Objective.from_module(network(), loss, unequal(inputs, labels)), whole)


def test_a_data_set_a_loader_and_several_points(monkeypatch):
    monkeypatch.setattr("gfgd.batches.BATCH_SIZE", 7)
    inputs, labels = samples()
    data = TensorDataset(inputs.float(), labels)  # float32, for a module in float64
    inputs = inputs.float().double()
    whole = Objective.from_module(network(), functional.cross_entropy, inputs, labels)
    for given in (data, DataLoader(data, batch_size=6)):
        objective = Objective.from_module(network(), functional.cross_entropy, given)
        assert_as_in_one_batch(objective, whole)
        assert len(list(objective.terms)) == 3
        torch.testing.assert_close(objective.outputs(whole.start), whole.outputs(whole.start))
        points = torch.stack([whole.start, whole.start + 1])
        torch.testing.assert_close(objective.gradient(points), whole.gradient(points))


def test_loaders_with_workers():
    inputs, labels = samples()
    data = DataLoader(TensorDataset(inputs, labels), batch_size=6, num_workers=1)
    objective = Objective.from_module(network(), functional.cross_entropy, data, checked=False)
    whole = Objective.from_module(network(), functional.cross_entropy, inputs, labels)
    before = torch.get_rng_state()
    gradient = objective.gradient(whole.start)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(gradient, whole.gradient(whole.start), rtol=1e-12, atol=0)


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(4, 1).double()

    def forward(self, left, right):
        return (self.layer(left).sin() - right[:, :1]).square()


def test_inputs_as_tuple_or_dict_and_no_targets():
    inputs, _ = samples()
    left, right = inputs, inputs.cos()
    parts = list(zip(left.split(SIZES), right.split(SIZES), strict=True))
    whole = Objective.from_module(Two(), torch.mean, (left, right))
    as_tuples = [((one, other), None) for one, other in parts]
    as_dicts = [{"right": other, "left": one} for one, other in parts]
    as_lists = [([one, other],) for one, other in parts]  # as loaders collate tuples
    for batches in (as_tuples, as_dicts, as_lists):
        assert_as_in_one_batch(Objective.from_module(Two(), torch.mean, loader(*batches)), whole)

    class Pairs(Dataset):
        def __len__(self):
            return len(left)

        def __getitem__(self, index):
            return (left[index], right[index]), right[index, 0]

    def loss(outputs, targets):
        return (outputs[:, 0] - targets).square().mean()

    whole = Objective.from_module(Two(), loss, (left, right), right[:, 0])
    assert_as_in_one_batch(
        Objective.from_module(Two(), loss, DataLoader(Pairs(), batch_size=5)), whole
    )


def test_descent_and_flow_run_on_batches():
    inputs, labels = samples()
    runs = []
    for data in ((inputs, labels), (unequal(inputs, labels),)):
        objective = Objective.from_module(network(), functional.cross_entropy, *data)
        descent = gradient_descent(objective, objective.start, step_size=0.1, iterations=20)
        flow = gradient_flow(objective, objective.start, descent.times)
        runs.append((descent.points, flow.points))
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


class Kinked(torch.nn.Module):
    """A module that takes an absolute value where an input is large."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, inputs):
        outputs = self.inner(inputs)
        return outputs.abs() if inputs.max() > 10 else outputs


def test_kinks_are_looked_for_in_every_batch():
    inputs, labels = samples()
    for large, found in ((0.0, ()), (20.0, ("Abs",))):
        inputs[-1, 0] = large
        objective = Objective.from_module(
            Kinked(), functional.cross_entropy, unequal(inputs, labels)
        )
        assert kinked_operations(objective, objective.start) == found


class Watching(TorchDispatchMode):
    """Notes the most bytes of tensors made under it that are alive at the same time."""

    def __init__(self):
        super().__init__()
        self.made, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for one in tree_leaves(results):
            if isinstance(one, torch.Tensor):
                held = StorageWeakRef(one.untyped_storage())
                self.made[held.cdata] = held, one.untyped_storage().nbytes()
        self.made = {k: pair for k, pair in self.made.items() if not pair[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.made.values()))
        return results


def most_bytes(batches, measured):
    """Return the most bytes of tensors alive in a call, the batches' own among them."""

    class Fresh(IterableDataset):
        def __iter__(self):
            for inputs, labels in batches:
                yield inputs.clone(), labels.clone()

    objective = Objective.from_module(
        network(), functional.cross_entropy, DataLoader(Fresh(), batch_size=None)
    )
    v = torch.ones(objective.dimension).double()
    vectors = [v] * {"hessian_vector_product": 1, "third_derivative": 2}.get(measured, 0)
    getattr(objective, measured)(objective.start, *vectors)  # its derivatives are checked now
    with Watching() as watching:
        getattr(objective, measured)(objective.start, *vectors)
    return watching.most


@pytest.mark.parametrize(
    "measured", ["value", "gradient", "hessian_vector_product", "third_derivative"]
)
def test_memory_is_that_of_one_batch(measured):
    inputs, labels = samples(400)
    batches = [(inputs[:50], labels[:50])] * 8
    gc.disable()  # graphs must go without its help
    try:
        one = most_bytes(batches[:1], measured)
        two = most_bytes(batches[:2], measured)
        eight = most_bytes(batches, measured)
        whole = most_bytes([(inputs, labels)], measured)
    finally:
        gc.enable()
    sums = 8 * 2 * 51  # of the batches so far, which come after the first
    assert two == eight <= one + sums
    assert whole > 4 * one


class Augmented(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.randn(4).double(), index % 3


class Once(IterableDataset):
    def __init__(self, batches):
        self.reading = iter(batches)

    def __iter__(self):
        return self.reading


def test_loaders_that_change_between_passes_are_refused():
    inputs, labels = samples()
    data = TensorDataset(inputs, labels)
    pairs = list(zip(inputs.split(SIZES), labels.split(SIZES), strict=True))
    for given, complaint in (
        (DataLoader(data, batch_size=5, shuffle=True), "batch 0 changes .* shuffle=False"),
        (DataLoader(data, batch_size=17, shuffle=True), "batch 0 changes"),
        (DataLoader(Augmented(), batch_size=5), "batch 0 changes .* without random augmentation"),
        (DataLoader(Augmented(), batch_size=5, num_workers=1), "batch 0 changes"),
        (DataLoader(Once(pairs), batch_size=None), "yields 4 batches, a second 0"),
        (iter(DataLoader(data)), "inputs: is a .*Iter, which can be read only once"),
        ((pair for pair in pairs), "inputs: is a generator, which can be read only once"),
        (loader(), "yields no batch"),
        (TensorDataset(inputs[:0], labels[:0]), "no loader|yields no batch"),
        (loader((inputs[:0], labels[:0])), "batch 0 has no samples"),
        (
            loader((inputs, labels), (inputs.float(), labels)),
            "batch 1 is of torch.float32, torch.i",
        ),
        (loader((inputs, inputs, labels)), "3 parts, must yield pairs"),
        (loader(("text", "label")), "has no tensor with a row for each sample"),
    ):
        # A head of zeros: all samples have the same loss, and only the data show the change.
        module = network()
        torch.nn.init.zeros_(module[2].weight)
        torch.nn.init.zeros_(module[2].bias)
        with pytest.raises(ValueError, match=complaint):
            Objective.from_module(module, functional.cross_entropy, given)
    with pytest.raises(ValueError, match="targets: the batches"):
        Objective.from_module(network(), functional.cross_entropy, data, labels)


def test_batches_that_change_later_are_refused():
    inputs, labels = samples()
    batches = [(inputs[:9], labels[:9]), (inputs[9:], labels[9:])]
    objective = Objective.from_module(network(), functional.cross_entropy, loader_of(batches))
    for changed, complaint in (
        (batches[::-1], "batch 0 has 8 samples now, and had 9 before"),
        (batches[:1], "batch 1 has 0 samples now"),
        (batches + batches, "more than 2 batches now"),
    ):
        held = list(batches)
        batches[:] = changed
        with pytest.raises(ValueError, match=complaint):
            objective.gradient(objective.start)
        batches[:] = held
    assert objective.gradient(objective.start).isfinite().all()


def loader_of(batches):
    """Return a loader of a list that the test may change later."""
    return DataLoader(Given(batches), batch_size=None)


def test_losses_that_are_no_mean_and_no_sum_are_refused():
    inputs, labels = samples()
    batches = unequal(inputs, labels)
    by_class = unequal(*(one[labels.argsort()] for one in samples()), sizes=labels.bincount())
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    weighted = torch.nn.CrossEntropyLoss(weight=weight)
    ignoring = torch.nn.CrossEntropyLoss(ignore_index=int(labels[-1]))

    def of_pairs(outputs, labels):
        return (outputs[:, None] - outputs[None]).square().mean()

    def head_of_zeros():
        module = network()
        torch.nn.init.zeros_(module[2].weight)
        torch.nn.init.zeros_(module[2].bias)
        return module

    for loss, data in (
        (weighted, batches),
        (weighted, by_class),  # a mean within each batch
        (ignoring, batches),
        (of_pairs, batches),
        (lambda out, y: functional.cross_entropy(out, y, reduction="sum") + 1, batches),
    ):
        for module in (network(), head_of_zeros()):
            with pytest.raises(ValueError, match=r"neither the mean .*reduction='sum'"):
                Objective.from_module(module, loss, data)
    with pytest.raises(ValueError, match=r"returned shape \(5,\).*take 'mean' or 'sum'"):
        Objective.from_module(network(), torch.nn.CrossEntropyLoss(reduction="none"), batches)
    whole = Objective.from_module(network(), weighted, inputs, labels)
    total = weight[labels].sum()
    remedy = torch.nn.CrossEntropyLoss(weight=weight, reduction="sum")
    assert_as_in_one_batch(
        Objective.from_module(network(), lambda *pair: remedy(*pair) / total, batches), whole
    )


class WithLoss(torch.nn.Module):
    """A module that returns its loss itself, as language models do."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, inputs, labels):
        return {"loss": functional.cross_entropy(self.inner(inputs), labels)}


def test_a_reduction_that_cannot_be_seen_must_be_said():
    inputs, labels = samples()
    parts = zip(inputs.split(SIZES), labels.split(SIZES), strict=True)
    batches = loader(*({"inputs": one, "labels": other} for one, other in parts))

    def loss(outputs):
        return outputs["loss"]

    with pytest.raises(ValueError, match=r"cannot be told .* loss.reduction = 'mean' or 'sum'"):
        Objective.from_module(WithLoss(), loss, batches)
    loss.reduction = "mean"
    assert_as_in_one_batch(
        Objective.from_module(WithLoss(), loss, batches),
        Objective.from_module(network(), functional.cross_entropy, inputs, labels),
    )


def test_modules_that_mix_the_samples_of_a_batch_are_refused():
    inputs, labels = samples()
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(4), network()).double()
    for batches in (unequal(inputs, labels, sizes=(3, 14)), TensorDataset(inputs, labels)):
        with pytest.raises(
            ValueError, match=r"depends on the others of the batch.*module.eval\(\)"
        ):
            Objective.from_module(module.train(), functional.cross_entropy, batches)
        assert_as_in_one_batch(
            Objective.from_module(module.eval(), functional.cross_entropy, batches),
            Objective.from_module(module, functional.cross_entropy, inputs, labels),
        )


def test_parameters_of_two_dtypes_or_on_two_devices_are_refused():
    inputs, labels = samples()
    batches = unequal(inputs, labels)
    mixed = network()
    mixed[0].float()
    with pytest.raises(ValueError, match=r"torch.float32 and torch.float64.*module.double\(\)"):
        Objective.from_module(mixed, functional.cross_entropy, batches)
    apart = torch.nn.Sequential(network(), torch.nn.Linear(3, 3, device="meta"))
    with pytest.raises(ValueError, match="on cpu and meta; move it to one device"):
        Objective.from_module(apart, functional.cross_entropy, batches)


def test_what_fails_in_a_later_batch_is_told_ahead():
    inputs, labels = samples()
    with pytest.raises(ValueError, match=r"evaluating them failed.*shape \(7, 5\)"):
        Objective.from_module(
            network(),
            functional.cross_entropy,
            loader((inputs, labels), (torch.ones(7, 5).double(), labels[:7])),
        )


def test_the_random_state_is_left_alone():
    inputs, labels = samples()
    data = DataLoader(TensorDataset(inputs, labels), batch_size=5)
    before = torch.get_rng_state()
    objective = Objective.from_module(
        converted(network(), torch.float64), functional.cross_entropy, data
    )
    torch.set_rng_state(before)
    objective.gradient(objective.start)
    assert torch.equal(before, torch.get_rng_state())
    assert math.isfinite(objective.value(objective.start))
