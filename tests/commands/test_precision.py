"""precision = "float32" of a case: its outputs, its restart, what stays in double precision, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr

from subgrid.commands import cli
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import CaseError, read_case

CASES = sorted(path.stem for path in (Path(__file__).parents[2] / "cases").glob("*.toml"))
PARTICLES: dict[str, Any] = {
    "title": "two bodies",
    "precision": "float32",
    "equation": {"name": "charged-particles", "force": "gravity"},
    "grid": {"entities": 2},
    "time": {"end": 0.1, "step": 0.01, "stepper": "velocity-verlet"},
    "initial": {"kind": "two-body"},
    "output": {"every": 0.1},
}
FLOW: dict[str, Any] = {
    "title": "a vortex",
    "precision": "float32",
    "equation": {"name": "kolmogorov", "viscosity": 0.01},
    "grid": {"shape": [16, 16], "length": [6.0, 6.0]},
    "time": {"end": 0.1, "step": 0.01, "stepper": "etdrk2"},
    "initial": {"kind": "taylor-green", "amplitude": 1.0},
    "output": {"every": 0.1},
}
WAVE = FLOW | {
    "equation": {"name": "advection", "speed": 1.0},
    "grid": {"shape": [16], "length": [1.0]},
    "initial": {"kind": "sine"},
}
OSCILLATOR = WAVE | {
    "equation": {"name": "oscillator"},
    "time": {"end": 0.1, "step": 0.01, "stepper": "rk4"},
    "initial": {"kind": "oscillator"},
}
SHORE: dict[str, Any] = {
    "title": "a shore",
    "precision": "float32",
    "equation": {
        "name": "shallow-water",
        "boundary": "open",
        "bathymetry": {"kind": "paraboloid", "depth": 1.0, "radius": 1.0},
    },
    "grid": {"shape": [8, 8], "length": [4.0, 4.0], "origin": [-2.0, -2.0]},
    "time": {"end": 0.1, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "lake-at-rest"},
    "output": {"every": 0.1},
}


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(arguments))
    return exit_.value.code  # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_every_shipped_case_can_be_in_single_precision(name):
    assert read_case(name, {"precision": "float32"}).precision == "float32"
    assert read_case(name).resolved()["precision"] == "float64"


def test_outputs_are_in_single_precision_and_a_resumed_run_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(tomli_w.dumps(FLOW))
    every = ["--set", "output.every=0.02", "--json"]
    assert exit_code("run", "case.toml", *every, "--out", "whole") == 0
    assert exit_code("run", "case.toml", *every, "--set", "time.end=0.04", "--out", "part") == 0
    assert exit_code("resume", "part", "--until", "0.1", "--json") == 0
    names = {p.relative_to("whole") for p in Path("whole/fields.zarr").rglob("*") if p.is_file()}
    assert all(Path("whole", n).read_bytes() == Path("part", n).read_bytes() for n in names) and len(names) > 5
    outputs = xr.open_zarr("whole/fields.zarr", consolidated=False)
    assert outputs["vorticity"].dtype == np.float32 and outputs["time"].dtype == np.float64
    with np.load("whole/checkpoint/state.npz") as arrays:
        assert arrays["state"].dtype == np.complex64


def test_the_reference_stays_in_double_precision(tmp_path, monkeypatch):
    """And is the same data as that of the case in double precision."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    single = read_case(FLOW | {"reference": {"shape": [16, 16]}})
    double = single.model_copy(update={"precision": "float64"})
    prepared = [prepare(case, tmp_path, with_reference=True) for case in (single, double)]
    assert len({p.trajectories.directory for p in prepared if p.trajectories}) == 1
    assert np.array(prepared[0].trajectories.fine).dtype == np.float64  # type: ignore[union-attr]
    assert [p.simulation(()).state.dtype for p in prepared] == [np.float32, np.float64]


@pytest.mark.parametrize(
    ("case", "changes", "wanted"),
    [
        (FLOW, {"precision": "double"}, "precision: expected float64 or float32, found 'double'"),
        (FLOW, {"time.step": 1e-8}, "what a step of 1e-08 changes"),
        (PARTICLES, {"time.step": 1e-7, "time.end": 1e-5, "output.every": 1e-5}, "Remedy: time.step >= "),
        (FLOW, {"initial.amplitude": 1e-17}, "below the range of single precision. Remedy: other units"),
        (WAVE, {"initial.offset": 1e8}, "varies by 2 about 1e+08, where single precision resolves 12. Remedy: "),
        (
            OSCILLATOR,
            {"time.start": 1e6, "time.end": 1000000.1, "initial.time": 1e6},
            "does not resolve a step of 0.01",
        ),
        (SHORE, {"equation.dry": 1e-8}, "equation.dry: 1e-08 is less than"),
    ],
)
def test_what_single_precision_cannot_do_is_refused_by_name(case, changes, wanted, tmp_path, monkeypatch, capsys):
    """By `check` and before a run, with exit code 2 and nothing written; in double precision it is allowed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaseError) as error:
        read_case(case, changes)
    assert len(error.value.mistakes) == 1 and wanted in str(error.value)
    if "precision" not in changes:
        read_case(case, changes | {"precision": "float64"})
    Path("case.toml").write_text(tomli_w.dumps(case))
    sets = [x for key, value in changes.items() for x in ("--set", f"{key}={value}")]
    for command in ("check", "run"):
        assert exit_code(command, "case.toml", *sets) == 2
        assert wanted in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["case.toml"]


def test_entities_that_are_too_close_far_from_the_origin_are_refused():
    equation, grid = read_case(PARTICLES).build_equation(), read_case(PARTICLES).grid.grid()
    state = np.ones((1, 7, 2))
    state[0, 0] = 1e5, 1e5 + 1
    with pytest.raises(ValueError, match=r"two entities of member 0 are 1 apart; .*equation.softening >= 12"):
        equation.require_single(state, grid)
    state[0, 0] = 0, 1
    equation.require_single(state, grid)
    state[0, 0] = 1e5, 1e5 + 1
    equation.model_copy(update={"softening": 12.0}).require_single(state, grid)


def test_large_grids_are_tried_before_a_run(tmp_path):
    """`check` does not compute their initial states."""
    case = read_case(FLOW, {"grid.shape": [1024, 1024], "time.step": 1e-12, "time.end": 1e-11, "output.every": 1e-11})
    with pytest.raises(CaseError, match="what a step of 1e-12 changes"):
        prepare(case, tmp_path, with_reference=False)


def test_a_random_field_is_a_start_in_single_precision():
    """With a forcing from a time that it has a value at."""
    case = {
        "title": "field",
        "precision": "float32",
        "equation": {
            "name": "kolmogorov", "viscosity": 0.01, "forcing": {"kind": "expression", "value": "cos(y)/t"},
        },
        "grid": {"shape": [16, 16], "length": [6.0, 6.0]},
        "time": {"start": 1.0, "end": 1.4, "step": 0.02, "stepper": "etdrk4"},
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
        "output": {"every": 0.1},
    }  # fmt: skip
    assert read_case(case).precision == "float32"
