"""The compiled right-hand side of shallow water with prescribed sides or rain: fluxes on a grid with ghost cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...grid import Grid
from . import friction_kernels, sides_array_code, sides_kernels
from .compiled import ShallowWaterBalance
from .sides import Values

if TYPE_CHECKING:
    from .equation import ShallowWater


class PrescribedBalance(ShallowWaterBalance):
    """`ShallowWaterBalance` on the grid with the ghost cells beyond prescribed sides, which are filled anew each time.

    The rates of the cells of the domain are those of the array code: ghost cells are filled, fluxes computed, rain
    added. fed: signal speeds may grow within a step, see `compiled.advance_adaptively`.
    """

    fed = True

    def __init__(self, equation: ShallowWater, grid: Grid, dtype: str) -> None:
        self._equation, self._grid = equation, grid
        self._widths = sides_array_code.padding(equation.boundary.prescribed)
        shape = tuple(n + low + high for n, (low, high) in zip(grid.shape, self._widths, strict=True))
        length = tuple(h * n for h, n in zip(grid.spacing, shape, strict=True))
        bottom = equation.bottom(grid)
        if bottom is not None:
            bottom = np.ascontiguousarray(sides_array_code.padded_bottom(bottom, self._widths, np))
        super().__init__(
            replace(grid, shape=shape, length=length),
            bottom,
            equation.boundary.all,
            equation.gravity,
            equation.rotation,
            equation.resistance,
            equation.reconstruction,
            equation.dry,
            dtype,
        )
        self._spacing = grid.spacing  # not that of a longer domain, which is another by round-off
        self.rows, self.columns = np.ones(grid.shape[0], dtype=bool), grid.shape[1]
        self._shape, self._dtype = shape, dtype
        self._state = self._found = np.zeros((0, *shape), dtype)
        self._values: dict[str, Values] | None = None
        self._through: dict[str, NDArray] = {}

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        self._rates(u, t)
        out[...] = self._inner(self._found)

    def stage(
        self, u: NDArray, t: float, out: NDArray, base: NDArray, a: float, c: float, h: float, frozen: NDArray | None
    ) -> None:
        self._rates(u, t)
        rates = self._inner(self._found)
        if frozen is not None:
            rates = rates + frozen
        single = u.dtype == np.float32  # as balance_kernels._finish
        out[...] = base + (c * (u - base) + (c * h) * rates) if single else a * base + c * u + (c * h) * rates

    def _rates(self, u: NDArray, t: float) -> None:
        self._fill(u, t)
        self._balance(self._state, self._found, (0.0, 0.0, 1.0), self._state, None)
        for side, values in self._values_at(t).items():
            if values[0] is not None:
                place, step, along_y, first, last = self._place(side)
                slack = sides_array_code.slack(values)
                per = 1 / self._spacing[0 if along_y else 1]
                through, scheme = self._through[side], (self._gravity, self._dry_depth)
                beside = self._bottom, self._wide, place, step, along_y
                sides_kernels.correct(self._state, *beside, *scheme, first, last, through, slack, per, self._found)
        rain = self._equation.rainfall
        if rain.falls:
            self._inner(self._found)[::3] += rain.means(self._grid, t).astype(self._dtype, copy=False)

        if any(law := self._friction):
            rates = [1 / spacing for spacing in self._spacing]
            out = self._inner(self._found)
            friction_kernels.add_drag(u, *law, self._dry_depth, self._gravity, *rates, out, 0, u.shape[1])

    def _inner(self, padded: NDArray) -> NDArray:
        return sides_array_code.inner(padded, self._widths)

    def _fill(self, u: NDArray, t: float) -> None:
        """The state with ghost cells, in `_state`; `_found` has its shape."""
        if len(self._state) != len(u):
            self._state, self._found = (np.zeros((len(u), *self._shape), self._dtype) for _ in range(2))
        self._inner(self._state)[...] = u
        none = np.zeros(1, self._dtype)
        for side, values in self._values_at(t).items():
            place, step, along_y, first, last = self._place(side)
            if side not in self._through or len(self._through[side]) != len(u) // 3:
                self._through[side] = np.zeros((len(u) // 3, last - first), self._dtype)
            given = [none if v is None else v.astype(self._dtype, copy=False) for v in values]
            which, scheme = tuple(v is not None for v in values), (self._gravity, self._dry_depth)
            beside = self._bottom, place, step, along_y
            sides_kernels.fill(self._state, *beside, *given, which, *scheme, first, last, self._through[side])

    def _place(self, side: str) -> tuple[int, int, bool, int, int]:
        """Index of the cells beside a side, the step into the domain, whether along y, and the range along the side."""
        (bottom, top), (left, right) = self._widths
        rows, columns = (bottom, self._shape[0] - top), (left, self._shape[1] - right)
        along_y, low = side in ("bottom", "top"), side in ("left", "bottom")
        first, last = rows if along_y else columns
        return (first if low else last - 1), (1 if low else -1), along_y, *(columns if along_y else rows)

    def _values_at(self, t: float) -> dict[str, Values]:
        if self._values is not None:
            return self._values
        found = self._equation.side_values(self._grid, t)
        if self._equation.boundary.steady:
            self._values = found
        return found

    def _sweep(self, part: str, u: NDArray, out: NDArray, average: bool | None, h: float, t: float) -> None:
        self._fill(u, t)
        if average:
            self._inner(self._found)[...] = out
        super()._sweep(part, self._state, self._found, average, h, t)
        out[...] = self._inner(self._found)

    def _supply(self, u: NDArray, h: float, t: float, before: bool) -> None:
        rainfall, state, rain = self._equation.rainfall, u.reshape(-1, 3, *u.shape[1:]), None
        if rainfall.falls:
            rain = rainfall.means(self._grid, t).astype(self._dtype, copy=False)
        if rain is not None or any(self._friction):
            state[...] = self._equation.supplied(state, h, rain, self._grid, np, before)
