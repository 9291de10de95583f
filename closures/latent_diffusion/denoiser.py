"""The denoiser: what noise to take off a latent, given the state. Every sampler sees it as one velocity.

A latent x of unit variance is mixed with white noise xi by an angle, 0 <= phi <= pi/2:

    v = cos(phi) x + sin(phi) xi,        D(v, phi; c) = E[x | v, c],
    dv/dphi = (cos(phi) v - D) / sin(phi)        (probability flow, from phi = pi/2, pure noise, to 0).

v = cos(phi) y of the variance-exploding y = x + sigma xi, sigma = tan(phi), and (cos phi + sin phi) times the point (1
- t) x + t xi of a linear interpolant, t = sin / (cos + sin): score models, flow matching and stochastic interpolants
between noise and data are this one with other weights and other times. Sources: Karras et al., arXiv 2206.00364 (what D
is made of); Albergo et al., arXiv 2303.08797 (interpolants); Lu and Song, arXiv 2410.11081 (the angle).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .networks import SCORE_NETWORKS, ScoreNetwork

Parametrisation = Literal["data", "score"]


class Denoiser(nn.Module):
    """F(v, phi; c), a network, and what it stands for.

    "data": D = cos(phi) v - sin(phi) F, so dv/dphi = F: F = 0 is exact for a Gaussian x of unit variance, whatever the
    number of steps, and the network learns only what is not that. Loss <|F + sin(phi) x - cos(phi) xi|^2>, the one of
    flow matching with data prediction. "score": s = F / sigma, D = y + sigma F, as in arXiv 2506.20771; loss <|F +
    xi|^2>, denoising score matching.
    """

    def __init__(
        self,
        parametrisation: Parametrisation,
        network: str,
        dimensions: int,
        channels: int,
        conditions: int,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.parametrisation = parametrisation
        self.network: ScoreNetwork = SCORE_NETWORKS[network](dimensions, channels, conditions, **options)

    @property
    def first_angle(self) -> float:
        """Where sampling begins: pure noise, or the widest noise that a "score" has been trained at."""
        if self.parametrisation == "data":
            return 0.5 * math.pi
        return math.atan(float(variance_exploding(torch.tensor(1.0))))

    def prepare(self, condition: Tensor) -> Any:
        """What the network makes of the condition alone: once for all evaluations of a sampler."""
        return self.network.prepare(condition)

    def raw(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """F at angles (batch,)."""
        return self.network(v, angle, prepared)

    def data(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """D(v, phi; c); at phi = pi/2 the mean of x given c, for "score" as good as its network is at large sigma."""
        f = self.raw(v, angle, prepared)
        cos, sin = _wide(angle.cos(), v), _wide(angle.sin(), v)
        if self.parametrisation == "data":
            return cos * v - sin * f
        cos = cos.clamp_min(1e-4)
        return (v + sin * f) / cos

    def velocity(self, v: Tensor, angle: Tensor, prepared: Any) -> Tensor:
        """dv/dphi."""
        if self.parametrisation == "data":
            return self.raw(v, angle, prepared)
        cos, sin = _wide(angle.cos(), v), _wide(angle.sin(), v)
        return (cos * v - self.data(v, angle, prepared)) / sin.clamp_min(1e-4)

    def loss(self, x: Tensor, xi: Tensor, angle: Tensor, condition: Tensor) -> Tensor:
        """Mean over the batch and the points of a latent."""
        cos, sin = _wide(angle.cos(), x), _wide(angle.sin(), x)
        f = self.raw(cos * x + sin * xi, angle, self.prepare(condition))
        target = cos * xi - sin * x if self.parametrisation == "data" else -xi
        return (f - target).square().mean()

    def angles(self, uniform: Tensor) -> Tensor:
        """Angles to train at, of numbers that are uniform in (0, 1): log sigma logistic for "data", and for "score" as
        published, tau uniform in (1e-5, 1) with sigma(tau)."""
        if self.parametrisation == "data":
            return torch.atan(torch.exp(1.2 * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))))
        return torch.atan(variance_exploding(1e-5 + (1 - 1e-5) * uniform))


def variance_exploding(tau: Tensor) -> Tensor:
    """sigma(tau) = sqrt((s^(2 tau) - 1) / (2 ln s)), s = 30: the noise of arXiv 2506.20771 at time tau."""
    s = 30.0
    return torch.sqrt(torch.expm1(2 * tau * math.log(s)) / (2 * math.log(s)))


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
