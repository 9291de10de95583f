"""Numba kernels of the spectral right-hand side of Kolmogorov flow."""

from __future__ import annotations

from ...backend import kernel

VELOCITY, CURL = 0.4, 0.3  # nanoseconds on one thread per value of the plane that is transformed, 256 x 256


@kernel(error_model="numpy", fastmath={"contract"})
def velocity(w, factor, rows, velocity, first, last):
    """velocity = (u + i v)^ = factor w, factor = (k_x + i k_y) / k^2, on the modes the 2/3 rule keeps, else 0.

    w: (batch, row, column), columns for k_x >= 0, of which w(-k) = conj w(k) gives those of velocity for k_x < 0;
    factor: (row, kept column). Of the rows first ... last - 1.
    """
    height, width = velocity.shape[1:]
    columns = factor.shape[1]
    for b in range(velocity.shape[0]):
        for r in range(first, last):
            if rows[r]:
                mirror = (height - r) % height
                for c in range(columns):
                    velocity[b, r, c] = factor[r, c] * w[b, r, c]
                for c in range(columns, width - columns + 1):
                    velocity[b, r, c] = 0.0
                for c in range(1, columns):
                    velocity[b, r, width - c] = -(factor[r, c] * w[b, mirror, c]).conjugate()
            else:
                for c in range(width):
                    velocity[b, r, c] = 0.0


@kernel(error_model="numpy", fastmath={"contract"})
def curl(squared, factor, forcing, rows, out, first, last):
    """out = a(k) + conj a(-k) + f^, a(k) = factor(k) squared(k), on the kept modes; zeros elsewhere are the caller's.

    squared: (batch, row, column), columns for k_x of both signs; factor, forcing: (row, kept column); factor is even.
    Of the rows first ... last - 1.
    """
    height, width = squared.shape[1:]
    for b in range(out.shape[0]):
        for r in range(first, last):
            if rows[r]:
                mirror = (height - r) % height
                out[b, r, 0] = (
                    factor[r, 0] * squared[b, r, 0] + (factor[r, 0] * squared[b, mirror, 0]).conjugate() + forcing[r, 0]
                )
                for c in range(1, factor.shape[1]):
                    out[b, r, c] = (
                        factor[r, c] * squared[b, r, c]
                        + (factor[r, c] * squared[b, mirror, width - c]).conjugate()
                        + forcing[r, c]
                    )
