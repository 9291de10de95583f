"""Numba kernels for Vlasov-Poisson: the compiled versions of the functions of the same names in array_code.

States are (member, v, x). Loops over x, the contiguous axis, are innermost in both directions, so that they vectorise.
The order of sums over v and over cells does not depend on the number of members.
"""

from __future__ import annotations

import numba

from ...backend import in_single, kernel
from ...finite_volume.reconstruction import weno5_single


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def sum_over_v(u, spacing, density, first, last):
    """density (member, x) = sum_v f dv, in double precision for any f, of the columns first ... last - 1."""
    for b in range(u.shape[0]):
        total = density[b, first:last]
        for i in range(total.shape[0]):
            total[i] = 0.0
        for j in range(u.shape[1]):
            row = u[b, j, first:last]
            for i in range(total.shape[0]):
                total[i] += row[i]
        for i in range(total.shape[0]):
            total[i] *= spacing


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def electric_field(density, green, external, field, first, last):
    """field_i = external_i + sum_j green[n + i - j] density_j (member, x), green of period n twice; first <= i < last.

    In double precision for any f: the field is what is left where the mean density has cancelled.
    """
    n = density.shape[1]
    for b in range(density.shape[0]):
        values = field[b, first:last]
        for i in range(values.shape[0]):
            values[i] = external[first + i]
        for j in range(n):
            shifted = green[n - j + first : n - j + last]
            value = density[b, j]
            for i in range(values.shape[0]):
                values[i] += shifted[i] * value


@numba.njit(inline="always")
def _square(x):
    return x * x


@numba.njit(inline="always")
def _weno5(a, b, c, d, e):
    """WENO-Z as in finite_volume, with the weights over a common denominator: one division in place of four.

    Separate from finite_volume.reconstruction.weno5_value on purpose: it measured faster here. The weights are products
    of twelve values of f, and the smoothness indicators are at least 1e-40: nothing overflows for f below 1e23.
    """
    if in_single(c):
        return weno5_single(a, b, c, d, e)
    s0 = 13 / 12 * _square(a - 2.0 * b + c) + 0.25 * _square(a - 4.0 * b + 3.0 * c)
    s1 = 13 / 12 * _square(b - 2.0 * c + d) + 0.25 * _square(b - d) + 1e-40
    s2 = 13 / 12 * _square(c - 2.0 * d + e) + 0.25 * _square(3.0 * c - 4.0 * d + e)
    tau = _square(s0 - s2)
    s0, s1, s2 = _square(s0 + 1e-40), _square(s1), _square(s2 + 1e-40)
    w0 = (s0 + tau) * (s1 * s2)
    w1 = 6.0 * (s1 + tau) * (s0 * s2)
    w2 = 3.0 * (s2 + tau) * (s0 * s1)
    value = w0 * (2.0 * a - 7.0 * b + 11.0 * c) + w1 * (5.0 * c - b + 2.0 * d) + w2 * (2.0 * c + 5.0 * d - e)
    return value / (6.0 * (w0 + w1 + w2))


@kernel()
def extend(u, cells, first, last):
    """cells (v + 6, x + 6) = u (v, x) with three ghosts at every side: periodic in x; those in v stay zero.

    Of the columns first ... last - 1 of u.
    """
    height, n = u.shape
    inside = last - first
    for j in range(height):
        row, source = cells[j + 3, first + 3 : last + 3], u[j, first:last]
        for i in range(inside):
            row[i] = source[i]
        for i in range(3):
            left, right = n - 1 - i % n, i % n
            if first <= left < last:
                cells[j + 3, 2 - i] = u[j, left]
            if first <= right < last:
                cells[j + 3, n + 3 + i] = u[j, right]


@numba.njit(inline="always")
def _stream(p, factor, flux, row):
    """row = -v f_x of one row of cells, with three ghosts at both ends."""
    n = len(row)
    if factor > 0:
        for i in range(n + 1):
            flux[i] = _weno5(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4])
    else:
        for i in range(n + 1):
            flux[i] = _weno5(p[i + 5], p[i + 4], p[i + 3], p[i + 2], p[i + 1])
    for i in range(n):
        row[i] = factor * (flux[i] - flux[i + 1])


