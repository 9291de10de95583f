"""Samplers: from white noise to a latent, by a stated number of network evaluations.

All of them begin at xi, white noise, and end at phi = 0, and know the model only through `Denoiser`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from .denoiser import Denoiser, variance_exploding

Sampler = Literal["exponential", "heun", "euler-maruyama"]
Fresh = Callable[[], Tensor]


def sample(
    denoiser: Denoiser, xi: Tensor, condition: Tensor, sampler: Sampler, evaluations: int, fresh: Fresh, tau_max: float
) -> Tensor:
    """A latent for each of xi (batch, channel, *grid) given condition (batch, channel, *grid).

    evaluations: of the network, each on the whole batch. fresh() gives more white noise, for the stochastic sampler.
    """
    prepared = denoiser.prepare(condition)
    if sampler == "exponential":
        return exponential(denoiser, xi, prepared, evaluations)
    if sampler == "heun":
        return heun(denoiser, xi, prepared, evaluations)
    return euler_maruyama(denoiser, xi, prepared, evaluations, fresh, tau_max)


def exponential(denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int) -> Tensor:
    """v <- v + (cos phi - cos phi') f,  f = (dv/dphi) / sin phi, at equally spaced angles.

    f is constant for a Gaussian x of unit variance with any mean, so one evaluation samples that without error: an
    exponential integrator, whose linear part is the flow of a Gaussian.
    """
    v, h = xi, denoiser.first_angle / evaluations
    for i in range(evaluations):
        angle = denoiser.first_angle - i * h
        weight = (math.cos(angle - h) - math.cos(angle)) / math.sin(angle)
        v = v - weight * denoiser.velocity(v, _at(angle, v), prepared)
    return v


def heun(denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int) -> Tensor:
    """The same with Heun's method, two evaluations a step but for the last one. Source: arXiv 2206.00364, algorithm 1.

    Raises ValueError for an even number of evaluations.
    """
    if evaluations % 2 == 0:
        raise ValueError(
            f"evaluations = {evaluations}: heun takes two a step and one in the last, choose an odd number"
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
    denoiser: Denoiser, xi: Tensor, prepared: Any, evaluations: int, fresh: Fresh, tau_max: float
) -> Tensor:
    """The reverse stochastic equation of a variance-exploding process, as published (arXiv 2506.20771).

    y = x + sigma(tau) xi, g = s^tau; tau_i = [tau_max^(1/7) + i / (N-1) (tau_min^(1/7) - tau_max^(1/7))]^7, then 0,
    with tau_min = 1e-3; y <- y + g^2 score dtau + g sqrt(dtau) xi', the last mean being returned.
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
        y = mean + g * math.sqrt(step) * fresh() if following > 0 else mean
    return mean


def _at(angle: float, like: Tensor) -> Tensor:
    return torch.full((len(like),), angle, dtype=like.dtype, device=like.device)
