"""Noise that leaves the energy of every shell of the state unchanged."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from subgrid.solver.grid import Grid


@lru_cache(maxsize=8)
def _shells(grid: Grid, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The shell (point,) and the weight (*spectral_shape) of every mode."""
    with torch.inference_mode(False):
        shell = torch.tensor(grid.shells().ravel(), device=device)
        return shell, torch.tensor(grid.half_plane_weight(), dtype=dtype, device=device)


def without_transfer(noise: Tensor, state: Tensor, span: float, grid: Grid) -> Tensor:
    """h - s u with |u + span (h - s u)|^2 = |u|^2 in every shell round |k| of integer wavenumbers, field by field.

        s = <u h> / |u|^2 + [1 - sqrt(1 - span^2 |h_0|^2 / |u|^2)] / span,    h_0 = h - <u h> / |u|^2 u

    The first part of s removes the component of the noise along u, the second the energy that a step of length `span`
    across u would add. Noise that is held for `span` then changes the state at constant energy per shell. Where |h_0|
    is too large for that, h_0 is scaled down to the largest possible value. Both arrays are (batch, field, *grid).
    """
    axes = tuple(range(2, state.ndim))
    h, u = (torch.fft.rfftn(part, dim=axes) for part in (noise, state))
    shell, weight = _shells(grid, state.dtype, state.device)
    count = int(grid.shells().max()) + 1

    def sums(product: Tensor) -> Tensor:
        flat = (weight * product).flatten(2)
        if flat.device.type == "cpu":
            return flat.new_zeros(*flat.shape[:2], count).index_add_(2, shell, flat)
        # index_add_ adds in any order on a device, so that a run would not be repeated bit for bit
        return flat @ nn.functional.one_hot(shell, count).to(flat.dtype)

    power = sums(u.real.square() + u.imag.square())
    along = sums(h.real * u.real + h.imag * u.imag)

    def over_power(sum_: Tensor) -> Tensor:
        return torch.where(power > 0, sum_ / power.clamp_min(torch.finfo(power.dtype).tiny), 0)

    def spread(share: Tensor) -> Tensor:
        return share[..., shell].reshape(h.shape)

    h = h - spread(over_power(along)) * u
    across = span**2 * over_power(sums(h.real.square() + h.imag.square()))
    h = spread(across.clamp_min(1).rsqrt()) * h - spread((1 - (1 - across.clamp_max(1)).sqrt()) / span) * u
    return torch.fft.irfftn(h, s=grid.shape, dim=axes)
