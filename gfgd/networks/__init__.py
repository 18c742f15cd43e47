"""Neural networks as objectives on a flat parameter vector.

The networks of the book are made by :func:`fully_connected` and :func:`convolutional`;
:mod:`gfgd.networks.linear` holds deep linear networks, with what is known of their flow, and
:mod:`gfgd.networks.convolution` the fast path of convolutions.
"""

from gfgd.networks.convolutional_networks import (
    VARIANTS,
    Convolution,
    Convolutional,
    Variant,
    convolutional,
)
from gfgd.networks.fully_connected_networks import FullyConnected, fully_connected
from gfgd.networks.network import (
    ACTIVATIONS,
    LOSSES,
    Activation,
    Network,
    cross_entropy,
    end_to_end,
    half_squared_error,
)

__all__ = [
    "fully_connected",
    "convolutional",
    "FullyConnected",
    "Convolutional",
    "Network",
    "Activation",
    "ACTIVATIONS",
    "LOSSES",
    "cross_entropy",
    "half_squared_error",
    "end_to_end",
    "Convolution",
    "Variant",
    "VARIANTS",
]
