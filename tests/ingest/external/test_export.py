"""Exports of a case's data: the states of the cache, split by trajectory, read back in every format."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from subgrid import open_data, read_case
from subgrid.commands.cli import execute
from subgrid.ingest.requests import reference_request, training_request
from subgrid.ingest.trajectories import Trajectories
from subgrid.solver.case.reading import read

FILES = {
    "zarr": "{}.zarr",
    "npz": "{}.npz",
    "pdebench": "{}.hdf5",
    "the-well": "data/{}/shallow_water_on_a_coarse_grid.hdf5",
}
SHORT = [
    "grid.shape=[12, 8]",
    "reference.shape=[24, 16]",
    "time.end=0.4",
    "output.every=0.2",
    "training.trajectories=3",
    "training.validation=1",
    "reference.trajectories=2",
    "ensemble.members=2",
    "training.start=0",
    "training.end=0.4",
]


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A cache that the formats share, so that the data are computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cached, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(cached))


def waves(tmp_path: Path) -> Path:
    """Two fields in one dimension are not at hand; shallow water has three in two, 12 along y and 8 along x."""
    file = tmp_path / "waves.toml"
    file.write_text((Path(__file__).parents[3] / "cases/shallow-water-coarse.toml").read_text())
    return file


def arguments(case: Path, form: str, out: Path) -> list[str]:
    return ["data", str(case), "--format", form, "--out", str(out), *(a for s in SHORT for a in ("--set", s))]


@pytest.mark.parametrize("form", FILES)
def test_an_export_read_back_is_the_training_set(tmp_path, form):
    """Fields, terms, axes in the order of the schema, the split by trajectory, parameters."""
    assert execute(arguments(waves(tmp_path), form, tmp_path / "out")) == 0
    case = read(waves(tmp_path), SHORT)
    stored = Trajectories(training_request(case).directory())
    state, term = np.array(stored.state), np.array(stored.term)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if form in ("the-well", "pdebench") else {"rtol": 0}
    about = json.loads((tmp_path / "out/provenance.json").read_text())
    split = 3 - case.training.validation
    assert about["sets"] == {"train": split, "valid": 3 - split, "test": case.reference.trajectories}
    for name, part in (("train", slice(0, split)), ("valid", slice(split, None))):
        data = open_data(tmp_path / "out" / FILES[form].format(name), accept="missing-values,zero-filled,duplicates")
        for i, field in enumerate(case.build_equation().fields):
            np.testing.assert_allclose(data[field.name], state[part, :, i], **tolerance)
            np.testing.assert_allclose(data[f"missing_{field.name}"], term[part, :, i], **tolerance)
        assert data["depth"].dims == ("trajectory", "time", "y", "x")
        np.testing.assert_allclose(data["time"], stored.times(), rtol=1e-6)
        for axis, values in case.build_equation().coordinates(case.grid.grid()).items():
            np.testing.assert_allclose(data[axis], values, rtol=1e-6)
            periodic = dict(zip("yx", case.build_equation().periodic_axes(case.grid.grid()), strict=True))[axis]
            assert data[axis].attrs["periodic"] == ("yes" if periodic else "no")
        assert float(data["gravity"]) == pytest.approx(case.build_equation().gravity)
    test = open_data(tmp_path / "out" / FILES[form].format("test"), accept="zero-filled,duplicates,uneven-times")
    reference = Trajectories(reference_request(case).directory())
    np.testing.assert_allclose(test["depth"], reference.state[:, :, 0], **tolerance)
    depth = state[:split, :, 0]
    assert about["normalisation"]["depth"]["mean"] == pytest.approx(depth.mean())
    assert about["normalisation"]["depth"]["std"] == pytest.approx(depth.std())
    assert about["normalisation"]["depth"]["std_delta"] == pytest.approx(np.diff(depth, axis=1).std())


def test_a_second_export_to_a_folder_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert execute(arguments(waves(tmp_path), "npz", tmp_path / "out")) == 2
    assert "exists already. Remedy: choose another --out" in capsys.readouterr().err


def test_the_zarr_export_is_plain_xarray(tmp_path):
    assert execute(arguments(waves(tmp_path), "zarr", tmp_path / "out")) == 0
    data = xr.open_zarr(tmp_path / "out/train.zarr", consolidated=False)
    assert data["depth"].attrs["units"] and data["depth"].attrs["std"] > 0
    origin = json.loads(data.attrs["provenance"])["origin"]
    assert origin["set"] == "train" and origin["case"]["equation"]["name"] == "shallow-water"


def test_the_well_opens_its_export(tmp_path):
    """By its own dataset class, with its own normalisation."""
    wells = pytest.importorskip("the_well.data.datasets")
    from the_well.data.normalization import ZScoreNormalization

    assert execute(arguments(waves(tmp_path), "the-well", tmp_path / "out")) == 0
    data = wells.WellDataset(
        path=str(tmp_path / "out"), well_split_name="train", use_normalization=False, n_steps_input=1, n_steps_output=1
    )
    item = data[0]
    mine = open_data(tmp_path / "out" / FILES["the-well"].format("train"))
    assert data.metadata.field_names[0] == list(mine.data_vars)
    first = item["input_fields"][0].numpy()  # (x, y, field)
    np.testing.assert_array_equal(first[..., 0], mine["depth"][0, 0].values.T)
    scaled = wells.WellDataset(
        path=str(tmp_path / "out"), well_split_name="train", use_normalization=True,
        normalization_type=ZScoreNormalization, n_steps_input=1, n_steps_output=1,
    )  # fmt: skip
    everything = np.stack([scaled[i]["input_fields"][0].numpy()[..., 0] for i in range(len(scaled))])
    assert abs(everything.mean()) < 0.5 and 0.5 < everything.std() < 1.5


def test_a_sweep_is_exported_with_its_parameters(tmp_path):
    """One field: PDEBench's groups, since the parameter differs between samples."""
    case = {
        "title": "pulses",
        "equation": {"name": "burgers", "viscosity": 0.05},
        "grid": {"shape": [16], "length": [1.0]},
        "time": {"end": 0.2, "step": 0.001, "stepper": "rk4"},
        "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
        "output": {"every": 0.02},
        "sweep": {"parameters": {"equation.viscosity": [0.05, 0.1]}, "counts": [3]},
    }
    import tomli_w

    (tmp_path / "pulses.toml").write_text(tomli_w.dumps(case))
    for form in ("zarr", "pdebench", "the-well"):
        out = tmp_path / form
        assert execute(["data", str(tmp_path / "pulses.toml"), "--format", form, "--out", str(out)]) == 0
        file = FILES[form].format("sweep").replace("shallow_water_on_a_coarse_grid", "pulses")
        data = open_data(out / file)
        np.testing.assert_allclose(data["equation.viscosity"], [0.05, 0.075, 0.1], rtol=1e-6)
        assert len(data.data_vars) == 1 and data.sizes["trajectory"] == 3
        assert read_case(str(tmp_path / "pulses.toml")).build_equation().fields[0].name in data


