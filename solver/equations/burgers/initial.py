"""Initial state of the published two-dimensional Burgers benchmarks of reduced-order models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option
from scipy.special import erf

from ...grid import Grid
from ..base import Equation
from ..initial_state import InitialState, Members
from .plane import Burgers2D


class GaussianVelocity(InitialState):
    """u = v = A exp(-|x - centre|^2 / width), exact cell averages (member, 2, y, x).

    amplitude: A, in length/time. width: in length^2. centre: (y, x).
    """

    kind: Literal["gaussian-velocity"] = "gaussian-velocity"
    amplitude: float = 1.0
    width: float = Option(default=1.0, gt=0)
    centre: tuple[float, float] = (0.0, 0.0)

    def state(
        self, equation: Equation, grid: Grid, members: Members, seed: int, folder: Path | None = None
    ) -> NDArray[np.float64]:
        self._require(isinstance(equation, Burgers2D), "the equation burgers-2d", equation)
        scale = np.sqrt(self.width)
        profiles = []
        for x, h, middle in zip(grid.coordinates(centres=True), grid.spacing, self.centre, strict=True):
            ends = [erf((x - middle + side * h / 2) / scale) for side in (-1, 1)]
            profiles.append(0.5 * np.sqrt(np.pi) * scale / h * (ends[1] - ends[0]))
        speed = self.amplitude * np.multiply.outer(*profiles)
        return np.repeat(np.stack([speed, speed])[None], len(members), axis=0)
