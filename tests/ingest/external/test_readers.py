"""Readers: files made by the definitions of their formats give the same values, in the conventions of the schema."""

from __future__ import annotations

import json

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr

from subgrid import open_data, read_case, run
from subgrid.commands.cli import execute
from subgrid.ingest.external.contents import DataError
from subgrid.ingest.external.recognise import READERS


def facts(data: xr.Dataset, axis: str) -> tuple[str, str]:
    return data[axis].attrs["grid"], data[axis].attrs["periodic"]


@pytest.mark.parametrize("text", [False, True])
def test_hypar_folder(formats, tmp_path, text):
    """Axis 0 is x and varies fastest in the file: the schema has (v, x)."""
    u = formats.hypar_folder(tmp_path / "run", text)
    data = open_data(tmp_path / "run")
    assert data["distribution"].dims == ("trajectory", "time", "v", "x")
    np.testing.assert_allclose(data["distribution"][0], u.transpose(0, 2, 1), rtol=1e-15)
    np.testing.assert_allclose(data["time"], 0.25 * np.arange(6))
    assert float(data["temperature"]) == 0.97
    assert (facts(data, "x")[1], facts(data, "v")[1]) == ("yes", "no")


def test_the_last_output_of_hypar_is_that_of_its_last_iteration(formats, tmp_path):
    formats.hypar_folder(tmp_path / "run")
    formats.hypar_inputs(tmp_path / "run", [8, 6], n_iter=9)
    with pytest.raises(DataError, match=r"uneven: steps from 0\.125 to 0\.25\. Remedy: .*accept = uneven-times"):
        open_data(tmp_path / "run")
    data = open_data(tmp_path / "run", accept="uneven-times")
    np.testing.assert_allclose(data["time"], 0.125 * np.array([0, 2, 4, 6, 8, 9]))


def test_hypar_single_output_and_its_two_dimensional_names(formats, tmp_path):
    x, y = formats.points(6), formats.points(4)
    u = np.stack([formats.wave(x, y)[0], formats.wave(x, y)[1]])
    formats.hypar_binary(tmp_path / "state.dat0", [x, y], u)
    data = open_data(tmp_path / "state.dat0", times="2.0:1")
    assert data["u1"].dims == ("trajectory", "time", "y", "x")
    np.testing.assert_array_equal(data["u1"][0, 0], u[1].T)
    assert data["time"].values.tolist() == [2.0]


def test_a_folder_of_hypar_runs_is_one_dataset_with_the_parameters_of_each(formats, tmp_path):
    (tmp_path / "sweep").mkdir()
    for i in range(3):
        formats.hypar_folder(tmp_path / "sweep" / f"run{i}", shift=i)
        file = tmp_path / "sweep" / f"run{i}" / "physics.inp"
        file.write_text(file.read_text().replace("0.97", f"{0.9 + i / 10}"))
    data = open_data(tmp_path / "sweep")
    assert data["distribution"].shape == (3, 6, 6, 8)
    np.testing.assert_allclose(data["temperature"], [0.9, 1.0, 1.1])


