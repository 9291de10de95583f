"""Limited slopes and WENO5 values at single points, inlined into the kernels that import them."""

from __future__ import annotations

import numba

from ..backend import in_single

# Smoothness indicators of WENO in single precision: the least one, over the sum of the three, and the least sum.
# Weights are products of four indicators, which must neither vanish nor overflow. Indicators of 1 and 1e-6 give weights
# of 1e-12 and 1, of which single precision does not see the first.
NEGLIGIBLE, SMALLEST = 1e-6, 1e-30


@numba.njit(inline="always")
def _sign(x):
    return (1.0 if x > 0.0 else 0.0) - (1.0 if x < 0.0 else 0.0)


@numba.njit(inline="always")
def slope(a, b, c):
    """array_code.monotonised of the differences to both sides of b."""
    back, ahead = b - a, c - b
    size = min(2.0 * min(abs(back), abs(ahead)), 0.5 * abs(back + ahead))
    return 0.5 * (_sign(back) + _sign(ahead)) * size


@numba.njit(inline="always")
def _square(x):
    return x * x


@numba.njit(inline="always")
def weno5_weights(s0, s1, s2):
    """(1 + tau^2 / s_i^2) of WENO-Z with the factors 1, 6 and 1, up to a common factor, for single precision."""
    scale = 1.0 / (s0 + s1 + s2 + SMALLEST)
    tau = _square((s0 - s2) * scale)
    q0, q1, q2 = _square(s0 * scale + NEGLIGIBLE), _square(s1 * scale + NEGLIGIBLE), _square(s2 * scale + NEGLIGIBLE)
    return (q0 + tau) * (q1 * q2), 6.0 * ((q1 + tau) * (q0 * q2)), (q2 + tau) * (q0 * q1)


@numba.njit(inline="always")
def weno5_single(a, b, c, d, e):
    """weno5_value in single precision, from differences, so that constants are reproduced exactly."""
    d1, d2, d3, d4 = b - a, c - b, d - c, e - d
    s0 = 13 / 12 * _square(d2 - d1) + 0.25 * _square(3.0 * d2 - d1)
    s1 = 13 / 12 * _square(d3 - d2) + 0.25 * _square(d2 + d3)
    s2 = 13 / 12 * _square(d4 - d3) + 0.25 * _square(3.0 * d3 - d4)
    w0, w1, w2 = weno5_weights(s0, s1, s2)
    change = w0 * (5.0 * d2 - 2.0 * d1) + w1 * (d2 + 2.0 * d3) + 3.0 * w2 * (4.0 * d3 - d4)
    return c + change / (6.0 * (w0 + w1 + 3.0 * w2))


@numba.njit(inline="always")
def weno5_value(a, b, c, d, e):
    """array_code._weno5: the value at the face between c and d, biased towards c.

    The WENO5 kernels of Vlasov-Poisson (one division in place of four) and of shallow water (both faces of a cell at
    once) are separate on purpose: each is the variant that measured fastest for its callers.
    """
    if in_single(c):
        return weno5_single(a, b, c, d, e)
    smooth_0 = 13 / 12 * _square(a - 2.0 * b + c) + 0.25 * _square(a - 4.0 * b + 3.0 * c)
    smooth_1 = 13 / 12 * _square(b - 2.0 * c + d) + 0.25 * _square(b - d)
    smooth_2 = 13 / 12 * _square(c - 2.0 * d + e) + 0.25 * _square(3.0 * c - 4.0 * d + e)
    tau = abs(smooth_0 - smooth_2)
    weight_0 = 0.1 * (1.0 + _square(tau / (smooth_0 + 1e-40)))
    weight_1 = 0.6 * (1.0 + _square(tau / (smooth_1 + 1e-40)))
    weight_2 = 0.3 * (1.0 + _square(tau / (smooth_2 + 1e-40)))
    high = 2.0 * c + 5.0 * d - e
    value = weight_0 * (2.0 * a - 7.0 * b + 11.0 * c) + weight_1 * (5.0 * c - b + 2.0 * d) + weight_2 * high
    return value / (6.0 * (weight_0 + weight_1 + weight_2))
