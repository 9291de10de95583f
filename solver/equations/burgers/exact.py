"""Closed-form solutions of Burgers' equation in one dimension."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


def cole_hopf(
    x: NDArray,
    t: float,
    viscosity: float,
    length: float,
    velocity: Callable[[NDArray], NDArray],
    potential: Callable[[NDArray], NDArray],
) -> NDArray:
    """u(x, t) for viscosity nu and u_0 = velocity, with potential' = velocity; both have the period `length`.

    u = int u_0(y) g dy / int g dy, g = exp(-potential(y) / 2 nu - (x - y)^2 / 4 nu t): Cole, Quart. Appl. Math. 9
    (1951) 225; Hopf, Comm. Pure Appl. Math. 3 (1950) 201. With y = x - sqrt(4 nu t) s, the trapezoidal rule in s
    converges exponentially, because g is analytic. Every term of the denominator is positive, so the error is that of
    round-off, about 1e-16 range(potential) / nu. For a u_0 of mean m, take the solution v that starts from u_0 - m:
    u(x, t) = m + v(x - m t, t).
    """
    samples = np.linspace(0.0, length, 4097)
    depth = np.ptp(potential(samples)) / (2 * viscosity)
    steepest = np.abs(np.gradient(velocity(samples), samples)).max()
    step = 0.25 / math.sqrt(1 + t * steepest)
    half = math.ceil((math.sqrt(depth) + 6.5) / step)
    s = step * np.arange(-half, half + 1)
    y = np.asarray(x)[..., None] - math.sqrt(4 * viscosity * t) * s
    exponent = -potential(y) / (2 * viscosity) - s**2
    weight = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    return (velocity(y) * weight).sum(-1) / weight.sum(-1)


def dirichlet_solution(x: NDArray, t: float, reynolds: float) -> NDArray:
    """u = (x / (t+1)) / (1 + sqrt((t+1) / t_0) exp(Re x^2 / (4t+4))), t_0 = exp(Re / 8), for nu = 1 / Re.

    Valid for 0 <= x <= 1. u(0, t) = 0, and u(1, t) < 1e-8 while (1/(t+1) - 1/4) Re > 80; as long as that holds, u = 0
    can be imposed at both ends. The formula is evaluated in logarithms, because t_0 may overflow. Source: Maulik, Lusch
    and Balaprakash, Phys. Fluids 33 (2021) 037106.
    """
    exponent = 0.5 * math.log(t + 1) - reynolds / 16 + reynolds * x**2 / (4 * (t + 1))
    return x / (t + 1) * expit(-exponent)


def riemann_solution(x: NDArray, t: float, left: float, right: float, position: float) -> NDArray:
    """u(x, t) without viscosity for u_0 = left at x < position and u_0 = right beyond.

    left > right: a shock of speed (left + right) / 2. Otherwise a rarefaction, u = (x - position) / t between left and
    right. Source: LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), chapter 11.
    """
    if left > right or t == 0:
        return np.where(x < position + 0.5 * (left + right) * t, left, right)
    return np.clip((x - position) / t, left, right)
