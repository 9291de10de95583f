"""`subgrid.run` and `subgrid.resume`: one simulation, with outputs in memory or in a run folder."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgrid.ingest.given_closures import with_closures
from subgrid.ingest.prepare import Prepared, prepare
from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import CaseError, read
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.equations.quantities import Quantity
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.diagnostics import Diagnostics
from subgrid.solver.simulation.folder import require_inputs, require_reference, require_vacant, stored_inputs
from subgrid.solver.simulation.record import MemoryRecord, Record
from subgrid.solver.simulation.schedule import Schedule, stops, wall_clock

from .progress import Bars, Interrupted, interruptible, watching

if TYPE_CHECKING:
    import xarray as xr

LOG = logging.getLogger("subgrid")
STRIDE_SECONDS = 0.2  # upper bound on the wall time between callbacks, which draw bars, save and check for signals


@plugin_errors()
def run(
    case: Case,
    *,
    closures: Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Bars = True,
) -> xr.Dataset:
    """Run a case and return its outputs, (time, member, *grid), with units, and its invariants, (time, member).

    closures: used in place of the closures of the case; names, tables, instances or sums of these. out: a new folder
    for the run, which can then be resumed (a run of instances cannot); without it nothing is written. progress: whether
    to draw a progress bar. `attrs["summary"]` is JSON: status, steps, seconds by part, calls of each closure, final
    invariants; for steps by Courant number also the number of intervals between closures and outputs, and the steps are
    those of the member that took the most (null for a run that an earlier version began).

    Raises CaseError for a wrong case, and for one with groups of outputs without `out`, RunFolderError for a folder
    that is not vacant, ClosureError if a closure refuses the case, and BlowUp, ClosureError or another PluginError if
    the run fails. With `out`, the outputs up to a failure are kept, and an interrupted run writes a checkpoint and
    raises Interrupted.
    """
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
    if closures is not None:
        case = with_closures(case, closures)
    with watching(progress) as bars:
        prepared = prepare(case, case.folder, with_reference=False, progress=bars)
        dump = None if folder is None else folder / "guard.npz"
        simulation = prepared.simulation(prepared.case.closure, dump=dump)
        quantities = _observed(prepared, simulation)
        if folder is None:
            return _execute(prepared, simulation, MemoryRecord(prepared.case, quantities), bars)
        reference = prepared.trajectories.directory if prepared.trajectories else None
        with closing(Record.create(folder, prepared.case, quantities, reference)) as record:
            record.log("start", case=prepared.case.title)
            return _execute(prepared, simulation, record, bars)


@plugin_errors()
def resume(
    folder: str | os.PathLike[str],
    *,
    until: float | None = None,
    progress: bool | Bars = True,
) -> xr.Dataset:
    """Continue the run in a folder from its last checkpoint; the result is bitwise that of an uninterrupted run.

    until: a new end, later than the checkpoint, also of a run that is done; the result is bitwise that of a run with
    time.end = until. Returns and raises the same as `run`. A case with plug-ins that are named by `path` is code, and
    so is a run folder.

    Raises RunFolderError, before anything is written, if the case or a file that it names changed since the run began,
    if the checkpoint or an output before it is damaged, or if the folder contains a symbolic link.
    """
    folder = Path(os.path.abspath(folder))
    with watching(progress) as bars, closing(Record.open(folder)) as record:
        require_inputs(folder)
        arrays = record.checkpoint()
        before = case = read(folder / "case.toml")
        if until is not None:
            _require_later(until, before, 0 if arrays is None else arrays.get("step"))
            case = read(folder / "case.toml", [f"time.end={float(until)!r}"])
        prepared = prepare(case, folder, with_reference=False, progress=bars)
        reference = prepared.trajectories.directory if prepared.trajectories else None
        require_reference(folder, reference, extended=until is not None)
        simulation = prepared.simulation(prepared.case.closure, dump=folder / "guard.npz")
        if arrays is not None:
            try:
                simulation.restore(arrays)
                if simulation.step_number > prepared.case.steps():
                    raise DamagedFile(f"step {simulation.step_number} is beyond the end, {prepared.case.steps()} steps")
            except (ValueError, TypeError, IndexError) as error:  # whatever the arrays of the file lead to
                raise record.damaged(error) from None
        quantities = _observed(prepared, simulation)
        record.require_outputs(prepared.case, quantities, simulation.step_number)
        if stored_inputs(folder) is None:
            LOG.warning("%s was made by a version that stored no hashes of its inputs: they are not compared", folder)
        repaired = record.go_on(before, prepared.case, quantities, reference)
        record.log("resume", step=simulation.step_number, repaired=repaired)
        return _execute(prepared, simulation, record, bars)


def _observed(prepared: Prepared, simulation: Simulation) -> dict[str, Quantity]:
    """Have the simulation measure its scalars; their names and units. Raises ValueError for a name that is taken."""
    simulation.diagnostics = Diagnostics(simulation, prepared.case.output.diagnostics)
    return simulation.diagnostics.quantities


def _require_later(until: float, case: Case, step: Any) -> None:
    """Raise ValueError unless the run can be extended to the time `until`."""
    start, h = case.time.start, case.step
    count = (until - start) / h
    if not math.isfinite(count):
        raise ValueError(f"--until: expected a time, found {until!r}")
    at = start + h * int(step) if np.shape(step) == () and np.isfinite(step) else start
    if until <= at + 0.5 * h:
        raise ValueError(f"--until: the run has reached t = {at:.10g}, found {until:.10g}. Remedy: a later time")
    try:
        multiple(until - start, h)
    except ValueError:
        below, above = (start + h * n for n in (math.floor(count), math.ceil(count)))
        raise ValueError(
            f"--until: {until:.10g} is not the time of a step. Remedy: {below:.10g} or {above:.10g}"
        ) from None


def _execute(prepared: Prepared, simulation: Simulation, record: Record | MemoryRecord, bars: Bars) -> xr.Dataset:
    began = time.perf_counter()
    status = "done"
    error: Exception | None = None
    try:
        with interruptible() as asked:
            _loop(prepared, simulation, record, bars, asked.is_set)
    except (BlowUp, PluginError) as failure:
        status, error = "failed", failure
    except Interrupted as stop:
        status, error = "interrupted", stop
    except (OSError, MemoryError) as failure:
        status, error = "failed", failure
    summary = {
        "steps": simulation.taken,
        **({} if prepared.case.time.cfl is None else {"intervals": simulation.step_number}),
        "time": simulation.time,
        "seconds": {**simulation.seconds, "total": time.perf_counter() - began},
        "closures": [
            {
                "name": c.name,
                "every": c.every,
                "calls": c.calls,
                "skips": c.skips,
                "declined": c.declined,
                "seconds": c.seconds,
            }
            for c in simulation.closures
        ],
        "invariants": _final_invariants(simulation, failed=error is not None),
        "error": str(error) if error else None,
    }
    if isinstance(record, Record):
        try:
            record.flush()
            record.log(status, step=simulation.step_number, error=summary["error"])
            record.summarise(status, **summary)
        except OSError:
            if not error:
                raise
    if error:
        raise error
    return record.dataset().assign_attrs(summary=json.dumps({"status": status, **summary}))


def _final_invariants(simulation: Simulation, failed: bool) -> dict[str, list[float | None]]:
    """The invariants of the last state; none where the failure of a run is that of the equation's plug-in."""
    try:
        values = simulation.invariants()
    except PluginError:
        if not failed:
            raise
        return {}
    return {k: [float(x) if np.isfinite(x) else None for x in v] for k, v in values.items()}


