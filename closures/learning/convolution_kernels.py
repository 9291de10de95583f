"""Numba kernels of periodic convolutions in single precision.

A layer maps planes (channel, value) to planes. A plane is a grid with a periodic halo, row by row in one array: the
value at (row, column) of the grid, with rows of `stride` values, lies at (row + above) stride + column + beside, and
2 beside values follow the last row. A stencil is then a sum of shifted arrays, which compilers turn into vector
instructions; columns of the halo are computed as well and overwritten. Each sum has a fixed order.
"""

from __future__ import annotations

import numpy as np

from subgrid.solver.backend import kernel

BLOCK = 2600  # values that are summed up at a time: they and their sources fit into the second-level cache

# erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, with an error of 3e-7: the coefficients of Eigen, from the highest power down
P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
P0, P1, P2, P3, P4, P5, P6 = P
Q0, Q1, Q2, Q3, Q4 = Q
ROOT_HALF = float(np.sqrt(0.5))


@kernel(error_model="numpy", fastmath={"contract"})
def _gelu(values):
    """In place: x -> x/2 (1 + erf(x / sqrt 2))."""
    for i in range(values.shape[0]):
        x = values[i]
        y = ROOT_HALF * x
        y = min(max(y, -4.0), 4.0)
        s = y * y
        p = ((((((P0 * s + P1) * s + P2) * s + P3) * s + P4) * s + P5) * s + P6) * y
        q = (((Q0 * s + Q1) * s + Q2) * s + Q3) * s + Q4
        values[i] = 0.5 * x * (1.0 + p / q)


@kernel(error_model="numpy", fastmath={"contract"})
def _add_one(out, source, w):
    """out_i += w source_i."""
    for i in range(out.shape[0]):
        out[i] += w * source[i]


@kernel(error_model="numpy", fastmath={"contract"})
def _add_nine(a, b, c, d, above, here, below, w):
    """Four sums at a time, of a stencil of 3 x 3 values each, from three rows. w: (4, 3, 3)."""
    p00, p01, p02, p10, p11 = w[0, 0, 0], w[0, 0, 1], w[0, 0, 2], w[0, 1, 0], w[0, 1, 1]
    p12, p20, p21, p22 = w[0, 1, 2], w[0, 2, 0], w[0, 2, 1], w[0, 2, 2]
    q00, q01, q02, q10, q11 = w[1, 0, 0], w[1, 0, 1], w[1, 0, 2], w[1, 1, 0], w[1, 1, 1]
    q12, q20, q21, q22 = w[1, 1, 2], w[1, 2, 0], w[1, 2, 1], w[1, 2, 2]
    r00, r01, r02, r10, r11 = w[2, 0, 0], w[2, 0, 1], w[2, 0, 2], w[2, 1, 0], w[2, 1, 1]
    r12, r20, r21, r22 = w[2, 1, 2], w[2, 2, 0], w[2, 2, 1], w[2, 2, 2]
    s00, s01, s02, s10, s11 = w[3, 0, 0], w[3, 0, 1], w[3, 0, 2], w[3, 1, 0], w[3, 1, 1]
    s12, s20, s21, s22 = w[3, 1, 2], w[3, 2, 0], w[3, 2, 1], w[3, 2, 2]
    for i in range(a.shape[0]):
        p, q, r, s = a[i], b[i], c[i], d[i]
        x, y, z = above[i], above[i + 1], above[i + 2]
        p = ((p + p00 * x) + p01 * y) + p02 * z
        q = ((q + q00 * x) + q01 * y) + q02 * z
        r = ((r + r00 * x) + r01 * y) + r02 * z
        s = ((s + s00 * x) + s01 * y) + s02 * z
        x, y, z = here[i], here[i + 1], here[i + 2]
        p = ((p + p10 * x) + p11 * y) + p12 * z
        q = ((q + q10 * x) + q11 * y) + q12 * z
        r = ((r + r10 * x) + r11 * y) + r12 * z
        s = ((s + s10 * x) + s11 * y) + s12 * z
        x, y, z = below[i], below[i + 1], below[i + 2]
        p = ((p + p20 * x) + p21 * y) + p22 * z
        q = ((q + q20 * x) + q21 * y) + q22 * z
        r = ((r + r20 * x) + r21 * y) + r22 * z
        s = ((s + s20 * x) + s21 * y) + s22 * z
        a[i], b[i], c[i], d[i] = p, q, r, s


