"""Counter-based random numbers (Philox), keyed by (seed, purpose, member, step).

No generator has a state: a number is a function of its key and counter. Member 7 therefore draws the same numbers
alone, in a batch of 64, on another worker and after a restart. Source: Salmon et al., Parallel random numbers: as easy
as 1, 2, 3 (SC 2011).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from .backend import kernel
from .grid import Grid


def key(seed: int, purpose: str, member: int) -> int:
    """64-bit key of one member's stream for one purpose."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{member}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Stream:
    """The random numbers of one purpose at one step, for every member of a batch."""

    seed: int
    purpose: str
    step: int
    members: tuple[int, ...]

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Standard normals, shape (member, *shape)."""
        return np.stack([self.generator(m).standard_normal(shape) for m in self.members])

    def generator(self, member: int) -> np.random.Generator:
        """NumPy generator of one member at this step."""
        bits = np.random.Philox(key=key(self.seed, self.purpose, member), counter=[0, 0, 0, self.step])
        return np.random.Generator(bits)


@numba.njit(inline="always")
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key (all held in uint64)."""
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ k0,
            p1 & low,
            (p0 >> np.uint64(32)) ^ c3 ^ k1,
            p0 & low,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@kernel()
def add_modes(out, index, conjugate, labels, amplitude, keys, step, factor):
    """out[b, index] += factor amplitude (n1 + i n2)/sqrt(2), the same numbers for a mode on every grid.

    out: (member, point) complex. index: flat position of each drawn mode; conjugate: flat position of its complex
    conjugate, -1 if it is not stored, -2 for the real mean mode. labels: (mode, 2) integer wavenumbers. Numbers
    are drawn in double precision and rounded to that of `out`.
    """
    low = np.uint64(0xFFFFFFFF)
    to_unit = 1.0 / 9007199254740992.0
    for b in range(out.shape[0]):
        k0 = keys[b] & low
        k1 = keys[b] >> np.uint64(32)
        for m in range(index.shape[0]):
            w0, w1, w2, w3 = philox4x32(
                np.uint64(labels[m, 0]) & low,
                np.uint64(labels[m, 1]) & low,
                step & low,
                step >> np.uint64(32),
                k0,
                k1,
            )
            u1 = (np.float64((w0 << np.uint64(21)) ^ (w1 >> np.uint64(11))) + 0.5) * to_unit
            u2 = (np.float64((w2 << np.uint64(21)) ^ (w3 >> np.uint64(11))) + 0.5) * to_unit
            radius = factor * amplitude[m] * math.sqrt(-math.log(u1))
            angle = 2.0 * math.pi * u2
            if conjugate[m] == -2:
                out[b, index[m]] += math.sqrt(2.0) * radius * math.cos(angle)
            else:
                z = complex(radius * math.cos(angle), radius * math.sin(angle))
                out[b, index[m]] += z
                if conjugate[m] >= 0:
                    out[b, conjugate[m]] += complex(z.real, -z.imag)


