"""A run folder that is resumed: its inputs, its extension, its damages; and runs that start from its outputs."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr

from subgrid.commands import cli
from subgrid.commands import run as verbs
from subgrid.solver.backend.files import read_arrays, write_arrays
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.simulation.folder import RunFolderError
from subgrid.solver.simulation.record import Record

PLUGIN = '''
from pathlib import Path
import numpy as np
from subgrid.solver.closure import Closure, Leap, Tendency
{neighbour}

class Relax(Closure):
    """A tendency scaled by the first number of a file."""

    scale: Path

    def start(self, problem):
        self._scale = float(np.load(self.scale)["scale"])
        return {{"calls": np.array(0)}}

    def __call__(self, view, memory):
        return Tendency(-self._scale * view.state), {{"calls": memory["calls"] + 1}}


class Jump(Closure):
    """A leap over five steps, and four steps that count as declined."""

    def start(self, problem):
        self._problem = problem
        return {{"leaps": np.array(0)}}

    def __call__(self, view, memory):
        states = np.stack([view.state * (1 - 0.01 * i) for i in range(1, 6)])
        times = self._problem.start + self._problem.step * (view.step + np.arange(1, 6))
        return Leap(states, times, declined=4), {{"leaps": memory["leaps"] + 1}}
'''
STATE = np.sin(2 * np.pi * np.arange(32) / 32 + np.arange(2)[:, None, None])


def tables(**changes: Any) -> dict[str, Any]:
    """A case of 20 steps: outputs every 4, two in a file, checkpoints every 5."""
    return {
        "title": "Burgers",
        "equation": {"name": "burgers", "viscosity": 0.05},
        "grid": {"shape": [32], "length": [6.25]},
        "time": {"start": 1.0, "end": 1.2, "step": 0.01, "stepper": "etdrk4"},
        "initial": {"kind": "file", "path": "state.npz"},
        "ensemble": {"members": 2, "seed": 5},
        "output": {"every": 0.04, "checkpoint_every": 0.05, "frames_per_chunk": 2},
    } | changes


WATER = {
    "equation": {"name": "shallow-water", "bathymetry": {"kind": "file", "path": "bottom.npz"}},
    "grid": {"shape": [8, 12], "length": [2.0, 3.0]},
    "time": {"start": 1.0, "end": 1.2, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "lake-at-rest", "level": 1.0},
}
RELAX = {"path": "plugin.py:Relax", "scale": "scale.npz", "every": 3}
JUMP = {"path": "plugin.py:Jump", "every": 9}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working directory, with every file that the cases name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBGRID_THREADS", "1")
    Path("plugin.py").write_text(PLUGIN.format(neighbour="from neighbour import value as _"), encoding="utf-8")
    Path("neighbour.py").write_text("value = 1\n", encoding="utf-8")
    np.savez("scale.npz", scale=0.5)
    np.savez("state.npz", state=STATE)
    np.savez("bottom.npz", bathymetry=0.1 * np.random.default_rng(0).random((8, 12)))
    return tmp_path


@pytest.fixture
def importable(place) -> Path:
    """The same with a plug-in that imports no neighbour."""
    Path("plugin.py").write_text(PLUGIN.format(neighbour=""), encoding="utf-8")
    return place


def started(out: str, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, frames: int = 3) -> Path:
    """A run that was killed while it wrote output number `frames`."""
    write = Record.write_frame

    class Killed(BaseException):
        pass

    def killing(self: Record, step: int, *rest: Any) -> None:
        if step == 4 * frames:
            raise Killed
        write(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "write_frame", killing)
        with pytest.raises(Killed):
            verbs.run(read_case(case), out=out, progress=False)
    return Path(out).absolute()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def outcome(folder: Path) -> dict[str, Any]:
    """Bytes of case and outputs, arrays of the checkpoint, and the counts of the summary."""
    files = {k: v for k, v in contents(folder).items() if k.startswith(("fields.zarr", "case.toml"))}
    arrays = read_arrays(folder / "checkpoint" / "state.npz")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    closures = [{k: v for k, v in c.items() if k != "seconds"} for c in summary["closures"]]
    return {**files, **{k: v.tobytes() for k, v in arrays.items()}, "steps": summary["steps"], "closures": closures}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of `subgrid resume`, which exits with 2 and changes nothing on disk."""
    before = contents(folder)
    capsys.readouterr()
    assert cli.execute(["resume", str(folder), *arguments]) == cli.MISTAKE
    assert contents(folder) == before
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def append(file: str) -> Callable[[], Any]:
    return lambda: Path(file).write_bytes(Path(file).read_bytes() + b"\n# changed\n")


