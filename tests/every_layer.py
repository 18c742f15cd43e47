"""Every class of ``torch.nn``, built with as few arguments as it takes, and what to feed it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: No layers, or not for one process: not tried.
NOT_TRIED = {
    *("Container", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"),
    *("DataParallel", "RNNBase", "RNNCellBase", "Sequential"),
}


@dataclass(frozen=True)
class Case:
    """How to build a layer, and its inputs: floating-point ones become parameters."""

    make: Callable[[], nn.Module]
    inputs: tuple[Any, ...]


class Probe(nn.Module):
    """A layer as a function of its parameters and of its inputs."""

    def __init__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.layer = layer
        self.fixed = [
            None if isinstance(one, Tensor) and one.is_floating_point() else one for one in inputs
        ]
        self.moving = nn.ParameterList(
            nn.Parameter(one)
            for one, fixed in zip(inputs, self.fixed, strict=True)
            if fixed is None
        )

    def forward(self, _: Tensor) -> Tensor:
        """Return one number from all that the layer returns."""
        moving = iter(self.moving)
        outputs = self.layer(*(next(moving) if one is None else one for one in self.fixed))
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        parts = [p for part in parts for p in (part if isinstance(part, tuple) else (part,))]
        return torch.stack([torch.sin(part + 0.5).sum() for part in parts]).sum()


def cases() -> dict[str, Case]:
    """Return a case for every class of torch.nn that is tried, by name."""
    classes = {
        name: one
        for name, one in vars(nn).items()
        if inspect.isclass(one) and issubclass(one, nn.Module) and name not in NOT_TRIED
    }
    return {name: _case(name, one) for name, one in sorted(classes.items())}


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _case(name: str, kind: type[nn.Module]) -> Case:
    spatial = re.search(r"([123])d$", name)
    if name == "CTCLoss":
        return Case(LogProbabilities, (_numbers(5, 2, 4),))
    if name in _SPECIAL:
        arguments, inputs = _SPECIAL[name]
    elif name.endswith("Loss") or name == "NLLLoss2d":
        arguments, inputs = (), _LOSSES.get(name, (_numbers(4, 3), _numbers(4, 3).roll(1, 0)))
    elif spatial and name.startswith(tuple(_SPATIAL)):
        dimensions = int(spatial[1])
        arguments = next(a for start, a in _SPATIAL.items() if name.startswith(start))
        inputs = (_numbers(2, 4, *[6] * dimensions),)
    elif not [p for p in _parameters(kind) if p.default is p.empty]:
        arguments, inputs = (), (_numbers(3, 4, 6, 6) if "2d" in name else _numbers(3, 6),)
    else:
        raise AssertionError(f"torch.nn.{name} is new: say what to build it with")
    return Case(lambda: kind(*arguments), inputs)


class LogProbabilities(nn.CTCLoss):
    """The loss of scores: its gradient takes for granted that it is given log-probabilities."""

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of two sequences."""
        targets, lengths = torch.tensor([[1, 2], [3, 1]]), torch.tensor([[5, 5], [2, 2]])
        return super().forward(scores.log_softmax(-1), targets, lengths[0], lengths[1])


def _parameters(kind: type[nn.Module]) -> list[inspect.Parameter]:
    found = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


