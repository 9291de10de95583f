"""Which classical closures are run on the finer grids of the frontier."""

from __future__ import annotations

import numpy as np

from subgrid.commands.comparison.frontier import FrontierRun, _Ladder
from subgrid.commands.comparison.rows import Run
from subgrid.commands.comparison.search import Method
from subgrid.solver.case.tables import ClosureTable
from subgrid.solver.grid import Grid

GRID, FINER = Grid((8,), (1.0,)), Grid((16,), (1.0,))
RUNS = {  # name -> seconds, errors
    "none": (1.0, (0.5, 0.5)),
    "beaten": (3.0, (0.4, 0.4)),
    "cheap": (2.0, (0.4, 0.3)),
    "good by one score": (3.8, (0.6, 0.2)),
    "good and dear": (3.9, (0.1, 0.3)),
    "dearer than a finer grid": (4.1, (0.1, 0.1)),
    "beaten by none": (1.5, (0.5, 0.6)),
}


def test_a_closure_goes_on_to_finer_grids_unless_a_cheaper_run_beats_it_or_it_costs_more_than_they_do(monkeypatch):
    tables = {name: ClosureTable(name="hyperviscosity", label=name) for name in RUNS if name != "none"}
    found = []
    for name, (seconds, _) in RUNS.items():
        run = Run(name, "none" if name == "none" else "classical", seconds_per_time=seconds)
        found.append(FrontierRun(run, GRID, Method("rk4", 0.1), tables.get(name)))
    best = Run("none", "none", seconds_per_time=0.1)  # on another grid: no rival here
    ladder = object.__new__(_Ladder)
    errors = {name: np.array(values) for name, (_, values) in RUNS.items()}
    monkeypatch.setattr(_Ladder, "_errors", lambda self, run: np.zeros(2) if run is best else errors[run.name])
    left = ladder._unbeaten([*found, FrontierRun(best, FINER, Method("rk4", 0.1), None)], GRID)
    assert left == [tables[name] for name in ("cheap", "good by one score", "good and dear")]
