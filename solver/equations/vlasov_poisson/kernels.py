"""Numba kernels for Vlasov-Poisson: the compiled versions of the functions of the same names in array_code.

States are (member, v, x). Loops over x, the contiguous axis, are innermost in both directions, so that they vectorise.
The order of sums over v and over cells does not depend on the number of members.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from ...backend import in_single, kernel
from ...finite_volume.reconstruction import weno5_single
from ...grid import Grid
from . import array_code

TAPS = 13  # of the widest reconstruction, of degree 12; narrower ones are padded with zeros
FARTHEST = array_code.FARTHEST
REACH = TAPS // 2
BLOCK = 64  # columns shifted along v together, in packed storage: columns a power of two apart evict each other


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def electric_field(u, green, spacing, density, field):
    """density = sum_v f dv; field_i = sum_j green[n + i - j] density_j, green of period n stored twice.

    In double precision for any f: the field is what is left where the mean density has cancelled.
    """
    n = u.shape[2]
    for b in range(u.shape[0]):
        for i in range(n):
            density[b, i] = 0.0
            field[b, i] = 0.0
        for j in range(u.shape[1]):
            for i in range(n):
                density[b, i] += u[b, j, i]
        for i in range(n):
            density[b, i] *= spacing
        for j in range(n):
            shifted = green[n - j : 2 * n - j]
            value = density[b, j]
            for i in range(n):
                field[b, i] += shifted[i] * value


@numba.njit(inline="always")
def _square(x):
    return x * x


@numba.njit(inline="always")
def _weno5(a, b, c, d, e):
    """WENO-Z as in finite_volume, with the weights over a common denominator: one division in place of four.

    Separate from finite_volume.reconstruction.weno5_value on purpose: it measured faster here. The weights are products
    of twelve values of f, and the smoothness indicators are at least 1e-40: nothing overflows for f below 1e23.
    """
    if in_single(c):
        return weno5_single(a, b, c, d, e)
    s0 = 13 / 12 * _square(a - 2.0 * b + c) + 0.25 * _square(a - 4.0 * b + 3.0 * c)
    s1 = 13 / 12 * _square(b - 2.0 * c + d) + 0.25 * _square(b - d) + 1e-40
    s2 = 13 / 12 * _square(c - 2.0 * d + e) + 0.25 * _square(3.0 * c - 4.0 * d + e)
    tau = _square(s0 - s2)
    s0, s1, s2 = _square(s0 + 1e-40), _square(s1), _square(s2 + 1e-40)
    w0 = (s0 + tau) * (s1 * s2)
    w1 = 6.0 * (s1 + tau) * (s0 * s2)
    w2 = 3.0 * (s2 + tau) * (s0 * s1)
    value = w0 * (2.0 * a - 7.0 * b + 11.0 * c) + w1 * (5.0 * c - b + 2.0 * d) + w2 * (2.0 * c + 5.0 * d - e)
    return value / (6.0 * (w0 + w1 + w2))


@kernel()
def extend(u, cells):
    """cells (v + 6, x + 6) = u (v, x) with three ghosts at every side: periodic in x; those in v stay zero."""
    height, n = u.shape
    for j in range(height):
        row = cells[j + 3]
        for i in range(n):
            row[i + 3] = u[j, i]
        for i in range(3):
            row[2 - i] = row[n + 2 - i % n]
            row[n + 3 + i] = row[3 + i % n]


@kernel(error_model="numpy", fastmath={"contract"})
def streaming(cells, velocity, spacing, flux, out):
    """out = -v f_x; cells (v + 6, x + 6) with three ghosts at every side."""
    n = out.shape[1]
    for j in range(out.shape[0]):
        p, row = cells[j + 3], out[j]
        factor = velocity[j] / spacing
        if factor > 0:
            for i in range(n + 1):
                flux[i] = _weno5(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4])
        else:
            for i in range(n + 1):
                flux[i] = _weno5(p[i + 5], p[i + 4], p[i + 3], p[i + 2], p[i + 1])
        for i in range(n):
            row[i] = factor * (flux[i] - flux[i + 1])


@kernel(error_model="numpy", fastmath={"contract"})
def acceleration(cells, field, spacing, closed, flux, out):
    """out += -E f_v; cells as for streaming; closed: no flux through the ends."""
    height, n = out.shape
    for i in range(n):
        flux[i] = 0.0
    for j in range(closed, height + 1 - closed):
        p0, p1, p2 = cells[j, 3 : n + 3], cells[j + 1, 3 : n + 3], cells[j + 2, 3 : n + 3]
        p3, p4, p5 = cells[j + 3, 3 : n + 3], cells[j + 4, 3 : n + 3], cells[j + 5, 3 : n + 3]
        row = out[j - 1 if j else 0]
        for i in range(n):
            up = field[i] > 0
            v0, v1, v2, v3, v4, v5 = p0[i], p1[i], p2[i], p3[i], p4[i], p5[i]  # loads before selections: half the time
            a, b, c = v0 if up else v5, v1 if up else v4, v2 if up else v3
            d, e = v3 if up else v2, v4 if up else v1
            value = field[i] / spacing * _weno5(a, b, c, d, e)
            if j > 0:
                row[i] += flux[i] - value
            flux[i] = value
    if closed:
        row = out[height - 1]
        for i in range(n):
            row[i] += flux[i]


@kernel(error_model="numpy", fastmath={"contract"})
def split_shift(distance, whole, fraction):
    """distance = whole + fraction in cells, 0 <= fraction < 1; values that are not finite stay in the fraction."""
    for i in range(distance.shape[0]):
        below = math.floor(distance[i]) if abs(distance[i]) < FARTHEST else 0.0
        whole[i] = int(below)
        fraction[i] = distance[i] - below


@kernel(error_model="numpy", fastmath={"contract"})
def taps(fraction, table, out):
    """out[m, i] = sum_d table[m, d] fraction_i^d by Horner's rule; table (tap, power)."""
    for m in range(out.shape[0]):
        row = out[m]
        for i in range(row.shape[0]):
            row[i] = table[m, table.shape[1] - 1]
        for d in range(table.shape[1] - 2, -1, -1):
            value = table[m, d]
            for i in range(row.shape[0]):
                row[i] = row[i] * fraction[i] + value


