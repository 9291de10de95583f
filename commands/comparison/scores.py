"""The scores of the runs of a comparison, and their rows in metrics.json."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.tables import Case

from . import metrics
from .results import Invariant, Reference, Row
from .rows import Run, output_times

ZERO = 1e-12  # a reference invariant below it is zero up to round-off, so a deviation from it is given as it is


def score(run: Run, truth: NDArray, prepared: Prepared) -> dict[str, Any]:
    """Every score of a run with at least one state against the truth (time, trajectory, field, *grid).

    Members are averaged within their trajectory before errors and correlations are taken. relative_l2_low and _high are
    the 10 % and 90 % quantiles of the errors of single members.
    """
    case, grid, equation = prepared.case, prepared.grid, prepared.equation
    count, trajectories = len(run.states), truth.shape[1]
    true = truth[:count]
    ensemble = run.states.reshape(count, trajectories, -1, *run.states.shape[2:])
    mean = ensemble.mean(axis=2)
    errors = metrics.relative_l2(mean, true)
    single = np.stack([metrics.relative_l2(ensemble[:, :, m], true) for m in range(ensemble.shape[2])], axis=-1)
    low, high = np.quantile(single.reshape(count, -1), (0.1, 0.9), axis=1)
    correlation = metrics.correlation(mean, true)
    threshold = case.compare.correlation_threshold
    scores: dict[str, Any] = {
        "relative_l2": errors.mean(axis=1),
        "relative_l2_low": low,
        "relative_l2_high": high,
        "correlation": correlation.mean(axis=1),
        "correlation_time": metrics.correlation_time(correlation, output_times(case)[:count], threshold),
        "crps": metrics.crps(ensemble, true),
        "spread_skill": metrics.spread_skill(ensemble, true),
        "rank_histogram": metrics.rank_histogram(ensemble[1:], true[1:]),
    }
    if equation.kind != "particles":
        scores["energy"] = energy = metrics.energy_spectrum(run.states, equation, grid)
        true_energy = metrics.energy_spectrum(true, equation, grid)
        scores["spectrum_distance"] = metrics.spectrum_distance(energy, true_energy, min(grid.cuts) - 1)
    return scores


def mean_invariants(states: NDArray, prepared: Prepared) -> dict[str, NDArray[np.float64]]:
    """Each invariant of states (time, member, field, *grid), averaged over members: (time,)."""
    found = [prepared.equation.invariants(state, prepared.grid) for state in states]
    return {name: np.array([values[name].mean() for values in found]) for name in (found[0] if found else {})}


def row(run: Run, baseline: Run, truth_invariants: dict[str, NDArray], prepared: Prepared) -> Row:
    """The row of a run that has been scored; `baseline` is the uncorrected run."""
    case, s = prepared.case, run.scores
    count, wanted = len(run.states), case.compare.metrics
    skill = None
    if not run.failed and not baseline.failed and (error := baseline.scores["relative_l2"][1:].mean()) > 0:
        skill = float(1 - s["relative_l2"][1:].mean() / error)
    invariants = {}
    if count and "invariants" in wanted:
        for name, values in mean_invariants(run.states[-1:], prepared).items():
            last, true = values[0], truth_invariants[name][count - 1]
            drift = (last - true) / (abs(true) if abs(true) > ZERO else 1.0)
            invariants[name] = Invariant(final=float(last), drift=float(drift))

    def series(name: str) -> list[float | None]:
        return [float(v) for v in s[name]] if count and (name == "relative_l2" or name in wanted) else []

    return Row(
        name=run.name,
        kind=run.kind,
        times=output_times(case)[:count].tolist(),
        relative_l2=series("relative_l2"),
        correlation_time=s.get("correlation_time") if "correlation" in wanted else None,
        spectrum_distance=s.get("spectrum_distance") if "spectrum" in wanted else None,
        invariants=invariants,
        crps=series("crps"),
        spread_skill=series("spread_skill"),
        rank_histogram=series("rank_histogram"),
        skill=skill,
        wall_seconds_per_time=run.seconds_per_time,
        closure_calls=run.calls,
        guard_skips=run.skips,
        steps_declined=run.declined,
        failed=run.failed,
        note=run.note,
    )


def describe_reference(case: Case) -> Reference:
    """The reference of a case in words."""
    reference = case.reference
    assert reference is not None
    if reference.shape is None:
        return Reference(shape=list(case.grid.points), description="closed form")
    count = f"{reference.trajectories} trajectories"
    if case.grid.entities:
        how = f"steps of {reference.step or case.step:g} by {reference.stepper or case.time.stepper}"
        return Reference(shape=list(reference.shape), description=f"{how}, {count}")
    how = {"filter": "filtered", "subsample": "subsampled"}[reference.restrict]
    fine, coarse = (" x ".join(map(str, shape)) for shape in (reference.shape, case.grid.points))
    return Reference(shape=list(reference.shape), description=f"{fine}, {how} to {coarse}, {count}")
