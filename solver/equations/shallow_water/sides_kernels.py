"""Numba kernel of the ghost cells beyond prescribed sides of shallow water: see sides_array_code."""

from __future__ import annotations

import math

import numba

from ...backend import kernel
from .pointwise_kernels import OPTIONS
from .sides_array_code import DEPTH, STEEPEST


@numba.njit(inline="always")
def _minmod(a, b):
    smaller = a if abs(a) < abs(b) else b
    return smaller if a * b > 0.0 else 0.0 * a


@numba.njit(inline="always")
def _clip(a, largest):
    return min(max(a, -largest), largest)


@numba.njit(inline="always")
def _velocity(h, q, dry_depth):
    return q * (h / max(h * h, dry_depth * dry_depth))


@numba.njit(inline="always")
def speed_of_discharge(r, discharge, gravity):
    """sides_array_code.speed_of_discharge."""
    flux = gravity * discharge
    critical = abs(flux) ** (1 / 3)
    if discharge == 0.0:
        return 0.5 * max(r, 0.0)
    if discharge < 0.0:
        if r <= critical:
            return critical
        return r / 6.0 + r / 3.0 * math.cosh(math.acosh(1.0 - 54.0 * flux / (r * r * r)) / 3.0)
    if r <= 3.0 * critical:
        return max(r, 0.0) / 3.0
    return r / 6.0 + r / 3.0 * math.cos(math.acos(1.0 - 54.0 * flux / (r * r * r)) / 3.0)


@kernel(**OPTIONS)
def fill(u, b, place, step, along_y, discharge, depth, level, given, gravity, dry_depth, first, last):
    """In place: the ghost cells of u (batch * 3, row, column) beyond the cell `place` of one side.

    step: +1 where the domain lies above the side, else -1; b: the bottom (row, column), or None. discharge (out of the
    domain), depth, level: (cell along the side,), of the cells first ... last - 1; given: which of them are conditions.
    """
    along, across = (2, 1) if along_y else (1, 2)
    for m in range(0, u.shape[0], 3):
        for i in range(first, last):
            n = i - first
            r_0, c_0 = (place, i) if along_y else (i, place)
            d_r, d_c = (step, 0) if along_y else (0, step)
            r_1, c_1, r_2, c_2 = r_0 + d_r, c_0 + d_c, r_0 + 2 * d_r, c_0 + 2 * d_c
            h_0, h_1, h_2 = max(u[m, r_0, c_0], 0.0), max(u[m, r_1, c_1], 0.0), max(u[m, r_2, c_2], 0.0)
            q_0, q_1, q_2 = (
                -step * u[m + along, r_0, c_0],
                -step * u[m + along, r_1, c_1],
                -step * u[m + along, r_2, c_2],
            )
            b_0 = b_1 = b_2 = 0.0 * h_0
            if b is not None:
                b_0, b_1, b_2 = b[r_0, c_0], b[r_1, c_1], b[r_2, c_2]
            rise = 0.5 * (b_0 - b_1)
            height = b_0 + rise
            e_0, e_1, e_2 = h_0 + b_0, h_1 + b_1, h_2 + b_2
            h_face = e_0 + 0.5 * _minmod(e_0 - e_1, e_1 - e_2) - height
            q_face = q_0 + 0.5 * _minmod(q_0 - q_1, q_1 - q_2)
            if not (min(min(h_0, h_1), h_2) > dry_depth and abs(h_face - h_0) <= 0.5 * h_0):
                h_face, q_face = h_0, q_0
            w, c = _velocity(h_face, q_face, dry_depth), math.sqrt(gravity * h_face)
            invariant = w + 2.0 * c
            wanted = 0.0 * h_0
            if given[1]:
                wanted = depth[n]
            if given[2]:
                wanted = max(level[n] - height, 0.0)
            if given[0] and (given[1] or given[2]):
                h_b, w_b = wanted, _velocity(wanted, discharge[n], dry_depth)
            else:
                if given[0]:
                    c_b = speed_of_discharge(invariant, discharge[n], gravity)
                    h_b = c_b * c_b / gravity
                    w_b = min(_velocity(h_b, discharge[n], dry_depth), c_b)
                else:
                    c_b, h_b = math.sqrt(gravity * wanted), wanted
                    if invariant > 3.0 * c_b:
                        c_b = invariant / 3.0
                        h_b = c_b * c_b / gravity
                    w_b = max(invariant - 2.0 * c_b, -c_b)
                bore = 0.5 * gravity * h_b * (h_b + h_face) > w * w * h_face
                if w >= c and not bore:
                    h_b, w_b = h_face, w
            v = 0.0 * w_b if w_b < 0.0 else _velocity(h_0, u[m + across, r_0, c_0], dry_depth)
            lift = _clip(h_b + height - e_0, STEEPEST * h_b)
            largest = STEEPEST * (abs(w_b) + math.sqrt(gravity * h_b))
            faster = _clip(w_b - _velocity(h_0, q_0, dry_depth), largest)
            for k in range(DEPTH):
                h_k = max(h_b + (2 * k + 1) * (lift - rise), 0.0)
                r, column = r_0 - (k + 1) * d_r, c_0 - (k + 1) * d_c
                u[m, r, column] = h_k
                u[m + along, r, column] = -step * (h_k * (w_b + (2 * k + 1) * faster))
                u[m + across, r, column] = h_k * v
