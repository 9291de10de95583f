"""The denoiser: the mean of a latent given its noisy value and the state. Every sampler uses it as one velocity.

A latent x of unit variance is mixed with white noise xi at an angle 0 <= phi <= pi/2:

    v = cos(phi) x + sin(phi) xi,        D(v, phi; c) = E[x | v, c],
    dv/dphi = (cos(phi) v - D) / sin(phi)        (probability flow, from phi = pi/2, pure noise, to 0).

The variance-exploding process y = x + sigma xi with sigma = tan(phi) has v = cos(phi) y, and the linear interpolant
(1 - t) x + t xi with t = sin / (cos + sin) is v / (cos phi + sin phi). So score models, flow matching and stochastic
interpolants between noise and data are the same model with other loss weights and other times. Sources: Karras et al.,
arXiv 2206.00364 (form of D); Albergo et al., arXiv 2303.08797 (interpolants); Lu and Song, arXiv 2410.11081 (angle).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from .options import Parametrisation

HARMONICS = 16


class ScoreNetwork(nn.Module, ABC):
    """F(v, phi; c) in two parts."""

    @abstractmethod
    def prepare(self, condition: Tensor) -> Tensor:
        """The part that depends on the condition (batch, ...) alone."""

    @abstractmethod
    def forward(self, v: Tensor, angle: Tensor, prepared: Tensor) -> Tensor:
        """F (batch, ...) of v of the same shape, at angles (batch,)."""


def angle_features(angle: Tensor) -> Tensor:
    """cos(2 j phi), sin(2 j phi), j = 1..16: (batch, 32)."""
    phase = 2 * angle[:, None] * torch.arange(1, HARMONICS + 1, device=angle.device)
    return torch.cat([phase.cos(), phase.sin()], dim=1)


class Denoiser(nn.Module):
    """D(v, phi; c) in terms of a network F(v, phi; c).

    "data": D = cos(phi) v - sin(phi) F, so dv/dphi = F. F = 0 is exact for a Gaussian x of unit variance, for any
    number of steps, so the network learns only the deviation from that. Loss <|F + sin(phi) x - cos(phi) xi|^2>, that
    of flow matching with data prediction. "score": s = F / sigma, D = y + sigma F, as in arXiv 2506.20771; loss
    <|F + xi|^2>, that of denoising score matching.
    """

    def __init__(self, parametrisation: Parametrisation, network: ScoreNetwork) -> None:
        super().__init__()
        self.parametrisation, self.network = parametrisation, network

    @property
    def first_angle(self) -> float:
        """The angle at which sampling begins: pure noise, or for "score" the largest noise in training."""
        if self.parametrisation == "data":
            return 0.5 * math.pi
        return math.atan(float(variance_exploding(torch.tensor(1.0))))

    def prepare(self, condition: Tensor) -> Any:
        """The part of the network that depends on the condition alone; computed once for all evaluations."""
        return self.network.prepare(condition)

    def raw(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """F of latents (batch, ...) at angles (batch,)."""
        return self.network(v, angle, prepared)

    def data(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """D(v, phi; c); at phi = pi/2 the mean of x given c, for "score" extrapolated from the largest sigma."""
        f = self.raw(v, angle, prepared)
        cos, sin = expand_like(angle.cos(), v), expand_like(angle.sin(), v)
        if self.parametrisation == "data":
            return cos * v - sin * f
        cos = cos.clamp_min(1e-4)
        return (v + sin * f) / cos

    def velocity(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """dv/dphi."""
        if self.parametrisation == "data":
            return self.raw(v, angle, prepared)
        cos, sin = expand_like(angle.cos(), v), expand_like(angle.sin(), v)
        return (cos * v - self.data(v, angle, prepared)) / sin.clamp_min(1e-4)

    def loss(self, x: Tensor, xi: Tensor, angle: Tensor, condition: Tensor) -> Tensor:
        """The loss of the parametrisation at these angles, averaged over the batch and the points of a latent."""
        cos, sin = expand_like(angle.cos(), x), expand_like(angle.sin(), x)
        f = self.raw(cos * x + sin * xi, angle, self.prepare(condition))
        target = cos * xi - sin * x if self.parametrisation == "data" else -xi
        return (f - target).square().mean()

    def angles(self, uniform: Tensor) -> Tensor:
        """Angles for training from numbers uniform in (0, 1).

        "data": log sigma is normal with standard deviation 1.2. "score": sigma(tau) with tau uniform in (1e-5, 1), as
        published.
        """
        if self.parametrisation == "data":
            return torch.atan(torch.exp(1.2 * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))))
        return torch.atan(variance_exploding(1e-5 + (1 - 1e-5) * uniform))


def variance_exploding(tau: Tensor) -> Tensor:
    """sigma(tau) = sqrt((s^(2 tau) - 1) / (2 ln s)), s = 30: the noise level of arXiv 2506.20771 at time tau."""
    s = 30.0
    return torch.sqrt(torch.expm1(2 * tau * math.log(s)) / (2 * math.log(s)))


def expand_like(values: Tensor, like: Tensor) -> Tensor:
    """Values (batch,) with the axes of `like`, so that they broadcast over it."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