@kernel(error_model="numpy", fastmath={"contract"})
def drift(u, whole, coefficients, positivity, line, mass):
    """Each row of u moved by whole + fraction cells, in place, periodic; coefficients (tap, row)."""
    n = u.shape[2]
    c = np.empty(TAPS, u.dtype)
    for b in range(u.shape[0]):
        for j in range(u.shape[1]):
            row = u[b, j]
            for m in range(TAPS):
                c[m] = coefficients[m, j]
            start = (-whole[j] - 1 - REACH) % n
            done = 0
            while done < n + TAPS:
                part = min(n - start, n + TAPS - done)
                source, target = row[start : start + part], line[done : done + part]
                for i in range(part):
                    target[i] = source[i]
                done += part
                start = 0
            for i in range(n + 1):
                total = 0.0
                for m in range(TAPS):
                    total += c[m] * line[i + m]
                mass[i] = total
            if positivity:
                for i in range(n + 1):
                    cell = line[i + REACH]
                    mass[i] = min(max(mass[i], min(cell, 0.0)), max(cell, 0.0))
            for i in range(n):
                row[i] = line[i + 1 + REACH] + mass[i] - mass[i + 1]


@kernel(error_model="numpy", fastmath={"contract"})
def kick(u, whole, coefficients, positivity, closed, block, moved, mass):
    """Each column of u (v, x) moved by whole + fraction cells along v, in place; coefficients (tap, column).

    Mass that leaves at the ends is lost, or stays in the end cells if they are closed. Columns are shifted by their
    fractions in blocks, padded with zeros above and below. The result is stored shifted by whole cells, for one group
    of columns with the same shift after the other.
    """
    height, n = u.shape
    c = np.empty((TAPS, BLOCK), u.dtype)
    for first in range(0, n, BLOCK):
        width = min(BLOCK, n - first)
        for j in range(height):
            source, target = u[j, first : first + width], block[TAPS + j]
            for i in range(width):
                target[i] = source[i]
        for m in range(TAPS):
            for i in range(width):
                c[m, i] = coefficients[m, first + i]
        for i in range(BLOCK):
            mass[i] = 0.0
        for j in range(moved.shape[0]):
            row = moved[j]
            for i in range(BLOCK):
                total = 0.0
                for m in range(TAPS):
                    total += c[m, i] * block[j + m, i]
                cell = block[j + REACH, i]
                if positivity:
                    total = min(max(total, min(cell, 0.0)), max(cell, 0.0))
                row[i] = cell + mass[i] - total
                mass[i] = total
        left = 0
        while left < width:
            cells = whole[first + left]
            right = left + 1
            while right < width and whole[first + right] == cells:
                right += 1
            for j in range(height):
                place, target = j - cells + TAPS - REACH, u[j, first + left : first + right]
                if 0 <= place < moved.shape[0]:
                    source = moved[place, left:right]
                    for i in range(right - left):
                        target[i] = source[i]
                else:
                    for i in range(right - left):
                        target[i] = 0.0
            if closed:
                bottom = TAPS - REACH - cells  # row of what was moved into the lowest cell
                for j in range(min(bottom, moved.shape[0])):
                    for i in range(left, right):
                        u[0, first + i] += moved[j, i]
                for j in range(max(bottom + height, 0), moved.shape[0]):
                    for i in range(left, right):
                        u[height - 1, first + i] += moved[j, i]
            left = right


