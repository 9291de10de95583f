"""Numba kernels of the right-hand side of shallow water, the compiled version of array_code, member by member.

u and out are (member * 3, row, column). The plane is divided into strips of TILE columns, and each strip is processed
row by row: first the fluxes along y between the row and the last one, which complete the rate of the last row; then the
fluxes along x in the row. Intermediate values are stored in one array of lines of STRIDE numbers at constant offsets,
so that LLVM can prove that lines do not overlap and vectorises the loops. Cell c of a strip is number c + GHOSTS of its
line. Loops over faces run to the end of a whole vector; the values beyond the last face are not used.

The arguments b (None without a bottom) and wide (None for MUSCL) are resolved at compile time.
"""

from __future__ import annotations

import math

import numpy as np

from ...backend import in_single, kernel
from .pointwise_kernels import (
    GHOSTS,
    OPTIONS,
    ROUND_OFF,
    STRIDE,
    TILE,
    VECTOR,
    copy,
    depths,
    half_slope,
    hllc,
    level,
    smooth,
    square,
    weno5,
    whole,
)

INFINITE = math.inf

# Lines. Five rows (j - 2 ... j + 2) of h, u, v, e, h u, h v; MUSCL keeps the middle three.
H, U, V, E, Q, P = (k * STRIDE for k in range(6))
ROW = 6 * STRIDE
BEFORE, LAST, HERE, NEXT, AFTER = (k * ROW for k in range(5))
HIGH = 5 * ROW  # states h, v, u, e at the upper faces of the last row
CARRY = HIGH + 4 * STRIDE  # contribution of the flux through its lower faces to the rates of h, h v, h u
LEFT, RIGHT = CARRY + 3 * STRIDE, CARRY + 7 * STRIDE  # states h, u, v, e at the faces of a row
INNER = CARRY + 11 * STRIDE  # force along x inside the cells
FLUX = CARRY + 12 * STRIDE  # through the faces of a row: mass, momentum seen from the left, from the right, across
RATE = CARRY + 16 * STRIDE  # of the last row: of h, h u, h v
SIZE = RATE + 3 * STRIDE + 2 * VECTOR


@kernel(**OPTIONS)
def _load(u, b, m, r, start, n, columns, same, turn, sign, wide, dry_depth, s):
    """Load row r into the lines of the newest row. turn, sign: factors of h u and h v, -1 beyond a wall; same: ones."""
    at = NEXT if wide is None else AFTER
    copy(u[m, r], start, n, columns, same, s[at + H :])
    copy(u[m + 1, r], start, n, columns, turn, s[at + U :])
    copy(u[m + 2, r], start, n, columns, same, s[at + V :])
    if b is not None:
        copy(b[r], start, n, columns, same, s[at + E :])
    for k in range(whole(n + 2 * GHOSTS)):
        h, q, p = max(s[at + H + k], 0.0), s[at + U + k], sign * s[at + V + k]
        inverse = h / max(h * h, dry_depth * dry_depth)
        s[at + H + k], s[at + U + k], s[at + V + k] = h, q * inverse, p * inverse
        if b is not None:
            s[at + E + k] += h
        if wide is not None:
            s[at + Q + k], s[at + P + k] = q, p


