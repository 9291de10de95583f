"""Scores of predicted terms."""

from __future__ import annotations

import numpy as np

from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms, spectrum

BATCH = 256  # samples transformed at a time
LARGE = 2**28  # bytes that are squared at a time, about


def relative_error(prediction: np.ndarray, term: np.ndarray) -> float:
    """||prediction - term|| / ||term|| over all values."""
    return float(np.linalg.norm((prediction - term).ravel()) / np.linalg.norm(term.ravel()))


def root_mean_squares(array: np.ndarray) -> list[float]:
    """The root mean square of each field of an array (sample, field, *grid), summed in double precision."""
    axes, parts = (0, *range(2, array.ndim)), np.array_split(array, max(1, array.nbytes // LARGE))
    means = [len(part) / len(array) * np.mean(np.square(part, dtype=np.float64), axis=axes) for part in parts]
    return np.sqrt(np.sum(means, axis=0)).tolist()


def shell_spectrum(field: np.ndarray) -> np.ndarray:
    """E(s) = mean of |f_hat(k)|^2 over samples and over the complex modes with round(|k|) = s, per field.

    `field` is (sample, field, *grid) in 1D or 2D, k the integer wavenumber, f_hat with ``norm="forward"``. Returns
    (field, shell) float64 for every shell up to the corner of the grid's modes; the sum over shells of E(s) times the
    number of modes of the shell is the mean square of the field.
    """
    grid = Grid(field.shape[2:], (1.0,) * (field.ndim - 2))
    density = np.ones(grid.spectral_shape)
    transforms, total = Transforms(grid), 0.0
    for part in np.array_split(field, -(-len(field) // BATCH)):
        total = total + spectrum(transforms.to_spectrum(part), grid, density).sum(axis=0)
    modes = spectrum(np.ones((1, *grid.spectral_shape)), grid, density)
    return np.asarray(total) / len(field) / np.maximum(modes, 1)
