"""Initial states from NetCDF, Zarr and .npz with coordinates, on the grid of the case and on others."""

import numpy as np
import pytest
import xarray as xr

from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.kolmogorov.equation import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.initial.file import File

GRID, FINE = Grid((8, 12), (2.0, 3.0)), Grid((16, 24), (2.0, 3.0))


def wave(grid, member=0, centres=False):
    y, x = np.meshgrid(*grid.coordinates(centres=centres), indexing="ij")
    return np.sin(2 * np.pi * x / 3 + member) * np.cos(np.pi * y)


def dataset(grid, members=2, times=(0.0, 1.0)):
    values = np.stack([[(1 + t) * wave(grid, m) for m in range(members)] for t in times])
    y, x = grid.coordinates()
    return xr.Dataset({"vorticity": (("time", "member", "y", "x"), values)}, {"time": list(times), "y": y, "x": x})


def written(path, data, kind):
    if kind == "zarr":
        data.to_zarr(path, consolidated=False)
    else:
        data.to_netcdf(path, engine="scipy" if kind == "netcdf3" else "h5netcdf")
    return path


@pytest.mark.parametrize("kind", ["zarr", "netcdf3", "netcdf4"])
@pytest.mark.parametrize("source", [GRID, FINE])
def test_named_dimensions_in_any_order(tmp_path, kind, source):
    """Decreasing coordinates, transposed dimensions and another grid: modes that both grids resolve are exact."""
    data = dataset(source).transpose("x", "time", "y", "member").isel(y=slice(None, None, -1))
    path = written(tmp_path / "a", data, kind)
    equation = Kolmogorov(viscosity=0.1)
    for time, factor in ((None, 2.0), (0.0, 1.0)):
        found = File(path=path, time=time).state(equation, GRID, (1, 0), 0)
        expected = np.stack([factor * wave(GRID, m)[None] for m in (1, 0)])
        np.testing.assert_allclose(found, expected, atol=1e-12)
    single = written(tmp_path / "b", data.isel(member=0, time=0, drop=True), kind)
    np.testing.assert_allclose(
        File(path=single).state(equation, GRID, (0, 1, 2), 0), wave(GRID)[None, None].repeat(3, 0), atol=1e-12
    )


def test_cells_are_averaged_conservatively(tmp_path):
    depth = 2 + wave(FINE, centres=True)
    y, x = FINE.coordinates(centres=True)
    fields = {
        name: (("y", "x"), values)
        for name, values in (("depth", depth), ("momentum_x", depth), ("momentum_y", 0 * depth))
    }
    path = written(tmp_path / "a", xr.Dataset(fields, {"y": y, "x": x}), "zarr")
    found = File(path=path).state(ShallowWater(), GRID, (0,), 0)
    np.testing.assert_allclose(found[0, 0], depth.reshape(8, 2, 12, 2).mean(axis=(1, 3)), rtol=1e-13)


def test_npz_with_coordinates_on_another_grid(tmp_path):
    y, x = FINE.coordinates()
    np.savez(tmp_path / "a.npz", state=wave(FINE)[None], y=y, x=x)
    found = File(path=tmp_path / "a.npz").state(Kolmogorov(viscosity=0.1), GRID, (0,), 0)
    np.testing.assert_allclose(found[0, 0], wave(GRID), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "time", "message"),
    [
        (lambda d: d.rename(vorticity="w"), None, r"expected 'vorticity'\. Remedy"),
        (lambda d: d.rename(y="lat"), None, "dimensions .*'lat'.*Remedy"),
        (lambda d: d.drop_vars("x"), None, "has no coordinates x. Remedy"),
        (lambda d: d.assign_coords(x=d.x * 2), None, "coordinates x of .*Remedy"),
        (lambda d: d, 0.5, "initial.time: .* has no t = 0.5. Remedy: the nearest is"),
        (lambda d: d.isel(time=0, drop=True), 1.0, "has no dimension time. Remedy"),
        (lambda d: d.astype(str), None, "Remedy"),
        (lambda d: d.isel(member=slice(0, 1)).pad(member=(0, 1)).isel(member=slice(0, 2)), None, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, time, message):
    path = written(tmp_path / "a", change(dataset(GRID)), "zarr")
    case = {
        "title": "file",
        "equation": {"name": "kolmogorov", "viscosity": 0.1},
        "grid": {"shape": [8, 12], "length": [2.0, 3.0]},
        "time": {"end": 1.0, "step": 0.1, "stepper": "rk4"},
        "initial": {"kind": "file", "path": str(path)} | ({} if time is None else {"time": time}),
        "ensemble": {"members": 2},
        "output": {"every": 0.5},
    }
    with pytest.raises(CaseError, match=message):
        read_case(case)


def test_compare_starts_from_a_file_on_the_grid_of_the_reference(tmp_path):
    """The reference takes it as it is, the case by the reference; `run` by what both grids resolve."""
    import subgrid

    written(tmp_path / "a.zarr", dataset(FINE, members=1), "zarr")
    case = {
        "title": "file",
        "equation": {"name": "kolmogorov", "viscosity": 0.1},
        "grid": {"shape": [8, 12], "length": [2.0, 3.0]},
        "time": {"end": 0.2, "step": 0.1, "stepper": "etdrk4"},
        "initial": {"kind": "file", "path": str(tmp_path / "a.zarr")},
        "output": {"every": 0.1},
        "reference": {"shape": [16, 24]},
        "compare": {"frontier": False},
    }
    ds = subgrid.run(subgrid.read_case(case), progress=False)
    np.testing.assert_allclose(ds["vorticity"][0, 0], 2 * wave(GRID), atol=1e-12)
    table = subgrid.compare(subgrid.read_case(case), progress=False).table
    assert table["mean relative L2 error"]["none"] < 0.05