def test_pdebench_tensor(formats, tmp_path):
    """x-coordinate are centres of cells, the last of the t-coordinates belongs to no state, Nu is in the name."""
    u = formats.pdebench_tensor(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5")
    data = open_data(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5")
    np.testing.assert_array_equal(data["u"], u)
    assert data["u"].dims == ("trajectory", "time", "x") and data["u"].dtype == np.float32
    assert facts(data, "x") == ("cells", "unknown") and data["x"].attrs["length"] == pytest.approx(1)
    np.testing.assert_array_equal(data["time"], formats.TIMES)
    assert float(data["Nu"]) == 0.01
    assert any("belongs to no state" in text for text in json.loads(data.attrs["findings"]))


def test_pdebench_compressible_flow(formats, tmp_path):
    """x before y in the file: (y, x) in the schema."""
    u = formats.pdebench_flow(tmp_path / "2D_CFD_Rand_M0.1_periodic_12_Train.hdf5")
    data = open_data(tmp_path / "2D_CFD_Rand_M0.1_periodic_12_Train.hdf5")
    assert list(data.data_vars) == ["density", "pressure", "velocity_x", "velocity_y"]
    np.testing.assert_array_equal(data["velocity_y"], u[3].swapaxes(2, 3))
    assert facts(data, "y") == ("cells", "yes") and float(data["eta"]) == 0.01


def test_pdebench_groups(formats, tmp_path):
    """The radial dam break: a group for each sample, whose dam_radius is in its configuration."""
    u = formats.pdebench_groups(tmp_path / "2D_rdb_NA_NA.h5")
    data = open_data(tmp_path / "2D_rdb_NA_NA.h5")
    np.testing.assert_array_equal(data["depth"], u.swapaxes(2, 3))
    np.testing.assert_allclose(data["dam_radius"], [0.3, 0.4, 0.5])
    np.testing.assert_allclose(data["y"], formats.centres(8, 5.0, -2.5), rtol=1e-6)


def test_a_sample_of_the_generator_of_pdebench(tmp_path):
    """Its diffusion-reaction, in the layout of its files. It writes y before x, which lengths that differ show."""
    generator = pytest.importorskip("pdebench.data_gen.src.sim_diff_react")
    made = generator.Simulator(t=0.4, tdim=5, xdim=12, ydim=8, x_right=2.0)
    sample = made.generate_sample()
    with h5py.File(tmp_path / "2D_diff-react_NA_NA.h5", "w") as file:
        file.create_dataset("0000/data", data=sample, dtype="float32", compression="lzf")
        for axis in "xyt":
            values = getattr(made, axis)
            file.create_dataset(f"0000/grid/{axis}", data=values, dtype="float32", compression="lzf")
        file["0000"].attrs["config"] = "sim:\n  Du: 0.001\n  Dv: 0.005\n  k: 0.005\n  seed: 0\n"
    with pytest.raises(DataError, match=r"the axes are exchanged\. Remedy: transpose = x,y"):
        open_data(tmp_path / "2D_diff-react_NA_NA.h5")
    data = open_data(tmp_path / "2D_diff-react_NA_NA.h5", transpose="x,y")
    np.testing.assert_array_equal(data["inhibitor"][0], sample[..., 1].astype("f4"))
    assert data["inhibitor"].dims == ("trajectory", "time", "y", "x") and float(data["Dv"]) == 0.005
    assert any("writes y before x" in text for text in json.loads(data.attrs["findings"]))


def test_pdebench_incompressible(formats, tmp_path):
    u = formats.pdebench_incompressible(tmp_path / "ns_incom.h5")
    data = open_data(tmp_path / "ns_incom.h5", length={"x": 1.0, "y": 1.0})
    np.testing.assert_array_equal(data["velocity_x"], u[..., 0].swapaxes(2, 3))
    np.testing.assert_array_equal(data["force_y"], u[:, 0, :, :, 1].swapaxes(1, 2))
    assert data["force_y"].attrs["role"] == "static" and data["particles"].shape == (2, 5, 8, 12)
    np.testing.assert_allclose(data["x"], formats.centres(12))


def test_the_well(formats, tmp_path):
    """Components by name; an axis that does not vary is filled in; what does not vary in time is static."""
    given = formats.the_well(tmp_path / "waves.hdf5")
    data = open_data(tmp_path / "waves.hdf5")
    np.testing.assert_array_equal(data["tracer"], given["tracer"].swapaxes(2, 3))
    np.testing.assert_array_equal(data["velocity_y"], given["velocity"][..., 1].swapaxes(2, 3))
    np.testing.assert_array_equal(data["stress_xy"], given["stress"][..., 0, 1].swapaxes(2, 3))
    np.testing.assert_array_equal(data["mask"], given["mask"].T)
    assert data["mask"].attrs["role"] == "static"
    np.testing.assert_array_equal(data["wind"][:, :, 3], given["wind"])
    assert (facts(data, "x")[1], facts(data, "y")[1]) == ("yes", "no")
    assert float(data["viscosity"]) == 0.01 and data["height"].values.tolist() == [0, 1]


def test_a_file_that_the_well_wrote(formats, tmp_path):
    """The package's own generator of files in its format; its scalar that varies in time is not read, which is said."""
    made = pytest.importorskip("the_well.utils.dummy_data")
    made.write_dummy_data(str(tmp_path / "dummy.hdf5"))
    data = open_data(tmp_path / "dummy.hdf5", accept="repeated-end-point")
    with h5py.File(tmp_path / "dummy.hdf5") as file:
        np.testing.assert_array_equal(data["field_y"], file["t1_fields/field"][..., 1].swapaxes(2, 3))
        np.testing.assert_array_equal(data["constant_field"], file["t0_fields/constant_field"][:].swapaxes(1, 2))
    assert (float(data["a"]), float(data["b"])) == (0.25, 0.75)
    assert any("time_varying_scalar varies in time" in text for text in json.loads(data.attrs["findings"]))


def test_trajectories_of_exponax(formats, tmp_path, exponax):
    """Its own solver of advection with a velocity along x alone: the waves move along x of the schema."""
    code = """
stepper = exponax.stepper.Advection(2, 2 * np.pi, 16, 0.1, velocity=np.array([1.0, 0.0]))
x, y = np.meshgrid(*2 * [2 * np.pi * np.arange(16) / 16], indexing="ij")
start = (np.sin(x) + 0.5 * np.cos(2 * y))[None]
states = exponax.rollout(stepper, 5, include_init=True)(jax.numpy.asarray(start))  # (time, channel, x, y)
"""
    exponax(code, tmp_path / "advection.npy")
    x, y = np.meshgrid(formats.points(16), formats.points(16), indexing="ij")
    data = open_data(tmp_path / "advection.npy", length={"x": 2 * np.pi, "y": 2 * np.pi}, times="0:0.1")
    for t, state in zip(data["time"].values, data["u"][0].values, strict=True):
        np.testing.assert_allclose(state, np.sin(x - t).T + 0.5 * np.cos(2 * y).T, atol=1e-5)
    assert data["u"].dims[2:] == ("y", "x")


def test_runs_of_this_package(formats, tmp_path, case_file):
    """A run folder, its fields.zarr, and a folder of runs; members are trajectories."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for i, viscosity in enumerate((0.02, 0.05)):
        changes = ["--set", f"equation.viscosity={viscosity}", "--set", f"ensemble.seed={i}"]
        assert execute(["run", str(case_file), *changes, "--out", str(runs / f"run{i}")]) == 0
    stored = xr.open_zarr(runs / "run0/fields.zarr", consolidated=False)
    for path in (runs / "run0", runs / "run0/fields.zarr"):
        data = open_data(path)
        np.testing.assert_array_equal(data["velocity"], stored["velocity"].transpose("member", "time", "x"))
        assert facts(data, "x") == ("points", "yes") and data["x"].attrs["length"] == pytest.approx(1)
        assert float(data["viscosity"]) == 0.02
    both = open_data(runs)
    assert both["velocity"].shape == (4, 6, 32)
    np.testing.assert_array_equal(both["viscosity"], [0.02, 0.02, 0.05, 0.05])


@pytest.mark.parametrize("spectrum", [True, False])
def test_a_run_with_derived_fields_on_other_axes(spectrum, tmp_path):
    """Those on the grid are read, with the length of each axis; `fields` chooses others."""
    vlasov = {
        "equation": {"name": "vlasov-poisson"},
        "grid": {"shape": [16, 8], "length": [12.0, 4.0], "origin": [-6.0, 0.0]},
        "initial": {"kind": "landau"},
        "output": {"every": 0.1, "derived": ["density"]},
    }
    flow = {
        "equation": {"name": "kolmogorov", "viscosity": 0.01},
        "grid": {"shape": [16, 8], "length": [12.0, 4.0]},
        "initial": {"kind": "taylor-green"},
        "output": {"every": 0.1, "derived": ["velocity_x", "spectrum"]},
    }
    about, derived = (flow, "spectrum") if spectrum else (vlasov, "density")
    time = {"end": 0.2, "step": 0.1, "stepper": "rk4"}
    run(read_case({"title": "derived", "time": time} | about), out=tmp_path / "run", progress=False)
    stored = xr.open_zarr(tmp_path / "run/fields.zarr", consolidated=False)
    data = open_data(tmp_path / "run")
    up = "y" if spectrum else "v"
    assert set(data.data_vars) - {"viscosity"} == ({"vorticity", "velocity_x"} if spectrum else {"distribution"})
    assert data[up].attrs["length"] == pytest.approx(12) and data["x"].attrs["length"] == pytest.approx(4)
    assert f"left out, because not on the axes {up}, x: {derived}. Key to read them: fields" in data.attrs["findings"]
    alone = open_data(tmp_path / "run", fields=[derived])
    np.testing.assert_array_equal(alone[derived].squeeze(), stored[derived].squeeze())


def test_the_frames_of_a_comparison(formats, tmp_path, case_file):
    short = ["--set", "reference.shape=[64]", "--set", "compare.frontier=false"]
    assert execute(["compare", str(case_file), *short, "--out", str(tmp_path / "compared")]) == 0
    stored = xr.open_zarr(tmp_path / "compared/comparison.zarr", consolidated=False)
    for path in (tmp_path / "compared", tmp_path / "compared/comparison.zarr"):
        data = open_data(path)
        np.testing.assert_array_equal(data["velocity"], stored["frames"])
        assert facts(data, "x") == ("points", "yes") and data["x"].attrs["length"] == pytest.approx(1)
        assert json.loads(data.attrs["provenance"])["origin"]["sources"][0] == "reference"


@pytest.fixture
def case_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "waves.toml"
    file.write_text(
        'title = "waves"\n[equation]\nname = "burgers"\nviscosity = 0.05\n[grid]\nshape = [32]\nlength = [1.0]\n'
        '[time]\nend = 0.1\nstep = 0.002\nstepper = "rk4"\n'
        '[initial]\nkind = "gaussian-random-field"\nexponent = 2.5\ntau = 7.0\n'
        "[ensemble]\nmembers = 2\n[output]\nevery = 0.02\n[compare]\nclosures = []\n"
    )
    return file


def test_apebench_array(formats, tmp_path):
    """(sample, time, channel, x, y): exponax has points on [0, L) and orders axes x first."""
    u = np.stack([formats.wave(formats.points(8), formats.points(6), shift=s) for s in range(3)])
    both = np.stack([u, 2 * u], axis=2)
    np.save(tmp_path / "train.npy", both)
    data = open_data(tmp_path / "train.npy", length={"x": 2 * np.pi, "y": 2 * np.pi}, times="0:0.25")
    np.testing.assert_array_equal(data["u1"], 2 * u.swapaxes(2, 3))
    assert facts(data, "x") == ("points", "yes")
    np.testing.assert_allclose(data["x"], formats.points(8))
    np.testing.assert_allclose(data["time"], formats.TIMES)


def test_an_array_with_other_axes_is_read_by_their_names(formats, tmp_path):
    u = np.stack([formats.wave(formats.points(8), formats.points(6), shift=s) for s in range(3)])
    np.save(tmp_path / "a.npy", u.transpose(1, 3, 0, 2))
    data = open_data(tmp_path / "a.npy", axes="time,y,trajectory,x", map={"vorticity": "u"})
    np.testing.assert_array_equal(data["vorticity"], u.swapaxes(2, 3))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_matlab(formats, tmp_path, version):
    """Version 7.3 stores all axes reversed; both give (trajectory, time, y, x), and the input as a static field."""
    given = formats.navier_stokes_mat(tmp_path / "ns_V1e-3_N5000_T50.mat", version)
    data = open_data(tmp_path / "ns_V1e-3_N5000_T50.mat", length={"x": 1, "y": 1}, grid="points", periodic="x,y")
    np.testing.assert_array_equal(data["u"], given["u"].transpose(0, 3, 2, 1))
    np.testing.assert_array_equal(data["a"], given["a"].swapaxes(1, 2))
    np.testing.assert_allclose(data["time"], 1 + formats.TIMES)
    np.testing.assert_allclose(data["x"], np.arange(8) / 8)


def ocean(formats, version: str, path) -> np.ndarray:
    """A NetCDF file of a model with names of its own; returns (time, y, x), one value missing if `hole`."""
    x, y = formats.points(8), formats.points(6)
    u = formats.wave(y, x)
    with netCDF4.Dataset(path, "w", format=version) as file:
        for name, values, units in (("ocean_time", formats.TIMES, "s"), ("yc", y, "m"), ("xc", x, "m")):
            file.createDimension(name, len(values))
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = values
            variable.units = units
        file["xc"].axis, file["yc"].standard_name = "X", "projection_y_coordinate"
        packed = file.createVariable("xi", "i2", ("ocean_time", "yc", "xc"), fill_value=-32767)
        packed.scale_factor, packed.units, packed.long_name = 0.001, "1/s", "vorticity"
        packed[:] = u
        file.createVariable("energy", "f8", ("ocean_time",))[:] = u.mean(axis=(1, 2))
        file.viscosity = 0.01
    return u


@pytest.mark.parametrize("version", ["NETCDF3_CLASSIC", "NETCDF4"])
def test_netcdf_by_attributes_and_a_map_of_names(formats, tmp_path, version):
    u = ocean(formats, version, tmp_path / "ocean.nc")
    data = open_data(tmp_path / "ocean.nc", map={"time": "ocean_time", "vorticity": "xi"}, grid="points")
    assert data["vorticity"].dims == ("trajectory", "time", "y", "x")
    assert (data["vorticity"].attrs["units"], data["x"].attrs["units"]) == ("1/s", "m")
    np.testing.assert_allclose(data["vorticity"][0], u, atol=0.001)
    assert data["energy"].attrs["role"] == "series" and float(data["viscosity"]) == 0.01


def test_zarr_with_named_dimensions(formats, tmp_path):
    """As jax-cfd writes it: (sample, time, x, y)."""
    u = np.stack([formats.wave(formats.points(8), formats.points(6), shift=s) for s in range(3)])
    coords = {"time": formats.TIMES, "x": formats.points(8), "y": formats.points(6)}
    given = xr.Dataset({"u": (("sample", "time", "x", "y"), u)}, coords=coords, attrs={"viscosity": 0.001})
    given.to_zarr(tmp_path / "jax.zarr", consolidated=False)
    data = open_data(tmp_path / "jax.zarr")
    np.testing.assert_array_equal(data["u"], u.swapaxes(2, 3))
    assert float(data["viscosity"]) == 0.001


@pytest.mark.parametrize("revised", [False, True])
def test_molecules(formats, tmp_path, revised):
    rng = np.random.default_rng(0)
    positions, forces, energy = rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 3, 3)), rng.normal(size=4)
    names = ("coords", "nuclear_charges", "energies", "forces") if revised else ("R", "z", "E", "F")
    arrays = dict(
        zip(names, (positions, np.array([6, 1, 8]), energy if revised else energy[:, None], forces), strict=True)
    )
    np.savez(tmp_path / "ethanol.npz", **arrays)
    data = open_data(tmp_path / "ethanol.npz", times="0:0.5", units={"time": "fs"})
    np.testing.assert_array_equal(data["y"][0], positions[..., 1])
    np.testing.assert_array_equal(data["force_z"][0], forces[..., 2])
    np.testing.assert_array_equal(data["energy"][0], energy)
    assert data["nuclear_charge"].values.tolist() == [6, 1, 8] and data["x"].attrs["units"] == "angstrom"
    assert data["energy"].attrs["units"] == "kcal/mol" and data["time"].values.tolist() == [0, 0.5, 1, 1.5]


def test_pedestrians(formats, tmp_path):
    """A frame without pedestrians is a state of missing values, ten frames are 0.4 s."""
    formats.pedestrians(tmp_path / "biwi.txt")
    data = open_data(tmp_path / "biwi.txt")
    np.testing.assert_allclose(data["time"], [31.2, 31.6, 32.0, 32.4])
    np.testing.assert_array_equal(data["y"][0, :, 0], [3.59, 3.79, np.nan, np.nan])
    np.testing.assert_array_equal(data["x"][0, :, 1], [np.nan, 1.5, np.nan, 1.75])
    assert data["x"].attrs["units"] == "m" and facts(data, "entity")[0] == "entities"


@pytest.mark.parametrize("entity_last", [True, False])
def test_n_body(formats, tmp_path, entity_last):
    loc = formats.n_body(tmp_path, entity_last)
    data = open_data(tmp_path / "loc_train.npy")
    np.testing.assert_array_equal(data["z"], loc[:, :, 2])
    assert data["velocity_x"].dims == ("trajectory", "time", "entity") and data["charge"].shape == (2, 5)
    formats.n_body(tmp_path, entity_last, "valid", 3)
    assert open_data(tmp_path)["x"].sizes["trajectory"] == 5


def test_every_reader_is_found_by_contents_and_by_name(formats, tmp_path):
    formats.pdebench_tensor(tmp_path / "data.bin")
    assert open_data(tmp_path / "data.bin").attrs["format"] == "pdebench"
    assert open_data(tmp_path / "data.bin", reader="pdebench").attrs["format"] == "pdebench"
    assert [name for name, reader in READERS.available() if reader.name != name] == []


def test_a_reader_in_a_file(formats, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from subgrid.ingest.external.contents import Axis, Contents, Variable\n"
        "from subgrid.ingest.external.lazy import Lazy\n"
        "from subgrid.ingest.external.recognise import Reader\n\n"
        "class Mine(Reader):\n"
        "    name = 'mine'\n"
        "    def recognises(self, path):\n"
        "        return path.suffix == '.raw'\n"
        "    def read(self, path, options):\n"
        "        u = np.fromfile(path).reshape(5, 8)\n"
        "        return Contents('mine', {'u': Variable(('time', 'x'), Lazy.of(u))}, {'x': Axis()}, files=[path])\n"
    )
    u = formats.wave(formats.points(8))
    u.tofile(tmp_path / "state.raw")
    with pytest.raises(DataError, match=r"state\.raw is of no known format\. Remedy: `reader`"):
        open_data(tmp_path / "state.raw")
    data = open_data(tmp_path / "state.raw", reader=f"{tmp_path / 'mine.py'}:Mine")
    np.testing.assert_array_equal(data["u"][0], u)
