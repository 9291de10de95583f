"""Forcings from files: other grids of the domain, NetCDF, and files that do not fit."""

import numpy as np
import pytest
from scipy.io import netcdf_file

from subgrid.commands.cli import execute
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations.advection import LinearAdvection
from subgrid.solver.equations.forcing import FileForcing, FormulaForcing, source_rates
from subgrid.solver.equations.kolmogorov.equation import Kolmogorov
from subgrid.solver.equations.shallow_water.equation import ShallowWater
from subgrid.solver.grid import Grid

PLANE = Grid((12, 16), (2 * np.pi, 4 * np.pi), (0.0, -1.0))
VALUE = "cos(3*t)*sin(2*y)*cos(x/2) + 0.3"


def netcdf(path, dimensions, axes, values, letters=()):
    with netcdf_file(path, "w") as file:
        for name, points in axes.items():
            file.createDimension(name, len(points))
            made = file.createVariable(name, "d", (name,))
            made[:] = points
            if name in letters:
                made.axis = letters[name]
        file.createVariable("forcing", "d", dimensions)[:] = values


@pytest.mark.parametrize("shape", [(12, 16), (36, 48), (20, 30), (10, 10)])
def test_a_file_on_another_grid_keeps_the_modes_that_both_resolve(tmp_path, shape):
    """Of a band-limited forcing of Kolmogorov flow all, to round-off, from coarser and finer grids."""
    equation, fine = Kolmogorov(viscosity=0.1), PLANE.refined(shape)
    exact = FormulaForcing(value=VALUE)
    np.savez(tmp_path / "f.npz", forcing=exact.at(equation, fine, 0.4))
    found = source_rates(equation, FileForcing(path=tmp_path / "f.npz"), PLANE, 0.0)
    np.testing.assert_allclose(found, source_rates(equation, exact, PLANE, 0.4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(24, 48), (18, 20)])
def test_means_over_cells_are_interpolated_conservatively(tmp_path, shape):
    """Plain means where cells are divided, else to fifth order; the total is kept."""
    equation = ShallowWater()
    exact = FormulaForcing(fields={"momentum_x": "sin(y)*cos(x/2) + 2"})
    np.savez(tmp_path / "f.npz", forcing=exact.at(equation, PLANE.refined(shape), 0.0))
    found = source_rates(equation, FileForcing(path=tmp_path / "f.npz"), PLANE, 0.0)
    wanted = source_rates(equation, exact, PLANE, 0.0)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), wanted.mean(axis=(1, 2)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 if shape == (24, 48) else 5e-3)


def test_netcdf_files_are_read_by_the_names_of_their_dimensions(tmp_path):
    """In any order, with a time, with coordinates that decrease; the same as .npz."""
    equation, times = Kolmogorov(viscosity=0.1), np.array([0.0, 0.5, 1.0])
    y, x = PLANE.coordinates()
    values = np.stack([FormulaForcing(value=VALUE).at(equation, PLANE, t)[0] for t in times])
    np.savez(tmp_path / "f.npz", forcing=values, time=times)
    axes = {"lon": x, "time": times, "y": y[::-1]}
    turned = np.moveaxis(values[:, ::-1], 2, 0)
    netcdf(tmp_path / "f.nc", ("lon", "time", "y"), axes, turned, {"lon": "X"})
    one, other = (FileForcing(path=tmp_path / name) for name in ("f.npz", "f.nc"))
    assert not one.steady and not other.steady
    for t in (0.0, 0.3, 1.0):
        np.testing.assert_array_equal(one.at(equation, PLANE, t), other.at(equation, PLANE, t))


CASE = {
    "title": "forced",
    "equation": {"name": "advection", "speed": 1.0, "forcing": {"kind": "file", "path": "f"}},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 1.0, "step": 0.01, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.5},
    "reference": {"shape": [64]},
}


def test_a_case_and_its_reference_take_one_file(tmp_path):
    x = Grid((64,), (1.0,)).coordinates()[0]
    np.savez(tmp_path / "f.npz", forcing=np.sin(2 * np.pi * x))
    forcing = {"kind": "file", "path": str(tmp_path / "f.npz")}
    case = read_case(CASE | {"equation": CASE["equation"] | {"forcing": forcing}})
    equation = case.build_equation()
    assert isinstance(equation, LinearAdvection)
    for n in (16, 64):
        found = source_rates(equation, equation.forcing, Grid((n,), (1.0,)), 0.0)
        assert found[0, 1] == pytest.approx(-0.5j) and np.abs(np.delete(found[0], 1)).max() < 1e-15


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"forcing": np.where(np.arange(16) == 3, np.nan, 1.0)}, "is not finite. Remedy"),
        ({"forcing": np.ones((2, 3, 16))}, r"has shape \(2, 3, 16\), expected .*Remedy"),
        ({"forcing": np.ones((3, 16))}, r"has shape \(3, 16\), expected .*Remedy"),
        ({"forcing": np.ones(2)}, r"has shape \(2,\), expected .* 4 points or more .*Remedy"),
        (
            {"forcing": np.ones((3, 16)), "time": [0.0, 1.0]},
            "expected increasing times, one for each of the 3 .*Remedy",
        ),
        ({"forcing": np.ones((2, 16)), "time": [0.0, 0.5]}, "covers t = 0 to 0.5, the run needs 1. Remedy"),
        ({"forcing": np.ones(16), "x": np.arange(16.0)}, "coordinates x of .* those of the domain. Remedy"),
        ({"force": np.ones(16)}, "no array of real numbers named forcing .*Remedy"),
        ({"forcing": np.array(["a"] * 16)}, "no array of real numbers named forcing .*Remedy"),
    ],
)
def test_a_file_that_does_not_fit_is_one_mistake(tmp_path, monkeypatch, arrays, message, capsys):
    """One message, exit code 2, and nothing is written."""
    import tomli_w

    monkeypatch.chdir(tmp_path)
    np.savez("f.npz", **arrays)
    case = CASE | {"equation": {"name": "advection", "speed": 1.0, "forcing": {"kind": "file", "path": "f.npz"}}}
    with pytest.raises(CaseError, match=f"1 mistake\n  equation.forcing: .*{message}"):
        read_case(case)
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case))
    assert execute(["run", "case.toml", "--out", "run"]) == 2
    assert not (tmp_path / "run").exists()


def test_a_netcdf_file_with_other_dimensions_is_refused(tmp_path):
    netcdf(tmp_path / "f.nc", ("a", "x"), {"a": np.arange(2.0), "x": np.arange(16.0) / 16}, np.ones((2, 16)))
    case = CASE | {
        "equation": {"name": "advection", "speed": 1.0, "forcing": {"kind": "file", "path": str(tmp_path / "f.nc")}}
    }
    with pytest.raises(CaseError, match=r"dimensions are a, x, expected any of .*Remedy"):
        read_case(case)
