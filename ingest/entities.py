"""Initial states of entities: the flow that carries them, and members with fewer entities than others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Equation
from subgrid.solver.equations.initial_state import InitialState
from subgrid.solver.equations.tracers.equation import Tracers
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.carrier import developed

from .restriction import Restrict, Restriction


def mask_of(case: Case, trajectories: Sequence[int]) -> NDArray[np.bool_] | None:
    """Which entities of these trajectories are real, (trajectory, entity); None where all are."""
    if (counts := case.ensemble.entities) is None or case.grid.entities is None:
        return None
    return np.arange(case.grid.entities) < np.array([[counts[i % len(counts)]] for i in trajectories])


def with_placeholders(
    state: NDArray[np.float64], equation: Equation, mask: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """The state (member, field, entity) in which entities that are not real rest, and have constants of zero.

    mask: which entities are real, (member, entity); None where all are. With a coupling of zero a placeholder exerts
    no force on others.
    """
    if mask is None:
        return state
    state = state.copy()
    for field in (*equation.having("velocity"), *equation.having("constant")):
        state[:, field][~mask] = 0.0
    return state


def carrier_state(
    case: Case,
    initial: InitialState,
    equation: Equation,
    grid: Grid,
    members: tuple[int, ...],
    seed: int,
    step: float,
    start: float,
    at: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float64] | None:
    """The flow that carries the entities of these members, (member, field, *grid.carrier), at the time `start`.

    None for entities without a flow, and for a stored one. at: see `developed`. Raises ValueError for an initial state
    without a flow.
    """
    if not isinstance(equation, Tracers) or equation.stored is not None:
        return None
    state = initial.carrier(equation, grid, members, seed, case.folder)
    if state is None:
        raise ValueError(
            f"initial: {initial.kind or type(initial).__name__} has no flow that could carry the tracers. Remedy: "
            'initial.kind = "tracer-clusters" with initial.flow, or equation.stored'
        )
    return developed(equation, grid, state, step, start, seed, members, at)


def restricted_carrier(state: NDArray, equation: Equation, fine: Grid, coarse: Grid, how: Restriction) -> NDArray:
    """The state of the flow on the carrier of `fine`, restricted to that of `coarse`; all its modes if finer than that.

    fine, coarse: grids of the entities.
    """
    assert isinstance(equation, Tracers) and fine.carrier is not None and coarse.carrier is not None
    return Restrict(equation.carrier, fine.carrier, coarse.carrier, how)(state)
