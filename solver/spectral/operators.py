"""Fourier operators for array code in any namespace, changes of grid, and spectra."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import NUMPY, Backend
from ..grid import Grid
from .transforms import Transforms

Array = Any


class Operators:
    """Fourier operators of a grid for array code, in any array namespace `xp` (NumPy, CuPy, torch).

    k: wavenumbers per axis (array order); k2 = |k|^2; inverse_k2 = 1/|k|^2, 0 for the mean mode; mask: 1 on the modes
    that the 2/3 rule keeps, else 0; forward and inverse transforms over the grid's axes; `constant` for other fixed
    arrays. `xp` without a backend is a namespace on the CPU.

    carrier: the velocity of the flow that carries entities, which the ensemble sets; None without one.
    """

    carrier: Any = None

    def __init__(self, grid: Grid, xp: Any = None, backend: Backend = NUMPY) -> None:
        self.grid, self.backend = grid, backend
        self.xp = backend.xp if xp is None else xp
        self._convert = backend.asarray if xp is None else xp.asarray
        self._constants: dict[str, Array] = {}
        self._axes = tuple(range(-grid.dimensions, 0))

    def constant(self, name: str, make: Callable[[], NDArray]) -> Array:
        """The NumPy array make() in the namespace and on the device, computed once and stored under `name`."""
        if name not in self._constants:
            self._constants[name] = self._convert(np.require(make(), requirements="W"))
        return self._constants[name]

    def array(self, values: NDArray) -> Array:
        """A writable NumPy array in the namespace and on the device, for values that change from call to call."""
        return self._convert(np.require(values, requirements="W"))

    @functools.cached_property
    def k(self) -> tuple[Array, ...]:
        return tuple(self._convert(k) for k in self.grid.wavenumbers())

    @functools.cached_property
    def k2(self) -> Array:
        return self._convert(sum(k**2 for k in self.grid.wavenumbers()))

    @functools.cached_property
    def inverse_k2(self) -> Array:
        k2 = np.asarray(sum(k**2 for k in self.grid.wavenumbers()))
        return self._convert(np.divide(1.0, k2, out=np.zeros_like(k2), where=k2 > 0))

    @functools.cached_property
    def mask(self) -> Array:
        return self._convert(self.grid.mask().astype(np.float64))

    def forward(self, physical: Array) -> Array:
        return self.xp.fft.rfftn(physical, axes=self._axes, norm="forward")

    def inverse(self, spectrum: Array) -> Array:
        return self.xp.fft.irfftn(spectrum, s=self.grid.shape, axes=self._axes, norm="forward")

    @functools.cached_property
    def _planned(self) -> Transforms | None:
        return Transforms(self.grid, self.backend.precision) if self.xp is NUMPY.xp else None

    def to_spectrum(self, physical: Array) -> Array:
        """`forward` by the fastest transforms: planned ones in NumPy; not differentiable."""
        return self.forward(physical) if self._planned is None else self._planned.to_spectrum(physical)

    def to_physical(self, spectrum: Array) -> Array:
        """`inverse` by the fastest transforms: planned ones in NumPy; not differentiable."""
        return self.inverse(spectrum) if self._planned is None else self._planned.to_physical(spectrum)


def resample(spectrum: NDArray, source: Grid, target: Grid, dealias: bool = False) -> NDArray:
    """Truncate or zero-pad Fourier coefficients from one grid to another of the same length; shared modes are exact.

    Modes at or above the Nyquist wavenumber of either grid are set to zero; with `dealias`, also those above the 2/3
    cut of the target.
    """
    batch = spectrum.shape[: -source.dimensions]
    out = np.zeros((*batch, *target.spectral_shape), dtype=spectrum.dtype)
    keep = []
    for axis, (n, m) in enumerate(zip(source.shape, target.shape, strict=True)):
        largest = (min(n, m) - 1) // 2
        if dealias:
            largest = min(largest, target.cuts[axis])
        keep.append(largest)
    last = slice(0, keep[-1] + 1)
    corners: list[tuple[slice, ...]] = [()]
    for largest in keep[:-1]:
        halves = (slice(0, largest + 1), slice(-largest, None)) if largest else (slice(0, 1),)
        corners = [(*corner, half) for corner in corners for half in halves]
    for corner in corners:
        kept: Any = (..., *corner, last)
        out[kept] = spectrum[kept]
    return out


def spectrum(state_hat: NDArray, grid: Grid, density: NDArray) -> NDArray:
    """Shell spectrum E_s = sum of density |u_hat_m|^2 over the modes with round(|m|) = s, shape (..., shell).

    state_hat: (..., *spectral_shape), with m the integer wavenumbers; modes that are not stored count through their
    complex conjugates. density: broadcastable to state_hat, for instance `Equation.spectrum_density`.
    """
    shells = grid.shells()
    energy = density * grid.half_plane_weight() * np.abs(state_hat) ** 2
    flat = energy.reshape(-1, shells.size)
    count = int(shells.max()) + 1
    out = np.stack([np.bincount(shells.ravel(), row, minlength=count) for row in flat])
    return out.reshape(*state_hat.shape[: -grid.dimensions], count)