class SpectralNoise:
    """xi_hat_k with E|xi_hat_k|^2 = amplitude_k^2, independent between modes and fields, real in physical space.

    amplitude: real, >= 0, of shape (*spectral_shape), the same for every field, or (field, *spectral_shape). Modes
    below `negligible` times the largest amplitude of their field are set to zero and not drawn. The number of a mode
    depends on its integer wavenumber and its field, not on the grid: one realisation is the same field on every grid
    that resolves it.

    Values that are negative or not finite are kept and drawn: the guard rejects them in an answer of a closure, and a
    state that they reach is not finite. Raises ValueError for an amplitude of another shape or that is not real.
    """

    def __init__(self, grid: Grid, amplitude: NDArray[np.float64], negligible: float = 1e-13) -> None:
        axes = tuple(range(-grid.dimensions, 0))
        if amplitude.shape[-grid.dimensions :] != grid.spectral_shape or amplitude.ndim > grid.dimensions + 1:
            raise ValueError(
                f"noise amplitude has shape {amplitude.shape}, expected {grid.spectral_shape}, or this with a leading "
                "axis of fields"
            )
        if isinstance(amplitude, np.ma.MaskedArray) or amplitude.dtype.kind not in "fiu":
            raise ValueError(f"noise amplitude is an array of {amplitude.dtype}, expected real numbers, not masked")
        finite = np.where(np.isfinite(amplitude), amplitude, 0.0)
        largest = finite.max(axis=axes, keepdims=True, initial=0.0)
        amplitude = np.where(np.abs(amplitude) <= negligible * largest, 0.0, amplitude)
        self.grid, self.amplitude = grid, amplitude
        self._modes = [_Modes.of(grid, a) for a in amplitude.reshape(-1, *grid.spectral_shape)]

    @property
    def fields(self) -> int | None:
        """Number of fields of the amplitude; None where one amplitude holds for every field."""
        return len(self.amplitude) if self.amplitude.ndim > self.grid.dimensions else None

    def add_to(self, out: NDArray, keys: NDArray[np.uint64], step: int, factor: float) -> None:
        """out += factor xi_hat, for the members with these keys.

        out: contiguous, (member * field, ...) or (member, field, ...), with all modes of the grid; without a field axis
        it has one field. Field f > 0 draws with the bits of f << 56 flipped in the step of the Philox counter.
        Raises ValueError if the number of fields is not that of the amplitude.
        """
        points = math.prod(self.grid.spectral_shape)
        flat = out.reshape(len(keys), -1)
        count = flat.shape[1] // points
        if count != (self.fields or count):
            raise ValueError(f"noise for {self.fields} fields cannot be added to {count} fields")
        for field in range(count):
            modes = self._modes[field if self.fields else 0]
            index, conjugate = modes.index, modes.conjugate
            if field:
                index = index + field * points
                conjugate = np.where(conjugate >= 0, conjugate + field * points, conjugate)
            counter = np.uint64((step % 2**64) ^ (field << 56))
            add_modes(flat, index, conjugate, modes.labels, modes.amplitude, keys, counter, factor)

    def sample(
        self, seed: int, purpose: str, members: tuple[int, ...], step: int = 0, fields: int | None = None
    ) -> NDArray:
        """One draw for each member: (member, *amplitude.shape), or (member, fields, *spectral_shape)."""
        shape = self.amplitude.shape if fields is None else (fields, *self.grid.spectral_shape)
        out = np.zeros((len(members), *shape), dtype=np.complex128)
        self.add_to(out, keys(seed, purpose, members), step, 1.0)
        return out


@kernel()
def add_normals(out, amplitude, keys, step, factor):
    """out[b, f, e] += factor amplitude[f, e] n, the same number for an entity however many there are.

    out: (member, field, entity). Numbers are drawn in double precision and rounded to that of `out`.
    """
    low = np.uint64(0xFFFFFFFF)
    to_unit = 1.0 / 9007199254740992.0
    for b in range(out.shape[0]):
        k0 = keys[b] & low
        k1 = keys[b] >> np.uint64(32)
        for f in range(out.shape[1]):
            for e in range(out.shape[2]):
                w0, w1, w2, w3 = philox4x32(np.uint64(e), np.uint64(f), step & low, step >> np.uint64(32), k0, k1)
                u1 = (np.float64((w0 << np.uint64(21)) ^ (w1 >> np.uint64(11))) + 0.5) * to_unit
                u2 = (np.float64((w2 << np.uint64(21)) ^ (w3 >> np.uint64(11))) + 0.5) * to_unit
                radius = factor * amplitude[f, e] * math.sqrt(-2.0 * math.log(u1))
                out[b, f, e] += radius * math.cos(2.0 * math.pi * u2)


