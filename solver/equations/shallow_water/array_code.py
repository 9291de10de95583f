"""Finite volumes for shallow water over any bottom, with wetting and drying, as array code in any namespace `xp`.

Arrays are (member, y, x); functions that treat one axis work along the last one. h is the depth, e = h + b the surface,
(u, v) the velocity and (q, p) = (h u, h v) the momentum along that axis and across it. Cells -1 ... n have
reconstructed values `low` and `high` at their two faces; n + 1 faces lie between these cells. balance_kernels computes
the same on the CPU with Numba.

    h_t + q_x = 0,    q_t + (q u + g h^2/2)_x = -g h b_x,    p_t + (q v)_x = 0

Hydrostatic reconstruction: Audusse, Bouchut, Bristeau, Klein and Perthame, SIAM J. Sci. Comput. 25 (2004) 2050, in
fluctuation form. With P = g h*^2/2, the momentum balance of a cell is

    -[(F - P_left)_{right face} - (F - P_right)_{left face} + g (h_low + h_high)/2 (e_high - e_low)] / dx,

which is their scheme with the pressure terms of the cell combined: for a lake at rest every term is zero separately.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...backend import real_type
from ...finite_volume.array_code import monotonised, weno5_weights
from .pointwise_kernels import FLOOR, NO_WATER, ROUGH, ROUND_OFF, SMALLEST

Array = Any
WIDTHS = {"muscl": 2, "weno5": 3}  # ghost cells


class Cells(NamedTuple):
    """Cells of a line with ghost cells: depth, surface, velocities and momenta along the line and across it."""

    h: Array
    e: Array
    u: Array
    v: Array
    q: Array
    p: Array


class Faces(NamedTuple):
    """Depth, surface and velocities at one face of every cell, or on one side of every face."""

    h: Array
    e: Array
    u: Array
    v: Array


def velocity(h: Array, q: Array, dry_depth: float, xp: Any) -> Array:
    """q / h, but q h / dry_depth^2 where h < dry_depth, which bounds the velocity of nearly dry cells."""
    return q * per_depth(h, dry_depth, xp)


def per_depth(h: Array, dry_depth: float, xp: Any) -> Array:
    """What momenta are multiplied with for `velocity`."""
    return h / xp.maximum(h * h, 0 * h + dry_depth * dry_depth)


def extend(a: Array, width: int, low: str, high: str, sign: float, xp: Any) -> Array:
    """(..., n) -> (..., n + 2 width), by "periodic", "wall" (mirrored, times sign) or "open" (end cell repeated).

    Raises ValueError for fewer cells than `width` beside a side that is not open.
    """
    n = a.shape[-1]
    if n < width and (low, high) != ("open", "open"):
        raise ValueError(
            f"grid.shape: sides that are periodic or walls need {width} cells along an axis here, found {n}"
        )
    if low == "periodic":
        return xp.concat([a[..., n - width :], a, a[..., :width]], axis=-1)
    mirrored = {"wall": lambda end: sign * xp.flip(end, axis=-1), "open": lambda end: end}
    first = a[..., :width] if low == "wall" else xp.concat([a[..., :1]] * width, axis=-1)
    last = a[..., n - width :] if high == "wall" else xp.concat([a[..., n - 1 :]] * width, axis=-1)
    return xp.concat([mirrored[low](first), a, mirrored[high](last)], axis=-1)


def _muscl(cells: Cells, dry_depth: float, xp: Any) -> tuple[Faces, Faces]:
    """Second-order MUSCL values at both faces of the cells, (..., n + 4) -> (..., n + 2). Depths are not negative.

    The slope of the surface is zero in a dry cell, and where a dry neighbour's bottom is higher than the surface.
    """
    wet = cells.h > dry_depth

    def differences(a: Array) -> tuple[Array, Array]:
        d = a[..., 1:] - a[..., :-1]
        return d[..., :-1], d[..., 1:]

    def faces(a: Array, slope: Array) -> tuple[Array, Array]:
        return a[..., 1:-1] - 0.5 * slope, a[..., 1:-1] + 0.5 * slope

    back, ahead = differences(cells.e)
    none = 0 * back
    back = xp.where(wet[..., :-2], back, xp.maximum(back, none))
    ahead = xp.where(wet[..., 2:], ahead, xp.minimum(ahead, none))
    level = xp.where(wet[..., 1:-1], monotonised(back, ahead, xp), none)
    slopes = [monotonised(*differences(a), xp) for a in (cells.h, cells.u, cells.v)]
    h, u, v = (faces(a, s) for a, s in zip((cells.h, cells.u, cells.v), slopes, strict=True))
    e = faces(cells.e, level)
    return Faces(h[0], e[0], u[0], v[0]), Faces(h[1], e[1], u[1], v[1])


def _weno5_faces(a: Array, xp: Any) -> tuple[Array, Array]:
    """WENO-Z values at both faces of the cells, written with differences so that constants are reproduced exactly."""
    d = a[..., 1:] - a[..., :-1]
    d1, d2, d3, d4 = d[..., :-3], d[..., 1:-2], d[..., 2:-1], d[..., 3:]
    middle = a[..., 2:-2]
    floor = FLOOR.of(real_type(a.dtype))
    smooth_0 = 13 / 12 * (d2 - d1) ** 2 + 0.25 * (3 * d2 - d1) ** 2 + floor
    smooth_1 = 13 / 12 * (d3 - d2) ** 2 + 0.25 * (d2 + d3) ** 2 + floor
    smooth_2 = 13 / 12 * (d4 - d3) ** 2 + 0.25 * (3 * d3 - d4) ** 2 + floor
    if floor:
        tau = xp.abs(smooth_0 - smooth_2)
        weight_0, weight_1, weight_2 = (1 + (tau / s) ** 2 for s in (smooth_0, smooth_1, smooth_2))
        weight_1 = 6 * weight_1
    else:
        weight_0, weight_1, weight_2 = weno5_weights(smooth_0, smooth_1, smooth_2)
    high = weight_0 * (5 * d2 - 2 * d1) + weight_1 * (d2 + 2 * d3) + 3 * weight_2 * (4 * d3 - d4)
    low = weight_2 * (5 * d3 - 2 * d4) + weight_1 * (d3 + 2 * d2) + 3 * weight_0 * (4 * d2 - d1)
    weights_high = 6 * (weight_0 + weight_1 + 3 * weight_2)
    weights_low = 6 * (weight_2 + weight_1 + 3 * weight_0)
    return middle - low / weights_low, middle + high / weights_high


def _weno5(cells: Cells, dry_depth: float, xp: Any) -> tuple[Faces, Faces]:
    """Fifth-order WENO-Z values of depth, surface and momenta at both faces, (..., n + 6) -> (..., n + 2).

    MUSCL values are used where one of the five cells is dry, where a depth at a face differs from the cell's by more
    than half of it, or where the bottom of the five cells varies by more than ROUGH times the depth. A scaling towards
    the mean would keep the depth positive, but would not bound the velocity.
    """
    safe_low, safe_high = _muscl(Cells(*(a[..., 1:-1] for a in cells)), dry_depth, xp)
    n = cells.h.shape[-1] - 4
    h, e, q, p = (_weno5_faces(a, xp) for a in (cells.h, cells.e, cells.q, cells.p))
    bottom = cells.e - cells.h
    shallowest, lowest, highest = cells.h[..., :n], bottom[..., :n], bottom[..., :n]
    for k in range(1, 5):
        shallowest = xp.minimum(shallowest, cells.h[..., k : k + n])
        lowest, highest = (
            xp.minimum(lowest, bottom[..., k : k + n]),
            xp.maximum(highest, bottom[..., k : k + n]),
        )
    middle = cells.h[..., 2:-2]
    off = xp.maximum(xp.abs(h[0] - middle), xp.abs(h[1] - middle))
    resolved = (shallowest > dry_depth) & (off <= 0.5 * middle) & (highest - lowest <= ROUGH * middle)

    def side(k: int, safe: Faces) -> Faces:
        depth = xp.where(resolved, h[k], xp.ones_like(middle))
        found = (depth, e[k], q[k] / depth, p[k] / depth)
        return Faces(*(xp.where(resolved, a, b) for a, b in zip(found, safe, strict=True)))

    return side(0, safe_low), side(1, safe_high)


_RECONSTRUCTIONS = {"muscl": _muscl, "weno5": _weno5}


def hydrostatic(left: Faces, right: Faces, xp: Any) -> tuple[Array, Array]:
    """Depths h* on both sides of each face: the water above the higher of the two bottoms, at most that side's h."""
    floor = xp.maximum(left.e - left.h, right.e - right.h)
    none = 0 * floor
    return tuple(xp.minimum(s.h, xp.maximum(s.e - floor, none)) for s in (left, right))  # type: ignore[return-value]


