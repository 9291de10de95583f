"""Runs whose members are divided among the workers of a cluster: the bytes of one process."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import subgrid
from subgrid.closures.none import NoClosure
from subgrid.commands import run as run_module
from subgrid.commands.cli import execute
from subgrid.ingest.cluster import GONE, WorkersLost
from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.case.reading import check
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.blocks import joined_checkpoint
from subgrid.solver.simulation.record import Record

FIELD = {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 7.0}
FLOW = {
    "title": "members in blocks",
    "equation": {"name": "kolmogorov", "viscosity": 2e-3},
    "grid": {"shape": [32, 32], "length": [6.283185307179586, 6.283185307179586]},
    "time": {"end": 0.2, "step": 0.01, "stepper": "cnab2"},
    "initial": FIELD,
    "ensemble": {"members": 21, "seed": 5, "perturbation": 0.01},
    "output": {"every": 0.05, "derived": ["streamfunction"], "checkpoint_every": 0.05},
}
OWN = """
from subgrid.solver.closure import Closure, Tendency


class Own(Closure):
    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(view.state - view.state.mean(axis=0)), memory
"""
NOISE = {"kind": "q-wiener", "amplitude": 0.6, "correlation": 0.1}
CASES = {
    "multistep": {},
    "eddy viscosity": {"closure": [{"name": "smagorinsky", "every": 2, "hold": "linear"}, {"name": "hyperviscosity"}]},
    "its kin": {"closure": [{"name": n} for n in ("backscatter", "dynamic-smagorinsky", "gradient", "leith")]},
    "exponential": {"time": {"end": 0.2, "step": 0.01, "stepper": "etdrk4"}, "precision": "float32"},
    "noise, groups": {
        "equation": {"name": "burgers", "viscosity": 0.02, "noise": NOISE},
        "grid": {"shape": [64], "length": [6.283185307179586]},
        "time": {"end": 0.2, "step": 0.01, "stepper": "rk4"},
        "output": {"every": 0.05, "groups": {"often": {"every": 0.01, "stride": 2}}},
    },
    "Courant number": {
        "equation": {"name": "shallow-water"},
        "time": {"end": 0.2, "cfl": 0.4, "step": 0.05, "stepper": "ssp-rk3"},
        "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 3.0},
        "output": {"every": 0.05},
    },
}


def tables(name: str = "multistep") -> dict:
    return FLOW | CASES[name]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run, without those that hold times."""
    found = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return {k: v for k, v in found.items() if k not in ("log.jsonl", "summary.json")}


def summary(folder: Path) -> dict:
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found.pop("seconds")
    for closure in found["closures"]:
        closure.pop("seconds")
    return found


def require_equal(folder: Path, whole: Path) -> None:
    found, expected = contents(folder), contents(whole)
    assert found.keys() == expected.keys()
    assert not [k for k in found if found[k] != expected[k]]
    assert summary(folder) == summary(whole)


class Pool:
    """The workers of a cluster, in this process: the tasks in reverse order, of which the first `most` are done."""

    def __init__(self, most: int = 99) -> None:
        self._most = most

    def require_shared(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def carry_out(self, function, tasks, waiting=lambda: None):
        for count, i in enumerate(reversed(range(len(tasks)))):
            if count == self._most:
                raise WorkersLost(GONE)
            yield i, function(*tasks[i])


def use(monkeypatch, pool: Pool) -> dict:
    """Have runs with workers use the pool; the argument for it."""
    monkeypatch.setattr(run_module, "cluster", lambda workers, scheduler: nullcontext(workers and pool))
    return {"workers": 1, "progress": False}


@pytest.mark.parametrize("name", CASES)
def test_the_blocks_make_the_run_of_one_process(name, tmp_path, monkeypatch):
    case = check(tables(name), "case", tmp_path)
    subgrid.run(case, out=tmp_path / "whole", progress=False)
    found = subgrid.run(case, out=tmp_path / "blocks", **use(monkeypatch, Pool()))
    require_equal(tmp_path / "blocks", tmp_path / "whole")
    assert found.sizes["member"] == 21


def test_a_run_without_its_workers_goes_on_from_the_checkpoints_of_its_blocks(tmp_path, monkeypatch):
    case = check(tables("eddy viscosity"), "case", tmp_path)
    subgrid.run(case, out=tmp_path / "whole", progress=False)
    out = tmp_path / "blocks"
    with pytest.raises(WorkersLost, match=f"Remedy: subgrid resume {out}"):
        subgrid.run(case, out=out, **use(monkeypatch, Pool(1)))
    with pytest.raises(ValueError, match="--until: blocks of members"):
        subgrid.resume(out, until=0.3, progress=False)
    complete = (out / "blocks" / "000016-000020" / "summary.json").read_bytes()
    broken = Record.save

    def stop(self, arrays):
        broken(self, arrays)
        if arrays["step"] == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Record, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        subgrid.resume(out, **use(monkeypatch, Pool()))
    monkeypatch.setattr(Record, "save", broken)
    assert (out / "blocks" / "000008-000015" / "checkpoint" / "state.npz").exists()
    assert (out / "blocks" / "000016-000020" / "summary.json").read_bytes() == complete
    seen = []
    monkeypatch.setattr(
        Simulation, "restore", lambda self, a, of=Simulation.restore: (seen.append(int(a["step"])), of(self, a))
    )
    subgrid.resume(out, progress=False)
    assert seen == [10, 20]  # of the block that was stopped, and of all members
    require_equal(out, tmp_path / "whole")
    monkeypatch.undo()
    subgrid.resume(out, until=0.3, progress=False)
    longer = check(tables("eddy viscosity") | {"time": FLOW["time"] | {"end": 0.3}}, "case", tmp_path)
    subgrid.run(longer, out=tmp_path / "longer", progress=False)
    fields = [{k: v for k, v in contents(f).items() if k.startswith("fields")} for f in (out, tmp_path / "longer")]
    assert fields[0] == fields[1]


def killed() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [None, 1])
@pytest.mark.parametrize("at", ["drop_joined", "summarise"])
def test_a_run_that_was_joined_before_it_was_killed_is_left_as_it_is(at, workers, tmp_path, monkeypatch):
    """Before its blocks were deleted, or before its summary was written; also when workers are to resume it."""
    case, out = check(tables(), "case", tmp_path), tmp_path / "blocks"
    how, write = use(monkeypatch, Pool()), Record.summarise
    with monkeypatch.context() as patch:
        if at == "drop_joined":
            patch.setattr(run_module, at, lambda folder: killed())
        else:
            patch.setattr(Record, at, lambda self, *a, **k: killed() if self.folder == out else write(self, *a, **k))
        with pytest.raises(KeyboardInterrupt):
            subgrid.run(case, out=out, **how)
    before = {k: v for k, v in contents(out).items() if not k.startswith("blocks")}
    assert "checkpoint/state.npz" in before and (out / "blocks").exists()
    subgrid.resume(out, **how | {"workers": workers})
    assert contents(out) == before and summary(out)["status"] == "done"


