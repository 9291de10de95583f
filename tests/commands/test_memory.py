"""The predicted memory of a case against that of the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from subgrid.commands import memory
from subgrid.commands.cli import execute

CHANGES = ("grid.shape=[384,384]", "ensemble.members=24", "time.step=0.01", "time.end=0.05", "output.every=0.05")
LARGE = ["taylor-green", *(f"--set={text}" for text in CHANGES)]


def in_a_process_of_its_own(*arguments: str) -> subprocess.CompletedProcess:
    """A command, with the largest memory of its process in KiB as the last line of standard error.

    VmHWM is of the program alone. ru_maxrss would include the process of the tests, from which the child was forked.
    """
    code = (
        "import sys; from subgrid.commands.cli import execute; code = execute(sys.argv[1:]); "
        "lines = open('/proc/self/status', encoding='utf-8').read().splitlines(); "
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the largest memory is read from /proc")
def test_the_predicted_memory_is_that_of_a_run(tmp_path):
    """To 25 %, and with less of it."""
    check = in_a_process_of_its_own("check", *LARGE, "--memory", "--json")
    predicted = float(json.loads(check.stdout)["memory"]["run"].split()[1])
    run = in_a_process_of_its_own("run", *LARGE, "--json", "--out", str(tmp_path / "run"))
    measured, checked = (int(done.stderr.split()[-1]) / 2**20 for done in (run, check))
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
