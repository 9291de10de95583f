"""`subgrid run` and `subgrid resume`: one simulation, recorded."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.ingest.prepare import Prepared, prepare
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import ClosureError
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.record import Record, require_vacant

from .progress import Bars, Interrupted, interruptible

STRIDE_SECONDS = 0.2  # the loop comes up for air this often, to draw, to save and to see a signal


def run(case: Case, folder: Path, out: Path, bars: Bars) -> dict[str, Any]:
    """Run a case into the new folder `out`; returns the summary.

    Raises RunFolderError if `out` is taken, ClosureError if a closure refuses the case (nothing is written), BlowUp or
    ClosureError if the run fails (everything up to the failure is kept), Interrupted after a checkpoint.
    """
    require_vacant(out)
    prepared = prepare(case, folder, with_reference=False, progress=bars)
    simulation = prepared.simulation(prepared.case.closure, dump=out / "guard.npz")
    record = Record.create(out, prepared.case, prepared.grid)
    with closing(record):
        record.log("start", case=prepared.case.title)
        return _execute(prepared, simulation, record, bars)


def resume(out: Path, bars: Bars) -> dict[str, Any]:
    """Continue the run in `out` from its last checkpoint; the result has the bytes of an uninterrupted run."""
    record = Record.open(out)
    with closing(record):
        prepared = prepare(read(out / "case.toml"), out, with_reference=False, progress=bars)
        simulation = prepared.simulation(prepared.case.closure, dump=out / "guard.npz")
        if (arrays := record.checkpoint()) is not None:
            simulation.restore(arrays)
        record.log("resume", step=simulation.step_number)
        return _execute(prepared, simulation, record, bars)


def _execute(prepared: Prepared, simulation: Simulation, record: Record, bars: Bars) -> dict[str, Any]:
    began = time.perf_counter()
    status = "done"
    error: Exception | None = None
    try:
        with interruptible() as asked:
            _loop(prepared, simulation, record, bars, asked.is_set)
    except (BlowUp, ClosureError) as failure:
        status, error = "failed", failure
    except Interrupted as stop:
        status, error = "interrupted", stop
    summary = {
        "steps": simulation.step_number,
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
        "invariants": _invariants(simulation),
        "error": str(error) if error else None,
    }
    record.log(status, step=simulation.step_number, error=summary["error"])
    record.summarise(status, **summary)
    if error:
        raise error
    return {"status": status, **summary}


def _invariants(simulation: Simulation) -> dict[str, list[float]]:
    values = simulation.equation.invariants(simulation.state, simulation.grid)
    return {k: [float(x) if np.isfinite(x) else None for x in v] for k, v in values.items()}  # type: ignore[misc]


def _loop(prepared: Prepared, simulation: Simulation, record: Record, bars: Bars, asked: Any) -> None:
    case = prepared.case
    every = multiple(case.output.every, case.step)
    names = [f.name for f in prepared.equation.fields]
    wall = case.output.checkpoint_seconds()
    save_every = 0 if wall is not None else multiple(float(case.output.checkpoint_every), case.step)
    steps, resumed_at = case.steps(), simulation.step_number
    saved = drawn = time.monotonic()
    pace = 1e-3
    note = ""

    def save() -> None:
        nonlocal saved
        record.save(simulation.checkpoint())
        saved = time.monotonic()

    def at(n: int) -> None:
        nonlocal drawn, note, pace
        if n > resumed_at:
            pace = max(1e-6, simulation.seconds["step"] / (n - resumed_at))
        if n % every == 0:
            record.write_frame(n // every, simulation.state, names)
        now = time.monotonic()
        due = n % save_every == 0 if save_every else wall is not None and now - saved > wall
        if due and n > resumed_at and not simulation.leaping:
            save()
        if now - drawn > 1.0:
            drawn = now
            values = prepared.equation.invariants(simulation.state, simulation.grid)
            share = simulation.seconds["closure"] / max(1e-12, sum(simulation.seconds.values()))
            note = ", ".join(f"{k} {v.mean():.4g}" for k, v in values.items()) + f", closure {share:.0%} of the time"
        bars(n, steps, "run", note)
        if asked() and not simulation.leaping:
            save()
            raise Interrupted(f"interrupted at step {n}; go on with: subgrid resume {record.folder}")

    def events(n: int) -> int:
        ahead = [every - n % every, max(1, int(STRIDE_SECONDS / pace))]
        if save_every:
            ahead.append(save_every - n % save_every)
        return min(ahead)

    simulation.run(steps, events, at, output_every=every)
    save()
