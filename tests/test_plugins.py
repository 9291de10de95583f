"""Plug-ins of every kind, as docs/plugins.md describes them: by path, as an installed package, resumed, and wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from subgrid import read_case
from subgrid.commands.cli import MISTAKE, execute
from subgrid.ingest.requests import reference_request
from subgrid.solver.backend.files import read_arrays

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = re.compile(r"^```\w+\n(# file: (\S+)\n.*?)^```$", re.DOTALL | re.MULTILINE)


def files(page: str) -> dict[str, str]:
    """The files of a page's blocks, by name."""
    return {name: text for text, name in FILES.findall((DOCS / page).read_text(encoding="utf-8"))}


def start(folder: Path, *arguments: str, path: str = "") -> subprocess.Popen[str]:
    """Start a command in a folder, as a process of its own."""
    code = "import sys\nfrom subgrid.commands.cli import execute\nsys.exit(execute(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def subgrid(folder: Path, *arguments: str, path: str = "") -> str:
    """Run a command in a folder, as a process of its own; returns what it prints."""
    process = start(folder, *arguments, path=path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


def fields(run: Path) -> xr.Dataset:
    found = xr.open_zarr(run / "fields.zarr").load()
    return found.drop_vars([v for v in found if "_by_" in str(v)])  # named after what a closure is called in the case


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """A folder with the files of the tutorial, outside the package; the weights of its closure are made up."""
    folder = tmp_path_factory.mktemp("example")
    for name, text in files("tutorial.md").items():
        (folder / name).write_text(text, encoding="utf-8")
    np.savez(folder / "rates.npz", rates=np.linspace(0.0, 2.0, 32), shape=(32, 32))
    return folder


@pytest.fixture(scope="module")
def by_path(example, tmp_path_factory) -> dict[str, xr.Dataset]:
    """Runs that name each plug-in by `path = "file.py:NAME"`, started from another folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    kdv = ("run", str(example / "kdv.toml"), "--set", "time.end=0.2")
    subgrid(elsewhere, *kdv, "--set", 'time.stepper={path="ralston.py:RALSTON"}', "--out", "kdv")
    decay = ("run", str(example / "decay.toml"), "--set", "time.end=0.4")
    closure = 'closure=[{path="shell_damping.py:ShellDamping", weights="rates.npz"}]'
    forcing = 'equation.forcing={path="cells.py:Cells", amplitude=4.0}'
    initial = 'initial={path="vortices.py:VortexPair", gamma=5.0}'
    subgrid(elsewhere, *decay, "--set", closure, "--set", forcing, "--set", initial, "--out", "decay")
    return {name: fields(elsewhere / name) for name in ("kdv", "decay")}


def test_plugins_run_by_path_from_a_folder_outside_the_package(by_path):
    ds = by_path["kdv"]
    exact = 2 / np.cosh((ds.x - 10 - 4 * ds.time + 10) % 20 - 10) ** 2
    assert float(np.abs(ds["elevation"].isel(member=0) - exact).max()) < 1e-3
    assert abs(float(by_path["decay"]["vorticity"][0].mean())) < 1e-12
    assert np.isfinite(by_path["decay"]["vorticity"]).all()


def outcome(run: Path) -> dict[str, object]:
    """Every file of fields.zarr by its name, and every array of the last checkpoint, as bytes."""
    arrays = read_arrays(run / "checkpoint" / "state.npz")
    files = {str(f.relative_to(run)): f.read_bytes() for f in (run / "fields.zarr").rglob("*") if f.is_file()}
    return files | {f"checkpoint {k}": (v.dtype.str, v.shape, v.tobytes()) for k, v in arrays.items()}


PATHS = {
    "kdv": ('time.stepper={path="ralston.py:RALSTON"}',),
    "decay": (
        'closure=[{path="shell_damping.py:ShellDamping", weights="rates.npz", every=3}]',
        'equation.forcing={path="cells.py:Cells", amplitude=4.0}',
        'initial={path="vortices.py:VortexPair", gamma=5.0}',
        "time.step=0.002",
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_run_of_plugins_resumes_from_another_folder_with_equal_bytes(name, example, tmp_path):
    """Killed by SIGKILL after its first checkpoint: no plug-in has a state that the checkpoint lacks."""
    overrides = (*PATHS[name], "time.end=8.0", "output.every=0.4", "output.checkpoint_every=0.2")
    command = ["run", str(example / f"{name}.toml"), *(word for o in overrides for word in ("--set", o))]
    whole, cut, elsewhere = tmp_path / "whole", tmp_path / "cut", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subgrid(tmp_path, *command, "--out", str(whole))
    process = start(tmp_path, *command, "--out", str(cut))
    deadline = time.monotonic() + 60
    while not (cut / "checkpoint" / "state.npz").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(1e-3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be cut"
    reached, end = (int(read_arrays(run / "checkpoint" / "state.npz")["step"]) for run in (cut, whole))
    assert 0 < reached < end
    subgrid(elsewhere, "resume", str(cut))
    found, expected = outcome(cut), outcome(whole)
    assert sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)) == []


EDITED = {
    "equation": ("kdv", "equation.py"),
    "initial state": ("kdv", "initial.py"),
    "stepper": ("kdv", "stepper.py"),
    "forcing": ("decay", "cells.py"),
}


@pytest.mark.parametrize("kind", EDITED)
def test_an_edit_of_a_plugin_changes_the_directory_of_the_reference(kind, tmp_path, monkeypatch):
    """Each plug-in is in a file of its own; a file that the case does not name has no influence."""
    case, edited = EDITED[kind]
    texts = files("tutorial.md")
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name, source in (("equation", "kdv"), ("initial", "kdv"), ("stepper", "ralston"), ("other", "kdv")):
        (tmp_path / f"{name}.py").write_text(texts[f"{source}.py"], encoding="utf-8")
    changes = {
        "kdv": {
            "equation": {"path": "equation.py:KortewegDeVries"},
            "initial": {"path": "initial.py:Soliton"},
            "time.stepper": "stepper.py:RALSTON",
            "reference": {"shape": [128]},
        },
        "decay": {"equation.forcing": {"path": "cells.py:Cells"}},
    }[case]

    def directory() -> Path:
        return reference_request(read_case(tmp_path / f"{case}.toml", changes)).directory()

    before = directory()
    for name in ("other.py", edited):
        file = tmp_path / name
        content = file.read_bytes()
        file.write_bytes(content + b"\n# edited\n")
        assert (directory() == before) == (name == "other.py")
        file.write_bytes(content)
        assert directory() == before


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder with the package of the page's pyproject.toml and its metadata, as pip installs them."""
    site = tmp_path / "site"
    package, info = site / "my_waves", site / "my_waves-0.1.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    for name, text in files("tutorial.md").items():
        if name.endswith(".py"):
            (package / name).write_text(text, encoding="utf-8")
    (package / "__init__.py").touch()
    project = tomllib.loads(files("plugins.md")["pyproject.toml"])["project"]
    groups = project["entry-points"]
    assert set(groups) == {f"subgrid.{kind}" for kind in ("closures", "equations", "initial", "forcings", "steppers")}
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def test_the_list_shows_the_plugins_of_a_package(site, tmp_path):
    expected = {
        "equations": {"korteweg-de-vries": "u_t + 6 u u_x + u_xxx = 0, periodic"},
        "initial states": {"soliton": "u = 2 / cosh²(x - centre - 4 t)"},
        "forcings": {"cells": "f = A cos(n 2 pi x / L_x)"},
        "steppers": {"ralston3": "order 3; Ralston"},
        "closures": {"shell-damping": "dw_hat/dt += -rate_k w_hat"},
        "readers": {},
        "diagnostics": {},
    }
    with_package = json.loads(subgrid(tmp_path, "list", "--json", path=str(site)))
    without = json.loads(subgrid(tmp_path, "list", "--json"))
    assert with_package.keys() == without.keys() == {*expected, "cases"}
    for kind, entries in expected.items():
        assert with_package[kind].keys() - without[kind].keys() == entries.keys()
        for name, text in entries.items():
            assert with_package[kind][name].startswith(text)


def test_a_package_of_plugins_gives_the_same_runs_by_name(site, example, by_path, tmp_path):
    """From another folder, with an equation, an initial state, a stepper, a forcing and a closure by entry point."""
    cases = tmp_path / "cases"
    cases.mkdir()
    text = (example / "kdv.toml").read_text()
    text = text.replace('path = "kdv.py:KortewegDeVries"', 'name = "korteweg-de-vries"')
    (cases / "kdv.toml").write_text(text.replace('path = "kdv.py:Soliton"', 'kind = "soliton"'))
    (cases / "decay.toml").write_bytes((example / "decay.toml").read_bytes())
    (cases / "rates.npz").write_bytes((example / "rates.npz").read_bytes())
    assert "path" not in (cases / "kdv.toml").read_text()
    overrides = {
        "kdv": ("time.end=0.2", "time.stepper=ralston3"),
        "decay": (
            "time.end=0.4",
            'closure=[{name="shell-damping", weights="rates.npz"}]',
            'equation.forcing={kind="cells", amplitude=4.0}',
            'initial={path="../site/my_waves/vortices.py:VortexPair", gamma=5.0}',
        ),
    }
    for name, expected in by_path.items():
        options = [word for value in overrides[name] for word in ("--set", value)]
        subgrid(cases, "run", f"{name}.toml", *options, "--out", name, path=str(site))
        xr.testing.assert_equal(fields(cases / name), expected)
    summary = json.loads((cases / "decay" / "summary.json").read_text())
    assert summary["closures"][0]["name"] == "shell-damping" and summary["closures"][0]["calls"] == 20


WRONG = '''
import numpy as np

from subgrid import Equation, Field, Forcing, InitialState


class Plain:
    """Subclass of nothing."""


class Unnamed(Equation):
    dimensions, fields, terms = (1,), (Field("elevation", "1", "u"),), ()

    def linear(self, operators):
        return 1j * operators.k[0] ** 3

    def nonlinear(self, operators, u, t):
        return 0 * u

    def invariants(self, state, grid):
        return {}

    def signal_speed(self, state, grid):
        return (1.0,)


class NoState(InitialState):
    pass


class NoField(Forcing):
    pass


class Raises(InitialState):
    def state(self, equation, grid, members, seed, folder=None):
        raise RuntimeError("no waves today")
'''
OVERRIDES = {
    "equation": ("kdv", 'equation={path="%s"}', "equation.path"),
    "initial": ("kdv", 'initial={path="%s"}', "initial.path"),
    "stepper": ("kdv", 'time.stepper="%s"', "time.stepper"),
    "forcing": ("decay", 'equation.forcing={path="%s"}', "equation.forcing.path"),
    "closure": ("decay", 'closure=[{path="%s"}]', "closure.0.path"),
}
BASES = {
    "equation": "is not a subclass of subgrid.Equation",
    "initial": "is not a subclass of subgrid.InitialState",
    "stepper": "is not a stepper: found an object of type type",
    "forcing": "is not a subclass of subgrid.Forcing",
    "closure": "is not a subclass of subgrid.Closure",
}
MISTAKES = [
    *((kind, "absent.py:Some", "there is no file {folder}/absent.py") for kind in OVERRIDES),
    *((kind, "wrong.py:Absent", "{folder}/wrong.py defines no Absent") for kind in OVERRIDES),
    *((kind, "broken.py:Some", "cannot be imported: ModuleNotFoundError") for kind in OVERRIDES),
    *((kind, "wrong.py:Plain", message) for kind, message in BASES.items()),
    ("equation", "wrong.py:Unnamed", "wrong.py:Unnamed does not define name"),
    ("initial", "wrong.py:NoState", "wrong.py:NoState does not define state"),
    ("forcing", "wrong.py:NoField", "wrong.py:NoField does not define field"),
    ("initial", "wrong.py:Raises", "RuntimeError: no waves today ({folder}/wrong.py, line"),
]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("kind", "path", "message"), MISTAKES, ids=[f"{k} {p}" for k, p, _ in MISTAKES])
def test_a_wrong_plugin_is_one_message_and_exit_code_2(kind, path, message, command, tmp_path, monkeypatch, capsys):
    case, override, key = OVERRIDES[kind]
    monkeypatch.chdir(tmp_path)
    for name, text in files("tutorial.md").items():
        Path(name).write_text(text, encoding="utf-8")
    Path("wrong.py").write_text(WRONG)
    Path("broken.py").write_text("import a_library_that_is_not_there\n")
    before = set(tmp_path.iterdir())
    out = ["--import"] if command == "check" else ["--out", "run"]
    assert execute([command, f"{case}.toml", "--set", override % path, *out]) == MISTAKE
    printed, error = capsys.readouterr()
    first, *mistakes = error.splitlines()
    assert printed == "" and first == f"subgrid: {case}.toml: 1 mistake"
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(f"  {key if 'Raises' not in path else 'initial'}: ")
    assert message.format(folder=tmp_path) in mistakes[0]
    assert set(tmp_path.iterdir()) == before, "nothing is written"
