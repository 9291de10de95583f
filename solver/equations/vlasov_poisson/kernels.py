"""Numba kernels for Vlasov-Poisson: the compiled versions of the functions of the same names in array_code.

States are (member, v, x). Loops over x, the contiguous axis, are innermost in both directions, so that they vectorise.
The order of sums over v and over cells does not depend on the number of members.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ...backend import in_single, kernel
from ...finite_volume.reconstruction import weno5_single
from . import array_code

TAPS = 13  # of the widest reconstruction, of degree 12; narrower ones are padded with zeros
FARTHEST = array_code.FARTHEST
REACH = TAPS // 2
BLOCK = 64  # columns shifted along v together, in packed storage: columns a power of two apart evict each other


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def sum_over_v(u, spacing, density, first, last):
    """density (member, x) = sum_v f dv, in double precision for any f, of the columns first ... last - 1."""
    for b in range(u.shape[0]):
        total = density[b, first:last]
        for i in range(total.shape[0]):
            total[i] = 0.0
        for j in range(u.shape[1]):
            row = u[b, j, first:last]
            for i in range(total.shape[0]):
                total[i] += row[i]
        for i in range(total.shape[0]):
            total[i] *= spacing


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def electric_field(density, green, field, first, last):
    """field_i = sum_j green[n + i - j] density_j (member, x), green of period n stored twice; first <= i < last.

    In double precision for any f: the field is what is left where the mean density has cancelled.
    """
    n = density.shape[1]
    for b in range(density.shape[0]):
        values = field[b, first:last]
        for i in range(values.shape[0]):
            values[i] = 0.0
        for j in range(n):
            shifted = green[n - j + first : n - j + last]
            value = density[b, j]
            for i in range(values.shape[0]):
                values[i] += shifted[i] * value


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
def extend(u, cells, first, last):
    """cells (v + 6, x + 6) = u (v, x) with three ghosts at every side: periodic in x; those in v stay zero.

    Of the columns first ... last - 1 of u.
    """
    height, n = u.shape
    inside = last - first
    for j in range(height):
        row, source = cells[j + 3, first + 3 : last + 3], u[j, first:last]
        for i in range(inside):
            row[i] = source[i]
        for i in range(3):
            left, right = n - 1 - i % n, i % n
            if first <= left < last:
                cells[j + 3, 2 - i] = u[j, left]
            if first <= right < last:
                cells[j + 3, n + 3 + i] = u[j, right]


@kernel(error_model="numpy", fastmath={"contract"})
def streaming(cells, velocity, spacing, flux, out, first, last):
    """out = -v f_x; cells (v + 6, x + 6) with three ghosts at every side. Of the columns first ... last - 1."""
    n = last - first
    for j in range(out.shape[0]):
        p, row = cells[j + 3, first : last + 6], out[j, first:last]
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
def acceleration(cells, field, spacing, closed, flux, out, first, last):
    """out += -E f_v; cells and columns as for streaming, field (column,); closed: no flux through the ends."""
    height, n = out.shape[0], last - first
    for i in range(n):
        flux[i] = 0.0
    for j in range(closed, height + 1 - closed):
        start, stop = first + 3, last + 3
        p0, p1, p2 = cells[j, start:stop], cells[j + 1, start:stop], cells[j + 2, start:stop]
        p3, p4, p5 = cells[j + 3, start:stop], cells[j + 4, start:stop], cells[j + 5, start:stop]
        row = out[j - 1 if j else 0, first:last]
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
        row = out[height - 1, first:last]
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
def taps(fraction, table, out, first, last):
    """out[m, first + i] = sum_d table[m, d] fraction_i^d by Horner's rule, first + i < last; table (tap, power)."""
    for m in range(out.shape[0]):
        row = out[m, first:last]
        for i in range(row.shape[0]):
            row[i] = table[m, table.shape[1] - 1]
        for d in range(table.shape[1] - 2, -1, -1):
            value = table[m, d]
            for i in range(row.shape[0]):
                row[i] = row[i] * fraction[i] + value


@kernel(error_model="numpy", fastmath={"contract"})
def drift(u, whole, coefficients, positivity, line, mass, first, last):
    """The rows first ... last - 1 of u moved by whole + fraction cells, in place, periodic; coefficients (tap, row)."""
    n = u.shape[2]
    c = np.empty(TAPS, u.dtype)
    for b in range(u.shape[0]):
        for j in range(first, last):
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
def kick(u, whole, coefficients, positivity, closed, block, moved, mass, start, stop):
    """Each column of u (v, x) moved by whole + fraction cells along v, in place; coefficients (tap, column).

    Mass that leaves at the ends is lost, or stays in the end cells if they are closed. Columns are shifted by their
    fractions in blocks, padded with zeros above and below. The result is stored shifted by whole cells, for one group
    of columns with the same shift after the other. Of the columns start ... stop - 1.
    """
    height = u.shape[0]
    c = np.empty((TAPS, BLOCK), u.dtype)
    for first in range(start, stop, BLOCK):
        width = min(BLOCK, stop - first)
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
