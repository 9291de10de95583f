"""Rows for networks: the time of a call for eight members over that of the steps of the model between two calls.

Of every row of every case that has the closure `regression`, with the row's weights and its steps between calls. A call
is what a run with the network takes longer than one without: its transforms of states and terms count. Other closures
of the row are a part of the model. Times are those of the processor, on one core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from timing import Row, ratio

import subgrid.cases
from subgrid.ingest.prepare import with_step
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case, CompareRow
from subgrid.solver.closure import Coupled, PluginError
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.initial.file import File
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.build import build_simulation

MEMBERS = tuple(range(8))
TURNS = 15
TURN = 0.02  # seconds of one


def networks() -> Iterator[tuple[str, Case, CompareRow]]:
    for path in sorted(Path(subgrid.cases.__file__).parent.glob("*.toml")):
        if "regression" in path.read_text(encoding="utf-8"):
            case = read(path, [])
            for row in case.compare.closures:
                if any(table.name == "regression" for table in row.closures) and not isinstance(_initial(case), File):
                    yield path.stem, with_step(case), row


def _initial(case: Case) -> Any:
    return case.reference.initial if case.reference and case.reference.initial else case.initial


def row(name: str, case: Case, chosen: CompareRow) -> Row:
    equation, grid = case.build_equation(), case.grid.grid()
    state = initial_state(_initial(case), equation, grid, MEMBERS, 0)
    closures = [table.couple(case.folder) for table in chosen.closures]
    others = [coupled for coupled in closures if coupled.name != "regression"]
    (network,) = (coupled for coupled in closures if coupled not in others)

    def simulation(closures: list[Coupled]) -> Simulation:
        return build_simulation(
            case, equation, grid, state, start=case.time.start, seed=0, members=MEMBERS, closures=closures,
            folder=case.folder, initial={},
        )  # fmt: skip

    runs = simulation(closures), simulation(others)
    seconds: list[list[float]] = []
    count = 1
    for turn in range(TURNS + 2):
        spent = [_spent(run, count * network.every) / count for run in runs]
        if not all(map(math.isfinite, spent)):
            break
        if turn > 1:  # the first one compiles
            seconds.append(spent)
        count = max(1, round(TURN / spent[0]))
    with_network, between = np.array(seconds).T
    call = with_network - between
    detail = f"{1e6 * np.median(call):9.0f} us a call, {1e6 * np.median(between):.0f} us for {network.every} steps"
    return ratio(f"call {name}, {chosen.name}"[:44], call, between, 1.0, False, detail)


def _spent(run: Simulation, steps: int) -> float:
    """Seconds of the processor for steps of a run; infinite where its network has made it unstable."""
    began = time.process_time()
    try:
        run.run(run.step_number + steps)
    except (PluginError, BlowUp):
        return math.inf
    return time.process_time() - began


def rows() -> Iterator[Row]:
    for name, case, chosen in networks():
        yield row(name, case, chosen)