def viscosity(out: Path) -> None:
    case = out / "case.toml"
    case.write_text(case.read_text(encoding="utf-8").replace("viscosity = 0.05", "viscosity = 0.04"), encoding="utf-8")


CHANGES: dict[str, tuple[dict[str, Any], Callable[[], Any], str]] = {
    "case": ({}, lambda: viscosity(Path("run")), "equation.viscosity: is 0.04, was 0.05"),
    "plug-in": ({"closure": [RELAX]}, append("plugin.py"), "closure.0.path: .*plugin.py changed"),
    "file of a closure": (
        {"closure": [RELAX]},
        lambda: np.savez("scale.npz", scale=0.4),
        "scale: .*scale.npz",
    ),
    "initial file": ({}, lambda: np.savez("state.npz", state=2 * STATE), "initial.path: .*state.npz changed"),
    "missing file": ({}, lambda: Path("state.npz").unlink(), "initial.path: .*state.npz is missing"),
    "bathymetry": (WATER, lambda: np.savez("bottom.npz", bathymetry=np.zeros((8, 12))), "equation.bathymetry.path"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_resume_refuses_a_run_whose_inputs_changed(name, importable, monkeypatch, capsys):
    changes, change, expected = CHANGES[name]
    out = started("run", tables(**changes), monkeypatch)
    change()
    message = refused(out, capsys)
    assert re.search(expected, message) and "Remedy" in message


def test_resume_refuses_a_run_whose_reference_changed(importable, monkeypatch, capsys):
    monkeypatch.setenv("SUBGRID_CACHE", "cache")
    reference = {"shape": [64], "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0}}
    closure = [{"name": "oracle", "every": 1}]
    out = started("run", tables(closure=closure, initial={"kind": "reference"}, reference=reference), monkeypatch)
    done = next(Path("cache").rglob("done.json"))
    stored = json.loads((out / "inputs.json").read_text(encoding="utf-8"))
    name = next(iter(stored["references"]))
    assert name == done.parent.name
    stored["references"][name]["sha256"]["done.json"] = 64 * "0"
    (out / "inputs.json").write_text(json.dumps(stored), encoding="utf-8")
    assert "done.json changed" in refused(out, capsys)


@pytest.mark.parametrize("begun_with", ["more", "own"])
def test_a_run_resumes_with_data_that_hold_more_of_its_reference_and_without_them(begun_with, importable, monkeypatch):
    """Those of an oracle that is called more often, when one of the two is no longer in the cache."""
    monkeypatch.setenv("SUBGRID_CACHE", str(importable / "cache"))
    initial = {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0}
    start = {"initial": {"kind": "reference"}, "reference": {"shape": [64], "initial": initial}}
    often, rarely = (tables(closure=[{"name": "oracle", "every": n}], **start) for n in (1, 2))
    if begun_with == "more":
        verbs.run(read_case(often), progress=False)
    out = started("run", rarely, monkeypatch)
    shutil.rmtree(importable / "cache")
    if begun_with == "own":
        verbs.run(read_case(often), progress=False)
    verbs.resume(out, progress=False)
    verbs.run(read_case(rarely), out="whole", progress=False)
    assert outcome(out) == outcome(importable / "whole")


def test_a_moved_run_folder_resumes(importable, monkeypatch):
    out = started("run", tables(closure=[RELAX]), monkeypatch)
    verbs.run(read_case(tables(closure=[RELAX])), out="whole", progress=False)
    moved = out.rename(importable / "elsewhere")
    monkeypatch.chdir("/")
    verbs.resume(moved, progress=False)
    assert outcome(moved) == outcome(importable / "whole")


def test_inputs_may_move_if_the_case_names_their_new_place(importable, monkeypatch):
    out = started("run", tables(), monkeypatch)
    Path("data").mkdir()
    shutil.move("state.npz", "data/state.npz")
    text = (out / "case.toml").read_text(encoding="utf-8")
    (out / "case.toml").write_text(text.replace("state.npz", "data/state.npz"), encoding="utf-8")
    assert json.loads(verbs.resume(out, progress=False).attrs["summary"])["status"] == "done"


def test_a_whole_table_that_changed_is_named(importable, monkeypatch, capsys):
    """The message holds the tables with their braces."""
    out = started("run", tables(), monkeypatch)
    stored = json.loads((out / "inputs.json").read_text(encoding="utf-8"))
    stored["case"]["initial"] = "none"
    (out / "inputs.json").write_text(json.dumps(stored), encoding="utf-8")
    assert "initial" in refused(out, capsys)


def test_a_run_without_stored_inputs_resumes_with_a_notice(importable, monkeypatch, caplog):
    out = started("run", tables(), monkeypatch)
    (out / "inputs.json").unlink()
    verbs.resume(out, progress=False)
    assert "stored no hashes of its inputs" in caplog.text
    assert (out / "inputs.json").is_file()


CASES: dict[str, dict[str, Any]] = {
    "no closure": {},
    "multistep": {"time": tables()["time"] | {"stepper": "sbdf2"}},
    "memory": {"closure": [RELAX]},
    "leaps": {"closure": [JUMP]},  # at step 18 a leap to step 23
    "an end between two outputs": {"time": tables()["time"] | {"end": 1.18}},
    "some fields": WATER | {"output": tables()["output"] | {"fields": ["depth"]}},
}


@pytest.mark.parametrize("done", [True, False], ids=["done", "killed"])
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_extended_is_the_run_with_a_later_end(name, done, importable, monkeypatch):
    case = tables(**CASES[name])
    longer = case | {"time": case["time"] | {"end": 1.36}}
    verbs.run(read_case(longer), out="whole", progress=False)
    if done:
        verbs.run(read_case(case), out="run", progress=False)
    else:
        started("run", case, monkeypatch)
    first = Path("run") / "fields.zarr" / ("depth" if "depth" in str(case) else "velocity") / "c" / "0"
    before = {f: f.stat().st_mtime_ns for f in first.rglob("*") if f.is_file()}
    assert cli.execute(["resume", "run", "--until", "1.36", "--json"]) == cli.DONE
    assert {f: f.stat().st_mtime_ns for f in first.rglob("*") if f.is_file()} == before
    assert outcome(Path("run")) == outcome(Path("whole"))
    assert cli.execute(["resume", "run", "--json"]) == cli.DONE
    assert outcome(Path("run")) == outcome(Path("whole"))


def test_a_run_may_be_given_an_earlier_end_than_before(importable, monkeypatch):
    case = tables(output={"every": 0.04, "checkpoint_every": 0.1})
    verbs.run(read_case(case | {"time": case["time"] | {"end": 1.12}}), out="whole", progress=False)
    started("run", case, monkeypatch, frames=5)  # its last output is at t = 1.16, its checkpoint at t = 1.1
    verbs.resume("run", until=1.12, progress=False)
    assert outcome(Path("run")) == outcome(Path("whole"))


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("1.2", "the run has reached t = 1.2, found 1.2"),
        ("0.5", "the run has reached t = 1.2"),
        ("1.2025", r"1.2025 is not the time of a step. Remedy: 1.21$"),  # 1.2 is reached already
        ("1.234", "1.234 is not the time of a step. Remedy: 1.23 or 1.24"),
        ("nan", "expected a time"),
        ("inf", "expected a time"),
        ("1e300", "is not the time of a step|expected at most|takes"),
    ],
)
def test_an_end_that_no_run_can_have_is_refused(until, expected, importable, capsys):
    verbs.run(read_case(tables()), out="run", progress=False)
    assert re.search(expected, refused(Path("run"), capsys, "--until", until))


@pytest.mark.parametrize("writes", range(10))
def test_an_extension_that_is_killed_can_be_resumed(writes, importable, monkeypatch):
    """Killed before each of the first writes; `resume` then ends at the old end or at the new one, as a run does."""
    from subgrid.solver.backend import files
    from subgrid.solver.simulation import record, store

    case = tables(closure=[RELAX])
    verbs.run(read_case(case | {"time": case["time"] | {"end": 1.36}}), out="longer", progress=False)
    verbs.run(read_case(case), out="shorter", progress=False)
    shutil.copytree("shorter", "run")
    replace, count = files.replace, 0

    class Killed(BaseException):
        pass

    def killing(path: Path, content: bytes, **options: bool) -> None:
        nonlocal count
        count += 1
        if count > writes:
            raise Killed
        replace(path, content, **options)

    with monkeypatch.context() as patch:
        for module in (files, record, store):
            patch.setattr(module, "replace", killing)
        with pytest.raises(Killed):
            verbs.resume("run", until=1.36, progress=False)
    verbs.resume("run", progress=False)
    result = outcome(Path("run"))
    assert result in (outcome(Path("shorter")), outcome(Path("longer")))
    verbs.resume("run", until=1.36, progress=False) if result["steps"] == 20 else None
    assert outcome(Path("run")) == outcome(Path("longer"))


def edit(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        arrays = read_arrays(path)
        change(arrays)
        write_arrays(path, arrays)

    return apply


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "empty": lambda p: p.write_bytes(b""),
    "random bytes": lambda p: p.write_bytes(np.random.default_rng(0).bytes(1000)),
    "bit flip": flip,
    "a folder": lambda p: (p.unlink(), p.mkdir()),
    "pickle": lambda p: np.savez(p, step=np.array([{}], dtype=object)),
    "no step": edit(lambda a: a.pop("step")),
    "no state": edit(lambda a: a.pop("state")),
    "no memory of the stepper": edit(lambda a: a.pop("lane.0.age")),
    "no counts": edit(lambda a: a.pop("closure.0.counts")),
    "half a tendency": edit(lambda a: a.pop("closure.0.held.step")),
    "another array": edit(lambda a: a.update(other=np.zeros(3))),
    "another closure": edit(lambda a: a.update({"closure.7.memory.x": np.zeros(3)})),
    "shape": edit(lambda a: a.update(state=a["state"][:, :, :-1])),
    "type": edit(lambda a: a.update(state=a["state"].astype("complex64"))),
    "real state": edit(lambda a: a.update(state=a["state"].real.copy())),
    "nan": edit(lambda a: a["state"].__setitem__((0, 0, 0), np.nan)),
    "nan in a tendency": edit(lambda a: a["closure.0.held.value"].__setitem__((0, 0, 0), np.inf)),
    "step beyond the end": edit(lambda a: a.update(step=np.array(21))),
    "negative step": edit(lambda a: a.update(step=np.array(-1))),
    "fraction of a step": edit(lambda a: a.update(step=np.array(1.5))),
    "list of steps": edit(lambda a: a.update(step=np.array([1, 2]))),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_checkpoint_is_refused_and_its_remedy_works(name, importable, monkeypatch, capsys):
    case = tables(time=tables()["time"] | {"stepper": "sbdf2"}, closure=[RELAX])
    verbs.run(read_case(case), out="whole", progress=False)
    out = started("run", case, monkeypatch)
    path = out / "checkpoint" / "state.npz"
    CHECKPOINTS[name](path)
    message = refused(out, capsys)
    assert str(path) in message and "pickle.load" not in message
    if name == "a folder":
        path.rmdir()
    else:
        assert f"Remedy: delete {path} to start again from the beginning" in message
        path.unlink()
    verbs.resume(out, progress=False)
    assert outcome(out) == outcome(Path("whole"))


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "bit flip", "all missing", "nan"])
def test_a_damaged_output_before_the_checkpoint_is_refused_and_its_remedy_works(
    damage, importable, monkeypatch, capsys
):
    verbs.run(read_case(tables()), out="whole", progress=False)
    out = started("run", tables(), monkeypatch)
    path = next(f for f in (out / "fields.zarr/velocity/c/1").rglob("*") if f.is_file())
    if damage == "missing":
        path.unlink()
    elif damage == "all missing":
        shutil.rmtree(out / "fields.zarr")
    elif damage == "bit flip":
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    elif damage == "nan":
        import zarr

        zarr.open_group(out / "fields.zarr", mode="r+")["velocity"][1, 0, 3] = np.nan
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "truncated" else b"")
    message = refused(out, capsys)
    checkpoint = out / "checkpoint" / "state.npz"
    assert f"Remedy: delete {checkpoint} to start again from the beginning" in message
    checkpoint.unlink()
    verbs.resume(out, progress=False)
    assert outcome(out) == outcome(Path("whole"))


