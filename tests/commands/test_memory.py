"""The predicted memory of a case against that of the command."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from subgrid.commands import memory
from subgrid.commands.cli import execute

CHANGES = ("grid.shape=[384,384]", "ensemble.members=24", "time.step=0.01", "time.end=0.05", "output.every=0.05")
LARGE = ["taylor-green", *(f"--set={text}" for text in CHANGES)]


def test_the_predicted_memory_is_that_of_a_run(tmp_path, capsys):
    """To 25 %; the child is the largest process that this one has waited for."""
    assert execute(["check", *LARGE, "--memory", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["memory"]["run"]
    predicted = float(said.split()[1])
    code = (
        "import resource, sys; from subgrid.commands.cli import execute; code = execute(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "run", *LARGE, "--json", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    measured = int(done.stderr.split()[-1]) / 2**20
    assert predicted == pytest.approx(measured, rel=0.25)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < 2 * measured  # it was not run here


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
