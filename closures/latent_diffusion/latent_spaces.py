"""What a closure term is made small by: the grid itself, its low Fourier modes, or an autoencoder.

A latent space says how a term h (batch, field, *grid), less its predictable part and normalised, becomes z of unit
variance (batch, channel, *latent grid) and back, and what of the state is given to the score network there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..learning.fourier_modes import from_low_modes, low_modes
from ..learning.networks import wrap
from .networks import convolution


class Physical(nn.Module):
    """z = h / deviation on the grid of the state (arXiv 2408.02965); the condition is what is given of the state."""

    kind: ClassVar[str] = "physical"
    free: ClassVar[bool] = False  # whether the weights serve other grids
    deviation: Tensor

    def __init__(self, dimensions: int, fields: int, given: int) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions = dimensions, fields, given
        self.register_buffer("deviation", torch.ones(fields, *[1] * dimensions))

    def fit(self, h: Tensor) -> None:
        """Scales from terms of the training set."""
        self.deviation = _deviation(h)

    def grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Points of the latent for a grid."""
        return tuple(grid)

    def encode(self, h: Tensor) -> Tensor:
        return h / self.deviation

    def decode(self, z: Tensor, grid: Sequence[int]) -> Tensor:
        return z * self.deviation

    def noise(self, white: Tensor) -> Tensor:
        """White noise as the latents can hold it."""
        return white

    def condition(self, given: Tensor) -> Tensor:
        return given


class Fourier(nn.Module):
    """z_hat(k) = h_hat(k) / a(|k|^2) for |k_i| < points / 2, on a grid of `points` per axis.

    a makes z white over the training set, so that what a score network has to learn is how h is not Gaussian noise of
    that spectrum. Wavenumbers are integers per domain: the same weights serve every grid that holds them. What lies
    above the cut is left to the predictable part, which is a function of the state on all scales.
    """

    kind: ClassVar[str] = "fourier"
    free: ClassVar[bool] = True
    amplitude: Tensor

    def __init__(self, dimensions: int, fields: int, given: int, points: int) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions = dimensions, fields, given
        self.points, self.highest = points, (points - 1) // 2
        axis = torch.cat([torch.arange(self.highest + 1), torch.arange(-self.highest, 0)]).double()
        square = axis[: self.highest + 1] ** 2
        if dimensions == 2:
            square = axis[:, None] ** 2 + square
        radii, self.ring = square.unique(return_inverse=True)  # modes of one |k|^2
        self.register_buffer("amplitude", torch.ones(fields, len(radii)))

    def fit(self, h: Tensor) -> None:
        power = low_modes(h, self.highest, self.dimensions).abs().double().square().mean(0)
        weight = torch.ones_like(power[0])
        weight[..., 1:] = 2  # for the other half of the plane
        count = torch.bincount(self.ring.flatten(), weight.flatten())
        total = torch.stack([torch.bincount(self.ring.flatten(), (weight * p).flatten()) for p in power])
        amplitude = (total / count * self.points**self.dimensions).sqrt()
        # a ring that the terms do not have is not drawn either
        self.amplitude = torch.where(amplitude > 1e-6 * amplitude.amax(), amplitude, 0).float()

    def grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        if min(grid) < 2 * self.highest + 1:
            raise ValueError(
                f"a grid of {tuple(grid)} points does not hold the latents' modes, |k_i| <= {self.highest}"
            )
        return (self.points,) * self.dimensions

    def _lowered(self, field: Tensor, factor: Tensor | None) -> Tensor:
        spectrum = low_modes(field, self.highest, self.dimensions)
        if factor is not None:
            spectrum = spectrum * factor[:, self.ring]
        return spectrum

    def encode(self, h: Tensor) -> Tensor:
        inverse = torch.where(self.amplitude > 0, 1 / self.amplitude, 0)
        return from_low_modes(self._lowered(h, inverse), (self.points,) * self.dimensions)

    def decode(self, z: Tensor, grid: Sequence[int]) -> Tensor:
        return from_low_modes(self._lowered(z, self.amplitude), grid)

    def noise(self, white: Tensor) -> Tensor:
        held = (self.amplitude > 0).to(white.dtype)
        return from_low_modes(self._lowered(white, held), white.shape[2:])

    def condition(self, given: Tensor) -> Tensor:
        return from_low_modes(self._lowered(given, None), (self.points,) * self.dimensions)


class Block(nn.Module):
    """h + C2 * gelu(C1 * gelu(h)), periodic."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.layers = nn.ModuleList(convolution(dimensions, width, width, 3) for _ in range(2))

    def forward(self, value: Tensor) -> Tensor:
        inner = value
        for layer in self.layers:
            inner = layer(wrap(functional.gelu(inner), 1, self.dimensions))
        return value + inner


class Half(nn.Module):
    """Encoder or decoder: the points of a patch become channels at once, then all work is on the coarse grid."""

    def __init__(
        self, dimensions: int, left: int, right: int, width: int, factor: int, blocks: int, down: bool
    ) -> None:
        super().__init__()
        self.dimensions, self.factor, self.down = dimensions, factor, down
        patch = factor**dimensions
        begin, end = (left * patch, right) if down else (left, right * patch)
        self.first = convolution(dimensions, begin, width, 3)
        self.blocks = nn.Sequential(*(Block(dimensions, width) for _ in range(blocks)))
        self.last = convolution(dimensions, width, end, 3)

    def forward(self, value: Tensor) -> Tensor:
        if self.down:
            value = _shuffle(value, self.factor, self.dimensions, down=True)
        value = self.last(wrap(self.blocks(self.first(wrap(value, 1, self.dimensions))), 1, self.dimensions))
        return value if self.down else _shuffle(value, self.factor, self.dimensions, down=False)


class Autoencoder(nn.Module):
    """z = (E(h) - mean) / deviation, h ~ D(z); of the state another autoencoder, whose latent is the condition.

    Patches of `factor` points per axis, `channels` numbers a patch, periodic convolutions of `width` channels. The
    published one has 256 channels, convolves on the fine grid and pads with zeros.
    """

    kind: ClassVar[str] = "autoencoder"
    free: ClassVar[bool] = False
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        dimensions: int,
        fields: int,
        given: int,
        factor: int = 4,
        channels: int = 1,
        width: int = 32,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.dimensions, self.channels, self.conditions, self.factor = dimensions, channels, channels, factor
        sizes = {"width": width, "factor": factor, "blocks": blocks}
        self.encoder = Half(dimensions, fields, channels, down=True, **sizes)
        self.decoder = Half(dimensions, channels, fields, down=False, **sizes)
        self.given_encoder = Half(dimensions, given, channels, down=True, **sizes)
        self.given_decoder = Half(dimensions, channels, given, down=False, **sizes)
        self.register_buffer("mean", torch.zeros(channels, *[1] * dimensions))
        self.register_buffer("deviation", torch.ones(channels, *[1] * dimensions))

    def fit(self, h: Tensor) -> None:
        """Unit variance and zero mean of the latents as they are now."""
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

    def condition(self, given: Tensor) -> Tensor:
        return self.given_encoder(given)

    def reconstructions(self, h: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h and `given` rebuilt, and both latents, not normalised."""
        z, c = self.encoder(h), self.given_encoder(given)
        return self.decoder(z), self.given_decoder(c), z, c


def _shuffle(value: Tensor, factor: int, dimensions: int, down: bool) -> Tensor:
    """Patches of factor^dimensions points to channels, or back."""
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