@kernel(error_model="numpy", fastmath={"contract"})
def _add_nine_to_three(a, b, c, above, here, below, w):
    """Three sums at a time, as `_add_nine`. w: (3, 3, 3)."""
    p00, p01, p02, p10, p11, p12 = w[0, 0, 0], w[0, 0, 1], w[0, 0, 2], w[0, 1, 0], w[0, 1, 1], w[0, 1, 2]
    q00, q01, q02, q10, q11, q12 = w[1, 0, 0], w[1, 0, 1], w[1, 0, 2], w[1, 1, 0], w[1, 1, 1], w[1, 1, 2]
    r00, r01, r02, r10, r11, r12 = w[2, 0, 0], w[2, 0, 1], w[2, 0, 2], w[2, 1, 0], w[2, 1, 1], w[2, 1, 2]
    p20, p21, p22, q20, q21, q22 = w[0, 2, 0], w[0, 2, 1], w[0, 2, 2], w[1, 2, 0], w[1, 2, 1], w[1, 2, 2]
    r20, r21, r22 = w[2, 2, 0], w[2, 2, 1], w[2, 2, 2]
    for i in range(a.shape[0]):
        p, q, r = a[i], b[i], c[i]
        x, y, z = above[i], above[i + 1], above[i + 2]
        p = ((p + p00 * x) + p01 * y) + p02 * z
        q = ((q + q00 * x) + q01 * y) + q02 * z
        r = ((r + r00 * x) + r01 * y) + r02 * z
        x, y, z = here[i], here[i + 1], here[i + 2]
        p = ((p + p10 * x) + p11 * y) + p12 * z
        q = ((q + q10 * x) + q11 * y) + q12 * z
        r = ((r + r10 * x) + r11 * y) + r12 * z
        x, y, z = below[i], below[i + 1], below[i + 2]
        p = ((p + p20 * x) + p21 * y) + p22 * z
        q = ((q + q20 * x) + q21 * y) + q22 * z
        r = ((r + r20 * x) + r21 * y) + r22 * z
        a[i], b[i], c[i] = p, q, r


@kernel(error_model="numpy", fastmath={"contract"})
def _add_nine_to_one(out, above, here, below, w):
    """One sum of a stencil of 3 x 3 values. w: (3, 3)."""
    w00, w01, w02, w10, w11, w12 = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
    w20, w21, w22 = w[2, 0], w[2, 1], w[2, 2]
    for i in range(out.shape[0]):
        p = ((out[i] + w00 * above[i]) + w01 * above[i + 1]) + w02 * above[i + 2]
        p = ((p + w10 * here[i]) + w11 * here[i + 1]) + w12 * here[i + 2]
        out[i] = ((p + w20 * below[i]) + w21 * below[i + 1]) + w22 * below[i + 2]


@kernel(error_model="numpy", fastmath={"contract"})
def _add_five(a, b, c, d, source, w):
    """Four sums at a time, of five neighbours each: one load of a value serves four of them. w: (4, 5)."""
    a0, a1, a2, a3, a4 = w[0, 0], w[0, 1], w[0, 2], w[0, 3], w[0, 4]
    b0, b1, b2, b3, b4 = w[1, 0], w[1, 1], w[1, 2], w[1, 3], w[1, 4]
    c0, c1, c2, c3, c4 = w[2, 0], w[2, 1], w[2, 2], w[2, 3], w[2, 4]
    d0, d1, d2, d3, d4 = w[3, 0], w[3, 1], w[3, 2], w[3, 3], w[3, 4]
    for i in range(a.shape[0]):
        o, p, q, r, s = source[i], source[i + 1], source[i + 2], source[i + 3], source[i + 4]
        a[i] = ((((a[i] + a0 * o) + a1 * p) + a2 * q) + a3 * r) + a4 * s
        b[i] = ((((b[i] + b0 * o) + b1 * p) + b2 * q) + b3 * r) + b4 * s
        c[i] = ((((c[i] + c0 * o) + c1 * p) + c2 * q) + c3 * r) + c4 * s
        d[i] = ((((d[i] + d0 * o) + d1 * p) + d2 * q) + d3 * r) + d4 * s


