"""Numba kernels of the spectral right-hand side of Kolmogorov flow."""

from __future__ import annotations

from ...backend import kernel


@kernel(error_model="numpy", fastmath={"contract"})
def velocity(w, factor, rows, first, last, velocity):
    """velocity = (u + i v)^ = factor w, factor = (k_x + i k_y) / k^2, on the modes the 2/3 rule keeps, else 0.

    w: (batch, row, column), columns for k_x >= 0, of which w(-k) = conj w(k) gives those of velocity for k_x < 0;
    factor: (row, kept column). Of the columns with first <= |k_x| < last, in units of the lowest wavenumber, which must
    be among those that are kept.
    """
    height, width = velocity.shape[1:]
    for b in range(velocity.shape[0]):
        for r in range(height):
            if rows[r]:
                mirror = (height - r) % height
                for c in range(first, last):
                    velocity[b, r, c] = factor[r, c] * w[b, r, c]
                for c in range(max(first, 1), last):
                    velocity[b, r, width - c] = -(factor[r, c] * w[b, mirror, c]).conjugate()
            else:
                for c in range(first, last):
                    velocity[b, r, c] = 0.0
                for c in range(max(first, 1), last):
                    velocity[b, r, width - c] = 0.0


@kernel(error_model="numpy", fastmath={"contract"})
def curl(squared, factor, forcing, rows, first, last, out):
    """out = a(k) + conj a(-k) + f^, a(k) = factor(k) squared(k), on the kept modes; zeros elsewhere are the caller's.

    squared: (batch, row, column), columns for k_x of both signs; factor, forcing: (row, kept column); factor is even.
    Of the columns first ... last - 1 of `out`.
    """
    height, width = squared.shape[1:]
    for b in range(out.shape[0]):
        for r in range(height):
            if rows[r]:
                mirror = (height - r) % height
                if first == 0:
                    out[b, r, 0] = (
                        factor[r, 0] * squared[b, r, 0]
                        + (factor[r, 0] * squared[b, mirror, 0]).conjugate()
                        + forcing[r, 0]
                    )
                for c in range(max(first, 1), last):
                    out[b, r, c] = (
                        factor[r, c] * squared[b, r, c]
                        + (factor[r, c] * squared[b, mirror, width - c]).conjugate()
                        + forcing[r, c]
                    )
