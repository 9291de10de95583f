"""Plug-ins of every kind, as docs/plugins.md describes them: by path, as an installed package, and their reference."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from subgrid import Closure, Correction, Equation, Forcing, InitialState, Leap, Problem, SpectralNoise, Tendency, View
from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = re.compile(r"^```\w+\n(# file: (\S+)\n.*?)^```$", re.DOTALL | re.MULTILINE)


def files(page: str) -> dict[str, str]:
    """The files of a page's blocks, by name."""
    return {name: text for text, name in FILES.findall((DOCS / page).read_text(encoding="utf-8"))}


def subgrid(folder: Path, *arguments: str, path: str = "") -> None:
    """Run a command in a folder, as a process of its own."""
    code = "import sys\nfrom subgrid.commands.cli import execute\nsys.exit(execute(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def fields(run: Path) -> xr.Dataset:
    return xr.open_zarr(run / "fields.zarr", consolidated=False).load()


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


def test_a_package_of_plugins_gives_the_same_runs_by_name(example, by_path, tmp_path):
    """The entry points of the page's pyproject.toml, installed beside subgrid; every kind of plug-in is in a run."""
    site, cases = tmp_path / "site", tmp_path / "cases"
    package, info = site / "my_waves", site / "my_waves-0.1.dist-info"
    for folder in (package, info, cases):
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

    text = (example / "kdv.toml").read_text()
    text = text.replace('path = "kdv.py:KortewegDeVries"', 'name = "korteweg-de-vries"')
    (cases / "kdv.toml").write_text(text.replace('path = "kdv.py:Soliton"', 'kind = "soliton"'))
    (cases / "decay.toml").write_bytes((example / "decay.toml").read_bytes())
    (cases / "rates.npz").write_bytes((example / "rates.npz").read_bytes())
    assert "path" not in (cases / "kdv.toml").read_text()

    subgrid(
        cases,
        "run",
        "kdv.toml",
        "--set",
        "time.end=0.2",
        "--set",
        "time.stepper=ralston3",
        "--out",
        "kdv",
        path=str(site),
    )
    closure = 'closure=[{name="shell-damping", weights="rates.npz"}]'
    forcing = 'equation.forcing={kind="cells", amplitude=4.0}'
    initial = 'initial={path="../site/my_waves/vortices.py:VortexPair", gamma=5.0}'
    options = [word for value in ("time.end=0.4", closure, forcing, initial) for word in ("--set", value)]
    subgrid(cases, "run", "decay.toml", *options, "--out", "decay", path=str(site))
    for name, expected in by_path.items():
        xr.testing.assert_equal(fields(cases / name), expected)
    summary = json.loads((cases / "decay" / "summary.json").read_text())
    assert summary["closures"][0]["name"] == "shell-damping" and summary["closures"][0]["calls"] == 20


def public(cls: type) -> set[str]:
    """Names of a class that its author or a plug-in may use: attributes, options, properties and methods."""
    own = {name for c in cls.__mro__ if c.__module__.startswith("subgrid.") for name in vars(c)}
    own |= {
        name for c in cls.__mro__ if c.__module__.startswith("subgrid.") for name in vars(c).get("__annotations__", {})
    }
    if dataclasses.is_dataclass(cls):
        own |= {f.name for f in dataclasses.fields(cls)}
    return {n for n in own if not n.startswith(("_", "model_")) and n != "plugins"}


@pytest.mark.parametrize(
    "cls",
    [
        View,
        Problem,
        Tendency,
        Correction,
        Leap,
        SpectralNoise,
        Closure,
        LearnedClosure,
        TrainingJob,
        Equation,
        InitialState,
        Forcing,
    ],
    ids=lambda cls: cls.__name__,
)
def test_the_reference_names_every_attribute(cls):
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    names = public(cls)
    if cls is View:
        names |= {"time", "step", "random"}
    assert names, cls
    missing = {name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", page)}
    assert not missing
