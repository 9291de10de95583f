"""`subgrid sweep`: its points, what it writes, failures, interrupts and mistakes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from subgrid.commands import cli
from subgrid.commands.exit_codes import Interrupted
from subgrid.commands.run import run
from subgrid.commands.sweep.command import run_sweep
from subgrid.commands.sweep.points import design
from subgrid.commands.sweep.results import frame
from subgrid.commands.sweep.workers import Task, _lock, _on_worker, carry_out, finished
from subgrid.solver.backend.files import LOCK_TIMEOUT, FolderLock
from subgrid.solver.case.reading import read

CASE = """
title = "a wave"
equation = { name = "burgers", viscosity = 0.02 }
grid = { shape = [32], length = [6.283185307179586] }
time = { end = 0.4, step = 0.02, stepper = "etdrk2" }
initial = { kind = "sine" }
ensemble = { members = 2 }
output = { every = 0.1 }
reference = { shape = [48], step = 0.02 }
compare = { closures = ["hyperviscosity"] }
"""
VARY = ["equation.viscosity=0.01:0.05:3", "initial.amplitude=1,2"]


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    return path


def stored(folder):
    """The bytes of every output of every run."""
    files = sorted(p for p in folder.rglob("fields.zarr/**/*") if p.is_file())
    assert files
    return {p.relative_to(folder): p.read_bytes() for p in files}


def test_a_grid_of_runs_has_the_values_of_each_run_alone(case, tmp_path):
    found = run_sweep(case, VARY, out=tmp_path / "one", jobs=1, progress=False)
    assert found["energy"].dims == ("equation.viscosity", "initial.amplitude") and found["energy"].shape == (3, 2)
    alone = run(read(case, ["equation.viscosity=0.03", "initial.amplitude=2"]), progress=False)
    expected = np.mean(json.loads(alone.attrs["summary"])["invariants"]["energy"])
    assert found["energy"].sel({"equation.viscosity": 0.03, "initial.amplitude": 2}).item() == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        kept = xr.open_zarr(tmp_path / "one" / "sweep.zarr")
    assert (kept["energy"] == found["energy"]).all() and list(kept["folder"].values.ravel()) == list("012345")
    table = pd.read_csv(tmp_path / "one" / "sweep.csv")
    assert list(table.columns[:2]) == ["equation.viscosity", "initial.amplitude"] and len(table) == 6
    assert (tmp_path / "one" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with_two = run_sweep(case, VARY, out=tmp_path / "two", jobs=2, progress=False)
    assert with_two.equals(found) and stored(tmp_path / "two") == stored(tmp_path / "one")


def test_keys_that_are_texts_or_lists_have_a_table_and_are_no_axis_of_the_picture(case, tmp_path, capsys):
    command = ["sweep", str(case), "--vary", "time.stepper=etdrk2,etdrk4", "--vary", "grid.shape=[16],[32]"]
    assert cli.execute([*command, "--jobs", "1", "--out", str(tmp_path / "texts")]) == 0
    assert "etdrk4" in capsys.readouterr().out and not (tmp_path / "texts" / "sweep.png").exists()
    table = pd.read_csv(tmp_path / "texts" / "sweep.csv")
    assert list(table["time.stepper"]) == ["etdrk2", "etdrk2", "etdrk4", "etdrk4"]
    assert list(table["grid.shape"]) == ["[16]", "[32]"] * 2
    command[3:] = ["time.stepper=etdrk2,etdrk4", "--vary", "initial.amplitude=1,2", "--jobs", "1"]
    assert cli.execute([*command, "--out", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_latin_hypercube_has_one_point_in_every_slice():
    axes, points = design(["a=0:1", "b=10:30"], 20, seed=1)
    assert [axis.key for axis in axes] == ["a", "b"]
    unit = (np.array(points) - [0, 10]) / [1, 20]
    assert all(sorted((20 * column).astype(int)) == list(range(20)) for column in unit.T)
    assert design(["a=0:1", "b=10:30"], 20, seed=1)[1] == points != design(["a=0:1", "b=10:30"], 20, seed=2)[1]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("k=1:3:3", (1, 2, 3)),
        ("k=0:1:3", (0.0, 0.5, 1.0)),
        ("k=-1e-2:1e-2:2", (-0.01, 0.01)),
        ("k=1,2.5", (1, 2.5)),
        ("k=[16, 16],[32, 32]", ([16, 16], [32, 32])),
        ("k=none, leith", ("none", "leith")),
        ("k=true,false", (True, False)),
        ("k=1e-3,none", (1e-3, "none")),
    ],
)
def test_values_are_those_of_the_text(text, values):
    (axis,), points = design([text], None, 0)
    assert axis.values == values and [type(v) for v in axis.values] == [type(v) for v in values]
    assert points == [(value,) for value in values]


def test_several_seeds_give_the_interval_of_the_mean(case, tmp_path):
    vary = ["equation.viscosity=0.01,0.05", "ensemble.seed=1,2,3"]
    noise = ["equation.noise={ amplitude = 0.05, correlation = 0.5 }"]
    found = run_sweep(case, vary, out=tmp_path / "out", jobs=1, overrides=noise, progress=False)
    table = frame(found)
    assert list(table["equation.viscosity"]) == [0.01, 0.05] and "ensemble.seed" not in table
    one = found["energy"].sel({"equation.viscosity": 0.05}).values
    assert len(set(one)) == 3
    assert table["energy"][1] == pytest.approx(one.mean(), rel=1e-12)
    assert table["energy +-"][1] == pytest.approx(4.302652729911275 * one.std(ddof=1) / 3**0.5, rel=1e-9)


def test_comparisons_have_the_scores_of_their_rows(case, tmp_path, capsys):
    command = [
        "sweep",
        str(case),
        "--compare",
        "--vary",
        "equation.viscosity=0.01,0.05",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.execute([*command, "--json"]) == 0
    table = pd.DataFrame(json.loads(capsys.readouterr().out)["table"])
    assert list(table["row"]) == ["none", "hyperviscosity"] * 2
    rows = json.loads((tmp_path / "out" / "1" / "metrics.json").read_text())["rows"]
    assert table["relative_l2"][3] == rows[1]["means"]["relative_l2"]
    kept = xr.open_zarr(tmp_path / "out" / "sweep.zarr", consolidated=False)
    units = {
        name: kept[name].attrs.get("units") for name in ("relative_l2", "correlation_time", "crps") if name in kept
    }
    assert units == {"relative_l2": None, "correlation_time": "time", "crps": "length/time"}
    assert cli.execute(command) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines() if not line.startswith("->")) <= 80


def test_a_run_that_fails_leaves_the_others_alone(case, tmp_path, capsys):
    command = ["sweep", str(case), "--vary", "time.step=0.02,0.1", "--vary", "initial.amplitude=1,1e6", "--jobs", "1"]
    command += ["--set", "equation.viscosity=0", "--out", str(tmp_path / "out")]
    assert cli.execute(command) == 0
    assert "runs failed; their folders have the reason in failure.json" in capsys.readouterr().out
    found = xr.open_zarr(tmp_path / "out" / "sweep.zarr", consolidated=False).load()
    assert np.isfinite(found["energy"].sel({"initial.amplitude": 1.0})).all()
    assert np.isnan(found["energy"].sel({"initial.amplitude": 1e6})).all()
    failed = found["failed"].sel({"initial.amplitude": 1e6}).values
    assert all("BlowUp" in text for text in failed)
    before = stored(tmp_path / "out")
    assert cli.execute(command) == 0 and stored(tmp_path / "out") == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_is_stopped_at_any_instant_goes_on_to_the_same_bytes(case, tmp_path, jobs):
    whole = run_sweep(case, VARY, out=tmp_path / "whole", jobs=1, progress=False)
    program = "import sys; from subgrid.commands.entry import main; main()"
    command = [sys.executable, "-c", program, "sweep", str(case), "--jobs", str(jobs), "--out", str(tmp_path / "out")]
    command += [part for text in VARY for part in ("--vary", text)]
    chance, codes = random.Random(jobs), []
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (tmp_path / "out" / "sweep.json").exists() and process.poll() is None:
            time.sleep(0.02)  # its signals are not handled before
        time.sleep(chance.uniform(0, 2))
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        codes.append(process.wait(60))
        assert b"Traceback" not in process.communicate()[1]
    assert set(codes) <= {-signal.SIGKILL, 130, 0}
    found = run_sweep(case, VARY, out=tmp_path / "out", jobs=1, progress=False)
    assert found.equals(whole) and stored(tmp_path / "out") == stored(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--vary: missing. Remedy: --vary KEY=LOW:HIGH:COUNT"),
        (["--vary", "equation.viscosity"], "expected KEY=LOW:HIGH:COUNT or KEY=A,B"),
        (["--vary", "equation.viscosity=0.1:0.2"], "a range needs LOW:HIGH:COUNT, or --samples N"),
        (["--vary", "equation.viscosity=0.2:0.1:3"], "expected LOW < HIGH"),
        (["--vary", "equation.viscosity=0.1:0.2:1"], "expected 2 to 10000 values"),
        (["--vary", "equation.viscosity=0.1,0.1"], "a value occurs twice"),
        (["--vary", "equation.viscosity=0.1,,0.2"], "a value is missing between commas"),
        (["--vary", "equation.viscosity=0.1,-1"], "equation.viscosity: expected greater than or equal to 0, found -1"),
        (["--vary", "equation.speed=0.1,1"], "speed: unknown key"),
        (["--vary", "time.end=1,2", "--vary", "time.end=3,4"], "set the same value"),
        (["--vary", "time.end=1:2:3", "--samples", "3"], "--samples draws from ranges"),
        (["--vary", "time.end=1:2", "--samples", "1"], "--samples 1: expected 2 to 10000"),
        (["--vary", "a=1:2:200", "--vary", "b=1:2:200"], "the grid has 40000 points"),
        (["--vary", "time.end=1,2", "--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["--vary", "time.end=1,2", "--compare", "--set", "compare.closures=['lieth']"], "no closure is named 'lieth'"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(case, tmp_path, capsys, options, message):
    assert cli.execute(["sweep", str(case), *options, "--out", str(tmp_path / "out")]) == 2
    found = capsys.readouterr().err
    assert message in found and "Traceback" not in found
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_sweep(case, tmp_path, capsys):
    run_sweep(case, ["time.end=0.2,0.4"], out=tmp_path / "out", jobs=1, progress=False)
    assert cli.execute(["sweep", str(case), "--vary", "time.end=0.2,0.3", "--out", str(tmp_path / "out")]) == 2
    assert "holds another sweep (vary differ). Remedy: choose another --out" in capsys.readouterr().err
    case.write_text(CASE.replace("a wave", "another wave"))
    assert cli.execute(["sweep", str(case), "--vary", "time.end=0.2,0.4", "--out", str(tmp_path / "out")]) == 2
    assert "holds another sweep (sha256 differ)" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert cli.execute(["sweep", str(case), "--vary", "time.end=0.2,0.4", "--out", str(tmp_path / "mine")]) == 2
    assert "is not empty and holds no sweep" in capsys.readouterr().err


def test_a_wrong_number_of_workers_writes_nothing(case, tmp_path):
    with pytest.raises(ValueError, match="--workers 0: expected 1 or more"):
        run_sweep(case, VARY, out=tmp_path / "out", workers=0, progress=False)
    assert not (tmp_path / "out").exists()


def test_final_invariants_have_units(case, tmp_path):
    found = run_sweep(case, VARY[1:], out=tmp_path / "out", jobs=1, progress=False)
    assert found["energy"].attrs["units"] == "length^2/time^2"
    kept = xr.open_zarr(tmp_path / "out" / "sweep.zarr", consolidated=False)
    assert kept["energy"].attrs == found["energy"].attrs


def test_an_interrupt_of_one_process_names_the_remedy_of_the_sweep(case, tmp_path, monkeypatch):
    def stop(task):
        raise Interrupted("interrupted at step 3. Resume with: subgrid resume 0")

    monkeypatch.setattr("subgrid.commands.sweep.workers.carry_out", stop)
    with pytest.raises(Interrupted, match=r"^interrupted\. Remedy: run the same command again"):
        run_sweep(case, VARY, out=tmp_path / "out", jobs=1, progress=False)


def test_a_task_of_a_worker_waits_for_one_that_is_believed_to_be_dead(case, tmp_path):
    """It has the lock of the task, although it has not made the folder of the run yet."""
    task = Task(case, ("time.end=0.2",), tmp_path / "out" / "0", False)
    _lock(task).mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FolderLock(_lock(task)):
            ended = pool.submit(_on_worker, task, True)
            time.sleep(LOCK_TIMEOUT + 0.5)
            assert not ended.done() and not task.folder.exists()
        ended.result()
    assert finished(task) and not _lock(task).exists()


def test_comparisons_beside_each_other_say_so(case, tmp_path):
    chosen = ("time.end=0.2", "compare.frontier=false")
    for shared in (False, True):
        task = Task(case, chosen, tmp_path / str(shared), True)
        carry_out(task, shared)
        assert json.loads((task.folder / "metrics.json").read_text())["shared"] is shared


def test_the_folder_of_a_sweep_is_no_run_and_the_message_says_how_to_go_on(case, tmp_path, capsys):
    run_sweep(case, ["equation.viscosity=0.01,0.05"], out=tmp_path / "out", jobs=1, progress=False)
    assert cli.execute(["resume", str(tmp_path / "out")]) == cli.MISTAKE
    assert "holds a sweep. Remedy: give its `subgrid sweep` command again" in capsys.readouterr().err
