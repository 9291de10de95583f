"""States on another grid of the same domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..equations.base import Equation
from ..finite_volume.averages import average_cells
from ..grid import Grid
from ..spectral import Transforms, resample


def on_grid(state: NDArray, equation: Equation, source: Grid, grid: Grid) -> NDArray[np.float64]:
    """The state (member, field, *source) on another grid of the same domain."""
    if source.shape == grid.shape:
        return state
    if equation.spectral:
        spectrum = resample(Transforms(source).to_spectrum(state), source, grid)
        return Transforms(grid).to_physical(spectrum)
    lowest = state.min(axis=(0, *range(2, state.ndim)))
    return average_cells(state, grid.shape, overlap=len(lowest) > 1 and bool((lowest == 0).any()))
