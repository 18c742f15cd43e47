"""Gradient flow (GF), gradient descent (GD), and the distance between them.

In reading order: an :class:`Objective` is a function of a flat parameter vector θ;
:func:`gradient_descent` and :func:`gradient_flow` turn it and a start into a
:class:`Trajectory`; :func:`extreme_eigenvalues` and :func:`spectrum_along` look at its
Hessian. ``bounds`` holds the theorems on their distance, ``leading_order`` predicts it, and
``certificates`` turns both into step sizes for deep linear networks (``linear``);
``curvature`` bounds λmin. ``gates`` and ``rounding`` tell what kinks and floating-point numbers do.
``modified`` and ``central`` hold the flows that model large steps.
``landscapes``, ``initial_value_problems``, ``networks`` and ``datasets`` provide what the book
studies, ``archive`` the results of long runs, ``figures`` the pictures.
"""

from gfgd.descent import gradient_descent
from gfgd.flow import gradient_flow, integrate
from gfgd.objective import Objective
from gfgd.spectrum import Spectrum, extreme_eigenvalues, spectrum_along
from gfgd.trajectory import Trajectory

__all__ = [
    "Objective",
    "Trajectory",
    "gradient_descent",
    "gradient_flow",
    "integrate",
    "Spectrum",
    "extreme_eigenvalues",
    "spectrum_along",
]
