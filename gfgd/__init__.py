"""Gradient flow (GF), gradient descent (GD), and the distance between them.

In reading order: an :class:`Objective` is a function of a flat parameter vector θ;
:func:`gradient_descent` and :func:`gradient_flow` turn it and a start into a
:class:`Trajectory`; :func:`extreme_eigenvalues` and :func:`spectrum_along` look at its
Hessian. ``networks`` and ``datasets`` provide the objectives of the book's experiments,
``figures`` its pictures.
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
