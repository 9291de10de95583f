"""Numba kernels of time stepping. Tests compare each with the array code that it replaces on the CPU."""

from __future__ import annotations

from ..backend import kernel

# Nanoseconds per value on one thread, which decide how many threads a call is divided over: of one rate in a stage of
# complex coefficients, of one array that a stage of real values reads, of a copy or a sum, and of `flush`.
COMBINE, COMBINE_STAGES, COPY, FLUSH = 0.25, 0.15, 0.15, 0.15


@kernel(error_model="numpy", fastmath={"contract"})
def combine(out, base, low, u, weights, rates, total, frozen, use_frozen, rows, columns, first, last):
    """out = (base + low) u + sum_s weights_s rates_s + total frozen, mode by mode; low: None in double precision.

    u, out, frozen: (batch, row, column); rates: (stage, batch, row, column); base, low, total: (field, row, column);
    weights: (stage, field, row, column). Row b of the batch belongs to field b mod the number of fields, which is 1
    where all fields share the coefficients. Rates are read only where `rows` is set and column < `columns`: elsewhere
    they are zero by the 2/3 rule. `out` may be `u`. Of the rows first ... last - 1.
    """
    for b in range(u.shape[0]):
        f = b % base.shape[0]
        for r in range(first, last):
            for c in range(u.shape[2]):
                if low is None:
                    out[b, r, c] = base[f, r, c] * u[b, r, c]
                else:
                    out[b, r, c] = base[f, r, c] * u[b, r, c] + low[f, r, c] * u[b, r, c]
            if rows[r]:
                for s in range(weights.shape[0]):
                    for c in range(columns):
                        out[b, r, c] += weights[s, f, r, c] * rates[s, b, r, c]
            if use_frozen:
                for c in range(u.shape[2]):
                    out[b, r, c] += total[f, r, c] * frozen[b, r, c]


@kernel(error_model="numpy", fastmath={"contract"})
def combine_stages(out, u, rates, weights, total, frozen, use_frozen, first, last):
    """out = u + sum_s weights_s rates_s + total frozen; (points,), rates (stage, points). `out` may be `u`.

    Of the points first ... last - 1. Blocks stay in the first-level cache, so each array passes through memory once.
    """
    block = 1024
    for start in range(first, last, block):
        stop = min(start + block, last)
        target, now = out[start:stop], u[start:stop]
        for i in range(stop - start):
            target[i] = now[i]
        for s in range(weights.shape[0]):
            w = weights[s]
            if w != 0.0:
                rate = rates[s, start:stop]
                for i in range(stop - start):
                    target[i] += w * rate[i]
        if use_frozen:
            force = frozen[start:stop]
            for i in range(stop - start):
                target[i] += total * force[i]


@kernel(error_model="numpy", fastmath={"contract"})
def add(u, factor, frozen):
    """u += factor frozen; (points,)."""
    for i in range(u.shape[0]):
        u[i] += factor * frozen[i]


# Numba compiles the product of complex numbers once in a process, with the options of the first kernel that has one.
# Such kernels share their options; otherwise the bits of a run depend on the order of compilation.
@kernel(error_model="numpy", fastmath={"contract"})
def add_linear(out, linear, u, first, last):
    """out += L u, mode by mode; out, u: (batch, row, column); linear: (field, row, column), as in `combine`.

    Of the rows first ... last - 1.
    """
    for b in range(u.shape[0]):
        f = b % linear.shape[0]
        for r in range(first, last):
            for c in range(u.shape[2]):
                out[b, r, c] += linear[f, r, c] * u[b, r, c]


@kernel(error_model="numpy", fastmath={"contract"})
def extrapolate(out, value, slope, steps):
    """out = value + steps slope; (batch, row, column)."""
    for b in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[b, r, c] = value[b, r, c] + steps * slope[b, r, c]


@kernel(error_model="numpy")
def flush(values, smallest):
    """In place: 0 for |value| < smallest; (points,) real."""
    for i in range(values.shape[0]):
        if abs(values[i]) < smallest:
            values[i] = 0.0
