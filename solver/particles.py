"""Forces between pairs of entities as array code in any namespace `xp`. particle_kernels does the same on the CPU.

With d = x_i - x_j and s = |d|^2 + softening^2 the pair exerts g(s) d on entity i and -g(s) d on j, times the weight of
the pair, where

    coulomb  g =  strength s^(-3/2)                         gravity  g = -strength s^(-3/2)
    springs  g = -strength (1 - rest_length s^(-1/2))
"""

from __future__ import annotations

from typing import Any, Literal

Array = Any
Force = Literal["coulomb", "gravity", "springs"]


def acceleration(
    x: Array,
    coupling: Array,
    force: Force,
    strength: float,
    softening: float,
    rest_length: float,
    force_limit: float | None,
    apart: Array,
    xp: Any,
) -> Array:
    """a_i = sum_j w_ij g d: x (member, 3, entity), coupling (member, entity) -> (member, 3, entity).

    w_ij is the product of the couplings, for gravity that of the other entity alone: the mass of entity i cancels.
    apart (entity, entity): 1, and 0 on the diagonal. There d = 0, and s is made 1 before the root is taken, not after,
    so that no gradient is nan. Components beyond +-force_limit are cut off, after the sum.
    """
    d = x[:, :, :, None] - x[:, :, None, :]
    s = xp.sum(d * d, axis=1) + (softening * softening) * apart + (1 - apart)
    inverse = apart / xp.sqrt(s)
    if force == "springs":
        g = strength * (rest_length * inverse - apart)
    else:
        g = (strength if force == "coulomb" else -strength) * inverse * inverse * inverse
    weight = coupling[:, None, :]
    if force != "gravity":
        weight = coupling[:, :, None] * weight
    a = xp.sum((weight * g)[:, None, :, :] * d, axis=3)
    return a if force_limit is None else xp.clip(a, -force_limit, force_limit)


def potential(
    x: Array, coupling: Array, force: Force, strength: float, softening: float, rest_length: float, xp: Any
) -> Array:
    """Energy of all pairs, each counted once; (member,)."""
    n = x.shape[-1]
    apart = 1 - xp.eye(n, dtype=x.dtype)
    d = x[:, :, :, None] - x[:, :, None, :]
    s = xp.sum(d * d, axis=1) + (softening * softening) * apart + (1 - apart)
    root = xp.sqrt(s)
    if force == "springs":
        energy = 0.5 * strength * (root - rest_length) ** 2
    else:
        energy = (strength if force == "coulomb" else -strength) / root
    pairs = coupling[:, :, None] * coupling[:, None, :] * apart
    return 0.5 * xp.sum(pairs * energy, axis=(1, 2))
