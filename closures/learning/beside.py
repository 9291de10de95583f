"""Closures that a trained one stands beside: their linear parts join the model through which it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from subgrid.solver.case.tables import ClosureTable
from subgrid.solver.closure import Problem, UnknownClosure
from subgrid.solver.simulation.linear import checked_part, joined
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping.schemes import STEPPERS

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

BATCH = 128  # samples at a time


def linear_beside(tables: Sequence[ClosureTable], dataset: Dataset, folder: Path, key: str) -> NDArray | None:
    """sum_i weight_i L_i of the closures `tables`, (1 or field, *spectral_shape); None without closures.

    key: of the tables in the case, for messages. Raises ValueError for a closure that is more than a part of the linear
    operator, and ClosureError as `Closure.start` does.
    """
    model = dataset.model
    problem = Problem(model.equation, model.grid, model.step, 1, 0.0, (0,), 0, folder=folder)
    closures, parts = [], []
    for i, table in enumerate(tables):
        try:
            coupled = table.couple(folder)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join([f"{key}.{i}", *map(str, wrong["loc"])])
            raise ValueError(f"{where}: {wrong['msg']}. Remedy: an option as in [[closure]]") from None
        except UnknownClosure as error:
            raise ValueError(f"{key}.{i}: {error}") from None
        coupled.closure.start(problem)
        part = checked_part(coupled, problem, STEPPERS[model.stepper])
        if part is None or part.calls or part.noise is not None:
            raise ValueError(
                f"{key}.{i}: {coupled.name} is not a part of the linear operator alone, which a training goes through. "
                "Remedy: spectral-viscosity, or hyperviscosity with linear = true, without noise"
            )
        closures.append(coupled)
        parts.append(part)
    return joined(closures, parts)


def remainder(dataset: Dataset, eigenvalues: NDArray) -> Dataset:
    """The training set with the terms H - L u that closures with these eigenvalues leave."""
    operators = Operators(dataset.model.grid)

    def left(pairs: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray]:
        states, terms = pairs
        found = terms.copy()
        for first in range(0, len(states), BATCH):
            part = slice(first, first + BATCH)
            linear = operators.inverse(eigenvalues * operators.forward(np.asarray(states[part], np.float64)))
            found[part] -= linear.astype(found.dtype)
        return states, found

    return replace(dataset, train=left(dataset.train), validation=left(dataset.validation))
