"""Limited slopes and WENO5 values at single points, inlined into the kernels that import them."""

from __future__ import annotations

import numba


@numba.njit(inline="always")
def _sign(x):
    return (x > 0.0) - (x < 0.0)


@numba.njit(inline="always")
def slope(a, b, c):
    """array_code.monotonised of the differences to both sides of b."""
    back, ahead = b - a, c - b
    size = min(2 * min(abs(back), abs(ahead)), 0.5 * abs(back + ahead))
    return 0.5 * (_sign(back) + _sign(ahead)) * size


@numba.njit(inline="always")
def _square(x):
    return x * x


@numba.njit(inline="always")
def weno5_value(a, b, c, d, e):
    """array_code._weno5: the value at the face between c and d, biased towards c.

    The WENO5 kernels of Vlasov-Poisson (one division in place of four) and of shallow water (both faces of a cell at
    once) are separate on purpose: each is the variant that measured fastest for its callers.
    """
    smooth_0 = 13 / 12 * _square(a - 2 * b + c) + 0.25 * _square(a - 4 * b + 3 * c)
    smooth_1 = 13 / 12 * _square(b - 2 * c + d) + 0.25 * _square(b - d)
    smooth_2 = 13 / 12 * _square(c - 2 * d + e) + 0.25 * _square(3 * c - 4 * d + e)
    tau = abs(smooth_0 - smooth_2)
    weight_0 = 0.1 * (1 + _square(tau / (smooth_0 + 1e-40)))
    weight_1 = 0.6 * (1 + _square(tau / (smooth_1 + 1e-40)))
    weight_2 = 0.3 * (1 + _square(tau / (smooth_2 + 1e-40)))
    value = weight_0 * (2 * a - 7 * b + 11 * c) + weight_1 * (5 * c - b + 2 * d) + weight_2 * (2 * c + 5 * d - e)
    return value / (6 * (weight_0 + weight_1 + weight_2))
