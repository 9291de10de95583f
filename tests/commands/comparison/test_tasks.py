"""Comparisons whose rows and runs of the frontier are carried out by the workers of a cluster."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

import subgrid
from subgrid.closures.none import NoClosure
from subgrid.commands.cli import execute
from subgrid.commands.comparison import compare as compare_module
from subgrid.commands.comparison import frontier as frontier_module
from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.comparison.search import Method
from subgrid.ingest.cluster import Cluster, WorkersLost
from subgrid.solver.case.reading import check


class Own(NoClosure):
    """A closure without a name that a case file could have."""

    anything: Any = None


CASE = {
    "title": "rows by workers",
    "equation": {"name": "burgers", "viscosity": 0.02},
    "grid": {"shape": [16], "length": [6.283185307179586]},
    "time": {"end": 0.4, "step": 0.002, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "ensemble": {"members": 2},
    "output": {"every": 0.04},
    "reference": {"shape": [64], "step": 0.001, "trajectories": 2},
    "compare": {"closures": [{"name": "hyperviscosity", "every": 2}, {"path": "failing.py:Failing"}, "oracle"]},
}
FAILING = '''
import numpy as np

from subgrid.solver.closure import Closure, Tendency


class Failing(Closure):
    """Fails at its 100th step."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(view.state * (np.nan if view.step >= 100 else 0)), memory
'''
METHODS = {16: (Method("rk4", 0.01), []), 32: (Method("rk4", 0.04), [Method("rk4", 0.005)])}


@pytest.fixture
def case(tmp_path, monkeypatch) -> Path:
    """A case whose frontier has the same methods whatever they cost, one of which fails at its first step length."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "case.toml").write_text(tomli_w.dumps(CASE))
    monkeypatch.setattr(frontier_module, "search", chosen)
    monkeypatch.setattr(frontier_module._Ladder, "_unbeaten", lambda self, found, grid: self._classical)
    return tmp_path / "case.toml"


def chosen(prepared, grid, truth, members, window, steppers, seen):
    method, shorter = METHODS.get(grid.resolution[0], (Method("rk4", 0.005), []))
    return [(method, shorter)], ["rk4"]


def scores(folder: Path) -> dict:
    """metrics.json without costs, what follows from them, and the command."""
    found = json.loads((folder / "metrics.json").read_text())
    for row in (*found["rows"], *found["frontier"]):
        for name in ("cpu_seconds_per_time", "wall_seconds_per_time", "speedup", "beyond"):
            del row[name]
    del found["command"]
    return found


def rows(folder: Path) -> list[tuple[str, dict]]:
    """Every array and fact of the rows but the time."""
    found = []
    for file in sorted(folder.rglob("*.npz")):
        with np.load(file) as arrays:
            facts = json.loads(str(arrays["row"]))
            facts.pop("seconds_per_time")
            found.append((file.name, facts, {k: arrays[k].tobytes() for k in arrays.files if k != "row"}))
    return found


def test_rows_and_frontier_of_two_workers_are_those_of_one_process(case, tmp_path, monkeypatch, capsys):
    assert execute(["compare", str(case), "--out", str(tmp_path / "one"), "--json"]) == 0
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "other"))
    assert execute(["compare", str(case), "--out", str(tmp_path / "two"), "--json", "--workers", "2"]) == 0
    assert "Dask dashboard: http" in capsys.readouterr().err
    one, two = (Comparison.load(tmp_path / name) for name in ("one", "two"))
    assert [row.failed is None for row in two.metrics.rows] == [True, True, False, True]
    assert scores(tmp_path / "one") == scores(tmp_path / "two") and one.dataset.identical(two.dataset)
    assert len(rows(tmp_path / "two" / "rows")) == 4
    assert rows(tmp_path / "one" / "rows") == rows(tmp_path / "two" / "rows")
    ladders = [next((tmp_path / name).glob("frontier-*")) for name in ("cache", "other")]
    assert len(rows(ladders[1])) == len(two.metrics.frontier) and rows(ladders[0]) == rows(ladders[1])
    assert not list(ladders[1].glob("piece-*"))
    assert all(row.cpu_seconds_per_time > 0 for row in two.metrics.frontier)
    assert not two.metrics.shared and "beside other tasks" not in two.verdict


class InThisProcess(Cluster):
    """Carries out the tasks here, up to `lost_after` rows, after which the scheduler dies."""

    def __init__(self, lost_after: int | None = None) -> None:
        self.lost_after = lost_after

    def require_shared(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

    def busy_here(self):
        return False

    def carry_out(self, function, tasks, waiting=lambda: None):
        for i, task in enumerate(tasks):
            if function.__name__ == "_row" and i == self.lost_after:
                raise WorkersLost("the scheduler is gone")
            yield i, function(*task)
            waiting()


def test_the_same_command_continues_with_the_rows_that_are_there(case, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["compare", str(case), "--out", str(out), "--json", "--workers", "1"]
    monkeypatch.setattr(compare_module, "cluster", lambda workers, scheduler: nullcontext(InThisProcess(2)))
    assert execute(command) == 3
    kept = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in (out / "rows").iterdir()}
    assert len(kept) == 2
    monkeypatch.setattr(compare_module, "cluster", lambda workers, scheduler: nullcontext(InThisProcess()))
    assert execute(command) == 0
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in kept} == kept
    assert len(Comparison.load(out).metrics.rows) == 4
    assert execute(command) == 2  # it is done: nothing is left to continue


def test_a_damaged_piece_of_the_frontier_is_computed_again_when_it_is_deleted(case, tmp_path, monkeypatch, capsys):
    """As its message says."""

    class Lost(InThisProcess):
        def carry_out(self, function, tasks, waiting=lambda: None):
            for i, task in enumerate(tasks):
                if function.__name__ == "_run_of_frontier" and task[2]["shape"] == [32] and i == 1:
                    raise WorkersLost("the scheduler is gone")
                yield i, function(*task)

    command = ["compare", str(case), "--out", str(tmp_path / "out"), "--json", "--workers", "1"]
    monkeypatch.setattr(compare_module, "cluster", lambda workers, scheduler: nullcontext(Lost()))
    assert execute(command) == 3
    (piece,) = (tmp_path / "cache").glob("frontier-*/piece-*.npz")
    piece.write_bytes(b"{")
    monkeypatch.setattr(compare_module, "cluster", lambda workers, scheduler: nullcontext(InThisProcess()))
    assert execute(command) == 2
    assert "Remedy: delete it" in capsys.readouterr().err
    piece.unlink()
    assert execute(command) == 0
    assert not list(piece.parent.glob("piece-*"))


def test_costs_beside_other_tasks_are_marked_in_the_report(case, tmp_path):
    result = subgrid.compare(check(CASE, "case", tmp_path), out=tmp_path / "out", progress=False, shared=True)
    assert result.metrics.shared and "Costs were timed beside other tasks" in result.verdict
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["shared"]


def test_a_comparison_by_workers_needs_a_folder_and_closures_that_can_be_read_again(case, tmp_path):
    checked = check(CASE, "case", tmp_path)
    with pytest.raises(ValueError, match="the rows need a folder"):
        subgrid.compare(checked, workers=1, progress=False)
    with pytest.raises(ValueError, match="an instance"):
        subgrid.compare(checked, closures=[Own(anything=object())], out=tmp_path / "out", workers=1, progress=False)
    assert not (tmp_path / "out").exists()
