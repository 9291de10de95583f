"""Initial states that continue another run: on the same grid, on another one, and where it makes no sense."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from subgrid.commands.run import run
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.finite_volume.averages import average_cells

TIME = {"start": 0.0, "end": 0.2, "step": 0.01, "stepper": "etdrk4"}
FLOW: dict[str, Any] = {
    "title": "Kolmogorov flow",
    "equation": {
        "name": "kolmogorov",
        "viscosity": 0.02,
        "forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 2},
    },
    "grid": {"shape": [12, 18], "length": [6.25, 9.0]},
    "time": TIME,
    "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
    "ensemble": {"members": 2},
    "output": {"every": 0.05, "frames_per_chunk": 1},
}
WATER = FLOW | {
    "equation": {"name": "shallow-water", "bathymetry": {"kind": "bumps", "bumps": [
        {"height": 1.5, "width": 0.3, "centre": [1.0, 1.2]}]}},
    "grid": {"shape": [12, 18], "length": [2.0, 3.0]},
    "time": TIME | {"stepper": "ssp-rk2"},
    "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 3.0},
}  # fmt: skip
SHOCK = FLOW | {
    "equation": {"name": "burgers", "viscosity": 0.05, "discretisation": "finite-volume"},
    "grid": {"shape": [48], "length": [6.25]},
    "time": TIME | {"stepper": "ssp-rk3"},
}
CHARGES = FLOW | {
    "equation": {"name": "charged-particles", "force_limit": 100.0},
    "grid": {"entities": 5},
    "time": TIME | {"stepper": "velocity-verlet"},
    "initial": {"kind": "charged-particles"},
}
CASES = {"flow": FLOW, "water": WATER, "shock": SHOCK, "charges": CHARGES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, tuple[Path, xr.Dataset]]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: (folder / name, run(read_case(c), out=folder / name, progress=False)) for name, c in CASES.items()}


def continued(runs: Any, name: str, **changes: Any) -> Any:
    case = CASES[name] | {"initial": {"kind": "run", "path": str(runs[name][0])}} | changes
    return read_case(case)


def state(case: Any) -> np.ndarray:
    members = tuple(range(case.ensemble.members))
    return case.initial.state(case.build_equation(), case.grid.grid(), members, 0)


def output(runs: Any, name: str, index: int) -> np.ndarray:
    dataset = runs[name][1]
    fields = [f.name for f in read_case(CASES[name]).build_equation().fields]
    return np.stack([dataset[f][index].values for f in fields], axis=1)


@pytest.mark.parametrize("name", CASES)
def test_on_the_same_grid_the_state_is_copied(name, runs):
    np.testing.assert_array_equal(state(continued(runs, name)), output(runs, name, -1))
    earlier = continued(runs, name, initial={"kind": "run", "path": str(runs[name][0]), "time": 0.05})
    np.testing.assert_array_equal(state(earlier), output(runs, name, 1))


def test_the_parameters_may_differ(runs):
    changed = FLOW["equation"] | {"viscosity": 0.1}
    np.testing.assert_array_equal(state(continued(runs, "flow", equation=changed)), output(runs, "flow", -1))


@pytest.mark.parametrize("shape", [[24, 36], [15, 24], [8, 10], [24, 10], [13, 17]])
def test_a_spectral_state_keeps_the_modes_that_both_grids_resolve(shape, runs):
    found = state(continued(runs, "flow", grid=FLOW["grid"] | {"shape": shape}))
    assert found.shape == (2, 1, *shape)
    before = np.fft.fft2(output(runs, "flow", -1), norm="forward")
    after = np.fft.fft2(found, norm="forward")
    kept = [(min(n, m) - 1) // 2 for n, m in zip((12, 18), shape, strict=True)]
    for k in range(-kept[0], kept[0] + 1):
        for m in range(-kept[1], kept[1] + 1):
            np.testing.assert_allclose(after[..., k, m], before[..., k, m], atol=1e-15)
            after[..., k, m] = 0
    assert np.abs(after).max() < 1e-15


@pytest.mark.parametrize("name", ["water", "shock"])
@pytest.mark.parametrize("factor", [2, 0.5, 1.5, 2 / 3])
def test_cell_averages_are_interpolated_conservatively(name, factor, runs):
    grid = CASES[name]["grid"]
    found = state(continued(runs, name, grid=grid | {"shape": [round(n * factor) for n in grid["shape"]]}))
    before = output(runs, name, -1)
    axes = tuple(range(2, before.ndim))
    np.testing.assert_allclose(found.mean(axis=axes), before.mean(axis=axes), rtol=1e-13, atol=1e-15)
    if name == "water":  # there is dry land
        assert before[:, 0].min() == 0 and found[:, 0].min() >= 0
        wet, were = found[:, 0] > 0, before[:, 0] > 0
        fastest = np.abs(before[:, 1:] / np.where(were, before[:, 0], 1)[:, None]).max()
        assert np.abs(found[:, 1:] / np.where(wet, found[:, 0], 1)[:, None]).max() <= fastest * (1 + 1e-12)
        assert (found[:, 1:][np.repeat(~wet[:, None], 2, 1)] == 0).all()


def test_averages_over_finer_cells_converge():
    def averages(n: int) -> np.ndarray:
        faces = np.linspace(0, 1, n + 1)
        return np.diff(np.exp(faces)) * n

    errors = [np.abs(average_cells(averages(n), (3 * n // 2,)) - averages(3 * n // 2)).max() for n in (16, 32)]
    assert errors[1] < errors[0] / 16


REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another equation": ("shock", {"initial": "flow"}, "is a run of kolmogorov, not of burgers"),
    "another kind of values": (
        "shock",
        {"equation": {"name": "burgers", "viscosity": 0.05}, "time": TIME},
        "is a run of burgers as balance-law, the case is semi-linear",
    ),
    "another domain": ("shock", {"grid": {"shape": [48], "length": [6.0]}}, "the domain of .* has length"),
    "another origin": ("shock", {"grid": SHOCK["grid"] | {"origin": [1.0]}}, "the domain of .* origin"),
    "another number of entities": ("charges", {"grid": {"entities": 6}}, "has 5 entities, the case has 6"),
    "more members": ("flow", {"ensemble": {"members": 3}}, "has 2 members, but the case needs member 2"),
    "no such output": ("flow", {"at": 0.07}, "has no output at t = 0.07. Remedy: the nearest is 0.05"),
    "no run": ("flow", {"path": "."}, "holds no run"),
    "a file": ("flow", {"path": __file__}, "holds no run"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_what_makes_no_sense_is_refused(why, runs):
    name, changes, expected = REFUSALS[why]
    initial: dict[str, Any] = {"kind": "run", "path": str(runs[changes.get("initial", name)][0])}
    initial |= {"path": changes["path"]} if "path" in changes else {}
    initial |= {"time": changes["at"]} if "at" in changes else {}
    rest = {k: v for k, v in changes.items() if k not in ("initial", "path", "at")}
    with pytest.raises(CaseError, match=expected):
        read_case(CASES[name] | rest | {"initial": initial})


def test_a_run_of_some_fields_or_without_outputs_or_damaged_is_refused(runs, tmp_path):
    fewer = WATER | {"output": WATER["output"] | {"fields": ["depth"]}}
    run(read_case(fewer), out=tmp_path / "fewer", progress=False)
    with pytest.raises(CaseError, match="did not record"):
        read_case(WATER | {"initial": {"kind": "run", "path": str(tmp_path / "fewer")}})
    broken = tmp_path / "broken"
    shutil.copytree(runs["flow"][0], broken)
    initial = {"kind": "run", "path": str(broken)}
    for index in (4, 3):  # as if the run had not come so far
        shutil.rmtree(broken / "fields.zarr" / "vorticity" / "c" / str(index))
    np.testing.assert_array_equal(state(read_case(FLOW | {"initial": initial})), output(runs, "flow", 2))
    with pytest.raises(CaseError, match=r"has not reached t = 0\.15"):
        read_case(FLOW | {"initial": initial | {"time": 0.15}})
    chunk = next(f for f in (broken / "fields.zarr" / "vorticity" / "c" / "2").rglob("*") if f.is_file())
    chunk.write_bytes(chunk.read_bytes()[:30])
    with pytest.raises(CaseError, match="is damaged"):
        read_case(FLOW | {"initial": initial})
    (broken / "fields.zarr" / "zarr.json").write_text("{", encoding="utf-8")
    with pytest.raises(CaseError, match="is damaged"):
        read_case(FLOW | {"initial": initial})


def test_the_time_of_the_last_output_is_written_into_the_case(runs):
    assert re.search("'time': 0.2", str(continued(runs, "flow").resolved()["initial"]))


def test_a_domain_of_a_micrometre_is_not_that_of_half_a_micrometre(tmp_path):
    small = SHOCK | {
        "equation": {"name": "burgers", "viscosity": 1e-13},
        "grid": {"shape": [16], "length": [1e-6]},
        "time": {"end": 1e-3, "step": 1e-4, "stepper": "rk4"},
        "initial": {"kind": "sine", "amplitude": 1e-7},
        "output": {"every": 1e-3},
    }
    run(read_case(small), out=tmp_path / "run", progress=False)
    branch = small | {"initial": {"kind": "run", "path": str(tmp_path / "run")}}
    read_case(branch)
    with pytest.raises(CaseError, match=r"initial\.path: the domain of .* has length \[1e-06\]"):
        read_case(branch | {"grid": {"shape": [16], "length": [5e-7]}})


def test_a_reference_that_continues_a_run_is_named_by_its_own_key(tmp_path):
    reference = {"shape": [24, 36], "initial": {"kind": "run", "path": str(tmp_path / "nowhere")}}
    with pytest.raises(CaseError, match=r"\n  reference\.initial\.path: .*nowhere holds no run"):
        read_case(FLOW | {"initial": {"kind": "reference"}, "reference": reference})
