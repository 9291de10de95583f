"""Latent spaces: unit variance, grid independence and symmetry under shifts."""

import numpy as np
import pytest
import torch

from subgrid.closures.latent_diffusion.latent_spaces import Autoencoder, Fourier
from subgrid.closures.learning.scores import shell_spectrum


def coloured(points, count=400, seed=0):
    """Fields with the spectrum exp(-k), the same modes on every grid."""
    generator = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(16, 1 / 16),) * 2, indexing="ij"))
    hat = np.fft.fft2(generator.standard_normal((count, 1, 16, 16)), norm="forward") * np.exp(-k / 2)
    hat[..., 8, :] = hat[..., :, 8] = 0
    fine = np.zeros((count, 1, points, points), complex)
    low = np.r_[0:8, -7:0]
    fine[..., low[:, None], low] = hat[..., low[:, None], low]
    return torch.from_numpy(np.fft.ifft2(fine, norm="forward").real).float()


def test_fourier_latents_are_white_and_the_same_on_every_grid():
    latent = Fourier(2, 1, 1, points=12)
    h = coloured(16)
    latent.fit(h)
    z = latent.encode(h)
    power = (np.abs(np.fft.fft2(z.numpy()[:, 0], norm="ortho")) ** 2).mean(0)
    index = np.fft.fftfreq(12, 1 / 12)
    square = (index[:, None] ** 2 + index**2).round().astype(int)
    held = np.abs(index) < 6
    for ring in np.unique(square[np.ix_(held, held)]):  # (2, 2) and (3, 1) alike, which lie in one shell
        assert power[(square == ring) & held & held[:, None]].mean() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(latent.encode(coloured(64)), z, atol=1e-5, rtol=1e-4)
    assert z[0].shape == (1, 12, 12)
    torch.testing.assert_close(latent.encode(latent.decode(z, (16, 16))), z, atol=1e-5, rtol=1e-4)
    white = torch.from_numpy(np.random.default_rng(0).standard_normal((400, 1, 12, 12))).float()
    drawn = latent.decode(latent.noise(white), (16, 16))
    np.testing.assert_allclose(
        shell_spectrum(drawn.numpy())[0, 1:6], shell_spectrum(latent.decode(z, (16, 16)).numpy())[0, 1:6], rtol=0.15
    )
    with pytest.raises(ValueError, match="does not resolve the latent modes"):
        latent.grid((10, 10))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_autoencoders_commute_with_shifts_by_patches(dimensions):
    torch.manual_seed(0)
    latent = Autoencoder(dimensions, 1, 2, factor=2, width=8, blocks=1)
    h = torch.randn(2, 1, *[16] * dimensions)
    latent.fit(h)
    z = latent.encode(h)
    assert z.shape[2:] == (8,) * dimensions
    assert z.mean().item() == pytest.approx(0, abs=1e-5)
    assert z.var(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(latent.encode(h.roll(4, -1)), z.roll(2, -1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        latent.decode(z.roll(2, -1), h.shape[2:]), latent.decode(z, h.shape[2:]).roll(4, -1), atol=1e-5, rtol=1e-4
    )
