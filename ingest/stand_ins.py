"""Training sets and runs of sweeps with the shapes of a case's, and values that no reference has computed.

The initial states of the case on its own grid stand at all times, with white noise of one per cent; missing terms are
white noise. A training on them has the arrays of a training on the data, as far as these follow from shapes. The basis
of a reduced-order model, whose size follows from the values, has the largest number of modes that its options allow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.tables import Case
from subgrid.solver.equations.forcing import FileForcing
from subgrid.solver.initial.checked import checked_state

from .entities import mask_of, with_placeholders
from .requests import training_request
from .sweep import Sweep, common, request
from .training_set import Dataset, of_arrays

NOISE = 0.01  # relative to the root mean square of a field


def on_shape(case: Case, shape: tuple[int, ...]) -> Case:
    """The case on another grid of the same domain. A forcing from a file, which fits one grid, is left out."""
    if shape == case.grid.grid().shape:
        return case
    grid = case.grid.model_copy(update={"shape": shape})
    forced = isinstance(case.build_equation().source, FileForcing)
    equation = {k: v for k, v in case.equation.items() if not (forced and k == "forcing")}
    return case.model_copy(update={"grid": grid, "equation": equation})


def training_set(case: Case, shape: tuple[int, ...], times: int, trained: int, held_out: int) -> Dataset:
    """Pairs of `trained` trajectories for training and `held_out` for validation, of `times` states on a grid."""
    assert case.training is not None
    asked, numbers = training_request(case), tuple(range(trained + held_out))
    table = case.training.model_copy(update={"trajectories": len(numbers), "validation": held_out})
    small = on_shape(case, shape).model_copy(update={"training": table})
    states = _noisy(_initial(small, numbers), times, small)
    terms = np.random.default_rng(1).standard_normal(states.shape, dtype=np.float32)
    return of_arrays(small, asked, states, terms)


@dataclass(frozen=True)
class StandIn(Sweep):
    """Runs of a sweep; see above."""

    def state(self, run: int) -> NDArray[np.float32]:
        found = _noisy(_initial(self.case, (0,)), len(self.times), self.case, seed=run)
        return found[0].astype(np.float32)

    def grown(self, points: NDArray) -> StandIn:
        parameters = np.concatenate([self.parameters, np.reshape(points, (-1, len(self.names)))])
        return replace(self, parameters=parameters, files=self.files[:1] * len(parameters))


def sweep(case: Case, shape: tuple[int, ...], runs: int) -> StandIn:
    """The first runs of the case's sweep, with evenly spaced parameters, on a grid of this shape."""
    assert case.sweep is not None
    small, asked = on_shape(case, shape), request(case)
    names, ranges = tuple(case.sweep.parameters), np.array(list(case.sweep.parameters.values()))
    places = np.random.default_rng(2).random((runs, len(names)))
    parameters = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * places
    times = case.time.start + asked["step"] * np.arange(0, asked["steps"] + 1, asked["every"], dtype=np.float64)
    files = (small.folder,) * runs
    return StandIn(names, ranges, parameters, files, times, common(small), small)


def _initial(case: Case, numbers: tuple[int, ...]) -> NDArray[np.float64]:
    """Initial states (trajectory, field, *grid) of the case, or ones where they fit no other grid than their own."""
    equation, grid = case.build_equation(), case.grid.grid()
    own = case.initial if case.reference is None else case.reference.initial or case.initial
    try:
        state = checked_state(own, equation, grid, numbers, case.ensemble.seed)
    except ValueError:  # of a file, say
        state = np.ones((len(numbers), len(equation.fields), *grid.shape))
    return with_placeholders(state, equation, mask_of(case, numbers))


def _noisy(state: NDArray[np.float64], times: int, case: Case, seed: int = 0) -> NDArray[np.float64]:
    """The states at all times, (trajectory, time, field, *grid), with noise on fields that change."""
    axes, generator = (0, *range(2, state.ndim)), np.random.default_rng(seed)
    size = NOISE * np.sqrt(np.mean(state**2, axis=axes, keepdims=True)) + 1e-6
    size[:, case.build_equation().having("constant")] = 0.0
    found = np.empty((len(state), times, *state.shape[1:]))
    for n in range(times):  # one time after the other, so that no other large array is made
        found[:, n] = state + size * generator.standard_normal(state.shape, dtype=np.float32)
    return found
