"""Perturbed initial states: an ensemble for a model without noise.

    u_m(x) = u(x) (1 + amplitude g_m(x))

with g_m a Gaussian random field of variance 1 made of the waves of wavenumber up to WAVES along each axis, drawn for
member m. It is a function of position, so that a member has the same perturbation on every grid. On Fourier grids the
modes beyond the 2/3 rule are cut off.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.spectral import Transforms

WAVES = 4


def perturbed(
    state: NDArray, equation: Equation, grid: Grid, members: tuple[int, ...], seed: int, amplitude: float
) -> NDArray[np.float64]:
    """The state (member, field, *grid) with the perturbation of each member. The mean of every field is kept.

    members: numbers that key the draws together with `seed`. A field without negative values is scaled back to its
    mean, any other one is shifted. Raises ValueError for particles.
    """
    if not amplitude:
        return state
    if equation.kind == "particles":
        raise ValueError(
            f"ensemble.perturbation: {equation.name} has no fields to perturb. Remedy: leave ensemble.perturbation out"
        )
    found = state * (1 + amplitude * _waves(grid, members, seed, centres=not equation.spectral)[:, None])
    if equation.spectral:  # the product has modes beyond the 2/3 rule, which the equation would keep unchanged
        transforms = Transforms(grid)
        found = transforms.to_physical(transforms.to_spectrum(found) * grid.mask())
    axes = tuple(range(2, state.ndim))
    before, after = state.mean(axis=axes, keepdims=True), found.mean(axis=axes, keepdims=True)
    positive = (state >= 0).all(axis=axes, keepdims=True) & (after > 0)
    scaled = found * np.divide(before, after, out=np.ones_like(after), where=positive)
    return np.where(positive, scaled, found + before - after)


def _waves(grid: Grid, members: tuple[int, ...], seed: int, centres: bool) -> NDArray[np.float64]:
    """g (member, *grid); its variance over draws is 1 at every point."""
    positions = zip(grid.coordinates(centres), grid.origin, grid.length, strict=True)
    angles = np.meshgrid(*(2 * np.pi * (x - start) / length for x, start, length in positions), indexing="ij")
    waves = [k for k in itertools.product(range(-WAVES, WAVES + 1), repeat=grid.dimensions) if k > (0,) * len(k)]
    drawn = Stream(seed, "perturbation", 0, members).normal((len(waves), 2)) / np.sqrt(len(waves))
    total = np.zeros((len(members), *grid.shape))
    for i, wave in enumerate(waves):
        phase = sum(k * angle for k, angle in zip(wave, angles, strict=True))
        total += np.multiply.outer(drawn[:, i, 0], np.cos(phase)) + np.multiply.outer(drawn[:, i, 1], np.sin(phase))
    return total
