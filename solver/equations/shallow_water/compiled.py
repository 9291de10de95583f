"""The compiled right-hand side of shallow water."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...grid import Grid
from ...spectral import empty
from . import array_code, balance_kernels, sweep_kernels
from .pointwise_kernels import GHOSTS, TILE


def with_ghosts(n: int, low: str, high: str, dtype: str) -> tuple[NDArray[np.int64], NDArray]:
    """Indices of the cells -GHOSTS ... n + GHOSTS, and -1 for those beyond a wall, else 1; as array_code.extend."""
    cells = array_code.extend(np.arange(n, dtype=np.float64), GHOSTS, low, high, 1.0, np)
    turned = array_code.extend(np.ones(n), GHOSTS, low, high, -1.0, np)
    return cells.astype(np.int64), turned.astype(dtype, copy=False)


class ShallowWaterBalance:
    """du/dt of shallow water, for batches (member * 3, row, column); sides are left, right, bottom, top."""

    def __init__(
        self,
        grid: Grid,
        bottom: NDArray | None,
        sides: tuple[str, str, str, str],
        gravity: float,
        coriolis: float,
        friction: float,
        reconstruction: str,
        dry_depth: float,
        dtype: str,
    ) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(grid.shape[0], dtype=bool), grid.shape[1]
        self._bottom = None if bottom is None else bottom.astype(dtype, copy=False)
        self._gravity, self._coriolis = gravity, coriolis
        self._friction, self._dry_depth, self._spacing = friction, dry_depth, grid.spacing
        self._wide = None if reconstruction == "muscl" else True
        self._x = with_ghosts(grid.shape[1], *sides[:2], dtype)
        self._y = with_ghosts(grid.shape[0], *sides[2:], dtype)
        self._lines, self._row = empty((balance_kernels.SIZE,), dtype), empty((grid.shape[1],), dtype)
        self._sweeps: tuple[NDArray, ...] | None = None
        self._stage_1: NDArray | None = None

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        self._balance(u, out, (0.0, 0.0, 1.0), u, None)

    def stage(
        self, u: NDArray, t: float, out: NDArray, base: NDArray, a: float, c: float, h: float, frozen: NDArray | None
    ) -> None:
        """out = a base + c (u + h (N(u) + frozen)) in one pass over memory; out may be base, but not u."""
        self._balance(u, out, (a, c, c * h), base, frozen)

    def _balance(
        self, u: NDArray, out: NDArray, weights: tuple[float, float, float], base: NDArray, frozen: NDArray | None
    ) -> None:
        balance_kernels.balance(
            u,
            self._bottom,
            self._y[0],
            self._x[0],
            self._y[1],
            self._x[1],
            *self._spacing,
            self._gravity,
            self._coriolis,
            self._wide,
            self._dry_depth,
            self._lines,
            out,
            *weights,
            base,
            u if frozen is None else frozen,
            frozen is not None,
        )

    def rate(self, u: NDArray) -> float:
        per_y, per_x = (1 / h for h in self._spacing)
        return float(balance_kernels.rate(u, per_y, per_x, self._gravity, self._dry_depth, self._row))

    def admissible(self, u: NDArray) -> bool:
        return bool(balance_kernels.admissible(u))

    def relax(self, u: NDArray, h: float) -> None:
        balance_kernels.relax(u, self._friction, self._dry_depth, h)

    def sweep_rate(self, u: NDArray) -> float:
        """The largest speed / spacing along one axis."""
        speeds = (
            balance_kernels.rate(u, *pair, self._gravity, self._dry_depth, self._row)
            for pair in ((1.0, 0.0), (0.0, 1.0))
        )
        return float(max(speed / h for speed, h in zip(speeds, self._spacing, strict=True)))

    def flow(self, part: str, u: NDArray, h: float) -> None:
        """In place: the equations along one axis for a time h; see `sweep_array_code.shift`."""
        self._turn(u, 0.25 * self._coriolis * h)
        if self._bottom is None:
            self._sweep(part, u, u, None, h)
        else:
            if self._stage_1 is None or self._stage_1.shape != u.shape:
                self._stage_1 = empty(u.shape, str(u.dtype))
            self._sweep(part, u, self._stage_1, None, h)
            self._sweep(part, self._stage_1, u, True, h)
        self._turn(u, 0.25 * self._coriolis * h)

    def _sweep(self, part: str, u: NDArray, out: NDArray, average: bool | None, h: float) -> None:
        if self._sweeps is None:
            self._sweeps = (
                empty((sweep_kernels.SIZE,), str(u.dtype)),
                np.zeros((4, 3, TILE), u.dtype),
                np.zeros((3, u.shape[2]), u.dtype),
                np.ones(u.shape[2] + 2 * GHOSTS, u.dtype),
            )
        lines, edge, row, same = self._sweeps
        fields = u, out, average, self._bottom
        physics = self._gravity, self._dry_depth
        if part == "x":
            sweep_kernels.along_x(*fields, *self._x, same, h / self._spacing[1], *physics, row, lines)
        else:
            sweep_kernels.along_y(*fields, *self._y, h / self._spacing[0], *physics, edge, lines)

    def _turn(self, u: NDArray, angle: float) -> None:
        if angle:
            state = u.reshape(-1, 3, *u.shape[1:])
            state[...] = array_code.apply_coriolis(state, angle, np)
