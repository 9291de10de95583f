"""A small part of the fuzz test; the whole is `make fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "run.py"


def test_mutated_input_gives_one_message_and_the_promised_exit_code():
    numbers = ["--cases", "30", "--runs", "12", "--files", "12"]
    command = [sys.executable, str(RUN), *numbers, "--patience", "20", "--seed", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failures" in done.stdout


def test_the_fuzz_test_sees_a_traceback(tmp_path):
    """With a defect put into the command line it fails, and shows the mutation and the traceback."""
    (tmp_path / "sitecustomize.py").write_text(
        "import subgrid.commands.failures as failures\nfailures.explain = lambda error, command: None\n"
    )
    command = [sys.executable, str(RUN), "--cases", "2", "--seed", "3"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a traceback" in done.stdout and "CaseError" in done.stdout