#: Arguments of layers for signals, images and volumes of 4 channels, by how their names begin.
_SPATIAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "MaxPool"), (2,)),
    **dict.fromkeys(("BatchNorm", "InstanceNorm"), (4,)),
    **dict.fromkeys(("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad"), (1,)),
    "ConstantPad": (1, 0.5),
    **dict.fromkeys(("Conv", "ConvTranspose"), (4, 3, 3)),
    "FractionalMaxPool": (2, 3),
    "LPPool": (2, 2),
    **dict.fromkeys(("LazyConv", "LazyConvTranspose"), (3, 3)),
    **dict.fromkeys(("LazyBatchNorm", "LazyInstanceNorm"), ()),
    **dict.fromkeys(("Dropout", "FeatureAlphaDropout", "Upsampling"), ()),
}
_LABELS = torch.tensor([0, 2, 1, 1])
_SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0]).long()
_TOKENS = torch.tensor([[0, 3, 1], [4, 4, 2]])
_SEQUENCE = (_numbers(2, 3, 6),)
_UNPOOLED = [
    torch.arange(0, 6**n, 2**n)[: 3**n].reshape(1, 1, *[3] * n).repeat(2, 4, *[1] * n)
    for n in (1, 2, 3)
]
_LOSSES: dict[str, tuple[Any, ...]] = {
    "BCELoss": (_numbers(4, 3).sigmoid(), _numbers(4, 3).roll(1, 0).sigmoid()),
    "CosineEmbeddingLoss": (_numbers(4, 3), _numbers(4, 3).roll(1, 0), _SIGNS),
    "CrossEntropyLoss": (_numbers(4, 3), _LABELS),
    "GaussianNLLLoss": (_numbers(4, 3), _numbers(4, 3).roll(1, 0), _numbers(4, 3).exp()),
    "KLDivLoss": (_numbers(4, 3).log_softmax(-1), _numbers(4, 3).roll(1, 0).softmax(-1)),
    "HingeEmbeddingLoss": (_numbers(4), _SIGNS),
    "MarginRankingLoss": (_numbers(4), _numbers(4).roll(1, 0), _SIGNS),
    "MultiLabelMarginLoss": (_numbers(4, 3), torch.tensor([[0, -1, 1], [1, 2, -1]]).repeat(2, 1)),
    "MultiLabelSoftMarginLoss": (_numbers(4, 3), torch.eye(4, 3).long()),
    "MultiMarginLoss": (_numbers(4, 3), _LABELS),
    "NLLLoss": (_numbers(4, 3), _LABELS),
    "NLLLoss2d": (_numbers(4, 3, 1, 1), _LABELS.reshape(4, 1, 1)),
    "SoftMarginLoss": (_numbers(4), _SIGNS),
    "TripletMarginLoss": (_numbers(4, 3), _numbers(4, 3).roll(1, 0), _numbers(4, 3).roll(2, 0)),
}
_LOSSES["TripletMarginWithDistanceLoss"] = _LOSSES["TripletMarginLoss"]
_SPECIAL: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "AdaptiveLogSoftmaxWithLoss": ((6, 5, [2]), (_numbers(4, 6), torch.tensor([0, 4, 2, 1]))),
    "Bilinear": ((6, 5, 3), (_numbers(4, 6), _numbers(4, 5))),
    "ChannelShuffle": ((2,), (_numbers(2, 4, 3, 3),)),
    "CosineSimilarity": ((), (_numbers(4, 3), _numbers(4, 3).roll(1, 0))),
    "CrossMapLRN2d": ((3,), (_numbers(2, 4, 3, 3),)),
    "Embedding": ((5, 3), (_TOKENS,)),
    "EmbeddingBag": ((5, 3), (_TOKENS,)),
    "Fold": (((4, 4), 2), (_numbers(2, 8, 9),)),
    "GRU": ((6, 3), _SEQUENCE),
    "GRUCell": ((6, 3), (_numbers(4, 6),)),
    "GroupNorm": ((2, 4), (_numbers(3, 4, 5),)),
    "LSTM": ((6, 3), _SEQUENCE),
    "LSTMCell": ((6, 3), (_numbers(4, 6),)),
    "LayerNorm": ((6,), (_numbers(3, 6),)),
    "LazyLinear": ((3,), (_numbers(4, 6),)),
    "Linear": ((6, 3), (_numbers(4, 6),)),
    "LinearCrossEntropyLoss": ((6, 3), (_numbers(4, 6), _LABELS)),
    "LocalResponseNorm": ((2,), (_numbers(2, 4, 3, 3),)),
    **{f"MaxUnpool{n}d": ((2,), (_numbers(2, 4, *[3] * n), _UNPOOLED[n - 1])) for n in (1, 2, 3)},
    "MultiheadAttention": ((6, 2), _SEQUENCE * 3),
    "PairwiseDistance": ((), (_numbers(4, 3), _numbers(4, 3).roll(1, 0))),
    "PixelShuffle": ((2,), (_numbers(2, 4, 3, 3),)),
    "PixelUnshuffle": ((2,), (_numbers(2, 2, 4, 4),)),
    "RMSNorm": ((6,), (_numbers(3, 6),)),
    "RNN": ((6, 3), _SEQUENCE),
    "RNNCell": ((6, 3), (_numbers(4, 6),)),
    "SyncBatchNorm": ((6,), (_numbers(4, 6),)),
    **{name: ((1,), (_numbers(3, 6),)) for name in ("LogSoftmax", "Softmax", "Softmin")},
    "Threshold": ((0.1, 0.0), (_numbers(3, 6),)),
    "Transformer": ((6, 2, 1, 1, 8, 0.0), _SEQUENCE * 2),
    "TransformerDecoder": ((nn.TransformerDecoderLayer(6, 2, 8, 0.0), 1), _SEQUENCE * 2),
    "TransformerDecoderLayer": ((6, 2, 8, 0.0), _SEQUENCE * 2),
    "TransformerEncoder": ((nn.TransformerEncoderLayer(6, 2, 8, 0.0), 1), _SEQUENCE),
    "TransformerEncoderLayer": ((6, 2, 8, 0.0), _SEQUENCE),
    "Unflatten": ((1, (2, 3)), (_numbers(4, 6),)),
    "Unfold": ((2,), (_numbers(2, 4, 3, 3),)),
    "Upsample": ((None, 2), (_numbers(2, 4, 3, 3),)),
    "UpsamplingBilinear2d": ((None, 2), (_numbers(2, 4, 3, 3),)),
    "UpsamplingNearest2d": ((None, 2), (_numbers(2, 4, 3, 3),)),
}
