"""Batches that are functions of the step."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch


class Drawing(Protocol):
    """What `draw_batch` needs to know."""

    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def shift(self) -> Literal["all", "x", "none"]: ...
    @property
    def reflections(self) -> bool: ...


def draw_batch(states: np.ndarray, terms: np.ndarray, options: Drawing, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch number `step`: distinct samples, each pair rolled, and if asked reversed, at random along each axis."""
    generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
    chosen = generator.choice(len(states), min(options.batch, len(states)), replace=False)
    state, term = states[chosen], terms[chosen]
    grid = state.shape[2:]
    axes = {"all": range(len(grid)), "x": [len(grid) - 1], "none": []}[options.shift]
    for axis in axes:
        place = np.arange(grid[axis]) + generator.integers(grid[axis], size=(len(chosen), 1))
        shape = [len(chosen), 1, *[1] * len(grid)]
        shape[axis + 2] = grid[axis]
        place = place.reshape(shape) % grid[axis]
        state, term = (np.take_along_axis(array, place, axis + 2) for array in (state, term))
    if options.reflections:
        for axis in range(2, state.ndim):
            odd = generator.integers(2, size=len(chosen)).astype(bool)
            state[odd], term[odd] = (-np.flip(array[odd], axis) for array in (state, term))
    return torch.from_numpy(state), torch.from_numpy(term)
