"""Numba kernels for shallow water, which carry out the array code of shallow_water on the CPU, member by member.

u and out are (member * 3, row, column). The plane is cut into strips of TILE columns, and a strip is gone through row
by row: the fluxes along y between a row and the last, which complete the rate of the last; then the fluxes along x of
the row. All that lies between is kept in one array of lines of STRIDE numbers at constant offsets, so that LLVM sees
that lines do not overlap, and vectorises the loops. Cell c of a strip is number c + GHOSTS of its line. Loops over
faces run on to a whole vector: what they find there has no effect.

Arguments that are None where there is no bottom (b), and where the reconstruction is MUSCL (wide), are resolved by
Numba when it compiles.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from . import shallow_water
from .grid import Grid
from .spectral import empty

GHOSTS, TILE, STRIDE, VECTOR = 3, 256, 272, 8
# Lines. Five rows (j - 2 ... j + 2) of h, u, v, e, h u, h v; MUSCL keeps the middle three.
H, U, V, E, Q, P = (k * STRIDE for k in range(6))
ROW = 6 * STRIDE
BEFORE, LAST, HERE, NEXT, AFTER = (k * ROW for k in range(5))
HIGH = 5 * ROW  # states h, v, u, e at the upper faces of the last row
CARRY = HIGH + 4 * STRIDE  # what the flux through its lower faces brings to the rates of h, h v, h u
LEFT, RIGHT = CARRY + 3 * STRIDE, CARRY + 7 * STRIDE  # states h, u, v, e at the faces of a row
INNER = CARRY + 11 * STRIDE  # force along x inside the cells
FLUX = CARRY + 12 * STRIDE  # through the faces of a row: mass, momentum seen from the left, from the right, across
RATE = CARRY + 16 * STRIDE  # of the last row: of h, h u, h v
SIZE = RATE + 3 * STRIDE + 2 * VECTOR

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@numba.njit(inline="always")
def _half_slope(back, ahead):
    """Half of what the monotonised central limiter makes of the differences to either side."""
    middle = 0.25 * (back + ahead)
    size = min(min(abs(back), abs(ahead)), abs(middle))
    return math.copysign(size if back * ahead > 0.0 else 0.0, middle)


@numba.njit(inline="always")
def _level(e_0, e_1, e_2, h_0, h_1, h_2, dry):
    """Half the slope of the surface, level over a dry neighbour's ground that stands higher."""
    back, ahead = e_1 - e_0, e_2 - e_1
    back = back if h_0 > dry else max(back, 0.0)
    ahead = ahead if h_2 > dry else min(ahead, 0.0)
    slope = _half_slope(back, ahead)
    return slope if h_1 > dry else 0.0


@numba.njit(inline="always")
def _square(x):
    return x * x


@numba.njit(inline="always")
def _weno5(a, b, c, d, e):
    """Values at the lower and the upper face of the cell c."""
    d1, d2, d3, d4 = b - a, c - b, d - c, e - d
    smooth_0 = 13 / 12 * _square(d2 - d1) + 0.25 * _square(3 * d2 - d1) + 1e-40
    smooth_1 = 13 / 12 * _square(d3 - d2) + 0.25 * _square(d2 + d3) + 1e-40
    smooth_2 = 13 / 12 * _square(d4 - d3) + 0.25 * _square(3 * d3 - d4) + 1e-40
    tau = abs(smooth_0 - smooth_2)
    weight_0 = 1 + _square(tau / smooth_0)
    weight_1 = 6 * (1 + _square(tau / smooth_1))
    weight_2 = 1 + _square(tau / smooth_2)
    high = weight_0 * (5 * d2 - 2 * d1) + weight_1 * (d2 + 2 * d3) + 3 * weight_2 * (4 * d3 - d4)
    low = weight_2 * (5 * d3 - 2 * d4) + weight_1 * (d3 + 2 * d2) + 3 * weight_0 * (4 * d2 - d1)
    return c - low / (6 * (weight_2 + weight_1 + 3 * weight_0)), c + high / (6 * (weight_0 + weight_1 + 3 * weight_2))


@numba.njit(inline="always")
def _depths(h_left, e_left, h_right, e_right):
    """Depths above the higher of the two bottoms."""
    floor = max(e_left - h_left, e_right - h_right)
    return min(h_left, max(e_left - floor, 0.0)), min(h_right, max(e_right - floor, 0.0))


