"""The networks of the reduced-order model: encoder and decoder as perceptrons, and the decoders of further stages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .options import Activation

LN2 = math.log(2)
GAIN = 1.83  # of weights before softplus(x) - ln 2: keeps the mean square of activations at 1


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

    Initial weights are normal. For an input of mean square `power`, summed over its entries, the outputs of all layers
    have mean square 1, those of the last `out`^2. With the default initialisation the variance decays towards the
    latents, and training needs ten times as many steps before the loss falls.
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
        """The value at x and the directional derivative along v; differentiable in the weights."""
        *inner, last = self.linear
        for layer in inner:
            x, v = layer(x), functional.linear(v, layer.weight)
            x, v = functional.softplus(x) - LN2, torch.sigmoid(x) * v
        return last(x), functional.linear(v, last.weight)


class StageDecoder(Layers):
    """sin(kappa (W z + b)), tanh layers, and a linear layer that is zero initially, so that a stage starts at zero.

    Initial weights are Xavier-normal, truncated at two standard deviations, and biases zero, as in arXiv 2506.09207.
    `first` replaces the sine by tanh or ReLU. With `random` the weights of the first layer are standard normal and its
    phases kappa b uniform: the random features of `ridge.py`.
    """

    def __init__(
        self, widths: Sequence[int], first: Activation = "sine", kappa: float = 1.0, random: bool = False
    ) -> None:
        super().__init__(widths)
        self.first = {"sine": torch.sin, "tanh": torch.tanh, "relu": torch.relu}[first]
        self.kappa = kappa
        for layer in self.linear:
            deviation = (2 / (layer.in_features + layer.out_features)) ** 0.5
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.linear[-1].weight)
        if random:
            nn.init.normal_(self.linear[0].weight)
            nn.init.uniform_(self.linear[0].bias, -math.pi / kappa, math.pi / kappa)

    def features(self, z: Tensor) -> Tensor:
        """The input of the last layer."""
        begin, *inner, _ = self.linear
        x = self.first(self.kappa * begin(z))
        for layer in inner:
            x = torch.tanh(layer(x))
        return x

    def forward(self, z: Tensor) -> Tensor:
        return self.linear[-1](self.features(z))


def stage_decoders(options: Mapping[str, Any], modes: int) -> list[StageDecoder]:
    """Untrained decoders of the further stages, for the options of a training."""
    random = options.get("stage_fit", "descent") == "ridge"
    widths = (options["latent"], *options["stage_widths"], modes)
    return [
        StageDecoder(widths, options["stage_first"], options["stage_kappa"] * (2**i if random else 1), random)
        for i in range(options["stages"] - 1)
    ]
