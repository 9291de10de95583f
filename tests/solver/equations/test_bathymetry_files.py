"""Bottoms from files: placed by names and coordinates, read as they are now, and refused if they do not fit."""

import tomllib

import numpy as np
import pytest
import tomli_w
import xarray

from subgrid.commands import cli
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water.bathymetry import BathymetryFile
from subgrid.solver.grid import Grid

GRID = Grid((4, 6), (2.0, 3.0), (-1.0, 10.0))
Y, X = Grid((8, 12), GRID.length, GRID.origin).coordinates(centres=True)
BOTTOM = np.random.default_rng(0).random((8, 12))
EXPECTED = BOTTOM.reshape(4, 2, 6, 2).mean(axis=(1, 3))
GOOD = xarray.DataArray(BOTTOM, dims=("y", "x"), coords={"y": Y, "x": X}, name="bathymetry")


def read(path, array, name="bathymetry"):
    array.to_dataset(name=name).to_netcdf(path, engine="scipy")
    return BathymetryFile(path=path).averages(GRID)


@pytest.mark.parametrize("order", [("y", "x"), ("x", "y")])
@pytest.mark.parametrize("rows", [1, -1])
@pytest.mark.parametrize("columns", [1, -1])
def test_a_netcdf_bottom_is_placed_by_its_dimensions_and_coordinates(tmp_path, order, rows, columns):
    """Transposed, north-up and mirrored files describe the same bottom, bit for bit."""
    array = GOOD[::rows, ::columns].transpose(*order)
    np.testing.assert_array_equal(read(tmp_path / "b.nc", array), EXPECTED)
    single = array.assign_coords(x=array.x.astype("f4"), y=array.y.astype("f4"))
    np.testing.assert_array_equal(read(tmp_path / "b.nc", single), EXPECTED)


def test_dimensions_may_be_named_by_the_attribute_axis(tmp_path):
    array = GOOD.transpose("x", "y").rename(x="easting", y="northing")
    array.easting.attrs["axis"], array.northing.attrs["axis"] = "X", "Y"
    np.testing.assert_array_equal(read(tmp_path / "b.nc", array), EXPECTED)


def test_packed_values_and_other_number_types_are_unpacked(tmp_path):
    whole = np.round(100 * BOTTOM)
    array = GOOD.copy(data=whole)
    array.encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -1}
    found = read(tmp_path / "b.nc", array)
    np.testing.assert_allclose(found, whole.reshape(4, 2, 6, 2).mean(axis=(1, 3)), atol=0.51)
    array.encoding = {"dtype": "f4"}
    np.testing.assert_array_equal(read(tmp_path / "b.nc", array), whole.reshape(4, 2, 6, 2).mean(axis=(1, 3)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.assign_coords(x=a.x + 0.1), r"coordinates x of .*: found 10.225 to 12.975, expected .* 10.125 to"),
        (lambda a: a.assign_coords(y=2 * a.y), r"coordinates y .* cell centres of the domain\. Remedy"),
        (lambda a: a.assign_coords(x=np.linspace(10, 13, 12)), r"coordinates x"),
        (lambda a: a.assign_coords(x=a.x**1.01), r"coordinates x"),
        (lambda a: a.assign_coords(x=[np.nan, *a.x.values[1:]]), r"coordinates x"),
        (lambda a: a.rename(y="lat", x="lon"), r"has the dimensions \(lat, lon\), expected y and x\. Remedy"),
        (lambda a: a.drop_vars(["y", "x"]).rename(y="dim_0", x="dim_1"), r"\(dim_0, dim_1\), expected y and x"),
        (lambda a: a.expand_dims("time"), r"\(time, y, x\), expected y and x"),
        (lambda a: a.isel(y=0), r"\(x\), expected y and x"),
        (lambda a: a.where(a > a.min()), r"must be finite real numbers of shape \(y, x\)"),
        (lambda a: a.isel(x=slice(0, 11)), r"expected a whole multiple of the grid's \[4, 6\]"),
    ],
)
def test_a_foreign_domain_and_unclear_names_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=rf"equation\.bathymetry\.path: .*{words}"):
        read(tmp_path / "b.nc", change(GOOD))


def test_an_axis_attribute_that_contradicts_its_dimension_is_refused(tmp_path):
    array = GOOD.copy()
    array.x.attrs["axis"], array.y.attrs["axis"] = "Y", "X"
    with pytest.raises(ValueError, match=r'dimensions \(y \(axis = "X"\), x \(axis = "Y"\)\)'):
        read(tmp_path / "b.nc", array)


