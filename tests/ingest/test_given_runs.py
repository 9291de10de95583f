"""A sweep whose training runs are data of files, with parameters of attributes, of a table, or of names of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tomli_w

from subgrid.commands.cli import execute
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check, read

AMPLITUDES = (0.8, 0.9, 1.0)


@pytest.fixture
def own(pulse, tmp_path):
    """The case of a sweep of our own, three amplitudes, and its runs exported to sets/sweep.zarr."""
    sweep = {"parameters": {"initial.amplitude": [0.8, 1.0]}, "counts": [3]}
    data = {k: v for k, v in pulse.items() if k not in ("reference", "training", "closure")} | {"sweep": sweep}
    (tmp_path / "own.toml").write_text(tomli_w.dumps(data))
    assert execute(["data", str(tmp_path / "own.toml"), "--format", "zarr", "--out", str(tmp_path / "sets")]) == 0
    return data


def given(own, folder: Path, **keys):
    sweep = {"parameters": own["sweep"]["parameters"]} | keys
    return with_step(check(own | {"sweep": sweep}, "case", folder))


def states(own, folder: Path):
    case = with_step(check(own, "case", folder))
    return runs(case, case.sweep.points()).states()


def test_parameters_of_the_data_are_the_points_of_the_sweep(own, tmp_path):
    case = given(own, tmp_path, files="sets/sweep.zarr")
    np.testing.assert_allclose(case.sweep.points()[:, 0], AMPLITUDES)
    found = runs(case, case.sweep.points())
    np.testing.assert_array_equal(found.states(), states(own, tmp_path))
    assert not {file.name for file in found.files} & {
        f.name for f in runs(with_step(check(own, "c", tmp_path)), case.sweep.points()).files
    }
    (tmp_path / "stored.toml").write_text(tomli_w.dumps(case.resolved()))
    again = with_step(read(tmp_path / "stored.toml"))
    assert runs(again, again.sweep.points()).files == found.files


def arrays(own, tmp_path: Path) -> Path:
    """One .npy file for each run, (sample, time, channel, x), named by the amplitude."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for value, state in zip(AMPLITUDES, states(own, tmp_path), strict=True):
        np.save(folder / f"run_A{value}.npy", state[None])
    return folder


KEYS = {"map": {"velocity": "channel_0"}, "length": {"x": 1.0}, "times": "0:0.02"}


def test_parameters_of_names_of_files_and_of_a_table(own, tmp_path):
    import subgrid

    folder = arrays(own, tmp_path)
    name = next(iter(subgrid.open_data(folder / "run_A0.8.npy").data_vars))
    keys = KEYS | {"map": {"velocity": name}}
    named = given(own, tmp_path, files="runs", data=keys | {"pattern": "run_A{amplitude}.npy"})
    np.testing.assert_allclose(named.sweep.points()[:, 0], AMPLITUDES)
    np.testing.assert_array_equal(runs(named, named.sweep.points()).states(), states(own, tmp_path))
    (tmp_path / "parameters.csv").write_text("amplitude\n1.0\n0.9\n0.8\n")
    table = given(own, tmp_path, files="runs", data=keys, table="parameters.csv")
    np.testing.assert_allclose(table.sweep.points()[:, 0], AMPLITUDES[::-1])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"files": "nowhere"}, "sweep.files: there is no"),
        ({"counts": [3], "files": "sets/sweep.zarr"}, "sweep.counts: is not used with sweep.files"),
        ({"exact": True, "files": "sets/sweep.zarr"}, "sweep.exact: is not used with sweep.files.*Remedy: remove it"),
        ({"reciprocal": ["initial.amplitude"], "files": "sets/sweep.zarr"}, "sweep.reciprocal: is not used with"),
        ({"counts": [3], "table": "own.toml"}, "sweep.table: describes sweep.files, which is missing"),
        ({"files": "sets/sweep.zarr", "table": "own.toml"}, "sweep.table: .* "),
        (
            {"files": "sets/sweep.zarr", "parameters": {"initial.amplitude": [0.85, 1.0]}},
            "trajectory 0 .* 0.8, ",
        ),
        ({"files": "sets/sweep.zarr", "parameters": {"initial.width": [0.1, 0.2]}}, "sweep.table: .* states no"),
        ({"files": "sets/sweep.zarr", "data": {"select": {"trajectory": "0:1"}}}, "sweep.files: .* holds 1 traj"),
        ({"files": "sets/sweep.zarr", "every": 0.01}, "sweep.data.times: the sweep has a state at t = 0.01"),
    ],
)
def test_data_that_are_no_sweep_are_refused_with_the_key(own, tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        case = given(own, tmp_path, **keys)
        runs(case, case.sweep.points())
