"""`subgrid.run` and `subgrid.resume`: one simulation, with outputs in memory or in a run folder."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgrid.closures.learning.learned_closure import require_weights
from subgrid.ingest.cluster import Cluster, cluster
from subgrid.ingest.given_closures import with_closures
from subgrid.ingest.pieces import Kind, generate_in_pieces
from subgrid.ingest.prepare import Prepared, needed_reference, prepare, with_step
from subgrid.ingest.requests import start_request
from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import CaseError, read
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.equations.quantities import Quantity
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.blocks import require_separate
from subgrid.solver.simulation.folder import require_inputs, require_reference, require_vacant, stored_inputs
from subgrid.solver.simulation.record import MemoryRecord, Record

from .execution import advance, execute, observed
from .member_blocks import Blocks, drop_joined, has_blocks
from .progress import Bars, watching

if TYPE_CHECKING:
    import xarray as xr

LOG = logging.getLogger("subgrid")


@plugin_errors()
def run(
    case: Case,
    *,
    closures: Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Bars = True,
    workers: int | None = None,
    scheduler: str | None = None,
) -> xr.Dataset:
    """Run a case and return its outputs, (time, member, *grid), with units, and its invariants, (time, member).

    closures: used in place of the closures of the case; names, tables, instances or sums of these. out: a new folder
    for the run, which can then be resumed (a run of instances cannot); without it nothing is written. progress: whether
    to draw a progress bar. `attrs["summary"]` is JSON: status, steps, seconds by part, calls of each closure, final
    invariants; for steps by Courant number also the number of intervals between closures and outputs, and the steps are
    those of the member that took the most (null for a run that an earlier version began). workers, scheduler: blocks of
    members are run by so many processes on this machine, or by those of the Dask scheduler at an address, which must
    see `out`; the folder has the bytes of one process, times excepted.

    Raises CaseError for a wrong case, and for one with groups of outputs without `out`, RunFolderError for a folder
    that is not vacant, ClosureError if a closure refuses the case, and BlowUp, ClosureError or another PluginError if
    the run fails; with workers also ValueError for members that cannot be divided, ClusterError and WorkersLost. With
    `out`, the outputs up to a failure are kept, and an interrupted run writes a checkpoint and
    raises Interrupted.
    """
    Case.require(case)
    folder = None if out is None else Path(os.path.abspath(out))  # a plug-in may change the working directory
    if folder is not None:
        require_vacant(folder)
    elif case.output.groups:
        raise CaseError(
            case.title,
            [
                "output.groups: a run in memory returns the outputs of [output] alone. Remedy: run(case, out=FOLDER), "
                'which writes each group to FOLDER/groups/NAME.zarr, or read_case(CASE, {"output.groups": {}})'
            ],
        )
    by_blocks = workers is not None or scheduler is not None
    if by_blocks and folder is None:
        raise ValueError("workers and scheduler: the members need a folder. Remedy: out = FOLDER")
    if by_blocks and closures is not None and not all(isinstance(c, (str, dict)) for c in closures):
        raise ValueError("workers and scheduler: closures must be names or tables, which a worker can read")
    if closures is not None:
        case = with_closures(case, closures)
    require_weights(case.title, case.closure, case.folder)
    with cluster(workers, scheduler) as pool, watching(progress) as bars:
        if pool is not None and folder is not None:
            _share(case, folder, pool, bars)
        prepared = prepare(case, case.folder, with_reference=False, progress=bars)
        dump = None if folder is None else folder / "guard.npz"
        simulation = prepared.simulation(prepared.case.closure, dump=dump)
        quantities = observed(prepared, simulation)
        if folder is None:
            return execute(prepared, simulation, MemoryRecord(prepared.case, quantities), bars)
        if pool is not None:
            require_separate(prepared.case, simulation)
        with _begun(prepared, quantities, folder) as record:
            return _execute(prepared, simulation, record, bars, pool)


@plugin_errors()
def run_point(case: Case, folder: Path) -> None:
    """Run a case in a new folder, as `run` does, in this process and without opening the outputs at the end.

    To open a store takes as long as a short run, and a sweep reads the summaries alone. Raises the same as `run`.
    """
    require_vacant(folder)
    prepared = prepare(case, case.folder, with_reference=False)
    simulation = prepared.simulation(prepared.case.closure, dump=folder / "guard.npz")
    quantities = observed(prepared, simulation)
    with _begun(prepared, quantities, folder) as record:
        advance(prepared, simulation, record, Bars(quiet=True))


def _begun(prepared: Prepared, quantities: Mapping[str, Quantity], folder: Path) -> closing[Record]:
    """The record of a new run, to be closed at the end."""
    record = Record.create(folder, prepared.case, quantities, prepared.recorded)
    record.log("start", case=prepared.case.title)
    return closing(record)


@plugin_errors()
def resume(
    folder: str | os.PathLike[str],
    *,
    until: float | None = None,
    progress: bool | Bars = True,
    workers: int | None = None,
    scheduler: str | None = None,
) -> xr.Dataset:
    """Continue the run in a folder from its last checkpoint; the result is bitwise that of an uninterrupted run.

    until: a new end, later than the checkpoint, also of a run that is done; the result is bitwise that of a run with
    time.end = until. workers, scheduler: as for `run`; a run that was begun with them goes on with or without them, one
    that one process has begun without. Returns and raises the same as `run`. A case with plug-ins that are named by
    `path` is code, and so is a run folder.

    Raises RunFolderError, before anything is written, if the case or a file that it names changed since the run began,
    if the checkpoint or an output before it is damaged, or if the folder contains a symbolic link.
    """
    folder = Path(os.path.abspath(folder))
    by_blocks = workers is not None or scheduler is not None
    with cluster(workers, scheduler) as pool, watching(progress) as bars, closing(Record.open(folder)) as record:
        require_inputs(folder)
        in_blocks = has_blocks(folder)
        drop_joined(folder)
        if until is not None and (by_blocks or has_blocks(folder)):
            raise ValueError("--until: blocks of members end at time.end. Remedy: resume the run without --until first")
        arrays = record.checkpoint()
        if by_blocks and arrays is not None and not in_blocks:
            begun = "one process has begun this run, or it is done"
            raise ValueError(f"--workers and --scheduler: {begun}. Remedy: resume without them")
        if pool is not None:
            pool.require_shared(folder)
        before = case = read(folder / "case.toml")
        if until is not None:
            _require_later(until, before, 0 if arrays is None else arrays.get("step"))
            case = read(folder / "case.toml", [f"time.end={float(until)!r}"])
        prepared = prepare(case, folder, with_reference=False, progress=bars)
        reference = prepared.recorded
        require_reference(folder, reference, extended=until is not None)
        simulation = prepared.simulation(prepared.case.closure, dump=folder / "guard.npz")
        if arrays is not None:
            try:
                simulation.restore(arrays)
                if simulation.step_number > prepared.case.steps():
                    raise DamagedFile(f"step {simulation.step_number} is beyond the end, {prepared.case.steps()} steps")
            except (ValueError, TypeError, IndexError) as error:  # whatever the arrays of the file lead to
                raise record.damaged(error) from None
        if pool is not None:
            require_separate(prepared.case, simulation)
        quantities = observed(prepared, simulation)
        record.require_outputs(prepared.case, quantities, simulation.step_number)
        if stored_inputs(folder) is None:
            LOG.warning("%s was made by a version that stored no hashes of its inputs: they are not compared", folder)
        repaired = record.go_on(before, prepared.case, quantities, reference)
        record.log("resume", step=simulation.step_number, repaired=repaired)
        return _execute(prepared, simulation, record, bars, pool if arrays is None else None)  # else joined already


def _execute(
    prepared: Prepared, simulation: Simulation, record: Record, bars: Bars, pool: Cluster | None
) -> xr.Dataset:
    """In blocks of members, if there are workers or blocks that were begun; else in this process alone."""
    if pool is None and not has_blocks(record.folder):
        return execute(prepared, simulation, record, bars)
    found = execute(prepared, simulation, record, bars, Blocks(prepared, simulation, record, pool, bars).carry_out)
    drop_joined(record.folder)
    return found


def _share(case: Case, folder: Path, pool: Cluster, bars: Bars) -> None:
    """Have the workers compute the reference that the run needs. Raises ClusterError for a folder they lack."""
    pool.require_shared(folder)
    case = with_step(case)
    if (request := needed_reference(case, case.folder, with_reference=False)) is not None:
        kind: Kind = "start" if request == start_request(case) else "reference"
        generate_in_pieces(kind, case, request, pool, bars)


def _require_later(until: float, case: Case, step: Any) -> None:
    """Raise ValueError unless the run can be extended to the time `until`."""
    start, h = case.time.start, case.step
    count = (until - start) / h
    if not math.isfinite(count):
        raise ValueError(f"--until: expected a time, found {until!r}")
    at = start + h * int(step) if np.shape(step) == () and np.isfinite(step) else start
    if until <= at + 1e-6 * h:
        raise ValueError(f"--until: the run has reached t = {at:.10g}, found {until:.10g}. Remedy: a later time")
    try:
        multiple(until - start, h)
    except ValueError:
        near = (start + h * n for n in (math.floor(count), math.ceil(count)))
        remedy = " or ".join(f"{time:.10g}" for time in near if time > at + 1e-6 * h)
        raise ValueError(f"--until: {until:.10g} is not the time of a step. Remedy: {remedy}") from None
