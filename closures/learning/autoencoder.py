"""Autoencoders: perceptrons of the coefficients of a basis or of all points, or convolutional on the grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .perceptrons import GAIN, LN2, Perceptron


def autoencoder(
    options: Mapping[str, Any], size: int, about: Mapping[str, Any]
) -> tuple[Perceptron | ConvolutionalEncoder, Perceptron | ConvolutionalDecoder]:
    """Untrained encoder and decoder for `size` coefficients. about: fields, shape, and which axes are periodic."""
    kind, latent = options.get("autoencoder", "pod-mlp"), options["latent"]
    if kind == "convolutional":
        sides = (len(about["fields"]), about["shape"], about["periodic"], options["channels"], latent)
        return ConvolutionalEncoder(*sides), ConvolutionalDecoder(*sides)
    widths = (size, *options["widths"], latent)
    out = 0.1 if kind == "pod-mlp" else 1.6 * size**-0.5
    return Perceptron(widths, 1.0), Perceptron(widths[::-1], float(latent), out)


class _Convolutional(nn.Module):
    """Shapes from the grid to the coarsest level, each with half as many points per axis as the previous one."""

    def __init__(
        self, fields: int, shape: Sequence[int], periodic: Sequence[bool], channels: Sequence[int], latent: int
    ) -> None:
        super().__init__()
        levels = len(channels)
        if any(n % 2**levels for n in shape):
            raise ValueError(f"channels: {list(shape)} points cannot be halved {levels} times. Remedy: fewer levels")
        self.fields, self.shape, self.periodic = fields, tuple(shape), tuple(periodic)
        self.channels = (fields, *channels)
        self.coarse = (channels[-1], *(n // 2**levels for n in shape))
        self.latent = latent

    def convolution(self, left: int, right: int, stride: int) -> nn.Module:
        """A convolution of three points with normal initial weights."""
        layer = (nn.Conv1d if len(self.shape) == 1 else nn.Conv2d)(left, right, 3, stride)
        nn.init.normal_(layer.weight, std=GAIN / math.sqrt(left * 3 ** len(self.shape)))
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        return layer

    def linear(self, left: int, right: int) -> nn.Linear:
        """A linear layer with normal initial weights."""
        layer = nn.Linear(left, right)
        nn.init.normal_(layer.weight, std=GAIN / math.sqrt(left))
        nn.init.zeros_(layer.bias)
        return layer

    def padded(self, value: Tensor) -> Tensor:
        """The field with a halo of one point: periodic along periodic axes, zero along others."""
        for axis, periodic in zip(range(-len(self.shape), 0), self.periodic, strict=True):
            first, last = value.narrow(axis, 0, 1), value.narrow(axis, value.shape[axis] - 1, 1)
            if not periodic:
                first, last = torch.zeros_like(first), torch.zeros_like(last)
            value = torch.cat([last, value, first], dim=axis)
        return value


class ConvolutionalEncoder(_Convolutional):
    """Convolutions of three points and stride two, each followed by softplus(x) - ln 2, and a linear layer."""

    def __init__(self, *sides: Any) -> None:
        super().__init__(*sides)
        pairs = itertools.pairwise(self.channels)
        self.layers = nn.ModuleList(self.convolution(left, right, 2) for left, right in pairs)
        self.last = self.linear(math.prod(self.coarse), self.latent)

    def forward(self, x: Tensor) -> Tensor:
        value = x.reshape(-1, self.fields, *self.shape) * math.sqrt(x.shape[-1])  # mean square 1 per point
        for layer in self.layers:
            value = functional.softplus(layer(self.padded(value))) - LN2
        return self.last(value.flatten(1)).reshape(*x.shape[:-1], -1)

    def with_tangent(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The value at x and the directional derivative along v; differentiable in the weights."""
        found, tangent, *_ = torch.func.jvp(self.forward, (x,), (v,))
        return found, tangent


class ConvolutionalDecoder(_Convolutional):
    """A linear layer; at each level softplus(x) - ln 2, upsampling by two, and a convolution of three points."""

    def __init__(self, *sides: Any) -> None:
        super().__init__(*sides)
        self.first = self.linear(self.latent, math.prod(self.coarse))
        pairs = itertools.pairwise(self.channels[::-1])
        self.layers = nn.ModuleList(self.convolution(left, right, 1) for left, right in pairs)

    def forward(self, z: Tensor) -> Tensor:
        value = self.first(z.reshape(-1, z.shape[-1])).reshape(-1, *self.coarse)
        for layer in self.layers:
            value = functional.softplus(value) - LN2
            for axis in range(-len(self.shape), 0):
                value = value.repeat_interleave(2, dim=axis)
            value = layer(self.padded(value))
        points = self.fields * math.prod(self.shape)
        return value.reshape(*z.shape[:-1], points) / math.sqrt(points)
