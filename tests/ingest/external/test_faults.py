"""Damaged and inconsistent files: refused with one message that names the remedy, exit code 2, nothing written.

Where a key corrects the fault or accepts it, the message names it, and the data with it are as expected.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from subgrid import open_data
from subgrid.commands.cli import execute

Check = Callable[[xr.Dataset], Any]


@dataclass(frozen=True)
class Case:
    """make(formats, folder) returns the path. message: parts of it, in order. keys: those that resolve it, as on the
    command line. holds: of the data with these keys.
    """

    make: Callable[[SimpleNamespace, Path], Path]
    message: tuple[str, ...]
    keys: str = ""
    holds: Check = field(default=lambda data: True)
    given: str = ""


CASES: dict[str, Case] = {}


def case(*message: str, keys: str = "", holds: Check = lambda data: True, given: str = "") -> Callable:
    def add(make: Callable) -> Callable:
        CASES[make.__name__] = Case(make, message, keys, holds, given)
        return make

    return add


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def tensor(formats: SimpleNamespace, folder: Path, change: Callable[[h5py.File], Any], **options: Any) -> Path:
    formats.pdebench_tensor(folder / "data.hdf5", **options)
    with h5py.File(folder / "data.hdf5", "r+") as file:
        change(file)
    return folder / "data.hdf5"


def put(file: h5py.File, name: str, values: Any) -> None:
    if name in file:
        del file[name]
    file[name] = values


def named(
    folder: Path, u: Any, dims: tuple[str, ...], attrs: dict[str, dict[str, str]] | None = None, **coords: Any
) -> Path:
    data = xr.Dataset({"u": (dims, u)}, coords=coords)
    for name, given in (attrs or {}).items():
        data[name].attrs.update(given)
    data.to_netcdf(folder / "data.nc", engine="h5netcdf")
    return folder / "data.nc"


def line(formats: SimpleNamespace, n: int = 16) -> np.ndarray:
    return formats.wave(formats.points(n))


# Files that cannot be read.


@case("no such file", "check the path")
def nothing(formats, folder):
    return folder / "nothing.nc"


@case("is empty", "complete download")
def empty(formats, folder):
    (folder / "data.h5").touch()
    return folder / "data.h5"


@case("no known format", "hypar", "file.py:Class")
def unknown(formats, folder):
    (folder / "notes.txt").write_text("these are notes\n")
    return folder / "notes.txt"


@case("holds nothing of a known format", "name a file or folder")
def unknown_folder(formats, folder):
    (folder / "notes.txt").write_text("these are notes\n")
    return folder


@case("op_00003.bin has", "its header states", "complete copy")
def hypar_cut(formats, folder):
    formats.hypar_folder(folder / "run")
    cut(folder / "run/op_00003.bin")
    return folder / "run"


@case("solver.inp states size 8 5", "(8, 6)", ".inp files of this run")
def hypar_of_another_run(formats, folder):
    formats.hypar_folder(folder / "run")
    formats.hypar_inputs(folder / "run", [8, 5])
    return folder / "run"


@case("op_00001.dat has 47 lines, its indices need 48", "complete copy")
def hypar_text_without_a_line(formats, folder):
    formats.hypar_folder(folder / "run", text=True)
    file = folder / "run/op_00001.dat"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:7] + lines[8:]))
    return folder / "run"


@case("op_00001.dat is damaged", "complete copy")
def hypar_text_with_a_word(formats, folder):
    formats.hypar_folder(folder / "run", text=True)
    file = folder / "run/op_00001.dat"
    file.write_text(file.read_text().replace("+", "p", 9))
    return folder / "run"


@case("solver.inp does not read begin ... end")
def hypar_inputs_cut(formats, folder):
    formats.hypar_folder(folder / "run")
    cut(folder / "run/solver.inp")
    return folder / "run"


@case("has no output op*.bin", "run HyPar")
def hypar_without_outputs(formats, folder):
    formats.hypar_inputs(folder, [8, 6])
    return folder


@case("is of size (4, 6)", "outputs of one run")
def hypar_with_another_grid(formats, folder):
    formats.hypar_folder(folder / "run")
    x, v = formats.points(4), formats.points(6)
    formats.hypar_binary(folder / "run/op_00002.bin", [x, v], formats.wave(x, v)[:1])
    return folder / "run"


@case("is damaged", "complete copy")
def hdf5_cut(formats, folder):
    formats.pdebench_flow(folder / "data.hdf5")
    return cut(folder / "data.hdf5")


@case("the group 0001 has no `data`", "complete copy")
def pdebench_group_without_data(formats, folder):
    formats.pdebench_groups(folder / "data.h5")
    with h5py.File(folder / "data.h5", "r+") as file:
        del file["0001/data"]
    return folder / "data.h5"


@case("the sample 0002 has shape (4, 12, 8, 1)", "complete copy")
def pdebench_group_of_another_shape(formats, folder):
    formats.pdebench_groups(folder / "data.h5")
    with h5py.File(folder / "data.h5", "r+") as file:
        put(file, "0002/data", file["0002/data"][:4])
    return folder / "data.h5"


@case("lacks the samples 0001", "accept = missing-samples", keys="--accept missing-samples")
def pdebench_sample_missing(formats, folder):
    formats.pdebench_groups(folder / "data.h5", samples=(0, 2, 3))
    return folder / "data.h5"


@case("tracer has 2 trajectories, n_trajectories is 3", "complete copy")
def well_of_other_trajectories(formats, folder):
    formats.the_well(folder / "data.hdf5")
    with h5py.File(folder / "data.hdf5", "r+") as file:
        file.attrs["n_trajectories"] = 3
    return folder / "data.hdf5"


@case("dimensions/y is missing", "complete copy")
def well_without_an_axis(formats, folder):
    formats.the_well(folder / "data.hdf5")
    with h5py.File(folder / "data.hdf5", "r+") as file:
        del file["dimensions/y"]
    return folder / "data.hdf5"


@case("t0_fields/tracer has 4 axes, its attributes announce 3")
def well_with_wrong_attributes(formats, folder):
    formats.the_well(folder / "data.hdf5")
    with h5py.File(folder / "data.hdf5", "r+") as file:
        file["t0_fields/tracer"].attrs["time_varying"] = False
    return folder / "data.hdf5"


@case("holds Python objects, which are never loaded", "np.save the numbers")
def array_of_objects(formats, folder):
    np.save(folder / "data.npy", np.array([{"u": 1}, None], dtype=object), allow_pickle=True)
    return folder / "data.npy"


@case("is damaged", "complete copy")
def array_cut(formats, folder):
    np.save(folder / "data.npy", np.zeros((2, 3, 1, 16)))
    return cut(folder / "data.npy")


@case("has shape (5, 16)", "axes = the names", keys="--axes time,x", holds=lambda d: d["u"].shape == (1, 5, 16))
def array_without_axes(formats, folder):
    np.save(folder / "data.npy", line(formats))
    return folder / "data.npy"


@case("axes: ", "3 axes; trajectory, time are 2", given="--axes trajectory,time", keys="--axes trajectory,time,x")
def array_with_too_few_names(formats, folder):
    np.save(folder / "data.npy", np.stack([line(formats), 2 * line(formats)]))
    return folder / "data.npy"


@case("axes: pdebench names the axes", "map, or transpose", given="--axes trajectory,time,y")
def array_with_names_of_its_own(formats, folder):
    formats.pdebench_tensor(folder / "data.hdf5")
    return folder / "data.hdf5"


@case("is complex", "real and imaginary parts")
def complex_field(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "tensor", file["tensor"][:].astype("c8")))


@case("is an .npz or zip file that is cut off", "complete copy")
def molecule_cut(formats, folder):
    np.savez(folder / "a.npz", R=np.ones((4, 3, 3)), z=np.array([1, 6, 8]))
    return cut(folder / "a.npz")


@case("objects, which are never loaded", "numbers alone")
def molecule_of_objects(formats, folder):
    np.savez(folder / "a.npz", R=np.array([None, {}], dtype=object), z=np.array([1]))
    return folder / "a.npz"


@case("z has shape (2,), expected (3,)")
def molecule_with_another_number_of_atoms(formats, folder):
    np.savez(folder / "a.npz", R=np.ones((4, 3, 3)), z=np.array([1, 8]))
    return folder / "a.npz"


@case("is damaged", "complete copy")
def matlab_cut(formats, folder):
    formats.navier_stokes_mat(folder / "ns.mat")
    return cut(folder / "ns.mat")


@case("holds no array of numbers", "not as structures")
def matlab_of_words(formats, folder):
    from scipy.io import savemat

    savemat(folder / "a.mat", {"words": "wave"})
    return folder / "a.mat"


@case("is damaged", "complete copy")
def netcdf_cut(formats, folder):
    return cut(named(folder, line(formats), ("time", "x"), x=formats.points(16), time=formats.TIMES))


@case("is damaged", "complete copy")
def zarr_chunk_damaged(formats, folder):
    u = np.stack([line(formats), 2 * line(formats)])
    xr.Dataset({"u": (("sample", "time", "x"), u)}).to_zarr(folder / "a.zarr", consolidated=False)
    cut(next(p for p in (folder / "a.zarr/u/c").rglob("*") if p.is_file()))
    return folder / "a.zarr"


@case("pedestrian 2 is twice in frame 790", "remove one of the lines")
def pedestrian_twice(formats, folder):
    formats.pedestrians(folder / "a.txt")
    (folder / "a.txt").write_text((folder / "a.txt").read_text() + "790\t2\t1.0\t2.0\n")
    return folder / "a.txt"


@case("a.txt", "four numbers")
def pedestrian_without_a_coordinate(formats, folder):
    formats.pedestrians(folder / "a.txt")
    (folder / "a.txt").write_text((folder / "a.txt").read_text() + "820\t2\t1.0\n")
    return folder / "a.txt"


@case("either of the last two axes", "axes = ", keys="--axes trajectory,time,entity,coordinate")
def bodies_three_by_three(formats, folder):
    np.save(folder / "loc_a.npy", np.random.default_rng(0).normal(size=(2, 5, 3, 3)))
    return folder / "loc_a.npy"


@case("vel_train.npy has shape (2, 6, 3, 5)", "files of one data set")
def bodies_with_other_velocities(formats, folder):
    formats.n_body(folder)
    np.save(folder / "vel_train.npy", np.load(folder / "vel_train.npy")[:, 1:])
    return folder


@case("is pdebench", "ingest them separately")
def folder_of_two_formats(formats, folder):
    formats.navier_stokes_mat(folder / "a.mat")
    formats.pdebench_tensor(folder / "b.hdf5")
    return folder


# Traps in files that can be read.


@case(
    "the axes are exchanged",
    "transpose = x,y",
    keys="--transpose x,y",
    holds=lambda d: d["density"].shape == (2, 5, 12, 8),
)
def transposed(formats, folder):
    formats.pdebench_flow(folder / "data.hdf5")
    with h5py.File(folder / "data.hdf5", "r+") as file:
        x, y = file["x-coordinate"][:], file["y-coordinate"][:]
        put(file, "x-coordinate", y)
        put(file, "y-coordinate", x)
    return folder / "data.hdf5"


@case("has 7 times for 5 states", "times = START:STEP", keys="--times 0:0.25", holds=lambda d: d["time"][-1] == 1)
def two_times_more(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "t-coordinate", 0.25 * np.arange(7)))


@case(
    "has 6 times for 5 states",
    "drop_last_time",
    given="--axes trajectory,time,x",
    keys="--axes trajectory,time,x --drop-last-time",
    holds=lambda d: d["time"][-1] == 1,
)
def one_time_more(formats, folder):
    from scipy.io import savemat

    u = np.stack([line(formats), 2 * line(formats)])
    savemat(folder / "a.mat", {"u": u, "t": 0.25 * np.arange(6)})
    return folder / "a.mat"


@case("are the edges of cells", "length.x, origin.x and grid")
def edges(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "x-coordinate", np.linspace(0, 1, 17)))


@case("uneven: steps from 0.25 to 0.5", "accept = uneven-times", keys="--select.time 0:4")
def uneven_times(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "t-coordinate", np.array([0, 0.25, 0.5, 0.75, 1.25])))


@case(
    "do not increase: 0.75, then 0.5",
    "sort = time",
    keys="--sort time",
    holds=lambda d: (d["u"][0, 2] == d["u"][0, 2]).all(),
)
def times_in_disorder(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "t-coordinate", np.array([0, 0.25, 0.75, 0.5, 1.0])))


@case("do not increase: 0.5, then 0.5", "`select` without", keys="--select.time 0,1,2,4")
def time_twice(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "t-coordinate", np.array([0, 0.25, 0.5, 0.5, 0.75])))


@case("times", "are not finite", "times = START:STEP", keys="--times 0:0.25")
def time_missing(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "t-coordinate", np.array([0, 0.25, np.nan, 0.75, 1.0])))


@case(
    "coordinates of x", "descend", "sort = x", keys="--sort x", holds=lambda d: d["u"][0, 0, 0] == d["u"][0, 0].sel(x=0)
)
def descending(formats, folder):
    u = line(formats)
    return named(folder, u[:, ::-1], ("time", "x"), x=formats.points(16)[::-1], time=formats.TIMES)


def starts_at_minus_180(data: xr.Dataset) -> bool:
    return data["x"].values[0] == -180 and bool((np.diff(data["x"]) > 0).all()) and data["x"].attrs["length"] == 360


@case("jump back by a period", "wrap.x = -180", keys="--wrap.x=-180", holds=starts_at_minus_180)
def longitudes(formats, folder):
    x = (np.arange(16) * 22.5 + 180) % 360 - 180
    return named(folder, line(formats), ("time", "lon"), {"lon": {"units": "degrees_east"}}, lon=x, time=formats.TIMES)


@case("coordinates of x", "are uneven", "accept = uneven-axis", keys="--accept uneven-axis")
def uneven_axis(formats, folder):
    return named(folder, line(formats), ("time", "x"), x=formats.points(16) ** 2, time=formats.TIMES)


@case(
    "look like centres of cells, and are said to be points", "grid = cells", given="--grid points", keys="--grid cells"
)
def centres_taken_for_points(formats, folder):
    return named(folder, line(formats), ("time", "x"), x=formats.centres(16), time=formats.TIMES)


@case("same values at both ends of x", "drop_last_point = x", keys="--drop-last-point x",
      holds=lambda d: d["u"].shape == (1, 5, 16) and d["x"].attrs["periodic"] == "yes")  # fmt: skip
def repeated_end_point(formats, folder):
    x = np.linspace(0, 2 * np.pi, 17)
    return named(folder, formats.wave(x), ("time", "x"), x=x, time=formats.TIMES)


@case("is periodic of length 1 and has both ends", "drop_last_point = x", given="--length.x 1 --periodic x",
      keys="--length.x 1 --periodic x --drop-last-point x", holds=lambda d: d["x"].attrs["length"] == 1)  # fmt: skip
def both_ends(formats, folder):
    x = np.linspace(0, 1, 17)
    return named(folder, formats.wave(5 * x), ("time", "x"), x=x, time=formats.TIMES)


@case("u of ", "1 missing values, the first in trajectory 1 at time index 2", "drop_trajectories = 1",
      keys="--drop-trajectories 1", holds=lambda d: d["u"].shape[0] == 2)  # fmt: skip
def missing_value(formats, folder):
    def change(file):
        file["tensor"][1, 2, 3] = np.nan

    return tensor(formats, folder, change)


@case("contains -9999", "fill_value = -9999", keys="--fill-value=-9999 --accept missing-values",
      holds=lambda d: np.isnan(d["u"][0, 0, :4]).all())  # fmt: skip
def fill_value(formats, folder):
    def change(file):
        file["tensor"][0, 0, :4] = -9999

    return tensor(formats, folder, change)


@case("trajectories 1 of ", "zero everywhere", "drop_trajectories = 1", keys="--drop-trajectories 1")
def zero_filled(formats, folder):
    def change(file):
        file["tensor"][1] = 0

    return tensor(formats, folder, change)


@case("trajectories 2 of ", "zero at later times", "drop_trajectories = 2", keys="--accept zero-filled")
def zero_filled_end(formats, folder):
    def change(file):
        file["tensor"][2, 3:] = 0

    return tensor(formats, folder, change)


@case("trajectories 2 of ", "repeat earlier ones", "drop_trajectories = 2", keys="--drop-trajectories 2")
def duplicate(formats, folder):
    def change(file):
        file["tensor"][2] = file["tensor"][0]

    return tensor(formats, folder, change)


@case("states 2 of trajectory 1", "repeat the state before them", "accept = duplicates", keys="--accept duplicates")
def state_twice(formats, folder):
    def change(file):
        file["tensor"][1, 2] = file["tensor"][1, 1]

    return tensor(formats, folder, change)


@case("varies by", "rounded off", "accept = low-precision", keys="--accept low-precision")
def hardly_varying(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "tensor", 3e5 + 0.1 * file["tensor"][:]))


@case("half precision", "accept = low-precision", keys="--accept low-precision")
def half_precision(formats, folder):
    return tensor(formats, folder, lambda file: put(file, "tensor", file["tensor"][:].astype("f2")))


@case("different units: km, m", "one unit")
def two_units(formats, folder):
    x, y = formats.points(8), formats.points(6)
    u = formats.wave(y, x)
    units = {"x": {"units": "km"}, "y": {"units": "m"}}
    return named(folder, u, ("time", "y", "x"), units, x=x, y=y, time=formats.TIMES)


@case("units.x", "states 'km', not 'm'", "convert the data", given="--units.x m", keys="--units.x km")
def other_units(formats, folder):
    x = formats.points(16)
    return named(folder, line(formats), ("time", "x"), {"x": {"units": "km"}}, x=x, time=formats.TIMES)


@case("the mean of u", "changes in time by", "leave u out of `conserved`", given="--conserved u")
def not_conserved(formats, folder):
    x = formats.points(16)
    return named(folder, line(formats) + formats.TIMES[:, None], ("time", "x"), x=x, time=formats.TIMES)


@case("parameters.Nu", "states 0.01, not 0.02", "leave it out", given="--parameters.Nu 0.02")
def other_parameter(formats, folder):
    formats.pdebench_tensor(folder / "a_Nu0.01.hdf5")
    return folder / "a_Nu0.01.hdf5"


@case(
    "map: ",
    "has no 'w'",
    "one of u",
    given="--map.vorticity w",
    keys="--map.vorticity u",
    holds=lambda d: "vorticity" in d,
)
def wrong_map(formats, folder):
    return tensor(formats, folder, lambda file: None)


@case(
    "pattern: 'nu{nu}.h5' does not fit",
    given="--pattern nu{nu}.h5",
    keys="--pattern data_nu{nu}.hdf5",
    holds=lambda d: d["nu"] == 0.5,
)
def wrong_pattern(formats, folder):
    formats.pdebench_tensor(folder / "data_nu0.5.hdf5")
    return folder / "data_nu0.5.hdf5"


@case("select.time: expected START:STOP:STEP", given="--select.time 0..4")
def wrong_selection(formats, folder):
    return tensor(formats, folder, lambda file: None)


def test_there_are_forty():
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_refused_with_its_remedy_and_nothing_is_written(formats, tmp_path, capsys, name):
    """Exit code 2, one message without a traceback; with the keys of the remedy the data are as expected."""
    it = CASES[name]
    (tmp_path / "in").mkdir()
    path = it.make(formats, tmp_path / "in")
    for extra in ([], ["--out", str(tmp_path / "out.zarr")]):
        assert execute(["ingest", str(path), *shlex.split(it.given), *extra]) == 2
        message = capsys.readouterr().err
        assert message.startswith("subgrid: ") and "Traceback" not in message
        place = 0
        for part in it.message:
            assert part in message[place:], message
            place = message.index(part, place)
        assert [p.name for p in tmp_path.iterdir()] == ["in"]
    if it.keys:
        out = tmp_path / "out.zarr"
        assert execute(["ingest", str(path), *shlex.split(it.keys), "--out", str(out)]) == 0, capsys.readouterr().err
        assert it.holds(open_data(out))


def test_half_precision_is_checked_without_a_warning(formats, tmp_path):
    """The usual fill values do not fit into it."""
    path = CASES["half_precision"].make(formats, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_data(path, accept="low-precision", fill_value=-99999.0)
