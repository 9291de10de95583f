"""Rollouts of members that have fewer entities than others."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.commands import rollouts
from subgrid.commands.progress import Bars
from subgrid.solver.case.reading import check

CASE = {
    "title": "charges",
    "equation": {"name": "charged-particles", "softening": 0.1},
    "grid": {"entities": 5},
    "time": {"end": 0.2, "step": 0.05, "stepper": "velocity-verlet"},
    "initial": {"kind": "charged-particles"},
    "ensemble": {"members": 4, "entities": [5, 3]},
    "output": {"every": 0.05},
    "reference": {"shape": [5], "step": 0.005, "trajectories": 2, "restrict": "subsample"},
    "training": {"trajectories": 4, "start": 0.0, "end": 0.2, "every": 0.05, "validation": 2},
}


@pytest.mark.parametrize("score", ["relative_l2", "correlation_time", "crps"])
def test_what_is_not_real_does_not_count_and_closures_know_it(score, monkeypatch, tmp_path):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    scored, seen, errors = rollouts.Rollouts(check(CASE, "case", tmp_path), score, Bars(quiet=True)), [], []
    build = rollouts.build_simulation
    for shift in (0.0, 100.0):

        def shifted(case, equation, grid, state, *, mask=None, **options):
            seen.append(mask)
            state = state.copy()
            state[len(state) // 2 :, :3, 3:] += shift  # noqa: B023
            return build(case, equation, grid, state, mask=mask, **options)

        monkeypatch.setattr(rollouts, "build_simulation", shifted)
        errors.append(scored((), 0.0))
    assert seen[0].sum(axis=1).tolist() == ([5, 5, 3, 3] if score == "crps" else [5, 3])
    assert np.isfinite(errors[0]) and errors[1] == pytest.approx(errors[0], rel=1e-9)
