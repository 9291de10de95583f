"""The small networks of the reduced-order model: the autoencoder's halves, and the decoders of further stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

First = Literal["sine", "tanh", "relu"]


class Perceptron(nn.Module):
    """Linear layers of the given widths with softplus between them; the last is linear."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = functional.softplus(layer(x))
        return self.layers[-1](x)

    def with_tangent(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The value at x, and the derivative there along v; differentiable in the weights."""
        for layer in self.layers[:-1]:
            x, v = layer(x), functional.linear(v, layer.weight)
            x, v = functional.softplus(x), torch.sigmoid(x) * v
        return self.layers[-1](x), functional.linear(v, self.layers[-1].weight)


class StageDecoder(nn.Module):
    """sin(kappa (W z + b)), then tanh layers, then a linear one that starts at zero: a stage begins as no correction.

    Weights are Xavier-normal within two standard deviations, biases zero, as in arXiv 2506.09207. `first` puts tanh or
    ReLU in place of the sine.
    """

    def __init__(self, widths: Sequence[int], first: First = "sine", kappa: float = 1.0) -> None:
        super().__init__()
        self.first = {"sine": torch.sin, "tanh": torch.tanh, "relu": torch.relu}[first]
        self.kappa = kappa
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        for layer in self.layers:
            deviation = (2 / (layer.in_features + layer.out_features)) ** 0.5
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.layers[-1].weight)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(self.kappa * self.layers[0](z))
        for layer in self.layers[1:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)