@pytest.mark.parametrize("key", ["zarr.json", "time/zarr.json", "time/c/0", "velocity/zarr.json", "x/c/0"])
@pytest.mark.parametrize("damage", ["missing", "empty", "random bytes", "bit flip"])
def test_damaged_metadata_of_the_outputs_are_written_again(damage, key, importable, monkeypatch):
    verbs.run(read_case(tables()), out="whole", progress=False)
    out = started("run", tables(), monkeypatch)
    path = out / "fields.zarr" / key
    if damage == "missing":
        path.unlink()
    elif damage == "bit flip":
        flip(path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"\x00\xff{]")
    verbs.resume(out, progress=False)
    assert outcome(out) == outcome(Path("whole"))
    events = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [e["repaired"] for e in events if e["event"] == "resume"] == [[key]]


@pytest.mark.parametrize("name", ["log.jsonl", "summary.json", "guard.npz", "inputs.json"])
@pytest.mark.parametrize("damage", [b"", b"\x80\xff{", b'{"cut'])
def test_other_damaged_files_do_not_hinder_or_are_refused(name, damage, importable, monkeypatch, capsys):
    verbs.run(read_case(tables()), out="whole", progress=False)
    out = started("run", tables(), monkeypatch)
    (out / name).write_bytes(damage)
    if name == "inputs.json":
        assert f"Remedy: delete {out / name}" in refused(out, capsys)
        (out / name).unlink()
    verbs.resume(out, progress=False)
    assert outcome(out) == outcome(Path("whole"))


