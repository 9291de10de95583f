"""Numba kernels for particles, named as in particles, whose array code they carry out on the CPU.

States are (member, field, entity) with fields x, y, z, vx, vy, vz, coupling. Each pair is visited once: what one gains
of momentum the other loses. Members do not see each other, so a member is the same in a batch of any size.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from .particles import Force

FORCES = {"coulomb": 0, "gravity": 1, "springs": 2}


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def acceleration(u, force, strength, softening, rest_length, limit, a):
    """a (3, entity) of one member u (field, entity); components are cut off at +-limit."""
    n = u.shape[1]
    for i in range(n):
        a[0, i] = a[1, i] = a[2, i] = 0.0
    for i in range(n - 1):
        sum_x = sum_y = sum_z = 0.0
        for j in range(i + 1, n):
            x, y, z = u[0, i] - u[0, j], u[1, i] - u[1, j], u[2, i] - u[2, j]
            inverse = 1 / math.sqrt(x * x + y * y + z * z + softening * softening)
            g = strength * (rest_length * inverse - 1) if force == 2 else strength * inverse * inverse * inverse
            if force == 1:
                on_i, on_j = -g * u[6, j], -g * u[6, i]
            else:
                on_i = on_j = g * u[6, i] * u[6, j]
            sum_x += on_i * x
            sum_y += on_i * y
            sum_z += on_i * z
            a[0, j] -= on_j * x
            a[1, j] -= on_j * y
            a[2, j] -= on_j * z
        a[0, i] += sum_x
        a[1, i] += sum_y
        a[2, i] += sum_z
    if limit < math.inf:
        for k in range(3):
            for i in range(n):
                if a[k, i] > limit:  # nan, of entities in one place, stays nan
                    a[k, i] = limit
                elif a[k, i] < -limit:
                    a[k, i] = -limit


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def drift(u, h):
    """x += h v; (member, field, entity)."""
    for b in range(u.shape[0]):
        for k in range(3):
            for i in range(u.shape[2]):
                u[b, k, i] += h * u[b, k + 3, i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def kick(u, h, force, strength, softening, rest_length, limit, a):
    """v += h a(x); (member, field, entity)."""
    for b in range(u.shape[0]):
        acceleration(u[b], force, strength, softening, rest_length, limit, a)
        for k in range(3):
            for i in range(u.shape[2]):
                u[b, k + 3, i] += h * a[k, i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def rate(u, force, strength, softening, rest_length, limit, out):
    """out = (v, a, 0); (member, field, entity)."""
    for b in range(u.shape[0]):
        acceleration(u[b], force, strength, softening, rest_length, limit, out[b, 3:6])
        for i in range(u.shape[2]):
            for k in range(3):
                out[b, k, i] = u[b, k + 3, i]
            out[b, 6, i] = 0.0


class Particles:
    """The right-hand side and the flows of a particle system for a batch (member * 7, 1, entity)."""

    def __init__(
        self,
        entities: int,
        force: Force,
        strength: float,
        softening: float,
        rest_length: float,
        force_limit: float | None,
    ) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), entities
        limit = math.inf if force_limit is None else force_limit
        self._law = FORCES[force], float(strength), float(softening), float(rest_length), float(limit)
        self._work = np.zeros((3, entities))

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        rate(self._members(u), *self._law, self._members(out))

    def flow(self, part: str, u: NDArray, h: float) -> None:
        if part == "drift":
            drift(self._members(u), h)
        else:
            kick(self._members(u), h, *self._law, self._work)

    def _members(self, u: NDArray) -> NDArray:
        return u.reshape(-1, 7, self.columns)
