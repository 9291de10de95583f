"""CUDA kernels of shallow water: one thread for each cell, and the scheme of array_code and sweep_array_code.

Arithmetic is in double precision for either type of array. A cell is (h, e, u, v, q, p): depth, surface, velocities and
momenta along an axis and across it. The states at its lower and its upper face are eight numbers: h, e, u, v of each.
A thread computes all fluxes through the faces of its cell: its neighbours compute them again, and nothing is stored.

columns, rows: numbers of the cells with GHOSTS ghost cells at either end; turn_x, turn_y: -1 beyond a wall, else 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from ...backend.device_functions import device_function, larger, smaller
from . import pointwise_kernels, sweep_kernels
from .pointwise_kernels import GHOSTS

half_slope, level, square = (device_function(getattr(pointwise_kernels, n)) for n in ("half_slope", "level", "square"))
depths, hllc, smooth = (device_function(getattr(pointwise_kernels, n)) for n in ("depths", "hllc", "smooth"))
flat, roe_hllc = device_function(sweep_kernels.flat), device_function(sweep_kernels.roe_hllc)
TINY = 1e-40  # added to smoothness indicators
WET = 1e-300  # water^(7/3) may underflow


@cuda.jit(device=True)
def muscl(a, b, c, bottomed, dry):
    """States at both faces of the cell b."""
    h, u, v = (
        half_slope(b[0] - a[0], c[0] - b[0]),
        half_slope(b[2] - a[2], c[2] - b[2]),
        half_slope(b[3] - a[3], c[3] - b[3]),
    )
    e = level(a[1], b[1], c[1], a[0], b[0], c[0], dry) if bottomed else h
    return b[0] - h, b[1] - e, b[2] - u, b[3] - v, b[0] + h, b[1] + e, b[2] + u, b[3] + v


@cuda.jit(device=True)
def weno5(a, b, c, d, e):
    """Values at the lower and the upper face of the cell c; pointwise_kernels.weno5 in double precision."""
    d1, d2, d3, d4 = b - a, c - b, d - c, e - d
    s0 = 13 / 12 * square(d2 - d1) + 0.25 * square(3.0 * d2 - d1) + TINY
    s1 = 13 / 12 * square(d3 - d2) + 0.25 * square(d2 + d3) + TINY
    s2 = 13 / 12 * square(d4 - d3) + 0.25 * square(3.0 * d3 - d4) + TINY
    tau = abs(s0 - s2)
    w0, w1, w2 = 1.0 + square(tau / s0), 6.0 * (1.0 + square(tau / s1)), 1.0 + square(tau / s2)
    high = w0 * (5.0 * d2 - 2.0 * d1) + w1 * (d2 + 2.0 * d3) + 3.0 * w2 * (4.0 * d3 - d4)
    low = w2 * (5.0 * d3 - 2.0 * d4) + w1 * (d3 + 2.0 * d2) + 3.0 * w0 * (4.0 * d2 - d1)
    return c - low / (6.0 * (w2 + w1 + 3.0 * w0)), c + high / (6.0 * (w0 + w1 + 3.0 * w2))


@cuda.jit(device=True)
def wide_faces(z, a, b, c, d, bottomed, dry):
    """States at both faces of the cell b: WENO5 where it is safe, else MUSCL; see array_code."""
    h_low, e_low, u_low, v_low, h_high, e_high, u_high, v_high = muscl(a, b, c, bottomed, dry)
    below, above = weno5(z[0], a[0], b[0], c[0], d[0])
    wet = smaller(smaller(smaller(z[0], a[0]), smaller(c[0], d[0])), b[0]) > dry
    resolved = wet and larger(abs(below - b[0]), abs(above - b[0])) <= 0.5 * b[0]
    if bottomed:
        resolved = resolved and smooth(z[1] - z[0], a[1] - a[0], b[1] - b[0], c[1] - c[0], d[1] - d[0], b[0])
    if resolved:
        h_low, h_high = below, above
        e_low, e_high = weno5(z[1], a[1], b[1], c[1], d[1])
        q_low, q_high = weno5(z[4], a[4], b[4], c[4], d[4])
        p_low, p_high = weno5(z[5], a[5], b[5], c[5], d[5])
        u_low, u_high, v_low, v_high = q_low / below, q_high / above, p_low / below, p_high / above
    return h_low, e_low, u_low, v_low, h_high, e_high, u_high, v_high


@cuda.jit(device=True)
def flux(left, right, bottomed, gravity):
    """`hllc` through the face between two cells, from the states at the faces of both."""
    h_left, h_right = left[4], right[0]
    if bottomed:
        h_left, h_right = depths(left[4], left[5], right[0], right[1])
    return hllc(h_left, left[6], left[7], h_right, right[2], right[3], gravity)


@cuda.jit(device=True)
def changes(below, here, above, bottomed, gravity):
    """Rates of h, q and p, times the spacing, of the cell in the middle."""
    mass_0, _, after_0, over_0 = flux(below, here, bottomed, gravity)
    mass_1, before_1, _, over_1 = flux(here, above, bottomed, gravity)
    force = 0.5 * gravity * (here[0] + here[4]) * (here[5] - here[1])
    return mass_0 - mass_1, after_0 - before_1 - force, over_0 - over_1


@cuda.jit(device=True)
def load(u, ground, bottomed, b, r, c, along, turn, dry):
    """The cell (r, c) of member b; along: the number of the field h u or h v along the axis."""
    h = larger(float(u[b, 0, r, c]), 0.0)
    q, p = turn * float(u[b, along, r, c]), float(u[b, 3 - along, r, c])
    inverse = h / larger(h * h, dry * dry)
    e = h + float(ground[r, c]) if bottomed else h
    return h, e, q * inverse, p * inverse, q, p


@cuda.jit(device=True)
def along_line(y, z, a, b, c, d, e, bottomed, wide, gravity, dry):
    """`changes` of the cell b from seven cells of a line; the first and the last are those of WENO5."""
    if wide:
        below, here = wide_faces(y, z, a, b, c, bottomed, dry), wide_faces(z, a, b, c, d, bottomed, dry)
        above = wide_faces(a, b, c, d, e, bottomed, dry)
    else:
        below, here, above = muscl(z, a, b, bottomed, dry), muscl(a, b, c, bottomed, dry), muscl(b, c, d, bottomed, dry)
    return changes(below, here, above, bottomed, gravity)


@functools.cache
def balance(bottomed: bool, wide: bool, x: bool, y: bool) -> Callable[..., Any]:
    """The kernel of the rates by the fluxes along x, y or both.

    bottomed: whether there is a bottom, `ground`; wide: WENO5 in place of MUSCL.
    """

    def kernel(u, ground, rows, columns, turn_y, turn_x, per_y, per_x, gravity, coriolis, dry, weights, base, out):
        """out = weights_0 base + weights_1 u + weights_2 N(u), each (member, 3, y, x); per = 1 / spacing.

        The grid of threads is (x, y, member).
        """
        i, j, m = cuda.grid(3)
        members, _, height, width = u.shape
        if i >= width or j >= height or m >= members:
            return
        depth, along, over = 0.0, 0.0, 0.0
        if x:
            k = i + GHOSTS
            z = load(u, ground, bottomed, m, j, columns[k - 2], 1, turn_x[k - 2], dry)
            a = load(u, ground, bottomed, m, j, columns[k - 1], 1, turn_x[k - 1], dry)
            b = load(u, ground, bottomed, m, j, i, 1, 1.0, dry)
            c = load(u, ground, bottomed, m, j, columns[k + 1], 1, turn_x[k + 1], dry)
            d = load(u, ground, bottomed, m, j, columns[k + 2], 1, turn_x[k + 2], dry)
            first = load(u, ground, bottomed, m, j, columns[k - 3], 1, turn_x[k - 3], dry) if wide else z
            last = load(u, ground, bottomed, m, j, columns[k + 3], 1, turn_x[k + 3], dry) if wide else d
            mass, pushed, carried = along_line(first, z, a, b, c, d, last, bottomed, wide, gravity, dry)
            depth, along, over = per_x * mass, per_x * pushed, per_x * carried
        if y:
            k = j + GHOSTS
            z = load(u, ground, bottomed, m, rows[k - 2], i, 2, turn_y[k - 2], dry)
            a = load(u, ground, bottomed, m, rows[k - 1], i, 2, turn_y[k - 1], dry)
            b = load(u, ground, bottomed, m, j, i, 2, 1.0, dry)
            c = load(u, ground, bottomed, m, rows[k + 1], i, 2, turn_y[k + 1], dry)
            d = load(u, ground, bottomed, m, rows[k + 2], i, 2, turn_y[k + 2], dry)
            first = load(u, ground, bottomed, m, rows[k - 3], i, 2, turn_y[k - 3], dry) if wide else z
            last = load(u, ground, bottomed, m, rows[k + 3], i, 2, turn_y[k + 3], dry) if wide else d
            mass, pushed, carried = along_line(first, z, a, b, c, d, last, bottomed, wide, gravity, dry)
            depth, along, over = depth + per_y * mass, along + per_y * carried, over + per_y * pushed
        if coriolis != 0.0:
            h, _, v, w, _, _ = load(u, ground, False, m, j, i, 1, 1.0, dry)
            along += coriolis * h * w
            over -= coriolis * h * v
        known, now, change = weights[0], weights[1], weights[2]
        out[m, 0, j, i] = known * base[m, 0, j, i] + now * u[m, 0, j, i] + change * depth
        out[m, 1, j, i] = known * base[m, 1, j, i] + now * u[m, 1, j, i] + change * along
        out[m, 2, j, i] = known * base[m, 2, j, i] + now * u[m, 2, j, i] + change * over

    return kernel


@cuda.jit(device=True)
def load_wave(u, b, r, c, along, turn, gravity, dry):
    """2 sqrt(g h) and the velocities along the axis and across it."""
    h = larger(float(u[b, 0, r, c]), 0.0)
    inverse = h / larger(h * h, dry * dry)
    return (
        2.0 * math.sqrt(gravity * h),
        turn * float(u[b, along, r, c]) * inverse,
        float(u[b, 3 - along, r, c]) * inverse,
    )


@cuda.jit(device=True)
def advanced(a, b, c, per):
    """`flat` of the cell b: c, u, v at its lower and its upper face after half a step."""
    return flat(a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2], per)


@functools.cache
def sweep(x: bool) -> Callable[..., Any]:
    """The kernel of the step along x, or else along y, on a flat bottom."""

    def kernel(u, cells, turn, spacing, gravity, dry, h, out):
        """out = u after the time h[0]: sweep_array_code.flat; cells, turn: those of the axis.

        The grid of threads is (x, y, member).
        """
        i, j, m = cuda.grid(3)
        members, _, height, width = u.shape
        if i >= width or j >= height or m >= members:
            return
        per = h[0] / spacing
        if x:
            k = i + GHOSTS
            z = load_wave(u, m, j, cells[k - 2], 1, turn[k - 2], gravity, dry)
            a = load_wave(u, m, j, cells[k - 1], 1, turn[k - 1], gravity, dry)
            b = load_wave(u, m, j, i, 1, 1.0, gravity, dry)
            c = load_wave(u, m, j, cells[k + 1], 1, turn[k + 1], gravity, dry)
            d = load_wave(u, m, j, cells[k + 2], 1, turn[k + 2], gravity, dry)
        else:
            k = j + GHOSTS
            z = load_wave(u, m, cells[k - 2], i, 2, turn[k - 2], gravity, dry)
            a = load_wave(u, m, cells[k - 1], i, 2, turn[k - 1], gravity, dry)
            b = load_wave(u, m, j, i, 2, 1.0, gravity, dry)
            c = load_wave(u, m, cells[k + 1], i, 2, turn[k + 1], gravity, dry)
            d = load_wave(u, m, cells[k + 2], i, 2, turn[k + 2], gravity, dry)
        below, here, above = advanced(z, a, b, per), advanced(a, b, c, per), advanced(b, c, d, per)
        mass_0, along_0, over_0 = roe_hllc(below[3], below[4], below[5], here[0], here[1], here[2], gravity)
        mass_1, along_1, over_1 = roe_hllc(here[3], here[4], here[5], above[0], above[1], above[2], gravity)
        field = 1 if x else 2
        out[m, 0, j, i] = u[m, 0, j, i] + per * (mass_0 - mass_1)
        out[m, field, j, i] = u[m, field, j, i] + per * (along_0 - along_1)
        out[m, 3 - field, j, i] = u[m, 3 - field, j, i] + per * (over_0 - over_1)

    return kernel


def relax(u, friction, dry, round_off, h, out):
    """out = u after the time h[0] of Manning's friction, with what array_code.relax does to nearly dry cells.

    friction: g n^2. Threads: (x, y, member).
    """
    i, j, m = cuda.grid(3)
    members, _, height, width = u.shape
    if i >= width or j >= height or m >= members:
        return
    depth, q, p = float(u[m, 0, j, i]), float(u[m, 1, j, i]), float(u[m, 2, j, i])
    factor, water = 1.0, larger(depth, 0.0)
    if depth < dry:
        factor = water * water / (dry * dry)
        if depth >= -round_off * dry:
            depth = water
    if friction > 0.0:
        size = math.sqrt(q * q + p * p) * factor
        power = water ** (7 / 3)
        factor = factor * power / (power + friction * h[0] * size) if power > WET else 0.0
    out[m, 0, j, i], out[m, 1, j, i], out[m, 2, j, i] = depth, q * factor, p * factor