@pytest.mark.parametrize("damage", [b"", b"\x80\xff{", b"[time\n", b"title = 3"])
def test_a_damaged_case_is_refused(damage, importable, monkeypatch, capsys):
    out = started("run", tables(), monkeypatch)
    (out / "case.toml").write_bytes(damage)
    assert re.search("case.toml is not TOML|equation: is absent|title: is 3, was 'Burgers'", refused(out, capsys))


@pytest.mark.parametrize(
    "name", ["log.jsonl", "summary.json", "guard.npz", "checkpoint", "fields.zarr", "fields.zarr/time/c"]
)
def test_a_file_in_the_place_of_a_folder_is_refused(name, importable, monkeypatch, capsys):
    out = started("run", tables(), monkeypatch)
    path = out / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    assert str(path) in refused(out, capsys)


LINKS = ["case.toml", "fields.zarr", "checkpoint", "log.jsonl", "summary.json", "guard.npz", "checkpoint/state.npz",
         "fields.zarr/velocity/c", "inputs.json", "other"]  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_resume_follows_no_symbolic_link(name, importable, monkeypatch, capsys):
    out, target = started("run", tables(), monkeypatch), importable / "target"
    path = out / name
    if path.is_dir() or path.is_file():
        path.rename(target)
    else:
        target.write_bytes(b"mine")
    path.symlink_to(target)
    message = refused(out, capsys)
    assert f"{path} is a symbolic link" in message
    assert target.is_dir() or target.is_file()


