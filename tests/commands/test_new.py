"""`subgrid new` writes files that work as they are, anywhere, and never over others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from subgrid.commands import cli, new
from subgrid.solver.case.reading import read


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory outside the repository, and a cache of its own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    return folder


def test_a_new_closure_runs_in_a_comparison_and_passes_its_own_test(elsewhere, capsys):
    assert cli.execute(["new", "closure", "my_damping", "--json"]) == cli.DONE
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == ["my_damping.py", "test_my_damping.py", "my_damping-case.toml"]
    assert "class MyDamping(Closure):" in (elsewhere / "my_damping.py").read_text()
    assert cli.execute(["check", "my_damping-case.toml"]) == cli.DONE

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_damping.py"],
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "4 passed" in tests.stdout

    short = ["--set", "time.end=1.0", "--set", "compare.frontier=false"]
    assert cli.execute(["compare", "my_damping-case.toml", "--json", *short]) == cli.DONE
    rows = {
        row["name"]: row for row in json.loads(Path("runs/my_damping-case-compare/metrics.json").read_text())["rows"]
    }
    assert set(rows) == {"none", "MyDamping", "smagorinsky"}
    assert rows["MyDamping"]["failed"] is None
    assert rows["MyDamping"]["closure_calls"] == 25
    assert rows["MyDamping"]["skill"] > 0.1
    assert (elsewhere / "runs" / "my_damping-case-compare" / "report.html").is_file()


def test_a_new_case_is_in_order_and_runs(elsewhere):
    assert cli.execute(["new", "case", "first", "--out", "cases"]) == cli.DONE
    case = read(Path("cases/first.toml"))
    assert case.title == "first"
    assert cli.execute(["run", "cases/first.toml", "--set", "time.end=0.2", "--json"]) == cli.DONE
    assert json.loads(Path("runs/first-run/summary.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("what", "name", "expected"),
    [
        ("closure", "my-closure", "not an identifier"),
        ("closure", "9lives", "not an identifier"),
        ("closure", "class", "not an identifier"),
        ("case", "../up", "not an identifier"),
        ("closure", "numpy", "would hide the installed module"),
        ("closure", "random", "would hide the installed module"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(what, name, expected, elsewhere, capsys):
    assert cli.execute(["new", what, name]) == cli.MISTAKE
    message = capsys.readouterr().err
    assert expected in message and "Remedy" in message
    assert not any(elsewhere.iterdir())


def test_nothing_is_overwritten(elsewhere, capsys):
    """One file that is there already, whichever, and none is written."""
    for name in ("damping.py", "test_damping.py", "damping-case.toml"):
        (elsewhere / name).write_text("mine")
        assert cli.execute(["new", "closure", "damping"]) == cli.MISTAKE
        assert f"{name}: exists already" in capsys.readouterr().err
        assert [f.name for f in elsewhere.iterdir()] == [name]
        assert (elsewhere / name).read_text() == "mine"
        (elsewhere / name).unlink()


def test_every_template_is_used():
    listed = {source for files in new.FILES.values() for source in files}
    assert {f.name for f in new.TEMPLATES.iterdir() if f.is_file()} == listed
