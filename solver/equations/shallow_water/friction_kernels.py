"""Numba kernel of the friction laws of shallow water: see friction.resist."""

from __future__ import annotations

import math

from ...backend import kernel
from .pointwise_kernels import OPTIONS, ROUND_OFF, square


@kernel(**OPTIONS)
def resist(u, manning, quadratic, decay, span, dry_depth, first, last):
    """In place: u (member * 3, row, column) after friction, in the rows first ... last - 1."""
    for m in range(0, u.shape[0], 3):
        for r in range(first, last):
            for c in range(u.shape[2]):
                depth = u[m, r, c]
                factor = 1.0
                if depth < dry_depth:
                    factor = square(max(depth, 0.0)) / (dry_depth * dry_depth)
                    if depth >= -ROUND_OFF * dry_depth:
                        u[m, r, c] = max(depth, 0.0)
                water = square(max(depth, 0.0))
                if water > 0.0:  # it may underflow
                    size = math.sqrt(square(u[m + 1, r, c]) + square(u[m + 2, r, c])) * factor
                    drag = quadratic
                    if manning > 0.0:
                        drag += manning / depth ** (1 / 3)
                    factor *= decay * (water / (water + span * size * drag))
                else:
                    factor = 0.0
                u[m + 1, r, c] *= factor
                u[m + 2, r, c] *= factor
