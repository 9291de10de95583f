"""Numba kernels of the dimension-split scheme for shallow water: sweeps along one axis, member by member.

On a flat bottom a sweep is one step of a scheme with one flux per face, in place (out is u): see
`sweep_array_code.flat`. Over a bottom it is a forward Euler step, one of the two stages of Heun's method: see
`sweep_array_code.shift`. The layout is that of balance_kernels: strips of TILE columns, lines at constant offsets.

The arguments b (None on a flat bottom) and average (None, or True: out becomes the mean of itself and of the advanced
u) are resolved at compile time.
"""

from __future__ import annotations

import math

import numba

from ...backend import kernel
from .pointwise_kernels import (
    GHOSTS,
    NO_WATER,
    OPTIONS,
    SMALLEST,
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
def changes(below, above, courant):
    """sweep_array_code.changes."""
    upwards = courant >= 0.0
    n = min(abs(courant), 1.0)
    rest = 1.0 - n
    back, fore = abs(below), abs(above)
    back = back if below * above > 0.0 else 0.0
    behind, ahead = back if upwards else fore, fore if upwards else back
    lean = max(n, 0.5)
    middle = (1 / 6) * rest * ((2.0 - lean) * ahead + (1.0 + lean) * behind)
    near = math.copysign(min(min(rest * behind, ahead), middle), above)
    far = math.copysign((0.5 + 0.5 * n) * min(behind, ahead), above)
    return far if upwards else near, near if upwards else far


@numba.njit(inline="always")
def flat(w_0, w_1, w_2, u_0, u_1, u_2, v_0, v_1, v_2, per):
    """c, u and v at the lower and at the upper face after half the time: sweep_array_code.faces; w = 2 c."""
    c, u_below, u_above, w_below, w_above = 0.5 * w_1, u_1 - u_0, u_2 - u_1, w_1 - w_0, w_2 - w_1
    p_low, p_high = changes(u_below + w_below, u_above + w_above, (c + u_1) * per)
    m_high, m_low = changes(u_above - w_above, u_below - w_below, (c - u_1) * per)
    v, shift = half_slope(v_1 - v_0, v_2 - v_1), u_1 * per
    below, above = 0.25 * (p_low - m_low), 0.25 * (p_high - m_high)
    if max(abs(below), abs(above)) > 0.5 * c:
        below = above = p_low = m_low = p_high = m_high = v = 0.0
    c_low, c_high = c - below, c + above
    u_low, u_high = u_1 - 0.5 * (p_low + m_low), u_1 + 0.5 * (p_high + m_high)
    return c_low, u_low, v_1 - v * (1.0 + shift), c_high, u_high, v_1 + v * (1.0 - shift)


@numba.njit(inline="always")
def roe_hllc(c_left, u_left, v_left, c_right, u_right, v_right, gravity):
    """sweep_array_code.roe_hllc."""
    left, right = c_left * c_left, c_right * c_right
    h_left, h_right = left * (1.0 / gravity), right * (1.0 / gravity)
    w_left = u_left if h_left > NO_WATER else u_right - 2.0 * c_right
    w_right = u_right if h_right > NO_WATER else u_left + 2.0 * c_left
    u_star = 0.5 * (w_left + w_right) + c_left - c_right
    c_star = 0.5 * (c_left + c_right) + 0.25 * (w_left - w_right)
    u_roe = (c_left * w_left + c_right * w_right) / max(c_left + c_right, SMALLEST)
    c_roe = math.sqrt(0.5 * (left + right))
    first, last = w_left - c_left, w_right + c_right
    slow = min(min(u_roe - c_roe, w_left if first * (u_star - c_star) > 0.0 else first), 0.0)
    fast = max(max(u_roe + c_roe, w_right if last * (u_star + c_star) > 0.0 else last), 0.0)
    inverse = 1.0 / max(fast - slow, SMALLEST)
    skew, spread = 0.5 * (fast + slow) * inverse, fast * slow * inverse
    q_left, q_right = h_left * w_left, h_right * w_right
    m_left, m_right = q_left * w_left + 0.5 * left * h_left, q_right * w_right + 0.5 * right * h_right
    mass = 0.5 * (q_left + q_right) + skew * (q_left - q_right) + spread * (h_right - h_left)
    along = 0.5 * (m_left + m_right) + skew * (m_left - m_right) + spread * (q_right - q_left)
    return mass, along, mass * (v_left if mass > 0.0 else v_right)


@numba.njit(inline="always")
def _slopes(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2):
    """Half the differences across the cell."""
    return half_slope(h_1 - h_0, h_2 - h_1), half_slope(u_1 - u_0, u_2 - u_1), half_slope(v_1 - v_0, v_2 - v_1)


@kernel(**OPTIONS)
def _states(s, n, b, per, gravity, dry_depth):
    """States at the faces of a row: on a flat bottom after half the time; over a bottom with the force in the cells."""
    for i in range(whole(n + 2)):
        k = i + GHOSTS - 1
        h_0, h_1, h_2 = s[HERE + H + k - 1], s[HERE + H + k], s[HERE + H + k + 1]
        u_0, u_1, u_2 = s[HERE + U + k - 1], s[HERE + U + k], s[HERE + U + k + 1]
        v_0, v_1, v_2 = s[HERE + V + k - 1], s[HERE + V + k], s[HERE + V + k + 1]
        if b is None:
            h_low, u_low, v_low, h_high, u_high, v_high = flat(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2, per)
        else:
            h, u, v = _slopes(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2)
            h_low, u_low, v_low, h_high, u_high, v_high = h_1 - h, u_1 - u, v_1 - v, h_1 + h, u_1 + u, v_1 + v
            e_1 = s[HERE + E + k]
            e = level(s[HERE + E + k - 1], e_1, s[HERE + E + k + 1], h_0, h_1, h_2, dry_depth)
            s[LEFT + E + k + 1], s[RIGHT + E + k] = e_1 + e, e_1 - e
            s[INNER + k] = 2.0 * gravity * h_1 * e
        s[LEFT + H + k + 1], s[LEFT + U + k + 1], s[LEFT + V + k + 1] = h_high, u_high, v_high
        s[RIGHT + H + k], s[RIGHT + U + k], s[RIGHT + V + k] = h_low, u_low, v_low


@kernel(**OPTIONS)
def _fluxes(s, n, b, gravity):
    for i in range(whole(n + 1)):
        k = i + GHOSTS
        h_left, h_right = s[LEFT + H + k], s[RIGHT + H + k]
        u_left, u_right, v_left, v_right = s[LEFT + U + k], s[RIGHT + U + k], s[LEFT + V + k], s[RIGHT + V + k]
        if b is None:
            mass, before, over = roe_hllc(h_left, u_left, v_left, h_right, u_right, v_right, gravity)
        else:
            h_left, h_right = depths(h_left, s[LEFT + E + k], h_right, s[RIGHT + E + k])
            mass, before, after, over = hllc(h_left, u_left, v_left, h_right, u_right, v_right, gravity)
            s[FLUX + 2 * STRIDE + k] = after
        s[FLUX + k], s[FLUX + STRIDE + k], s[FLUX + 3 * STRIDE + k] = mass, before, over


@kernel(**OPTIONS)
def _load(depth, along, across, b, start, n, columns, same, turn, gravity, dry_depth, s):
    """A row of depth and momenta into lines of depth, velocities and surface; momenta change sign beyond walls.

    On a flat bottom 2 c, c the speed of sound, takes the place of the depth.
    """
    copy(depth, start, n, columns, same, s[HERE + H :])
    copy(along, start, n, columns, turn, s[HERE + U :])
    copy(across, start, n, columns, same, s[HERE + V :])
    if b is not None:
        copy(b, start, n, columns, same, s[HERE + E :])
    for k in range(whole(n + 2 * GHOSTS)):
        h = max(s[HERE + H + k], 0.0)
        inverse = h / max(h * h, dry_depth * dry_depth)
        s[HERE + U + k], s[HERE + V + k] = s[HERE + U + k] * inverse, s[HERE + V + k] * inverse
        if b is None:
            s[HERE + H + k] = 2.0 * math.sqrt(gravity * h)
        else:
            s[HERE + H + k] = h
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
def along_x(u, out, average, b, columns, turn, same, per, gravity, dry_depth, row, s, first, last):
    """out = u advanced by the equations along x alone for a time h; per = h / dx; row: work array (3, column).

    Of the rows first ... last - 1.
    """
    width = u.shape[2]
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            for f in range(3):
                source, target = u[m + f, r], row[f]
                for c in range(width):
                    target[c] = source[c]
            for start in range(0, width, TILE):
                n = min(TILE, width - start)
                ground = b[r] if b is not None else None
                _load(row[0], row[1], row[2], ground, start, n, columns, same, turn, gravity, dry_depth, s)
                _states(s, n, b, per, gravity, dry_depth)
                _fluxes(s, n, b, gravity)
                for i in range(n):
                    k = i + GHOSTS
                    s[LEFT + i] = s[FLUX + k] - s[FLUX + k + 1]
                    if b is None:
                        s[LEFT + STRIDE + i] = s[FLUX + STRIDE + k] - s[FLUX + STRIDE + k + 1]
                    else:
                        s[LEFT + STRIDE + i] = s[FLUX + 2 * STRIDE + k] - s[FLUX + STRIDE + k + 1] - s[INNER + k]
                    s[LEFT + 2 * STRIDE + i] = s[FLUX + 3 * STRIDE + k] - s[FLUX + 3 * STRIDE + k + 1]
                for f in range(3):
                    place = slice(start, start + n)
                    _add(row[f, place], per, s[LEFT + f * STRIDE :], average, out[m + f, r, place])


@kernel(**OPTIONS)
def _across(s, n, b, per, gravity, dry_depth):
    """Fluxes through the lower faces of a row. The change of the last row goes to RIGHT; then the rows move down."""
    for k in range(whole(n)):
        h_0, h_1, h_2 = s[LAST + H + k], s[HERE + H + k], s[NEXT + H + k]
        u_0, u_1, u_2 = s[LAST + U + k], s[HERE + U + k], s[NEXT + U + k]
        v_0, v_1, v_2 = s[LAST + V + k], s[HERE + V + k], s[NEXT + V + k]
        h_left, u_left, v_left = s[HIGH + H + k], s[HIGH + U + k], s[HIGH + V + k]
        if b is None:
            h_low, v_low, u_low, h_high, v_high, u_high = flat(h_0, h_1, h_2, v_0, v_1, v_2, u_0, u_1, u_2, per)
            mass, before, over = roe_hllc(h_left, v_left, u_left, h_low, v_low, u_low, gravity)
            s[RIGHT + 2 * STRIDE + k] = per * (s[CARRY + STRIDE + k] - before)
            s[CARRY + STRIDE + k] = before
        else:
            h, u, v = _slopes(h_0, h_1, h_2, u_0, u_1, u_2, v_0, v_1, v_2)
            h_low, u_low, v_low, h_high, u_high, v_high = h_1 - h, u_1 - u, v_1 - v, h_1 + h, u_1 + u, v_1 + v
            e_1 = s[HERE + E + k]
            e = level(s[LAST + E + k], e_1, s[NEXT + E + k], h_0, h_1, h_2, dry_depth)
            h_left, h_right = depths(h_left, s[HIGH + E + k], h_low, e_1 - e)
            mass, before, after, over = hllc(h_left, v_left, u_left, h_right, v_low, u_low, gravity)
            s[RIGHT + 2 * STRIDE + k] = per * (s[CARRY + STRIDE + k] - before - s[INNER + k])
            s[CARRY + STRIDE + k] = after
            s[INNER + k] = 2.0 * gravity * h_1 * e
            s[HIGH + E + k] = e_1 + e
        s[RIGHT + k] = per * (s[CARRY + k] - mass)
        s[RIGHT + STRIDE + k] = per * (s[CARRY + 2 * STRIDE + k] - over)
        s[CARRY + k], s[CARRY + 2 * STRIDE + k] = mass, over
        s[HIGH + H + k], s[HIGH + U + k], s[HIGH + V + k] = h_high, u_high, v_high
    for k in range(ROW if b is not None else 3 * STRIDE):
        s[LAST + k] = s[HERE + k]
        s[HERE + k] = s[NEXT + k]


@kernel(**OPTIONS)
def along_y(u, out, average, b, rows, turn, per, gravity, dry_depth, edge, s, first, last):
    """out = u advanced by the equations along y alone for a time h; per = h / dy.

    edge: work array (4, 3, TILE), a copy of the rows that ghosts repeat: the first two and the last two. Of the columns
    first ... last - 1.
    """
    height = u.shape[1]
    for m in range(0, u.shape[0], 3):
        for start in range(first, last, TILE):
            n = min(TILE, last - start)
            for i in range(4):
                r = i if i < 2 else height - 4 + i
                for f in range(3):
                    for c in range(n):
                        edge[i, f, c] = u[m + f, r, start + c]
            s[:] = 0.0
            for j in range(-3, height + 1):
                r = rows[j + 1 + GHOSTS]
                inside = 0 <= j + 1 < height
                place = 0 if inside else r if r < 2 else r - height + 4
                for f in range(3):
                    line, source = s[NEXT + f * STRIDE :], edge[place, f, :n]
                    if inside:
                        source = u[m + f, r, start : start + n]
                    for c in range(n):
                        line[c] = source[c]
                sign = turn[j + 1 + GHOSTS]
                for k in range(whole(n)):
                    h = max(s[NEXT + H + k], 0.0)
                    inverse = h / max(h * h, dry_depth * dry_depth)
                    s[NEXT + U + k], s[NEXT + V + k] = s[NEXT + U + k] * inverse, sign * s[NEXT + V + k] * inverse
                    s[NEXT + H + k] = 2.0 * math.sqrt(gravity * h) if b is None else h
                if b is not None:
                    ground = b[r, start : start + n]
                    for c in range(n):
                        s[NEXT + E + c] = ground[c] + s[NEXT + H + c]
                _across(s, n, b, per, gravity, dry_depth)
                if j >= 1:
                    for f in range(3):
                        place = slice(start, start + n)
                        _add(u[m + f, j - 1, place], 1.0, s[RIGHT + f * STRIDE :], average, out[m + f, j - 1, place])
