"""SIGKILL at random instants. `python tests/kills.py` does the same at more instants."""

from __future__ import annotations

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
