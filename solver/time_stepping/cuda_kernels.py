"""CUDA kernels of time stepping: one thread for each Fourier coefficient."""

from __future__ import annotations

from numba import cuda


def combine(out, base, low, u, weight_0, rate_0, weight_1, rate_1, weight_2, rate_2, weight_3, rate_3, total, frozen):
    """out = (base + low) u + sum_s weight_s rate_s + total frozen; see `kernels.combine`. None for what is absent.

    out, u, rates, frozen: (batch, field, mode); base, low, weights, total: (1 or field, mode). The grid of threads is
    (mode, field, batch).
    """
    m, f, b = cuda.grid(3)
    batch, fields, modes = out.shape
    if m >= modes or f >= fields or b >= batch:
        return
    g = f if base.shape[0] > 1 else 0
    value = base[g, m] * u[b, f, m]
    if low is not None:
        value += low[g, m] * u[b, f, m]
    if weight_0 is not None:
        value += weight_0[g, m] * rate_0[b, f, m]
    if weight_1 is not None:
        value += weight_1[g, m] * rate_1[b, f, m]
    if weight_2 is not None:
        value += weight_2[g, m] * rate_2[b, f, m]
    if weight_3 is not None:
        value += weight_3[g, m] * rate_3[b, f, m]
    if frozen is not None:
        value += total[g, m] * frozen[b, f, m]
    out[b, f, m] = value
