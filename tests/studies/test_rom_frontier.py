"""The speed-up of a reduced-order model and its interval, over classical runs of known cost and error; a small case."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import rom_frontier

    yield rom_frontier
    for name in ("rom_frontier", "rom", "rom_speed", "rom_baselines", "rom_calibration"):
        sys.modules.pop(name, None)


def timed(study, error, cost: float):
    return study.Timed("run", np.asarray(error, dtype=float), {"one": lambda: cost}, {"one": cost})


def test_the_interval_of_a_speed_up_is_that_of_the_mean_error(study):
    """Classical runs with cost = 1 / error at every parameter: C(e) / c = 1 / e for the mean e of the model."""
    ladder = [timed(study, np.full(16, e), 1 / e) for e in (1.0, 0.1, 0.01)]
    errors = np.random.default_rng(0).uniform(0.02, 0.2, 16)
    value, (low, high) = study.judged(timed(study, errors, 1.0), ladder, "one")
    assert value.value == pytest.approx(1 / errors.mean())
    weights = study.draws(16)
    expected = np.sort(1 / (weights @ errors))
    assert low == pytest.approx(np.quantile(expected, 0.025), rel=0.01)
    assert high == pytest.approx(np.quantile(expected, 0.975), rel=0.01)
    assert study.shown(value, (low, high)) == f"{value.value:.3g} [{low:.3g}, {high:.3g}]"


def test_a_common_factor_of_all_errors_leaves_no_interval(study):
    """Model and classical runs are drawn together: parameters that are hard for all of them cancel."""
    hard = np.random.default_rng(1).uniform(0.5, 2.0, 16)
    ladder = [timed(study, e * hard, 1 / e) for e in (1.0, 0.1, 0.01)]
    value, (low, high) = study.judged(timed(study, 0.05 * hard, 1.0), ladder, "one")
    assert [low, value.value, high] == pytest.approx([20.0] * 3)


def test_beyond_the_frontier_there_is_a_bound_without_end(study):
    ladder = [timed(study, np.full(4, e), 1 / e) for e in (1.0, 0.1)]
    text = study.shown(*study.judged(timed(study, np.full(4, 0.01), 1.0), ladder, "one"))
    assert text == "> 10 [10, -]"


def test_costs_are_the_least_of_turns(study):
    turns = []
    several = [timed(study, [0.1], 1.0) for _ in range(2)]
    for i, one in enumerate(several):
        one.cost.clear()
        one.work = {"one": lambda i=i: turns.append(i) or 10.0 - len(turns)}
    study.measure(several, "one")
    assert turns == [0, 1] * study.TURNS["one"]
    assert [one.cost["one"] for one in several] == [10.0 - len(turns) + 1, 10.0 - len(turns)]


def test_errors_are_over_unseen_parameters_and_a_finer_grid_is_better(study, tmp_path, monkeypatch):
    from subgrid.ingest.prepare import with_step
    from subgrid.ingest.sweep import runs
    from subgrid.solver.case.reading import read

    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    overrides = ["grid.shape=[20,20]", "reference.shape=[80,80]", "reference.step=0.0125", "time.end=0.1"]
    overrides += ["time.step=0.0125", "output.every=0.05", "sweep.test_counts=[2,2]"]
    case = with_step(read(STUDIES.parent / "cases" / "rom-burgers-2d-fine.toml", overrides))
    points = case.sweep.model_copy(update={"test_counts": (), "test_runs": 3}).test_points()
    found = study.classical(case, runs(case, points), points, 2, (1.0, 2.0, 4.0), (0.0125, 0.03))
    assert [run.name.partition(",")[0] for run in found] == ["20x20", "40x40"]  # 4 is the grid of the reference
    coarse, fine = found
    assert coarse.error.shape == (3,) and (fine.error > 0).all() and (fine.error < 0.5 * coarse.error).all()
    for how in study.TURNS:
        study.measure(found, how)
        assert 0 < coarse.cost[how] < fine.cost[how]
