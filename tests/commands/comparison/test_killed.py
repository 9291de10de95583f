"""A comparison that is killed at any instant and resumed ends with the scores of one that was left alone.

SUBGRID_KILLS sets the number of kills, 4 by default; `SUBGRID_KILLS=20 pytest tests/commands/comparison/test_killed.py`
is the long version.
"""

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from subgrid.commands import cli
from subgrid.commands.comparison import cost
from subgrid.commands.comparison.compare import compare, resume_comparison
from subgrid.commands.comparison.comparison import Comparison
from subgrid.solver.backend.files import FolderLock
from subgrid.solver.case.reading import check
from subgrid.solver.simulation.record import RunFolderError

KILLS = int(os.environ.get("SUBGRID_KILLS", "4"))
CASE = {
    "title": "killed",
    "equation": {"name": "burgers", "viscosity": 0.02},
    "grid": {"shape": [16], "length": [6.283185307179586]},
    "time": {"end": 1.0, "step": 0.002, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "ensemble": {"members": 2},
    "output": {"every": 0.04},
    "reference": {"shape": [18], "step": 0.002},  # one grid lies between: its cost decides nothing
    "compare": {
        "closures": [
            {"name": "hyperviscosity", "every": 2},
            {"name": "hyperviscosity", "every": 1},
            {"path": "failing.py:Failing"},
            "oracle",
        ]
    },
}
FAILING = '''
import numpy as np

from subgrid.solver.closure import Closure, Tendency


class Failing(Closure):
    """Fails at its 250th step."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(view.state * (np.nan if view.step >= 250 else 0)), memory
'''


@pytest.fixture
def case(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "failing.py").write_text(FAILING)
    path = tmp_path / "case.toml"
    path.write_text(tomli_w.dumps(CASE))
    return path


def scores(folder: Path) -> dict:
    """The contents of metrics.json without costs, what follows from them, the command, and the commit."""
    found = json.loads((folder / "metrics.json").read_text())
    for row in (*found["rows"], *found["frontier"]):
        for name in ("cpu_seconds_per_time", "wall_seconds_per_time", "speedup", "beyond"):
            del row[name]
    del found["command"], found["git"]
    return found


def carry_on(case: Path, out: Path) -> int:
    """Fork a process that compares, or resumes once the comparison has begun."""
    begun = (out / "case.toml").exists()
    command = ["resume", str(out)] if begun else ["compare", str(case), "--out", str(out)]
    if pid := os.fork():
        return pid
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os._exit(cli.execute(command))


def play(case: Path, folder: Path, kills: int) -> None:
    """Kill and resume the comparison until `kills` have hit, and one of them or one more between two rows.

    It forks, so the process must have no threads.
    """
    cost.TURN_SECONDS = 0.02
    whole, out, chance = folder / "whole", folder / "out", random.Random(1)
    for target in (whole, folder / "timed"):  # the first fills the caches
        began = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(carry_on(case, target), 0)[1]) == 0
    length, expected, hit, continued = time.monotonic() - began, scores(whole), 0, 0
    while hit < kills or not continued or not done(out):
        if done(out):
            assert scores(out) == expected
            out.rename(folder / f"done-{len(list(folder.glob('done-*')))}")
        kept = {path: path.read_bytes() for path in finished_rows(out)}
        continued += 0 < len(kept) < 5
        pid = carry_on(case, out)
        if hit < kills:
            time.sleep(chance.uniform(0, length))
            os.kill(pid, signal.SIGKILL)
        elif not continued:  # rows take a small part of the time: aim
            while not 0 < len(finished_rows(out)) < 5 and runs(pid):
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        hit += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL), code
        assert all(path.read_bytes() == content for path, content in kept.items()), "a finished row was run again"
    assert scores(out) == expected


def runs(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def finished_rows(out: Path) -> list[Path]:
    return list((out / "rows").glob("[0-9]*.npz"))


def done(out: Path) -> bool:
    facts = out / "comparison.json"
    return facts.exists() and json.loads(facts.read_text())["done"] and (out / "report.html").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_comparison_loses_no_finished_row_and_ends_with_the_same_scores(case, tmp_path):
    command = [sys.executable, __file__, str(case), str(tmp_path), str(KILLS)]
    played = subprocess.run(command, capture_output=True, text=True)
    assert played.returncode == 0, played.stderr
    out = tmp_path / "out"
    assert Comparison.load(out).dataset.equals(Comparison.load(tmp_path / "whole").dataset)
    assert not [path for path in out.rglob("*") if path.name.endswith("subgrid-part")]


def test_a_resumed_row_has_the_bytes_of_the_first(case, tmp_path):
    """Every row is deleted in turn, and computed again by resume; wall times apart, the results do not change."""
    made = check(CASE, "case", tmp_path)
    whole = compare(made, out=tmp_path / "out", progress=False)
    expected = scores(tmp_path / "out")
    assert [row.name for row in whole.metrics.rows] == [
        "none",
        "hyperviscosity, every 2",
        "hyperviscosity, every 1",
        "Failing",
        "oracle",
    ]
    assert whole.metrics.rows[3].failed
    for i in range(len(whole.metrics.rows)):
        (tmp_path / "out" / "rows" / f"{i:03d}.npz").unlink()
        (tmp_path / "out" / "comparison.json").write_text('{"command": "", "done": false}')
        again = resume_comparison(tmp_path / "out", progress=False)
        assert scores(tmp_path / "out") == expected
        assert again.dataset.equals(whole.dataset)


def test_a_finished_comparison_is_resumed_without_its_reference(case, tmp_path, monkeypatch):
    compare(check(CASE, "case", tmp_path), out=tmp_path / "out", progress=False)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "empty"))
    assert len(resume_comparison(tmp_path / "out", progress=False).metrics.rows) == 5
    assert not (tmp_path / "empty").exists()