def hllc(
    h_left: Array, u_left: Array, v_left: Array, h_right: Array, u_right: Array, v_right: Array, gravity: float, xp: Any
) -> tuple[Array, Array, Array, Array]:
    """HLLC fluxes: F of the mass, F - P_left and F - P_right of the momentum along the axis, F of that across it.

    The outer wave speeds come from the two-rarefaction star state: Toro, Shock-Capturing Methods for Free-Surface
    Shallow Flows (2001), section 10.5. A dry side gets the velocity of the front that moves into it, u -+ 2 c of the
    wet side; all formulas then give the exact speeds of a dry bed (ibid., section 6.2). In the star region the mass
    flux has the sign of the contact speed and transports v of its upwind side.
    """
    none, precision = 0 * h_left, real_type(h_left.dtype)
    dry = NO_WATER.of(precision)
    c_left, c_right = (root(gravity * h, xp) for h in (h_left, h_right))
    front_left, front_right = u_right - 2 * c_right, u_left + 2 * c_left
    u_left = xp.where(h_left > dry, u_left, front_left)
    u_right = xp.where(h_right > dry, u_right, front_right)
    u_star = 0.5 * (u_left + u_right) + c_left - c_right
    c_star = 0.5 * (c_left + c_right) + 0.25 * (u_left - u_right)
    slow = xp.minimum(xp.minimum(u_left - c_left, u_star - c_star), none)
    fast = xp.maximum(xp.maximum(u_right + c_right, u_star + c_star), none)
    moving = fast - slow > SMALLEST.of(precision)
    inverse = xp.where(moving, 1 / xp.where(moving, fast - slow, none + 1), none)
    skew, spread = 0.5 * (fast + slow) * inverse, fast * slow * inverse
    q_left, q_right = h_left * u_left, h_right * u_right
    m_left, m_right = q_left * u_left, q_right * u_right
    jump = 0.5 * gravity * (h_right - h_left) * (h_right + h_left)
    mass = 0.5 * (q_left + q_right) + skew * (q_left - q_right) + spread * (h_right - h_left)
    middle = 0.5 * (m_left + m_right) + skew * (m_left - m_right - jump) + spread * (q_right - q_left)
    return mass, middle + 0.5 * jump, middle - 0.5 * jump, mass * xp.where(mass > 0, v_left, v_right)


