"""A random surface of shallow water at rest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from .equations import Equation, ShallowWater
from .grid import Grid
from .initial_state import InitialState, Members
from .random import SpectralNoise
from .spectral import Transforms


class RandomSurface(InitialState):
    """Surface h + b = depth + eta at rest, with Gaussian eta, E|eta_hat_k|^2 ~ (|k|^2 + tau^2)^(-exponent).

    k = 2 pi m / L. eta has no mean, and the root mean square `amplitude` in expectation; a member's eta is one
    function, averaged over cells, on every grid that resolves it. Periodic sides.
    """

    kind: Literal["random-surface"] = "random-surface"
    depth: float = Option(gt=0)
    amplitude: float = Option(ge=0)
    exponent: float = Option(default=3.0, gt=0)
    tau: float = Option(gt=0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, ShallowWater), "the equation shallow-water", equation)
        assert isinstance(equation, ShallowWater)
        if set(equation.boundary.all) != {"periodic"}:
            raise ValueError("initial kind 'random-surface' is periodic. Remedy: equation.boundary = \"periodic\"")
        m = np.arange(-512, 513) * 2 * np.pi  # the variance of the whole spectrum, not of what a grid holds of it
        spectrum = ((m[:, None] / grid.length[0]) ** 2 + (m / grid.length[1]) ** 2 + self.tau**2) ** -self.exponent
        spectrum[512, 512] = 0.0
        k2 = sum(k**2 for k in grid.wavenumbers())
        power = self.amplitude**2 * (k2 + self.tau**2) ** -self.exponent / spectrum.sum()
        power.flat[0] = 0.0
        surface = SpectralNoise(grid, np.sqrt(power)).sample(seed, "initial", members)
        for k, h in zip(grid.wavenumbers(), grid.spacing, strict=True):
            surface = surface * np.exp(0.5j * k * h) * np.sinc(k * h / (2 * np.pi))
        state = np.zeros((len(members), 3, *grid.shape))
        bottom = equation.bottom(grid)
        level = self.depth + Transforms(grid).to_physical(surface)
        state[:, 0] = np.maximum(level if bottom is None else level - bottom, 0.0)
        return state
