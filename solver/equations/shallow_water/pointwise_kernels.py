"""Numba kernels of single cells and faces, shared by the balance and the sweeps of shallow water."""

from __future__ import annotations

import math
from typing import Any

import numba

from ...backend import FLUSHED, ByPrecision, in_single, kernel
from ...finite_volume.reconstruction import weno5_weights

GHOSTS, TILE, STRIDE, VECTOR = 3, 256, 272, 8
ROUGH = 0.25  # of a bottom, over the depth; beyond it WENO values amplify perturbations of a lake at rest
NO_WATER = FLUSHED  # depths up to it are zero: the compiled steps set such values to zero from time to time
ROUND_OFF = ByPrecision(1e-6, 1e-4)  # depths down to this times -dry are zero
FLOOR = ByPrecision(1e-40, 0.0)  # of smoothness indicators; in single precision see weno5_weights
SMALLEST = ByPrecision(1e-300, 1e-30)  # speeds below it are zero: their inverse would not be finite

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}


@numba.njit(inline="always")
def half_slope(back, ahead):
    """Half the slope of the monotonised central limiter, from the differences to both sides."""
    middle = 0.25 * (back + ahead)
    size = min(min(abs(back), abs(ahead)), abs(middle))
    return math.copysign(size if back * ahead > 0.0 else 0.0, middle)


@numba.njit(inline="always")
def level(e_0, e_1, e_2, h_0, h_1, h_2, dry_depth):
    """Half the slope of the surface; it does not rise towards a dry neighbour with higher ground."""
    back, ahead = e_1 - e_0, e_2 - e_1
    back = back if h_0 > dry_depth else max(back, 0.0)
    ahead = ahead if h_2 > dry_depth else min(ahead, 0.0)
    slope = half_slope(back, ahead)
    return slope if h_1 > dry_depth else 0.0


@numba.njit(inline="always")
def square(x):
    return x * x


@numba.njit(inline="always")
def weno5(a, b, c, d, e):
    """Values at the lower and the upper face of the cell c.

    Separate from finite_volume.reconstruction.weno5_value on purpose: both faces share the smoothness indicators, which
    measured faster than two calls.
    """
    d1, d2, d3, d4 = b - a, c - b, d - c, e - d
    smooth_0 = 13 / 12 * square(d2 - d1) + 0.25 * square(3.0 * d2 - d1) + FLOOR
    smooth_1 = 13 / 12 * square(d3 - d2) + 0.25 * square(d2 + d3) + FLOOR
    smooth_2 = 13 / 12 * square(d4 - d3) + 0.25 * square(3.0 * d3 - d4) + FLOOR
    if in_single(c):
        weight_0, weight_1, weight_2 = weno5_weights(smooth_0, smooth_1, smooth_2)
    else:
        tau = abs(smooth_0 - smooth_2)
        weight_0 = 1.0 + square(tau / smooth_0)
        weight_1 = 6.0 * (1.0 + square(tau / smooth_1))
        weight_2 = 1.0 + square(tau / smooth_2)
    high = weight_0 * (5.0 * d2 - 2.0 * d1) + weight_1 * (d2 + 2.0 * d3) + 3.0 * weight_2 * (4.0 * d3 - d4)
    low = weight_2 * (5.0 * d3 - 2.0 * d4) + weight_1 * (d3 + 2.0 * d2) + 3.0 * weight_0 * (4.0 * d2 - d1)
    below, above = 6.0 * (weight_2 + weight_1 + 3.0 * weight_0), 6.0 * (weight_0 + weight_1 + 3.0 * weight_2)
    return c - low / below, c + high / above


@numba.njit(inline="always")
def smooth(b_0, b_1, b_2, b_3, b_4, depth):
    """Whether the bottom of five cells varies by less than ROUGH times the depth of the middle one."""
    highest, lowest = max(max(max(b_0, b_1), max(b_3, b_4)), b_2), min(min(min(b_0, b_1), min(b_3, b_4)), b_2)
    return highest - lowest <= ROUGH * depth


@numba.njit(inline="always")
def depths(h_left, e_left, h_right, e_right):
    """Depths above the higher of the two bottoms."""
    floor = max(e_left - h_left, e_right - h_right)
    return min(h_left, max(e_left - floor, 0.0)), min(h_right, max(e_right - floor, 0.0))


@numba.njit(inline="always")
def hllc(h_left, u_left, v_left, h_right, u_right, v_right, gravity):
    c_left, c_right = math.sqrt(gravity * h_left), math.sqrt(gravity * h_right)
    front_left, front_right = u_right - 2.0 * c_right, u_left + 2.0 * c_left
    w_left = u_left if h_left > NO_WATER else front_left
    w_right = u_right if h_right > NO_WATER else front_right
    u_star = 0.5 * (w_left + w_right) + c_left - c_right
    c_star = 0.5 * (c_left + c_right) + 0.25 * (w_left - w_right)
    slow = min(min(w_left - c_left, u_star - c_star), 0.0)
    fast = max(max(w_right + c_right, u_star + c_star), 0.0)
    inverse = 1.0 / max(fast - slow, SMALLEST)
    skew, spread = 0.5 * (fast + slow) * inverse, fast * slow * inverse
    q_left, q_right = h_left * w_left, h_right * w_right
    m_left, m_right = q_left * w_left, q_right * w_right
    jump = 0.5 * gravity * (h_right - h_left) * (h_right + h_left)
    mass = 0.5 * (q_left + q_right) + skew * (q_left - q_right) + spread * (h_right - h_left)
    middle = 0.5 * (m_left + m_right) + skew * (m_left - m_right - jump) + spread * (q_right - q_left)
    v = v_left if mass > 0.0 else v_right
    return mass, middle + 0.5 * jump, middle - 0.5 * jump, mass * v


@numba.njit(inline="always")
def whole(n):
    return (n + VECTOR - 1) // VECTOR * VECTOR


@kernel(**OPTIONS)
def copy(row, start, n, columns, turn, line):
    """Copy the cells start - GHOSTS ... start + n + GHOSTS of a row into a line; beyond the ends those in `columns`."""
    first, last = max(start - GHOSTS, 0), min(start + n + GHOSTS, row.shape[0])
    inside, place = row[first:last], line[first - start + GHOSTS :]
    for i in range(inside.shape[0]):
        place[i] = inside[i]
    for c in range(start - GHOSTS, first):
        line[c - start + GHOSTS] = turn[c + GHOSTS] * row[columns[c + GHOSTS]]
    for c in range(last, start + n + GHOSTS):
        line[c - start + GHOSTS] = turn[c + GHOSTS] * row[columns[c + GHOSTS]]
