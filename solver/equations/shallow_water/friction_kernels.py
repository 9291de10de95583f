"""Numba kernels of the friction laws of shallow water: see friction."""

from __future__ import annotations

import math

import numba

from ...backend import kernel
from .pointwise_kernels import OPTIONS, ROUND_OFF, square


@numba.njit(inline="always")
def share(h, q, p, manning, quadratic, linear, gravity, per_y, per_x):
    """friction.share of a wet cell; per_y, per_x: 1 / spacing."""
    drag = quadratic
    if manning > 0.0:
        drag += manning / h ** (1 / 3)
    drag = math.sqrt(square(q) + square(p)) * drag / square(h) + linear
    c = math.sqrt(gravity * h)
    stiff = drag / (per_x * (abs(q) / h + c) + per_y * (abs(p) / h + c))
    return 1.0 / (1.0 + square(stiff)), drag


@kernel(**OPTIONS)
def resist(u, manning, quadratic, linear, dry_depth, h, shared, gravity, per_y, per_x, first, last):
    """In place: u (member * 3, row, column) after friction, in the rows first ... last - 1; see friction.resist."""
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            for c in range(u.shape[2]):
                depth = u[m, r, c]
                factor = 1.0
                if depth < dry_depth:
                    factor = square(max(depth, 0.0)) / (dry_depth * dry_depth)
                    if depth >= -ROUND_OFF * dry_depth:
                        u[m, r, c] = max(depth, 0.0)
                q, p = u[m + 1, r, c], u[m + 2, r, c]
                water = square(max(depth, 0.0))
                if water > 0.0:  # it may underflow
                    rest = h
                    if shared and depth > dry_depth:
                        part, _ = share(depth, q, p, manning, quadratic, linear, gravity, per_y, per_x)
                        rest = h * (1.0 - part)
                    span = rest
                    if linear > 0.0:
                        factor *= math.exp(-linear * rest)
                        span = -math.expm1(-linear * rest) / linear
                    size = math.sqrt(square(q) + square(p))
                    if depth < dry_depth:
                        size *= square(depth) / (dry_depth * dry_depth)
                    drag = quadratic
                    if manning > 0.0:
                        drag += manning / depth ** (1 / 3)
                    factor *= water / (water + span * size * drag)
                else:
                    factor = 0.0
                u[m + 1, r, c] = q * factor
                u[m + 2, r, c] = p * factor


@kernel(**OPTIONS)
def add_drag(u, manning, quadratic, linear, dry_depth, gravity, per_y, per_x, out, first, last):
    """out -= the share of friction in the rates of u, in the rows first ... last - 1."""
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            for c in range(u.shape[2]):
                depth = u[m, r, c]
                if depth > dry_depth:
                    q, p = u[m + 1, r, c], u[m + 2, r, c]
                    part, drag = share(depth, q, p, manning, quadratic, linear, gravity, per_y, per_x)
                    out[m + 1, r, c] -= part * drag * q
                    out[m + 2, r, c] -= part * drag * p
