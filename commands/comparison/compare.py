"""`subgrid.compare`: reference, uncorrected model, every closure and a finer grid of equal cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.given_closures import with_rows
from subgrid.ingest.prepare import Prepared, prepare
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import CaseError
from subgrid.solver.case.tables import Case, ClosureTable, CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.record import RunFolderError, provenance

from ..progress import Bars, interruptible, watching
from . import parameter_study
from .comparison import Comparison
from .cost_matching import finer_run
from .dataset import assemble
from .results import NEAREST, Metrics, RowKind
from .rows import Run, follow, output_times, warm_up
from .scores import describe_reference, mean_invariants, row, score

UNCORRECTED = CompareRow(label="none", closures=())


def compare(
    case: Case,
    *,
    closures: Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Bars = True,
    command: str = "",
) -> Comparison:
    """Run every row of a comparison from the same initial states and seeds, and score it against the reference.

    The rows are the uncorrected model, those of [compare], the nearest training run for a case with [sweep], and the
    finer grid of equal cost. closures: rows in the place of those of [compare]; each is what a case file accepts (a
    name, a table, a list, {label, closures}), an instance of a closure, a sum of instances, or a Coupled. out: a new
    folder for metrics.json and comparison.zarr, which are written after each row; without it nothing is written.
    progress: whether to draw bars. command: how to repeat the comparison, for the report.

    A row that blows up or whose closure refuses the case is kept up to its failure and marked as failed. Raises
    CaseError for a case without a reference and for wrong rows, RunFolderError if `out` is taken. An interrupt raises
    KeyboardInterrupt; the finished rows are then in `out`.
    """
    if case.reference is None:
        raise CaseError("case", ["reference: missing; a comparison needs a reference"])
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise RunFolderError(f"{folder} is not empty; a comparison has a folder of its own. Remedy: another --out")
    if closures is not None:
        case = with_rows(case, closures)
    rows = _rows(case)
    with watching(progress) as bars:
        prepared = prepare(case, case.folder, with_reference=True, progress=bars)
        case, truth = prepared.case, _truth(prepared)
        found: list[Run] = []
        with interruptible() as asked:
            for wanted in rows:
                found.append(_run(prepared, wanted, bars, asked.is_set))
                if folder is not None:
                    _scored(prepared, found, truth, command).write(folder)
                if asked.is_set():
                    raise KeyboardInterrupt
            if case.sweep is not None:
                found.append(_nearest_run(prepared, bars))
            if case.compare.finer_grid and prepared.equation.kind != "particles":
                found.append(finer_run(prepared, found, bars, asked.is_set))
        studied = parameter_study.variables(prepared, truth, bars)
    result = _scored(prepared, found, truth, command, studied)
    if folder is not None:
        result.write(folder)
    return result


def _rows(case: Case) -> list[CompareRow]:
    """The uncorrected row, under the case's label if it has one, and then those with closures; of distinct names."""
    corrected = [r for r in case.compare.closures if _acting(r, case.folder)]
    uncorrected = [r for r in case.compare.closures if not _acting(r, case.folder)]
    rows = [*(uncorrected or [UNCORRECTED])[:1], *corrected]
    names = [r.name for r in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CaseError(
            "compare.closures",
            [f"two rows are named {name!r}. Remedy: give them labels, {{label, closures}}" for name in twice],
        )
    return rows


def _acting(row: CompareRow, folder: Path) -> tuple[ClosureTable, ...]:
    """The closures of a row, without those of kind "none"."""
    return tuple(table for table in row.closures if table.find(folder).kind != "none")


def _truth(prepared: Prepared) -> NDArray:
    """The reference at the output times, (time, trajectory, field, *grid)."""
    case = prepared.case
    if prepared.trajectories is not None:
        return np.moveaxis(np.array(prepared.trajectories.state), 1, 0)
    members = tuple(range(case.ensemble.members))
    states = [
        case.initial.exact(prepared.equation, prepared.grid, t - case.time.start, members, case.ensemble.seed)
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
    return np.stack(states)[:, :: case.ensemble.members // case.reference.trajectories]  # type: ignore[arg-type]


def _kind(kinds: list[str]) -> RowKind:
    """Kind of a row from those of the closures that act in it."""
    if not kinds:
        return "none"
    if "oracle" in kinds:
        return "oracle"
    if "learned" not in kinds:
        return "classical"
    return "learned" if len(kinds) == 1 else "sum"


def _run(prepared: Prepared, row: CompareRow, bars: Bars, asked: Callable[[], bool]) -> Run:
    tables = _acting(row, prepared.folder)
    kind = _kind([table.find(prepared.folder).kind for table in tables])
    run = Run(row.name, kind, np.empty((0, *prepared.state.shape)))
    try:
        warm_up(prepared.simulation(tables))
        simulation = prepared.simulation(tables)
    except (PluginError, BlowUp) as error:
        run.failed = str(error)
        return run
    return follow(simulation, prepared.case, run, bars, asked=asked)


def _nearest_run(prepared: Prepared, bars: Bars) -> Run:
    """The run of the sweep whose parameters are nearest to the case's. It is looked up, so it has no cost."""
    case = prepared.case
    assert case.sweep is not None
    nearest = case.sweep.points()[case.sweep.nearest(case.parameters())]
    stride = multiple(case.output.every, case.step) // interval(case)
    states = runs(case, nearest[None], bars).state(0)[::stride, None].astype(np.float64)
    run = Run(NEAREST, "nearest", np.repeat(states, case.ensemble.members, axis=1))
    run.note = ", ".join(f"{name} = {value:g}" for name, value in case.sweep.values(nearest).items())
    return run


def _scored(
    prepared: Prepared,
    found: list[Run],
    truth: NDArray,
    command: str,
    studied: parameter_study.Variables | None = None,
) -> Comparison:
    """The comparison of the runs that there are so far; the first is the uncorrected one."""
    for run in found:
        if len(run.states) and not run.scores:
            run.scores = score(run, truth, prepared)
    invariants = mean_invariants(truth, prepared)
    metrics = Metrics(
        case=prepared.case.title,
        reference=describe_reference(prepared.case),
        rows=[row(run, found[0], invariants, prepared) for run in found],
        command=command,
        **provenance(),
    )
    return Comparison(metrics, assemble(prepared, found, truth, studied))