class EntityNoise:
    """xi with E xi^2 = amplitude^2, independent between members, fields and entities.

    amplitude: real, >= 0, (field, entity); in state units per sqrt(time) where it is the law of a tendency. The number
    of an entity depends on its index and field, not on how many entities there are. Values that are negative or not
    finite are kept, as in `SpectralNoise`. Raises ValueError for an amplitude of another shape or that is not real.
    """

    def __init__(self, amplitude: NDArray[np.float64]) -> None:
        if isinstance(amplitude, np.ma.MaskedArray) or amplitude.dtype.kind not in "fiu" or amplitude.ndim != 2:
            raise ValueError(
                f"noise amplitude is an array of {amplitude.dtype} of shape {amplitude.shape}, expected real numbers "
                "of shape (field, entity)"
            )
        self.amplitude = np.ascontiguousarray(amplitude, dtype=np.float64)

    def add_to(self, out: NDArray, keys: NDArray[np.uint64], step: int, factor: float) -> None:
        """out += factor xi, for the members with these keys; out: contiguous, (member * field, ...) of entities."""
        shaped = out.reshape(len(keys), *self.amplitude.shape)
        add_normals(shaped, self.amplitude, keys, np.uint64(step % 2**64), factor)


Noise = SpectralNoise | EntityNoise


@dataclass(frozen=True)
class _Modes:
    """The modes of one field that are drawn: arguments of `add_modes`."""

    index: NDArray[np.int64]
    conjugate: NDArray[np.int64]
    labels: NDArray[np.int64]
    amplitude: NDArray[np.float64]

    @classmethod
    def of(cls, grid: Grid, amplitude: NDArray[np.float64]) -> _Modes:
        numbers = [np.broadcast_to(m, grid.spectral_shape) for m in grid.integer_wavenumbers()]
        across, along = (numbers[0] * 0, numbers[0]) if grid.dimensions == 1 else (numbers[-2], numbers[-1])
        nyquist = np.zeros(grid.spectral_shape, dtype=bool)
        for m, n in zip(numbers, grid.shape, strict=True):
            nyquist |= 2 * np.abs(m) == n
        drawn = (amplitude != 0) & ~nyquist
        drawn &= (along > 0) | (across >= 0)
        index = np.flatnonzero(drawn)
        labels = np.stack([across[drawn], along[drawn]], axis=1).astype(np.int64)
        conjugate = np.full(index.size, -1, dtype=np.int64)
        columns = grid.spectral_shape[-1]
        for i, (a, b) in enumerate(labels):
            if b == 0:
                conjugate[i] = -2 if a == 0 else (grid.shape[0] - a) * columns
        return cls(index, conjugate, labels, np.ascontiguousarray(amplitude[drawn]))


def drawn_modes(law: SpectralNoise, field: int) -> _Modes:
    """The modes of one field that a law draws."""
    return law._modes[field]


def keys(seed: int, purpose: str, members: tuple[int, ...]) -> NDArray[np.uint64]:
    """The members' keys, shape (member,)."""
    return np.array([key(seed, purpose, m) for m in members], dtype=np.uint64)


class QWiener(BaseModel):
    """sigma dW/dt with E|W_hat_k|^2 = draws exp(-correlation |k|^2) t / |domain|.

    A Q-Wiener process: Lord, Powell and Shardlow, An Introduction to Computational Stochastic PDEs (2014),
    algorithm 10.6. The fields of an equation have independent processes of the same law. `draws` independent increments
    are summed per step, as in the benchmark of arXiv 2506.20771. The mean mode is included. The increment over a step h
    has variance proportional to h.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["q-wiener"] = "q-wiener"
    amplitude: float
    correlation: float
    draws: int = 1

    def law(self, grid: Grid) -> SpectralNoise:
        """The law of the noise on `grid`, with amplitudes per sqrt(time)."""
        k2 = sum(k**2 for k in grid.wavenumbers())
        area = np.prod(grid.length)
        amplitude = self.amplitude * np.sqrt(self.draws / area) * np.exp(-self.correlation * k2 / 2)
        return SpectralNoise(grid, np.broadcast_to(amplitude, grid.spectral_shape).copy())