def mass_flux(cells: Cells, flat: bool, gravity: float, reconstruction: str, dry_depth: float, xp: Any) -> Array:
    """The flux of the mass through the face in the middle of the last axis, which has 2 WIDTHS cells."""
    low, high = _RECONSTRUCTIONS[reconstruction](cells, dry_depth, xp)
    left, right = Faces(*(a[..., 0] for a in high)), Faces(*(a[..., 1] for a in low))
    h_left, h_right = (left.h, right.h) if flat else hydrostatic(left, right, xp)
    return hllc(h_left, left.u, left.v, h_right, right.u, right.v, gravity, xp)[0]


def root(a: Array, xp: Any) -> Array:
    """sqrt(a) with derivative 0 at a = 0, where automatic differentiation of sqrt would give infinity."""
    positive = a > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, a, xp.ones_like(a))), xp.zeros_like(a))


def sweep(
    h: Array,
    q: Array,
    p: Array,
    bottom: Array | None,
    sides: tuple[str, str],
    spacing: float,
    gravity: float,
    reconstruction: str,
    dry_depth: float,
    xp: Any,
) -> tuple[Array, Array, Array]:
    """Rates of change of depth and momenta by the fluxes and the bottom along the last axis."""
    width = WIDTHS[reconstruction]
    depth = extend(h, width, *sides, 1.0, xp)
    along, across = extend(q, width, *sides, -1.0, xp), extend(p, width, *sides, 1.0, xp)
    surface = depth if bottom is None else depth + extend(bottom, width, *sides, 1.0, xp)
    u, v = velocity(depth, along, dry_depth, xp), velocity(depth, across, dry_depth, xp)
    low, high = _RECONSTRUCTIONS[reconstruction](Cells(depth, surface, u, v, along, across), dry_depth, xp)
    if bottom is None:
        low, high = low._replace(e=low.h), high._replace(e=high.h)
    left, right = Faces(*(a[..., :-1] for a in high)), Faces(*(a[..., 1:] for a in low))
    h_left, h_right = (left.h, right.h) if bottom is None else hydrostatic(left, right, xp)
    mass, before, after, across = hllc(h_left, left.u, left.v, h_right, right.u, right.v, gravity, xp)
    inner = (0.5 * gravity * (low.h + high.h) * (high.e - low.e))[..., 1:-1]
    return (
        (mass[..., :-1] - mass[..., 1:]) / spacing,
        (after[..., :-1] - before[..., 1:] - inner) / spacing,
        (across[..., :-1] - across[..., 1:]) / spacing,
    )


