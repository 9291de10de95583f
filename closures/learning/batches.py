"""Batches of training pairs as functions of the step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from .options import Shift
from .parallel import Share, share


class BatchOptions(Protocol):
    """The options of a training that `draw_batch` reads."""

    @property
    def seed(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def shift(self) -> Shift: ...
    @property
    def reflections(self) -> bool: ...


def draw_batch(
    states: np.ndarray, terms: np.ndarray, options: BatchOptions, step: int
) -> tuple[torch.Tensor, torch.Tensor, Share]:
    """Batch number `step` of pairs (sample, field, *grid): distinct samples, augmented at random.

    Each pair is shifted periodically by a random number of points along the axes that `options.shift` names. With
    `options.reflections` each axis is reversed at random, and each reversal changes the sign of state and term. Equal
    (seed, step) give equal batches. Returned are the rows of this process, and which share of the batch they are.
    """
    generator = np.random.Generator(np.random.Philox(key=[options.seed, step]))
    chosen = generator.choice(len(states), min(options.batch, len(states)), replace=False)
    mine = share(len(chosen))
    state, term = states[mine.of(chosen)], terms[mine.of(chosen)]
    grid = state.shape[2:]
    axes = {"all": range(len(grid)), "x": [len(grid) - 1], "none": []}[options.shift]
    for axis in axes:
        place = np.arange(grid[axis]) + generator.integers(grid[axis], size=(len(chosen), 1))
        shape = [len(chosen), 1, *[1] * len(grid)]
        shape[axis + 2] = grid[axis]
        place = mine.of(place.reshape(shape) % grid[axis])
        state, term = (np.take_along_axis(array, place, axis + 2) for array in (state, term))
    if options.reflections:
        for axis in range(2, state.ndim):
            odd = mine.of(generator.integers(2, size=len(chosen)).astype(bool))
            state[odd], term[odd] = (-np.flip(array[odd], axis) for array in (state, term))
    return torch.from_numpy(state), torch.from_numpy(term), mine