@numba.njit(inline="always")
def _hllc(h_left, u_left, v_left, h_right, u_right, v_right, gravity):
    c_left, c_right = math.sqrt(gravity * h_left), math.sqrt(gravity * h_right)
    front_left, front_right = u_right - 2 * c_right, u_left + 2 * c_left
    w_left = u_left if h_left > 0.0 else front_left
    w_right = u_right if h_right > 0.0 else front_right
    u_star = 0.5 * (w_left + w_right) + c_left - c_right
    c_star = 0.5 * (c_left + c_right) + 0.25 * (w_left - w_right)
    slow = min(min(w_left - c_left, u_star - c_star), 0.0)
    fast = max(max(w_right + c_right, u_star + c_star), 0.0)
    inverse = 1 / max(fast - slow, 1e-300)
    skew, spread = 0.5 * (fast + slow) * inverse, fast * slow * inverse
    q_left, q_right = h_left * w_left, h_right * w_right
    m_left, m_right = q_left * w_left, q_right * w_right
    jump = 0.5 * gravity * (h_right - h_left) * (h_right + h_left)
    mass = 0.5 * (q_left + q_right) + skew * (q_left - q_right) + spread * (h_right - h_left)
    middle = 0.5 * (m_left + m_right) + skew * (m_left - m_right - jump) + spread * (q_right - q_left)
    v = v_left if mass > 0.0 else v_right
    return mass, middle + 0.5 * jump, middle - 0.5 * jump, mass * v


@numba.njit(inline="always")
def _whole(n):
    return (n + VECTOR - 1) // VECTOR * VECTOR


@numba.njit(**OPTIONS)
def _copy(row, start, n, columns, turn, line):
    """Cells start - GHOSTS ... start + n + GHOSTS of a row into a line; beyond the ends, those that `columns` names."""
    first, last = max(start - GHOSTS, 0), min(start + n + GHOSTS, row.shape[0])
    inside, place = row[first:last], line[first - start + GHOSTS :]
    for i in range(inside.shape[0]):
        place[i] = inside[i]
    for c in range(start - GHOSTS, first):
        line[c - start + GHOSTS] = turn[c + GHOSTS] * row[columns[c + GHOSTS]]
    for c in range(last, start + n + GHOSTS):
        line[c - start + GHOSTS] = turn[c + GHOSTS] * row[columns[c + GHOSTS]]


@numba.njit(**OPTIONS)
def _load(u, b, m, r, start, n, columns, same, turn, sign, wide, dry, s):
    """Row r into the lines of the newest row. turn, sign: factors of h u and of h v, -1 beyond a wall; same: ones."""
    at = NEXT if wide is None else AFTER
    _copy(u[m, r], start, n, columns, same, s[at + H :])
    _copy(u[m + 1, r], start, n, columns, turn, s[at + U :])
    _copy(u[m + 2, r], start, n, columns, same, s[at + V :])
    if b is not None:
        _copy(b[r], start, n, columns, same, s[at + E :])
    for k in range(_whole(n + 2 * GHOSTS)):
        h, q, p = max(s[at + H + k], 0.0), s[at + U + k], sign * s[at + V + k]
        inverse = h / max(h * h, dry * dry)
        s[at + H + k], s[at + U + k], s[at + V + k] = h, q * inverse, p * inverse
        if b is not None:
            s[at + E + k] += h
        if wide is not None:
            s[at + Q + k], s[at + P + k] = q, p


