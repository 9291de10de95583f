"""Noise that moves a state without feeding it."""

from __future__ import annotations

import torch
from torch import Tensor


def without_transfer(noise: Tensor, state: Tensor) -> Tensor:
    """h_hat(k) - u_hat(k) sum Re(h_hat conj u_hat) / sum |u_hat|^2, sums over the shell round |k|, field by field.

    Then d/dt |u|^2 / 2 = <u h> is zero in every shell of integer wavenumbers. Both are (batch, field, *grid).
    """
    grid = state.shape[2:]
    axes = tuple(range(2, state.ndim))
    h, u = (torch.fft.rfftn(part, dim=axes) for part in (noise, state))
    lines = [torch.fft.fftfreq(n, 1 / n) for n in grid[:-1]] + [torch.fft.rfftfreq(grid[-1], 1 / grid[-1])]
    radius = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0).sqrt()
    shell = radius.round().long().flatten().to(state.device)
    weight = torch.full(h.shape[2:], 2.0, device=state.device)  # for the other half of the plane
    weight[..., 0] = 1
    if grid[-1] % 2 == 0:
        weight[..., -1] = 1

    def sums(product: Tensor) -> Tensor:
        flat = (weight * product).flatten(2)
        found = flat.new_zeros(*flat.shape[:2], int(shell.max()) + 1)
        return found.index_add_(2, shell, flat)

    power = sums(u.real.square() + u.imag.square())
    along = sums(h.real * u.real + h.imag * u.imag)
    share = torch.where(power > 0, along / power.clamp_min(torch.finfo(power.dtype).tiny), 0)
    h = h - share[..., shell].reshape(h.shape) * u
    return torch.fft.irfftn(h, s=grid, dim=axes)
