"""Noise with a spectrum that was measured in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise

if TYPE_CHECKING:
    pass


SPECTRUM = "residual_spectrum"


def residual_noise(grid: Grid, power: np.ndarray, step: float) -> SpectralNoise:
    """The law with E|xi_hat_k|^2 = power[round |k|] at steps of `step`, as amplitude per sqrt(time)."""
    shells = np.minimum(grid.shells(), len(power) - 1)
    amplitude = np.sqrt(np.maximum(power[shells], 0.0) * step)
    amplitude[grid.shells() >= len(power)] = 0.0
    return SpectralNoise(grid, amplitude, negligible=1e-6)
