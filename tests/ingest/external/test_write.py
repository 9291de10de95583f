"""Copies in the schema: the values of the source, in bounded memory, resumable to the same bytes, and checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from subgrid import open_data
from subgrid.commands.cli import execute
from subgrid.ingest.external import write as writing
from subgrid.ingest.external.contents import DataError
from subgrid.ingest.external.open import inspect
from subgrid.ingest.external.options import Options
from subgrid.ingest.external.write import write


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def apebench(formats, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.stack([formats.wave(formats.points(8), shift=s)[:, None] for s in range(2)]))


def molecules(formats, path: Path) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        np.savez(file, R=rng.normal(size=(4, 3, 3)), z=np.array([6, 1, 8]), E=rng.normal(size=(4, 1)))


def netcdf(formats, path: Path) -> None:
    x, y = formats.points(8), formats.points(6)
    coords = {"time": ("time", formats.TIMES, {"units": "s"}), "y": y, "x": ("x", x, {"units": "m"})}
    data = xr.Dataset({"u": (("time", "y", "x"), formats.wave(y, x), {"units": "m/s"})}, coords, {"viscosity": 0.01})
    data.to_netcdf(path, engine="netcdf4")


def n_body(formats, path: Path) -> None:
    path.mkdir()
    formats.n_body(path)


OWN = [apebench, molecules, netcdf, n_body]
NAMED = ["hypar_folder", "pdebench_tensor", "pdebench_flow", "pdebench_groups", "pdebench_incompressible", "the_well"]
NAMED += ["navier_stokes_mat", "pedestrians"]


@pytest.mark.parametrize("make", [*NAMED, *OWN], ids=lambda make: make if isinstance(make, str) else make.__name__)
def test_a_copy_read_back_is_the_source(formats, tmp_path, make):
    """Fields, coordinates with their attributes, and parameters."""
    source = tmp_path / "source"
    if isinstance(make, str):
        getattr(formats, make)(source)
    else:
        make(formats, source)
    assert execute(["ingest", str(source), "--out", str(tmp_path / "a.zarr")]) == 0
    first, second = open_data(source), open_data(tmp_path / "a.zarr")
    assert set(first.variables) == set(second.variables)
    for name, variable in first.variables.items():
        np.testing.assert_array_equal(variable.values, second[name].values)
        assert variable.dims == second[name].dims
        assert variable.attrs == {k: v for k, v in second[name].attrs.items() if k in variable.attrs}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of a store without consolidated metadata
        opened = xr.open_zarr(tmp_path / "a.zarr")
    assert opened[next(iter(first.data_vars))].shape
    provenance = json.loads(second.attrs["provenance"])
    assert provenance["origin"]["files"] and provenance["format"] == first.attrs["format"]


def large(path: Path, states: int = 256, side: int = 512, trajectories: int = 1) -> None:
    """A Zarr store of which only the first chunk is written: the others hold its fill value."""
    group = zarr.create_group(path)
    shape = (trajectories, states, side, side)
    array = group.create_array(
        "u",
        shape=shape,
        chunks=(1, 8, side, side),
        dtype="f4",
        fill_value=1.5,
        dimension_names=("trajectory", "time", "y", "x"),
    )
    array[0, 0] = np.random.default_rng(0).normal(size=(side, side))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_data_larger_than_memory_are_copied_in_bounded_memory(tmp_path):
    """0.8 GB of which some blocks are in memory, with the libraries."""
    large(tmp_path / "sparse.zarr", states=768)
    code = (
        "import re, sys\n"
        "from subgrid.commands.cli import execute\n"
        "rc = execute(['ingest', sys.argv[1], '--out', sys.argv[2], '--accept', 'duplicates'])\n"
        "print('peak', re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "sys.exit(rc)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "sparse.zarr"), str(tmp_path / "out.zarr")]
    done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1]) / 1e6  # GB
    assert peak < 0.7
    assert open_data(tmp_path / "out.zarr")["u"][0, 767, 5, 5] == 1.5


def test_an_interrupted_copy_is_continued_to_the_same_bytes(formats, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.normal(size=(6, 20, 1, 8, 8)))
    monkeypatch.setattr(writing, "SAVE_SECONDS", 0.0)
    options = Options(times="0:0.1")
    small = writing.blocks
    monkeypatch.setattr(writing, "blocks", lambda contents: small(contents, 8 * 8 * 8 * 5))
    write(inspect(tmp_path / "a.npy", options, values=0), tmp_path / "whole.zarr", command="again")
    counted: list[int] = []

    def stop(done: int, total: int, what: str) -> None:
        counted.append(done)
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(inspect(tmp_path / "a.npy", options, values=0), tmp_path / "out.zarr", stop, command="again")
    with pytest.raises(DataError, match=r"is incomplete\. Remedy: again, which continues"):
        open_data(tmp_path / "out.zarr")
    with pytest.raises(DataError, match="unfinished copy of other data, or with other options"):
        write(inspect(tmp_path / "a.npy", Options(times="0:0.2"), values=0), tmp_path / "out.zarr")
    again: list[int] = []
    write(
        inspect(tmp_path / "a.npy", options, values=0),
        tmp_path / "out.zarr",
        lambda done, total, what: again.append(done),
        command="again",
    )
    assert counted == list(range(1, 8)) and again[0] in (7, 8) and len(again) < 30
    assert contents_of(tmp_path / "out.zarr") == contents_of(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "out.zarr", "whole.zarr"]


def test_a_fault_in_the_last_state_leaves_nothing(formats, tmp_path, capsys):
    u = np.random.default_rng(0).normal(size=(2, 40, 1, 16))
    u[1, -1, 0, 3] = np.inf
    np.save(tmp_path / "a.npy", u)
    assert execute(["ingest", str(tmp_path / "a.npy"), "--out", str(tmp_path / "out.zarr")]) == 2
    assert "trajectory 1 at time index 39" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_a_folder_with_something_else_is_refused(formats, tmp_path, capsys):
    formats.pedestrians(tmp_path / "a.txt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert execute(["ingest", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")]) == 2
    assert "exists already. Remedy: choose another --out" in capsys.readouterr().err
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_the_report_names_what_was_found_and_draws_it(formats, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats.pdebench_groups(tmp_path / "rdb.h5")
    assert execute(["ingest", "rdb.h5"]) == 0
    assert Path("rdb.png").read_bytes()[:4] == b"\x89PNG" and "picture: rdb.png" in capsys.readouterr().out
    assert execute(["ingest", str(tmp_path / "rdb.h5"), "--picture", str(tmp_path / "a.png")]) == 0
    text = capsys.readouterr().out
    assert "field depth: trajectory 3 x time 5 x y 8 x x 12, float32" in text
    assert "parameter dam_radius: 0.3, 0.4, 0.5 (3 trajectories)" in text
    assert "does not say if it is periodic along y, x. Key: periodic = y,x, or none" in text
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert execute(["ingest", str(tmp_path / "rdb.h5"), "--json", "--periodic", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["axes"]["x"]["length"] == pytest.approx(5) and found["axes"]["x"]["periodic"] == "no"


def test_fields_are_read_when_they_are_indexed(tmp_path):
    """A dataset of 20 GB opens at once, and a point of it is read alone."""
    large(tmp_path / "sparse.zarr", states=20000)
    data = open_data(tmp_path / "sparse.zarr", accept="duplicates")
    assert data["u"].nbytes > 20e9
    assert float(data["u"][0, 19999, 3, 4]) == 1.5
    part = data["u"].isel(time=slice(None, None, -5000), y=[5, 1], x=2)
    assert part.shape == (1, 4, 2) and bool((part == 1.5).all())
