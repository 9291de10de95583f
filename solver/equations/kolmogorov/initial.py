"""The Taylor-Green vortex as initial state of Kolmogorov flow."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ...grid import Grid
from ..base import Equation
from ..initial_state import InitialState, Members, repeat
from .equation import Kolmogorov


class TaylorGreen(InitialState):
    """w = 2 A k cos(k_x x) cos(k_y y), k_i = 2 pi wavenumber / L_i, k^2 = (k_x^2 + k_y^2) / 2.

    amplitude: A, in length/time; it is the largest speed if L_x = L_y. The vortex does not advect itself, so without
    forcing and noise the exact solution decays as exp(-(2 nu k^2 + drag) t). Source: Taylor and Green, Proc. R. Soc. A
    158 (1937) 499.
    """

    kind: Literal["taylor-green"] = "taylor-green"
    amplitude: float = 1.0
    wavenumber: int = Option(default=1, ge=1)

    def _wavenumbers(self, grid: Grid) -> NDArray[np.float64]:
        return 2 * np.pi * self.wavenumber / np.array(grid.length)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, Kolmogorov), "the equation kolmogorov", equation)
        y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
        ky, kx = self._wavenumbers(grid)
        k = np.sqrt((kx**2 + ky**2) / 2)
        return repeat(2 * self.amplitude * k * np.cos(kx * x) * np.cos(ky * y), members)

    def exact(
        self, equation: Equation, grid: Grid, t: float, members: Members, seed: int
    ) -> NDArray[np.float64] | None:
        assert isinstance(equation, Kolmogorov)
        waves = equation.beta and equation.has("beta")
        if equation.source is not None or waves or equation.noise_law(grid) is not None:
            return None
        viscosity = equation.viscosity if equation.has("diffusion") else 0.0
        drag = equation.drag if equation.has("drag") else 0.0
        rate = viscosity * (self._wavenumbers(grid) ** 2).sum() + drag
        if equation.hyperviscosity and equation.has("hyperviscosity"):
            rate += equation.hyperviscosity * (self._wavenumbers(grid) ** 2).sum() ** equation.hyperviscosity_order
        return np.exp(-rate * t) * self.state(equation, grid, members, seed)
