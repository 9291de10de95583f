"""Latent spaces for the closure term: the grid itself, its low Fourier modes, or an autoencoder.

A latent space maps a normalised residual h (batch, field, *grid), the term minus its conditional mean, to z (batch,
channel, *latent grid) of unit variance and back. It also maps the condition, computed from the state, to the latent
grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..learning.fourier_modes import from_low_modes, low_modes
from ..learning.networks import pad_periodic
from .networks import convolution


class Physical(nn.Module):
    """z = h / deviation on the grid of the state, where the condition is used as it is. Source: arXiv 2408.02965."""

    kind: ClassVar[str] = "physical"
    grid_independent: ClassVar[bool] = False  # whether the weights serve other grids
    deviation: Tensor

    def __init__(self, dimensions: int, fields: int, conditions: int) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions = dimensions, fields, conditions
        self.register_buffer("deviation", torch.ones(fields, *[1] * dimensions))

    def fit(self, h: Tensor) -> None:
        """Set the scales from residuals of the training set."""
        self.deviation = _deviation(h)

    def grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Shape of the latent grid for a grid."""
        return tuple(grid)

    def encode(self, h: Tensor) -> Tensor:
        return h / self.deviation

    def decode(self, z: Tensor, grid: Sequence[int]) -> Tensor:
        return z * self.deviation

    def noise(self, white: Tensor) -> Tensor:
        """White noise projected onto the space of latents."""
        return white

    def encode_condition(self, condition: Tensor) -> Tensor:
        """The condition (batch, channel, *grid) on the latent grid."""
        return condition


class Fourier(nn.Module):
    """z_hat(k) = h_hat(k) / a(|k|^2) for |k_i| < points / 2, on a grid of `points` per axis.

    a makes z white over the training set, so a score network has to learn only the deviation of h from Gaussian noise
    with that spectrum. Wavenumbers are integers per domain: the same weights serve every grid that resolves them. Modes
    above the cut have no random part; there the term is its conditional mean.
    """

    kind: ClassVar[str] = "fourier"
    grid_independent: ClassVar[bool] = True
    amplitude: Tensor
    ring: Tensor

    def __init__(self, dimensions: int, fields: int, conditions: int, points: int) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions = dimensions, fields, conditions
        self.points, self.highest = points, (points - 1) // 2
        axis = torch.cat([torch.arange(self.highest + 1), torch.arange(-self.highest, 0)]).double()
        square = axis[: self.highest + 1] ** 2
        if dimensions == 2:
            square = axis[:, None] ** 2 + square
        radii, ring = square.unique(return_inverse=True)  # modes of one |k|^2
        self.register_buffer("ring", ring, persistent=False)
        self.register_buffer("amplitude", torch.ones(fields, len(radii)))

    def fit(self, h: Tensor) -> None:
        """Set the amplitudes from residuals of the training set."""
        power = low_modes(h, self.highest, self.dimensions).abs().double().square().mean(0)
        weight = torch.ones_like(power[0])
        weight[..., 1:].fill_(2)  # the conjugate modes
        count = torch.bincount(self.ring.flatten(), weight.flatten())
        total = torch.stack([torch.bincount(self.ring.flatten(), (weight * p).flatten()) for p in power])
        amplitude = (total / count * self.points**self.dimensions).sqrt()
        # rings without power in the training set get no noise
        self.amplitude = torch.where(amplitude > 1e-6 * amplitude.amax(), amplitude, 0).float()

    def grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        if min(grid) < 2 * self.highest + 1:
            raise ValueError(
                f"a grid of {tuple(grid)} points does not resolve the latent modes, |k_i| <= {self.highest}"
            )
        return (self.points,) * self.dimensions

    def _filtered(self, field: Tensor, factor: Tensor | None) -> Tensor:
        """The spectrum of the latent modes, multiplied by a factor (field, ring)."""
        spectrum = low_modes(field, self.highest, self.dimensions)
        if factor is not None:
            spectrum = spectrum * factor[:, self.ring]
        return spectrum

    def encode(self, h: Tensor) -> Tensor:
        inverse = torch.where(self.amplitude > 0, 1 / self.amplitude, 0)
        return from_low_modes(self._filtered(h, inverse), (self.points,) * self.dimensions)

    def decode(self, z: Tensor, grid: Sequence[int]) -> Tensor:
        return from_low_modes(self._filtered(z, self.amplitude), grid)

    def noise(self, white: Tensor) -> Tensor:
        held = (self.amplitude > 0).to(white.dtype)
        return from_low_modes(self._filtered(white, held), white.shape[2:])

    def encode_condition(self, condition: Tensor) -> Tensor:
        return from_low_modes(self._filtered(condition, None), (self.points,) * self.dimensions)


