"""Numba kernels. Each carries out, on the CPU, array code of the same name elsewhere; tests hold the two together."""

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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_linear(out, linear, u):
    """out += L u, mode by mode; (batch, row, column)."""
    for b in range(u.shape[0]):
        for r in range(u.shape[1]):
            for c in range(u.shape[2]):
                out[b, r, c] += linear[r, c] * u[b, r, c]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def kolmogorov_velocity(w, inverse_k2, ky, kx, rows, columns, velocity):
    """velocity[0] = i k_y w / k^2, velocity[1] = -i k_x w / k^2 on the modes the 2/3 rule keeps, else 0."""
    for b in range(w.shape[0]):
        for r in range(w.shape[1]):
            if rows[r]:
                k = ky[r]
                for c in range(columns):
                    z = w[b, r, c]
                    psi = inverse_k2[r, c]
                    velocity[0, b, r, c] = complex(-k * psi * z.imag, k * psi * z.real)
                    h = kx[c] * psi
                    velocity[1, b, r, c] = complex(h * z.imag, -h * z.real)
                for c in range(columns, w.shape[2]):
                    velocity[0, b, r, c] = 0.0
                    velocity[1, b, r, c] = 0.0
            else:
                for c in range(w.shape[2]):
                    velocity[0, b, r, c] = 0.0
                    velocity[1, b, r, c] = 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def kolmogorov_products(velocity):
    """In place: (u, v) -> (u v, v^2 - u^2); velocity: (2, points)."""
    for i in range(velocity.shape[1]):
        u = velocity[0, i]
        v = velocity[1, i]
        velocity[0, i] = u * v
        velocity[1, i] = (v - u) * (v + u)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def kolmogorov_curl(products, first, second, forcing, rows, columns, out):
    """out = first (uv)^ + second (v^2 - u^2)^ + f^ on the kept modes; zeros elsewhere are the caller's."""
    for b in range(out.shape[0]):
        for r in range(out.shape[1]):
            if rows[r]:
                for c in range(columns):
                    out[b, r, c] = (
                        first[r, c] * products[0, b, r, c] + second[r, c] * products[1, b, r, c] + forcing[r, c]
                    )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def copy_kept(u, columns, out):
    """out = u on columns below the cut, 0 above; (batch, 1, column)."""
    for b in range(u.shape[0]):
        for c in range(columns):
            out[b, 0, c] = u[b, 0, c]
        for c in range(columns, u.shape[2]):
            out[b, 0, c] = 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def square(u):
    """In place: u -> u^2, (points,)."""
    for i in range(u.shape[0]):
        u[i] = u[i] * u[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def burgers_derivative(squared, factor, out):
    """out = i factor (u^2)^ on the kept modes, factor = -k / 2N (column,); zeros elsewhere are the caller's."""
    for b in range(out.shape[0]):
        for c in range(factor.shape[0]):
            z = squared[b, 0, c]
            out[b, 0, c] = complex(-factor[c] * z.imag, factor[c] * z.real)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def extrapolate(out, value, slope, steps):
    """out = value + steps slope; (batch, row, column)."""
    for b in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[b, r, c] = value[b, r, c] + steps * slope[b, r, c]
