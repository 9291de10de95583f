"""Noise that leaves the energy of every shell unchanged."""

import numpy as np
import pytest
import torch

from subgrid.closures.latent_diffusion.energy_transfer import without_transfer
from subgrid.solver.grid import Grid

LENGTH = (6.25, 6.25)


def shell_energies(field):
    """(batch, field, shell)."""
    grid = field.shape[2:]
    lines = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid), indexing="ij")
    shell = np.rint(np.sqrt(sum(k**2 for k in lines))).astype(int).ravel()
    power = np.abs(np.fft.fftn(field.numpy(), axes=range(2, field.ndim))).reshape(*field.shape[:2], -1) ** 2
    return np.stack([[np.bincount(shell, weights=p) for p in part] for part in power])


@pytest.mark.parametrize(("grid", "fields"), [((12, 16), 1), ((9, 8), 2), ((16,), 1), ((15,), 2)])
@pytest.mark.parametrize("span", [1e-3, 0.3])
def test_noise_without_transfer_leaves_the_energy_of_every_shell(grid, fields, span):
    generator = torch.Generator().manual_seed(0)
    noise, state = (torch.randn(3, fields, *grid, generator=generator, dtype=torch.float64) for _ in range(2))
    found = without_transfer(noise, state, span, Grid(grid, LENGTH[: len(grid)]))
    np.testing.assert_allclose(shell_energies(state + span * found), shell_energies(state), rtol=1e-9)
    assert found.norm() > 0.3 * noise.norm()  # only the component along the state is removed


def test_noise_too_strong_for_constant_energy_is_scaled_down():
    generator = torch.Generator().manual_seed(0)
    noise, state = (torch.randn(2, 1, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    line = Grid((16,), LENGTH[:1])
    found = without_transfer(1e3 * noise, state, 0.1, line)
    np.testing.assert_allclose(shell_energies(state + 0.1 * found), shell_energies(state), rtol=1e-9)
    assert without_transfer(noise, torch.zeros_like(state), 0.1, line).isfinite().all()
