"""Gaussian random fields."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from ..equations.base import Equation
from ..equations.initial_state import InitialState, Members
from ..grid import Grid
from ..random import SpectralNoise
from ..spectral import Transforms

WANTED = "periodic fields that may be negative"


class GaussianRandomField(InitialState):
    """u = sum_k u_hat_k exp(i k x), Gaussian, with E|u_hat_k|^2 = 2 s^2 (|k|^2 + tau^2)^(-a), k = 2 pi m / L.

    Zero mean. The fields of an equation are independent draws of this law. s is `scale`, by default tau^(a - d/2) in d
    dimensions, for which the variance depends only weakly on tau; a is `exponent`. The field of a member is the same
    function on every grid that resolves it. On cells the state holds the exact cell averages. Source: Li et al.,
    Fourier Neural Operator (ICLR 2021), appendix A.3, N(0, s^2 (-lap + tau^2)^(-a)).

    Raises ValueError for particles, for a domain with walls, and for fields that must not be negative.
    """

    kind: Literal["gaussian-random-field"] = "gaussian-random-field"
    exponent: float = Option(gt=0)
    tau: float = Option(gt=0)
    scale: float | None = None

    def trial(self, equation: Equation, grid: Grid, member: int) -> NDArray[np.float64]:
        """The amplitudes, without a draw, where the equation allows every finite state."""
        if type(equation).admissible is not Equation.admissible:
            return super().trial(equation, grid, member)
        return self._amplitude(equation, grid)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        amplitude = self._amplitude(equation, grid)
        draw = SpectralNoise(grid, amplitude).sample(seed, "initial", members, fields=len(equation.fields))
        if equation.kind == "balance-law":
            for k, h in zip(grid.wavenumbers(), grid.spacing, strict=True):
                draw = draw * np.exp(0.5j * k * h) * np.sinc(k * h / (2 * np.pi))
        state = Transforms(grid).to_physical(draw)
        self._require(equation.admissible(state), WANTED, equation)
        return state

    def _amplitude(self, equation: Equation, grid: Grid) -> NDArray[np.float64]:
        """sqrt(E|u_hat_k|^2), (*spectral_shape). Raises ValueError where the equation has no such field."""
        periodic = equation.kind != "particles" and getattr(equation, "boundary", "periodic") == "periodic"
        self._require(periodic, WANTED, equation)
        scale = self.tau ** (self.exponent - grid.dimensions / 2) if self.scale is None else self.scale
        k2 = sum(k**2 for k in grid.wavenumbers())
        amplitude = np.sqrt(2) * scale * (k2 + self.tau**2) ** (-self.exponent / 2)
        amplitude.flat[0] = 0.0
        return amplitude
