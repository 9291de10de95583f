"""Smagorinsky's viscosity in depth-averaged flow, on finite volumes.

    (h u_i)_t += d_j (nu_e h (d_j u_i + d_i u_j)),    nu_e = (C Delta)^2 |S|,    |S|^2 = 2 S_ij S_ij,    Delta^2 = dx dy

Gradients, and the stress nu_e h (...), stand at the corners of cells, each from the four cells around; the flux through
a face is the mean of its two corners. Divergence is then minus the transpose of gradient, so that the kinetic energy at
given depth falls by exactly sum nu_e h |S|^2, whatever nu_e is. The price: velocities that alternate in x and in y at
once have no gradient at a corner, and are left to the upwind fluxes of the equation.

h at a corner is the harmonic mean of the four depths, 0 if one of them is dry: a dry cell feels nothing, and the force
on a shallow one stays in proportion to its depth. No stress acts through walls, along which the water slides, nor
through open sides; periodic sides keep momentum to round-off.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import ShallowWater
from subgrid.solver.grid import Grid


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def corner_stress(h, u, v, factor, dx, dy, dry, xx, xy, yy):
    """xx, xy, yy (row + 1, column + 1) = nu_e h (d_j u_i + d_i u_j) at corners; h, u, v have a ghost all around."""
    for j in range(xx.shape[0]):
        for i in range(xx.shape[1]):
            a, b, c, d = h[j, i], h[j, i + 1], h[j + 1, i], h[j + 1, i + 1]
            wet = min(min(a, b), min(c, d)) > dry
            depth = 4 / (1 / a + 1 / b + 1 / c + 1 / d) if wet else 0.0
            u_x = (u[j, i + 1] - u[j, i] + u[j + 1, i + 1] - u[j + 1, i]) / (2 * dx)
            v_x = (v[j, i + 1] - v[j, i] + v[j + 1, i + 1] - v[j + 1, i]) / (2 * dx)
            u_y = (u[j + 1, i] - u[j, i] + u[j + 1, i + 1] - u[j, i + 1]) / (2 * dy)
            v_y = (v[j + 1, i] - v[j, i] + v[j + 1, i + 1] - v[j, i + 1]) / (2 * dy)
            shear = u_y + v_x
            strength = depth * factor * math.sqrt(2 * u_x * u_x + 2 * v_y * v_y + shear * shear)
            xx[j, i] = 2 * strength * u_x
            xy[j, i] = strength * shear
            yy[j, i] = 2 * strength * v_y


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def face_divergence(along_x, along_y, through_x, through_y, dx, dy, out):
    """out (row, column) = d_x along_x + d_y along_y, from corners; through_x, through_y: are these sides periodic?"""
    rows, columns = out.shape
    for j in range(rows):
        for i in range(columns):
            left = along_x[j, i] + along_x[j + 1, i] if through_x or i > 0 else 0.0
            right = along_x[j, i + 1] + along_x[j + 1, i + 1] if through_x or i < columns - 1 else 0.0
            below = along_y[j, i] + along_y[j, i + 1] if through_y or j > 0 else 0.0
            above = along_y[j + 1, i] + along_y[j + 1, i + 1] if through_y or j < rows - 1 else 0.0
            out[j, i] = (right - left) / (2 * dx) + (above - below) / (2 * dy)


class DepthAveragedViscosity:
    """What the viscosity adds to the rate of a shallow-water state (member, 3, y, x)."""

    def __init__(self, equation: ShallowWater, grid: Grid, coefficient: float) -> None:
        self._equation, self._spacing = equation, grid.spacing
        self._factor = coefficient**2 * float(np.prod(grid.spacing))
        self._stress = np.zeros((3, grid.shape[0] + 1, grid.shape[1] + 1))

    def __call__(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        left, right, bottom, top = self._equation.boundary.all
        dy, dx = self._spacing
        h = np.maximum(state[:, 0], 0.0)
        u, v = self._equation.velocities(state)
        padded = (
            extend(extend(q, 2, left, right, sign_x), 1, bottom, top, sign_y)
            for q, sign_x, sign_y in ((h, 1, 1), (u, -1, 1), (v, 1, -1))
        )
        xx, xy, yy = self._stress
        through = left == "periodic", bottom == "periodic"
        rate = np.zeros_like(state)
        for out, depth, along_x, along_y in zip(rate, *padded, strict=True):
            corner_stress(depth, along_x, along_y, self._factor, dx, dy, self._equation.dry, xx, xy, yy)
            face_divergence(xx, xy, *through, dx, dy, out[1])
            face_divergence(xy, yy, *through, dx, dy, out[2])
        return rate


def extend(q: NDArray, axis: int, low: str, high: str, sign: int) -> NDArray[np.float64]:
    """q (member, y, x) with a ghost at either end of an axis: the other end's, or the cell's, times sign at a wall."""
    first, last = np.take(q, [0], axis), np.take(q, [-1], axis)
    if low == "periodic":
        first, last = last, first
    else:
        first, last = (end * sign if side == "wall" else end for end, side in ((first, low), (last, high)))
    return np.concatenate([first, q, last], axis)
