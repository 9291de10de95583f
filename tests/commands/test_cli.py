"""The command line: every command on a tiny case, with its output, files and exit code."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from subgrid.closures.learning import weights_file
from subgrid.commands import cli
from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.report import printed
from subgrid.solver.case.reading import read
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.initial.registry import INITIAL_STATES
from subgrid.solver.time_stepping.schemes import STEPPERS

TINY = """
title = "Tiny large-eddy simulation"

[equation]
name = "kolmogorov"
viscosity = 5e-3
forcing = { kind = "sine", amplitude = 1.0, wavenumber = 2 }

[grid]
shape = [32, 32]
length = [6.25, 6.25]

[time]
end = 0.4
step = 0.02
stepper = "etdrk4"

[initial]
kind = "reference"

[ensemble]
members = 2

[[closure]]
name = "smagorinsky"
every = 2

[output]
every = 0.1

[reference]
shape = [48, 48]
initial = { kind = "gaussian-random-field", exponent = 2.5, tau = 3.0 }
trajectories = 2
seed = 1

[training]
trajectories = 3
start = 0.0
end = 0.4
every = 0.1
seed = 2

[train.regression]
network = "cnn"
network_options = { width = 4, layers = 2 }
steps = 6
batch = 4
validate_every = 3
threads = 1

[compare]
closures = ["smagorinsky"]
frontier = false
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny.toml, which is the working directory, and a cache of its own."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


def result(capsys, *command: str) -> dict:
    """What a command prints with --json, after it has ended well with nothing on standard error."""
    capsys.readouterr()
    assert cli.execute([*command, "--json"]) == cli.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def refusal(capsys, *command: str) -> str:
    capsys.readouterr()
    assert cli.execute(list(command)) == cli.MISTAKE
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("subgrid: ") and "Traceback" not in err
    return err


def test_check_validates_and_writes_out_every_default(place, capsys):
    assert cli.execute(["check", "tiny.toml", "--out", "resolved.toml"]) == cli.DONE
    assert capsys.readouterr().out == "tiny.toml: valid\n"
    resolved = tomllib.loads((place / "resolved.toml").read_text())
    assert resolved["guard"] == {"policy": "stop"}
    assert resolved["output"]["checkpoint_every"] == "60 s"
    assert resolved["equation"]["drag"] == 0.0
    assert resolved == result(capsys, "check", "tiny.toml") == read(place / "resolved.toml").resolved()


def test_set_overrides_values_of_any_type(place, capsys):
    overrides = ["time.step=1e-2", "time.stepper=sbdf2", "grid.shape=[16, 16]", "closure.0.every=4", 'title="A = b"']
    found = result(capsys, "check", "tiny.toml", *(word for text in overrides for word in ("--set", text)))
    assert found["time"]["step"] == 0.01
    assert found["time"]["stepper"] == "sbdf2"
    assert found["grid"]["shape"] == [16, 16]
    assert found["closure"][0]["every"] == 4
    assert found["title"] == "A = b"


def test_list_names_everything_there_is(capsys):
    listing = result(capsys, "list")
    assert set(listing["equations"]) == set(EQUATIONS)
    assert set(listing["steppers"]) == set(STEPPERS)
    assert set(listing["initial states"]) == set(INITIAL_STATES)
    assert set(listing["forcings"]) == {"sine", "diagonal", "expression", "file"}
    assert set(listing["closures"]) >= {"none", "smagorinsky", "leith", "hyperviscosity", "oracle", "regression"}
    assert all(text and "unavailable" not in text for part in listing.values() for text in part.values())
    assert cli.execute(["list"]) == cli.DONE
    text = capsys.readouterr().out
    assert all(name in text for part in listing.values() for name in part)


