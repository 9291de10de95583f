"""The time loop of a run with its record: outputs, checkpoints, progress, interrupts and the summary."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from subgrid.ingest.prepare import Prepared
from subgrid.solver.case.base import multiple
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.quantities import Quantity
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.diagnostics import Diagnostics
from subgrid.solver.simulation.record import MemoryRecord, Record
from subgrid.solver.simulation.schedule import Schedule, stops, wall_clock

from .progress import Bars, Interrupted, interruptible

if TYPE_CHECKING:
    import xarray as xr

STRIDE_SECONDS = 0.2  # upper bound on the wall time between callbacks, which draw bars, save and check for signals
Work = Callable[[Callable[[], bool]], None]  # advances a simulation to its end, unless it is asked to stop


def observed(prepared: Prepared, simulation: Simulation) -> dict[str, Quantity]:
    """Have the simulation measure its scalars; their names and units. Raises ValueError for a name that is taken."""
    simulation.diagnostics = Diagnostics(simulation, prepared.case.output.diagnostics)
    return simulation.diagnostics.quantities


def execute(
    prepared: Prepared, simulation: Simulation, record: Record | MemoryRecord, bars: Bars, work: Work | None = None
) -> xr.Dataset:
    """Advance a simulation to the end of the case, write its summary, and return its outputs, as `advance` does."""
    summary = advance(prepared, simulation, record, bars, work)
    return record.dataset().assign_attrs(summary=summary)


def advance(
    prepared: Prepared, simulation: Simulation, record: Record | MemoryRecord, bars: Bars, work: Work | None = None
) -> str:
    """Advance a simulation to the end of the case and write its summary, which is returned as JSON.

    work: in the place of the time loop of this process. Raises what the run raises, after the summary is written.
    """
    began = time.perf_counter()
    status = "done"
    error: Exception | None = None
    try:
        with interruptible() as asked:
            if work is None:
                _loop(prepared, simulation, record, bars, asked.is_set)
            else:
                work(asked.is_set)
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
    return json.dumps({"status": status, **summary})


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
