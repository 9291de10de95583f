"""Cell averages on another grid of the same domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_cells(state: NDArray, shape: tuple[int, ...], overlap: bool = False) -> NDArray:
    """Averages over the cells of another grid from averages over cells, `state` (..., *grid); the mean is conserved.

    The plain mean where the new number of cells divides the old one. Otherwise the integral up to each face is
    interpolated through the six nearest faces, one-sided at the ends. This is of fifth order, not less accurate than
    the schemes whose states are averaged. Where a line without negative values, such as a depth at a shore, would
    become negative, it is averaged by the overlap of cells. overlap: all lines are averaged by the overlap of cells,
    which is of first order; every new value is then a weighted mean of old ones.
    """
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        state = np.moveaxis(_average_along(np.moveaxis(state, axis, -1), n, overlap), -1, axis)
    return np.ascontiguousarray(state)


def _average_along(state: NDArray, coarse: int, overlap: bool) -> NDArray:
    """The same along the last axis."""
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
    chosen = overlap | (found < 0).any(axis=-1) & (state >= 0).all(axis=-1)
    if chosen.any():
        low = np.minimum(faces.astype(int), fine - 1)
        through = integral[..., low] + (faces - low) * np.diff(integral, axis=-1)[..., low]
        found[chosen] = (np.diff(through, axis=-1) * coarse / fine)[chosen]
    return found
