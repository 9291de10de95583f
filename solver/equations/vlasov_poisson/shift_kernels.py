"""Numba kernels for Vlasov-Poisson: shifts along x and along v, which the split schemes compose.

As in kernels.py, states are (member, v, x), loops over x are innermost, and the order of sums does not depend on the
number of members.
"""

from __future__ import annotations

import math

import numpy as np

from ...backend import kernel
from . import array_code
from .kernels import electric_field

TAPS = 13  # of the widest reconstruction, of degree 12; narrower ones are padded with zeros
FARTHEST = array_code.FARTHEST
REACH = TAPS // 2
BLOCK = 64  # columns shifted along v together, in packed storage: columns a power of two apart evict each other


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


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def _distances(speed, factor, table, distance, whole, fraction, coefficients, first, last):
    """Whole cells that lines of these speeds move by into `whole`, and the taps of the rest into `coefficients`.

    In double precision, so that the part of a cell is precise after any number of whole ones; the taps in that of
    `coefficients`.
    """
    for i in range(first, last):
        distance[i] = speed[i] * factor
    split_shift(distance[first:last], whole[first:last], fraction[first:last])
    taps(fraction[first:last].astype(coefficients.dtype), table, coefficients, first, last)


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def drift_by(u, speed, factor, table, places, coefficients, positivity, line, mass, first, last):
    """`drift` of rows with these speeds by speed * factor cells; places: distance, fraction (row,) and whole (row,).

    One call of a thread, which waits for the interpreter's lock whenever it returns from compiled code.
    """
    distance, fraction, whole = places
    _distances(speed, factor, table, distance, whole, fraction, coefficients, first, last)
    drift(u, whole, coefficients, positivity, line, mass, first, last)


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def kick_by(u, density, green, external, field, factor, table, places, coefficients, ends, work, first, last):
    """`kick` of all members by field * factor cells, with the field of their density; ends: positivity, closed.

    One call of a thread, as for `drift_by`.
    """
    electric_field(density, green, external, field, first, last)
    distance, fraction, whole = places
    positivity, closed = ends
    block, moved, mass = work
    for b in range(u.shape[0]):
        _distances(field[b], factor, table, distance, whole, fraction, coefficients, first, last)
        kick(u[b], whole, coefficients, positivity, closed, block, moved, mass, first, last)
