"""The formula of a closure that has one is in its row, in metrics.json and in the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from subgrid.commands.comparison.compare import compare
from subgrid.solver.case.reading import check

CLOSURES = '''
"""A closure that states its term."""

from subgrid import Closure, Tendency


class Damped(Closure):
    """du/dt = -rate u."""

    rate: float = 1.0
    text: str | None = None

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(-self.rate * view.state), memory

    def formula(self):
        if self.text == "fail":
            raise OSError("no formula today")
        return self.text
'''


@pytest.fixture
def case_of(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "damped.py").write_text(CLOSURES)

    def case(*rows):
        data = {
            "title": "damped",
            "equation": {"name": "burgers", "viscosity": 0.05},
            "grid": {"shape": [32], "length": [2 * np.pi]},
            "time": {"end": 0.2, "step": 0.02, "stepper": "etdrk4"},
            "initial": {"kind": "reference"},
            "output": {"every": 0.1},
            "reference": {"shape": [64], "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0}},
            "compare": {"closures": list(rows), "frontier": False},
        }
        return check(data, "case", tmp_path)

    return case


def damped(**options):
    return {"path": "damped.py:Damped", **options}


def test_rows_and_the_report_state_the_formulas_of_their_closures(case_of, tmp_path):
    rows = [
        {"label": "both", "closures": [damped(text="du/dt += -1 u"), damped(text="du/dt += u < 2"), damped()]},
        {"label": "silent", **damped()},
    ]
    found = compare(case_of(*rows), out=tmp_path / "out", progress=False)
    formulas = {row.name: row.formula for row in found.metrics.rows}
    assert formulas == {"none": None, "both": "du/dt += -1 u; du/dt += u < 2", "silent": None}
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["formula"] for row in written["rows"]] == list(formulas.values())
    html = found.report(tmp_path / "report.html").read_text()
    assert "<code>du/dt += -1 u; du/dt += u &lt; 2</code>" in html
    assert html.count("<code>du/dt") == 1


def test_a_formula_that_cannot_be_made_fails_its_row_alone(case_of):
    found = compare(case_of({"label": "bad", **damped(text="fail")}, {"label": "good", **damped()}), progress=False)
    failed = {row.name: row.failed for row in found.metrics.rows}
    assert failed["none"] is None and failed["good"] is None
    assert "no formula today" in failed["bad"]
