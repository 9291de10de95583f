"""`subgrid compare`: reference, uncorrected model, every closure and the cost-matched finer grid, side by side."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.restriction import Restrict, average_cells
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.backend import select
from subgrid.solver.case import Case, CaseError, CompareRow, multiple
from subgrid.solver.closure import ClosureError
from subgrid.solver.grid import Grid
from subgrid.solver.record import RunFolderError, provenance, write_json
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.spectral import Transforms, resample

from . import metrics, study
from .prepare import Prepared, prepare
from .progress import Bars, interruptible

FINER_GRID = "finer grid"
NEAREST = "nearest training run"
FRAMES = 40
NOTHING = 1e-12  # an invariant below it is zero but for round-off, and no measure of its own drift
COST_SECONDS = 0.03  # how long a run is, at least, that tells what a grid costs
PATH_FRAMES = 1000  # of particles, whose paths are drawn


@dataclass
class Row:
    """One run of the comparison: what it is, its states (time, member, field, *grid) and what it cost."""

    name: str
    kind: str
    states: NDArray
    seconds_per_time: float = 0.0
    calls: int = 0
    skips: int = 0
    declined: int = 0
    failed: str | None = None
    note: str | None = None
    scores: dict[str, Any] = field(default_factory=dict)


def compare(case: Case, folder: Path, out: Path, bars: Bars, command: str) -> dict[str, Any]:
    """Run every row from the same initial states and seeds; write metrics.json, comparison.zarr and the report.

    A row that blows up or whose closure refuses is kept up to its failure and marked as failed. Raises RunFolderError
    if `out` is taken, CaseError for a case without a reference.
    """
    if case.reference is None:
        raise CaseError("case", ["reference: missing; a comparison needs something to compare with"])
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise RunFolderError(f"{out} is not empty; a comparison has a folder of its own. Remedy: another --out")
    prepared = prepare(case, folder, with_reference=True, progress=bars)
    case = prepared.case
    out.mkdir(parents=True, exist_ok=True)
    truth = _truth(prepared)
    wanted = [CompareRow.model_validate({"closures": [{"name": "none"}]})]
    wanted += [r for r in case.compare.closures if r.name != "none"]
    rows: list[Row] = []
    with interruptible() as asked:
        for row in wanted:
            rows.append(_run_row(prepared, row, bars, asked.is_set))
            _write(prepared, rows, truth, out, command)
            if asked.is_set():
                raise KeyboardInterrupt
        if case.sweep is not None:
            rows.append(_nearest_row(prepared, bars))
        if case.compare.finer_grid and prepared.equation.kind != "particles":
            rows.append(_finer_row(prepared, rows, bars, asked.is_set))
    result = _write(prepared, rows, truth, out, command, study.variables(prepared, truth, bars))
    from . import report

    report.write(out)
    return result


def _times(case: Case) -> NDArray[np.float64]:
    every = multiple(case.output.every, case.step)
    return case.time.start + case.step * np.arange(0, case.steps() + 1, every, dtype=np.float64)


def _truth(prepared: Prepared) -> NDArray:
    """The reference at the output times, (time, trajectory, field, *grid)."""
    case = prepared.case
    if prepared.trajectories is not None:
        return np.moveaxis(np.array(prepared.trajectories.state), 1, 0)
    members = tuple(range(case.ensemble.members))
    states = [
        case.initial.exact(prepared.equation, prepared.grid, t - case.time.start, members, case.ensemble.seed)
        for t in _times(case)
    ]
    if any(s is None for s in states):
        raise CaseError(
            "case",
            [
                f"reference.exact: {case.initial.kind} has no closed form under {prepared.equation.name} "
                "as set up here; give reference.shape"
            ],
        )
    assert case.reference is not None
    return np.stack(states)[:, :: case.ensemble.members // case.reference.trajectories]  # type: ignore[arg-type]


def _kind(prepared: Prepared, row: CompareRow) -> str:
    kinds = {prepared.couple(table).closure.kind for table in row.closures}
    if len(kinds) == 1:
        return kinds.pop()
    return "classical" if kinds == {"none", "classical"} else "sum"


def _run_row(prepared: Prepared, row: CompareRow, bars: Bars, asked: Any) -> Row:
    tables = tuple(c for c in row.closures if c.name != "none")
    result = Row(row.name, _kind(prepared, row), np.empty((0, *prepared.state.shape)))
    try:
        _warm(prepared.simulation(tables))
        simulation = prepared.simulation(tables)
    except (ClosureError, BlowUp) as error:
        result.failed = str(error)
        return result
    return _follow(simulation, prepared.case, result, bars, lambda s: s, asked)


def _warm(simulation: Simulation) -> None:
    """Compile and plan, so that the row is charged for its work alone."""
    simulation.run(max((c.every for c in simulation.closures), default=1))


def _follow(simulation: Simulation, case: Case, row: Row, bars: Bars, onto: Any, asked: Any = lambda: False) -> Row:
    """Run to the end of the case, keeping the states at the output times; failure keeps those before it."""
    every = multiple(case.output.every, simulation.step)
    steps = multiple(case.time.end - case.time.start, simulation.step)
    states: list[NDArray] = []

    def at(n: int) -> None:
        bars(n, steps, row.name)
        if n % every == 0:
            states.append(onto(simulation.state))
        if asked():
            raise KeyboardInterrupt

    try:
        simulation.run(steps, lambda n: min(every - n % every, 50), at, output_every=every)
    except (BlowUp, ClosureError) as error:
        row.failed = str(error)
    row.states = np.stack(states)
    span = max(simulation.time - case.time.start, simulation.step)
    row.seconds_per_time = sum(simulation.seconds.values()) / span
    row.calls = sum(c.calls for c in simulation.closures)
    row.skips = sum(c.skips for c in simulation.closures)
    row.declined = sum(c.declined for c in simulation.closures)
    return row


def _nearest_row(prepared: Prepared, bars: Bars) -> Row:
    """The run of the sweep whose parameters are nearest to the case's: a look-up, which costs nothing."""
    case = prepared.case
    assert case.sweep is not None
    nearest = case.sweep.points()[case.sweep.nearest(case.parameters())]
    kept = multiple(case.output.every, case.step) // interval(case)
    states = runs(case, nearest[None], bars).state(0)[::kept, None].astype(np.float64)
    row = Row(NEAREST, "other", np.repeat(states, case.ensemble.members, axis=1))
    row.note = ", ".join(f"{name} = {value:g}" for name, value in case.sweep.values(nearest).items())
    return row