@kernel(**OPTIONS)
def _across(s, n, b, wide, per_y, per_x, gravity, coriolis, dry_depth):
    """Fluxes through the lower faces of the row, which complete the rate of the last row."""
    for i in range(n):
        k = i + GHOSTS
        h_0, h_1, h_2 = s[LAST + H + k], s[HERE + H + k], s[NEXT + H + k]
        u_0, u_1, u_2 = s[LAST + U + k], s[HERE + U + k], s[NEXT + U + k]
        v_0, v_1, v_2 = s[LAST + V + k], s[HERE + V + k], s[NEXT + V + k]
        h, u, v = (
            half_slope(h_1 - h_0, h_2 - h_1),
            half_slope(u_1 - u_0, u_2 - u_1),
            half_slope(v_1 - v_0, v_2 - v_1),
        )
        h_low, u_low, v_low = h_1 - h, u_1 - u, v_1 - v
        h_high, u_high, v_high = h_1 + h, u_1 + u, v_1 + v
        if b is not None:
            e_0, e_1, e_2 = s[LAST + E + k], s[HERE + E + k], s[NEXT + E + k]
            e = level(e_0, e_1, e_2, h_0, h_1, h_2, dry_depth)
            e_low, e_high = e_1 - e, e_1 + e
        if wide is not None:
            h_b, h_a = s[BEFORE + H + k], s[AFTER + H + k]
            d_low, d_high = weno5(h_b, h_0, h_1, h_2, h_a)
            q_low, q_high = weno5(
                s[BEFORE + Q + k], s[LAST + Q + k], s[HERE + Q + k], s[NEXT + Q + k], s[AFTER + Q + k]
            )
            p_low, p_high = weno5(
                s[BEFORE + P + k], s[LAST + P + k], s[HERE + P + k], s[NEXT + P + k], s[AFTER + P + k]
            )
            wet = min(min(min(h_b, h_0), min(h_2, h_a)), h_1) > dry_depth
            resolved = wet & (max(abs(d_low - h_1), abs(d_high - h_1)) <= 0.5 * h_1)
            if b is not None:
                e_b, e_a = s[BEFORE + E + k], s[AFTER + E + k]
                resolved = resolved & smooth(e_b - h_b, e_0 - h_0, e_1 - h_1, e_2 - h_2, e_a - h_a, h_1)
                f_low, f_high = weno5(e_b, e_0, e_1, e_2, e_a)
                e_low, e_high = f_low if resolved else e_low, f_high if resolved else e_high
            d_low, d_high = d_low if resolved else 1.0, d_high if resolved else 1.0
            h_low, h_high = d_low if resolved else h_low, d_high if resolved else h_high
            u_low, u_high = q_low / d_low if resolved else u_low, q_high / d_high if resolved else u_high
            v_low, v_high = p_low / d_low if resolved else v_low, p_high / d_high if resolved else v_high
        if b is None:
            h_left, h_right = s[HIGH + k], h_low
            force = 0.5 * gravity * (h_low + h_high) * (h_high - h_low)
        else:
            h_left, h_right = depths(s[HIGH + k], s[HIGH + 3 * STRIDE + k], h_low, e_low)
            force = 0.5 * gravity * (h_low + h_high) * (e_high - e_low)
        mass, below, above, over = hllc(
            h_left, s[HIGH + STRIDE + k], s[HIGH + 2 * STRIDE + k], h_right, v_low, u_low, gravity
        )
        s[RATE + k] = per_y * (s[CARRY + k] - mass) + per_x * (s[FLUX + k] - s[FLUX + k + 1])
        s[RATE + STRIDE + k] = (
            per_y * (s[CARRY + 2 * STRIDE + k] - over)
            + per_x * (s[FLUX + 2 * STRIDE + k] - s[FLUX + STRIDE + k + 1] - s[INNER + k])
            + coriolis * (h_0 * v_0)
        )
        s[RATE + 2 * STRIDE + k] = (
            per_y * (s[CARRY + STRIDE + k] - below)
            + per_x * (s[FLUX + 3 * STRIDE + k] - s[FLUX + 3 * STRIDE + k + 1])
            - coriolis * (h_0 * u_0)
        )
        s[CARRY + k], s[CARRY + STRIDE + k], s[CARRY + 2 * STRIDE + k] = mass, above - force, over
        s[HIGH + k], s[HIGH + STRIDE + k], s[HIGH + 2 * STRIDE + k] = h_high, v_high, u_high
        if b is not None:
            s[HIGH + 3 * STRIDE + k] = e_high


@kernel(**OPTIONS)
def _move_down(b, wide, s):
    """Move every row to the place of the row before it."""
    if wide is not None:
        for k in range(4 * ROW):
            s[k] = s[k + ROW]
    else:
        for k in range(3 * STRIDE if b is None else 4 * STRIDE):
            s[LAST + k] = s[HERE + k]
            s[HERE + k] = s[NEXT + k]


