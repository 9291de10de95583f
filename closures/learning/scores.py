"""Scores of predicted terms."""

from __future__ import annotations

import numpy as np


def relative_error(prediction: np.ndarray, term: np.ndarray) -> float:
    """||prediction - term|| / ||term|| over all values."""
    return float(np.linalg.norm((prediction - term).ravel()) / np.linalg.norm(term.ravel()))


def shell_spectrum(field: np.ndarray) -> np.ndarray:
    """E(s) = mean of |f_hat(k)|^2 over samples and the complex modes with round(|k|) = s, per field.

    `field` is (sample, field, *grid) in 1D or 2D, k the integer wavenumber, f_hat as ``norm="forward"``.
    Returns (field, shell) float64 for every shell up to the corner of the grid's modes; the sum over shells
    of E(s) times the modes in the shell is the mean square of the field.
    """
    grid = field.shape[2:]
    wavenumbers = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid), indexing="ij")
    shell = np.rint(np.sqrt(sum(k**2 for k in wavenumbers))).astype(int).ravel()
    power = np.zeros((field.shape[1], shell.size))
    for sample in field:
        amplitude = np.fft.fftn(sample, axes=range(1, sample.ndim), norm="forward")
        power += np.abs(amplitude.reshape(len(amplitude), -1)) ** 2
    total = np.stack([np.bincount(shell, weights=row) for row in power / len(field)])
    return total / np.maximum(np.bincount(shell), 1)