def test_one_field_is_exported_to_the_layout_of_one_tensor(tmp_path):
    from subgrid.ingest.external.export_formats import WRITERS
    from subgrid.ingest.external.open import inspect
    from subgrid.ingest.external.options import Options

    u = np.random.default_rng(0).normal(size=(3, 5, 1, 8, 6))
    np.save(tmp_path / "a.npy", u)
    options = Options(times="0:0.5", length={"x": 1.0, "y": 1.0}, map={"vorticity": "u"}, parameters={"nu": 0.01})
    WRITERS["pdebench"](tmp_path, "train", inspect(tmp_path / "a.npy", options).contents, {})
    with h5py.File(tmp_path / "train.hdf5") as file:
        np.testing.assert_allclose(file["tensor"], u[:, :, 0], rtol=1e-6)  # (sample, time, x, y)
        np.testing.assert_allclose(file["x-coordinate"], np.arange(8) / 8)
    data = open_data(tmp_path / "train.hdf5")
    assert data["vorticity"].dims == ("trajectory", "time", "y", "x") and float(data["nu"]) == 0.01
    assert data["x"].attrs["grid"] == "points" and data["x"].attrs["length"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("case", "form", "message"),
    [
        ("charged-particles", "the-well", "fields on grids, not particles. Remedy: --format zarr or npz"),
        ("two-stream-hypar", "pdebench", "has the axes x, y and z, this case has v, x"),
        ("rom-oscillator", "csv", "csv"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, capsys, monkeypatch, case, form, message):
    monkeypatch.chdir(tmp_path)
    assert execute(["data", case, "--format", form]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