def test_two_comparisons_do_not_share_a_folder(case, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with FolderLock(out), pytest.raises(RunFolderError, match="in use by another process"):
        compare(check(CASE, "case", tmp_path), out=out, progress=False)
    assert not list(out.iterdir())
    compare(check(CASE, "case", tmp_path), out=out, progress=False)
    with pytest.raises(RunFolderError, match=r"not empty.*subgrid resume"):
        compare(check(CASE, "case", tmp_path), out=out, progress=False)
    with FolderLock(out):
        assert cli.execute(["resume", str(out)]) == 2
        assert cli.execute(["report", str(out)]) == 2
    assert capsys.readouterr().err.count("in use by another process") == 2


@pytest.mark.parametrize("damage", ["truncated", "another", "array", "text"])
def test_a_damaged_row_is_named_and_refused(case, tmp_path, capsys, damage):
    out = tmp_path / "out"
    compare(check(CASE, "case", tmp_path), out=out, progress=False)
    row = out / "rows" / "001.npz"
    (out / "comparison.json").write_text('{"command": "", "done": false}')
    if damage == "truncated":
        row.write_bytes(row.read_bytes()[:1000])
    elif damage == "another":
        with np.load(row) as found:
            np.savez(row, **{k: v[:3] if v.ndim else v for k, v in found.items()})
    elif damage == "array":
        np.savez(row, row=np.arange(3))
    else:
        row.write_text("no archive")
    before = (out / "metrics.json").read_bytes()
    assert cli.execute(["resume", str(out)]) == 2
    message = capsys.readouterr().err
    assert "001.npz" in message and "Remedy: delete" in message and "Traceback" not in message
    assert (out / "metrics.json").read_bytes() == before


def test_changed_inputs_and_links_are_refused_before_anything_is_written(case, tmp_path, capsys):
    out = tmp_path / "out"
    compare(check(CASE, "case", tmp_path), out=out, progress=False)
    (out / "rows" / "003.npz").unlink()
    (out / "comparison.json").write_text('{"command": "", "done": false}')
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    plugin = tmp_path / "failing.py"
    plugin.write_text(FAILING + "# changed")
    assert cli.execute(["resume", str(out)]) == 2
    message = capsys.readouterr().err
    assert "inputs differ" in message and f"{plugin} changed" in message and "make a new comparison" in message
    plugin.write_text(FAILING)
    text = (out / "case.toml").read_text()
    (out / "case.toml").write_text(text.replace("viscosity = 0.02", "viscosity = 0.03"))
    assert cli.execute(["resume", str(out)]) == 2
    assert "equation.viscosity" in capsys.readouterr().err
    (out / "case.toml").write_text(text)
    (out / "rows" / "003.npz").symlink_to(plugin)
    assert cli.execute(["resume", str(out)]) == 2
    assert "is a symbolic link" in capsys.readouterr().err
    (out / "rows" / "003.npz").unlink()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert cli.execute(["resume", str(out), "--until", "2"]) == 2
    assert cli.execute(["resume", str(out)]) == 0


@pytest.mark.parametrize("raised", ["SystemExit(0)", "StopIteration", "OSError(28, 'no space')", "MemoryError"])
def test_a_row_whose_plug_in_raises_fails_alone(case, tmp_path, raised):
    (tmp_path / "failing.py").write_text(
        FAILING.replace("        return Tendency", f"        raise {raised}\n        return Tendency")
    )
    rows = compare(check(CASE, "case", tmp_path), progress=False).metrics.rows
    assert [bool(row.failed) for row in rows] == [False, False, False, True, False]
    assert "Failing" in rows[3].failed and raised.partition("(")[0] in rows[3].failed


def test_a_run_and_a_comparison_are_told_apart(case, tmp_path, capsys):
    from subgrid.commands.run import resume, run

    compare(check(CASE, "case", tmp_path), out=tmp_path / "compared", progress=False)
    with pytest.raises(RunFolderError, match="holds a comparison"):
        resume(tmp_path / "compared", progress=False)
    run(check(CASE, "case", tmp_path), out=tmp_path / "ran", progress=False)
    with pytest.raises(RunFolderError, match="holds no comparison"):
        resume_comparison(tmp_path / "ran", progress=False)
    assert cli.execute(["resume", str(tmp_path / "ran")]) == 0


if __name__ == "__main__":
    for library in ("numba", "pandas", "xarray", "zarr"):
        importlib.import_module(library)
    play(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
