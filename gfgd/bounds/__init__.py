"""How far gradient descent can be from gradient flow: one function a theorem.

The bounds themselves are named here. :mod:`~gfgd.bounds.leading_order` predicts the distance,
:mod:`~gfgd.bounds.chain` measures what leads from it to the talk's bound,
:mod:`~gfgd.bounds.curvature` bounds λmin of networks, :mod:`~gfgd.bounds.certificates` turns both
into step sizes for deep linear networks, and :mod:`~gfgd.bounds.convergence` needs only the start.
"""

from gfgd.bounds.distance import (
    convexity_bound,
    euler_bound,
    fundamental_bound,
    guaranteed_step_size,
    mean_of_ends,
    signed_bound,
    signed_coefficient,
    signed_step_size,
    tube_step_size,
)

__all__ = [
    "fundamental_bound",
    "mean_of_ends",
    "euler_bound",
    "signed_bound",
    "signed_coefficient",
    "signed_step_size",
    "convexity_bound",
    "guaranteed_step_size",
    "tube_step_size",
]
