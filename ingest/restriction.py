"""Restriction of a fine state to a coarser grid."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.finite_volume.averages import average_cells
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms, resample

Restriction = Literal["subsample", "filter"]


class Restrict:
    """R: fine state (member, field, *fine) -> coarse state (member, field, *coarse).

    subsample: every n-th point, with aliasing. filter: a sharp spectral cut-off at the coarse grid's 2/3 rule. On
    finite volumes both are the average over the fine cells of a coarse cell.
    """

    def __init__(self, equation: Equation, fine: Grid, coarse: Grid, how: Restriction) -> None:
        self.fine, self.coarse, self.how = fine, coarse, how
        self.averages = not equation.spectral
        self._ratio = tuple(n // m for n, m in zip(fine.shape, coarse.shape, strict=True))

    def __call__(self, state: NDArray) -> NDArray:
        if self.averages:
            blocked = state.reshape(
                *state.shape[:2],
                *(v for pair in zip(self.coarse.shape, self._ratio, strict=True) for v in pair),
            )
            return blocked.mean(axis=tuple(range(3, blocked.ndim, 2)))
        if self.how == "subsample":
            every: Any = (..., *(slice(None, None, r) for r in self._ratio))
            return np.ascontiguousarray(state[every])
        spectrum = resample(Transforms(self.fine).to_spectrum(state), self.fine, self.coarse, dealias=True)
        return Transforms(self.coarse).to_physical(spectrum)

    def onto(self, state: NDArray, other: Grid) -> NDArray:
        """The fine state on a grid between the two, for the cost-matched run, with every mode that this grid resolves.

        "filter" cuts off at the 2/3 rule of this grid. Cell averages are interpolated conservatively.
        """
        if self.averages:
            return average_cells(state, other.shape)
        spectrum = Transforms(self.fine).to_spectrum(state)
        cut = resample(spectrum, self.fine, other, dealias=self.how == "filter")
        return Transforms(other).to_physical(cut)
