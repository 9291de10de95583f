"""Numba kernels of periodic convolutions in single precision.

A layer maps planes (channel, value) to planes. A plane is a grid with a periodic halo, row by row in one array: the
value at (row, column) of the grid, with rows of `stride` values, lies at (row + above) stride + column + beside, and
2 beside values follow the last row. A stencil is then a sum of shifted arrays, which compilers turn into vector
instructions; columns of the halo are computed as well and overwritten. Each sum has a fixed order.
"""

from __future__ import annotations

import numpy as np

from subgrid.solver.backend import kernel

BLOCK = 1300  # values that are summed up at a time: they and their sources fit into the second-level cache

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
def _add_nine(a, b, above, here, below, v, w):
    """Two sums at a time, of a stencil of 3 x 3 values each. above, here, below: three rows of the source."""
    v00, v01, v02, v10, v11, v12, v20, v21, v22 = (
        v[0, 0], v[0, 1], v[0, 2], v[1, 0], v[1, 1], v[1, 2], v[2, 0], v[2, 1], v[2, 2],
    )  # fmt: skip
    w00, w01, w02, w10, w11, w12, w20, w21, w22 = (
        w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2], w[2, 0], w[2, 1], w[2, 2],
    )  # fmt: skip
    for i in range(a.shape[0]):
        s, t = a[i], b[i]
        x, y, z = above[i], above[i + 1], above[i + 2]
        s = ((s + v00 * x) + v01 * y) + v02 * z
        t = ((t + w00 * x) + w01 * y) + w02 * z
        x, y, z = here[i], here[i + 1], here[i + 2]
        s = ((s + v10 * x) + v11 * y) + v12 * z
        t = ((t + w10 * x) + w11 * y) + w12 * z
        x, y, z = below[i], below[i + 1], below[i + 2]
        s = ((s + v20 * x) + v21 * y) + v22 * z
        t = ((t + w20 * x) + w21 * y) + w22 * z
        a[i], b[i] = s, t


@kernel(error_model="numpy", fastmath={"contract"})
def _add_five(a, b, c, d, source, w):
    """Four sums at a time, of five neighbours each: one load of a value serves four of them. w: (4, 5)."""
    a0, a1, a2, a3, a4 = w[0, 0], w[0, 1], w[0, 2], w[0, 3], w[0, 4]
    b0, b1, b2, b3, b4 = w[1, 0], w[1, 1], w[1, 2], w[1, 3], w[1, 4]
    c0, c1, c2, c3, c4 = w[2, 0], w[2, 1], w[2, 2], w[2, 3], w[2, 4]
    d0, d1, d2, d3, d4 = w[3, 0], w[3, 1], w[3, 2], w[3, 3], w[3, 4]
    for i in range(a.shape[0]):
        o, p, q, r, s = source[i], source[i + 1], source[i + 2], source[i + 3], source[i + 4]
        a[i] = (((((a[i] + a0 * o) + a1 * p) + a2 * q) + a3 * r) + a4 * s)
        b[i] = (((((b[i] + b0 * o) + b1 * p) + b2 * q) + b3 * r) + b4 * s)
        c[i] = (((((c[i] + c0 * o) + c1 * p) + c2 * q) + c3 * r) + c4 * s)
        d[i] = (((((d[i] + d0 * o) + d1 * p) + d2 * q) + d3 * r) + d4 * s)


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
            together = 1
            if height == 3 and width == 3 and outs - o >= 2:
                together = 2
            elif width == 5 and outs - o >= 4:
                together = 4
            for t in range(o, o + together):
                target[t, a:b] = bias[t]
            for c in range(channels):
                if together == 2:
                    end = start + count + 2
                    _add_nine(
                        target[o, a:b], target[o + 1, a:b], source[c, start:end], source[c, start + stride : end + stride],
                        source[c, start + 2 * stride : end + 2 * stride], weights[o, c], weights[o + 1, c],
                    )  # fmt: skip
                    continue
                for k in range(height):
                    line = source[c, start + k * stride : start + k * stride + count + width - 1]
                    if together == 4:
                        _add_five(
                            target[o, a:b], target[o + 1, a:b], target[o + 2, a:b], target[o + 3, a:b],
                            line, weights[o : o + 4, c, k],
                        )  # fmt: skip
                        continue
                    for j in range(width):
                        _add_one(target[o, a:b], line[j : j + count], weights[o, c, k, j])
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