def _finer_row(prepared: Prepared, rows: list[Row], bars: Bars, asked: Any) -> Row:
    """The uncorrected model on the largest grid that costs no more than the corrected run, or else on the next one up.

    The corrected run is the first learned row that did not fail, or the costliest row without one. The step shrinks in
    proportion to the spacing, down to a divisor of output.every, unless the model contains noise. Without noise, and
    with a reference on a grid, one member of each trajectory is run, and stands for the others.
    """
    case, grid = prepared.case, prepared.grid
    learned = [r for r in rows if r.kind not in ("none", "classical", "oracle") and not r.failed]
    learned.sort(key=lambda r: r.kind == "sum")
    corrected = learned[0] if learned else max(rows, key=lambda r: r.seconds_per_time)
    row = Row(FINER_GRID, "finer-grid", np.empty((0, *prepared.state.shape)))
    row.note = f"matched to the cost of {corrected.name!r}"
    finer = None
    for candidate in _finer_grids(prepared):
        cost = _cost(_finer_simulation(prepared, candidate))
        if finer is None or cost <= corrected.seconds_per_time:
            finer = candidate
        elif cost > 2 * corrected.seconds_per_time:  # not at the first: a rounder number of points may cost less
            break
    if finer is None:
        row.failed = "no grid that is finer, up to the reference's, fits the case"
        return row
    row.name = f"{FINER_GRID} {'x'.join(map(str, finer.shape))}"
    simulation = _finer_simulation(prepared, finer)

    def onto(state: NDArray) -> NDArray:
        coarse = _coarsen(prepared, state, finer, grid)
        return np.repeat(coarse, case.ensemble.members // len(coarse), axis=0)

    return _follow(simulation, case, row, bars, onto, asked)


def _finer_grids(prepared: Prepared) -> list[Grid]:
    """Grids from 9/8 of the case's up to the reference's that the equation fits, each axis a product of 2, 3 and 5."""
    shape = prepared.grid.shape
    reference = prepared.case.reference.shape if prepared.case.reference else None
    largest = max(a / b for a, b in zip(reference, shape, strict=True)) if reference else 16.0
    grids = []
    for n in range(shape[-1] + 2, int(shape[-1] * largest) + 1, 2):
        ratio = n / shape[-1]
        points = tuple(round(s * ratio) for s in shape)
        if ratio >= 9 / 8 and _smooth(n) and all(_smooth(p) for p in points):
            grids.append(prepared.grid.refined(points))
    return [grid for grid in grids if _fits(prepared, grid)]


def _fits(prepared: Prepared, grid: Grid) -> bool:
    try:
        prepared.equation.require(grid)
    except ValueError:
        return False
    return True


def _smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def _finer_simulation(prepared: Prepared, finer: Grid) -> Simulation:
    case = prepared.case
    step = case.step
    # a noisy model keeps the step, whose increments it shares, and adaptive steps see to themselves
    if prepared.equation.noise_law(prepared.grid) is None and case.time.cfl is None:
        ratio = finer.shape[-1] / prepared.grid.shape[-1]
        step = case.output.every / math.ceil(case.output.every / case.step * ratio - 1e-9)
    return Simulation(
        prepared.equation,
        finer,
        case.time.stepper,
        step,
        _refined(prepared, finer),
        start=case.time.start,
        seed=case.ensemble.seed,
        cfl=case.time.cfl,
        backend=select(case.backend),
    )


def _refined(prepared: Prepared, finer: Grid) -> NDArray:
    """The initial state on a finer grid: the reference's, or the initial condition's own.

    One member per trajectory of a reference on a grid if the model has no noise: the others would be copies, and cost
    for nothing.
    """
    case = prepared.case
    if prepared.trajectories is None:
        return case.initial.state(prepared.equation, finer, tuple(range(case.ensemble.members)), case.ensemble.seed)
    reference = case.reference
    assert reference is not None and reference.shape is not None
    restrict = Restrict(prepared.equation, finer.refined(reference.shape), prepared.grid, reference.restrict)
    noisy = prepared.equation.noise_law(prepared.grid) is not None
    copies = np.bincount(prepared.owner) if noisy else 1
    return np.repeat(restrict.onto(np.array(prepared.trajectories.fine), finer), copies, axis=0)


def _coarsen(prepared: Prepared, state: NDArray, finer: Grid, grid: Grid) -> NDArray:
    if not prepared.equation.spectral:
        return average_cells(state, grid.shape)
    dealias = prepared.case.reference is not None and prepared.case.reference.restrict == "filter"
    dealias = dealias and prepared.trajectories is not None
    cut = resample(Transforms(finer).to_spectrum(state), finer, grid, dealias=dealias)
    return Transforms(grid).to_physical(cut)


def _cost(simulation: Simulation) -> float:
    """Wall seconds per unit of time, from the fastest of five short runs."""
    simulation.advance(1)
    began = time.perf_counter()
    simulation.advance(1)
    steps = max(2, math.ceil(COST_SECONDS / (time.perf_counter() - began)))
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        simulation.advance(steps)
        best = min(best, (time.perf_counter() - began) / (steps * simulation.step))
    return best


def _write(
    prepared: Prepared, rows: list[Row], truth: NDArray, out: Path, command: str, studied: study.Variables | None = None
) -> dict[str, Any]:
    """Score what there is so far and write it: a comparison that is cut short keeps its finished rows."""
    import xarray as xr

    case, grid, equation = prepared.case, prepared.grid, prepared.equation
    times = _times(case)
    invariants = equation.invariants(truth[0], grid)
    dataset: dict[str, NDArray] = {}
    sources = ["reference", *(r.name for r in rows)]
    particles = equation.kind == "particles"
    energy = [] if particles else [metrics.energy_spectrum(truth, equation, grid)]
    ranks = np.full((len(sources), 1 + case.ensemble.members // truth.shape[1]), np.nan)
    series = ("relative_l2", "relative_l2_low", "relative_l2_high", "correlation", "crps", "spread_skill")
    for name in series:
        dataset[name] = np.full((len(sources), len(times)), np.nan)
    for name in invariants:
        dataset[f"invariant_{name}"] = np.full((len(sources), len(times)), np.nan)
    stride = max(1, math.ceil(len(times) / (PATH_FRAMES if particles else FRAMES)))
    shown = np.arange(0, len(times), stride)
    axes: dict[str, Any] = equation.coordinates(grid)
    what, field, units = slice(0, 1), equation.fields[0].name, equation.fields[0].unit
    if particles:
        axes, what, field = {"coordinate": np.array(list("xyz"), dtype=object), **axes}, slice(0, 3), "positions"
    frames = np.full((len(sources), len(shown), what.stop, *grid.shape), np.nan, dtype=np.float32)
    frames[0] = truth[shown, 0, what]
    dataset["correlation"][0] = 1.0
    _put_invariants(dataset, 0, truth, prepared)
    for i, row in enumerate(rows, start=1):
        count = len(row.states)
        kept = shown[shown < count]
        if count:
            if not row.scores:
                row.scores = _score(row, truth, prepared)
            for name in series:
                dataset[name][i, :count] = row.scores[name]
            ranks[i] = row.scores["rank_histogram"]
            with np.errstate(over="ignore"):
                frames[i, : len(kept)] = row.states[kept, 0, what]
            _put_invariants(dataset, i, row.states, prepared)
        if not particles:
            energy.append(row.scores["energy"] if count else np.full_like(energy[0], np.nan))
    shape = [len(axis) for axis in axes.values()]
    variables = {
        **{k: (("source", "time"), v) for k, v in dataset.items()},
        "frames": (("source", "frame", *axes), frames.reshape(*frames.shape[:2], *shape)),
        "rank_histogram": (("source", "rank"), ranks),
        **(studied or {}),
    }
    if not particles:
        variables["spectrum"] = (("source", "wavenumber"), np.stack(energy))
        axes["wavenumber"] = np.arange(energy[0].size)
    xr.Dataset(
        variables,
        coords={
            "source": np.array(sources, dtype=object),
            "time": times,
            "frame_time": ("frame", times[shown]),
            **axes,
        },
        attrs={
            "title": case.title,
            "equation": equation.name,
            "field": field,
            "units": units,
            "correlation_threshold": case.compare.correlation_threshold,
        },
    ).to_zarr(out / "comparison.zarr", mode="w", consolidated=False)
    result = {
        "case": case.title,
        "reference": _describe_reference(case),
        "rows": [_entry(row, rows, dataset, times, i, case) for i, row in enumerate(rows, start=1)],
        "command": command,
        **provenance(),
    }
    write_json(out / "metrics.json", result)
    return result


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
