"""Uniform grids."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


@dataclass(frozen=True)
class Grid:
    """x_j = j L / n, j = 0..n-1, along every axis.

    `shape` and `length` are in array order, (y, x) in two dimensions. A length is the period: the point at
    x = L is the point at x = 0 and is not stored. Finite volumes read the same grid as cells of width L / n
    with centres at (j + 1/2) L / n.
    """

    shape: tuple[int, ...]
    length: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.length):
            raise ValueError(f"shape {self.shape} and length {self.length} differ in their number of axes")

    @property
    def dimensions(self) -> int:
        return len(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[self.dimensions]

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(length / n for length, n in zip(self.length, self.shape, strict=True))

    @property
    def points(self) -> int:
        return math.prod(self.shape)

    @property
    def spectral_shape(self) -> tuple[int, ...]:
        """Shape of the real-to-complex transform: the last axis holds k >= 0 only."""
        return (*self.shape[:-1], self.shape[-1] // 2 + 1)

    @property
    def cuts(self) -> tuple[int, ...]:
        """Largest integer wavenumber per axis that the 2/3 rule keeps: products of kept modes alias onto none."""
        return tuple((n - 1) // 3 for n in self.shape)

    def coordinates(self, centres: bool = False) -> tuple[NDArray[np.float64], ...]:
        """Coordinates per axis: the points j L / n, or the cell centres (j + 1/2) L / n."""
        offset = 0.5 if centres else 0.0
        return tuple(
            (np.arange(n, dtype=np.float64) + offset) * h for n, h in zip(self.shape, self.spacing, strict=True)
        )

    def integer_wavenumbers(self) -> tuple[NDArray[np.int64], ...]:
        """Integer wavenumbers per axis, shaped to broadcast over `spectral_shape`."""
        result = []
        for axis, n in enumerate(self.shape):
            last = axis == self.dimensions - 1
            k = np.arange(n // 2 + 1) if last else np.fft.fftfreq(n, 1 / n).round().astype(np.int64)
            result.append(k.reshape([-1 if a == axis else 1 for a in range(self.dimensions)]))
        return tuple(result)

    def wavenumbers(self) -> tuple[NDArray[np.float64], ...]:
        """2 pi m / L per axis, broadcastable over `spectral_shape`."""
        pairs = zip(self.integer_wavenumbers(), self.length, strict=True)
        return tuple(2 * math.pi / length * m.astype(np.float64) for m, length in pairs)

    def mask(self) -> NDArray[np.bool_]:
        """True on the modes that the 2/3 rule keeps, shape `spectral_shape`."""
        mask = np.ones(self.spectral_shape, dtype=bool)
        for m, cut in zip(self.integer_wavenumbers(), self.cuts, strict=True):
            mask &= np.abs(m) <= cut
        return mask

    def shells(self) -> NDArray[np.int64]:
        """round(|m|): the shell of integer wavenumbers each mode belongs to, shape `spectral_shape`."""
        squared = sum(m.astype(np.float64) ** 2 for m in self.integer_wavenumbers())
        return np.broadcast_to(np.rint(np.sqrt(squared)).astype(np.int64), self.spectral_shape)

    def half_plane_weight(self) -> NDArray[np.float64]:
        """2 where a stored mode stands for itself and its conjugate, 1 otherwise; shape `spectral_shape`."""
        weight = np.full(self.spectral_shape, 2.0)
        weight[..., 0] = 1.0
        if self.shape[-1] % 2 == 0:
            weight[..., -1] = 1.0
        return weight
