"""Numba kernels of the spectral right-hand side of Burgers' equation."""

from __future__ import annotations

from ...backend import kernel


@kernel(error_model="numpy", fastmath={"contract"})
def copy_kept(u, columns, out):
    """out = u on columns below the cut, 0 above; (batch, 1, column)."""
    for b in range(u.shape[0]):
        for c in range(columns):
            out[b, 0, c] = u[b, 0, c]
        for c in range(columns, u.shape[2]):
            out[b, 0, c] = 0.0


@kernel(error_model="numpy", fastmath={"contract"})
def derivative(squared, factor, out):
    """out = i factor (u^2)^ on the kept modes, factor = -k / 2N (column,); zeros elsewhere are the caller's."""
    for b in range(out.shape[0]):
        for c in range(factor.shape[0]):
            z = squared[b, 0, c]
            out[b, 0, c] = complex(-factor[c] * z.imag, factor[c] * z.real)