@kernel(error_model="numpy", fastmath={"contract"})
def convolve(source, weights, bias, target, rows, stride, above, beside, activate):
    """target = gelu(weights * source + bias) with its halo or, without `activate`, the sum alone, without its halo.

    source: (channel, value); weights: (out, channel, row, column); target: (out, value).
    """
    outs, channels, height, width = weights.shape
    offset = above * stride + beside  # of the first value of the grid
    step = max(1, BLOCK // stride)
    for row in range(0, rows, step):
        count = (min(row + step, rows) - row) * stride
        start = row * stride
        a, b = start + offset, start + offset + count
        o = 0
        while o < outs:
            together = 4 if outs - o >= 4 else (3 if outs - o == 3 and height == 3 and width == 3 else 1)
            for t in range(o, o + together):
                target[t, a:b] = bias[t]
            for c in range(channels):
                if height == 3 and width == 3:
                    end = start + count + 2
                    above_it = source[c, start:end]
                    at_it = source[c, start + stride : end + stride]
                    below_it = source[c, start + 2 * stride : end + 2 * stride]
                    if together == 4:
                        _add_nine(
                            target[o, a:b], target[o + 1, a:b], target[o + 2, a:b], target[o + 3, a:b],
                            above_it, at_it, below_it, weights[o : o + 4, c],
                        )  # fmt: skip
                    elif together == 3:
                        _add_nine_to_three(
                            target[o, a:b], target[o + 1, a:b], target[o + 2, a:b],
                            above_it, at_it, below_it, weights[o : o + 3, c],
                        )  # fmt: skip
                    else:
                        _add_nine_to_one(target[o, a:b], above_it, at_it, below_it, weights[o, c])
                    continue
                for k in range(height):
                    line = source[c, start + k * stride : start + k * stride + count + width - 1]
                    if together == 4 and width == 5:
                        _add_five(
                            target[o, a:b], target[o + 1, a:b], target[o + 2, a:b], target[o + 3, a:b],
                            line, weights[o : o + 4, c, k],
                        )  # fmt: skip
                        continue
                    for t in range(o, o + together):
                        for j in range(width):
                            _add_one(target[t, a:b], line[j : j + count], weights[t, c, k, j])
            if activate:
                for t in range(o, o + together):
                    _gelu(target[t, a:b])
            o += together
    if activate:
        wrap(target, rows, stride, above, beside)


@kernel(error_model="numpy", fastmath={"contract"})
def wrap(planes, rows, stride, above, beside):
    """Fill the halos of planes (channel, value) from the grids within them."""
    columns = stride - 2 * beside
    for c in range(planes.shape[0]):
        plane = planes[c]
        for row in range(above, rows + above):
            start = row * stride
            for j in range(beside):
                plane[start + j] = plane[start + columns + j]
                plane[start + beside + columns + j] = plane[start + beside + j]
        for row in range(above):
            for j in range(stride):
                plane[row * stride + j] = plane[(row + rows) * stride + j]
                plane[(row + above + rows) * stride + j] = plane[(row + above) * stride + j]


@kernel(error_model="numpy", fastmath={"contract"})
def load_fields(state, scales, centred, target):
    """target = (state - mean) / scales with the mean over the grid of each field, or 0 unless `centred`.

    state, target: (field, row, column). Sums are in double precision, four at a time, in a fixed order.
    """
    fields, rows, columns = state.shape
    for f in range(fields):
        mean = 0.0
        if centred:
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            for i in range(rows):
                for j in range(0, columns - 3, 4):
                    a += state[f, i, j]
                    b += state[f, i, j + 1]
                    c += state[f, i, j + 2]
                    d += state[f, i, j + 3]
                for j in range(columns - columns % 4, columns):
                    a += state[f, i, j]
            mean = ((a + b) + (c + d)) / (rows * columns)
        factor = 1.0 / scales[f]
        for i in range(rows):
            for j in range(columns):
                target[f, i, j] = (state[f, i, j] - mean) * factor


@kernel(error_model="numpy", fastmath={"contract"})
def write_fields(source, scales, centred, out):
    """out = scales (source - mean), the inverse of `load_fields`; source, out: (field, row, column)."""
    fields, rows, columns = source.shape
    for f in range(fields):
        mean = 0.0
        if centred:
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            for i in range(rows):
                for j in range(0, columns - 3, 4):
                    a += source[f, i, j]
                    b += source[f, i, j + 1]
                    c += source[f, i, j + 2]
                    d += source[f, i, j + 3]
                for j in range(columns - columns % 4, columns):
                    a += source[f, i, j]
            mean = ((a + b) + (c + d)) / (rows * columns)
        factor = scales[f]
        for i in range(rows):
            for j in range(columns):
                out[f, i, j] = (source[f, i, j] - mean) * factor
