"""Numba kernels of the dimension-split scheme for shallow water: sweeps along one axis, member by member.

On a flat bottom a sweep is a MUSCL-Hancock step, in place (out is u): the states at the faces are advanced by half the
time with the equations along the axis, so that one flux per face is of second order (van Leer, SIAM J. Sci. Stat.
Comput. 5 (1984) 1; Toro (2001), section 9.5). Over a bottom it is a forward Euler step, one of the two stages of
Heun's method: see `array_code.shift`. The layout is that of balance_kernels: strips of TILE columns, lines at constant
offsets.

The arguments b (None on a flat bottom) and average (None, or True: out becomes the mean of itself and of the advanced
u) are resolved at compile time.
"""

from __future__ import annotations

import numba

from ...backend import kernel
from .pointwise_kernels import (
    GHOSTS,
    OPTIONS,
    STRIDE,
    TILE,
    VECTOR,
    copy,
    depths,
    half_slope,
    hllc,
    level,
    whole,
)

H, U, V, E = (k * STRIDE for k in range(4))
ROW = 4 * STRIDE
LAST, HERE, NEXT, HIGH, LEFT, RIGHT, FLUX = (k * ROW for k in range(7))
CARRY, INNER = 7 * ROW, 7 * ROW + 3 * STRIDE
SIZE = INNER + STRIDE + 2 * VECTOR


@numba.njit(inline="always")
def _faces(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2, half):
    """Half the differences across the cell, and the change of depth and transverse velocity in half the time."""
    h = half_slope(h_1 - h_0, h_2 - h_1)
    u = half_slope(u_1 - u_0, u_2 - u_1)
    v = half_slope(v_1 - v_0, v_2 - v_1)
    return h, u, v, -2.0 * half * (u_1 * h + h_1 * u), -2.0 * half * u_1 * v


@kernel(**OPTIONS)
def _states(s, n, b, half, gravity, dry_depth):
    """States at the faces of a row, on a flat bottom after half the time, and the force inside its cells."""
    for i in range(whole(n + 2)):
        k = i + GHOSTS - 1
        h_0, h_1, h_2 = s[HERE + H + k - 1], s[HERE + H + k], s[HERE + H + k + 1]
        u_0, u_1, u_2 = s[HERE + U + k - 1], s[HERE + U + k], s[HERE + U + k + 1]
        v_0, v_1, v_2 = s[HERE + V + k - 1], s[HERE + V + k], s[HERE + V + k + 1]
        h, u, v, h_ahead, v_ahead = _faces(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2, half)
        if b is None:
            e = h
            u_ahead = -2.0 * half * (u_1 * u + gravity * e)
            deep = h_1 - abs(h) + h_ahead >= 0.0
            h_1 += h_ahead if deep else 0.0
            u_1 += u_ahead if deep else 0.0
            v_1 += v_ahead if deep else 0.0
        else:
            e_1 = s[HERE + E + k]
            e = level(s[HERE + E + k - 1], e_1, s[HERE + E + k + 1], h_0, h_1, h_2, dry_depth)
            s[LEFT + E + k + 1], s[RIGHT + E + k] = e_1 + e, e_1 - e
        s[LEFT + H + k + 1], s[LEFT + U + k + 1], s[LEFT + V + k + 1] = h_1 + h, u_1 + u, v_1 + v
        s[RIGHT + H + k], s[RIGHT + U + k], s[RIGHT + V + k] = h_1 - h, u_1 - u, v_1 - v
        s[INNER + k] = 2.0 * gravity * h_1 * e


@kernel(**OPTIONS)
def _fluxes(s, n, b, gravity):
    for i in range(whole(n + 1)):
        k = i + GHOSTS
        h_left, h_right = s[LEFT + H + k], s[RIGHT + H + k]
        if b is not None:
            h_left, h_right = depths(h_left, s[LEFT + E + k], h_right, s[RIGHT + E + k])
        mass, before, after, over = hllc(
            h_left, s[LEFT + U + k], s[LEFT + V + k], h_right, s[RIGHT + U + k], s[RIGHT + V + k], gravity
        )
        s[FLUX + k], s[FLUX + STRIDE + k] = mass, before
        s[FLUX + 2 * STRIDE + k], s[FLUX + 3 * STRIDE + k] = after, over


@kernel(**OPTIONS)
def _load(depth, along, across, b, start, n, columns, same, turn, dry_depth, s):
    """A row of depth and momenta into lines of depth, velocities and surface; momenta change sign beyond walls."""
    copy(depth, start, n, columns, same, s[HERE + H :])
    copy(along, start, n, columns, turn, s[HERE + U :])
    copy(across, start, n, columns, same, s[HERE + V :])
    if b is not None:
        copy(b, start, n, columns, same, s[HERE + E :])
    for k in range(whole(n + 2 * GHOSTS)):
        h = max(s[HERE + H + k], 0.0)
        inverse = h / max(h * h, dry_depth * dry_depth)
        s[HERE + H + k], s[HERE + U + k], s[HERE + V + k] = h, s[HERE + U + k] * inverse, s[HERE + V + k] * inverse
        if b is not None:
            s[HERE + E + k] += h


@kernel(**OPTIONS)
def _add(u, factor, change, average, out):
    """out = u + factor change, or the mean of that and out."""
    for i in range(out.shape[0]):
        if average is None:
            out[i] = u[i] + factor * change[i]
        else:
            out[i] = 0.5 * (out[i] + (u[i] + factor * change[i]))


