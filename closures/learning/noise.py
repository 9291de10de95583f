"""White-in-time noise with a spectrum that was measured in training."""

from __future__ import annotations

import numpy as np

from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise

SPECTRUM = "residual_spectrum"  # name of its tensor in weights of `regression`


def residual_noise(grid: Grid, power: np.ndarray, step: float) -> SpectralNoise:
    """Isotropic noise with E|xi_hat_k|^2 = power[round |k|] when it is drawn at steps of `step`.

    power: (shell,), k integer and xi_hat with ``norm="forward"``; zero above its last shell. The amplitude of the
    result is per sqrt(time), so the solver can draw it at any other step. Raises ValueError for an array that is not of
    this kind.
    """
    if power.ndim != 1 or not len(power) or not step > 0:
        raise ValueError(f"noise needs a spectrum (shell,) and a positive step, found {power.shape} and {step}")
    shells = np.minimum(grid.shells(), len(power) - 1)
    amplitude = np.sqrt(np.maximum(power[shells], 0.0) * step)
    amplitude[grid.shells() >= len(power)] = 0.0
    return SpectralNoise(grid, amplitude, negligible=1e-6)
