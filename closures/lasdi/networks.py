"""The small networks of the reduced-order model: the autoencoder's halves, and the decoders of further stages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

First = Literal["sine", "tanh", "relu"]


LN2 = math.log(2)
GAIN = 1.83  # of softplus(x) - ln 2: keeps the mean square of what passes through the layers at 1


class Layers(nn.Module):
    """Linear layers of the given widths."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    @property
    def linear(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self.layers))


class Perceptron(Layers):
    """softplus(x) - ln 2 between linear layers; the last is linear.

    Weights begin normal, such that an input of mean square `power` (summed over its entries) gives outputs of mean
    square 1 from all layers but the last, which gives `out`^2. (Left to the defaults, the variance dies out on the way
    to the latents, and training takes ten times as long to begin.)
    """

    def __init__(self, widths: Sequence[int], power: float, out: float = 1.0) -> None:
        super().__init__(widths)
        for i, layer in enumerate(self.linear):
            deviation = GAIN / layer.in_features**0.5 if i else power**-0.5
            nn.init.normal_(layer.weight, std=deviation * (out if layer is self.linear[-1] else 1.0))
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.linear
        for layer in inner:
            x = functional.softplus(layer(x)) - LN2
        return last(x)

    def with_tangent(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The value at x, and the derivative there along v; differentiable in the weights."""
        *inner, last = self.linear
        for layer in inner:
            x, v = layer(x), functional.linear(v, layer.weight)
            x, v = functional.softplus(x) - LN2, torch.sigmoid(x) * v
        return last(x), functional.linear(v, last.weight)


class StageDecoder(Layers):
    """sin(kappa (W z + b)), then tanh layers, then a linear one that starts at zero: a stage begins as no correction.

    Weights begin normal and keep variances at 1, the first biases spread the phases evenly over the circle. (Xavier's
    weights and zero biases, as in arXiv 2506.09207, begin odd in z and small: they take a kappa of 10 to be trained in
    as many steps, and are less smooth between the training runs.) `first` puts tanh or ReLU in place of the sine.
    """

    def __init__(self, widths: Sequence[int], first: First = "sine", kappa: float = 1.0) -> None:
        super().__init__(widths)
        self.first = {"sine": torch.sin, "tanh": torch.tanh, "relu": torch.relu}[first]
        self.kappa = kappa
        for i, layer in enumerate(self.linear):
            gain = 2.0 if i == 1 else 1.0  # the mean square of a sine is a half
            nn.init.normal_(layer.weight, std=(gain / layer.in_features) ** 0.5)
            nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.linear[0].bias, -math.pi / kappa, math.pi / kappa)
        nn.init.zeros_(self.linear[-1].weight)

    def forward(self, z: Tensor) -> Tensor:
        begin, *inner, last = self.linear
        x = self.first(self.kappa * begin(z))
        for layer in inner:
            x = torch.tanh(layer(x))
        return last(x)
