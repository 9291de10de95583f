"""Restriction of a fine state to a coarser grid."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
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


def average_cells(state: NDArray, coarse: tuple[int, ...]) -> NDArray:
    """Averages over `coarse` cells from averages over finer ones, `state` (..., *fine); the mean is conserved."""
    for axis, n in zip(range(-len(coarse), 0), coarse, strict=True):
        state = np.moveaxis(_average_along(np.moveaxis(state, axis, -1), n), -1, axis)
    return np.ascontiguousarray(state)


def _average_along(state: NDArray, coarse: int) -> NDArray:
    """The same along the last axis.

    The plain mean where `coarse` divides the number of cells. Otherwise the integral up to each face is interpolated
    through the six nearest fine faces, one-sided at the ends. This is of fifth order, not less accurate than the
    schemes whose states are averaged. Where a line without negative values, such as a depth at a shore, would become
    negative, it is averaged by the overlap of cells.
    """
    fine = state.shape[-1]
    if fine % coarse == 0:
        return state.reshape(*state.shape[:-1], coarse, fine // coarse).mean(axis=-1)
    integral = np.concatenate([np.zeros((*state.shape[:-1], 1)), np.cumsum(state, axis=-1)], axis=-1)
    faces, order = np.arange(coarse + 1) * fine / coarse, min(5, fine)
    nearest = np.clip(faces.astype(int) - order // 2, 0, fine - order)[:, None] + np.arange(order + 1)
    weights = np.ones(nearest.shape)
    for i in range(order + 1):
        for j in range(order + 1):
            if i != j:
                weights[:, i] *= (faces - nearest[:, j]) / (i - j)
    found = np.diff((integral[..., nearest] * weights).sum(axis=-1), axis=-1) * coarse / fine
    overshot = (found < 0).any(axis=-1) & (state >= 0).all(axis=-1)
    if overshot.any():
        low = np.minimum(faces.astype(int), fine - 1)
        overlap = integral[..., low] + (faces - low) * np.diff(integral, axis=-1)[..., low]
        found[overshot] = (np.diff(overlap, axis=-1) * coarse / fine)[overshot]
    return found
