"""Numba kernel of the ghost cells beyond prescribed sides of shallow water: see sides_array_code."""

from __future__ import annotations

import math

import numba

from ...backend import kernel
from .pointwise_kernels import OPTIONS, depths, half_slope, hllc, level, smooth, weno5
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
def fill(u, b, place, step, along_y, discharge, depth, level, given, gravity, dry_depth, first, last, through):
    """In place: the ghost cells of u (batch * 3, row, column) beyond the cell `place` of one side.

    step: +1 where the domain lies above the side, else -1; b: the bottom (row, column), or None. discharge (out of the
    domain), depth, level: (cell along the side,), of the cells first ... last - 1; given: which of them are conditions.
    through (batch, cell along the side): the discharge out of the domain where it is imposed, else infinite.
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
                h_face, q_face, height = h_0, q_0, b_0
            w, c = _velocity(h_face, q_face, dry_depth), math.sqrt(gravity * h_face)
            invariant = w + 2.0 * c
            wanted = 0.0 * h_0
            if given[1]:
                wanted = depth[n]
            if given[2]:
                wanted = max(level[n] - height, 0.0)
            if given[0] and (given[1] or given[2]):
                h_b, w_b = wanted, _velocity(wanted, discharge[n], dry_depth)
                through[m // 3, n] = discharge[n]
            else:
                through[m // 3, n] = math.inf
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
                elif given[0]:
                    through[m // 3, n] = min(discharge[n], h_b * math.sqrt(gravity * h_b))
            v = 0.0 * w_b if w_b < 0.0 else _velocity(h_0, u[m + across, r_0, c_0], dry_depth)
            lift = h_b + height - e_0
            if min(abs(lift), abs(h_b - h_0)) > STEEPEST * h_b:
                lift = _clip(lift, STEEPEST * h_b)
            largest = STEEPEST * (abs(w_b) + math.sqrt(gravity * h_b))
            faster = _clip(w_b - _velocity(h_0, q_0, dry_depth), largest)
            for k in range(DEPTH):
                ground = b_0 + 2 * (k + 1) * rise
                h_k = max(h_b + (2 * k + 1) * lift + (height - ground), 0.0) if h_b > 0.0 else 0.0 * h_b
                r, column = r_0 - (k + 1) * d_r, c_0 - (k + 1) * d_c
                u[m, r, column] = h_k
                u[m + along, r, column] = -step * (h_k * (w_b + (2 * k + 1) * faster))
                u[m + across, r, column] = h_k * v


@numba.njit(inline="always")
def _near(u, b, m, along, across, r, c, d_r, d_c, k, dry_depth):
    """Depth, surface, velocities and momenta of the k-th cell from (r, c)."""
    row, column = r + k * d_r, c + k * d_c
    h, q, p = max(u[m, row, column], 0.0), u[m + along, row, column], u[m + across, row, column]
    e = h
    if b is not None:
        e = h + b[row, column]
    return h, e, _velocity(h, q, dry_depth), _velocity(h, p, dry_depth), q, p


@numba.njit(inline="always")
def _high(a_0, a_1, a_2, a_3, a_4, b, wide, dry_depth):
    """Depth, surface and velocities at the upper face of the middle cell of five; see balance_kernels._along."""
    h_0, e_0, _, _, q_0, p_0 = a_0
    h_1, e_1, u_1, v_1, q_1, p_1 = a_1
    h_2, e_2, u_2, v_2, q_2, p_2 = a_2
    h_3, e_3, u_3, v_3, q_3, p_3 = a_3
    h_4, e_4, _, _, q_4, p_4 = a_4
    h = h_2 + half_slope(h_2 - h_1, h_3 - h_2)
    u = u_2 + half_slope(u_2 - u_1, u_3 - u_2)
    v = v_2 + half_slope(v_2 - v_1, v_3 - v_2)
    e = h
    if b is not None:
        e = e_2 + level(e_1, e_2, e_3, h_1, h_2, h_3, dry_depth)
    if wide is not None:
        d_low, d = weno5(h_0, h_1, h_2, h_3, h_4)
        _, q = weno5(q_0, q_1, q_2, q_3, q_4)
        _, p = weno5(p_0, p_1, p_2, p_3, p_4)
        resolved = min(min(min(h_0, h_1), min(h_3, h_4)), h_2) > dry_depth
        resolved = resolved & (max(abs(d_low - h_2), abs(d - h_2)) <= 0.5 * h_2)
        if b is not None:
            resolved = resolved & smooth(e_0 - h_0, e_1 - h_1, e_2 - h_2, e_3 - h_3, e_4 - h_4, h_2)
            _, f = weno5(e_0, e_1, e_2, e_3, e_4)
            e = f if resolved else e
        if resolved:
            h, u, v = d, q / d, p / d
    return h, e if b is not None else h, u, v


@kernel(**OPTIONS)
def correct(u, b, wide, place, step, along_y, gravity, dry_depth, first, last, through, slack, per, out):
    """out += per (flux of mass - imposed discharge), beyond `slack`, in the cells beside a side. out: as u.

    The arguments b and wide are resolved at compile time, as in balance_kernels.
    """
    along, across = (2, 1) if along_y else (1, 2)
    for m in range(0, u.shape[0], 3):
        for i in range(first, last):
            imposed = through[m // 3, i - first]
            if imposed == math.inf:
                continue
            r, c = (place, i) if along_y else (i, place)
            d_r, d_c = (-step, 0) if along_y else (0, -step)  # outwards
            a_3 = _near(u, b, m, along, across, r, c, d_r, d_c, -2, dry_depth)
            a_2 = _near(u, b, m, along, across, r, c, d_r, d_c, -1, dry_depth)
            a_1 = _near(u, b, m, along, across, r, c, d_r, d_c, 0, dry_depth)
            g_1 = _near(u, b, m, along, across, r, c, d_r, d_c, 1, dry_depth)
            g_2 = _near(u, b, m, along, across, r, c, d_r, d_c, 2, dry_depth)
            g_3 = _near(u, b, m, along, across, r, c, d_r, d_c, 3, dry_depth)
            h_in, e_in, u_in, v_in = _high(a_3, a_2, a_1, g_1, g_2, b, wide, dry_depth)
            h_out, e_out, u_out, v_out = _high(g_3, g_2, g_1, a_1, a_2, b, wide, dry_depth)
            if b is not None:
                h_in, h_out = depths(h_in, e_in, h_out, e_out)
            if step > 0:
                mass, _, _, _ = hllc(h_out, u_out, v_out, h_in, u_in, v_in, gravity)
            else:
                mass, _, _, _ = hllc(h_in, u_in, v_in, h_out, u_out, v_out, gravity)
            excess = -step * mass - imposed
            out[m, r, c] += per * (excess - _clip(excess, slack * abs(imposed)))
