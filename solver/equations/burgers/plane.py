"""Burgers' equation in two dimensions, by finite volumes."""

from __future__ import annotations

from typing import ClassVar

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ...backend import Precision, divided, kernel, share
from ...finite_volume import array_code as finite_volume
from ...finite_volume.reconstruction import slope
from ...grid import Grid
from ...spectral import Operators
from ..base import Array, Equation, Field, Kind
from ..forcing import ForcingTable
from ..quantities import Quantity
from ..right_hand_side import RightHandSide

RATE, COPY = 21.0, 0.6  # nanoseconds per cell on one thread, at 256 x 256


class Burgers2D(Equation):
    """(u, v)_t + u (u, v)_x + v (u, v)_y = nu lap (u, v) + f, doubly periodic, in advective form.

    State (member, 2, y, x), cell averages in length/time. The advective form is that of the published reduced-order
    models. It is not conservative: the scheme determines the speed of a velocity jump. The x derivative at a cell
    centre is the difference of the MUSCL states at its two faces, both from the upwind side of the velocity at the
    centre; likewise for y. Viscosity is central. The scheme is second order where the solution is smooth. Explicit
    steps need (max|u| / dx + max|v| / dy) h <= 1/2 for no new extrema, and nu h (1/dx^2 + 1/dy^2) below about 1/2.

    viscosity: nu, in length^2/time; for unit length and velocity the Reynolds number is 1 / nu. Terms that can be
    omitted: advection, diffusion, forcing.
    """

    name: ClassVar[str] = "burgers-2d"
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "length/time", "velocity along x"),
        Field("v", "length/time", "velocity along y"),
    )
    later: ClassVar[tuple[str, ...]] = ("forcing",)
    terms: ClassVar[tuple[str, ...]] = ("advection", "diffusion", "forcing")
    quantities: ClassVar[dict[str, Quantity]] = {
        "momentum_x": Quantity("length/time", "mean velocity <u>"),
        "momentum_y": Quantity("length/time", "mean velocity <v>"),
        "energy": Quantity("length^2/time^2", "energy <u^2 + v^2>/2"),
    }

    noise: None = None  # type: ignore[assignment]
    viscosity: float = Option(ge=0)
    forcing: ForcingTable | None = None

    @property
    def autonomous(self) -> bool:  # type: ignore[override]
        return self.source is None or self.source.steady

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        return self.kind == "balance-law" and self.source is not None

    @property
    def compiles_forcing(self) -> bool:
        return False

    @property
    def kind(self) -> Kind:
        return "balance-law"

    @property
    def effective_viscosity(self) -> float:
        """nu in length^2/time, or 0 if diffusion is omitted."""
        return self.viscosity if self.has("diffusion") else 0.0

    def nonlinear(self, operators: Operators, u: Array, t: float) -> Array:
        xp, (dy, dx) = operators.xp, operators.grid.spacing
        along_x = self._along(u, u[:, :1, ...], dx, xp)
        along_y = self._along(xp.matrix_transpose(u), xp.matrix_transpose(u[:, 1:, ...]), dy, xp)
        return self.forced(operators, along_x + xp.matrix_transpose(along_y), t)

    def _along(self, u: Array, speed: Array, spacing: float, xp: Array) -> Array:
        """-c u_x + nu u_xx along the last axis, with c = `speed` at the cell centres."""
        cells = finite_volume.extend(u, 2, None, xp)
        rate = self.effective_viscosity / spacing**2 * (cells[..., 1:-3] - 2 * u + cells[..., 3:-1])
        if not self.has("advection"):
            return rate
        left, right = (faces[..., 1:] - faces[..., :-1] for faces in finite_volume.muscl(cells, xp))
        positive, negative = 0.5 * (speed + xp.abs(speed)), 0.5 * (speed - xp.abs(speed))
        return rate - (positive * left + negative * right) / spacing

    def compiled(self, grid: Grid, members: int, dtype: Precision = "float64") -> RightHandSide:
        return Compiled(grid, members, self.effective_viscosity, self.has("advection"), dtype)

    def invariants(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        """momentum_x <u>, momentum_y <v> and energy <u^2 + v^2>/2 per unit area, (member,); none is conserved."""
        mean = state.mean(axis=(-2, -1))
        energy = 0.5 * (state**2).sum(1).mean(axis=(-2, -1))
        return {"momentum_x": mean[:, 0], "momentum_y": mean[:, 1], "energy": energy}

    def gradients(self, state: NDArray, grid: Grid) -> dict[str, NDArray]:
        return {"energy": state}

    def array_speed(self, operators: Operators, u: Array) -> tuple[Array | float, ...]:
        if not self.has("advection"):
            return (0.0, 0.0)
        xp = operators.xp
        return xp.max(xp.abs(u[:, 1, ...])), xp.max(xp.abs(u[:, 0, ...]))

    def signal_speed(self, state: NDArray, grid: Grid) -> tuple[float, ...]:
        """max|v| along y, max|u| along x."""
        v, u = self.array_speed(Operators(grid), state)
        return float(v), float(u)


class Compiled:
    """du/dt of a batch (member * field, y, x), divided over threads by rows."""

    divided = True

    def __init__(self, grid: Grid, members: int, viscosity: float, advects: bool, dtype: str) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(grid.shape[0], dtype=bool), grid.shape[1]
        self._viscosity, self._advects, self._spacing = viscosity, advects, grid.spacing
        ny, nx = grid.shape
        self._cells = np.zeros((2 * members, ny + 4, nx + 4), dtype)
        self._rate = divided(rate, ny, RATE * members * nx)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        cells, height = self._cells, u.shape[1]
        cost = u.size / 2 / height

        def extend(first: int, last: int, place: int) -> None:
            inside, rows = slice(first + 2, last + 2), u[:, first:last]
            cells[:, inside, 2:-2] = rows
            cells[:, inside, :2], cells[:, inside, -2:] = rows[:, :, -2:], rows[:, :, :2]
            if first == 0:
                cells[:, :2, 2:-2], cells[:, -2:, 2:-2] = u[:, -2:], u[:, :2]

        share(extend, height, COPY * cost)
        self._rate(cells, self._viscosity, self._advects, *self._spacing, out)


@numba.njit(inline="always")
def _along(a, b, c, d, e, speed, viscosity, spacing):
    """-speed u_x + viscosity u_xx at the cell c, from five consecutive cells."""
    if speed > 0:
        difference = c - b + 0.5 * (slope(b, c, d) - slope(a, b, c))
    else:
        difference = d - c - 0.5 * (slope(c, d, e) - slope(b, c, d))
    return (viscosity * (b - 2.0 * c + d) / spacing - speed * difference) / spacing


@kernel(error_model="numpy", fastmath={"contract"})
def rate(cells, viscosity, advects, dy, dx, out, first, last):
    """out = du/dt of the cells inside two rows and columns of ghost cells; first axis u, v, u, v, ... by member.

    Of the rows first ... last - 1 of `out`.
    """
    for m in range(out.shape[0] // 2):
        for y in range(first, last):
            for x in range(out.shape[2]):
                u = cells[2 * m, y + 2, x + 2] if advects else 0.0
                v = cells[2 * m + 1, y + 2, x + 2] if advects else 0.0
                for b in range(2 * m, 2 * m + 2):
                    row = cells[b, y + 2]
                    along_x = _along(row[x], row[x + 1], row[x + 2], row[x + 3], row[x + 4], u, viscosity, dx)
                    i, w = x + 2, cells[b]
                    out[b, y, x] = along_x + _along(
                        w[y, i], w[y + 1, i], w[y + 2, i], w[y + 3, i], w[y + 4, i], v, viscosity, dy
                    )
