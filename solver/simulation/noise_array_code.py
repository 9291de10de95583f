"""Noise as array code: the numbers of `random.SpectralNoise`, drawn where the state is.

Philox4x32-10 in 64-bit integers, which every array library has. Products of two words of 32 bits wrap around in signed
integers; their lower and upper words are those of unsigned ones all the same. All words are below 2^32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import COMPLEX, Backend
from ..random import SpectralNoise, drawn_modes

Array = Any
WORD = 0xFFFFFFFF
MULTIPLIERS, INCREMENTS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
VALUES = 2**20  # of the noise that is drawn at a time, for several steps where one step needs fewer
MOST_STEPS = 32


def philox4x32(counter: tuple[Array, ...], k0: Array, k1: Array) -> tuple[Array, ...]:
    """Four words from a counter of four words and a key of two; arrays of int64 that broadcast, or numbers."""
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = ((p1 >> 32) & WORD) ^ c1 ^ k0, p1 & WORD, ((p0 >> 32) & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + INCREMENTS[0]) & WORD, (k1 + INCREMENTS[1]) & WORD
    return c0, c1, c2, c3


class NoiseDraws:
    """The noise of one law for members with given keys, on the device of a backend.

    Small draws are made for several steps at once. A number depends on its step alone, so that it does not matter at
    which of them a run begins.
    """

    def __init__(self, law: SpectralNoise, keys: NDArray[np.uint64], fields: int, backend: Backend) -> None:
        if law.fields not in (None, fields):
            raise ValueError(f"noise for {law.fields} fields cannot be added to {fields} fields")
        self._backend, self._xp, self._shape = backend, backend.xp, law.grid.spectral_shape
        words = keys.astype(np.uint64)[:, None]
        self._keys = [self._integers(w) for w in (words & np.uint64(WORD), words >> np.uint64(32))]
        laws = [_Gather(law, field if law.fields else 0, self) for field in range(fields if law.fields else 1)]
        self._fields = laws if law.fields else laws * fields
        values = len(keys) * fields * math.prod(self._shape)
        self._steps = 1 << (max(1, min(MOST_STEPS, VALUES // values)).bit_length() - 1)
        self._first: int | None = None
        self._block: Array = None

    def _integers(self, values: NDArray) -> Array:
        return self._backend.asarray(np.ascontiguousarray(values, dtype=np.int64))

    def _doubles(self, values: NDArray) -> Array:
        """In double precision whatever the state's is."""
        return Backend(self._backend.name, self._backend.device).asarray(np.ascontiguousarray(values))

    def at(self, step: int, factor: float) -> Array:
        """factor xi_hat of a step, (member, field, *spectral_shape), in the precision of the backend."""
        first = step - step % self._steps
        if first != self._first:
            self._block, self._first = self._draw(first), first
        return factor * self._block[step - first, ...]

    def _draw(self, first: int) -> Array:
        """xi_hat of the steps of a block, (step, member, field, *spectral_shape)."""
        xp = self._xp
        found = []
        # the first step is a multiple of a power of two: the steps differ in the lower word alone
        low, high = first & WORD, (first >> 32) & WORD
        steps = xp.reshape(xp.arange(low, low + self._steps, dtype=xp.int64, device=self._keys[0].device), (-1, 1, 1))
        for field, modes in enumerate(self._fields):
            found.append(modes.draw((steps, high ^ (field << 24)), *self._keys))
        drawn = xp.stack(found, axis=2)
        drawn = xp.reshape(drawn, (*drawn.shape[:3], *self._shape))
        return xp.astype(drawn, getattr(xp, COMPLEX[self._backend.precision]))


class _Gather:
    """The drawn modes of one field, and from which of them each mode of the grid takes its value."""

    def __init__(self, law: SpectralNoise, field: int, draws: NoiseDraws) -> None:
        modes, points = drawn_modes(law, field), math.prod(law.grid.spectral_shape)
        source, real, imaginary = np.zeros(points, np.int64), np.zeros(points), np.zeros(points)
        number, mean = np.arange(modes.index.size), modes.conjugate == -2
        source[modes.index], real[modes.index] = number, np.where(mean, math.sqrt(2.0), 1.0)
        imaginary[modes.index] = np.where(mean, 0.0, 1.0)
        mirrored = modes.conjugate >= 0
        source[modes.conjugate[mirrored]] = number[mirrored]
        real[modes.conjugate[mirrored]], imaginary[modes.conjugate[mirrored]] = 1.0, -1.0
        self._xp = draws._xp
        # without modes: one of amplitude 0, as a gather needs a source
        labels, amplitude = (
            (modes.labels, modes.amplitude) if modes.index.size else (np.zeros((1, 2), np.int64), np.zeros(1))
        )
        self._labels = [draws._integers(labels[:, i] & WORD) for i in range(2)]
        self._source, self._amplitude = draws._integers(source), draws._doubles(amplitude)
        self._real, self._imaginary = draws._doubles(real), draws._doubles(imaginary)

    def draw(self, step: tuple[Array, int], k0: Array, k1: Array) -> Array:
        """xi_hat, (step, member, point), for words of the step (step, 1, 1) and of the keys (member, 1)."""
        xp = self._xp
        w0, w1, w2, w3 = philox4x32((*self._labels, *step), k0, k1)
        u1, u2 = (self._uniform(high, low) for high, low in ((w0, w1), (w2, w3)))
        radius, angle = self._amplitude * xp.sqrt(-xp.log(u1)), 2.0 * math.pi * u2
        parts = (xp.take(radius * f(angle), self._source, axis=-1) for f in (xp.cos, xp.sin))
        real, imaginary = (part * weight for part, weight in zip(parts, (self._real, self._imaginary), strict=True))
        return real + 1j * imaginary

    def _uniform(self, high: Array, low: Array) -> Array:
        """A number in (0, 1) from 53 bits of two words."""
        return (self._xp.astype((high << 21) ^ (low >> 11), self._xp.float64) + 0.5) / 2.0**53
