"""CUDA kernels of Vlasov-Poisson: one thread for each cell of phase space, or for each line.

Arithmetic is in double precision for either type of array. States are (member, 1, v, x); beyond the ends in v f = 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from ...backend.device_functions import larger, smaller
from .array_code import FARTHEST

TINY = 1e-40  # added to smoothness indicators


@cuda.jit(device=True)
def square(x):
    return x * x


@cuda.jit(device=True)
def weno5(a, b, c, d, e):
    """WENO-Z value at the face between c and d, biased towards c, with one division: see kernels.py."""
    s0 = 13 / 12 * square(a - 2.0 * b + c) + 0.25 * square(a - 4.0 * b + 3.0 * c)
    s1 = 13 / 12 * square(b - 2.0 * c + d) + 0.25 * square(b - d)
    s2 = 13 / 12 * square(c - 2.0 * d + e) + 0.25 * square(3.0 * c - 4.0 * d + e)
    tau = square(s0 - s2)
    s0, s1, s2 = square(s0 + TINY), square(s1 + TINY), square(s2 + TINY)
    w0, w1, w2 = (s0 + tau) * (s1 * s2), 6.0 * (s1 + tau) * (s0 * s2), 3.0 * (s2 + tau) * (s0 * s1)
    value = w0 * (2.0 * a - 7.0 * b + 11.0 * c) + w1 * (5.0 * c - b + 2.0 * d) + w2 * (2.0 * c + 5.0 * d - e)
    return value / (6.0 * (w0 + w1 + w2))


@cuda.jit(device=True)
def upwind(speed, a, b, c, d, e, f):
    """The state at the face between c and d from the side that the speed comes from."""
    if speed > 0.0:
        return weno5(a, b, c, d, e)
    return weno5(f, e, d, c, b)


@cuda.jit(device=True)
def value(u, m, j, i):
    """f, 0 beyond the ends in v."""
    return float(u[m, 0, j, i]) if 0 <= j < u.shape[2] else 0.0


@cuda.jit(device=True)
def around(u, m, j, i, n):
    """f, periodic in x."""
    return float(u[m, 0, j, i % n])


@functools.cache
def rates(streams: bool, accelerates: bool, closed: bool) -> Callable[..., Any]:
    """The kernel of -v f_x - E f_v; whether each term is in the model, and whether no flux passes the ends in v."""

    def kernel(u, velocity, field, dv, dx, out):
        """out = the rates of u. velocity (v, 1); field (member, 1, x). The grid of threads is (x, v, member)."""
        i, j, m = cuda.grid(3)
        members, _, height, n = u.shape
        if i >= n or j >= height or m >= members:
            return
        rate, d = 0.0, float(u[m, 0, j, i])
        if streams:
            speed = float(velocity[j, 0])
            a, b, c = around(u, m, j, i - 3, n), around(u, m, j, i - 2, n), around(u, m, j, i - 1, n)
            e, f, g = around(u, m, j, i + 1, n), around(u, m, j, i + 2, n), around(u, m, j, i + 3, n)
            rate += speed / dx * (upwind(speed, a, b, c, d, e, f) - upwind(speed, b, c, d, e, f, g))
        if accelerates:
            speed = float(field[m, 0, i])
            a, b, c = value(u, m, j - 3, i), value(u, m, j - 2, i), value(u, m, j - 1, i)
            e, f, g = value(u, m, j + 1, i), value(u, m, j + 2, i), value(u, m, j + 3, i)
            below, above = upwind(speed, a, b, c, d, e, f), upwind(speed, b, c, d, e, f, g)
            if closed and j == 0:
                below = 0.0
            if closed and j == height - 1:
                above = 0.0
            rate += speed / dv * (below - above)
        out[m, 0, j, i] = rate

    return kernel


def taps(speed, spacing, h, table, whole, coefficients):
    """Lines (batch, line) that move by speed h / spacing cells: whole cells, and taps (batch, tap, line) of the rest.

    See array_code.shift. The grid of threads is (line, tap, batch).
    """
    i, k, b = cuda.grid(3)
    batch, count, lines = coefficients.shape
    if i >= lines or k >= count or b >= batch:
        return
    distance = float(speed[b, i]) * (float(h[0]) / spacing)
    below = math.floor(distance) if abs(distance) < FARTHEST else 0.0
    fraction = distance - below
    found = 0.0
    for d in range(table.shape[1] - 1, -1, -1):
        found = found * fraction + float(table[k, d])
    coefficients[b, k, i] = found
    if k == 0:
        whole[b, i] = int(below)


@cuda.jit(device=True)
def clipped(mass, middle, positivity):
    """The mass in the right part of a cell; with `positivity` between zero and all of it."""
    return smaller(larger(mass, smaller(middle, 0.0)), larger(middle, 0.0)) if positivity else mass


@functools.cache
def drift(positivity: bool) -> Callable[..., Any]:
    """The kernel of the shift along x, which is periodic."""

    def kernel(u, whole, coefficients, out):
        """out = u with each row moved by its whole cells and its part of one: whole (1, v), coefficients (1, tap, v).

        The grid of threads is (x, v, member).
        """
        i, j, m = cuda.grid(3)
        members, _, height, n = u.shape
        if i >= n or j >= height or m >= members:
            return
        count = coefficients.shape[1]
        at = i - whole[0, j]  # the cell that comes here
        first = (at - 1 - count // 2) % n
        before, mass = 0.0, 0.0
        middle = float(u[m, 0, j, at % n])
        ahead = float(u[m, 0, j, first])
        for k in range(count):
            tap = coefficients[0, k, j]
            before += tap * ahead
            first += 1
            if first == n:
                first = 0
            ahead = float(u[m, 0, j, first])
            mass += tap * ahead
        before = clipped(before, float(u[m, 0, j, (at - 1) % n]), positivity)
        out[m, 0, j, i] = middle - clipped(mass, middle, positivity) + before

    return kernel


@cuda.jit(device=True)
def moved(u, coefficients, m, at, i, positivity):
    """What arrives at whole cells from the cell `at` of the column i of member m, whose taps are `coefficients`."""
    count = coefficients.shape[1]
    first = at - 1 - count // 2
    before, mass = 0.0, 0.0
    ahead = value(u, m, first, i)
    for k in range(count):
        tap = coefficients[m, k, i]
        before += tap * ahead
        ahead = value(u, m, first + 1 + k, i)
        mass += tap * ahead
    middle = value(u, m, at, i)
    before = clipped(before, value(u, m, at - 1, i), positivity)
    return middle - clipped(mass, middle, positivity) + before


@functools.cache
def kick(positivity: bool, closed: bool) -> Callable[..., Any]:
    """The kernel of the shift along v. closed: what would leave stays in the cells at the ends."""

    def kernel(u, whole, coefficients, out):
        """out = u with each column moved by its whole cells and its part of one; whole, coefficients (member, *, x).

        The grid of threads is (x, v, member).
        """
        i, j, m = cuda.grid(3)
        members, _, height, n = u.shape
        if i >= n or j >= height or m >= members:
            return
        reach, cells = coefficients.shape[1] // 2 + 1, whole[m, i]
        found = moved(u, coefficients, m, j - cells, i, positivity)
        if closed and j == 0:
            for at in range(-reach, smaller(-cells, height + reach)):
                found += moved(u, coefficients, m, at, i, positivity)
        if closed and j == height - 1:
            for at in range(larger(height - cells, -reach), height + reach):
                found += moved(u, coefficients, m, at, i, positivity)
        out[m, 0, j, i] = found

    return kernel
