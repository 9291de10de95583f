"""Numba kernels. Each carries out, on the CPU, what is array code elsewhere; tests hold the two together."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def combine(out, base, u, weights, rates, total, frozen, use_frozen, rows, columns):
    """out = base u + sum_s weights_s rates_s + total frozen, mode by mode.

    u, out, frozen: (batch, row, column); rates: (stage, batch, row, column); base, total: (row, column);
    weights: (stage, row, column). Rates are read only where `rows` is set and column < `columns`: elsewhere
    they are zero by the 2/3 rule. `out` may be `u`.
    """
    for b in range(u.shape[0]):
        for r in range(u.shape[1]):
            for c in range(u.shape[2]):
                out[b, r, c] = base[r, c] * u[b, r, c]
            if rows[r]:
                for s in range(weights.shape[0]):
                    for c in range(columns):
                        out[b, r, c] += weights[s, r, c] * rates[s, b, r, c]
            if use_frozen:
                for c in range(u.shape[2]):
                    out[b, r, c] += total[r, c] * frozen[b, r, c]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def combine_stages(out, u, rates, weights, total, frozen, use_frozen):
    """out = u + sum_s weights_s rates_s + total frozen; (points,), rates (stage, points). `out` may be `u`.

    In blocks that stay in the first-level cache, so that every array is read once.
    """
    block = 1024
    for start in range(0, u.shape[0], block):
        stop = min(start + block, u.shape[0])
        for i in range(start, stop):
            out[i] = u[i]
        for s in range(weights.shape[0]):
            w = weights[s]
            if w != 0.0:
                for i in range(start, stop):
                    out[i] += w * rates[s, i]
        if use_frozen:
            for i in range(start, stop):
                out[i] += total * frozen[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def add(u, factor, frozen):
    """u += factor frozen; (points,)."""
    for i in range(u.shape[0]):
        u[i] += factor * frozen[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_linear(out, linear, u):
    """out += L u, mode by mode; (batch, row, column)."""
    for b in range(u.shape[0]):
        for r in range(u.shape[1]):
            for c in range(u.shape[2]):
                out[b, r, c] += linear[r, c] * u[b, r, c]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def extrapolate(out, value, slope, steps):
    """out = value + steps slope; (batch, row, column)."""
    for b in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[b, r, c] = value[b, r, c] + steps * slope[b, r, c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def flush(values, smallest):
    """In place: 0 for |value| < smallest; (points,) real."""
    for i in range(values.shape[0]):
        if abs(values[i]) < smallest:
            values[i] = 0.0
