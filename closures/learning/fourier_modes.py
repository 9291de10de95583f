"""The low Fourier modes of a field, computed by products with small matrices.

Wavenumbers are integers (cycles per domain). Amplitudes follow ``norm="forward"``, so a mode has the same amplitude on
every grid. For few modes two matrix products cost less than a full FFT, and they need no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch


@lru_cache(maxsize=128)
def _fourier_matrices(points: int, highest: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Matrices between `points` grid values and the modes |k| <= `highest` of one axis.

    Returns, in order: real to half spectrum (points, 2 (highest + 1)), with alternating columns Re and Im; its inverse
    (2 (highest + 1), points); complex to full spectrum (points, 2 highest + 1), with columns in FFT order; its inverse
    (2 highest + 1, points). All multiply from the right, which is one large product instead of a small one per field.
    """
    wavenumber = np.concatenate([np.arange(highest + 1), np.arange(-highest, 0)])
    phase = 2 * np.pi / points * (np.outer(wavenumber, np.arange(points)) % points)
    wave = np.exp(1j * phase)
    half = wave[: highest + 1]
    twice = np.where(np.arange(highest + 1) > 0, 2.0, 1.0)[:, None]
    to_half = np.stack([half.real, -half.imag], axis=1).reshape(-1, points).T / points
    from_half = np.stack([twice * half.real, -twice * half.imag], axis=1).reshape(-1, points)
    with torch.inference_mode(False):  # cached tensors must also serve training
        return tuple(
            torch.from_numpy(np.ascontiguousarray(matrix)).to(device, kind)
            for matrix, kind in (
                (to_half, torch.float32),
                (from_half, torch.float32),
                (wave.conj().T / points, torch.complex64),
                (wave, torch.complex64),
            )
        )


def low_modes(field: torch.Tensor, highest: int, dimensions: int) -> torch.Tensor:
    """u_hat(k) = 1/N sum_x u(x) exp(-2 pi i k.x / n) for |k_i| <= highest, on the last `dimensions` axes.

    Returns complex (..., highest + 1) in 1D and (..., 2 highest + 1, highest + 1) in 2D: the layout of
    ``rfftn(norm="forward")`` without the higher modes. Each axis needs more than 2 `highest` points.
    """
    to_half = _fourier_matrices(field.shape[-1], highest, field.device)[0]
    spectrum = torch.view_as_complex((field @ to_half).unflatten(-1, (highest + 1, 2)))
    if dimensions == 2:
        spectrum = (spectrum.mT @ _fourier_matrices(field.shape[-2], highest, field.device)[2]).mT
    return spectrum


def from_low_modes(spectrum: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """u(x) = sum_k u_hat(k) exp(2 pi i k.x / n): the real field on `grid` of a spectrum from `low_modes`.

    Modes that the grid cannot hold (|k_i| >= n/2 on the shorter axis) are dropped, the Nyquist mode included.
    """
    spectrum = resize(spectrum, min(spectrum.shape[-1] - 1, (min(grid) - 1) // 2), len(grid))
    highest = spectrum.shape[-1] - 1
    if len(grid) == 2:
        spectrum = (spectrum.mT @ _fourier_matrices(grid[0], highest, spectrum.device)[3]).mT.contiguous()
    from_half = _fourier_matrices(grid[-1], highest, spectrum.device)[1]
    return torch.view_as_real(spectrum).flatten(-2) @ from_half


def resize(spectrum: torch.Tensor, highest: int, dimensions: int) -> torch.Tensor:
    """The same modes in the layout for |k_i| <= highest: truncated, or padded with zeros."""
    held = spectrum.shape[-1] - 1
    if held == highest:
        return spectrum
    keep = min(held, highest)
    rows = (2 * highest + 1,) if dimensions == 2 else ()
    resized = spectrum.new_zeros(*spectrum.shape[: spectrum.ndim - dimensions], *rows, highest + 1)
    resized[..., : keep + 1, : keep + 1] = spectrum[..., : keep + 1, : keep + 1]
    if dimensions == 2 and keep:
        resized[..., -keep:, : keep + 1] = spectrum[..., -keep:, : keep + 1]
    return resized


def sharp_cut(term: torch.Tensor, dimensions: int, cut: int | None, zero_mean: bool) -> torch.Tensor:
    """The modes |k_i| <= cut of a term (batch, field, *grid), minus its mean if `zero_mean`.

    `cut` None, or a cut at or above half the points of the shortest axis, keeps every mode.
    """
    grid = term.shape[-dimensions:]
    if cut is not None and 2 * cut < min(grid):
        term = from_low_modes(low_modes(term, cut, dimensions), grid)
    if zero_mean:
        term = term - term.mean(dim=tuple(range(-dimensions, 0)), keepdim=True)
    return term
