"""Velocity at positions: quintic B-splines, of sixth order, on a periodic grid of twice the resolution.

The coefficients c of the spline sum_j c_j B(x / h - j) follow from Fourier coefficients u_hat, without a solve:
c_hat_m = u_hat_m / b(2 pi m / n) per axis, b(t) = (66 + 52 cos t + 2 cos 2t) / 120. The spline equals the trigonometric
interpolant at the points of the finer grid. Between them a wave of wavenumber k has a relative error of about
2 (k h / 2 pi)^6, h being the finer spacing: 3e-5 for the shortest wave that the 2/3 rule keeps. Source: Unser, IEEE
Signal Process. Mag. 16 (1999) 22.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grid import Grid
from ...spectral import Operators
from ..base import Equation

Array = Any
ORDER = 6
REFINEMENT = 2  # of the grid of the coefficients, per axis
WEIGHTS = (  # of the points -2 ... 3 about the position, times 120, in powers of the distance to point 0
    (1, -5, 10, -10, 5, -1),
    (26, -50, 20, 20, -20, 5),
    (66, 0, -60, 0, 30, -10),
    (26, 50, 20, -20, -20, 10),
    (1, 5, 10, 10, 5, -5),
    (0, 0, 0, 0, 0, 1),
)


def finer(grid: Grid) -> Grid:
    """The grid of the coefficients."""
    return grid.refined(tuple(REFINEMENT * n for n in grid.shape))


def points_of(flow: Equation, grid: Grid) -> tuple[float, float]:
    """The place of the first point of the coefficients, in array order: the first point or cell centre of the grid."""
    shift = 0.0 if flow.spectral else 0.5
    y, x = (start + shift * h for start, h in zip(grid.origin, grid.spacing, strict=True))
    return y, x


def inverse_symbol(grid: Grid) -> NDArray[np.float64]:
    """1 / b of each mode of `finer(grid)`, broadcastable to its spectral shape."""
    product: Any = 1.0
    fine = finer(grid)
    for m, n in zip(fine.integer_wavenumbers(), fine.shape, strict=True):
        angle = 2 * math.pi * m / n
        product = product * 120 / (66 + 52 * np.cos(angle) + 2 * np.cos(2 * angle))
    return product


def padded(spectrum: Array, grid: Grid, xp: Any) -> Array:
    """Fourier coefficients (..., *spectral_shape) on `finer(grid)`, as array code; Nyquist modes are set to zero."""
    (rows, columns), (fine_rows, fine_columns) = grid.shape, finer(grid).spectral_shape
    high, wide = (rows - 1) // 2, (columns - 1) // 2
    lead, options = spectrum.shape[:-2], {"dtype": spectrum.dtype, "device": spectrum.device}
    inner = spectrum[..., : wide + 1]
    gap = xp.zeros((*lead, fine_rows - 2 * high - 1, wide + 1), **options)
    tall = xp.concat([inner[..., : high + 1, :], gap, inner[..., rows - high :, :]], axis=-2)
    return xp.concat([tall, xp.zeros((*lead, fine_rows, fine_columns - wide - 1), **options)], axis=-1)


def coefficients(spectrum: Array, operators: Operators, fine: Operators) -> Array:
    """Spline coefficients (..., *finer grid) of fields given as Fourier coefficients (..., *spectral_shape)."""
    symbol = fine.constant("inverse symbol", lambda: inverse_symbol(operators.grid))
    return fine.to_physical(padded(spectrum, operators.grid, fine.xp) * symbol)


def evaluate(c: Array, x: Array, origin: tuple[float, ...], spacing: tuple[float, ...], xp: Any) -> Array:
    """The splines c (member, component, y, x) at positions x (member, 2, entity), whose rows are x and y.

    origin, spacing: of the points of c, in array order. Returns (member, component, entity), as array code that is
    differentiable in c and in the positions.
    """
    members, components, rows, columns = c.shape
    flat = xp.reshape(c, (-1,))
    across, along = ((x[:, 1 - i, :] - origin[i]) / spacing[i] for i in (0, 1))
    (wy, jy), (wx, jx) = _weights(across, rows, xp), _weights(along, columns, xp)
    first = xp.reshape(xp.arange(members * components, dtype=xp.int64, device=x.device), (members, components, 1))
    total: Array = 0.0
    for a in range(ORDER):
        for b in range(ORDER):
            place = first * (rows * columns) + (jy[a] * columns + jx[b])[:, None, :]
            values = xp.reshape(xp.take(flat, xp.reshape(place, (-1,)), axis=0), place.shape)
            total = total + (wy[a] * wx[b])[:, None, :] * values
    return total


def _weights(position: Array, points: int, xp: Any) -> tuple[list[Array], list[Array]]:
    """Weights and periodic indices of the six points about positions in units of the spacing."""
    lower = xp.floor(position)
    t = position - lower
    index = xp.astype(lower, xp.int64)
    weights = []
    for powers in WEIGHTS:
        value: Array = 0.0 * t + powers[-1] / 120
        for power in powers[-2::-1]:
            value = value * t + power / 120
        weights.append(value)
    return weights, [(index + offset) % points for offset in range(-2, 4)]