@numba.njit(**OPTIONS)
def _across(s, n, b, wide, per_y, per_x, gravity, coriolis, dry):
    """Fluxes through the lower faces of the row, which complete the rate of the last row; then the rows move down."""
    for i in range(n):
        k = i + GHOSTS
        h_0, h_1, h_2 = s[LAST + H + k], s[HERE + H + k], s[NEXT + H + k]
        u_0, u_1, u_2 = s[LAST + U + k], s[HERE + U + k], s[NEXT + U + k]
        v_0, v_1, v_2 = s[LAST + V + k], s[HERE + V + k], s[NEXT + V + k]
        h, u, v = (
            _half_slope(h_1 - h_0, h_2 - h_1),
            _half_slope(u_1 - u_0, u_2 - u_1),
            _half_slope(v_1 - v_0, v_2 - v_1),
        )
        h_low, u_low, v_low = h_1 - h, u_1 - u, v_1 - v
        h_high, u_high, v_high = h_1 + h, u_1 + u, v_1 + v
        if b is not None:
            e_0, e_1, e_2 = s[LAST + E + k], s[HERE + E + k], s[NEXT + E + k]
            e = _level(e_0, e_1, e_2, h_0, h_1, h_2, dry)
            e_low, e_high = e_1 - e, e_1 + e
        if wide is not None:
            h_b, h_a = s[BEFORE + H + k], s[AFTER + H + k]
            d_low, d_high = _weno5(h_b, h_0, h_1, h_2, h_a)
            q_low, q_high = _weno5(
                s[BEFORE + Q + k], s[LAST + Q + k], s[HERE + Q + k], s[NEXT + Q + k], s[AFTER + Q + k]
            )
            p_low, p_high = _weno5(
                s[BEFORE + P + k], s[LAST + P + k], s[HERE + P + k], s[NEXT + P + k], s[AFTER + P + k]
            )
            wet = min(min(min(h_b, h_0), min(h_2, h_a)), h_1) > dry
            resolved = wet & (max(abs(d_low - h_1), abs(d_high - h_1)) <= 0.5 * h_1)
            d_low, d_high = d_low if resolved else 1.0, d_high if resolved else 1.0
            if b is not None:
                f_low, f_high = _weno5(s[BEFORE + E + k], e_0, e_1, e_2, s[AFTER + E + k])
                e_low, e_high = f_low if resolved else e_low, f_high if resolved else e_high
            h_low, h_high = d_low if resolved else h_low, d_high if resolved else h_high
            u_low, u_high = q_low / d_low if resolved else u_low, q_high / d_high if resolved else u_high
            v_low, v_high = p_low / d_low if resolved else v_low, p_high / d_high if resolved else v_high
        if b is None:
            h_left, h_right = s[HIGH + k], h_low
            force = 0.5 * gravity * (h_low + h_high) * (h_high - h_low)
        else:
            h_left, h_right = _depths(s[HIGH + k], s[HIGH + 3 * STRIDE + k], h_low, e_low)
            force = 0.5 * gravity * (h_low + h_high) * (e_high - e_low)
        mass, below, above, over = _hllc(
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


@numba.njit(**OPTIONS)
def _move_down(b, wide, s):
    """Every row takes the place of the one before it."""
    if wide is not None:
        for k in range(4 * ROW):
            s[k] = s[k + ROW]
    else:
        for k in range(3 * STRIDE if b is None else 4 * STRIDE):
            s[LAST + k] = s[HERE + k]
            s[HERE + k] = s[NEXT + k]


@numba.njit(**OPTIONS)
def _along(s, n, b, wide, gravity, dry):
    """Fluxes along x of the middle row."""
    for i in range(_whole(n + 2)):
        k = i + GHOSTS - 1
        h_0, h_1, h_2 = s[HERE + H + k - 1], s[HERE + H + k], s[HERE + H + k + 1]
        u_0, u_1, u_2 = s[HERE + U + k - 1], s[HERE + U + k], s[HERE + U + k + 1]
        v_0, v_1, v_2 = s[HERE + V + k - 1], s[HERE + V + k], s[HERE + V + k + 1]
        h, u, v = (
            _half_slope(h_1 - h_0, h_2 - h_1),
            _half_slope(u_1 - u_0, u_2 - u_1),
            _half_slope(v_1 - v_0, v_2 - v_1),
        )
        h_low, u_low, v_low = h_1 - h, u_1 - u, v_1 - v
        h_high, u_high, v_high = h_1 + h, u_1 + u, v_1 + v
        if b is not None:
            e_0, e_1, e_2 = s[HERE + E + k - 1], s[HERE + E + k], s[HERE + E + k + 1]
            e = _level(e_0, e_1, e_2, h_0, h_1, h_2, dry)
            e_low, e_high = e_1 - e, e_1 + e
        if wide is not None:
            h_b, h_a = s[HERE + H + k - 2], s[HERE + H + k + 2]
            d_low, d_high = _weno5(h_b, h_0, h_1, h_2, h_a)
            q = HERE + Q + k
            q_low, q_high = _weno5(s[q - 2], s[q - 1], s[q], s[q + 1], s[q + 2])
            p = HERE + P + k
            p_low, p_high = _weno5(s[p - 2], s[p - 1], s[p], s[p + 1], s[p + 2])
            wet = min(min(min(h_b, h_0), min(h_2, h_a)), h_1) > dry
            resolved = wet & (max(abs(d_low - h_1), abs(d_high - h_1)) <= 0.5 * h_1)
            d_low, d_high = d_low if resolved else 1.0, d_high if resolved else 1.0
            if b is not None:
                f_low, f_high = _weno5(s[HERE + E + k - 2], e_0, e_1, e_2, s[HERE + E + k + 2])
                e_low, e_high = f_low if resolved else e_low, f_high if resolved else e_high
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
    for i in range(_whole(n + 1)):
        k = i + GHOSTS
        if b is None:
            h_left, h_right = s[LEFT + k], s[RIGHT + k]
        else:
            h_left, h_right = _depths(s[LEFT + k], s[LEFT + 3 * STRIDE + k], s[RIGHT + k], s[RIGHT + 3 * STRIDE + k])
        mass, before, after, over = _hllc(
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


@numba.njit(**OPTIONS)
def _finish(s, u, out, weights, base, frozen, use_frozen, m, r, start, n):
    """out = a base + c u + h (rates + frozen) in a row, weights = (a, c, h)."""
    a, c, h = weights
    for k in range(3):
        rates = s[RATE + k * STRIDE + GHOSTS :]
        target, now = out[m + k, r, start : start + n], u[m + k, r, start : start + n]
        first = base[m + k, r, start : start + n]
        if use_frozen:
            more = frozen[m + k, r, start : start + n]
            for i in range(n):
                rates[i] += more[i]
        for i in range(n):
            target[i] = a * first[i] + c * now[i] + h * rates[i]


@numba.njit(**OPTIONS)
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
    dry,
    s,
    out,
    weights,
    base,
    frozen,
    use_frozen,
):
    """out = a base + c u + h (N + frozen), N the rates of u and weights = (a, c, h); out may be base, and not u.

    rows, columns: numbers of the cells with ghosts; turns: -1 beyond walls, else 1.
    """
    height, width = u.shape[1:]
    reach = 1 if wide is None else 2
    same = np.ones(columns.shape[0])
    for m in range(0, u.shape[0], 3):
        for start in range(0, width, TILE):
            n = min(TILE, width - start)
            for j in range(-1 - 2 * reach, height + 1):
                if j > -1 - 2 * reach:
                    _move_down(b, wide, s)
                r = rows[j + reach + GHOSTS]
                _load(u, b, m, r, start, n, columns, same, turns_x, turns_y[j + reach + GHOSTS], wide, dry, s)
                if j >= -1:
                    _across(s, n, b, wide, 1 / spacing_y, 1 / spacing_x, gravity, coriolis, dry)
                if j >= 1:
                    _finish(s, u, out, weights, base, frozen, use_frozen, m, j - 1, start, n)
                if 0 <= j < height:
                    _along(s, n, b, wide, gravity, dry)


@numba.njit(**OPTIONS)
def rate(u, per_y, per_x, gravity, dry, line):
    """Largest sum over the axes of (speed + sqrt(g h)) / spacing; line: work of one row."""
    line[:] = 0.0
    for m in range(0, u.shape[0], 3):
        for r in range(u.shape[1]):
            for c in range(u.shape[2]):
                h = max(u[m, r, c], 0.0)
                inverse = h / max(h * h, dry * dry)
                sound = math.sqrt(gravity * h)
                along = per_x * (abs(u[m + 1, r, c]) * inverse + sound)
                across = per_y * (abs(u[m + 2, r, c]) * inverse + sound)
                line[c] = max(along + across, line[c])
    largest = 0.0
    for c in range(u.shape[2]):
        largest = max(line[c], largest)
    return largest


@numba.njit(**OPTIONS)
def admissible(u):
    """No depth below zero."""
    for m in range(0, u.shape[0], 3):
        for r in range(u.shape[1]):
            lowest = 0.0
            for c in range(u.shape[2]):
                lowest = min(u[m, r, c], lowest)
            if lowest < 0.0:
                return False
    return True


@numba.njit(**OPTIONS)
def relax(u, friction, dry, h):
    """In place: friction over a time h; see the array code."""
    for m in range(0, u.shape[0], 3):
        for r in range(u.shape[1]):
            lowest = np.inf
            for c in range(u.shape[2]):
                lowest = min(u[m, r, c], lowest)
            if lowest >= dry and friction == 0.0:
                continue
            for c in range(u.shape[2]):
                depth = u[m, r, c]
                factor = 1.0
                if depth < dry:
                    factor = _square(max(depth, 0.0)) / (dry * dry)
                    if depth >= -1e-6 * dry:
                        u[m, r, c] = max(depth, 0.0)
                if friction > 0.0 and depth > 0.0:
                    size = math.sqrt(_square(u[m + 1, r, c]) + _square(u[m + 2, r, c])) * factor
                    water = depth ** (7 / 3)
                    factor *= water / (water + friction * h * size)
                if factor != 1.0:
                    u[m + 1, r, c] *= factor
                    u[m + 2, r, c] *= factor


def with_ghosts(n: int, low: str, high: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of the cells -GHOSTS ... n + GHOSTS, and -1 for those beyond a wall, else 1; as shallow_water.extend."""
    cells = shallow_water.extend(np.arange(n, dtype=np.float64), GHOSTS, low, high, 1.0, np)
    turned = shallow_water.extend(np.ones(n), GHOSTS, low, high, -1.0, np)
    return cells.astype(np.int64), turned


class ShallowWaterBalance:
    """du/dt of shallow water, for batches (member * 3, row, column); sides are left, right, bottom, top."""

    def __init__(
        self,
        grid: Grid,
        bottom: NDArray | None,
        sides: tuple[str, str, str, str],
        gravity: float,
        coriolis: float,
        friction: float,
        reconstruction: str,
        dry: float,
    ) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(grid.shape[0], dtype=bool), grid.shape[1]
        self._bottom, self._gravity, self._coriolis = bottom, gravity, coriolis
        self._friction, self._dry, self._spacing = friction, dry, grid.spacing
        self._wide = None if reconstruction == "muscl" else True
        self._x, self._y = with_ghosts(grid.shape[1], *sides[:2]), with_ghosts(grid.shape[0], *sides[2:])
        self._lines, self._row = empty((SIZE,)), empty((grid.shape[1],))
        self._sweeps: tuple[NDArray, ...] | None = None

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        self._balance(u, out, (0.0, 0.0, 1.0), u, None)

    def stage(
        self, u: NDArray, t: float, out: NDArray, base: NDArray, a: float, c: float, h: float, frozen: NDArray | None
    ) -> None:
        """out = a base + c (u + h (N(u) + frozen)), while the rates are in cache; out may be base, and not u."""
        self._balance(u, out, (a, c, c * h), base, frozen)

    def _balance(
        self, u: NDArray, out: NDArray, weights: tuple[float, float, float], base: NDArray, frozen: NDArray | None
    ) -> None:
        balance(
            u,
            self._bottom,
            self._y[0],
            self._x[0],
            self._y[1],
            self._x[1],
            *self._spacing,
            self._gravity,
            self._coriolis,
            self._wide,
            self._dry,
            self._lines,
            out,
            weights,
            base,
            u if frozen is None else frozen,
            frozen is not None,
        )

    def rate(self, u: NDArray) -> float:
        per_y, per_x = (1 / h for h in self._spacing)
        return float(rate(u, per_y, per_x, self._gravity, self._dry, self._row))

    def admissible(self, u: NDArray) -> bool:
        return bool(admissible(u))

    def relax(self, u: NDArray, h: float) -> None:
        relax(u, self._friction, self._dry, h)

    def sweep_rate(self, u: NDArray) -> float:
        """The largest of speed / spacing over the axes."""
        speeds = (rate(u, *pair, self._gravity, self._dry, self._row) for pair in ((1.0, 0.0), (0.0, 1.0)))
        return float(max(speed / h for speed, h in zip(speeds, self._spacing, strict=True)))

    def flow(self, part: str, u: NDArray, h: float) -> None:
        from . import shallow_water_sweeps as sweeps

        if self._sweeps is None:
            edge = np.zeros((4, 3, TILE))
            self._sweeps = empty((sweeps.SIZE,)), edge, np.zeros((3, u.shape[2])), np.ones(u.shape[2] + 2 * GHOSTS)
        lines, edge, row, same = self._sweeps
        self._turn(u, 0.25 * self._coriolis * h)
        physics = self._gravity, self._dry
        if part == "x":
            sweeps.along_x(u, self._bottom, *self._x, same, h / self._spacing[1], *physics, row, lines)
        else:
            sweeps.along_y(u, self._bottom, *self._y, h / self._spacing[0], *physics, edge, lines)
        self._turn(u, 0.25 * self._coriolis * h)

    def _turn(self, u: NDArray, angle: float) -> None:
        if angle:
            state = u.reshape(-1, 3, *u.shape[1:])
            state[...] = shallow_water.turn(state, angle, np)
