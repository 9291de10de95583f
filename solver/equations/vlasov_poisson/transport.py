"""The compiled right-hand side and the split flows of Vlasov-Poisson, divided over threads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...backend import pays, share
from ...grid import Grid
from ..right_hand_side import Combination
from . import array_code
from .kernels import electric_field, extend, prepare, rates, stage, sum_over_v
from .shift_kernels import BLOCK, TAPS, drift_by, kick_by

LINE = 8  # columns that are divided together: a line of the cache

# Nanoseconds per cell on one thread, at 256 x 256: of a stage with its rate, its cells and its sums; of a shift along x
# and one along v.
RATE, PREPARE, SUM, DRIFT, KICK = 3.5, 0.4, 0.1, 1.2, 2.0


class Transport:
    """The right-hand side and the split flows of Vlasov-Poisson for a batch (member, v, x), divided over threads.

    streams, attracts: whether the terms v f_x and E f_v, with the field of the particles, are in the model. external:
    the field (x,) at a time that is added to it, or None; steady: whether it is the same at all times.
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
        attracts: bool,
        dtype: str,
        external: Callable[[float], NDArray] | None = None,
        steady: bool = True,
    ) -> None:
        height, n = grid.shape
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(height, dtype=bool), n
        self._spacing, self._speed = grid.spacing, grid.coordinates(centres=True)[0]
        self._velocity = self._speed.astype(dtype)
        self._green = np.tile(array_code.green(grid), 2) if attracts else np.zeros(2 * n)
        self._given = None if steady else external
        self._external = external(0.0) if external and steady else np.zeros(n)
        accelerates = attracts or external is not None
        pays_here = steady and members == 1 and pays(-(-n // LINE), RATE * LINE * height)
        self.by_columns = self._by_columns if pays_here else None
        self._positivity, self._closed, self._streams, self._accelerates = positivity, closed, streams, accelerates
        self._model = self._velocity, *grid.spacing, streams, accelerates, closed
        narrow = array_code.fraction_table(order)
        self._table = np.zeros((TAPS, TAPS + 1), dtype)
        spare = (TAPS - len(narrow)) // 2
        self._table[spare : TAPS - spare, : narrow.shape[1]] = narrow
        self._density, self._next_density, self._field = np.zeros((3, members, n))
        self._cells, self._next_cells = (np.zeros((height + 6, n + 6), dtype) for _ in range(2))
        longest = max(height, n)
        self._places = np.zeros(longest), np.zeros(longest), np.zeros(longest, dtype=np.int64)
        self._row_taps, self._column_taps = np.zeros((TAPS, height), dtype), np.zeros((TAPS, n), dtype)
        # Work arrays, by place of a thread.
        self._flux: defaultdict[int, NDArray] = defaultdict(lambda: np.zeros((2, n + 1), dtype))
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

    def _poisson(self, t: float) -> tuple[NDArray, NDArray]:
        """Green's function and the external field at the time t."""
        if self._given:
            self._external = self._given(t)
        return self._green, self._external

    def field(self, u: NDArray, t: float = 0.0) -> NDArray:
        """E (member, x) in double precision, in an array that the next call overwrites."""
        n = self.columns
        sum_over_v(u, self._spacing[0], self._density, 0, n)
        electric_field(self._density, *self._poisson(t), self._field, 0, n)
        return self._field

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        if self._accelerates:
            self.field(u, t)
        for b in range(len(u)):
            extend(u[b], self._cells, 0, self.columns)
            field = self._field[b].astype(out.dtype, copy=False)
            velocity, *model = self._model
            rates(self._cells, velocity, field, *model, self._flux[0], out[b], 0, self.columns)

    def _by_columns(self, state: NDArray, index: int, combination: Combination, known: bool, more: bool) -> None:
        """The rate of one member and its combination, divided by columns.

        With its columns of `out` a thread prepares the density and the cells of the next call, so that the threads wait
        for each other once in a stage.
        """
        n, dv = self.columns, self._spacing[0]

        def begin(first: int, last: int, place: int) -> None:
            columns = first * LINE, min(last * LINE, n)
            prepare(state, dv, self._accelerates, self._next_density, self._next_cells, *columns)

        def work(first: int, last: int, place: int) -> None:
            columns = first * LINE, min(last * LINE, n)
            here, following = (self._density, self._field, self._cells), (self._next_density, self._next_cells)
            stage(here, following, poisson, self._model, self._flux[place], index, more, combination, *columns)

        lines, cells, poisson = -(-n // LINE), LINE * state.shape[1], self._poisson(0.0)
        if not known:
            share(begin, lines, PREPARE * cells)
        self._cells, self._next_cells = self._next_cells, self._cells
        self._density, self._next_density = self._next_density, self._density
        share(work, lines, RATE * cells)

    def flow(self, part: str, u: NDArray, h: float, t: float = 0.0) -> None:
        if part == "drift" and self._streams:
            self._drift(u, h / self._spacing[1])
        if part == "kick" and self._accelerates:
            self._kick(u, h / self._spacing[0], t)

    def _drift(self, u: NDArray, factor: float) -> None:
        def work(first: int, last: int, place: int) -> None:
            lines = self._row_taps, self._positivity, *self._line[place]
            drift_by(u, self._speed, factor, self._table, self._places, *lines, first, last)

        share(work, u.shape[1], DRIFT * u.size / u.shape[1])

    def _kick(self, u: NDArray, factor: float, t: float) -> None:
        n, blocks, cost = self.columns, -(-self.columns // BLOCK), KICK * BLOCK * u.shape[1]
        poisson, ends = (self._density, *self._poisson(t), self._field), (self._positivity, self._closed)

        def density(first: int, last: int, place: int) -> None:
            sum_over_v(u, self._spacing[0], self._density, first * BLOCK, min(last * BLOCK, n))

        def kick_all(first: int, last: int, place: int) -> None:
            columns = first * BLOCK, min(last * BLOCK, n)
            arrays = self._table, self._places, self._column_taps, ends, self._block[place]
            kick_by(u, *poisson, factor, *arrays, *columns)

        share(density, blocks, SUM * BLOCK * u.size / n)
        share(kick_all, blocks, cost * len(u))
