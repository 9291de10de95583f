"""Friction laws of the shallow-water equations: their coefficients, and their solution as array code.

A law is q' = -D(h, q) q. It is solved exactly over half a step before and after each step. Where sides or rain feed the
water, most of it goes into the rates instead: steady flow is then a balance of rates, which a step leaves as it is,
while a discharge that friction changes twice in a step would meet that of a side with a jump. The share in the rates is
1 / (1 + (D / k)^2), k = (|u| + c) / dx + (|v| + c) / dy: all of it where the grid resolves friction, so that the
splitting is of higher order there, and none where water is so thin that rates would be stiff.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...backend import real_type
from .array_code import Array, root
from .pointwise_kernels import ROUND_OFF


class Resistance(NamedTuple):
    """D = (manning / h^(7/3) + quadratic / h^2) |q| + linear, in 1/time.

    manning: g n^2, of Manning's law. quadratic: f / 8 of Darcy and Weisbach's, and g / C^2 of Chezy's. linear: 1/time.
    """

    manning: float
    quadratic: float
    linear: float


class Shared(NamedTuple):
    """What decides on the share of friction in the rates: g, and the spacing (dy, dx)."""

    gravity: float
    spacing: tuple[float, float]


def share(state: Array, law: Resistance, shared: Shared, dry_depth: float, xp: Any) -> tuple[Array, Array]:
    """The share in the rates, 0 in dry cells, and D in the others, each (member, y, x)."""
    h, q, p = (state[:, k, ...] for k in range(3))
    wet = h > dry_depth
    h = xp.where(wet, h, xp.ones_like(h))
    drag = law.quadratic + 0 * h
    if law.manning:
        drag = drag + law.manning / h ** (1 / 3)
    drag = root(q * q + p * p, xp) * drag / (h * h) + law.linear
    c, (dy, dx) = root(shared.gravity * h, xp), shared.spacing
    stiff = drag / ((xp.abs(q) / h + c) / dx + (xp.abs(p) / h + c) / dy)
    return xp.where(wet, 1 / (1 + stiff * stiff), xp.zeros_like(h)), drag


def rate(state: Array, law: Resistance, shared: Shared, dry_depth: float, xp: Any) -> Array:
    """The whole of friction as a rate of change, (member, 3, y, x), for budgets; 0 in dry cells."""
    _, drag = share(state, law, shared, dry_depth, xp)
    drag = xp.where(state[:, 0, ...] > dry_depth, drag, xp.zeros_like(drag))[:, None, ...]
    return xp.concat([0 * state[:, :1, ...], -drag * state[:, 1:, ...]], axis=1)


def resist(state: Array, law: Resistance, dry_depth: float, h: Any, xp: Any, shared: Shared | None = None) -> Array:
    """The state after a time h of the law, or of what is not in the rates, whose share is frozen.

    Exact: 1/|q| is linear in the integral of exp(-linear t). Nearly dry cells as in array_code.relax.
    """
    depth, q, p = (state[:, k, ...] for k in range(3))
    none = 0 * depth
    depth = xp.where((depth < 0) & (depth >= -ROUND_OFF.of(real_type(depth.dtype)) * dry_depth), none, depth)
    thin = depth < dry_depth
    held = xp.where(thin, xp.maximum(depth, none), xp.ones_like(depth))
    factor = xp.where(thin, held * held / (dry_depth * dry_depth), xp.ones_like(depth))
    rest = h + none if shared is None else h * (1 - share(state, law, shared, dry_depth, xp)[0])
    decay, span = xp.ones_like(depth), rest
    if law.linear:
        decay, span = xp.exp(-law.linear * rest), -xp.expm1(-law.linear * rest) / law.linear
    size = root(q * q + p * p, xp) * factor
    water = xp.where(depth > 0, depth * depth, none)
    wet = water > 0  # it may underflow
    water = xp.where(wet, water, xp.ones_like(depth))
    drag = law.quadratic + none
    if law.manning:
        drag = drag + law.manning / xp.where(wet, depth, xp.ones_like(depth)) ** (1 / 3)
    factor = xp.where(wet, factor * decay * (water / (water + span * size * drag)), none)
    return xp.stack([depth, q * factor, p * factor], axis=1)
