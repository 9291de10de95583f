"""The measuring code of `make gpu` at tiny sizes on the host, so that it works when there is a device."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import learned
import numpy as np
import page
import problems
import pytest
import run
import wheels
from frontier import speed_up
from measuring import TINY, Place, Row

from subgrid.solver.backend import Backend


@pytest.mark.parametrize("part", list(run.PARTS))
def test_measuring_a_part(tmp_path, part):
    """Its rows have finite values, which are written as they come."""
    run.measure(part, "torch:cpu", tiny=True, rows=tmp_path)
    found = json.loads((tmp_path / f"{part}.json").read_text())
    assert found["backend"] == "torch:cpu" and found["rows"]
    known = [row for row in found["rows"] if row["unit"] != "not measured"]
    assert known and all(np.isfinite(row["value"]) for row in known)
    if part == "parity":
        assert all(row["met"] for row in known if row["required"] is not None)
    if part == "steps":
        peer = [row for row in found["rows"] if row["what"].startswith("torch-cfd over ours")]
        assert peer and all((row in known) == bool(find_spec("torch_cfd")) for row in peer)


def test_measuring_writes_the_page(tmp_path):
    good = Row("steppers: a", 1e-15, "relative", "4 steppers", 1e-12, False)
    bad = Row("exponax over ours", 1.1, "ratio", "", 1.5)
    lost = Row("jax-cfd over ours", float("nan"), "not measured", "no module")
    about = {"device": "a device", "backend": "torch:cuda", "date": "2026-01-01", "versions": ["torch 2"]}
    for part, rows in (("parity", [good]), ("steps", [bad, lost])):
        table = [row._asdict() | {"met": row.met} for row in rows]
        (tmp_path / f"{part}.json").write_text(json.dumps({**about, "rows": table}))
    assert page.write(tmp_path, tmp_path / "gpu.md", ["training (1)"]) == ["exponax over ours"]
    text = (tmp_path / "gpu.md").read_text()
    assert "a device, backend torch:cuda, 2026-01-01, torch 2" in text
    assert "| steppers: a | 1e-15 | relative | at most 1e-12 | 4 steppers |" in text
    assert "| exponax over ours | 1.1 | ratio | at least 1.5, **missed** |  |" in text
    assert "training (1)" in text and "Not measured: " in text and "nan" not in text


def test_measuring_fits_the_time_of_a_device():
    timed = sum(seconds for part, seconds in run.PARTS.items() if part not in run.UNTIMED)
    together = max(run.PARTS[part] for part in run.UNTIMED)
    assert timed + together < 15 * 60 and max(run.PARTS.values()) < 10 * 60


def test_measuring_without_a_device_says_so_and_succeeds(monkeypatch, capsys):
    monkeypatch.setattr(run, "device", lambda: None)
    assert run.main(["--part", "parity"]) == 0
    assert "there is no CUDA device here" in capsys.readouterr().out


def test_measuring_in_processes_of_their_own(monkeypatch, tmp_path):
    """What happens with a device, on the host."""
    monkeypatch.setattr(run, "device", lambda: "the host")
    arguments = ["--part", "bandwidth", "--backend", "torch:cpu", "--tiny"]
    arguments += ["--rows", str(tmp_path), "--page", str(tmp_path / "gpu.md")]
    assert run.main(arguments) == 0
    assert "bandwidth of a copy" in (tmp_path / "gpu.md").read_text()


def test_calls_of_closures_that_move_tracers_are_measured_with_their_flow(monkeypatch):
    chosen = {name: problems.CLOSURES[name] for name in ("corrected-flow",)}
    monkeypatch.setattr(problems, "CLOSURES", chosen)
    (row,) = learned.call_rows(Place(Backend("torch", "cpu")), replace(TINY, problems=None))
    assert row.what == "call over steps: corrected-flow" and np.isfinite(row.value)


def test_a_step_of_the_time_is_that_of_the_work():
    place, calls = Place(Backend("torch", "cpu")), []
    assert place.seconds(lambda: calls.append(1), TINY) >= 0 and len(calls) >= 4


def test_a_speed_up_is_the_cost_of_the_ladder_at_the_same_error():
    ladder = [(0.4, 1.0), (0.1, 16.0)]
    assert speed_up(ladder, 0.2, 2.0) == pytest.approx(2.0)
    assert speed_up(ladder, 0.5, 2.0) is None and speed_up(ladder[:1], 0.4, 1.0) is None


def test_measuring_names_its_parts():
    found = subprocess.run([sys.executable, str(Path(run.__file__)), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and all(part in found.stdout for part in run.PARTS)


def test_the_wheels_for_a_machine_without_an_index_are_what_it_lacks(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(wheels, "TOOLS", ["setuptools", "pytest"])  # exponax need not be installed here
    found = {line.partition("==")[0] for line in wheels.needed()}
    assert {"array-api-compat", "pydantic", "pydantic-core", "zarr", "pytest", "iniconfig"} <= found
    assert not found & wheels.PRESENT
    assert wheels.install(tmp_path) == 2
    assert f"Remedy: python tests/gpu/wheels.py collect {tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr(wheels, "TOOLS", ["no-such-peer"])
    assert wheels.collect(tmp_path) == 2 and not list(tmp_path.iterdir())
    assert "no-such-peer is not installed here. Remedy: make bench" in capsys.readouterr().err
