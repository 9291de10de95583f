"""Rows of a comparison have names that tell them apart, or are refused before anything runs."""

from typing import Any

import pytest

from subgrid.commands import cli
from subgrid.solver.case.compare_rows import named_rows, row_mistakes
from subgrid.solver.case.tables import CompareTable

CASE = """
title = "rows"
equation = {{ name = "burgers", viscosity = 0.05 }}
grid = {{ shape = [16], length = [6.283185307179586] }}
time = {{ end = 1.0, step = 0.1, stepper = "rk4" }}
initial = {{ kind = "sine" }}
output = {{ every = 0.5 }}
reference = {{ shape = [64], step = 0.02 }}
compare = {{ frontier = false, closures = {rows} }}
"""


def rows(*entries: Any):
    return CompareTable.model_validate({"closures": list(entries)}).closures


def names(*entries: Any) -> list[str]:
    return [row.name for row in named_rows(rows(*entries))]


def test_unlabelled_rows_of_one_closure_are_named_by_what_differs():
    assert names({"name": "hyperviscosity", "every": 2}, {"name": "hyperviscosity", "every": 1}) == [
        "hyperviscosity, every 2",
        "hyperviscosity, every 1",
    ]
    assert names("leith", {"name": "leith", "coefficient": 0.2, "hold": "linear"}, "smagorinsky") == [
        "leith",
        "leith, hold linear, coefficient 0.2",
        "smagorinsky",
    ]
    assert names(
        ["leith", {"name": "oracle", "weight": 0.5}], ["leith", {"name": "oracle", "weight": 0.9, "every": 2}]
    ) == ["leith + oracle, oracle every 1, oracle weight 0.5", "leith + oracle, oracle every 2, oracle weight 0.9"]
    assert names({"path": "/a/one.py:Damping"}, {"path": "/a/two.py:Damping"}) == [
        "Damping, path one.py:Damping",
        "Damping, path two.py:Damping",
    ]


def test_labels_and_single_rows_are_left_as_they_are():
    given = rows({"name": "leith", "label": "ours"}, "leith", "none", ["leith", "oracle"])
    assert named_rows(given) == given
    assert not row_mistakes(named_rows(given))


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        (["leith", "leith"], "two rows are named 'leith'"),
        ([{"name": "leith", "label": "a"}, {"name": "oracle", "label": "a"}], "two rows are named 'a'"),
        ([{"name": "leith", "label": "reference"}], "'reference' is the name of another row"),
        ([{"name": "leith", "label": "none"}], "'none' is the name of another row"),
        ([{"name": "none", "label": "reference"}], "'reference' is the name of another row"),
        ([{"name": "leith", "label": "nearest training run"}], "is the name of another row"),
        (["none", {"name": "none", "label": "bare"}], 'two rows have no closure but "none"'),
    ],
)
def test_names_that_would_be_mistaken_for_another_row_are_refused(entries, found):
    mistakes = row_mistakes(named_rows(rows(*entries)))
    assert len(mistakes) == 1 and found in mistakes[0] and "Remedy" in mistakes[0]


@pytest.mark.parametrize("row", ['{ name = "leith", label = "reference" }', '"hyperviscosity", "hyperviscosity"'])
def test_names_are_checked_before_anything_runs(tmp_path, capsys, monkeypatch, row):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = tmp_path / "case.toml"
    case.write_text(CASE.format(rows=f"[{row}]"))
    assert cli.execute(["check", str(case)]) == 2
    assert cli.execute(["compare", str(case), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()
    assert "compare.closures" in capsys.readouterr().err
