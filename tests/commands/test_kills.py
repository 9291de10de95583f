"""SIGKILL at random instants. `python tests/kills.py` and `tests/cluster_kills.py` do the same at more instants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "kills.py"


@pytest.mark.parametrize("command", ["data", "regression", "lasdi"])
def test_a_command_that_is_killed_loses_nothing_and_ends_with_the_same_bytes(command):
    """In a process of its own, which forks."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "3", command], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the same files at the end" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("command", ["sweep", "compare", "run"])
def test_a_command_whose_workers_and_scheduler_are_killed_does_nothing_twice_and_ends_with_the_same_bytes(command):
    done = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("cluster_kills.py")), "2", "1", command],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{command}: " in done.stdout and "the same files at the end" in done.stdout
