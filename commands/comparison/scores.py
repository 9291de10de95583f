"""The scores of the runs of a comparison, and their rows in metrics.json."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.entities import mask_of
from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.answers import invariants
from subgrid.solver.simulation.schedule import output_schedule, output_times

from . import entities, metrics
from .results import Invariant, Reference, Row
from .rows import Run
from .statistics import distances, sampling_error

if TYPE_CHECKING:
    from .judgement import Judgement

FRAMES = 40  # upper bound on the outputs that are kept as fields
PATH_FRAMES = 1000  # of particles, whose paths are drawn
SAMPLES = ("relative_l2", "correlation_time", "crps", "energy_score")  # means over time, by trajectory
SERIES = ("relative_l2", "relative_l2_low", "relative_l2_high", "correlation", "crps", "spread_skill")
ZERO = 1e-12  # below it an error, or an invariant of the reference, is zero up to round-off: no ratio to it is given


@dataclass(frozen=True)
class Truth:
    """The reference at the output times, (time, trajectory, field, *grid), and its diagnostics.

    states: of the fields that the reference has. sampling: the sampling error of each long-run statistic.
    """

    states: NDArray
    diagnostics: dict[str, NDArray]
    sampling: dict[str, float]

    @classmethod
    def of(cls, states: NDArray, prepared: Prepared) -> Truth:
        """Raises ValueError, with the place, for a reference that is not finite: it would score every run with nan."""
        require_finite(states, "the reference", prepared)
        states = prepared.observed(states)
        states = entities.without_placeholders(states, _mask(prepared, states.shape[1]))
        sampling = {name: sampling_error(f, states) for name, f in _distances(prepared).items()}
        found = diagnostics(states, prepared, states.shape[1])
        if _scored_entities(prepared):
            mask = real_entities(prepared, states.shape[1])
            bins = entities.edges(states, prepared.equation, mask)
            found |= entities.diagnostics(states, prepared.equation, mask, bins, states.shape[1])
        return cls(states, found, sampling)

    def shapes(self, prepared: Prepared) -> Callable[[int], dict[str, tuple[int, ...]]]:
        """The shapes of the arrays of `score` for a run with so many outputs."""
        members = prepared.case.ensemble.members // self.states.shape[1]

        def of_run(count: int) -> dict[str, tuple[int, ...]]:
            found: dict[str, tuple[int, ...]] = dict.fromkeys(SERIES, (count,)) | {"rank_histogram": (members + 1,)}
            found |= dict.fromkeys((f"sample_{name}" for name in SAMPLES), (self.states.shape[1],))
            if "sample_separation" in self.diagnostics:
                found |= dict.fromkeys((f"sample_{name}" for name in entities.MEANS), (self.states.shape[1],))
                found["fde_quantiles"] = (len(entities.SPREAD),)
            for name, values in self.diagnostics.items():
                kept = int((kept_outputs(prepared) < count).sum()) if name == "frames" else count
                if name == "sample_separation":
                    found[name] = (values.shape[0], count, values.shape[2])
                else:
                    found[name] = values.shape if name in ("energy", "sample_energy") else (kept, *values.shape[1:])
            return found

        return of_run


def _scored_entities(prepared: Prepared) -> bool:
    """Whether the case asks for these scores, and its reference has the positions."""
    equation, seen = prepared.equation, [f.name for f in prepared.observed_fields]
    where = equation.having("position")
    known = bool(where) and seen[: where[-1] + 1] == [f.name for f in equation.fields[: where[-1] + 1]]
    return equation.kind == "particles" and "entities" in prepared.case.compare.metrics and known


def _mask(prepared: Prepared, members: int) -> NDArray[np.bool_] | None:
    """Which entities are real, (member, entity), where each trajectory has so many members in all; None for all."""
    trajectories = prepared.case.reference.trajectories if prepared.case.reference else members
    return mask_of(prepared.case, np.repeat(range(trajectories), members // trajectories).tolist())


def real_entities(prepared: Prepared, members: int) -> NDArray[np.bool_]:
    mask = _mask(prepared, members)
    return np.ones((members, *prepared.grid.shape), dtype=bool) if mask is None else mask


def require_finite(states: NDArray, what: str, prepared: Prepared) -> None:
    """Raise ValueError if states (time, trajectory, field, *grid) at the output times are not finite."""
    wrong = np.argwhere(~np.isfinite(states).reshape(*states.shape[:3], -1).all(axis=-1))
    if len(wrong):
        output, trajectory, field = wrong[0]
        raise ValueError(
            f"{what} is not finite: field {prepared.equation.fields[field].name} of trajectory {trajectory} at "
            f"t = {output_times(prepared.case)[output]:g}. Remedy: delete its folder in the cache, so that "
            "`subgrid data CASE` makes it again, or use a smaller reference.step"
        )


def kept_outputs(prepared: Prepared) -> NDArray[np.int64]:
    """Numbers of the outputs that are kept as fields."""
    count = output_schedule(prepared.case).count
    most = PATH_FRAMES if prepared.equation.kind == "particles" else FRAMES
    return np.arange(0, count, max(1, math.ceil(count / most)))


def diagnostics(states: NDArray, prepared: Prepared, trajectories: int) -> dict[str, NDArray]:
    """What is kept of states (time, member, field, *grid) besides scores.

    `invariant_NAME` (time,), averaged over members; not for particles `sample_energy` (trajectory, shell), the spectrum
    averaged over times, members of the trajectory and fields, and `energy` (shell,), its mean; `frames` (frame, field,
    *grid), the first field of the first member, or the positions of particles, in single precision. Invariants and
    spectra need all fields: where the reference lacks one, there are none.
    """
    equation, grid = prepared.equation, prepared.grid
    particles, complete = equation.kind == "particles", states.shape[2] == len(equation.fields)
    found: dict[str, Any] = {}
    if complete:
        found |= {f"invariant_{name}": values for name, values in mean_invariants(states, prepared).items()}
    if complete and not particles:
        blocks = np.split(states, trajectories, axis=1)
        found["sample_energy"] = np.stack([metrics.energy_spectrum(block, equation, grid) for block in blocks])
        found["energy"] = found["sample_energy"].mean(axis=0)
    kept = kept_outputs(prepared)
    with np.errstate(over="ignore"):
        shown = equation.having("position") if particles else [0]
        found["frames"] = states[kept[kept < len(states)], 0][:, shown].astype(np.float32)
    return found


def score(states: NDArray, truth: Truth, prepared: Prepared) -> dict[str, Any]:
    """Every score and the diagnostics of states (time, member, field, *grid), one or more, against the truth.

    Members are averaged within their trajectory before errors and correlations are taken. relative_l2_low and _high are
    the 10 % and 90 % quantiles of the errors of single members.
    """
    case, grid = prepared.case, prepared.grid
    states = prepared.observed(np.asarray(states, dtype=np.float64))
    states = entities.without_placeholders(states, _mask(prepared, states.shape[1]))
    count, trajectories = len(states), truth.states.shape[1]
    true = truth.states[:count]
    ensemble = states.reshape(count, trajectories, -1, *states.shape[2:])
    mean = ensemble.mean(axis=2)
    errors = metrics.relative_l2(mean, true)
    single = np.stack([metrics.relative_l2(ensemble[:, :, m], true) for m in range(ensemble.shape[2])], axis=-1)
    low, high = np.quantile(single.reshape(count, -1), (0.1, 0.9), axis=1)
    real = _mask(prepared, trajectories)
    correlation = metrics.correlation(mean, true, real)
    threshold = case.compare.correlation_threshold
    by_trajectory = {
        "relative_l2": errors,
        "crps": metrics.crps(ensemble, true),
        "energy_score": metrics.energy_score(ensemble, true),
    }
    if real is not None:  # placeholders have no error, and do not count as points
        share = real.mean(axis=1)
        by_trajectory["crps"] /= share
        by_trajectory["energy_score"] /= np.sqrt(share)
    samples = {name: (values[1:] if count > 1 else values).mean(axis=0) for name, values in by_trajectory.items()}
    samples["correlation_time"] = metrics.correlation_time(correlation, output_times(case)[:count], threshold)
    scores: dict[str, Any] = {
        "relative_l2": errors.mean(axis=1),
        "relative_l2_low": low,
        "relative_l2_high": high,
        "correlation": correlation.mean(axis=1),
        "correlation_time": float(samples["correlation_time"].mean()),
        "crps": by_trajectory["crps"].mean(axis=1),
        "spread_skill": metrics.spread_skill(ensemble, true),
        "rank_histogram": metrics.rank_histogram(ensemble[1:], true[1:]),
        **{f"sample_{name}": values for name, values in samples.items()},
        **diagnostics(states, prepared, trajectories),
    }
    if _scored_entities(prepared):
        bins = entities.edges(truth.states, prepared.equation, real_entities(prepared, trajectories))
        scores |= entities.diagnostics(
            states, prepared.equation, real_entities(prepared, states.shape[1]), bins, trajectories
        )
        scores |= entities.score(states, true, prepared.equation, real_entities(prepared, trajectories))
    if "energy" in scores:
        true_energy = metrics.energy_spectrum(true, prepared.equation, grid)
        scores["spectrum_distance"] = metrics.spectrum_distance(scores["energy"], true_energy, min(grid.cuts) - 1)
    if count == len(truth.states):
        with np.errstate(all="ignore"):
            scores |= {f"statistic_{name}": f(states, true) for name, f in _distances(prepared).items()}
    return scores


def _distances(prepared: Prepared) -> dict[str, Callable[[NDArray, NDArray], float]]:
    complete = len(prepared.observed_fields) == len(prepared.equation.fields)
    return distances(prepared.equation, prepared.grid, output_times(prepared.case)) if complete else {}


def mean_invariants(states: NDArray, prepared: Prepared) -> dict[str, NDArray[np.float64]]:
    """Each invariant of states (time, member, field, *grid), averaged over members: (time,)."""
    found = [invariants(prepared.equation, state, prepared.grid) for state in states]
    return {name: np.array([values[name].mean() for values in found]) for name in (found[0] if found else {})}


def row(run: Run, baseline: Run, truth: Truth, prepared: Prepared, judged: Judgement) -> Row:
    """The row of a run that has been scored and judged; `baseline` is the uncorrected run."""
    case, s = prepared.case, run.scores
    count, wanted = run.count, case.compare.metrics
    skill = None
    if not run.failed and not baseline.failed and (error := baseline.scores["relative_l2"][1:].mean()) > ZERO:
        skill = float(1 - s["relative_l2"][1:].mean() / error)
    drifts = {}
    if count and "invariants" in wanted:
        for name in (n for n in s if n.startswith("invariant_")):
            last, true = s[name][-1], truth.diagnostics[name][count - 1]
            drift = (last - true) / (abs(true) if abs(true) > ZERO else 1.0)
            drifts[name.removeprefix("invariant_")] = Invariant(final=float(last), drift=float(drift))

    of_entities = entities.summary(s, truth.diagnostics) if "sample_ade" in s else ({}, {})

    def series(name: str) -> list[float | None]:
        return [float(v) for v in s[name]] if count and (name == "relative_l2" or name in wanted) else []

    return Row(
        name=run.name,
        kind=run.kind,
        times=output_times(case)[:count].tolist(),
        relative_l2=series("relative_l2"),
        correlation_time=s.get("correlation_time") if "correlation" in wanted else None,
        spectrum_distance=s.get("spectrum_distance") if "spectrum" in wanted else None,
        invariants=drifts,
        crps=series("crps"),
        spread_skill=series("spread_skill"),
        rank_histogram=series("rank_histogram"),
        skill=skill,
        means=judged.means,
        cpu_seconds_per_time=judged.cpu,
        wall_seconds_per_time=judged.wall,
        speedup=judged.speedup,
        beyond=judged.beyond,
        intervals=judged.intervals,
        differences=judged.differences,
        statistics={
            name: (s[f"statistic_{name}"], error)
            for name, error in truth.sampling.items()
            if "statistics" in wanted and s.get(f"statistic_{name}") is not None
        },
        entities=of_entities[0],
        entity_intervals=of_entities[1],
        closure_calls=run.calls,
        guard_skips=run.skips,
        steps_declined=run.declined,
        failed=run.failed,
        note=run.note,
        formula=run.formula,
    )


def describe_reference(case: Case) -> Reference:
    """The reference of a case in words."""
    reference = case.reference
    assert reference is not None
    if reference.shape is None:
        return Reference(shape=list(case.grid.points), description="closed form")
    count = f"{reference.trajectories} trajectories" + (f" of {reference.file.name}" if reference.file else "")
    count += f", without {', '.join(reference.unobserved)}" if reference.unobserved else ""
    if case.grid.entities:
        if reference.file is not None:
            return Reference(shape=list(reference.shape), description=count)
        how = f"steps of {reference.step or case.step:g} by {reference.stepper or case.time.stepper}"
        return Reference(shape=list(reference.shape), description=f"{how}, {count}")
    how = {"filter": "filtered", "subsample": "subsampled"}[reference.restrict]
    fine, coarse = (" x ".join(map(str, shape)) for shape in (reference.shape, case.grid.points))
    return Reference(shape=list(reference.shape), description=f"{fine}, {how} to {coarse}, {count}")