class Block(nn.Module):
    """h + C2 * gelu(C1 * gelu(h)), periodic."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.layers = nn.ModuleList(convolution(dimensions, width, width, 3) for _ in range(2))

    def forward(self, value: Tensor) -> Tensor:
        inner = value
        for layer in self.layers:
            inner = layer(pad_periodic(functional.gelu(inner), 1, self.dimensions))
        return value + inner


class ConvEncoder(nn.Module):
    """Patches of factor^dimensions points become channels, then all convolutions run on the coarse grid."""

    def __init__(self, dimensions: int, fields: int, channels: int, width: int, factor: int, blocks: int) -> None:
        super().__init__()
        self.dimensions, self.factor = dimensions, factor
        self.first = convolution(dimensions, fields * factor**dimensions, width, 3)
        self.blocks = nn.Sequential(*(Block(dimensions, width) for _ in range(blocks)))
        self.last = convolution(dimensions, width, channels, 3)

    def forward(self, value: Tensor) -> Tensor:
        return _convolve(self, _shuffle(value, self.factor, self.dimensions, down=True))


class ConvDecoder(nn.Module):
    """All convolutions run on the coarse grid, then channels become patches of factor^dimensions points."""

    def __init__(self, dimensions: int, channels: int, fields: int, width: int, factor: int, blocks: int) -> None:
        super().__init__()
        self.dimensions, self.factor = dimensions, factor
        self.first = convolution(dimensions, channels, width, 3)
        self.blocks = nn.Sequential(*(Block(dimensions, width) for _ in range(blocks)))
        self.last = convolution(dimensions, width, fields * factor**dimensions, 3)

    def forward(self, value: Tensor) -> Tensor:
        return _shuffle(_convolve(self, value), self.factor, self.dimensions, down=False)


def _convolve(network: ConvEncoder | ConvDecoder, value: Tensor) -> Tensor:
    """First convolution, blocks and last convolution, all periodic."""
    inner = network.blocks(network.first(pad_periodic(value, 1, network.dimensions)))
    return network.last(pad_periodic(inner, 1, network.dimensions))


class Autoencoder(nn.Module):
    """z = (E(h) - mean) / deviation, h ~ D(z); the latent of a second autoencoder, of the condition, is the condition.

    Patches have `factor` points per axis and `channels` latent numbers; periodic convolutions have `width` channels.
    The published autoencoder has 256 channels, convolves on the fine grid and pads with zeros.
    """

    kind: ClassVar[str] = "autoencoder"
    grid_independent: ClassVar[bool] = False
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        dimensions: int,
        fields: int,
        conditions: int,
        factor: int = 4,
        channels: int = 1,
        width: int = 32,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions, self.factor = dimensions, channels, channels, factor
        sizes = {"width": width, "factor": factor, "blocks": blocks}
        self.encoder = ConvEncoder(dimensions, fields, channels, **sizes)
        self.decoder = ConvDecoder(dimensions, channels, fields, **sizes)
        # of the condition; these names are those of the tensors in weights files
        self.given_encoder = ConvEncoder(dimensions, conditions, channels, **sizes)
        self.given_decoder = ConvDecoder(dimensions, channels, conditions, **sizes)
        self.register_buffer("mean", torch.zeros(channels, *[1] * dimensions))
        self.register_buffer("deviation", torch.ones(channels, *[1] * dimensions))

    def fit(self, h: Tensor) -> None:
        """Set mean and deviation of the latents of the present encoder."""
        z = torch.cat([self.encoder(part) for part in h.split(256)])
        self.deviation = _deviation(z - z.mean(_all_but_channel(z), keepdim=True)[0])
        self.mean = z.mean(_all_but_channel(z), keepdim=True)[0]

    def grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        if any(n % self.factor for n in grid):
            raise ValueError(f"a grid of {tuple(grid)} points is not a multiple of the patches of {self.factor}")
        return tuple(n // self.factor for n in grid)

    def encode(self, h: Tensor) -> Tensor:
        return (self.encoder(h) - self.mean) / self.deviation

    def decode(self, z: Tensor, grid: Sequence[int]) -> Tensor:
        return self.decoder(z * self.deviation + self.mean)

    def noise(self, white: Tensor) -> Tensor:
        return white

    def encode_condition(self, condition: Tensor) -> Tensor:
        return self.given_encoder(condition)

    def reconstructions(self, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstructions of h and of the condition, and both latents before normalisation."""
        z, c = self.encoder(h), self.given_encoder(condition)
        return self.decoder(z), self.given_decoder(c), z, c


def _shuffle(value: Tensor, factor: int, dimensions: int, down: bool) -> Tensor:
    """Patches of factor^dimensions points to channels (down), or channels to patches."""
    few, many = ("b c (y p) (x q)", "b (c p q) y x") if dimensions == 2 else ("b c (x p)", "b (c p) x")
    sizes = {"p": factor} | ({"q": factor} if dimensions == 2 else {})
    return rearrange(value, f"{few} -> {many}" if down else f"{many} -> {few}", **sizes)


def _all_but_channel(value: Tensor) -> tuple[int, ...]:
    return (0, *range(2, value.ndim))


def _deviation(value: Tensor) -> Tensor:
    """Root mean square of each channel, (channel, 1, ...)."""
    return value.double().square().mean(_all_but_channel(value), keepdim=True)[0].sqrt().float()


LATENTS: dict[str, type[Physical] | type[Fourier] | type[Autoencoder]] = {
    latent.kind: latent for latent in (Physical, Fourier, Autoencoder)
}
