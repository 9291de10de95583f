"""CUDA kernels of the spectral right-hand side of Kolmogorov flow: one thread for each Fourier coefficient."""

from __future__ import annotations

from numba import cuda


def velocity(w, factor, rows, velocity):
    """velocity = (u + i v)^ = factor w on the modes the 2/3 rule keeps, else 0; see `kernels.velocity`.

    w: (batch, row, column), columns for k_x >= 0; factor: (row, kept column); velocity: (batch, row, column), columns
    for k_x of both signs.
    """
    c, r, b = cuda.grid(3)
    batch, height, width = velocity.shape
    if c >= width or r >= height or b >= batch:
        return
    kept = factor.shape[1]
    if rows[r] and c < kept:
        velocity[b, r, c] = factor[r, c] * w[b, r, c]
    elif rows[r] and c > width - kept:
        mirror = height - r if r else 0
        velocity[b, r, c] = -(factor[r, width - c] * w[b, mirror, width - c]).conjugate()
    else:
        velocity[b, r, c] = 0


def curl(squared, factor, forcing, rows, out):
    """out = a(k) + conj a(-k) + f^, a(k) = factor(k) squared(k), on the kept modes, else 0; see `kernels.curl`.

    squared: (batch, row, column), columns for k_x of both signs; factor, forcing: (row, kept column); out: (batch, row,
    column), columns for k_x >= 0.
    """
    c, r, b = cuda.grid(3)
    batch, height, width = squared.shape
    if c >= out.shape[2] or r >= height or b >= batch:
        return
    if rows[r] and c < factor.shape[1]:
        mirror = height - r if r else 0
        opposite = width - c if c else 0
        a = factor[r, c] * squared[b, r, c]
        out[b, r, c] = a + (factor[r, c] * squared[b, mirror, opposite]).conjugate() + forcing[r, c]
    else:
        out[b, r, c] = 0
