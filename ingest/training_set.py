"""Training pairs (state, missing term), split by trajectory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid

from .cache import cache
from .entities import mask_of
from .entries import allocate_space
from .requests import Request, training_request
from .trajectories import Progress, generate

LARGE = 2**28  # bytes of states, or of terms, above which a training set is not held in memory


@dataclass(frozen=True)
class Model:
    """The model that the pairs correct. sampling: number of its steps between two samples, from `start` on."""

    equation: Equation
    grid: Grid
    stepper: str
    step: float
    sampling: int
    cfl: float | None
    start: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """Pairs (state, missing term) for training and for validation, each (sample, field, *grid) in single precision.

    about: equation (name, parameters, omit), fields, shape, length, step of the reference, seed. sequences: the states
    in temporal order, (trajectory, time, field, *grid) in double precision, for training and for validation. masks:
    which entities are real, (trajectory, entity), for training and for validation; None where all are.
    """

    train: tuple[NDArray, NDArray]
    validation: tuple[NDArray, NDArray]
    about: dict[str, Any]
    sequences: tuple[NDArray, NDArray]
    model: Model
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None


def dataset(case: Case, progress: Progress) -> Dataset:
    """The case's training set, from the cache or generated. The last `training.validation` trajectories validate."""
    request = training_request(case)
    trajectories = generate(case, request, progress)
    return of_arrays(case, request, trajectories.state, trajectories.term)


def of_arrays(case: Case, request: Request, states: NDArray, terms: NDArray) -> Dataset:
    """The training set of a case with these states and terms, (trajectory, time, field, *grid)."""
    assert case.training is not None
    split = case.training.trajectories - case.training.validation
    state, term = (single_precision(values) for values in (states, terms))

    def pairs(part: slice) -> tuple[NDArray, NDArray]:
        return state[part].reshape(-1, *state.shape[2:]), term[part].reshape(-1, *term.shape[2:])

    equation, grid = case.build_equation(), case.grid.grid()
    about = {
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": [f.name for f in equation.fields],
        "shape": list(grid.shape),
        "length": list(grid.length),
        "origin": list(grid.origin),
        "step": request.step,
        "seeds": {"trajectories": request.seed},
    }
    sampling = multiple(case.training.every, case.step)
    start = request.start + request.state_steps[0] * request.step
    model = Model(equation, grid, case.time.stepper, case.step, sampling, case.time.cfl, start)
    sequences = (states[:split], states[split:])
    mask = mask_of(case, range(case.training.trajectories))
    masks = None if mask is None else (mask[:split], mask[split:])
    return Dataset(pairs(slice(0, split)), pairs(slice(split, None)), about, sequences, model, masks)


def single_precision(values: NDArray) -> NDArray[np.float32]:
    """A copy (trajectory, ...) in single precision.

    A large one lies in a file of the cache without a name, which ends with the process: what is not in use need not be
    in memory.
    """
    if 4 * values.size <= LARGE:
        return np.array(values, dtype=np.float32)
    with tempfile.TemporaryFile(dir=cache()) as file:
        allocate_space(file.fileno(), 0, 4 * values.size)
        found = np.memmap(file, np.float32, "r+", shape=values.shape)
    for i, trajectory in enumerate(values):
        found[i] = trajectory
    return found
