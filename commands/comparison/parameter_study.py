"""A comparison of closures that learned from [sweep]: their latents, and their error over the test grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import CompareRow
from subgrid.solver.closure import ClosureError
from subgrid.solver.simulation import BlowUp, Simulation

from ..progress import Bars
from .metrics import relative_l2

Variables = dict[str, tuple[tuple[str, ...], Any]]


def variables(prepared: Prepared, truth: NDArray, bars: Bars) -> Variables:
    """What a study adds to comparison.zarr; nothing for a case without [sweep], or whose rows did not learn from it.

    plane_error (plane_source, point): the maximum over time of |u_hat - u| / |u|, nan for a run that failed;
    plane_point and training_point (*, parameter), named by plane_parameter; latent_encoded, latent_predicted,
    latent_deviation (time, latent) of the first row whose closure has a `portrait`.
    """
    case = prepared.case
    if case.sweep is None:
        return {}
    rows = [row for row in case.compare.closures if _learned(prepared, row)]
    found: Variables = {}
    for row in rows:
        try:
            closure = prepared.simulation(row.closures).closures[0].closure
        except (ClosureError, BlowUp):
            continue
        if hasattr(closure, "portrait"):
            for name, values in closure.portrait(truth[:, 0], case.output.every).items():
                found[f"latent_{name}"] = (("time", "latent"), values)
            break
    if rows and case.compare.parameter_plane and case.sweep.test_counts:
        points = case.sweep.test_points()
        found |= {
            "plane_error": (("plane_source", "point"), errors(prepared, rows, points, bars)),
            "plane_source": (("plane_source",), np.array([row.name for row in rows], dtype=object)),
            "plane_parameter": (("parameter",), np.array(list(case.sweep.parameters), dtype=object)),
            "plane_point": (("point", "parameter"), points),
            "training_point": (("run", "parameter"), case.sweep.points()),
        }
    return found


def _learned(prepared: Prepared, row: CompareRow) -> bool:
    return all(getattr(t.find(prepared.folder), "learns_from", None) == "sweep" for t in row.closures)


def errors(prepared: Prepared, rows: list[CompareRow], points: NDArray, bars: Bars) -> NDArray[np.float64]:
    """(row, point): each row started from the initial state of each point, against the sweep's run there."""
    case = prepared.case
    assert case.sweep
    every, steps = multiple(case.output.every, case.step), case.steps()
    truths = runs(case, points, bars)
    found = np.full((len(rows), len(points)), np.nan)
    for i, point in enumerate(points):
        varied = case.varied(case.sweep.values(point))
        equation = varied.build_equation()
        state = varied.initial.state(equation, prepared.grid, (0,), case.ensemble.seed)
        there = replace(prepared, case=varied, equation=equation, state=state)
        true = truths.state(i)[:: every // interval(case)].astype(np.float64)
        for j, row in enumerate(rows):
            bars(i + 1, len(points), "parameter plane")
            try:
                states = _followed(there.simulation(row.closures), steps, every)
            except (ClosureError, BlowUp):
                continue
            found[j, i] = relative_l2(states[:, None], true[:, None]).max()
    return found


def _followed(simulation: Simulation, steps: int, every: int) -> NDArray[np.float64]:
    """States (time, field, *grid) of the first member, every so many steps."""
    states: list[NDArray] = []

    def at(n: int) -> None:
        if n % every == 0:
            states.append(simulation.state[0])

    simulation.run(steps, lambda n: every - n % every, at, output_every=every)
    return np.stack(states)