@kernel(**OPTIONS)
def along_x(u, out, average, b, columns, turn, same, per, gravity, dry_depth, row, s):
    """out = u advanced by the equations along x alone for a time h; per = h / dx; row: work array (3, column)."""
    width = u.shape[2]
    for m in range(0, u.shape[0], 3):
        for r in range(u.shape[1]):
            for f in range(3):
                source, target = u[m + f, r], row[f]
                for c in range(width):
                    target[c] = source[c]
            for start in range(0, width, TILE):
                n = min(TILE, width - start)
                ground = b[r] if b is not None else None
                _load(row[0], row[1], row[2], ground, start, n, columns, same, turn, dry_depth, s)
                _states(s, n, b, 0.5 * per, gravity, dry_depth)
                _fluxes(s, n, b, gravity)
                for i in range(n):
                    k = i + GHOSTS
                    s[LEFT + i] = s[FLUX + k] - s[FLUX + k + 1]
                    s[LEFT + STRIDE + i] = s[FLUX + 2 * STRIDE + k] - s[FLUX + STRIDE + k + 1] - s[INNER + k]
                    s[LEFT + 2 * STRIDE + i] = s[FLUX + 3 * STRIDE + k] - s[FLUX + 3 * STRIDE + k + 1]
                for f in range(3):
                    place = slice(start, start + n)
                    _add(row[f, place], per, s[LEFT + f * STRIDE :], average, out[m + f, r, place])


@kernel(**OPTIONS)
def _across(s, n, b, per, gravity, dry_depth):
    """Fluxes through the lower faces of a row. The change of the last row goes to RIGHT; then the rows move down."""
    half = 0.5 * per
    for k in range(whole(n)):
        h_0, h_1, h_2 = s[LAST + H + k], s[HERE + H + k], s[NEXT + H + k]
        u_0, u_1, u_2 = s[LAST + U + k], s[HERE + U + k], s[NEXT + U + k]
        v_0, v_1, v_2 = s[LAST + V + k], s[HERE + V + k], s[NEXT + V + k]
        h, v, u, h_ahead, u_ahead = _faces(h_0, h_1, h_2, v_0, v_1, v_2, u_0, u_1, u_2, half)
        if b is None:
            e = h
            v_ahead = -2.0 * half * (v_1 * v + gravity * e)
            deep = h_1 - abs(h) + h_ahead >= 0.0
            h_1 += h_ahead if deep else 0.0
            u_1 += u_ahead if deep else 0.0
            v_1 += v_ahead if deep else 0.0
        else:
            e_1 = s[HERE + E + k]
            e = level(s[LAST + E + k], e_1, s[NEXT + E + k], h_0, h_1, h_2, dry_depth)
        h_left, h_right = s[HIGH + H + k], h_1 - h
        if b is not None:
            h_left, h_right = depths(h_left, s[HIGH + E + k], h_right, e_1 - e)
        mass, before, after, over = hllc(h_left, s[HIGH + V + k], s[HIGH + U + k], h_right, v_1 - v, u_1 - u, gravity)
        s[RIGHT + k] = per * (s[CARRY + k] - mass)
        s[RIGHT + STRIDE + k] = per * (s[CARRY + 2 * STRIDE + k] - over)
        s[RIGHT + 2 * STRIDE + k] = per * (s[CARRY + STRIDE + k] - before - s[INNER + k])
        s[CARRY + k], s[CARRY + STRIDE + k], s[CARRY + 2 * STRIDE + k] = mass, after, over
        s[INNER + k] = 2.0 * gravity * h_1 * e
        s[HIGH + H + k], s[HIGH + U + k], s[HIGH + V + k] = h_1 + h, u_1 + u, v_1 + v
        if b is not None:
            s[HIGH + E + k] = e_1 + e
    for k in range(ROW):
        s[LAST + k] = s[HERE + k]
    for k in range(ROW):
        s[HERE + k] = s[NEXT + k]


@kernel(**OPTIONS)
def along_y(u, out, average, b, rows, turn, per, gravity, dry_depth, edge, s):
    """out = u advanced by the equations along y alone for a time h; per = h / dy.

    edge: work array (4, 3, TILE), a copy of the rows that ghosts repeat: the first two and the last two.
    """
    height, width = u.shape[1:]
    for m in range(0, u.shape[0], 3):
        for start in range(0, width, TILE):
            n = min(TILE, width - start)
            for i in range(4):
                r = i if i < 2 else height - 4 + i
                for f in range(3):
                    for c in range(n):
                        edge[i, f, c] = u[m + f, r, start + c]
            s[:] = 0.0
            for j in range(-3, height + 1):
                r = rows[j + 1 + GHOSTS]
                inside = 0 <= j + 1 < height
                place = r if r < 2 else r - height + 4
                for c in range(n):
                    h = u[m, r, start + c] if inside else edge[place, 0, c]
                    s[NEXT + H + c] = max(h, 0.0)
                for c in range(n):
                    s[NEXT + U + c] = u[m + 1, r, start + c] if inside else edge[place, 1, c]
                for c in range(n):
                    s[NEXT + V + c] = u[m + 2, r, start + c] if inside else edge[place, 2, c]
                sign = turn[j + 1 + GHOSTS]
                for k in range(whole(n)):
                    h = s[NEXT + H + k]
                    inverse = h / max(h * h, dry_depth * dry_depth)
                    s[NEXT + U + k], s[NEXT + V + k] = s[NEXT + U + k] * inverse, sign * s[NEXT + V + k] * inverse
                if b is not None:
                    ground = b[r, start : start + n]
                    for c in range(n):
                        s[NEXT + E + c] = ground[c] + s[NEXT + H + c]
                _across(s, n, b, per, gravity, dry_depth)
                if j >= 1:
                    for f in range(3):
                        place = slice(start, start + n)
                        _add(u[m + f, j - 1, place], 1.0, s[RIGHT + f * STRIDE :], average, out[m + f, j - 1, place])
