"""Numba kernels for finite volumes: the compiled versions of the functions of the same names in array_code.

States are (batch, row, cell) with one row; faces (batch, row, face). Outputs are the last arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..backend import kernel
from ..grid import Grid
from . import array_code
from .reconstruction import slope, weno5_value


@kernel()
def extend(u, width, periodic, left, right, cells):
    """cells = u with `width` ghost cells at either end."""
    n = u.shape[2]
    for b in range(u.shape[0]):
        for r in range(u.shape[1]):
            for c in range(n):
                cells[b, r, width + c] = u[b, r, c]
            for c in range(width):
                if periodic:
                    cells[b, r, c] = u[b, r, n - width + c]
                    cells[b, r, width + n + c] = u[b, r, c]
                else:
                    cells[b, r, width - 1 - c] = 2.0 * left - u[b, r, c]
                    cells[b, r, width + n + c] = 2.0 * right - u[b, r, n - 1 - c]


@kernel(error_model="numpy", fastmath={"contract"})
def muscl(cells, left, right):
    """left, right = the states at the faces, from cells with two ghosts at either end."""
    for b in range(left.shape[0]):
        for r in range(left.shape[1]):
            v = cells[b, r]
            for i in range(left.shape[2]):
                left[b, r, i] = v[i + 1] + 0.5 * slope(v[i], v[i + 1], v[i + 2])
                right[b, r, i] = v[i + 2] - 0.5 * slope(v[i + 1], v[i + 2], v[i + 3])


@kernel(error_model="numpy", fastmath={"contract"})
def weno5(cells, left, right):
    """left, right = the states at the faces, from cells with three ghosts at either end."""
    for b in range(left.shape[0]):
        for r in range(left.shape[1]):
            v = cells[b, r]
            for i in range(left.shape[2]):
                left[b, r, i] = weno5_value(v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4])
                right[b, r, i] = weno5_value(v[i + 5], v[i + 4], v[i + 3], v[i + 2], v[i + 1])


@kernel()
def upwind(left, right, speed, flux):
    """flux = c u_left or c u_right, by the sign of c."""
    upstream = left if speed > 0 else right
    for b in range(flux.shape[0]):
        for r in range(flux.shape[1]):
            for i in range(flux.shape[2]):
                flux[b, r, i] = speed * upstream[b, r, i]


@kernel()
def godunov(left, right, flux):
    """flux = max(max(u_left, 0)^2, min(u_right, 0)^2) / 2."""
    for b in range(flux.shape[0]):
        for r in range(flux.shape[1]):
            for i in range(flux.shape[2]):
                from_left = max(left[b, r, i], 0.0)
                from_right = min(right[b, r, i], 0.0)
                flux[b, r, i] = 0.5 * max(from_left * from_left, from_right * from_right)


@kernel(error_model="numpy", fastmath={"contract"})
def add_diffusive_flux(cells, width, viscosity, spacing, flux):
    """flux += -nu u_x, central: second order for width 2, fourth for width 3."""
    factor = -viscosity / spacing
    for b in range(flux.shape[0]):
        for r in range(flux.shape[1]):
            v = cells[b, r]
            for i in range(flux.shape[2]):
                jump = v[i + width] - v[i + width - 1]
                if width == 3:
                    jump = (15.0 * jump - (v[i + 4] - v[i + 1])) / 12.0
                flux[b, r, i] += factor * jump


@kernel(error_model="numpy")
def balance(flux, spacing, out):
    """out = -(F_{j+1/2} - F_{j-1/2}) / h."""
    for b in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[b, r, c] = (flux[b, r, c] - flux[b, r, c + 1]) / spacing


RECONSTRUCTIONS = {"muscl": muscl, "weno5": weno5}


class FluxBalance:
    """array_code.flux_balance for a batch (batch, 1, cell); flux(cells, left, right, out) fills `out`."""

    def __init__(
        self,
        grid: Grid,
        batch: int,
        reconstruction: str,
        ends: array_code.Ends,
        flux: Callable[[NDArray, NDArray, NDArray, NDArray], None],
        dtype: str,
    ) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), grid.shape[-1]
        self._width = array_code.RECONSTRUCTIONS[reconstruction][0]
        self._reconstruct = RECONSTRUCTIONS[reconstruction]
        self._periodic, self._ends = ends is None, ends or (0.0, 0.0)
        self._spacing, self._flux = grid.spacing[-1], flux
        self._cells = np.zeros((batch, 1, self.columns + 2 * self._width), dtype)
        self._left, self._right, self._faces = np.zeros((3, batch, 1, self.columns + 1), dtype)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        extend(u, self._width, self._periodic, *self._ends, self._cells)
        self._reconstruct(self._cells, self._left, self._right)
        self._flux(self._cells, self._left, self._right, self._faces)
        balance(self._faces, self._spacing, out)