class Transport:
    """The right-hand side and the split flows of Vlasov-Poisson for a batch (member, v, x).

    streams, accelerates: whether the terms v f_x and E f_v are in the model.
    """

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
        self._positivity, self._closed, self._streams, self._accelerates = positivity, closed, streams, accelerates
        narrow = array_code.fraction_table(order)
        self._table = np.zeros((TAPS, TAPS + 1), dtype)
        spare = (TAPS - len(narrow)) // 2
        self._table[spare : TAPS - spare, : narrow.shape[1]] = narrow
        self._density, self._field = np.zeros((2, members, n))
        self._cells, self._flux = np.zeros((height + 6, n + 6), dtype), np.zeros(n + 1, dtype)
        self._distance, self._fraction = np.zeros((2, max(height, n)))
        self._whole = np.zeros(max(height, n), dtype=np.int64)
        self._row_taps, self._column_taps = np.zeros((TAPS, height), dtype), np.zeros((TAPS, n), dtype)
        self._line, self._mass = np.zeros(n + TAPS, dtype), np.zeros(max(n + 1, BLOCK), dtype)
        self._block = np.zeros((height + 2 * TAPS, BLOCK), dtype)
        self._moved = np.zeros((height + TAPS + 1, BLOCK), dtype)

    def field(self, u: NDArray) -> NDArray:
        """E (member, x) in double precision, in an array that the next call overwrites."""
        electric_field(u, self._green, self._spacing[0], self._density, self._field)
        return self._field

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        field = (self.field(u) if self._accelerates else self._field).astype(u.dtype, copy=False)
        for f, e, rate in zip(u, field, out, strict=True):
            extend(f, self._cells)
            if self._streams:
                streaming(self._cells, self._velocity, self._spacing[1], self._flux, rate)
            else:
                rate[...] = 0.0
            if self._accelerates:
                acceleration(self._cells, e, self._spacing[0], self._closed, self._flux, rate)

    def flow(self, part: str, u: NDArray, h: float) -> None:
        if part == "drift" and self._streams:
            whole = self._prepare(self._speed, h / self._spacing[1], self._row_taps)
            drift(u, whole, self._row_taps, self._positivity, self._line, self._mass)
        if part == "kick" and self._accelerates:
            for f, e in zip(u, self.field(u), strict=True):
                whole = self._prepare(e, h / self._spacing[0], self._column_taps)
                kick(f, whole, self._column_taps, self._positivity, self._closed, self._block, self._moved, self._mass)

    def _prepare(self, speed: NDArray, factor: float, coefficients: NDArray) -> NDArray:
        """Whole cells that lines of these speeds move by; the taps of the rest go into `coefficients`.

        speed is in double precision, so that the part of a cell is precise after any number of whole ones.
        """
        n = len(speed)
        distance, fraction, whole = self._distance[:n], self._fraction[:n], self._whole[:n]
        np.multiply(speed, factor, out=distance)
        split_shift(distance, whole, fraction)
        taps(fraction.astype(coefficients.dtype, copy=False), self._table, coefficients)
        return whole
