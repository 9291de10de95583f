"""Samplers: from white noise to a latent, with a given number of network evaluations.

All begin at white noise xi, end at phi = 0, and use the model only through `Denoiser`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoiser, variance_exploding
from .options import Sampler

DrawNoise = Callable[[], Tensor]


def sample(
    denoiser: Denoiser,
    xi: Tensor,
    condition: Tensor,
    sampler: Sampler,
    evaluations: int,
    draw_noise: DrawNoise,
    tau_max: float,
) -> Tensor:
    """One latent for each noise xi (batch, channel, *grid) and condition (batch, channel, *grid).

    evaluations: of the network, each on the whole batch. draw_noise() returns more white noise, for the stochastic
    sampler.
    """
    prepared = denoiser.prepare(condition)
    if sampler == "exponential":
        return exponential(denoiser, xi, prepared, evaluations)
    if sampler == "euler":
        return euler(denoiser, xi, prepared, evaluations)
    if sampler == "heun":
        return heun(denoiser, xi, prepared, evaluations)
    return euler_maruyama(denoiser, xi, prepared, evaluations, draw_noise, tau_max)


def exponential(denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int) -> Tensor:
    """v <- v + (cos phi - cos phi') f,  f = (dv/dphi) / sin phi, at equally spaced angles.

    An exponential integrator whose linear part is the flow of a Gaussian: f is constant for a Gaussian x of unit
    variance and any mean, which one evaluation therefore samples without error.
    """
    v, h = xi, denoiser.first_angle / evaluations
    for i in range(evaluations):
        angle = denoiser.first_angle - i * h
        weight = (math.cos(angle - h) - math.cos(angle)) / math.sin(angle)
        v = v - weight * denoiser.velocity(v, _at(angle, v), prepared)
    return v


def euler(denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int) -> Tensor:
    """v <- cos(phi - phi') v - sin(phi - phi') f,  f = dv/dphi, at equally spaced angles: Euler's method in tan(phi).

    It is exact for a constant D, and one evaluation returns the mean of x given c. Source: Song et al., arXiv
    2010.02502 (DDIM without noise).
    """
    v, h = xi, denoiser.first_angle / evaluations
    for i in range(evaluations):
        angle = denoiser.first_angle - i * h
        v = math.cos(h) * v - math.sin(h) * denoiser.velocity(v, _at(angle, v), prepared)
    return v


def heun(denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int) -> Tensor:
    """Heun's method for dv/dphi: two evaluations per step, one in the last. Source: arXiv 2206.00364, algorithm 1.

    Raises ValueError for an even number of evaluations.
    """
    if evaluations % 2 == 0:
        raise ValueError(
            f"evaluations = {evaluations}: heun makes two per step and one in the last. Remedy: an odd number"
        )
    steps = (evaluations + 1) // 2
    v, h = xi, denoiser.first_angle / steps
    for i in range(steps):
        begin, end = denoiser.first_angle - i * h, denoiser.first_angle - (i + 1) * h
        first = denoiser.velocity(v, _at(begin, v), prepared)
        reached = v - h * first
        if i < steps - 1:
            second = denoiser.velocity(reached, _at(end, v), prepared)
            reached = v - 0.5 * h * (first + second)
        v = reached
    return v


def euler_maruyama(
    denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int, draw_noise: DrawNoise, tau_max: float
) -> Tensor:
    """Euler-Maruyama for the reverse stochastic equation of a variance-exploding process (arXiv 2506.20771).

    y = x + sigma(tau) xi, g = s^tau; tau_i = [tau_max^(1/7) + i / (N-1) (tau_min^(1/7) - tau_max^(1/7))]^7, then 0,
    with tau_min = 1e-3; y <- y + g^2 score dtau + g sqrt(dtau) xi'. The last step adds no noise.
    """
    least, root = 1e-3, 7.0
    along = torch.linspace(0, 1, evaluations, dtype=torch.float64)
    tau = (tau_max ** (1 / root) + along * (least ** (1 / root) - tau_max ** (1 / root))) ** root
    tau = torch.cat([tau, tau.new_zeros(1)])
    y = xi * float(variance_exploding(tau[0]))
    mean = y
    for here, following in itertools.pairwise(tau):
        sigma, g, step = float(variance_exploding(here)), 30.0 ** float(here), float(here - following)
        angle = math.atan(sigma)
        found = denoiser.data(math.cos(angle) * y, _at(angle, y), prepared)
        mean = y + g**2 * step * (found - y) / sigma**2
        y = mean + g * math.sqrt(step) * draw_noise() if following > 0 else mean
    return mean


def _at(angle: float, like: Tensor) -> Tensor:
    return torch.full((len(like),), angle, dtype=like.dtype, device=like.device)
