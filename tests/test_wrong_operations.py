import math
import re
import warnings
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gfgd.objective import Objective
from gfgd.wrong_operations import WRONG_IN_TORCH_2_13
from tests.every_layer import Probe, cases

INPUTS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TOKENS = torch.tensor([[0, 1, 2], [1, 1, 3]])


class Wrong(torch.autograd.Function):
    """x³ with a gradient that is a tenth too large."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * 3.3 * x**2


class Around(nn.Module):
    """A function of a linear layer and its input."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.function = function

    def forward(self, x):
        return self.function(self.layer, x)


class Rectangle(nn.Module):
    """A layer with a function of its own."""

    def forward(self, x):
        return Wrong.apply(x)


def without_gradient(layer, x):
    with torch.no_grad():
        scale = layer(x)
    return layer(x) * scale


def attention(layer, x):
    masked = (layer(x) @ x.T).masked_fill(torch.arange(5)[:, None] == 2, -math.inf)
    return masked.softmax(-1).nan_to_num() @ layer(x)


def complaint(module, inputs=INPUTS):
    """Return what is said about a module, with random weights from one seed."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    try:
        objective = Objective.from_module(
            module.double(), lambda out: out.tanh().square().mean(), inputs
        )
    except ValueError as refused:
        return str(refused)
    return objective.wrong_derivatives(3)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)),
            "third .* layer_norm in layer '1' .LayerN",
        ),
        (Around(lambda layer, x: nn.functional.layer_norm(layer(x), (6,))), "third .*: layer_norm"),
        (nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), r"third .* module.eval\(\)"),
        (nn.Sequential(nn.Linear(6, 6), nn.Hardsigmoid()), r"no second .*hardsigmoid .*\.clamp\("),
        (Around(lambda layer, x: torch.cdist(layer(x), x)), "no second .*cdist .* compute_mode="),
        (parametrizations.weight_norm(nn.Linear(6, 6)), r"second .*_weight_norm .* v\.norm\(\)"),
        (parametrizations.spectral_norm(nn.Linear(6, 6)), r"first .*_SpectralNorm.*eval\(\)"),
        (Around(lambda layer, x: layer(x) * layer(x).detach()), "first .*: detach has"),
        (Around(without_gradient), r"first .* linear in layer 'layer' .*no_grad"),
        (nn.Sequential(nn.Linear(6, 6), Rectangle()), "first .*layer '1' .Rectangle. .*Function"),
        (Around(attention), "second derivatives that are not finite: softmax returns NaN"),
    ],
)
def test_the_operation_its_layer_and_a_remedy_are_named(module, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert re.search(said, complaint(module) or "")


@pytest.mark.parametrize(
    "options", [{"padding_idx": 0}, {"scale_grad_by_freq": True}, {"sparse": True}]
)
def test_embeddings_with_another_gradient_are_not_blamed_on_detach(options):
    module = nn.Sequential(nn.Embedding(5, 3, **options), nn.Flatten(), nn.Linear(9, 2))
    said = complaint(module, TOKENS) or ""
    assert "embedding in layer '0' (Embedding)" in said
    assert "without padding_idx, scale_grad_by_freq" in said
    assert "detach" not in said
    plain = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(9, 2))
    assert complaint(plain, TOKENS) is None


@pytest.mark.parametrize("way", ["matrix_exp", "cayley", "householder"])
def test_orthogonal_weights(way):
    """Householder's diagonal is ±1 and rounded towards 0: the loss jumps at the very start."""
    torch.manual_seed(0)
    module = parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map=way).double()
    loss = lambda out: out.tanh().square().mean()  # noqa: E731
    if way == "householder":
        with pytest.raises(ValueError, match=r"jump at the start: .*_Orthogonal.*'matrix_exp'"):
            Objective.from_module(module, loss, INPUTS)
    else:
        assert Objective.from_module(module, loss, INPUTS).wrong_derivatives(3) is None


def test_the_remedies_are_right():
    """What is written out has the same values, and right derivatives up to the third."""

    def normal(x, dims, eps=1e-5):
        centred = x - x.mean(dims, keepdim=True)
        return centred / (x.var(dims, unbiased=False, keepdim=True) + eps).sqrt()

    def weight_norm(layer, x):
        v = layer.weight
        return x @ (3 * v / v.norm(dim=1, keepdim=True)).T

    pairs = [
        (lambda x: normal(x, -1), nn.LayerNorm(6).double()),
        (lambda x: normal(x, 0), nn.BatchNorm1d(6).double()),
        (lambda x: (x / 6 + 0.5).clamp(0, 1), nn.Hardsigmoid()),
        (
            lambda x: torch.cdist(x, INPUTS, compute_mode="use_mm_for_euclid_dist"),
            lambda x: torch.cdist(x, INPUTS),
        ),
    ]
    for written, layer in pairs:
        torch.testing.assert_close(written(INPUTS + 0.1), layer(INPUTS + 0.1))
        assert complaint(Around(lambda own, x, written=written: written(own(x)))) is None
    assert complaint(Around(weight_norm)) is None
    assert complaint(parametrizations.spectral_norm(nn.Linear(6, 6)).eval()) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_class_of_torch_nn_passes_or_is_named():
    """Each passes all three orders, or is refused for chance, or what is wrong is named."""
    wrong, random = {}, set()
    for name, case in cases().items():
        torch.manual_seed(0)
        layer = case.make().double()
        if name.startswith("Lazy"):
            layer(*case.inputs)
        try:
            objective = Objective.from_module(
                Probe(layer, case.inputs), lambda out: out, torch.zeros(1).double()
            )
            said = objective.wrong_derivatives(3)
        except ValueError as refused:
            said = str(refused)
        if said and "draws random numbers" in said:
            random.add(name)
        elif said:
            order = next(k for k in (1, 2, 3) if ["first", "second", "third"][k - 1] in said)
            assert f"({type(layer).__name__})" in said or "(LayerNorm)" in said, said
            wrong[name.removeprefix("Lazy")] = order
    assert random == {
        *("AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"),
        *("FractionalMaxPool2d", "FractionalMaxPool3d", "RReLU"),
    }
    if torch.__version__.startswith("2.13."):
        known = {name: k for k, names in WRONG_IN_TORCH_2_13.items() for name in names}
        contain = {name: 3 for name in wrong if name.startswith("Transformer")}
        del known["weight_norm"], known["spectral_norm"]  # tried above
        assert wrong == known | contain
        assert len(contain) == 5


def test_gradcheck_agrees_where_it_looks():
    """PyTorch's own check of first derivatives, on the one class whose gradient is wrong."""
    moved = INPUTS[:2, :4].reshape(2, 4, 1, 1).clone().requires_grad_()
    for layer in (nn.LocalResponseNorm(3), nn.CrossMapLRN2d(3, alpha=1.0)):
        right = torch.autograd.gradcheck(layer, moved, raise_exception=False)
        named = type(layer).__name__ in chain(*WRONG_IN_TORCH_2_13.values())
        assert right is not named