def test_a_run_follows_no_symbolic_link_in_a_folder_left_by_a_killed_run(importable, capsys):
    out, target = Path("run"), importable / "target"
    (out / "checkpoint").mkdir(parents=True)
    (out / ".starting").touch()
    target.mkdir()
    (out / "fields.zarr").symlink_to(target)
    with pytest.raises(RunFolderError, match="symbolic link"):
        verbs.run(read_case(tables()), out=out, progress=False)
    assert not any(target.iterdir())


def test_resume_deletes_no_file_that_it_did_not_write(importable, monkeypatch):
    out = started("run", tables(), monkeypatch)
    mine = [out / name for name in ("a.part", "checkpoint/state.npz.part", "fields.zarr/b.partial", ".c.subgrid-part")]
    for file in mine:
        file.write_bytes(b"mine")
    left = out / "checkpoint" / ".state.npz.123-0123abcd.subgrid-part"
    chunk = out / "fields.zarr" / "velocity" / "c" / f"0.{32 * 'a'}.partial"
    for file in (left, chunk):
        file.write_bytes(b"the remains of a killed run")
    verbs.resume(out, progress=False)
    assert all(file.read_bytes() == b"mine" for file in mine)
    assert not left.exists() and not chunk.exists()


@pytest.mark.parametrize("cut", [1, 5])
def test_an_event_after_a_truncated_line_of_the_log_has_a_line_of_its_own(cut, importable, monkeypatch):
    out = started("run", tables(), monkeypatch)
    log = out / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-cut])
    verbs.resume(out, progress=False)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines[1:]] == ["resume", "done"]


