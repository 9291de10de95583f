"""The compiled right-hand side and the split flows of Vlasov-Poisson, divided over threads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...backend import pays, share
from ...grid import Grid
from . import array_code
from .kernels import (
    BLOCK,
    TAPS,
    acceleration,
    drift,
    electric_field,
    extend,
    kick,
    split_shift,
    streaming,
    sum_over_v,
    taps,
)

LINE = 8  # columns that are divided together: a line of the cache

# Nanoseconds per cell on one thread, at 256 x 256: of a stage with its rate, its cells and its sums; of a shift along x
# and one along v.
RATE, PREPARE, SUM, DRIFT, KICK = 3.5, 0.4, 0.1, 1.2, 2.0


class Transport:
    """The right-hand side and the split flows of Vlasov-Poisson for a batch (member, v, x), divided over threads.

    streams, accelerates: whether the terms v f_x and E f_v are in the model.
    """

    divided = True

    def __init__(
        self,
        grid: Grid,
        members: int,
        order: array_code.Order,
        positivity: bool,
        closed: bool,
        streams: bool,
        accelerates: bool,
        dtype: str,
    ) -> None:
        height, n = grid.shape
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(height, dtype=bool), n
        self._spacing, self._speed = grid.spacing, grid.coordinates(centres=True)[0]
        self._velocity = self._speed.astype(dtype)
        self._green = np.tile(array_code.green(grid), 2)
        pays_here = members == 1 and pays(-(-n // LINE), RATE * LINE * height)
        self.by_columns = self._by_columns if pays_here else None
        self._positivity, self._closed, self._streams, self._accelerates = positivity, closed, streams, accelerates
        narrow = array_code.fraction_table(order)
        self._table = np.zeros((TAPS, TAPS + 1), dtype)
        spare = (TAPS - len(narrow)) // 2
        self._table[spare : TAPS - spare, : narrow.shape[1]] = narrow
        self._density, self._next_density, self._field = np.zeros((3, members, n))
        self._cells, self._next_cells = (np.zeros((height + 6, n + 6), dtype) for _ in range(2))
        self._distance, self._fraction = np.zeros((2, max(height, n)))
        self._whole = np.zeros(max(height, n), dtype=np.int64)
        self._row_taps, self._column_taps = np.zeros((TAPS, height), dtype), np.zeros((TAPS, n), dtype)
        # Work arrays, by place of a thread.
        self._flux: defaultdict[int, NDArray] = defaultdict(lambda: np.zeros(n + 1, dtype))
        self._line: defaultdict[int, tuple[NDArray, ...]] = defaultdict(
            lambda: (np.zeros(n + TAPS, dtype), np.zeros(n + 1, dtype))
        )
        self._block: defaultdict[int, tuple[NDArray, ...]] = defaultdict(
            lambda: (
                np.zeros((height + 2 * TAPS, BLOCK), dtype),
                np.zeros((height + TAPS + 1, BLOCK), dtype),
                np.zeros(BLOCK, dtype),
            )
        )

    def field(self, u: NDArray) -> NDArray:
        """E (member, x) in double precision, in an array that the next call overwrites."""
        n = self.columns
        sum_over_v(u, self._spacing[0], self._density, 0, n)
        electric_field(self._density, self._green, self._field, 0, n)
        return self._field

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        if self._accelerates:
            self.field(u)
        for b in range(len(u)):
            extend(u[b], self._cells, 0, self.columns)
            self._rate(b, out, 0, self.columns, 0)

    def _rate(self, b: int, out: NDArray, first: int, last: int, place: int) -> None:
        """The right-hand side of member b, whose cells and field are known, in some columns."""
        flux = self._flux[place]
        if self._streams:
            streaming(self._cells, self._velocity, self._spacing[1], flux, out[b], first, last)
        else:
            out[b, :, first:last] = 0.0
        if self._accelerates:
            field = self._field[b, first:last].astype(out.dtype, copy=False)
            acceleration(self._cells, field, self._spacing[0], self._closed, flux, out[b], first, last)

    def _by_columns(
        self,
        u: NDArray,
        t: float,
        rate: NDArray,
        finish: Callable[[int, int], None],
        out: NDArray,
        known: bool,
        more: bool,
    ) -> None:
        """N(u) of one member into `rate`, and finish(first, last), which writes `out`, divided by columns.

        With its columns of `out` a thread prepares the density and the cells of the next call, so that the threads wait
        for each other once in a stage. known: u is the `out` of the last call; more: `out` is the u of the next one.
        """
        n = self.columns

        def prepare(state: NDArray, first: int, last: int) -> None:
            if self._accelerates:
                sum_over_v(state, self._spacing[0], self._next_density, first, last)
            extend(state[0], self._next_cells, first, last)

        def begin(first: int, last: int, place: int) -> None:
            prepare(u, first * LINE, min(last * LINE, n))

        def stage(first: int, last: int, place: int) -> None:
            first, last = first * LINE, min(last * LINE, n)
            if self._accelerates:
                electric_field(self._density, self._green, self._field, first, last)
            self._rate(0, rate, first, last, place)
            finish(first, last)
            if more:
                prepare(out, first, last)

        lines, cells = -(-n // LINE), LINE * u.shape[1]
        if not known:
            share(begin, lines, PREPARE * cells)
        self._cells, self._next_cells = self._next_cells, self._cells
        self._density, self._next_density = self._next_density, self._density
        share(stage, lines, RATE * cells)

    def flow(self, part: str, u: NDArray, h: float) -> None:
        if part == "drift" and self._streams:
            self._drift(u, h / self._spacing[1])
        if part == "kick" and self._accelerates:
            self._kick(u, h / self._spacing[0])

    def _drift(self, u: NDArray, factor: float) -> None:
        def work(first: int, last: int, place: int) -> None:
            self._prepare(self._speed, factor, self._row_taps, first, last)
            drift(u, self._whole, self._row_taps, self._positivity, *self._line[place], first, last)

        share(work, u.shape[1], DRIFT * u.size / u.shape[1])

    def _kick(self, u: NDArray, factor: float) -> None:
        n, blocks, cost = self.columns, -(-self.columns // BLOCK), KICK * BLOCK * u.shape[1]

        def density(first: int, last: int, place: int) -> None:
            sum_over_v(u, self._spacing[0], self._density, first * BLOCK, min(last * BLOCK, n))

        def kick_all(first: int, last: int, place: int) -> None:
            first, last = first * BLOCK, min(last * BLOCK, n)
            electric_field(self._density, self._green, self._field, first, last)
            for f, e in zip(u, self._field, strict=True):
                self._prepare(e, factor, self._column_taps, first, last)
                ends = self._positivity, self._closed
                kick(f, self._whole, self._column_taps, *ends, *self._block[place], first, last)

        share(density, blocks, SUM * BLOCK * u.size / n)
        share(kick_all, blocks, cost * len(u))

    def _prepare(self, speed: NDArray, factor: float, coefficients: NDArray, first: int, last: int) -> None:
        """Whole cells that lines of these speeds move by into `_whole`, the taps of the rest into `coefficients`.

        speed is in double precision, so that the part of a cell is precise after any number of whole ones.
        """
        distance, fraction = self._distance[first:last], self._fraction[first:last]
        np.multiply(speed[first:last], factor, out=distance)
        split_shift(distance, self._whole[first:last], fraction)
        taps(fraction.astype(coefficients.dtype, copy=False), self._table, coefficients, first, last)