@kernel(**OPTIONS)
def _along(s, n, b, wide, gravity, dry_depth):
    """Fluxes along x of the middle row."""
    for i in range(whole(n + 2)):
        k = i + GHOSTS - 1
        h_0, h_1, h_2 = s[HERE + H + k - 1], s[HERE + H + k], s[HERE + H + k + 1]
        u_0, u_1, u_2 = s[HERE + U + k - 1], s[HERE + U + k], s[HERE + U + k + 1]
        v_0, v_1, v_2 = s[HERE + V + k - 1], s[HERE + V + k], s[HERE + V + k + 1]
        h, u, v = (
            half_slope(h_1 - h_0, h_2 - h_1),
            half_slope(u_1 - u_0, u_2 - u_1),
            half_slope(v_1 - v_0, v_2 - v_1),
        )
        h_low, u_low, v_low = h_1 - h, u_1 - u, v_1 - v
        h_high, u_high, v_high = h_1 + h, u_1 + u, v_1 + v
        if b is not None:
            e_0, e_1, e_2 = s[HERE + E + k - 1], s[HERE + E + k], s[HERE + E + k + 1]
            e = level(e_0, e_1, e_2, h_0, h_1, h_2, dry_depth)
            e_low, e_high = e_1 - e, e_1 + e
        if wide is not None:
            h_b, h_a = s[HERE + H + k - 2], s[HERE + H + k + 2]
            d_low, d_high = weno5(h_b, h_0, h_1, h_2, h_a)
            q = HERE + Q + k
            q_low, q_high = weno5(s[q - 2], s[q - 1], s[q], s[q + 1], s[q + 2])
            p = HERE + P + k
            p_low, p_high = weno5(s[p - 2], s[p - 1], s[p], s[p + 1], s[p + 2])
            wet = min(min(min(h_b, h_0), min(h_2, h_a)), h_1) > dry_depth
            resolved = wet & (max(abs(d_low - h_1), abs(d_high - h_1)) <= 0.5 * h_1)
            if b is not None:
                e_b, e_a = s[HERE + E + k - 2], s[HERE + E + k + 2]
                resolved = resolved & smooth(e_b - h_b, e_0 - h_0, e_1 - h_1, e_2 - h_2, e_a - h_a, h_1)
                f_low, f_high = weno5(e_b, e_0, e_1, e_2, e_a)
                e_low, e_high = f_low if resolved else e_low, f_high if resolved else e_high
            d_low, d_high = d_low if resolved else 1.0, d_high if resolved else 1.0
            h_low, h_high = d_low if resolved else h_low, d_high if resolved else h_high
            u_low, u_high = q_low / d_low if resolved else u_low, q_high / d_high if resolved else u_high
            v_low, v_high = p_low / d_low if resolved else v_low, p_high / d_high if resolved else v_high
        s[LEFT + k + 1], s[LEFT + STRIDE + k + 1], s[LEFT + 2 * STRIDE + k + 1] = h_high, u_high, v_high
        s[RIGHT + k], s[RIGHT + STRIDE + k], s[RIGHT + 2 * STRIDE + k] = h_low, u_low, v_low
        if b is None:
            s[INNER + k] = 0.5 * gravity * (h_low + h_high) * (h_high - h_low)
        else:
            s[INNER + k] = 0.5 * gravity * (h_low + h_high) * (e_high - e_low)
            s[LEFT + 3 * STRIDE + k + 1] = e_high
            s[RIGHT + 3 * STRIDE + k] = e_low
    for i in range(whole(n + 1)):
        k = i + GHOSTS
        if b is None:
            h_left, h_right = s[LEFT + k], s[RIGHT + k]
        else:
            h_left, h_right = depths(s[LEFT + k], s[LEFT + 3 * STRIDE + k], s[RIGHT + k], s[RIGHT + 3 * STRIDE + k])
        mass, before, after, over = hllc(
            h_left,
            s[LEFT + STRIDE + k],
            s[LEFT + 2 * STRIDE + k],
            h_right,
            s[RIGHT + STRIDE + k],
            s[RIGHT + 2 * STRIDE + k],
            gravity,
        )
        s[FLUX + k], s[FLUX + STRIDE + k] = mass, before
        s[FLUX + 2 * STRIDE + k], s[FLUX + 3 * STRIDE + k] = after, over


@kernel(**OPTIONS)
def _finish(s, u, out, a, c, h, base, frozen, use_frozen, m, r, start, n):
    """out = a base + c u + h (rates + frozen) in a row.

    In single precision (a + c) base + c (u - base) + ...: 1/3 + 2/3 = 1, but the sum of the products with two rounded
    numbers would be wrong by the same relative error in every step.
    """
    for k in range(3):
        rates = s[RATE + k * STRIDE + GHOSTS :]
        target, now = out[m + k, r, start : start + n], u[m + k, r, start : start + n]
        first = base[m + k, r, start : start + n]
        if use_frozen:
            more = frozen[m + k, r, start : start + n]
            for i in range(n):
                rates[i] += more[i]
        for i in range(n):
            if in_single(rates[i]):
                target[i] = (a + c) * first[i] + (c * (now[i] - first[i]) + h * rates[i])
            else:
                target[i] = a * first[i] + c * now[i] + h * rates[i]


