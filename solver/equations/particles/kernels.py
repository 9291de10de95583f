"""Numba kernels for pairwise forces between particles: each pair once, in an order that does not depend on members."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...backend import kernel, share

FIELDS = 7  # x, y, z, the velocity, the coupling
COULOMB, GRAVITY, SPRINGS = range(3)
INFINITE = math.inf
PAIR = 0.45  # nanoseconds per pair on one thread
MANY = 1000  # entities, whose forces take 0.2 ms; blocks cost a twelfth of that, and less for more entities
BLOCKS = 8  # into which the pairs of many entities are divided, for any number of threads
FORCES = {"coulomb": COULOMB, "gravity": GRAVITY, "springs": SPRINGS}


@kernel(error_model="numpy", fastmath={"contract", "reassoc"})
def accelerate(u, force, strength, softening, rest_length, limit, known, acceleration, first, last):
    """acceleration (member, 3, entity) of u (member, 7, entity), recomputed where x or c differ from those in `known`.

    known (member, 4, entity): the x, y, z and c of `acceleration`, which is a function of these alone, bit for bit. The
    stored values are therefore those that a restarted run computes. Sums over the pairs (i, j) with first <= i < last
    and j < i.
    """
    n = u.shape[2]
    for b in range(u.shape[0]):
        x, y, z, c = u[b, 0], u[b, 1], u[b, 2], u[b, 6]
        kx, ky, kz, kc = known[b, 0], known[b, 1], known[b, 2], known[b, 3]
        same = True
        for i in range(n):
            if x[i] != kx[i] or y[i] != ky[i] or z[i] != kz[i] or c[i] != kc[i]:
                same = False
                break
        if same:
            continue
        ax, ay, az = acceleration[b, 0], acceleration[b, 1], acceleration[b, 2]
        for i in range(n):
            kx[i], ky[i], kz[i], kc[i] = x[i], y[i], z[i], c[i]
            ax[i] = 0.0
            ay[i] = 0.0
            az[i] = 0.0
        for i in range(first, last):
            xi, yi, zi, ci = x[i], y[i], z[i], c[i]
            sx = 0.0
            sy = 0.0
            sz = 0.0
            for j in range(i):
                dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
                squared = dx * dx + dy * dy + dz * dz + softening * softening
                if force == SPRINGS:
                    w = -strength * ci * c[j]
                    if rest_length > 0.0:
                        w *= 1.0 - rest_length / math.sqrt(squared)
                    wi, wj = w, w
                else:
                    w = strength / (squared * math.sqrt(squared))
                    if force == COULOMB:
                        w *= ci * c[j]
                        wi, wj = w, w
                    else:
                        wi, wj = -w * c[j], -w * ci
                sx += wi * dx
                sy += wi * dy
                sz += wi * dz
                ax[j] -= wj * dx
                ay[j] -= wj * dy
                az[j] -= wj * dz
            ax[i] += sx
            ay[i] += sy
            az[i] += sz
        if limit < INFINITE:
            for k in range(3):
                for i in range(n):
                    a = acceleration[b, k, i]
                    acceleration[b, k, i] = limit if a > limit else (-limit if a < -limit else a)


@kernel(fastmath={"contract"})
def add_scaled(target, h, rate):
    """target += h rate, both (member, 3, entity)."""
    for b in range(target.shape[0]):
        for k in range(3):
            for i in range(target.shape[2]):
                target[b, k, i] += h * rate[b, k, i]


class Particles:
    """The right-hand side and the split flows of a batch (member, 7, entity).

    Velocity Verlet kicks twice at the same positions, at the end of a step and at the beginning of the next; the forces
    are computed once. The pairs of one member with many entities are divided over threads, in blocks of which each has
    sums of its own.
    """

    def __init__(
        self,
        entities: int,
        members: int,
        force: str,
        strength: float,
        softening: float,
        rest_length: float,
        limit: float | None,
        dtype: str,
    ) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), entities
        self._shape = (members, FIELDS, entities)
        self._law = (FORCES[force], strength, softening, rest_length, np.inf if limit is None else limit)
        self._known = np.full((members, 4, entities), np.nan, dtype)
        self._acceleration = np.zeros((members, 3, entities), dtype)
        self._parts: NDArray | None = None
        if members == 1 and entities >= MANY:
            limits = (entities * np.sqrt(np.arange(BLOCKS + 1) / BLOCKS)).astype(int)  # equally many pairs in each
            self._limits = [int(i) for i in limits]
            self._known = np.full((BLOCKS, 1, 4, entities), np.nan, dtype)
            self._parts = np.zeros((BLOCKS, 1, 3, entities), dtype)

    def acceleration(self, u: NDArray) -> NDArray:
        """a (member, 3, entity), in an array that the next call may overwrite."""
        if self._parts is None:
            accelerate(u, *self._law, self._known, self._acceleration, 0, u.shape[2])
            return self._acceleration
        *law, limit = self._law
        parts, known = self._parts, self._known

        def work(first: int, last: int, place: int) -> None:
            for k in range(first, last):
                accelerate(u, *law, np.inf, known[k], parts[k], self._limits[k], self._limits[k + 1])

        share(work, BLOCKS, PAIR * u.shape[2] ** 2 / 2 / BLOCKS)
        np.sum(parts, axis=0, out=self._acceleration)  # block by block
        if limit < np.inf:
            np.clip(self._acceleration, -limit, limit, out=self._acceleration)
        return self._acceleration

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        u, out = u.reshape(self._shape), out.reshape(self._shape)
        out[:, :3] = u[:, 3:6]
        out[:, 3:6] = self.acceleration(u)
        out[:, 6] = 0.0

    def flow(self, part: str, u: NDArray, h: float) -> None:
        u = u.reshape(self._shape)
        if part == "drift":
            add_scaled(u[:, :3], h, u[:, 3:6])
        else:
            add_scaled(u[:, 3:6], h, self.acceleration(u))
