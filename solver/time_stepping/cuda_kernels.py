"""CUDA kernels of time stepping: one thread for each number of a state."""

from __future__ import annotations

from numba import cuda


def combine(out, u, count, base, weight_1, rate_1, weight_2, rate_2, weight_3, rate_3, weight_4, rate_4,
            weight_5, rate_5, weight_6, rate_6):  # fmt: skip
    """out = base u + sum_s weight_s rate_s over the first `count` terms; see `kernels.combine`.

    out, u, rates: (batch, field, mode); base, weights: (1 or field, mode). The other terms are not read: any array of
    these types. The grid of threads is (mode, field, batch). Numba passes no None and no arrays of arrays to a device.
    """
    m, f, b = cuda.grid(3)
    batch, fields, modes = out.shape
    if m >= modes or f >= fields or b >= batch:
        return
    g = f if base.shape[0] > 1 else 0
    value = base[g, m] * u[b, f, m]
    if count > 0:
        value += weight_1[g, m] * rate_1[b, f, m]
    if count > 1:
        value += weight_2[g, m] * rate_2[b, f, m]
    if count > 2:
        value += weight_3[g, m] * rate_3[b, f, m]
    if count > 3:
        value += weight_4[g, m] * rate_4[b, f, m]
    if count > 4:
        value += weight_5[g, m] * rate_5[b, f, m]
    if count > 5:
        value += weight_6[g, m] * rate_6[b, f, m]
    out[b, f, m] = value


def combine_numbers(out, u, count, base, weight_1, rate_1, weight_2, rate_2, weight_3, rate_3, weight_4, rate_4,
                    weight_5, rate_5, weight_6, rate_6):  # fmt: skip
    """`combine` with numbers for the base and the weights, of an explicit scheme."""
    c, f, b = cuda.grid(3)
    batch, fields, cells = out.shape
    if c >= cells or f >= fields or b >= batch:
        return
    value = base * u[b, f, c]
    if count > 0:
        value += weight_1 * rate_1[b, f, c]
    if count > 1:
        value += weight_2 * rate_2[b, f, c]
    if count > 2:
        value += weight_3 * rate_3[b, f, c]
    if count > 3:
        value += weight_4 * rate_4[b, f, c]
    if count > 4:
        value += weight_5 * rate_5[b, f, c]
    if count > 5:
        value += weight_6 * rate_6[b, f, c]
    out[b, f, c] = value
