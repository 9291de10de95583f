"""A small case with a reference, a training set and a sweep, and a cache for each test."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from subgrid.solver.case.reading import check

CASE = {
    "title": "a pulse",
    "equation": {"name": "burgers", "viscosity": 0.05},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.2, "step": 0.001, "stepper": "rk4"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.02},
    "closure": [{"name": "oracle", "every": 10}],
    "reference": {"shape": [32]},
    "training": {"trajectories": 3, "validation": 1, "start": 0.0, "end": 0.2, "every": 0.02, "seed": 2},
    "sweep": {"parameters": {"initial.width": [0.1, 0.12]}, "counts": [3]},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def exponax() -> Callable[[str, Path], None]:
    """Runs code that computes `states` with exponax, and saves them to a file, (sample, time, channel, *space).

    In a process of its own: JAX starts threads, beside which other tests must not fork.
    """
    if importlib.util.find_spec("exponax") is None:
        pytest.skip("needs exponax")

    def save(code: str, path: Path) -> None:
        lines = ("import exponax, jax", "import numpy as np", code, f"np.save({str(path)!r}, np.asarray(states)[None])")
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=300)

    return save


@pytest.fixture
def pulse():
    """The case as plain data."""
    return CASE


@pytest.fixture
def case():
    return check(CASE, "case", Path())