def test_coordinates_in_an_npz_file_place_its_values(tmp_path):
    path = tmp_path / "b.npz"
    np.savez(path, bathymetry=BOTTOM[::-1], y=Y[::-1], x=X)
    np.testing.assert_array_equal(BathymetryFile(path=path).averages(GRID), EXPECTED)
    for wrong in (X + 1.0, X[:-1], np.add.outer(Y, X), X.astype(str)):
        np.savez(path, bathymetry=BOTTOM, x=wrong)
        with pytest.raises(ValueError, match="coordinates x of"):
            BathymetryFile(path=path).averages(GRID)


@pytest.mark.parametrize("kind", ["npz", "nc"])
def test_a_file_that_changes_within_one_process_is_read_as_it_is_now(tmp_path, kind):
    path = tmp_path / f"b.{kind}"

    def write(values):
        if kind == "npz":
            np.savez(path, bathymetry=values)
        else:
            GOOD.copy(data=values).to_dataset().to_netcdf(path, engine="scipy")

    write(BOTTOM)
    first = ShallowWater(bathymetry={"kind": "file", "path": path})
    np.testing.assert_array_equal(first.bottom(GRID), EXPECTED)
    write(1 + BOTTOM)
    second = ShallowWater(bathymetry={"kind": "file", "path": path})
    np.testing.assert_allclose(second.bottom(GRID), 1 + EXPECTED, rtol=1e-15)
    np.testing.assert_array_equal(first.bottom(GRID), EXPECTED)  # a run keeps its bottom
    assert first.bottom(GRID) is first.complete().bottom(GRID)
    assert first == second and hash(first) == hash(second)


def test_two_runs_in_one_process_take_the_bottom_of_their_time(tmp_path):
    case = tomllib.loads(
        'title = "lake"\n[equation]\nname = "shallow-water"\nboundary = "wall"\n'
        'bathymetry = {kind = "file", path = "b.npz"}\n[grid]\nshape = [4, 6]\nlength = [1.0, 1.0]\n[time]\nend = 0.1\n'
        'cfl = 0.4\nstepper = "ssp-rk2"\n[initial]\nkind = "lake-at-rest"\nlevel = 2.0\n[output]\nevery = 0.1\n'
    )
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case))
    for name, height in (("one", 0.5), ("two", 1.0)):
        np.savez(tmp_path / "b.npz", bathymetry=np.full((4, 6), height))
        assert cli.execute(["run", str(tmp_path / "case.toml"), "--out", str(tmp_path / name)]) == 0
        depth = xarray.open_zarr(tmp_path / name / "fields.zarr", consolidated=False).depth
        np.testing.assert_allclose(depth[0, 0], 2.0 - height, rtol=1e-12)


def test_every_truncated_and_altered_netcdf_file_is_refused_or_read(tmp_path):
    """At every length: one message with the key and the file. With altered bytes: the same, or numbers."""
    path = tmp_path / "b.nc"
    read(path, GOOD)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    lengths = range(0, len(content), 7)
    altered = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(400)] = rng.choice([0, 127, 128, 255, int(rng.integers(256))])
        altered.append(bytes(damaged))
    refused = 0
    for damaged in [content[:n] for n in lengths] + altered:
        path.write_bytes(damaged)
        try:
            assert BathymetryFile(path=path).averages(GRID).shape == GRID.shape
        except ValueError as error:
            assert str(error).startswith("equation.bathymetry.path: "), error
            refused += 1
    assert refused > len(lengths)


def test_the_size_that_a_header_announces_is_checked_before_the_values(tmp_path, monkeypatch):
    from subgrid.solver.equations.shallow_water import bathymetry

    monkeypatch.setattr(bathymetry, "LARGEST_BOTTOM", 8 * 64 * 24 - 1)
    fine = np.zeros((4 * 16, 6 * 16))
    fine[0, 0] = 1
    np.savez_compressed(tmp_path / "b.npz", bathymetry=fine)
    xarray.Dataset({"bathymetry": (("y", "x"), fine)}).to_netcdf(tmp_path / "b.nc", engine="scipy")
    for name in ("b.npz", "b.nc"):
        with pytest.raises(ValueError, match=r"announces bathymetry .* GB, more than the .* GB expected here"):
            BathymetryFile(path=tmp_path / name).averages(GRID)
