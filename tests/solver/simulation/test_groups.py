"""Groups of outputs: derived fields, parts of the grid, precision and intervals of their own; long runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from subgrid.commands.run import resume, run
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import Burgers
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.record import Record

FLOW: dict[str, Any] = {
    "title": "flow",
    "equation": {"name": "kolmogorov", "viscosity": 0.01},
    "grid": {"shape": [16, 24], "length": [4.0, 6.0]},
    "time": {"end": 0.6, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0, "scale": 8.0},
    "ensemble": {"members": 2, "seed": 3},
    "output": {
        "every": 0.2,
        "checkpoint_every": 0.1,
        "derived": ["streamfunction"],
        "groups": {
            "probe": {
                "every": 0.05, "fields": [], "derived": ["velocity_x", "velocity_y"], "precision": "float32",
                "region": {"x": [1.0, 2.0], "y": [0.0, 1.0]},
            },
            "spectra": {"every": 0.1, "fields": [], "derived": ["spectrum", "flux"]},
            "coarse": {"every": 0.3, "stride": [2, 4]},
        },
    },
}  # fmt: skip


@pytest.fixture
def whole(tmp_path, monkeypatch) -> xr.Dataset:
    monkeypatch.chdir(tmp_path)
    return run(read_case(FLOW), out="whole", progress=False)


def group(name: str, folder: str = "whole") -> xr.Dataset:
    return xr.open_zarr(f"{folder}/groups/{name}.zarr").load()


def test_each_group_has_its_interval_part_and_precision(whole):
    probe, spectra, coarse = (group(name) for name in ("probe", "spectra", "coarse"))
    assert dict(probe.sizes) == {"time": 13, "member": 2, "y": 5, "x": 5}
    assert probe["velocity_x"].dtype == np.float32 and list(probe.data_vars) == ["velocity_x", "velocity_y"]
    np.testing.assert_array_equal(probe["x"], [1.0, 1.25, 1.5, 1.75, 2.0])
    assert dict(coarse.sizes) == {"time": 3, "member": 2, "y": 8, "x": 6}
    np.testing.assert_array_equal(coarse["vorticity"][-1], whole["vorticity"][-1, :, ::2, ::4])
    assert spectra.sizes["time"] == 7 and spectra["spectrum"].dims == ("time", "member", "wavenumber")


def test_derived_fields_are_those_of_the_state(whole):
    """-lap psi = w, the velocity is the curl of psi, and the spectrum sums to the energy."""
    psi, w = whole["streamfunction"].values, whole["vorticity"].values
    ky, kx = (2 * np.pi * np.fft.fftfreq(n, 1 / n) / length for n, length in ((16, 4.0), (24, 6.0)))
    k2 = ky[:, None] ** 2 + kx**2
    curl = np.fft.ifft2(k2 * np.fft.fft2(psi)).real
    np.testing.assert_allclose(curl, w - w.mean((-2, -1), keepdims=True), atol=1e-11)
    u = np.fft.ifft2(1j * ky[:, None] * np.fft.fft2(psi[-1])).real
    probe = group("probe")["velocity_x"][-1]
    np.testing.assert_allclose(probe, u[:, :5, 4:9], atol=1e-5)
    spectra = group("spectra").isel(time=-1)
    np.testing.assert_allclose(spectra["spectrum"].sum("wavenumber"), whole["energy"][-1], rtol=1e-12)
    np.testing.assert_allclose(spectra["flux"][:, -1], 0.0, atol=1e-12)


def test_a_killed_run_with_groups_ends_with_the_same_bytes(whole, monkeypatch):
    def files(folder: str) -> dict[str, bytes]:
        places = [Path(folder, "fields.zarr"), Path(folder, "groups")]
        found = [f for place in places for f in place.rglob("*") if f.is_file()]
        return {str(f.relative_to(folder)): f.read_bytes() for f in found}

    write = Record.write_frame

    class Killed(BaseException):
        pass

    def killing(self: Record, step: int, *rest: Any) -> None:
        if step == 35:
            raise Killed
        write(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "write_frame", killing)
        with pytest.raises(Killed):
            run(read_case(FLOW), out="killed", progress=False)
    resume("killed", progress=False)
    assert files("killed") == files("whole")
    longer = FLOW | {"time": FLOW["time"] | {"end": 0.7}}
    run(read_case(longer), out="longer", progress=False)
    resume("killed", until=0.7, progress=False)
    assert files("killed") == files("longer")


@pytest.mark.parametrize(
    ("equation", "initial", "grid", "stepper", "derived", "exact"),
    [
        ({"name": "shallow-water", "bathymetry": {"kind": "bumps", "bumps": [
            {"height": 0.5, "width": 0.3, "centre": [1.0, 1.2]}]}}, {"kind": "lake-at-rest", "level": 1.0},
         {"shape": [8, 12], "length": [2.0, 3.0]}, "ssp-rk2", "surface", 1.0),
        ({"name": "vlasov-poisson"}, {"kind": "landau", "amplitude": 0.0},
         {"shape": [64, 16], "length": [16.0, 12.566370614359172], "origin": [-8.0, 0.0]}, "strang", "density", 1.0),
        ({"name": "vlasov-poisson"}, {"kind": "landau", "amplitude": 0.0},
         {"shape": [64, 16], "length": [16.0, 12.566370614359172], "origin": [-8.0, 0.0]}, "strang", "current", 0.0),
    ],
)  # fmt: skip
def test_derived_fields_of_states_at_rest(equation, initial, grid, stepper, derived, exact, tmp_path):
    case = {
        "title": "rest", "equation": equation, "grid": grid, "time": {"end": 0.02, "step": 0.01, "stepper": stepper},
        "initial": initial, "output": {"every": 0.02, "derived": [derived]},
    }  # fmt: skip
    found = run(read_case(case), progress=False)[derived]
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_the_flux_of_cells_is_that_of_points_and_spectra_need_a_periodic_domain():
    """sin x + sin 2x / 2 on 512 cells and points; no flux leaves all shells but for the numerical dissipation."""
    cells = Burgers(viscosity=0.0, discretisation="finite-volume", reconstruction="weno5")
    grid, found = Grid((512,), (2 * np.pi,)), []
    for equation, x in ((Burgers(viscosity=0.0), grid.coordinates()[0]), (cells, grid.coordinates(centres=True)[0])):
        state = (np.sin(x) + 0.5 * np.sin(2 * x))[None, None]
        found.append(equation.derived["flux"].compute(equation, state, grid)[0, :6])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    assert abs(found[0][1]) > 0.05
    wall = {"name": "burgers", "viscosity": 0.1, "discretisation": "finite-volume", "boundary": "dirichlet"}
    case = {
        "title": "wall", "equation": wall, "grid": {"shape": [16], "length": [1.0]}, "initial": {"kind": "sine"},
        "time": {"end": 0.1, "step": 0.01, "stepper": "ssp-rk2"}, "output": {"every": 0.1, "derived": ["spectrum"]},
    }  # fmt: skip
    with pytest.raises(CaseError, match=r"output.derived: spectrum needs a periodic domain. Remedy"):
        read_case(case)


@pytest.mark.parametrize("every", [0.05, 0.08, 0.3])
def test_a_step_from_a_courant_number_divides_the_intervals_of_groups(every, tmp_path):
    """Adaptive steps, whose step of the case is that interval, and a fixed step."""
    water = {"name": "shallow-water"}, {"kind": "lake-at-rest", "level": 1.0}, [16, 16], [1.0, 1.0], "ssp-rk2"
    wave = {"name": "burgers", "viscosity": 1e-3, "discretisation": "finite-volume"}, {"kind": "sine"}, [16], [1.0]
    for i, (equation, initial, shape, length, stepper) in enumerate((water, (*wave, "ssp-rk2"))):
        case = {
            "title": "groups", "equation": equation, "grid": {"shape": shape, "length": length}, "initial": initial,
            "time": {"end": 0.6, "cfl": 0.3, "stepper": stepper},
            "output": {"every": 0.2, "groups": {"fast": {"every": every}}},
        }  # fmt: skip
        run(read_case(case), out=tmp_path / str(i), progress=False)
        times = group("fast", str(tmp_path / str(i)))["time"].values
        np.testing.assert_allclose(times[:3], [0, every, min(0.6, 2 * every)])


def test_distances_of_particles_are_those_of_their_positions():
    case = {
        "title": "charges", "equation": {"name": "charged-particles"}, "grid": {"entities": 4},
        "time": {"end": 0.02, "step": 0.01, "stepper": "velocity-verlet"}, "initial": {"kind": "charged-particles"},
        "output": {"every": 0.01, "derived": ["distance"]},
    }  # fmt: skip
    found = run(read_case(case), progress=False)
    first, last = (np.array([found[axis][-1, 0, i] for axis in "xyz"]) for i in (0, 3))
    assert found["distance"].dims == ("time", "member", "pair") and found.sizes["pair"] == 6
    np.testing.assert_allclose(found["distance"][-1, 0, 2], np.linalg.norm(first - last), rtol=1e-12)


MISTAKES = {
    "derived": ({"derived": ["velocity"]}, r"output.groups.a.derived: 'velocity' is not known; did you mean"),
    "field": ({"fields": ["speed"]}, r"output.groups.a.fields: 'speed' is not known"),
    "nothing": ({"fields": []}, r"output.groups.a.fields: expected at least 1"),
    "axis": ({"region": {"z": [0, 1]}}, r"output.groups.a.region: 'z' is not known"),
    "outside": ({"region": {"x": [7.0, 8.0]}}, r"output.groups.a.region.x: there is no point .* Remedy"),
    "strides": ({"stride": [2]}, r"output.groups.a.stride: expected one number"),
    "nan": (
        {"region": {"x": [float("nan"), 1.0]}},
        r"mistake\n +output.groups.a.region.x.0: expected a finite number, found nan$",
    ),
    "interval": ({"every": 0.015}, r"output.groups.a.every: .* is not a whole number of steps"),
    "unknown key": ({"evry": 1.0}, r"output.groups.a.evry: unknown key; did you mean 'every'"),
    "precision": ({"precision": "float16"}, r"output.groups.a.precision: expected"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_group_is_named(name):
    change, message = MISTAKES[name]
    with pytest.raises(CaseError, match=message):
        read_case(FLOW | {"output": {"every": 0.2, "groups": {"a": {"every": 0.2} | change}}})


def test_the_name_of_a_group_is_that_of_a_file():
    with pytest.raises(CaseError, match=r"output.groups: '../a' is no name of a file. Remedy"):
        read_case(FLOW | {"output": {"every": 0.2, "groups": {"../a": {"every": 0.2}}}})


def test_a_part_of_the_grid_is_for_groups_as_other_runs_start_from_the_outputs():
    with pytest.raises(CaseError, match=r"Remedy: \[output.groups.NAME\]"):
        read_case(FLOW | {"output": {"every": 0.2, "stride": 2}})


def test_the_files_and_the_memory_of_a_run_do_not_grow_with_its_frames(tmp_path, monkeypatch):
    """5000 frames of 16 numbers: two files per variable, and no array in memory that is longer than a chunk."""
    import tracemalloc

    def peak(frames: int) -> int:
        case = {
            "title": "long", "equation": {"name": "burgers", "viscosity": 0.05},
            "grid": {"shape": [16], "length": [1.0]}, "time": {"end": frames * 1e-3, "step": 1e-3, "stepper": "etdrk4"},
            "initial": {"kind": "sine"}, "output": {"every": 1e-3, "frames_per_chunk": 256},
        }  # fmt: skip
        tracemalloc.start()
        run(read_case(case), out=tmp_path / f"run-{frames}", progress=False).close()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    short, long = peak(1000), peak(5000)
    assert long < short + 60 * 4000  # the times of the outputs, and copies of them
    chunks = [f for f in (tmp_path / "run-5000" / "fields.zarr").rglob("c/*") if f.is_dir() or f.is_file()]
    velocity = [f for f in chunks if f.parts[-3] == "velocity"]
    assert len(velocity) == 20


def test_a_run_in_memory_refuses_groups_and_names_the_remedy():
    with pytest.raises(CaseError, match=r"output.groups: a run in memory .* Remedy: run\(case, out=FOLDER\)"):
        run(read_case(FLOW), progress=False)
    found = run(read_case(FLOW, {"output.groups": {}}), progress=False)
    assert "streamfunction" in found
