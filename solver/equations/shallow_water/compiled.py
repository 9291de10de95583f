"""The compiled right-hand side of shallow water."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...backend import pays, share
from ...grid import Grid
from ...spectral import empty
from . import array_code, balance_kernels, friction_kernels, sweep_kernels
from .friction import Resistance
from .pointwise_kernels import GHOSTS, TILE, VECTOR

# Nanoseconds per cell on one thread, at 256 x 256.
MUSCL, WENO5, SWEEP = 5.4, 18.0, 4.5
RATE, ADMISSIBLE, RELAX, FRICTION, TURN = 0.4, 0.35, 0.35, 9.0, 1.9
BLOCK = 32  # rows whose largest speed is found together

Work = Callable[[int, int, int], None]


def with_ghosts(n: int, low: str, high: str, dtype: str) -> tuple[NDArray[np.int64], NDArray]:
    """Indices of the cells -GHOSTS ... n + GHOSTS, and -1 for those beyond a wall, else 1; as array_code.extend."""
    cells = array_code.extend(np.arange(n, dtype=np.float64), GHOSTS, low, high, 1.0, np)
    turned = array_code.extend(np.ones(n), GHOSTS, low, high, -1.0, np)
    return cells.astype(np.int64), turned.astype(dtype, copy=False)


class ShallowWaterBalance:
    """du/dt of shallow water, for batches (member * 3, row, column); sides are left, right, bottom, top."""

    divided = True
    fed = False  # see `compiled.advance_adaptively` of the time stepping

    def __init__(
        self,
        grid: Grid,
        bottom: NDArray | None,
        sides: tuple[str, str, str, str],
        gravity: float,
        coriolis: float,
        friction: Resistance,
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
        # Work arrays, by place of a thread.
        self._lines: defaultdict[int, NDArray] = defaultdict(lambda: empty((balance_kernels.SIZE,), dtype))
        self._row: defaultdict[int, NDArray] = defaultdict(lambda: empty((grid.shape[1],), dtype))
        self._sweep_lines: defaultdict[int, NDArray] = defaultdict(lambda: empty((sweep_kernels.SIZE,), dtype))
        self._edge: defaultdict[int, NDArray] = defaultdict(lambda: np.zeros((4, 3, TILE), dtype))
        self._sweep_row: defaultdict[int, NDArray] = defaultdict(lambda: np.zeros((3, grid.shape[1]), dtype))
        self._same = np.ones(grid.shape[1] + 2 * GHOSTS, dtype)
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
        force = u if frozen is None else frozen

        def work(first: int, last: int, place: int) -> None:
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
                self._lines[place],
                out,
                *weights,
                base,
                force,
                frozen is not None,
                first,
                last,
            )

        self._share(work, u, MUSCL if self._wide is None else WENO5)

    def _share(self, work: Work, u: NDArray, cost: float) -> None:
        """Divide by rows; cost: nanoseconds per cell."""
        share(work, u.shape[1], cost * len(u) / 3 * u.shape[2])

    def rate(self, u: NDArray) -> float:
        return self._largest(u, 1 / self._spacing[0], 1 / self._spacing[1])

    def _largest(self, u: NDArray, per_y: float, per_x: float) -> float:
        """The largest sum of speed times per_y and per_x, by blocks of rows that do not depend on the threads."""
        height = u.shape[1]
        count = -(-height // BLOCK) if pays(height, RATE * u.size / 3 / height) else 1
        rows = -(-height // count)
        found = np.zeros(count, u.dtype)

        def work(first: int, last: int, place: int) -> None:
            arguments = self._gravity, self._dry_depth, self._row[place], found, rows
            balance_kernels.rates(u, per_y, per_x, *arguments, first, last)

        share(work, count, RATE * u.size / 3 / count)
        return float(found.max())

    def admissible(self, u: NDArray) -> bool:
        found = []

        def work(first: int, last: int, place: int) -> None:
            found.append(balance_kernels.admissible(u, first, last))

        self._share(work, u, ADMISSIBLE)
        return all(found)

    def relax(self, u: NDArray, h: float) -> None:
        law, per = self._friction, [1 / spacing for spacing in self._spacing]
        shared = self.fed and any(law)

        def work(first: int, last: int, place: int) -> None:
            if law.quadratic or law.linear or shared:
                friction_kernels.resist(u, *law, self._dry_depth, h, shared, self._gravity, *per, first, last)
            else:
                balance_kernels.relax(u, law.manning, self._dry_depth, h, first, last)

        self._share(work, u, FRICTION if any(self._friction) else RELAX)

    def sweep_rate(self, u: NDArray) -> float:
        """The largest speed / spacing along one axis."""
        speeds = self._largest(u, 1.0, 0.0), self._largest(u, 0.0, 1.0)
        return max(speed / h for speed, h in zip(speeds, self._spacing, strict=True))

    def flow(self, part: str, u: NDArray, h: float, t: float = 0.0) -> None:
        """In place: the equations along one axis for a time h; see `ShallowWater.flow`."""
        self._turn(u, 0.25 * self._coriolis * h)
        if part == "y":
            self._supply(u, 0.5 * h, t, before=True)
        if self._bottom is None:
            self._sweep(part, u, u, None, h, t - 0.5 * h)
        else:
            if self._stage_1 is None or self._stage_1.shape != u.shape:
                self._stage_1 = empty(u.shape, str(u.dtype))
            self._sweep(part, u, self._stage_1, None, h, t - 0.5 * h)
            self._sweep(part, self._stage_1, u, True, h, t + 0.5 * h)
        if part == "y":
            self._supply(u, 0.5 * h, t, before=False)
        self._turn(u, 0.25 * self._coriolis * h)

    def _supply(self, u: NDArray, h: float, t: float, before: bool) -> None:
        """In place: rain and friction beside a sweep, see `ShallowWater._supplied`; here none."""

    def _sweep(self, part: str, u: NDArray, out: NDArray, average: bool | None, h: float, t: float) -> None:
        fields = u, out, average, self._bottom
        physics = self._gravity, self._dry_depth
        if part == "x":
            per = h / self._spacing[1]

            def along_x(first: int, last: int, place: int) -> None:
                own = self._sweep_row[place], self._sweep_lines[place]
                sweep_kernels.along_x(*fields, *self._x, self._same, per, *physics, *own, first, last)

            self._share(along_x, u, SWEEP)
            return
        per, width = h / self._spacing[0], u.shape[2]

        def along_y(first: int, last: int, place: int) -> None:
            own = self._edge[place], self._sweep_lines[place]
            limits = first * VECTOR, min(last * VECTOR, width)
            sweep_kernels.along_y(*fields, *self._y, per, *physics, *own, *limits)

        count = -(-width // VECTOR)
        share(along_y, count, SWEEP * u.size / 3 / count)

    def _turn(self, u: NDArray, angle: float) -> None:
        def work(first: int, last: int, place: int) -> None:
            state = u.reshape(-1, 3, *u.shape[1:])[:, :, first:last]
            state[...] = array_code.apply_coriolis(state, angle, np)

        if angle:
            self._share(work, u, TURN)
