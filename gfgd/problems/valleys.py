"""Valleys that sharpen: one with a matrix for its curvature, and what pairs of runs conserve."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfgd.objective import Objective


def matrix_valley(drift: Tensor) -> Objective:
    """Return f(x, Y) = ½⟨x, Yx⟩ − ⟨C, Y⟩ for x in R² and a symmetric 2 × 2 matrix Y.

    On the floor x = 0 gradient flow has Y' = C: the eigenvalues of Y, which are the curvatures
    there, grow. The parameters are those of :func:`valley_point`.

    Parameters
    ----------
    drift
        C, symmetric, shape ``(2, 2)``.

    Raises
    ------
    ValueError
        For another shape, or a matrix that is not symmetric.
    """
    _symmetric("drift", drift)

    def value(point: Tensor) -> Tensor:
        x1, x2, y11, scaled, y22 = point.unbind(-1)
        y12 = scaled / math.sqrt(2)
        curved = 0.5 * (y11 * x1**2 + 2 * y12 * x1 * x2 + y22 * x2**2)
        return curved - drift[0, 0] * y11 - 2 * drift[0, 1] * y12 - drift[1, 1] * y22

    return Objective(value, dimension=5)


def valley_point(x: Tensor, matrix: Tensor) -> Tensor:
    """Return θ = (x₁, x₂, Y₁₁, √2 Y₁₂, Y₂₂), so that ‖θ‖² = ‖x‖² + ‖Y‖_F².

    Parameters
    ----------
    x, matrix
        x of shape ``(2,)`` and Y, symmetric, of shape ``(2, 2)``.

    Raises
    ------
    ValueError
        For other shapes, or a matrix that is not symmetric.
    """
    _symmetric("matrix", matrix)
    if x.shape != (2,):
        raise ValueError(f"x has shape {tuple(x.shape)}: give (2,)")
    mixed = math.sqrt(2) * matrix[0, 1]
    return torch.stack([x[0], x[1], matrix[0, 0], mixed, matrix[1, 1]])


def pair_energy(x: Tensor, height: Tensor, drift: float) -> Tensor:
    """Return E = ½w² + ¼x² − c log|x|, constant along the pair flow of order 1 in the valley.

    The valley is ½yx² − cy (:func:`gfgd.problems.landscapes.sharpening_valley`), the pair has the
    half-difference (x, 0) and the centre (0, y), and w = y − 2/η. E is least, with c = `drift`, at
    the rest points x = ±√(2c), w = 0.

    Parameters
    ----------
    x, height
        x ≠ 0 and w, shape ``(...)``.
    drift
        c > 0.
    """
    return height.square() / 2 + x.square() / 4 - drift * x.abs().log()


def _symmetric(name: str, matrix: Tensor) -> None:
    if matrix.shape != (2, 2) or not torch.allclose(matrix, matrix.T):
        raise ValueError(f"{name} = {matrix}: must be a symmetric matrix of shape (2, 2)")
