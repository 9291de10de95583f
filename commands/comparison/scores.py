"""Scores of the rows of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.tables import Case

from . import metrics
from .rows import Row, _times

NOTHING = 1e-12  # an invariant below it is zero but for round-off, and no measure of its own drift


def _put_invariants(dataset: dict[str, NDArray], i: int, states: NDArray, prepared: Prepared) -> None:
    for t, state in enumerate(states):
        for name, value in prepared.equation.invariants(state, prepared.grid).items():
            dataset[f"invariant_{name}"][i, t] = value.mean()


def _score(row: Row, truth: NDArray, prepared: Prepared) -> dict[str, Any]:
    case, grid, equation = prepared.case, prepared.grid, prepared.equation
    count, trajectories = len(row.states), truth.shape[1]
    true = truth[:count]
    ensemble = row.states.reshape(count, trajectories, -1, *row.states.shape[2:])
    mean = ensemble.mean(axis=2)
    errors = metrics.relative_l2(mean, true)
    single = np.stack([metrics.relative_l2(ensemble[:, :, m], true) for m in range(ensemble.shape[2])], axis=-1)
    low, high = np.quantile(single.reshape(count, -1), (0.1, 0.9), axis=1)
    correlation = metrics.correlation(mean, true)
    scores: dict[str, Any] = {
        "relative_l2": errors.mean(axis=1),
        "relative_l2_low": low,
        "relative_l2_high": high,
        "correlation": correlation.mean(axis=1),
        "correlation_time": metrics.correlation_time(
            correlation, _times(case)[:count], case.compare.correlation_threshold
        ),
        "crps": metrics.crps(ensemble, true),
        "spread_skill": metrics.spread_skill(ensemble, true),
        "rank_histogram": metrics.rank_histogram(ensemble[1:], true[1:]),
    }
    if equation.kind != "particles":
        scores["energy"] = energy = metrics.energy_spectrum(row.states, equation, grid)
        truly = metrics.energy_spectrum(true, equation, grid)
        scores["spectrum_distance"] = metrics.spectrum_distance(energy, truly, min(grid.cuts) - 1)
    return scores


def _entry(
    row: Row, rows: list[Row], dataset: dict[str, NDArray], times: NDArray, i: int, case: Case
) -> dict[str, Any]:
    count, s = len(row.states), row.scores
    skill = None
    if not row.failed and not rows[0].failed and (baseline := rows[0].scores["relative_l2"][1:].mean()) > 0:
        skill = float(1 - s["relative_l2"][1:].mean() / baseline)
    drift = {}
    for name, values in dataset.items():
        if name.startswith("invariant_") and count:
            last, true = values[i, count - 1], values[0, count - 1]
            drift[name.removeprefix("invariant_")] = {
                "final": float(last),
                "drift": float((last - true) / (abs(true) if abs(true) > NOTHING else 1.0)),
            }
    wanted = case.compare.metrics
    return {
        "name": row.name,
        "kind": row.kind,
        "times": times[:count].tolist(),
        "relative_l2": _numbers(s["relative_l2"]) if count else [],
        "correlation_time": s.get("correlation_time") if "correlation" in wanted else None,
        "spectrum_distance": s.get("spectrum_distance") if "spectrum" in wanted else None,
        "invariants": drift if "invariants" in wanted else {},
        "crps": _numbers(s["crps"]) if count and "crps" in wanted else [],
        "spread_skill": _numbers(s["spread_skill"]) if count and "spread_skill" in wanted else [],
        "rank_histogram": _numbers(s["rank_histogram"]) if count and "rank_histogram" in wanted else [],
        "skill": skill,
        "wall_seconds_per_time": row.seconds_per_time,
        "closure_calls": row.calls,
        "guard_skips": row.skips,
        "steps_declined": row.declined,
        "failed": row.failed,
        "note": row.note,
    }


def _numbers(values: NDArray) -> list[float | None]:
    """A series as JSON has it, which knows no nan and no infinity."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _describe_reference(case: Case) -> dict[str, Any]:
    reference = case.reference
    assert reference is not None
    if reference.shape is None:
        return {"shape": list(case.grid.points), "description": "closed form"}
    if case.grid.entities:
        how = f"steps of {reference.step or case.step:g} by {reference.stepper or case.time.stepper}"
        return {"shape": list(reference.shape), "description": f"{how}, {reference.trajectories} trajectories"}
    how = {"filter": "filtered", "subsample": "subsampled"}[reference.restrict]
    shape = " x ".join(map(str, reference.shape))
    return {
        "shape": list(reference.shape),
        "description": f"{shape}, {how} to {' x '.join(map(str, case.grid.points))}, "
        f"{reference.trajectories} trajectories",
    }