def test_schema_is_a_json_schema_of_the_tables(place, capsys):
    assert cli.execute(["schema"]) == cli.DONE
    schema = json.loads(capsys.readouterr().out)
    data = tomllib.loads(TINY)
    assert schema["type"] == "object" and set(data) <= set(schema["properties"])
    assert set(schema["required"]) == {"title", "equation", "grid", "time", "initial", "output"}
    assert schema["additionalProperties"] is False
    time = schema["$defs"]["TimeTable"]
    assert set(time["properties"]["stepper"]["anyOf"][0]["enum"]) == set(STEPPERS)
    choices = schema["properties"]["initial"]["oneOf"]  # one that holds another initial state is a reference
    choices = [schema["$defs"][c["$ref"].removeprefix("#/$defs/")] if "$ref" in c else c for c in choices]
    assert {choice["properties"]["kind"]["const"] for choice in choices} == set(INITIAL_STATES)
    assert set(data["time"]) <= set(time["properties"])
    kinds = schema["$defs"]["GridTable"]["properties"]["shape"]["anyOf"][0]
    assert kinds["type"] == "array"
    references = list(_values(schema, "$ref"))
    assert references and all(r.removeprefix("#/$defs/") in schema["$defs"] for r in references)


def _values(data, key):
    if isinstance(data, dict):
        yield from (v for k, v in data.items() if k == key)
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _values(value, key)