def test_a_full_disk_keeps_what_was_written(importable, monkeypatch):
    verbs.run(read_case(tables()), out="whole", progress=False)
    write = Record.write_frame

    def full(self: Record, step: int, *rest: Any) -> None:
        if step == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "write_frame", full)
        with pytest.raises(OSError, match="No space"):
            verbs.run(read_case(tables()), out="run", progress=False)
    summary = json.loads(Path("run/summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "failed" and "No space" in summary["error"] and summary["steps"] == 12
    verbs.resume("run", progress=False)
    assert outcome(Path("run")) == outcome(Path("whole"))


def test_a_run_records_at_least_one_field(importable):
    with pytest.raises(CaseError, match=r"output.fields: .*at least 1"):
        read_case(tables(output=tables()["output"] | {"fields": []}))


def test_a_run_starts_from_the_last_output_of_another(importable):
    """The path is relative to the case file, and the default time is written into the case."""
    verbs.run(read_case(tables()), out="run", progress=False)
    Path("branch").mkdir()
    case = tables(initial={"kind": "run", "path": "../run"})
    Path("branch/case.toml").write_text(tomli_w.dumps(case), encoding="utf-8")
    assert cli.execute(["run", "branch/case.toml", "--out", "other", "--json"]) == cli.DONE
    first, last = (xr.open_zarr(f"{name}/fields.zarr", chunks=None) for name in ("other", "run"))
    np.testing.assert_allclose(first["velocity"][0], last["velocity"][-1], atol=1e-15)
    assert "time = 1.2" in Path("other/case.toml").read_text(encoding="utf-8")
    verbs.resume("run", until=1.36, progress=False)
    verbs.resume("other", progress=False)  # the output at t = 1.2 is what it was
    assert json.loads(Path("other/summary.json").read_text(encoding="utf-8"))["status"] == "done"
