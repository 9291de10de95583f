"""Friction laws of the shallow-water equations: their coefficients, and their exact solution as array code."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...backend import real_type
from .array_code import Array, root
from .pointwise_kernels import ROUND_OFF


class Resistance(NamedTuple):
    """q' = -(manning / h^(7/3) + quadratic / h^2) |q| q - linear q.

    manning: g n^2, of Manning's law. quadratic: f / 8 of Darcy and Weisbach's, and g / C^2 of Chezy's. linear: 1/time.
    """

    manning: float
    quadratic: float
    linear: float

    def decay(self, h: float) -> tuple[float, float]:
        """exp(-linear h), and the integral of exp(-linear t) over 0 < t < h."""
        if not self.linear:
            return 1.0, h
        return math.exp(-self.linear * h), -math.expm1(-self.linear * h) / self.linear


def resist(state: Array, law: Resistance, dry_depth: float, h: Any, xp: Any) -> Array:
    """The state after a time h of `Resistance`, exactly: 1/|q| is linear in the integral of exp(-linear t).

    Nearly dry cells as in array_code.relax.
    """
    depth, q, p = (state[:, k, ...] for k in range(3))
    none = 0 * depth
    depth = xp.where((depth < 0) & (depth >= -ROUND_OFF.of(real_type(depth.dtype)) * dry_depth), none, depth)
    thin = depth < dry_depth
    held = xp.where(thin, xp.maximum(depth, none), xp.ones_like(depth))
    factor = xp.where(thin, held * held / (dry_depth * dry_depth), xp.ones_like(depth))
    decay, span = law.decay(float(h))
    size = root(q * q + p * p, xp) * factor
    water = xp.where(depth > 0, depth * depth, none)
    wet = water > 0  # it may underflow
    water = xp.where(wet, water, xp.ones_like(depth))
    drag = law.quadratic + 0 * depth
    if law.manning:
        drag = drag + law.manning / xp.where(wet, depth, xp.ones_like(depth)) ** (1 / 3)
    factor = xp.where(wet, factor * decay * (water / (water + span * size * drag)), none)
    return xp.stack([depth, q * factor, p * factor], axis=1)