def test_run_writes_what_xarray_reads(place, capsys):
    summary = result(capsys, "run", "tiny.toml", "--out", "run")
    assert summary["status"] == "done" and summary["steps"] == 20
    assert summary["closures"][0]["calls"] == 10
    assert set(summary["invariants"]) == {"energy", "enstrophy"}
    fields = xr.open_dataset(place / "run" / "fields.zarr", engine="zarr", chunks=None, consolidated=False)
    assert fields["vorticity"].dims == ("time", "member", "y", "x")
    np.testing.assert_allclose(fields["time"], [0.0, 0.1, 0.2, 0.3, 0.4])
    assert fields["vorticity"].attrs["units"] == "1/time"
    assert np.isfinite(fields["vorticity"]).all()
    written = json.loads((place / "run" / "summary.json").read_text())
    assert {"versions", "machine", "git", "seconds"} <= set(written)
    events = [json.loads(line)["event"] for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert events == ["start", "done"]


def test_a_run_takes_its_folder_from_the_name_of_the_case(place, capsys):
    assert cli.execute(["run", "tiny.toml", "--set", "time.end=0.1"]) == cli.DONE
    out = capsys.readouterr().out
    assert out.startswith("done: 5 steps to t = 0.1") and "runs/tiny-run" in out
    assert (place / "runs" / "tiny-run" / "case.toml").is_file()


def test_compare_and_report(place, capsys):
    """Metrics, pictures and page; `report` draws a page that was lost again, and the same."""
    metrics = result(capsys, "compare", "tiny.toml", "--out", "compared")
    assert [row["name"] for row in metrics["rows"]] == ["none", "smagorinsky"]
    folder = place / "compared"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    page = (folder / "report.html").read_bytes()
    shutil.rmtree(folder / "pictures")
    (folder / "report.html").unlink()
    assert result(capsys, "report", "compared") == {"report": "compared/report.html"}
    assert (folder / "report.html").read_bytes() == page
    assert any((folder / "pictures").glob("*.png"))
    assert "is not empty" in refusal(capsys, "compare", "tiny.toml", "--out", "compared")
    printed.scores(Comparison.load(folder), folder, as_json=False)
    verdict = " ".join(capsys.readouterr().out.split())
    assert "The best closure is smagorinsky, with" in verdict and verdict.endswith("compared/report.html")


def test_data_makes_the_sets_once(place, capsys):
    made = result(capsys, "data", "tiny.toml", "--out", "where.txt")
    assert set(made) == {"reference", "training"}
    state = np.load(Path(made["training"]) / "state.npy")
    assert state.shape == (3, 4, 1, 32, 32)
    assert all(path in (place / "where.txt").read_text() for path in made.values())
    stamps = {p: p.stat().st_mtime_ns for p in Path(made["training"]).iterdir()}
    assert result(capsys, "data", "tiny.toml") == made
    assert {p: p.stat().st_mtime_ns for p in Path(made["training"]).iterdir()} == stamps


def test_trained_weights_run_where_they_were_trained_for(place, capsys):
    trained = result(capsys, "train", "tiny.toml", "--closure", "regression", "--out", "tiny.safetensors")
    assert trained["weights"] == "tiny.safetensors" and "relative_error" in trained["scores"]
    _, header = weights_file.load(place / "tiny.safetensors")
    assert header["training_case"] == "tiny.toml" and header["shape"] == [32, 32]
    use = ["--set", "closure.0.name=regression", "--set", "closure.0.weights=tiny.safetensors"]
    summary = result(capsys, "run", "tiny.toml", "--out", "learned", *use)
    assert summary["closures"][0]["name"] == "regression" and summary["closures"][0]["calls"] == 10

    capsys.readouterr()
    assert cli.execute(["run", "tiny.toml", "--out", "other", *use, "--set", "grid.shape=[24, 24]"]) == cli.FAILED
    message = capsys.readouterr().err
    assert "is for the shape [32, 32], the case has [24, 24]" in message and "Traceback" not in message
    assert not (place / "other").exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["run", "tiny.toml", "--backend", "jax"], "'jax' is not known; expected one of: numpy, cupy, torch"),
        (["run", "tiny.toml", "--backend", "torch:nowhere"], "'torch:nowhere' is not available here.*torch:cpu"),
        (["run", "tiny.toml", "--set", "backend=3"], "backend: expected numpy, cupy or torch.*found 3"),
        (["check", "absent.toml"], "absent.toml: 1 mistake\n  there is no such file"),
        (["check", "."], "there is no such file"),
        (["check", "tiny.toml", "--objective", "rollout"], "of the training.*Remedy: --memory --closure NAME"),
        (["check", "tiny.toml", "--memory", "--unroll", "3"], "of the training.*Remedy: --memory --closure NAME"),
        (["resume", "absent"], "holds no run.*Remedy: `subgrid run CASE --out .*absent`"),
        (["report", "absent"], "absent holds no run and no comparison.*Remedy: the folder of"),
        (["train", "tiny.toml", "--closure", "smagorinsky"], "has nothing to train"),
        (["train", "tiny.toml", "--closure", "regresion"], "did you mean 'regression'"),
        (["train", "tiny.toml"], "closure"),
        (["compare", "tiny.toml", "--set", "reference.exact=true"], "reference.shape: expected exactly one"),
        (["rum", "tiny.toml"], "rum"),
        (["run", "tiny.toml", "--member", "3"], "--member"),
        (["run"], "case"),
        (["new", "solver", "x"], "solver"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_message_that_names_it(command, expected, place, capsys):
    import re

    before = set(place.iterdir())
    assert re.search(expected, refusal(capsys, *command), re.DOTALL | re.IGNORECASE)
    assert set(place.iterdir()) == before


def test_a_case_at_rest_has_no_step(place, capsys):
    """time.cfl needs a speed: refused before anything is written."""
    still = TINY.partition("[reference]")[0].replace("step = 0.02", "cfl = 0.5")
    (place / "still.toml").write_text(still.replace('"reference"', '"taylor-green"\namplitude = 0.0'))
    assert "time.cfl: the initial state is at rest" in refusal(capsys, "run", "still.toml", "--out", "still")
    assert not (place / "still").exists()


def test_a_defect_of_ours_keeps_its_traceback(place, monkeypatch):
    """Only errors that the user can act on become messages."""
    from subgrid.commands import run

    def broken(*args, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run, "prepare", broken)
    with pytest.raises(ZeroDivisionError):
        cli.execute(["run", "tiny.toml", "--out", "defect"])
