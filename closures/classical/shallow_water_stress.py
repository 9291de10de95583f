"""Viscous stress of shallow water on finite volumes, with Smagorinsky's eddy viscosity."""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water.array_code import extend
from subgrid.solver.grid import Grid

Array = Any


class ViscousFluxes:
    """(h u)_t += div(nu_e h (grad u + grad u^T)), nu_e = (coefficient Delta)^2 |S|, |S| = sqrt(2 S_ij S_ij).

    Delta = sqrt(dx dy); second order. Velocities are located at cell centres; u_x, v_y and the normal stresses on
    faces; u_y + v_x, the shear stress, |S| and nu_e at cell corners. Values at other places are means of the
    neighbours. The discrete energy then decreases by nu_e h 2 S_ij S_ij, summed over faces and corners, and the scheme
    is conservative.

    Depths between cells are harmonic means. They vanish at dry cells, and are small at nearly dry cells, so that the
    acceleration of shallow cells stays bounded. Velocity differences across a face of depth 0 are set to 0.
    """

    def __init__(self, equation: ShallowWater, grid: Grid, coefficient: float) -> None:
        dy, dx = grid.spacing
        self._equation, self._spacing = equation, (dy, dx)
        self._factor = coefficient**2 * dx * dy

    def __call__(self, state: Array) -> Array:
        """The tendency (member, 3, y, x) of a state (member, 3, y, x); that of the depth is 0."""
        u, v = self._equation.velocities(state)
        return self.divergence(state, u, v)[0]

    def divergence(self, state: Array, u: Array, v: Array, viscosity: Array | None = None) -> tuple[Array, Array]:
        """div(nu h (grad u + grad u^T)) of velocities u, v (member, y, x), as (member, 3, y, x), and nu at the corners.

        viscosity: nu (member, y + 1, x + 1); by default that of the velocities.
        """
        dy, dx = self._spacing
        left, _, bottom, _ = self._equation.boundary.all
        xp = array_namespace(state)
        u, v = self._extended(u, -1.0, 1.0), self._extended(v, 1.0, -1.0)
        h = self._extended(state[:, 0, ...], 1.0, 1.0)
        inverse = reciprocal(h, self._equation.dry, math.inf)

        h_x = 2 / (inverse[..., :-1] + inverse[..., 1:])  # on the faces between columns
        h_y = 2 / (inverse[:, :-1] + inverse[:, 1:])  # on the faces between rows
        h_corner = 4 / (inverse[:, :-1, :-1] + inverse[:, :-1, 1:] + inverse[:, 1:, :-1] + inverse[:, 1:, 1:])
        u_x, v_x = ((a[..., 1:] - a[..., :-1]) * (h_x > 0) / dx for a in (u, v))
        u_y, v_y = ((a[:, 1:] - a[:, :-1]) * (h_y > 0) / dy for a in (u, v))

        shear = (_between_rows(v_x) + _between_columns(u_y)) * (h_corner > 0)
        square = shear**2
        square += 2 * _between_rows(u_x**2)
        square += 2 * _between_columns(v_y**2)
        if viscosity is None:
            viscosity = self.viscosity(square)

        shear *= viscosity
        shear *= h_corner
        x_normal = 2 * _between_rows(viscosity) * (h_x * u_x)[:, 1:-1]
        y_normal = 2 * _between_columns(viscosity) * (h_y * v_y)[..., 1:-1]
        x_shear, y_shear = _between_rows(shear), _between_columns(shear)
        if left != "periodic":
            for flux in (x_normal, x_shear):
                flux[..., 0] = flux[..., -1] = 0.0
        if bottom != "periodic":
            for flux in (y_normal, y_shear):
                flux[:, 0] = flux[:, -1] = 0.0

        rate = xp.zeros_like(state)
        for k, along_x, along_y in ((1, x_normal, y_shear), (2, x_shear, y_normal)):
            rate[:, k] = (along_x[..., 1:] - along_x[..., :-1]) / dx
            rate[:, k] += (along_y[:, 1:] - along_y[:, :-1]) / dy
        return rate, viscosity

    def viscosity(self, square: Array) -> Array:
        """nu at the corners from |S|^2 there."""
        return self._factor * array_namespace(square).sqrt(square)

    def _extended(self, a: Array, x_sign: float, y_sign: float) -> Array:
        """a (member, y, x) with one ghost cell on every side; x_sign, y_sign: factors beyond walls across x and y."""
        left, right, bottom, top = self._equation.boundary.all
        xp = array_namespace(a)
        wide = xp.matrix_transpose(extend(a, 1, left, right, x_sign, xp))
        return xp.matrix_transpose(extend(wide, 1, bottom, top, y_sign, xp))


def reciprocal(h: Array, dry: float, otherwise: float) -> Array:
    """1 / h where h >= dry, and another value elsewhere."""
    xp = array_namespace(h)
    wet, one = h >= dry, xp.ones_like(h)
    return xp.where(wet, one / xp.where(wet, h, one), otherwise * one)


def _between_rows(a: Array) -> Array:
    return 0.5 * (a[:, :-1] + a[:, 1:])


def _between_columns(a: Array) -> Array:
    return 0.5 * (a[..., :-1] + a[..., 1:])