def _loop(
    prepared: Prepared,
    simulation: Simulation,
    record: Record | MemoryRecord,
    bars: Bars,
    asked: Callable[[], bool],
) -> None:
    case, diagnostics = prepared.case, simulation.diagnostics
    assert diagnostics is not None
    steps, resumed_at, adaptive = case.steps(), simulation.step_number, case.time.cfl is not None
    outputs = record.stops()
    wall = case.output.checkpoint_seconds()
    saves = None if wall is not None else Schedule(0, steps, multiple(float(case.output.checkpoint_every), case.step))
    saved = drawn = time.monotonic()
    note = ""

    def save() -> None:
        nonlocal saved
        if isinstance(record, Record) and not simulation.cut:  # see `Simulation.checkpoint`
            record.save(simulation.checkpoint())
        saved = time.monotonic()

    def at(n: int) -> None:
        nonlocal drawn, note
        if record.due(n):
            state = simulation.state
            record.write_frame(n, state, diagnostics.measure(state) if outputs[0].due(n) else None)
        now = time.monotonic()
        due = saves.due(n) if saves else wall is not None and now - saved > wall
        if due and n > resumed_at and not simulation.leaping:
            save()
        if now - drawn > 1.0:
            drawn = now
            share = simulation.seconds["closure"] / max(1e-12, sum(simulation.seconds.values()))
            note = f"{diagnostics.line()}, closure {share:.0%} of the time"
            if adaptive and simulation.taken is not None:
                note = f"{simulation.taken} steps, {note}"
        bars(n, steps, "run, intervals" if adaptive else "run", note)
        if asked() and not simulation.leaping:
            if not isinstance(record, Record):
                raise KeyboardInterrupt
            save()
            reached = f"t = {simulation.time:g}" if adaptive else f"step {n}"
            raise Interrupted(f"interrupted at {reached}. Resume with: subgrid resume {record.folder}")

    events = stops(*outputs, *([saves] if saves else []), stride=wall_clock(simulation, STRIDE_SECONDS))
    simulation.run(steps, events, at, output_every=math.gcd(*(schedule.every for schedule in outputs)))
    save()