@kernel(**OPTIONS)
def balance(
    u,
    b,
    rows,
    columns,
    turns_y,
    turns_x,
    spacing_y,
    spacing_x,
    gravity,
    coriolis,
    wide,
    dry_depth,
    s,
    out,
    a,
    c,
    h,
    base,
    frozen,
    use_frozen,
    first,
    last,
):
    """out = a base + c u + h (N + frozen), N the rates of u; out may be base, and not u.

    Of the rows first ... last - 1. rows, columns: numbers of the cells with ghosts; turns: -1 beyond walls, else 1.
    """
    width = u.shape[2]
    reach = 1 if wide is None else 2
    same = np.ones(columns.shape[0], u.dtype)
    for m in range(0, u.shape[0], 3):
        for start in range(0, width, TILE):
            n = min(TILE, width - start)
            for j in range(first - 1 - 2 * reach, last + 1):
                if j > first - 1 - 2 * reach:
                    _move_down(b, wide, s)
                r = rows[j + reach + GHOSTS]
                _load(u, b, m, r, start, n, columns, same, turns_x, turns_y[j + reach + GHOSTS], wide, dry_depth, s)
                if j >= first - 1:
                    _across(s, n, b, wide, 1.0 / spacing_y, 1.0 / spacing_x, gravity, coriolis, dry_depth)
                if j >= first + 1:
                    _finish(s, u, out, a, c, h, base, frozen, use_frozen, m, j - 1, start, n)
                if first <= j < last:
                    _along(s, n, b, wide, gravity, dry_depth)


@kernel(**OPTIONS)
def rates(u, per_y, per_x, gravity, dry_depth, line, found, rows, first, last):
    """found[i]: `_rate` of the rows i rows ... (i + 1) rows - 1, first <= i < last; line: work array."""
    for i in range(first, last):
        stop = min((i + 1) * rows, u.shape[1])
        found[i] = _rate(u, per_y, per_x, gravity, dry_depth, line, i * rows, stop)


@kernel(**OPTIONS)
def _rate(u, per_y, per_x, gravity, dry_depth, line, first, last):
    """Largest sum over the axes of (speed + sqrt(g h)) / spacing in the rows first ... last - 1; line: work array."""
    line[:] = 0.0
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            for c in range(u.shape[2]):
                h = max(u[m, r, c], 0.0)
                inverse = h / max(h * h, dry_depth * dry_depth)
                sound = math.sqrt(gravity * h)
                along = per_x * (abs(u[m + 1, r, c]) * inverse + sound)
                across = per_y * (abs(u[m + 2, r, c]) * inverse + sound)
                line[c] = max(along + across, line[c])
    largest = 0.0
    for c in range(u.shape[2]):
        largest = max(line[c], largest)
    return largest


@kernel(**OPTIONS)
def admissible(u, first, last):
    """No depth below zero in the rows first ... last - 1."""
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            lowest = 0.0
            for c in range(u.shape[2]):
                lowest = min(u[m, r, c], lowest)
            if lowest < 0.0:
                return False
    return True


@kernel(**OPTIONS)
def relax(u, friction, dry_depth, h, first, last):
    """In place: friction over a time h in the rows first ... last - 1; see the array code."""
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            lowest = INFINITE
            for c in range(u.shape[2]):
                lowest = min(u[m, r, c], lowest)
            if lowest >= dry_depth and friction == 0.0:
                continue
            for c in range(u.shape[2]):
                depth = u[m, r, c]
                factor = 1.0
                if depth < dry_depth:
                    factor = square(max(depth, 0.0)) / (dry_depth * dry_depth)
                    if depth >= -ROUND_OFF * dry_depth:
                        u[m, r, c] = max(depth, 0.0)
                if friction > 0.0 and depth > 0.0:
                    size = math.sqrt(square(u[m + 1, r, c]) + square(u[m + 2, r, c])) * factor
                    water = depth ** (7 / 3)
                    factor = (
                        factor * (water / (water + friction * h * size)) if water > 0.0 else 0.0
                    )  # it may underflow
                if factor != 1.0:
                    u[m + 1, r, c] *= factor
                    u[m + 2, r, c] *= factor
