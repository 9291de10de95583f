"""Trajectories of exponax, small: the missing term from their states is ours, and a case compares against them.

Exponax runs in a process of its own: JAX starts threads, beside which other tests must not fork.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from subgrid import compare
from subgrid.solver.case.reading import read

STUDIES = Path(__file__).parents[2] / "studies"
CODE = """
import json, sys
from pathlib import Path
sys.path.insert(0, {studies!r})
import numpy as np
import exponax_reference as study

folder = Path()
states = study.trajectories(64, 2, seed=1, span=0.4, spin_up=0)
for name in ("train", "test"):
    np.save(folder / f"{{name}}.npy", states)
file = study.case(folder, 64, 20, span=0.4, samples=(2, 2))
print(json.dumps(study.missing_terms(study.read(file), states, 3)))
"""


@pytest.mark.skipif(importlib.util.find_spec("exponax") is None, reason="needs exponax")
def test_the_missing_term_of_states_of_exponax_is_ours_and_a_case_compares_against_them(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-c", CODE.format(studies=str(STUDIES))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout)
    assert len(differences) == 2 and max(differences.values()) < 1e-6
    case = read(tmp_path / "exponax.toml", ['compare.closures=[{name="smagorinsky", coefficient=0.05}]'])
    result = compare(case, progress=False)
    assert "fulfils kolmogorov to" in caplog.text
    none = result.metrics.rows[0]
    assert none.relative_l2[0] < 1e-7 < 1e-3 < none.relative_l2[-1]
    finest = max(result.metrics.frontier, key=lambda row: row.shape[0])
    assert finest.shape == [32, 32] and finest.relative_l2[-1] < 0.2 * none.relative_l2[-1]
