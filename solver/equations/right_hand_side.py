"""N and L of a batch of members, as the steppers call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..grid import Grid
from ..spectral import Operators

if TYPE_CHECKING:
    from .base import Equation


class ArrayRightHandSide:
    """The equation's array code for NumPy batches (member * field, row, column), in the place of a compiled one."""

    def __init__(self, equation: Equation, grid: Grid) -> None:
        self.linear: NDArray | None = None
        self._equation, self._operators = equation, Operators(grid)
        self._shape = (len(equation.fields), *(grid.spectral_shape if equation.spectral else grid.shape))
        self.columns = self._shape[-1]
        self.rows = np.ones(grid.points // grid.shape[-1], dtype=bool)

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        out[...] = self._equation.nonlinear(self._operators, self._state(u), t).reshape(out.shape)

    def _state(self, u: NDArray) -> NDArray:
        return u.reshape(-1, *self._shape)

    def rate(self, u: NDArray) -> float:
        return self._equation.largest_rate(self._state(u), self._operators.grid)

    def admissible(self, u: NDArray) -> bool:
        return self._equation.admissible(self._state(u))

    def relax(self, u: NDArray, h: float) -> None:
        u[...] = self._equation.relax(self._operators, self._state(u), h).reshape(u.shape)

    def flow(self, part: str, u: NDArray, h: float) -> None:
        u[...] = self._equation.flow(part, self._operators, self._state(u), h).reshape(u.shape)


class RightHandSide(Protocol):
    """N of one batch of members, and L where the equation has one.

    linear: L, broadcast to (row, column), or None. rows, columns: where N may differ from zero. `__call__`
    writes N(u, t) into `out`; u and out are (batch, row, column), and out is zero outside rows and columns.

    It may have more, each in place: `flow(part, u, h)` for split schemes; `relax(u, h)`, the exact flow of stiff local
    sources, which is taken for h/2 before and after every step; for adaptive steps `rate(u)`, the largest sum of signal
    speed / spacing (for split schemes `sweep_rate(u)`, the largest along one axis), and `admissible(u)`; and
    `stage(u, t, out, base, a, c, h, frozen)`, out = a base + c (u + h (N + frozen)) at once, for schemes in the form of
    Shu and Osher: fewer ways through memory; out may be base.
    """

    linear: NDArray | None
    rows: NDArray[np.bool_]
    columns: int

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None: ...


class NoNonlinearTerm:
    """N = 0, in one dimension: all the equation is in L."""

    def __init__(self) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.zeros(1, dtype=bool), 0

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        out[...] = 0.0
