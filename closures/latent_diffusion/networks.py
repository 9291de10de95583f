"""Score networks: F(v, phi; c) for a noisy latent v, an angle phi and a condition c, on one periodic grid.

They commute with shifts by whole points of the latent grid and have no coordinates as input. `prepare` computes the
part that depends on the condition alone; samplers call `forward` repeatedly with its result. The last layer is zero
before training, so that F = 0.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..learning.denoiser import HARMONICS, ScoreNetwork, angle_features
from ..learning.fourier_modes import from_low_modes, low_modes
from ..learning.networks import apply_multipliers, highest_mode, multipliers, pad_periodic


def convolution(dimensions: int, left: int, right: int, kernel: int = 1) -> nn.Module:
    return (nn.Conv1d if dimensions == 1 else nn.Conv2d)(left, right, kernel)


class ScoreFNO(ScoreNetwork):
    """Two branches of Fourier layers, one for v with the angle added at each layer, one for c; joined pointwise.

    Layer: gelu(W h + F^-1 R F h [+ E(phi)]), R on the modes |k_i| <= modes / 2. Source: arXiv 2506.20771, where grid
    coordinates are further inputs; they break the symmetry under shifts and are omitted here.
    """

    def __init__(
        self, dimensions: int, channels: int, conditions: int, width: int = 20, modes: int = 8, layers: int = 4
    ) -> None:
        super().__init__()
        self.dimensions, self.highest = dimensions, highest_mode(modes, "modes")
        self.lift = nn.ModuleList(convolution(dimensions, n, width) for n in (channels, conditions))
        self.spectral = nn.ModuleList(
            nn.ParameterList(multipliers(width, width, self.highest, dimensions, width**-0.5) for _ in range(layers))
            for _ in range(2)
        )
        self.pointwise = nn.ModuleList(
            nn.ModuleList(convolution(dimensions, width, width) for _ in range(layers)) for _ in range(2)
        )
        self.time = nn.ModuleList(nn.Linear(2 * HARMONICS, width) for _ in range(layers))
        self.join = nn.Sequential(
            convolution(dimensions, 2 * width, width),
            nn.GELU(),
            convolution(dimensions, width, 128),
            nn.GELU(),
            convolution(dimensions, 128, channels),
        )
        _zero(self.join[-1])

    def prepare(self, condition: Tensor) -> Tensor:
        value = self.lift[1](condition)
        for i in range(len(self.time)):
            value = functional.gelu(self._layer(1, i, value))
        return value

    def forward(self, v: Tensor, angle: Tensor, prepared: Tensor) -> Tensor:
        features = angle_features(angle)
        value = self.lift[0](v)
        for i, time in enumerate(self.time):
            value = functional.gelu(
                self._layer(0, i, value) + time(features).reshape(*value.shape[:2], *[1] * self.dimensions)
            )
        return self.join(torch.cat([value, prepared], dim=1))

    @staticmethod
    def _part(parts: nn.ModuleList, branch: int, i: int) -> Any:
        return cast(Any, parts[branch])[i]

    def _layer(self, branch: int, i: int, value: Tensor) -> Tensor:
        spectrum = apply_multipliers(
            self._part(self.spectral, branch, i), low_modes(value, self.highest, self.dimensions)
        )
        return self._part(self.pointwise, branch, i)(value) + from_low_modes(spectrum, value.shape[2:])


class ScoreCNN(ScoreNetwork):
    """A residual network of periodic convolutions; the angle scales and shifts the channels of every layer.

    h_0 = C v + (C' * gelu(C' * c)),  h <- h + C2 * gelu(C1 * [(1 + a(phi)) h + b(phi)]),  F = C h.
    """

    def __init__(
        self,
        dimensions: int,
        channels: int,
        conditions: int,
        width: int = 32,
        layers: int = 3,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel}: choose an odd number of points, so that it has a centre")
        self.dimensions, self.halo = dimensions, kernel // 2
        self.lift = convolution(dimensions, channels, width, kernel)
        # of the condition; the name is that of the tensors in weights files
        self.given = nn.ModuleList([convolution(dimensions, n, width, kernel) for n in (conditions, width)])
        self.blocks = nn.ModuleList(
            nn.ModuleList(convolution(dimensions, width, width, kernel) for _ in range(2)) for _ in range(layers)
        )
        self.time = nn.ModuleList(nn.Linear(2 * HARMONICS, 2 * width) for _ in range(layers))
        self.last = convolution(dimensions, width, channels, kernel)
        _zero(self.last)
        for block in self.blocks:
            _zero(cast(nn.ModuleList, block)[1])
        for time in self.time:
            _zero(time)
        if dimensions == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, condition: Tensor) -> Tensor:
        if self.dimensions == 2:
            condition = condition.contiguous(memory_format=torch.channels_last)
        return self._on(self.given[1], functional.gelu(self._on(self.given[0], condition)))

    def forward(self, v: Tensor, angle: Tensor, prepared: Tensor) -> Tensor:
        if self.dimensions == 2:
            v = v.contiguous(memory_format=torch.channels_last)
        features = angle_features(angle)
        value = self._on(self.lift, v) + prepared
        for block, time in zip(self.blocks, self.time, strict=True):
            first, second = cast(nn.ModuleList, block)
            scale, shift = time(features).reshape(len(v), -1, *[1] * self.dimensions).chunk(2, dim=1)
            inner = self._on(first, functional.gelu(value * (1 + scale) + shift))
            value = value + self._on(second, functional.gelu(inner))
        return self._on(self.last, functional.gelu(value))

    def _on(self, layer: nn.Module, value: Tensor) -> Tensor:
        return layer(pad_periodic(value, self.halo, self.dimensions))


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


SCORE_NETWORKS: dict[str, type[ScoreNetwork]] = {"fno": ScoreFNO, "cnn": ScoreCNN}
