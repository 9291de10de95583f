"""The comparison of closures that learn from [sweep]: latent trajectories, and errors at the test points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.closures.learning.learned_closure import LearnedClosure
from subgrid.ingest.prepare import Prepared
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.sweep_design import among
from subgrid.solver.case.tables import CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.schedule import Collector

from ..progress import StoppingBars
from .metrics import relative_l2
from .scores import require_finite

Variables = dict[str, tuple[tuple[str, ...], Any]]


def variables(prepared: Prepared, truth: NDArray, bars: StoppingBars) -> Variables:
    """What the study adds to comparison.zarr; empty for a case without [sweep] or without rows that learn from it.

    latent_encoded, latent_predicted, latent_deviation (time, latent): of the first row whose closure has latent
    trajectories. With compare.parameter_plane also plane_error (plane_source, point), the maximum over time of
    |u - r| / |r|, nan for a run that failed; plane_point and training_point (*, parameter), named by plane_parameter;
    or plane_failed, why the full model failed at one of the test points. training_point: those of [sweep], and those
    that a row's weights learned from besides; a test point that is one of them is not unseen.
    """
    case = prepared.case
    if case.sweep is None:
        return {}
    rows = [row for row in case.compare.closures if _learns_from_sweep(prepared, row)]
    found: Variables = {}
    trained = case.sweep.points()
    for row in rows:
        try:
            with plugin_errors():
                closure = prepared.simulation(row.closures).closures[0].closure
        except (PluginError, BlowUp):
            continue
        assert isinstance(closure, LearnedClosure)
        if (own := closure.training_points()) is not None:
            trained = np.concatenate([trained, own[~among(own, trained)]])
        if found or truth.shape[2] < len(prepared.equation.fields):
            continue
        if (latents := closure.latent_trajectories(truth[:, 0], case.output.every)) is None:
            continue
        found |= {f"latent_{name}": (("time", "latent"), values) for name, values in latents.items()}
    if rows and case.compare.parameter_plane and case.sweep.test_counts:
        points = case.sweep.test_points()
        try:
            values = errors(prepared, rows, points, bars)
        except BlowUp as error:  # of the full model; the report says so in place of the picture
            return found | {"plane_failed": ((), str(error))}
        found |= {
            "plane_error": (("plane_source", "point"), values),
            "plane_source": (("plane_source",), np.array([row.name for row in rows], dtype=object)),
            "plane_parameter": (("parameter",), np.array(list(case.sweep.parameters), dtype=object)),
            "plane_point": (("point", "parameter"), points),
            "training_point": (("run", "parameter"), trained),
        }
    return found


def _learns_from_sweep(prepared: Prepared, row: CompareRow) -> bool:
    classes = [table.find(prepared.folder) for table in row.closures]
    return bool(classes) and all(issubclass(c, LearnedClosure) and c.learns_from == "sweep" for c in classes)


def errors(prepared: Prepared, rows: list[CompareRow], points: NDArray, bars: StoppingBars) -> NDArray[np.float64]:
    """(row, point): each row from the initial state of each point, against the run of the sweep there."""
    case = prepared.case
    assert case.sweep
    every, steps = multiple(case.output.every, case.step), case.steps()
    truths = runs(case, points, bars)
    found = np.full((len(rows), len(points)), np.nan)
    for i, point in enumerate(points):
        varied = case.varied(case.sweep.values(point))
        equation = varied.build_equation()
        state = initial_state(varied.initial, equation, prepared.grid, (0,), case.ensemble.seed)
        there = replace(prepared, case=varied, equation=equation, state=state)
        true = truths.state(i)[:: every // interval(case)].astype(np.float64)
        require_finite(true[:, None], f"the run of the sweep at {case.sweep.values(point)}", prepared)
        for j, row in enumerate(rows):
            bars(i + 1, len(points), "parameter plane")
            try:
                with plugin_errors():
                    kept = Collector(there.simulation(row.closures), steps, every, lambda state: state[0]).run()
            except (PluginError, BlowUp):
                continue
            found[j, i] = relative_l2(np.stack(kept)[:, None], true[:, None]).max()
    return found
