"""The dimension-split scheme for shallow water as array code: the equations along one axis at a time.

The names are those of array_code. sweep_kernels computes the same on the CPU with Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...backend import real_type
from ...finite_volume.array_code import monotonised
from .array_code import Array, extend, root, sweep, velocity
from .pointwise_kernels import NO_WATER, SMALLEST


def changes(below: Array, above: Array, courant: Array, xp: Any) -> tuple[Array, Array]:
    """What an invariant r with r_t + s r_x = 0 gains from the centre of a cell to its faces, after half a step.

    below, above: differences to the neighbours, r_i - r_{i-1} and r_{i+1} - r_i. courant: s step / spacing. The values
    are r_i - low and r_i + high. At the face that the wave moves to, with Courant number n, the gain is

        (1 - n) min(2 behind, 2 ahead / (1 - n), ((2 - m) ahead + (1 + m) behind) / 3) / 2,    m = max(n, 1/2),

    on smooth data of third order in space and time for n >= 1/2, of second for smaller n. The second bound, in place
    of the 2 ahead of the monotonised central limiter, is the largest that is total-variation diminishing at n, and
    keeps shocks sharp (Arora and Roe, J. Comput. Phys. 132 (1997) 3). Their bound on `behind` is 2 behind / n, which
    makes slopes of waves that are slow on this scale too steep. Riemann's problem at the other face hardly depends on
    its value: half the smaller difference, advanced by half the time, is enough.
    """
    upwards, zero = courant >= 0, xp.zeros_like(below)
    n = xp.minimum(xp.abs(courant), zero + 1)
    rest = 1 - n
    fore, back = xp.abs(above), xp.where(below * above > 0, xp.abs(below), zero)
    behind, ahead = xp.where(upwards, back, fore), xp.where(upwards, fore, back)
    lean = xp.maximum(n, zero + 0.5)
    middle = 1 / 6 * rest * ((2 - lean) * ahead + (1 + lean) * behind)
    sign = xp.where(above < 0, zero - 1, zero + 1)
    near = sign * xp.minimum(xp.minimum(rest * behind, ahead), middle)
    far = sign * ((0.5 + 0.5 * n) * xp.minimum(behind, ahead))
    return xp.where(upwards, far, near), xp.where(upwards, near, far)


def faces(c: Array, u: Array, v: Array, per: float, xp: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """c, u, v at the lower and upper faces of the cells after half a step, (..., n + 4) -> (..., n + 2).

    c = sqrt(g h). per: step / spacing. u + 2 c and u - 2 c move with u + c and u - c, and v with u.
    Where c would change by more than half of it, as at shores, the values are those of the cell.
    """

    def differences(a: Array) -> tuple[Array, Array]:
        d = a[..., 1:] - a[..., :-1]
        return d[..., :-1], d[..., 1:]

    (u_below, u_above), (w_below, w_above) = differences(u), differences(2 * c)
    slope = 0.5 * monotonised(*differences(v), xp)
    c, u, v = (a[..., 1:-1] for a in (c, u, v))
    p_low, p_high = changes(u_below + w_below, u_above + w_above, (c + u) * per, xp)
    m_high, m_low = changes(u_above - w_above, u_below - w_below, (c - u) * per, xp)
    moved = u * per
    c_low, c_high = 0.25 * (p_low - m_low), 0.25 * (p_high - m_high)
    shallow = xp.maximum(xp.abs(c_low), xp.abs(c_high)) > 0.5 * c
    gains = (c_low, 0.5 * (p_low + m_low), slope * (1 + moved)), (c_high, 0.5 * (p_high + m_high), slope * (1 - moved))
    kept = [[xp.where(shallow, xp.zeros_like(c), gain) for gain in side] for side in gains]
    low = tuple(a - gain for a, gain in zip((c, u, v), kept[0], strict=True))
    high = tuple(a + gain for a, gain in zip((c, u, v), kept[1], strict=True))
    return low, high


def roe_hllc(
    c_left: Array, u_left: Array, v_left: Array, c_right: Array, u_right: Array, v_right: Array, gravity: float, xp: Any
) -> tuple[Array, Array, Array]:
    """HLLC fluxes of mass, momentum along the axis and momentum across it, from c = sqrt(g h) and velocities.

    The outer wave speeds are those of Roe's linearisation, which are exact for single shocks: Toro, Shock-Capturing
    Methods for Free-Surface Shallow Flows (2001), section 10.4. Where a wave is transonic, by the two-rarefaction star
    state, its speed is at least that of its head, so that the entropy does not decrease. Speeds that enclose both
    velocities keep the depth from becoming negative: Einfeldt, Munz, Roe and Sjoegreen, J. Comput. Phys. 92 (1991) 273.
    Dry sides as in array_code.hllc.
    """
    none, precision = 0 * c_left, real_type(c_left.dtype)
    left, right = c_left * c_left, c_right * c_right
    h_left, h_right = left / gravity, right / gravity
    dry = NO_WATER.of(precision)
    w_left = xp.where(h_left > dry, u_left, u_right - 2 * c_right)
    w_right = xp.where(h_right > dry, u_right, u_left + 2 * c_left)
    u_star = 0.5 * (w_left + w_right) + c_left - c_right
    c_star = 0.5 * (c_left + c_right) + 0.25 * (w_left - w_right)
    smallest = none + SMALLEST.of(precision)
    u_roe = (c_left * w_left + c_right * w_right) / xp.maximum(c_left + c_right, smallest)
    c_roe = root(0.5 * (left + right), xp)
    first, last = w_left - c_left, w_right + c_right
    slow = xp.minimum(u_roe - c_roe, xp.where(first * (u_star - c_star) > 0, w_left, first))
    fast = xp.maximum(u_roe + c_roe, xp.where(last * (u_star + c_star) > 0, w_right, last))
    slow, fast = xp.minimum(slow, none), xp.maximum(fast, none)
    inverse = 1 / xp.maximum(fast - slow, smallest)
    skew, spread = 0.5 * (fast + slow) * inverse, fast * slow * inverse
    q_left, q_right = h_left * w_left, h_right * w_right
    m_left, m_right = q_left * w_left + 0.5 * left * h_left, q_right * w_right + 0.5 * right * h_right
    mass = 0.5 * (q_left + q_right) + skew * (q_left - q_right) + spread * (h_right - h_left)
    along = 0.5 * (m_left + m_right) + skew * (m_left - m_right) + spread * (q_right - q_left)
    return mass, along, mass * xp.where(mass > 0, v_left, v_right)


def flat(
    h: Array, q: Array, p: Array, sides: tuple[str, str], per: float, gravity: float, dry_depth: float, xp: Any
) -> tuple[Array, Array, Array]:
    """Changes of depth and momenta in a step by the fluxes along the last axis, on a flat bottom; per = step / spacing.

    A MUSCL-Hancock scheme in the Riemann invariants u + 2 c and u - 2 c, of which each moves with one speed: values at
    the faces after half the step and one flux per face (van Leer, SIAM J. Sci. Stat. Comput. 5 (1984) 1; Toro (2001),
    section 9.5).
    """
    depth = extend(h, 2, *sides, 1.0, xp)
    u, v = (
        velocity(depth, extend(momentum, 2, *sides, sign, xp), dry_depth, xp)
        for momentum, sign in ((q, -1.0), (p, 1.0))
    )
    low, high = faces(root(gravity * depth, xp), u, v, per, xp)
    c_left, u_left, v_left = (a[..., :-1] for a in high)
    c_right, u_right, v_right = (a[..., 1:] for a in low)
    fluxes = roe_hllc(c_left, u_left, v_left, c_right, u_right, v_right, gravity, xp)
    mass, along, across = (per * (flux[..., :-1] - flux[..., 1:]) for flux in fluxes)
    return mass, along, across


def shift(
    state: Array,
    part: str,
    bottom: Array | None,
    sides: tuple[str, str, str, str],
    spacing: tuple[float, float],
    gravity: float,
    dry_depth: float,
    h: Array | float,
    xp: Any,
    extended: Callable[[Array], Array] = lambda state: state,
    later: Callable[[Array], Array] = lambda state: state,
    inner: Callable[[Array], Array] = lambda state: state,
) -> Array:
    """The state (member, 3, y, x) after a time h under the equations along one axis alone; `part` is "x" or "y".

    extended, later: with ghost cells beyond prescribed sides, which the bottom has, at the beginning and at the end of
    the time, as the schemes ask for; inner: without them.

    On a flat bottom one step of `flat`. Over a bottom by Heun's method, two stages of the well-balanced rates:
    MUSCL-Hancock steps along x and y in turn amplify any perturbation of a lake at rest, because their half step in a
    cell does not take into account that steps of the bottom hold back the water at its faces.
    """

    def changes(state: Array, extended: Callable[[Array], Array]) -> Array:
        state = extended(state)
        depth, q, p = (state[:, k, ...] for k in range(3))
        depth = xp.maximum(depth, 0 * depth)
        ground = None if bottom is None else xp.broadcast_to(bottom, depth.shape)
        if part == "y":
            depth, q, p = (xp.matrix_transpose(a) for a in (depth, p, q))
            ground = None if ground is None else xp.matrix_transpose(ground)
        ends, width = (sides[:2], spacing[1]) if part == "x" else (sides[2:], spacing[0])
        if ground is None:
            found = flat(depth, q, p, ends, h / width, gravity, dry_depth, xp)
        else:
            rates = sweep(depth, q, p, ground, ends, width, gravity, "muscl", dry_depth, xp)
            found = h * rates[0], h * rates[1], h * rates[2]
        if part == "y":
            depth, q, p = (xp.matrix_transpose(a) for a in found)
            found = depth, p, q
        return inner(xp.stack(list(found), axis=1))

    if bottom is None:
        return state + changes(state, extended)
    first = state + changes(state, extended)
    return 0.5 * (state + (first + changes(first, later)))