def rate(
    state: Array,
    bottom: Array | None,
    sides: tuple[str, str, str, str],
    spacing: tuple[float, float],
    gravity: float,
    coriolis: float,
    reconstruction: str,
    dry_depth: float,
    xp: Any,
) -> Array:
    """du/dt of a state (member, 3, y, x). sides: left, right, bottom, top. bottom: b (y, x), or None for b = 0."""
    h, q, p = (state[:, k, ...] for k in range(3))
    h = xp.maximum(h, 0 * h)
    turned = [xp.matrix_transpose(a) for a in (h, p, q)]
    across = None if bottom is None else xp.broadcast_to(xp.matrix_transpose(bottom), turned[0].shape)
    bottom = None if bottom is None else xp.broadcast_to(bottom, h.shape)
    scheme = (gravity, reconstruction, dry_depth, xp)
    x_depth, x_along, x_across = sweep(h, q, p, bottom, sides[:2], spacing[1], *scheme)
    y_rates = sweep(turned[0], turned[1], turned[2], across, sides[2:], spacing[0], *scheme)
    y_depth, y_along, y_across = (xp.matrix_transpose(a) for a in y_rates)
    depth, along, over = x_depth + y_depth, x_along + y_across, x_across + y_along
    if coriolis:
        along = along + coriolis * h * velocity(h, p, dry_depth, xp)
        over = over - coriolis * h * velocity(h, q, dry_depth, xp)
    return xp.stack([depth, along, over], axis=1)


def apply_coriolis(state: Array, angle: Array | float, xp: Any) -> Array:
    """The state with its momenta rotated clockwise by `angle` = f t: the exact flow of the Coriolis force alone."""
    if isinstance(angle, float):
        if not angle:
            return state
        c, s = math.cos(angle), math.sin(angle)
    else:
        c, s = xp.cos(angle), xp.sin(angle)
    q, p = state[:, 1, ...], state[:, 2, ...]
    return xp.stack([state[:, 0, ...], c * q + s * p, c * p - s * q], axis=1)


def relax(state: Array, friction: float, dry_depth: float, h: float, xp: Any) -> Array:
    """The state after a time h of q' = -k |q| q, k = friction / depth^(7/3), exactly. friction: g n^2, n Manning's.

    Depths that are negative by round-off are set to 0. Where h < dry_depth, the momentum is first set to h times
    `velocity`.
    """
    depth, q, p = (state[:, k, ...] for k in range(3))
    none = 0 * depth
    depth = xp.where((depth < 0) & (depth >= -ROUND_OFF.of(real_type(depth.dtype)) * dry_depth), none, depth)
    thin = depth < dry_depth
    held = xp.where(thin, xp.maximum(depth, none), xp.ones_like(depth))
    factor = xp.where(thin, held * held / (dry_depth * dry_depth), xp.ones_like(depth))
    if friction:
        size = root(q * q + p * p, xp) * factor
        water = xp.where(depth > 0, depth, none) ** (7 / 3)
        wet = water > 0  # it may underflow
        water = xp.where(wet, water, xp.ones_like(depth))
        factor = xp.where(wet, factor * water / (water + friction * h * size), none)
    return xp.stack([depth, q * factor, p * factor], axis=1)
