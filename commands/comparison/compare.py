"""`subgrid.compare`: reference, uncorrected model, every closure, and the frontier of classical runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.ingest.given_closures import with_rows
from subgrid.ingest.prepare import Prepared, prepare
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.base import multiple
from subgrid.solver.case.compare_rows import NEAREST, named_rows, row_mistakes
from subgrid.solver.case.reading import CaseError, read
from subgrid.solver.case.tables import Case, CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.answers import exact_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.folder import require_inputs, require_reference
from subgrid.solver.simulation.provenance import provenance
from subgrid.solver.simulation.schedule import output_times

from ..progress import Bars, Interrupted, StoppingBars, interruptible, watching
from . import parameter_study
from .comparison import Comparison
from .cost import measure
from .dataset import assemble
from .folder import ComparisonFolder, require_vacant
from .frontier import FrontierRun, frontier
from .judgement import Judgement, judge, samples
from .results import FrontierRow, Metrics
from .rows import Run, follow, warm_up
from .scores import Truth, describe_reference, require_finite, row, score
from .simulated_rows import acting, alike, classical, clocked, distinct_members, perturbed, row_kind, share, simulated

METRIC_OF = {  # score -> the entry of compare.metrics that asks for it; None for one that is always there
    "relative_l2": None,
    "correlation_time": "correlation",
    "spectrum_distance": "spectrum",
    "crps": "crps",
    "energy_score": "energy_score",
}


@plugin_errors()
def compare(
    case: Case,
    *,
    closures: Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Bars = True,
    command: str = "",
) -> Comparison:
    """Run every row of a comparison from the same initial states and seeds, and score it against the reference.

    The rows are the uncorrected model, those of [compare], and the nearest training run for a case with [sweep]. Their
    speed-up is measured against the frontier, classical runs on a ladder of grids. closures: rows in the place of those
    of [compare]; each is what a case file accepts (a name, a table, a list, {label, closures}), an instance of a
    closure, a sum of instances, or a Coupled. out: a new folder for the comparison, in which each finished row is kept,
    so that `resume_comparison` can continue it; without it nothing is written. progress: whether to draw bars. command:
    how to repeat the comparison, for the report.

    A row that blows up or whose closure fails is kept up to its failure and marked as failed. Raises CaseError for a
    case without a reference and for wrong rows, RunFolderError if `out` is taken, and ValueError for a reference that
    is not finite. With `out`, an interrupt raises Interrupted, else KeyboardInterrupt.
    """
    if case.reference is None:
        raise CaseError("case", ["reference: missing; a comparison needs a reference"])
    folder = None if out is None else Path(os.path.abspath(out))  # a plug-in may change the working directory
    if folder is not None:
        require_vacant(folder)
    if closures is not None:
        case = with_rows(case, closures)
    case = _with_names(case)
    with watching(progress) as bars:
        prepared = prepare(case, case.folder, with_reference=True, progress=bars)
        truth = _truth(prepared)
        if folder is None:
            return _finished(prepared, truth, None, bars, command)
        with closing(ComparisonFolder.create(folder, prepared.case, command, _trajectories(prepared))) as kept:
            return _finished(prepared, truth, kept, bars, command)


@plugin_errors()
def resume_comparison(folder: str | os.PathLike[str], *, progress: bool | Bars = True) -> Comparison:
    """Compute the rows that are missing in the folder of an interrupted or killed comparison.

    The scores, all but costs and speed-ups, are those of an uninterrupted comparison. Raises RunFolderError, before
    anything is written, for a folder without a comparison, in use or with a symbolic link, and if the case or a file
    that it names changed; DamagedFile for a damaged row; and what `compare` raises.
    """
    folder = Path(os.path.abspath(folder))
    with watching(progress) as bars, closing(ComparisonFolder.open(folder)) as kept:
        if kept.done:
            with suppress(ValueError):  # one of the two results was deleted; it is made again
                return Comparison.load(folder)
        require_inputs(folder)
        prepared = prepare(_with_names(read(folder / "case.toml")), folder, with_reference=True, progress=bars)
        require_reference(folder, _trajectories(prepared), extended=False)
        kept.go_on()
        return _finished(prepared, _truth(prepared), kept, bars, kept.command)


def _trajectories(prepared: Prepared) -> Path | None:
    return prepared.trajectories.directory if prepared.trajectories else None


def _finished(prepared: Prepared, truth: Truth, kept: ComparisonFolder | None, bars: Bars, command: str) -> Comparison:
    """The comparison with every row: those that are kept, and the others, which are run."""
    found: list[Run] = []
    try:
        with interruptible() as asked:
            stopping = StoppingBars(bars, asked.is_set)
            for i, make in enumerate(_rows(prepared, stopping)):
                run = None if kept is None else kept.load(i, truth.shapes(prepared))
                if run is None:
                    run = _scored(make(), truth, prepared)
                    found.append(run)
                    if kept is not None:
                        kept.save(i, run)
                        _comparison(prepared, found, truth, command).write(kept.folder)
                else:
                    found.append(run)
                if asked.is_set():
                    raise KeyboardInterrupt
            judged = _judged(prepared, found, truth, stopping)
            studied = parameter_study.variables(prepared, truth.states, stopping)
    except KeyboardInterrupt:
        if kept is None:
            raise
        raise Interrupted(f"interrupted. Resume with: subgrid resume {kept.folder}") from None
    result = _comparison(prepared, found, truth, command, studied, *judged)
    if kept is not None:
        result.write(kept.folder)
        kept.finish()
    return result


def _rows(prepared: Prepared, bars: StoppingBars) -> list[Callable[[], Run]]:
    """How each row is run, in order."""
    makers: list[Callable[[], Run]] = [partial(_run, prepared, row, bars) for row in simulated(prepared)]
    if prepared.case.sweep is not None:
        makers.append(partial(_nearest_run, prepared, bars))
    return makers


def _with_names(case: Case) -> Case:
    """The case with rows whose names tell them apart. Raises CaseError for names that cannot be used."""
    rows = named_rows(case.compare.closures)
    mistakes = row_mistakes(rows)
    if len(bare := [row.name for row in rows if not acting(row, case.folder)]) > 1 and not mistakes:
        mistakes = [f"compare.closures: {' and '.join(bare)} have no closure that acts. Remedy: keep one of them"]
    if mistakes:
        raise CaseError("case", mistakes)
    return case.model_copy(update={"compare": case.compare.model_copy(update={"closures": rows})})


def _truth(prepared: Prepared) -> Truth:
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


def _judged(
    prepared: Prepared, found: list[Run], truth: Truth, bars: StoppingBars
) -> tuple[list[Judgement], list[FrontierRun], list[Judgement]]:
    """Measure the costs of all runs in turns, and judge the rows and the runs of the frontier."""
    case, rows = prepared.case, simulated(prepared)
    ladder: list[FrontierRun] = []
    members = distinct_members(prepared, found[0].alike)
    if case.compare.frontier:
        ladder = frontier(prepared, truth, members, classical(prepared, rows), bars)
    clocks = [clocked(prepared, row, run) for row, run in zip(rows, found, strict=False)]
    clocks += [None] * (len(found) - len(clocks))
    rungs = [kept.clocked(prepared, members) for kept in ladder]
    measure([c for c in (*clocks, *rungs) if c is not None], lambda done, all_: bars(done, all_, "costs"))
    costs, rung_costs = [None if c is None else c.cost for c in clocks], [c.cost for c in rungs]
    largest, longest = min(prepared.grid.cuts) - 1, case.time.end - case.time.start
    wanted = tuple(name for name, metric in METRIC_OF.items() if metric is None or metric in case.compare.metrics)
    scores = [samples(run, truth, largest) for run in found]
    rung_scores = [s for kept in ladder if (s := samples(kept.run, truth, largest)) is not None]
    alone = [i for i, kept in enumerate(ladder) if kept.closure is None]
    classical_rows = [i for i, run in enumerate(found) if run.kind in ("none", "classical")]
    rivals = {found[i].name: i for i in classical_rows}
    judged = judge(scores, costs, rung_scores, rung_costs, longest, rivals, wanted, (classical_rows, alone))
    uncorrected = {found[0].name: 0}
    judged_rungs = judge([scores[0], *rung_scores], [None, *rung_costs], [], [], longest, uncorrected, wanted)[1:]
    return judged, ladder, judged_rungs


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


def _scored(run: Run, truth: Truth, prepared: Prepared) -> Run:
    """The run with its scores in place of its states."""
    if run.states is not None and len(run.states):
        run.scores = score(run.states, truth, prepared)
    run.states = None
    return run


def _comparison(
    prepared: Prepared,
    found: list[Run],
    truth: Truth,
    command: str,
    studied: parameter_study.Variables | None = None,
    judged: Sequence[Judgement] = (),
    ladder: Sequence[FrontierRun] = (),
    judged_ladder: Sequence[Judgement] = (),
) -> Comparison:
    """The comparison of the runs that there are so far; the first is the uncorrected one.

    Before all rows are finished, there are no judgements, but wall times of the single runs.
    """
    judged = judged or [Judgement(wall=run.seconds_per_time) for run in found]
    metrics = Metrics(
        case=prepared.case.title,
        reference=describe_reference(prepared.case),
        rows=[row(run, found[0], truth, prepared, j) for run, j in zip(found, judged, strict=True)],
        frontier=[
            FrontierRow(
                **row(kept.run, found[0], truth, prepared, j).model_dump(),
                shape=list(kept.grid.resolution),
                stepper=kept.method.stepper,
                step=kept.method.step,
                cfl=kept.method.cfl,
            )
            for kept, j in zip(ladder, judged_ladder, strict=True)
        ],
        command=command,
        unit=prepared.observed_fields[0].unit,
        **provenance(),
    )
    return Comparison(metrics, assemble(prepared, found, truth, studied))
