"""Finite volumes along the last axis: du_j/dt = -(F_{j+1/2} - F_{j-1/2}) / h, in any array namespace `xp`.

States are cell averages (..., cell) on cells of width h. `extend` adds `width` ghost cells at either end, a
reconstruction maps the extended cells (..., n + 2 width) to the left and right states at the n + 1 faces, a numerical
flux maps these to one value per face, and `balance` takes the difference. kernels.py is the compiled version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import real_type
from .reconstruction import NEGLIGIBLE, SMALLEST

Array = Any
Ends = tuple[float, float] | None


def extend(u: Array, width: int, ends: Ends, xp: Any) -> Array:
    """u with `width` ghost cells at either end: (..., n) -> (..., n + 2 width).

    ends None: periodic. ends (left, right): the value at either end face, by odd reflection about it, which
    is exact to every order where the solution is odd about the face (Burgers with value 0), else of second
    order.
    """
    first, last = u[..., :width], u[..., -width:]
    if ends is None:
        return xp.concat([last, u, first], axis=-1)
    left, right = ends
    return xp.concat([2 * left - xp.flip(first, axis=-1), u, 2 * right - xp.flip(last, axis=-1)], axis=-1)


def _faces(cells: Array, width: int) -> list[Array]:
    """The 2 width cells around each face, from left to right, each (..., n + 1)."""
    faces = cells.shape[-1] - 2 * width + 1
    return [cells[..., k : k + faces] for k in range(2 * width)]


def monotonised(back: Array, ahead: Array, xp: Any) -> Array:
    """Slope of the monotonised central limiter, per cell, from the differences to both sides."""
    size = xp.minimum(2 * xp.minimum(xp.abs(back), xp.abs(ahead)), 0.5 * xp.abs(back + ahead))
    return 0.5 * (xp.sign(back) + xp.sign(ahead)) * size


def muscl(cells: Array, xp: Any) -> tuple[Array, Array]:
    """Left and right states at the faces, of second order, TVD: (..., n + 4) -> twice (..., n + 1).

    Slopes by the monotonised central limiter: van Leer, J. Comput. Phys. 23 (1977) 276.
    """
    a, b, c, d = _faces(cells, 2)
    return b + 0.5 * monotonised(b - a, c - b, xp), c - 0.5 * monotonised(c - b, d - c, xp)


def _weno5(a: Array, b: Array, c: Array, d: Array, e: Array, xp: Any) -> Array:
    """Value at the face between c and d, biased towards c.

    The compiled variants differ in their arithmetic: see reconstruction.weno5_value.
    """
    if real_type(c.dtype) == "float32":
        return _weno5_single(a, b, c, d, e, xp)
    smooth_0 = 13 / 12 * (a - 2 * b + c) ** 2 + 0.25 * (a - 4 * b + 3 * c) ** 2
    smooth_1 = 13 / 12 * (b - 2 * c + d) ** 2 + 0.25 * (b - d) ** 2
    smooth_2 = 13 / 12 * (c - 2 * d + e) ** 2 + 0.25 * (3 * c - 4 * d + e) ** 2
    tau = xp.abs(smooth_0 - smooth_2)
    weight_0 = 0.1 * (1 + (tau / (smooth_0 + 1e-40)) ** 2)
    weight_1 = 0.6 * (1 + (tau / (smooth_1 + 1e-40)) ** 2)
    weight_2 = 0.3 * (1 + (tau / (smooth_2 + 1e-40)) ** 2)
    value = weight_0 * (2 * a - 7 * b + 11 * c) + weight_1 * (5 * c - b + 2 * d) + weight_2 * (2 * c + 5 * d - e)
    return value / (6 * (weight_0 + weight_1 + weight_2))


def weno5_weights(s0: Array, s1: Array, s2: Array) -> tuple[Array, Array, Array]:
    """(1 + tau^2 / s_i^2) with the factors 1, 6 and 1, up to a common factor, for single precision."""
    scale = 1 / (s0 + s1 + s2 + SMALLEST)
    tau = ((s0 - s2) * scale) ** 2
    q0, q1, q2 = ((s * scale + NEGLIGIBLE) ** 2 for s in (s0, s1, s2))
    return (q0 + tau) * (q1 * q2), 6 * ((q1 + tau) * (q0 * q2)), (q2 + tau) * (q0 * q1)


def _weno5_single(a: Array, b: Array, c: Array, d: Array, e: Array, xp: Any) -> Array:
    """_weno5 in single precision, from differences, so that constants are reproduced exactly."""
    d1, d2, d3, d4 = b - a, c - b, d - c, e - d
    s0 = 13 / 12 * (d2 - d1) ** 2 + 0.25 * (3 * d2 - d1) ** 2
    s1 = 13 / 12 * (d3 - d2) ** 2 + 0.25 * (d2 + d3) ** 2
    s2 = 13 / 12 * (d4 - d3) ** 2 + 0.25 * (3 * d3 - d4) ** 2
    w0, w1, w2 = weno5_weights(s0, s1, s2)
    change = w0 * (5 * d2 - 2 * d1) + w1 * (d2 + 2 * d3) + 3 * w2 * (4 * d3 - d4)
    return c + change / (6 * (w0 + w1 + 3 * w2))


def weno5(cells: Array, xp: Any) -> tuple[Array, Array]:
    """Left and right states at the faces, of fifth order on smooth data: (..., n + 6) -> twice (..., n + 1).

    WENO-Z with p = 2, which keeps the order at critical points: Borges, Carmona, Costa and Don,
    J. Comput. Phys. 227 (2008) 3191.
    """
    a, b, c, d, e, f = _faces(cells, 3)
    return _weno5(a, b, c, d, e, xp), _weno5(f, e, d, c, b, xp)


RECONSTRUCTIONS: dict[str, tuple[int, Callable[[Array, Any], tuple[Array, Array]]]] = {
    "muscl": (2, muscl),
    "weno5": (3, weno5),
}
"""By name: the number of ghost cells, and the reconstruction."""


def upwind(left: Array, right: Array, speed: float) -> Array:
    """F of f(u) = c u: c u_left if c > 0, else c u_right."""
    return max(speed, 0.0) * left + min(speed, 0.0) * right


def godunov(left: Array, right: Array, xp: Any) -> Array:
    """F of f(u) = u^2 / 2 from the exact Riemann solution: max(max(u_l, 0)^2, min(u_r, 0)^2) / 2.

    LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), chapter 12.
    """
    from_left = 0.5 * (left + xp.abs(left))
    from_right = 0.5 * (right - xp.abs(right))
    return 0.5 * xp.maximum(from_left**2, from_right**2)


def diffusive_flux(cells: Array, width: int, viscosity: float, spacing: float) -> Array:
    """-nu u_x at the faces from cell averages, central: second order for width 2, fourth for width 3."""
    states = _faces(cells, width)
    jump = states[width] - states[width - 1]
    if width == 3:
        jump = (15 * jump - (states[4] - states[1])) / 12
    return -viscosity / spacing * jump


def balance(flux: Array, spacing: float) -> Array:
    """du/dt = -(F_{j+1/2} - F_{j-1/2}) / h: (..., n + 1) -> (..., n)."""
    return (flux[..., :-1] - flux[..., 1:]) / spacing


def flux_balance(
    u: Array,
    reconstruction: str,
    ends: Ends,
    spacing: float,
    flux: Callable[[Array, Array, Array], Array],
    xp: Any,
) -> Array:
    """du/dt of cell averages (..., cell), with flux(cells, left, right) at the faces."""
    width, reconstruct = RECONSTRUCTIONS[reconstruction]
    cells = extend(u, width, ends, xp)
    return balance(flux(cells, *reconstruct(cells, xp)), spacing)
