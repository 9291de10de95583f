"""Phase-space transport as array code in any namespace `xp`: upwind fluxes, conservative shifts, Poisson's equation.

Lines are the last axis, (..., cell). kernels.py computes the same on the CPU with Numba.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...finite_volume import array_code as finite_volume
from ...grid import Grid

Array = Any
Order = Literal[3, 5, 7, 9, 11, 13]
Ends = Literal["periodic", "closed", "open"]

FARTHEST = 1e15  # cells; a longer shift, or nan, is not split into whole cells and makes the result visibly wrong


def green(grid: Grid) -> NDArray[np.float64]:
    """G (x,) of E_i = sum_j G_{i-j mod n} n_j: the spectral solution of E = -phi_x, -phi_xx = n - <n>.

    E_hat_k = n_hat_k / (i k). Mode 0 is zero, and so is the Nyquist mode, because a real field cannot represent its
    integral. G is odd, so that sum n E = 0 and the field conserves momentum.
    """
    n, length = grid.shape[-1], grid.length[-1]
    m = np.arange(1, (n + 1) // 2)
    angle = 2 * np.pi / n * (np.outer(np.arange(n), m) % n)
    return np.sin(angle) @ (length / (np.pi * m)) / n


@functools.lru_cache(maxsize=4)
def field_matrix(grid: Grid) -> NDArray[np.float64]:
    """dv G_{i-j}, (j, i), read-only: E = (sum of f over v) @ this matrix."""
    n = grid.shape[-1]
    i, j = np.arange(n), np.arange(n)[:, None]
    found = grid.spacing[0] * green(grid)[(i - j) % n]
    found.flags.writeable = False
    return found


def extend(f: Array, width: int, ends: Ends, xp: Any) -> Array:
    """f with `width` ghost cells at each end, (..., n) -> (..., n + 2 width): periodic copies, or zeros."""
    n = f.shape[-1]
    if ends != "periodic":
        zeros = xp.zeros((*f.shape[:-1], width), dtype=f.dtype, device=f.device)
        return xp.concat([zeros, f, zeros], axis=-1)
    turns = -(-width // n)
    return xp.concat([f] * (2 * turns + 1), axis=-1)[..., turns * n - width : (turns + 1) * n + width]


def upwind_rate(f: Array, speed: Array, spacing: float, ends: Ends, xp: Any) -> Array:
    """-c f_x along lines of constant speed c (..., 1), with WENO-Z states from the upwind side.

    Beyond ends that are not periodic f = 0; there is no flux through closed ends. As the flux is linear along a line,
    the finite-difference formula for point values and the finite-volume formula for averages are identical, and fifth
    order for both.
    """
    width, reconstruct = finite_volume.RECONSTRUCTIONS["weno5"]
    left, right = reconstruct(extend(f, width, ends, xp), xp)
    state = xp.where(speed > 0, left, right)
    if ends == "closed":
        wall = xp.zeros_like(state[..., :1])
        state = xp.concat([wall, state[..., 1:-1], wall], axis=-1)
    return speed * finite_volume.balance(state, spacing)


@functools.cache
def fraction_table(order: Order) -> NDArray[np.float64]:
    """Polynomials for the mass in the right fraction a of a cell: M = sum_md table[m, d] a^d f_m, (tap, power).

    The integral of f is interpolated through the order + 1 faces around the cell. This is the polynomial whose averages
    over the `order` cells m = -r..r, r = order // 2, are f_m. It is computed in exact fractions and rounded once.
    """
    r = order // 2
    faces = range(-r - 1, r + 1)  # in cells, from the cell's right face
    rows = [[Fraction(int(m <= 0 and d == 0)) for d in range(order + 1)] for m in range(-r, r + 1)]
    for k in faces:
        lagrange = [Fraction(1)]  # Lagrange polynomial of face k at -a, lowest power first
        for q in faces:
            if q != k:
                shifted, same = [Fraction(0), *lagrange], [*lagrange, Fraction(0)]
                lagrange = [(-a - q * b) / (k - q) for a, b in zip(shifted, same, strict=True)]
        for m in range(-r, r + 1):
            if k >= m:
                rows[m + r] = [a - b for a, b in zip(rows[m + r], lagrange, strict=True)]
    return np.array(rows, dtype=np.float64)


def shift(f: Array, distance: Array, table: Array, ends: Ends, positivity: bool, xp: Any) -> Array:
    """f shifted to the right by `distance` (..., 1) cells along each line: conservative, and exact for whole cells.

    With distance = s + a, 0 <= a < 1, and M_i the mass in the right fraction a of cell i,

        f'_{i+s} = f_i - M_i + M_{i-1} .

    positivity: M_i is clipped to the range from 0 to f_i, which keeps f' >= 0 and is still conservative. Beyond ends
    that are not periodic f = 0. Mass that is shifted beyond an open end is lost; beyond a closed end it is added to the
    last cell.
    """
    n, reach = f.shape[-1], table.shape[0] // 2
    below = xp.where(xp.abs(distance) < FARTHEST, xp.floor(distance), xp.zeros_like(distance))
    fraction = distance - below
    first = -1 if ends == "periodic" else -reach - 2  # index of the first cell whose M is computed
    cells = extend(f, reach - first, ends, xp)
    size = cells.shape[-1] - 2 * reach
    taps = table[:, -1] + 0 * fraction
    for d in range(table.shape[1] - 2, -1, -1):
        taps = taps * fraction + table[:, d]
    mass = xp.zeros_like(cells[..., :size])
    for m in range(2 * reach + 1):
        mass = mass + taps[..., m : m + 1] * cells[..., m : m + size]
    middle = cells[..., reach : reach + size]
    if positivity:
        nothing = xp.zeros_like(middle)
        mass = xp.minimum(xp.maximum(mass, xp.minimum(middle, nothing)), xp.maximum(middle, nothing))
    moved = middle[..., 1:] - mass[..., 1:] + mass[..., :-1]
    source = xp.astype(xp.arange(n, device=f.device), f.dtype) - below
    if ends == "periodic":
        source = source - n * xp.floor(source / n)
    else:  # the outermost shifted values are zero and represent all cells beyond
        source = source - (first + 1)
        last = xp.full_like(source, moved.shape[-1] - 1)
        source = xp.minimum(
            xp.maximum(source, xp.zeros_like(source)), last
        )  # xp.clip would send its limits to a device
    index = xp.broadcast_to(xp.astype(source, xp.int64), (*f.shape[:-1], n))
    result = xp.take_along_axis(moved, index, axis=-1)
    if ends != "closed":
        return result
    target = xp.astype(xp.arange(first + 1, first + 1 + moved.shape[-1], device=f.device), f.dtype) + below
    nothing = xp.zeros_like(moved)
    low = xp.sum(xp.where(target < 0, moved, nothing), axis=-1, keepdims=True)
    high = xp.sum(xp.where(target > n - 1, moved, nothing), axis=-1, keepdims=True)
    return xp.concat([result[..., :1] + low, result[..., 1:-1], result[..., -1:] + high], axis=-1)