@kernel(error_model="numpy", fastmath={"contract"})
def rates(cells, velocity, field, dv, dx, streams, accelerates, closed, fluxes, out, first, last):
    """out = -v f_x - E f_v, of the columns first ... last - 1; both terms in one pass, while a row is in the cache.

    cells (v + 6, x + 6), with three ghosts at every side; field (column,); streams, accelerates: whether the terms
    are in the model; closed: no flux through the ends of v; fluxes (2, at least column + 1): work.
    """
    height, n = out.shape[0], last - first
    along, across = fluxes[0], fluxes[1]
    start, stop = first + 3, last + 3
    for i in range(n):
        across[i] = 0.0
    for j in range(height + 1):
        if j < height:
            row = out[j, first:last]
            if streams:
                _stream(cells[j + 3, first : last + 6], velocity[j] / dx, along, row)
            else:
                for i in range(n):
                    row[i] = 0.0
        if not accelerates or (closed and (j == 0 or j == height)):
            continue
        p0, p1, p2 = cells[j, start:stop], cells[j + 1, start:stop], cells[j + 2, start:stop]
        p3, p4, p5 = cells[j + 3, start:stop], cells[j + 4, start:stop], cells[j + 5, start:stop]
        below = out[j - 1 if j else 0, first:last]
        for i in range(n):
            up = field[i] > 0
            v0, v1, v2, v3, v4, v5 = p0[i], p1[i], p2[i], p3[i], p4[i], p5[i]  # loads before selections: half the time
            a, b, c = v0 if up else v5, v1 if up else v4, v2 if up else v3
            d, e = v3 if up else v2, v4 if up else v1
            value = field[i] / dv * _weno5(a, b, c, d, e)
            if j > 0:
                below[i] += across[i] - value
            across[i] = value
    if accelerates and closed:
        row = out[height - 1, first:last]
        for i in range(n):
            row[i] += across[i]


@kernel(error_model="numpy", fastmath={"contract"})
def combine_columns(out, u, rates, weights, total, frozen, use_frozen, first, last):
    """out = u + sum_s weights_s rates_s + total frozen, (batch, row, column), of the columns first ... last - 1."""
    n = last - first
    for b in range(u.shape[0]):
        for r in range(u.shape[1]):
            target, now = out[b, r, first:last], u[b, r, first:last]
            for i in range(n):
                target[i] = now[i]
            for s in range(weights.shape[0]):
                w = weights[s]
                if w != 0.0:
                    rate = rates[s, b, r, first:last]
                    for i in range(n):
                        target[i] += w * rate[i]
            if use_frozen:
                force = frozen[b, r, first:last]
                for i in range(n):
                    target[i] += total * force[i]


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def prepare(u, dv, accelerates, density, cells, first, last):
    """The density and the cells of one member u (1, v, x), of the columns first ... last - 1."""
    if accelerates:
        sum_over_v(u, dv, density, first, last)
    extend(u[0], cells, first, last)


@kernel(double=True, error_model="numpy", fastmath={"contract"})
def stage(known, following, poisson, model, flux, index, more, combination, first, last):
    """The rate of one member and out = u + sum_s weights_s rates_s, of the columns first ... last - 1, in one call.

    A thread that returns from compiled code waits for the interpreter's lock, so that it should return once.

    known: density, field and cells of the state; poisson: green and the external field; following: density and cells of
    `out`, made here if there are `more` stages; model: velocity, dv, dx and the flags of `rates`; index: of the rate;
    combination: see `combine_columns`.
    """
    density, field, cells = known
    velocity, dv, dx, streams, accelerates, closed = model
    out, u, all_rates, weights, total, frozen, use_frozen = combination
    if accelerates:
        green, external = poisson
        electric_field(density, green, external, field, first, last)
    own = field[0, first:last].astype(out.dtype)
    rates(cells, velocity, own, dv, dx, streams, accelerates, closed, flux, all_rates[index, 0], first, last)
    combine_columns(out, u, all_rates, weights, total, frozen, use_frozen, first, last)
    if more:
        next_density, next_cells = following
        prepare(out, dv, accelerates, next_density, next_cells, first, last)
