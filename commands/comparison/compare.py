"""`subgrid compare`: reference, uncorrected model, every closure and the cost-matched finer grid, side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared, prepare
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import CaseError
from subgrid.solver.case.tables import Case, CompareRow
from subgrid.solver.closure import ClosureError
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.record import RunFolderError, provenance, write_json

from ..progress import Bars, interruptible
from . import metrics
from . import parameter_study as study
from .cost_matching import _finer_row
from .rows import Row, _follow, _times, _warm
from .scores import _describe_reference, _entry, _put_invariants, _score

NEAREST = "nearest training run"
FRAMES = 40
PATH_FRAMES = 1000  # of particles, whose paths are drawn


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
    from ..report import page as report

    report.write(out)
    return result


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
