"""Which members the runs of the frontier have."""

from __future__ import annotations

import pytest

from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.row_runs import makers
from subgrid.commands.comparison.simulated_rows import ladder_members, simulated
from subgrid.commands.progress import Bars, StoppingBars
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check

CASE = {
    "title": "waves",
    "equation": {"name": "burgers", "viscosity": 5e-3},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.02, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.01},
    "reference": {
        "shape": [64],
        "step": 0.005,
        "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 8.0},
        "trajectories": 2,
    },
}


@pytest.mark.parametrize("own", [None, 0.0, 0.05])
@pytest.mark.parametrize("amplitude", [0.0, 0.05])
def test_members_of_the_frontier_differ_by_the_perturbation_of_the_case_not_of_a_row(
    amplitude, own, tmp_path, monkeypatch
):
    """Equal members would multiply its cost, and one of several that differ is no ensemble mean."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    row = {"label": "bare", "closures": [{"name": "none"}]} | ({} if own is None else {"perturbation": own})
    case = CASE | {"ensemble": {"members": 6, "perturbation": amplitude}, "compare": {"closures": [row]}}
    prepared = prepare(check(case, "case", tmp_path), tmp_path, with_reference=True, progress=lambda *_: None)
    run = makers(prepared, StoppingBars(Bars(quiet=True), lambda: False))[0]()
    found = ladder_members(prepared, simulated(prepared)[0], run)
    assert found == ((0, 3) if amplitude == 0 else (0, 1, 2, 3, 4, 5))


def test_a_comparison_runs_the_frontier_with_these_members(tmp_path, monkeypatch):
    """The uncorrected row has no spread here, and every run of the frontier has that of the case."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    row = {"label": "bare", "closures": [{"name": "none"}], "perturbation": 0.0}
    case = CASE | {"ensemble": {"members": 6, "perturbation": 0.05}, "compare": {"closures": [row]}}
    metrics = compare(check(case, "case", tmp_path), progress=False).metrics
    assert metrics.rows[0].spread_skill[-1] == 0
    assert metrics.frontier and all(run.spread_skill[-1] > 0 for run in metrics.frontier)
