"""The search for the methods of the frontier where no finer grid exists."""

from __future__ import annotations

import numpy as np

from subgrid.commands.comparison import ladder
from subgrid.commands.comparison.scores import Truth
from subgrid.commands.comparison.search import search
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check


def test_the_frontier_of_particles_is_a_ladder_of_steps(tmp_path, monkeypatch):
    """Several methods along cost and error, none of them the reference, from the output interval to short steps."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    data = {
        "title": "entities",
        "equation": {"name": "charged-particles", "softening": 0.3},
        "grid": {"entities": 5},
        "time": {"end": 1.0, "step": 0.01, "stepper": "velocity-verlet"},
        "initial": {"kind": "charged-particles"},
        "ensemble": {"members": 4},
        "output": {"every": 0.1},
        "reference": {"shape": [5], "step": 0.002, "stepper": "forest-ruth", "trajectories": 4},
    }
    prepared = prepare(check(data, "case", tmp_path), tmp_path, with_reference=True)
    truth = Truth.of(np.moveaxis(np.array(prepared.trajectories.state), 1, 0), prepared)
    (grid,) = ladder.ladder(prepared)
    methods, _ = search(prepared, grid, truth.states, (0, 1, 2, 3), len(truth.states))
    assert 3 <= len(methods) <= ladder.RUNGS
    errors = []
    for method, _ in methods:
        simulation = method.simulation(prepared, grid, (0, 1, 2, 3))
        simulation.run(round(1.0 / method.step))
        errors.append(np.linalg.norm(simulation.state - truth.states[-1]))
    assert (np.diff(errors) < 0).all() and errors[0] > 30 * errors[-1]
    steps = [method.step for method, _ in methods]
    assert min(steps) >= 2 * 0.002 - 1e-12 and max(steps) > 4 * min(steps)
