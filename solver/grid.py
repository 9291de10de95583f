"""Uniform grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """x_j = origin + j L / n, j = 0..n-1, along every axis.

    `shape`, `length` and `origin` are in array order, (y, x) in two dimensions. A length is the period: the point at
    origin + L is the point at the origin and is not stored. For finite volumes the cells have width L / n and centres
    at origin + (j + 1/2) L / n. For particles the only axis counts the particles, and its length has no meaning;
    `carrier` is the grid of the flow that carries them, if there is one.

    Raises ValueError where shape, length and origin differ in their number of axes.
    """

    shape: tuple[int, ...]
    length: tuple[float, ...]
    origin: tuple[float, ...] = ()
    carrier: Grid | None = None

    def __post_init__(self) -> None:
        if not self.origin:
            object.__setattr__(self, "origin", (0.0,) * len(self.shape))
        for name in ("length", "origin"):
            if len(self.shape) != len(getattr(self, name)):
                raise ValueError(f"shape {self.shape} and {name} {getattr(self, name)} differ in their number of axes")

    def refined(self, shape: tuple[int, ...]) -> Grid:
        """The same domain with another shape; entities that a flow carries, with another grid of the flow."""
        if self.carrier is not None:
            return replace(self, carrier=self.carrier.refined(shape))
        return replace(self, shape=shape)

    @property
    def resolution(self) -> tuple[int, ...]:
        """What `refined` changes: the shape, or that of the flow that carries the entities."""
        return self.carrier.shape if self.carrier is not None else self.shape

    def has(self, name: Literal["length", "origin"], values: Sequence[float], tolerance: float = 1e-5) -> bool:
        """True if the length or the origin of this grid is `values`, to `tolerance` times the length of each axis."""
        own = getattr(self, name)
        return len(values) == len(own) and all(
            abs(value - mine) <= tolerance * length
            for value, mine, length in zip(values, own, self.length, strict=True)
        )

    @property
    def dimensions(self) -> int:
        return len(self.shape)

    @cached_property
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
        """Largest integer wavenumber per axis of the 2/3 rule: products of kept modes do not alias onto kept modes."""
        return tuple((n - 1) // 3 for n in self.shape)

    def coordinates(self, centres: bool = False) -> tuple[NDArray[np.float64], ...]:
        """Coordinates per axis: the points origin + j L / n, or the cell centres origin + (j + 1/2) L / n."""
        offset = 0.5 if centres else 0.0
        return tuple(
            start + (np.arange(n, dtype=np.float64) + offset) * h
            for n, h, start in zip(self.shape, self.spacing, self.origin, strict=True)
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
        """round(|m|): the shell of integer wavenumbers of each mode, shape `spectral_shape`."""
        squared = sum(m.astype(np.float64) ** 2 for m in self.integer_wavenumbers())
        return np.broadcast_to(np.rint(np.sqrt(squared)).astype(np.int64), self.spectral_shape)

    def half_plane_weight(self) -> NDArray[np.float64]:
        """2 where a stored mode represents itself and its conjugate, else 1; shape `spectral_shape`."""
        weight = np.full(self.spectral_shape, 2.0)
        weight[..., 0] = 1.0
        if self.shape[-1] % 2 == 0:
            weight[..., -1] = 1.0
        return weight


def increasing_order(given: NDArray, expected: NDArray[np.float64]) -> NDArray[np.intp]:
    """The order of the entries of `given` in which they are `expected`, increasing and evenly spaced.

    Coordinates agree to 1 % of their spacing, and to the precision of single precision. Raises ValueError if the
    two are not the same points.
    """
    if given.shape != expected.shape or given.dtype.kind not in "fiu":
        raise ValueError(f"found {given.dtype} of shape {given.shape}, expected real numbers of shape {expected.shape}")
    order = np.argsort(given, kind="stable")
    spacing = (expected[-1] - expected[0]) / max(1, len(expected) - 1)
    tolerance = 0.01 * spacing + float(np.finfo(np.float32).eps) * float(np.abs(expected).max())
    if not (np.abs(given[order].astype(np.float64) - expected) <= tolerance).all():
        ends = [f"{v:.7g}" for v in (given.min(), given.max(), expected[0], expected[-1])]
        raise ValueError(f"found {ends[0]} to {ends[1]}, expected evenly spaced {ends[2]} to {ends[3]}")
    return order