BY_REFERENCE = """
from subgrid.ingest.trajectories import Trajectories
from subgrid.solver.closure import Closure, Tendency


class Own(Closure):
    by_member = True
    needs_reference = True

    def start(self, problem):
        assert Trajectories(problem.reference).fine.shape == (3, 1, 48, 48)
        return {}

    def __call__(self, view, memory):
        return Tendency(-0.1 * view.state), memory
"""


def test_blocks_have_the_reference_that_a_closure_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(BY_REFERENCE, encoding="utf-8")
    reference = {"shape": [48, 48], "trajectories": 3, "initial": FIELD}
    start = {"initial": {"kind": "reference"}, "closure": [{"path": "own.py:Own", "every": 5}], "reference": reference}
    case = check(tables() | start, "case", tmp_path)
    subgrid.run(case, out=tmp_path / "whole", progress=False)
    subgrid.run(case, out=tmp_path / "blocks", **use(monkeypatch, Pool()))
    require_equal(tmp_path / "blocks", tmp_path / "whole")


def test_two_workers_have_the_bytes_of_one_process(tmp_path):
    (tmp_path / "case.toml").write_text(tomli_w.dumps(tables()), encoding="utf-8")
    command = ["run", str(tmp_path / "case.toml"), "--json", "--out"]
    assert execute([*command, str(tmp_path / "whole")]) == 0
    assert execute([*command, str(tmp_path / "two"), "--workers", "2"]) == 0
    require_equal(tmp_path / "two", tmp_path / "whole")


def test_a_block_that_fails_ends_the_run(tmp_path, monkeypatch):
    case = check(
        tables() | {"time": FLOW["time"] | {"step": 0.1, "end": 40.0}, "output": {"every": 10.0}}, "case", tmp_path
    )
    with pytest.raises(BlowUp, match=r"is not finite at step .* \(members 16 to 20\)"):
        subgrid.run(case, out=tmp_path / "run", **use(monkeypatch, Pool()))
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["status"] == "failed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"closure": [{"path": "own.py:Own"}]}, "the closure Own does not declare by_member"),
        ({"closure": [{"name": "smagorinsky"}], "guard": {"policy": "skip"}}, "drops an answer for all members"),
        ({"backend": "torch"}, "the backend torch computes all members together"),
    ],
)
def test_members_that_cannot_be_divided_are_refused(changes, message, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    case = check(tables() | changes, "case", tmp_path)
    with pytest.raises(ValueError, match=message):
        subgrid.run(case, out=tmp_path / "run", **use(monkeypatch, Pool()))
    assert not list((tmp_path / "run").iterdir())


def test_workers_need_a_folder_closures_that_can_be_read_and_a_run_of_theirs(tmp_path, monkeypatch):
    case, how = check(tables(), "case", tmp_path), use(monkeypatch, Pool())
    with pytest.raises(ValueError, match="the members need a folder"):
        subgrid.run(case, **how)
    with pytest.raises(ValueError, match="names or tables"):
        subgrid.run(case, closures=[NoClosure()], out=tmp_path / "run", **how)
    subgrid.run(case, out=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="one process has begun this run"):
        subgrid.resume(tmp_path / "run", **how)


def test_arrays_of_a_closure_without_an_axis_of_members_are_reported():
    whole = {"state": np.zeros((4, 2)), "step": np.array(3)}
    parts = [{"state": np.zeros((2, 2)), "step": np.array(3), "closure.0.memory.m": np.zeros(n)} for n in (2, 1)]
    with pytest.raises(DamagedFile, match="has the shape"):
        joined_checkpoint(parts, whole, [2, 2])
    with pytest.raises(DamagedFile, match="step differs between the blocks"):
        joined_checkpoint([parts[0], parts[0] | {"step": np.array(2)}], whole, [2, 2])
