"""`subgrid.compare`: reference, uncorrected model, every closure, and the frontier of classical runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from subgrid.closures.learning.learned_closure import require_weights
from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import Cluster, cluster
from subgrid.ingest.given_closures import with_rows
from subgrid.ingest.pieces import case_of, generate_in_pieces, source
from subgrid.ingest.prepare import Prepared, prepare, with_step
from subgrid.ingest.requests import reference_request
from subgrid.solver.case.compare_rows import named_rows, row_mistakes
from subgrid.solver.case.reading import CaseError, read
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation.folder import require_inputs, require_reference
from subgrid.solver.simulation.provenance import provenance

from ..progress import Bars, Interrupted, StoppingBars, interruptible, watching
from . import parameter_study
from .comparison import Comparison
from .cost import measure
from .dataset import assemble
from .folder import ComparisonFolder, begun, require_vacant
from .frontier import FrontierRun, frontier
from .judgement import Judgement, judge, samples
from .results import FrontierRow, Metrics
from .row_runs import makers, scored, truth_of
from .rows import Run
from .scores import Truth, describe_reference, row
from .simulated_rows import acting, classical, clocked, ladder_members, simulated
from .tasks import Tasks

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
    workers: int | None = None,
    scheduler: str | None = None,
    shared: bool = False,
) -> Comparison:
    """Run every row of a comparison from the same initial states and seeds, and score it against the reference.

    The rows are the uncorrected model, those of [compare], and the nearest training run for a case with [sweep]. Their
    speed-up is measured against the frontier, classical runs on a ladder of grids. closures: rows in the place of those
    of [compare]; each is what a case file accepts (a name, a table, a list, {label, closures}), an instance of a
    closure, a sum of instances, or a Coupled. out: a new folder for the comparison, in which each finished row is kept,
    so that `resume_comparison` can continue it; without it nothing is written. progress: whether to draw bars. command:
    how to repeat the comparison, for the report.

    workers, scheduler: so many processes on this machine, or those of the Dask scheduler at an address, run the
    trajectories of the reference, the rows and the runs of the frontier; `out` is then needed, and a comparison of the
    same case that was begun there is continued. Methods of the frontier are searched, and costs measured, in this
    process, while none of these tasks runs. shared: whether the caller has other tasks run on this machine meanwhile;
    the report then says so.

    A row that blows up or whose closure fails is kept up to its failure and marked as failed. Raises CaseError for a
    case without a reference and for wrong rows, RunFolderError if `out` is taken, ClusterError and WorkersLost, and
    ValueError for a reference that is not finite. With `out`, an interrupt raises Interrupted, else KeyboardInterrupt.
    """
    Case.require(case)
    if case.reference is None:
        raise CaseError(case.title, ["reference: missing; a comparison needs a reference"])
    folder = None if out is None else Path(os.path.abspath(out))  # a plug-in may change the working directory
    by_tasks = workers is not None or scheduler is not None
    if by_tasks and folder is None:
        raise ValueError("workers and scheduler: the rows need a folder. Remedy: out = FOLDER")
    if folder is not None and not by_tasks:
        require_vacant(folder)
    if closures is not None:
        case = with_rows(case, closures)
    case = _with_names(case)
    require_weights(case.title, (table for row in case.compare.closures for table in row.closures), case.folder)
    if by_tasks and folder is not None:
        case = case_of(source(with_step(case)))  # as the workers read it
        if begun(folder, case):
            return resume_comparison(folder, progress=progress, workers=workers, scheduler=scheduler, shared=shared)
        require_vacant(folder)
    with cluster(workers, scheduler) as pool, watching(progress) as bars:
        _share(case, folder, pool, bars)
        prepared = prepare(case, case.folder, with_reference=True, progress=bars)
        truth = truth_of(prepared)
        if folder is None:
            return _finished(prepared, truth, None, bars, command, pool, shared)
        with closing(ComparisonFolder.create(folder, prepared.case, command, prepared.recorded)) as kept:
            return _finished(prepared, truth, kept, bars, command, pool, shared)


@plugin_errors()
def resume_comparison(
    folder: str | os.PathLike[str],
    *,
    progress: bool | Bars = True,
    workers: int | None = None,
    scheduler: str | None = None,
    shared: bool = False,
) -> Comparison:
    """Compute the rows that are missing in the folder of an interrupted or killed comparison.

    The scores, all but costs and speed-ups, are those of an uninterrupted comparison, with any number of workers, see
    `compare`. Raises RunFolderError, before anything is written, for a folder without a comparison, in use or with a
    symbolic link, and if the case or a file that it names changed; DamagedFile for a damaged row; and what `compare`
    raises.
    """
    folder = Path(os.path.abspath(folder))
    with closing(ComparisonFolder.open(folder)) as kept:
        if kept.done:
            with suppress(ValueError):  # one of the two results was deleted; it is made again
                return Comparison.load(folder)
        require_inputs(folder)
        case = _with_names(read(folder / "case.toml"))
        with cluster(workers, scheduler) as pool, watching(progress) as bars:
            _share(case, folder, pool, bars)
            prepared = prepare(case, folder, with_reference=True, progress=bars)
            require_reference(folder, prepared.recorded, extended=False)
            kept.go_on()
            return _finished(prepared, truth_of(prepared), kept, bars, kept.command, pool, shared)


def _share(case: Case, folder: Path | None, pool: Cluster | None, bars: Bars) -> None:
    """Have the workers, if there are any, compute the reference. Raises ClusterError if they do not see the folders."""
    if pool is None or folder is None:
        return
    for place in (folder, cache()):
        pool.require_shared(place)
    if case.reference is not None and not case.reference.exact:
        case = with_step(case)
        generate_in_pieces("reference", case, reference_request(case), pool, bars)


def _finished(
    prepared: Prepared,
    truth: Truth,
    kept: ComparisonFolder | None,
    bars: Bars,
    command: str,
    pool: Cluster | None,
    shared: bool,
) -> Comparison:
    """The comparison with every row: those that are kept, and the others, which are run."""
    found: list[Run] = []
    try:
        with interruptible() as asked:
            stopping = StoppingBars(bars, asked.is_set)
            tasks = None if pool is None else Tasks(pool, source(prepared.case), stopping)
            for run, new in _rows(prepared, truth, kept, tasks, stopping):
                found.append(run)
                if new and kept is not None:
                    _comparison(prepared, found, truth, command).write(kept.folder)
                if asked.is_set():
                    raise KeyboardInterrupt
            shared = shared or (pool is not None and pool.busy_here())
            judged = _judged(prepared, found, truth, stopping, tasks)
            shared = shared or (pool is not None and pool.busy_here())
            studied = parameter_study.variables(prepared, truth.states, stopping)
    except KeyboardInterrupt:
        if kept is None:
            raise
        raise Interrupted(f"interrupted. Resume with: subgrid resume {kept.folder}") from None
    result = _comparison(prepared, found, truth, command, studied, *judged, shared=shared)
    if kept is not None:
        result.write(kept.folder)
        kept.finish()
    return result


def _rows(
    prepared: Prepared, truth: Truth, kept: ComparisonFolder | None, tasks: Tasks | None, bars: StoppingBars
) -> Iterator[tuple[Run, bool]]:
    """The rows in order, each with whether it was run now; those that are kept are not."""
    made, shapes = makers(prepared, bars), truth.shapes(prepared)
    known = [None if kept is None else kept.load(i, shapes) for i in range(len(made))]
    missing = [i for i, run in enumerate(known) if run is None]
    if tasks is None or kept is None or not missing:
        for i, make in enumerate(made):
            run = known[i]
            if run is None:
                run = scored(make(), truth, prepared)
                if kept is not None:
                    kept.save(i, run)
            yield run, i in missing
        return
    with closing(tasks.rows(kept, missing)) as arriving:
        for i in range(len(made)):
            while (run := known[i]) is None:
                j = next(arriving)
                known[j] = kept.load(j, shapes)
            yield run, i in missing


def _with_names(case: Case) -> Case:
    """The case with rows whose names tell them apart. Raises CaseError for names that cannot be used."""
    rows = named_rows(case.compare.closures)
    mistakes = row_mistakes(rows)
    if len(bare := [row.name for row in rows if not acting(row, case.folder)]) > 1 and not mistakes:
        mistakes = [f"compare.closures: {' and '.join(bare)} have no closure that acts. Remedy: keep one of them"]
    if mistakes:
        raise CaseError(case.title, mistakes)
    return case.model_copy(update={"compare": case.compare.model_copy(update={"closures": rows})})


def _judged(
    prepared: Prepared, found: list[Run], truth: Truth, bars: StoppingBars, tasks: Tasks | None
) -> tuple[list[Judgement], list[FrontierRun], list[Judgement]]:
    """Measure the costs of all runs in turns, and judge the rows and the runs of the frontier."""
    case, rows = prepared.case, simulated(prepared)
    ladder: list[FrontierRun] = []
    members = ladder_members(prepared, rows[0], found[0])
    if case.compare.frontier:
        runner = None if tasks is None else tasks.ladder
        ladder = frontier(prepared, truth, members, classical(prepared, rows), bars, runner)
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


def _comparison(
    prepared: Prepared,
    found: list[Run],
    truth: Truth,
    command: str,
    studied: parameter_study.Variables | None = None,
    judged: Sequence[Judgement] = (),
    ladder: Sequence[FrontierRun] = (),
    judged_ladder: Sequence[Judgement] = (),
    shared: bool = False,
) -> Comparison:
    """The comparison of the runs that there are so far; the first is the uncorrected one.

    Before all rows are finished, there are no judgements, but wall times of the single runs, of those that were timed.
    """
    judged = judged or [Judgement(wall=run.seconds_per_time or None) for run in found]
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
        shared=shared,
        **provenance(),
    )
    return Comparison(metrics, assemble(prepared, found, truth, studied))
