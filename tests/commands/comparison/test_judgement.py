"""Costs and speed-ups of a whole comparison, on a clock that each step advances by a known time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from subgrid.commands.comparison import cost, search
from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.ladder import ladder
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check
from subgrid.solver.simulation import Simulation

SECONDS = 1e-5  # of one step of one point
SCORES = ("relative_l2", "correlation_time", "spectrum_distance", "crps")
CASE = {
    "title": "decaying waves",
    "equation": {"name": "burgers", "viscosity": 5e-3},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"end": 0.4, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "reference"},
    "ensemble": {"members": 3},
    "output": {"every": 0.05},
    "reference": {
        "shape": [256],
        "step": 0.0025,
        "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 8.0, "scale": 25.0},
        "trajectories": 3,
    },
    "compare": {
        "closures": [
            {"name": "hyperviscosity", "every": 1, "rate": 20.0},
            {"name": "oracle", "every": 1},
        ]
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(metrics as plain data, grids of the ladder)."""
    folder = tmp_path_factory.mktemp("judged")
    clock = SimpleNamespace(now=0.0)
    advance = Simulation.run

    def run(self, last, *arguments, **options):
        before = self.step_number
        advance(self, last, *arguments, **options)
        points = self.grid.shape[0] * len(self.members) * (1 + len(self.closures))
        clock.now += SECONDS * points * (self.step_number - before)

    time = SimpleNamespace(process_time=lambda: clock.now, perf_counter=lambda: 2 * clock.now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        patch.setattr(Simulation, "run", run)
        patch.setattr(cost, "time", time)
        patch.setattr(search, "time", time)
        case = check(CASE, "case", folder)
        metrics = compare(case, progress=False).metrics.model_dump()
        prepared = prepare(case, folder, with_reference=True, progress=lambda *_: None)
    return metrics, [grid.shape[0] for grid in ladder(prepared)]


def test_costs_are_those_of_the_runs_on_the_clock(found):
    """Seconds of all steps of one unit of time, for rows and for every run of the frontier alike."""
    metrics, _ = found
    for row, closures in zip(metrics["rows"], (0, 1, 1), strict=True):
        expected = SECONDS * 32 * 3 * (1 + closures) / 0.01
        assert row["cpu_seconds_per_time"] == pytest.approx(expected, rel=1e-9)
        assert row["wall_seconds_per_time"] == pytest.approx(2 * expected, rel=1e-9)
    for row in metrics["frontier"]:
        closures = 1 if row["kind"] == "classical" else 0
        expected = SECONDS * row["shape"][0] * 3 * (1 + closures) / row["step"]
        assert row["cpu_seconds_per_time"] == pytest.approx(expected, rel=1e-9)


def test_every_grid_of_the_ladder_is_on_the_frontier_and_the_reference_is_not(found):
    metrics, grids = found
    assert len(grids) == 5 and grids[0] == 32 and grids[-1] == 128  # half of the reference's
    assert sorted({row["shape"][0] for row in metrics["frontier"]}) == grids


def test_speed_ups_follow_from_the_costs_and_scores_in_the_file(found):
    """C(e) / c with log C piecewise linear in log e between the runs that no cheaper one beats or ties, all of them.

    For rows without a closure or with a classical one the runs are those without a closure.
    """
    metrics, _ = found
    inside = 0
    for score in SCORES:
        sign = -1 if score == "correlation_time" else 1
        ladder = [(r["kind"], r["cpu_seconds_per_time"], r["means"][score] ** sign) for r in metrics["frontier"]]
        if score == "correlation_time" and all(r["means"][score] >= 0.4 for r in metrics["rows"]):
            continue  # a bound: no run decorrelates
        for row in metrics["rows"]:
            runs = [run for kind, *run in ladder if kind == "none" or row["kind"] == "oracle"]
            kept: list[list[float]] = []
            for run in sorted(runs):
                if not kept or run[1] < 0.99 * kept[-1][1]:
                    kept.append(run)
            runs = kept
            costs, errors = np.array(runs).T
            own, error = row["cpu_seconds_per_time"], row["means"][score] ** sign
            if errors[-1] <= error <= errors[0]:
                between = np.interp(math.log(error), np.log(errors[::-1]), np.log(costs[::-1]))
                assert row["speedup"][score][0] == pytest.approx(math.exp(between) / own, rel=1e-9), score
                assert score not in row["beyond"]
                inside += 1
            else:
                end, bound = (">", costs[-1]) if error < errors[-1] else ("<", costs[0])
                assert row["speedup"][score][0] is None
                assert row["beyond"][score] == (end, pytest.approx(bound / own, rel=1e-9)), score
    assert inside >= 4


def test_costs_are_measured_with_one_thread_of_blas_and_of_torch():
    """Threads that wait would count as CPU time. Afterwards both have the threads that they had."""

    def threads():
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return blas, torch.get_num_threads()

    seen = []
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        cost.measure([SimpleNamespace(turn=lambda: seen.append(threads()))])
        assert threads() == before
    assert before[0] and set(before[0]) == {2}
    assert len(seen) == cost.TURNS
    assert all(set(blas) == {1} and found == 1 for blas, found in seen)
