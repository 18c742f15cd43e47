"""Proofs by computer: bounds in which every error is enclosed, rounding included.

:func:`enclose` takes a network that is linear or has a smooth activation, its data, a start, a step
size and a number of iterations, and returns for every k an interval that is proved to contain
‖θ_k − θ(kη)‖. With ReLU or leaky ReLU it does so up to the first switch of a gate along the flow,
whose time it encloses.
:func:`residual_curvature` bounds λmin of a linear network from the residual alone, verified or
plain. What is taken for granted stands in :data:`TRUSTED`.

In reading order: :mod:`~gfgd.verified.directed` rounds bounds up,
:mod:`~gfgd.verified.taylor_models` computes with polynomials that carry an error,
:mod:`~gfgd.verified.losses` and :mod:`~gfgd.verified.linear_network` enclose the gradient,
:mod:`~gfgd.verified.residual_curvature` bounds λmin, :mod:`~gfgd.verified.flow_tube` encloses
gradient flow, :mod:`~gfgd.verified.descent_radius` gradient descent,
:mod:`~gfgd.verified.switches` when a ReLU network's first gate switches, and
:mod:`~gfgd.verified.enclosure` compares the two. Balanced deep linear networks with one output
need three coordinates only: :mod:`~gfgd.verified.balanced` has GD and GF on them in ball
arithmetic, :mod:`~gfgd.verified.balanced_certificates` step sizes that are proved to suffice.
"""

from gfgd.verified.directed import NotVerifiedError
from gfgd.verified.enclosure import TRUSTED, Enclosure, enclose
from gfgd.verified.flow_tube import Settings
from gfgd.verified.residual_curvature import ConvexLoss, residual_curvature
from gfgd.verified.switches import Gate, Switch

__all__ = [
    "enclose",
    "Enclosure",
    "Settings",
    "Switch",
    "Gate",
    "TRUSTED",
    "residual_curvature",
    "ConvexLoss",
    "NotVerifiedError",
]
