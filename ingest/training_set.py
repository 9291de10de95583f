"""Training pairs (state, missing term), split by trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid

from .entities import mask_of
from .requests import training_request
from .trajectories import Progress, generate


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
    assert case.training is not None
    split = case.training.trajectories - case.training.validation
    state, term = np.array(trajectories.state, dtype=np.float32), np.array(trajectories.term)

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
    sequences = (trajectories.state[:split], trajectories.state[split:])
    mask = mask_of(case, range(case.training.trajectories))
    masks = None if mask is None else (mask[:split], mask[split:])
    return Dataset(pairs(slice(0, split)), pairs(slice(split, None)), about, sequences, model, masks)
