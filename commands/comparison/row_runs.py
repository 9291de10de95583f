"""The rows of a comparison: the reference at the output times, and how each row is run and scored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from subgrid.ingest.prepare import Prepared
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.compare_rows import NEAREST
from subgrid.solver.case.reading import CaseError
from subgrid.solver.case.tables import CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.answers import exact_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.schedule import output_times

from ..progress import StoppingBars
from .rows import Run, follow, warm_up
from .scores import Truth, require_finite, score
from .simulated_rows import acting, alike, distinct_members, perturbed, row_kind, share, simulated


def truth_of(prepared: Prepared) -> Truth:
    """The reference at the output times."""
    case = prepared.case
    if prepared.trajectories is not None:
        return Truth.of(np.moveaxis(np.array(prepared.trajectories.state), 1, 0), prepared)
    members = tuple(range(case.ensemble.members))
    states = [
        exact_state(case.initial, prepared.equation, prepared.grid, t - case.time.start, members, case.ensemble.seed)
        for t in output_times(case)
    ]
    if any(s is None for s in states):
        raise CaseError(
            "case",
            [
                f"reference.exact: {case.initial.kind} has no closed form under {prepared.equation.name} "
                "as set up here. Remedy: reference.shape"
            ],
        )
    assert case.reference is not None
    every = case.ensemble.members // case.reference.trajectories
    return Truth.of(np.stack(states)[:, ::every], prepared)  # type: ignore[arg-type]


def makers(prepared: Prepared, bars: StoppingBars) -> list[Callable[[], Run]]:
    """How each row is run, in order."""
    makers: list[Callable[[], Run]] = [partial(_run, prepared, row, bars) for row in simulated(prepared)]
    if prepared.case.sweep is not None:
        makers.append(partial(_nearest_run, prepared, bars))
    return makers


def _run(prepared: Prepared, row: CompareRow, bars: StoppingBars) -> Run:
    tables = acting(row, prepared.folder)
    run = Run(row.name, row_kind([table.find(prepared.folder).kind for table in tables]))
    prepared = perturbed(prepared, row)
    try:
        with plugin_errors():
            begun = prepared.simulation(tables)
            warm_up(begun)
            later = any(table.find(prepared.folder).draws_later for table in tables)
            run.alike = not later and alike(begun.state, prepared)
            simulation = prepared.simulation(tables, members=distinct_members(prepared, run.alike))
    except (PluginError, BlowUp) as error:
        run.failed = str(error)
        return run
    follow(simulation, prepared.case, run, bars)
    if run.alike and run.states is not None:
        run.states = np.repeat(run.states, share(prepared), axis=1)
    return run


def _nearest_run(prepared: Prepared, bars: StoppingBars) -> Run:
    """The run of the sweep whose parameters are nearest to the case's. It is looked up, so it has no cost."""
    case = prepared.case
    assert case.sweep is not None
    nearest = case.sweep.points()[case.sweep.nearest(case.parameters())]
    run = Run(NEAREST, "nearest")
    run.note = ", ".join(f"{name} = {value:g}" for name, value in case.sweep.values(nearest).items())
    stride = multiple(case.output.every, case.step) // interval(case)
    try:
        states = runs(case, nearest[None], bars).state(0)[::stride, None].astype(np.float64)
    except BlowUp as error:
        run.failed = str(error)
        return run
    require_finite(states, "the nearest training run", prepared)
    run.states = np.repeat(states, case.ensemble.members, axis=1)
    return run


def scored(run: Run, truth: Truth, prepared: Prepared) -> Run:
    """The run with its scores in place of its states."""
    if run.states is not None and len(run.states):
        run.scores = score(run.states, truth, prepared)
    run.states = None
    return run
