"""The predicted memory of a case against that of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from subgrid.commands import memory
from subgrid.commands.cli import execute

CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "run": (
        "run",
        "taylor-green",
        ("grid.shape=[384,384]", "ensemble.members=24", "time.step=0.01", "time.end=0.05", "output.every=0.05"),
    ),
    "phase space": (
        "run",
        "two-stream",
        (
            "grid.shape=[1024,1024]", "ensemble.members=4", "time.step=0.02", "time.end=0.02", "output.every=0.02",
            "reference.shape=[1024,1024]", "reference.step=0.02",
        ),
    ),
    "shallow water": (
        "data",
        "shallow-water-drop",
        (
            "reference.shape=[1024,1024]", "reference.trajectories=4", "ensemble.members=4", "time.step=1e-4",
            "time.end=2e-4", "output.every=1e-4",
        ),
    ),
    "many trajectories": (
        "data",
        "burgers-forced",
        (
            "grid.shape=[256]", "reference.trajectories=1000", "ensemble.members=1000", "training.trajectories=5000",
            "time.start=0", "time.end=0.001", "output.every=0.001", "training.start=0", "training.end=0.001",
            "training.every=0.001",
        ),
    ),
    "2048 x 2048": (
        "data",
        "kolmogorov-les",
        (
            "grid.shape=[256,256]", "reference.shape=[2048,2048]", "reference.trajectories=1", "ensemble.members=1",
            "training.trajectories=2", "training.validation=1", "time.start=0", "time.end=0.01", "time.step=0.01",
            "reference.step=0.01", "output.every=0.01", "training.start=0", "training.end=0.02", "training.every=0.01",
            "time.stepper=cnab2",
        ),
    ),
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the largest memory is read from /proc")
@pytest.mark.parametrize("name", CASES)
def test_the_predicted_memory_is_that_of_the_command(in_a_process_of_its_own, name, tmp_path, monkeypatch):
    """To 25 %, for a run and for data, of which one block of trajectories is in memory; and with less of it."""
    command, case, changes = CASES[name]
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    sets = [f"--set={text}" for text in changes]
    check = in_a_process_of_its_own("check", case, *sets, "--memory", "--json")
    parts = {part: float(text.split()[1]) for part, text in json.loads(check.stdout)["memory"].items()}
    predicted = parts["run"] if command == "run" else max(size for part, size in parts.items() if part != "run")
    out = ["--out", str(tmp_path / "run")] if command == "run" else []
    done = in_a_process_of_its_own(command, case, *sets, "--json", *out)
    measured, checked = (int(process.stderr.split()[-1]) / 2**20 for process in (done, check))
    assert predicted == pytest.approx(measured, rel=0.25)
    assert checked < 0.8 * measured


def test_a_case_that_does_not_fit_is_refused_with_the_number(capsys, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    big = ["--set", "grid.shape=[2048,2048]", "--set", "ensemble.members=40"]
    assert execute(["check", "taylor-green", *big, "--memory"]) == 2
    assert "memory: the run needs about" in capsys.readouterr().err


def test_particles_and_a_forcing_from_a_file_have_a_prediction_and_tracers_are_refused(tmp_path, capsys):
    assert execute(["check", "charged-particles", "--memory"]) == 0
    np.savez(tmp_path / "f.npz", forcing=np.ones((192, 192)))
    text = """
        title = "large"
        equation = { name = "kolmogorov", viscosity = 0.01, forcing = { kind = "file", path = "f.npz" } }
        grid = { shape = [192, 192], length = [6.0, 6.0] }
        time = { end = 0.1, step = 0.01, stepper = "etdrk4" }
        initial = { kind = "taylor-green" }
        output = { every = 0.1 }
        """
    (tmp_path / "case.toml").write_text(text, encoding="utf-8")
    assert execute(["check", str(tmp_path / "case.toml"), "--memory"]) == 0
    assert execute(["check", "tracers-kolmogorov", "--memory"]) == 2
    assert "--memory: not for tracers" in capsys.readouterr().err
