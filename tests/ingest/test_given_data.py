"""A case whose reference and training set are data of files: equal to its own, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from subgrid import compare, open_data, run
from subgrid.commands.cli import execute
from subgrid.commands.tune import tune
from subgrid.ingest.missing_term import MissingTerm
from subgrid.ingest.prepare import prepare, with_step
from subgrid.ingest.requests import reference_request, training_request
from subgrid.ingest.restriction import Restrict
from subgrid.ingest.training_set import dataset
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.reading import CaseError, check

BURGERS = {
    "title": "a pulse",
    "equation": {"name": "burgers", "viscosity": 0.05},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.2, "step": 0.001, "stepper": "rk4"},
    "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 7.0},
    "ensemble": {"members": 2},
    "output": {"every": 0.02},
}
TRAINING = {"trajectories": 3, "validation": 1, "start": 0.0, "end": 0.2, "every": 0.02}


@pytest.fixture
def fine(tmp_path):
    """A run of the same equation on 64 points, three members, as a folder of a run."""
    data = BURGERS | {"grid": {"shape": [64], "length": [1.0]}, "ensemble": {"members": 3}}
    run(check(data, "fine", tmp_path), out=tmp_path / "fine", progress=False)
    return tmp_path / "fine"


def on(folder: Path, *, reference=None, training=None, **tables):
    """The case with data in the place of its reference and training set."""
    data = BURGERS | tables
    if reference is not None:
        data = data | {"reference": {"trajectories": 2} | reference}
    if training is not None:
        data = data | {"training": TRAINING | training}
    return check(data, "case", folder)


def test_our_own_reference_as_a_file_gives_the_scores_of_the_case(tmp_path):
    table = {"closures": ["smagorinsky"], "frontier": False}
    own = on(tmp_path, reference={"shape": [64]}, compare=table)
    (tmp_path / "case.toml").write_text(toml(own))
    assert execute(["data", str(tmp_path / "case.toml"), "--format", "zarr", "--out", str(tmp_path / "sets")]) == 0
    ours = compare(own, progress=False)
    theirs = compare(
        on(tmp_path, reference={"file": "sets/test.zarr"}, compare=table), out=tmp_path / "out", progress=False
    )
    for mine, other in zip(ours.metrics.rows, theirs.metrics.rows, strict=True):
        np.testing.assert_allclose(other.relative_l2, mine.relative_l2, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(other.crps, mine.crps, rtol=1e-9, atol=1e-13)
    inputs = json.loads((tmp_path / "out/inputs.json").read_text())
    assert len(inputs["case"]["reference"]["file"]["sha256"]["test.zarr"]) == 64


def toml(case) -> str:
    import tomli_w

    return tomli_w.dumps(case.resolved())


def test_the_missing_term_of_data_is_that_of_our_equation_on_their_grid(fine, caplog):
    case = with_step(on(fine.parent, training={"file": "fine"}))
    found = generate(case, training_request(case))
    data, equation, grid = open_data(fine), case.build_equation(), case.grid.grid()
    state = data["velocity"].values[:, :, None]  # (member, time, field, x)
    restrict = Restrict(equation, grid.refined((64,)), grid, "filter")
    for i in range(10):
        term = MissingTerm(equation, restrict, 3)(state[:, i].astype(np.float64))
        np.testing.assert_allclose(found.term[:, i], term, rtol=1e-6, atol=1e-6 * np.abs(term).max())
    assert "fulfils burgers to" in caplog.text


def test_without_parameters_the_term_is_the_difference_of_consecutive_samples(fine, caplog):
    from subgrid.solver.backend import NUMPY
    from subgrid.solver.simulation.build import build_simulation

    case = with_step(on(fine.parent, training={"file": "fine", "term": "differences"}))
    found = generate(case, training_request(case))
    assert "learned correction" in caplog.text
    grid = case.grid.grid()
    state = np.array(found.state)
    model = build_simulation(case, case.build_equation(), grid, state[:, 3], members=(0, 1, 2), backend=NUMPY)
    model.run(20)
    np.testing.assert_allclose(found.term[:, 3], (state[:, 4] - model.state) / 0.02, rtol=1e-4, atol=1e-5)


def test_a_training_set_of_a_file_trains_without_a_reference(fine):
    pairs = dataset(on(fine.parent, training={"file": "fine"}), lambda done, total, what: None)
    assert pairs.train[0].shape == (20, 1, 16) and pairs.validation[1].shape == (10, 1, 16)


def test_a_case_starts_from_the_states_of_the_data(fine):
    case = on(fine.parent, reference={"file": "fine", "restrict": "subsample"}, initial={"kind": "reference"})
    start = prepare(case, case.folder, with_reference=False).state
    np.testing.assert_allclose(start[:, 0], open_data(fine)["velocity"].values[:2, 0, ::4], atol=1e-15)


def test_another_content_of_the_file_is_another_reference(fine, tmp_path):
    np.save(tmp_path / "u.npy", open_data(fine)["velocity"].values[:, :, None])
    table = {"file": "u.npy", "length": {"x": 1.0}, "times": "0:0.02", "map": {"velocity": "channel_0"}}
    first = open_data(tmp_path / "u.npy")
    table["map"] = {"velocity": next(iter(first.data_vars))}
    case = with_step(on(tmp_path, reference=table))
    before = reference_request(case).directory()
    np.save(tmp_path / "u.npy", 2 * open_data(fine)["velocity"].values[:, :, None])
    assert reference_request(case).directory() != before


def test_trajectories_of_exponax_are_a_reference(tmp_path, caplog, exponax):
    code = """
start = np.sin(2 * np.pi * np.arange(64) / 64)[None]
stepper = exponax.stepper.Burgers(1, 1.0, 64, 0.02, diffusivity=0.05)
states = exponax.rollout(stepper, 10, include_init=True)(jax.numpy.asarray(start))
"""
    exponax(code, tmp_path / "u.npy")
    name = next(iter(open_data(tmp_path / "u.npy").data_vars))
    table = {"file": "u.npy", "map": {"velocity": name}, "length": {"x": 1.0}, "times": "0:0.02", "trajectories": 1}
    case = on(
        tmp_path,
        reference=table | {"parameters": {"viscosity": 0.05}},
        grid={"shape": [32], "length": [1.0]},
        compare={"closures": ["smagorinsky"]},
        ensemble={"members": 1},
    )
    result = compare(case, progress=False)
    none = result.metrics.rows[0]
    assert max(none.relative_l2) < 1e-3  # of single precision and of exponax's step of 0.02
    assert all(max(row.shape) <= 32 for row in result.metrics.frontier)
    assert "fulfils burgers to" in caplog.text


@pytest.mark.parametrize(
    ("reference", "tables", "message"),
    [
        ({"file": "nowhere"}, {}, "reference.file: there is no"),
        ({"file": "fine", "seed": 3}, {}, "reference.seed: is not used with reference.file"),
        ({"shape": [64], "times": "0:1"}, {}, "reference.times: describes reference.file, which is missing"),
        ({"file": "fine", "trajectories": 4}, {"ensemble": {"members": 4}}, "reference.trajectories: 4 are asked for"),
        ({"file": "fine", "map": {"u": "velocity"}}, {}, "reference.map: .* has no field velocity"),
        ({"file": "fine", "shape": [32]}, {}, r"reference.shape: .* has \[64\], found \[32\]"),
        ({"file": "fine"}, {"grid": {"shape": [16], "length": [2.0]}}, "reference.file: x has 64 values"),
        ({"file": "fine"}, {"grid": {"shape": [128], "length": [1.0]}}, "reference.file: must be at least as fine"),
        ({"file": "fine"}, {"equation": {"name": "burgers", "viscosity": 0.06}}, "equation.viscosity: is 0.06 in the"),
        ({"file": "fine"}, {"output": {"every": 0.005}}, "reference.times: the case has an output at t = 0.005"),
        ({"file": "fine"}, {"time": BURGERS["time"] | {"end": 0.4}}, "reference.times: .* t = 0.22"),
        ({"file": "fine", "units": {"velocity": "kg"}}, {}, "units.velocity"),
        ({"file": "fine"}, {"training": TRAINING}, "training.file: missing; reference.file provides no training"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_the_key(fine, reference, tables, message):
    with pytest.raises(ValueError, match=message) as refused:
        case = on(fine.parent, reference=reference, **tables)
        prepare(case, case.folder, with_reference=True)
    assert "Remedy" in str(refused.value) or isinstance(refused.value, CaseError)


def test_an_oracle_of_data_is_that_of_our_own_reference(fine):
    table = {"closures": [{"name": "oracle", "every": 20}], "frontier": False}
    ours, theirs = (
        compare(on(fine.parent, reference=reference, compare=table), progress=False).metrics.rows
        for reference in ({"shape": [64]}, {"file": "fine"})
    )
    assert theirs[1].closure_calls == 10
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(other.relative_l2, mine.relative_l2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("unit", "fits"), [("m/s", True), ("m s-1", True), ("km/h", False), ("m", False), ("", True)])
def test_units_are_made_of_lengths_and_times(fine, tmp_path, unit, fits):
    np.save(tmp_path / "u.npy", open_data(fine)["velocity"].values[:, :, None])
    name = next(iter(open_data(tmp_path / "u.npy").data_vars))
    table = {"file": "u.npy", "length": {"x": 1.0}, "times": "0:0.02", "map": {"velocity": name}}
    table |= {"units": {"velocity": unit}} if unit else {}
    case = on(tmp_path, reference=table)
    if fits:
        assert prepare(case, case.folder, with_reference=True).trajectories is not None
    else:
        with pytest.raises(ValueError, match=f"reference.units.velocity: .* states '{unit}'"):
            prepare(case, case.folder, with_reference=True)


def test_wrong_data_end_a_comparison_with_2_and_write_nothing(fine, tmp_path, capsys):
    (tmp_path / "case.toml").write_text(toml(on(tmp_path, reference={"file": "fine"}, output={"every": 0.005})))
    assert execute(["compare", str(tmp_path / "case.toml"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert "reference.times" in capsys.readouterr().err


@pytest.mark.parametrize("reference", [{"file": "fine"}, None])
def test_tuning_runs_over_the_validation_trajectories_of_data(fine, reference):
    """With [reference] file beside them, and without a reference."""
    case = on(fine.parent, reference=reference, training={"file": "fine"})
    found = tune(case, "hyperviscosity", ranges=["rate=1:100"], evaluations=3, progress=False)
    assert len(found.tried) == 3 and all(np.isfinite(score) for _, score in found.tried)


@pytest.mark.parametrize("reference", [{"file": "fine"}, {"shape": [64]}])
def test_tuning_without_a_training_set_is_refused_with_the_remedy(fine, reference):
    with pytest.raises(ValueError, match=r"training: missing; .* Remedy: \[training\] with .* a file of data"):
        tune(on(fine.parent, reference=reference), "hyperviscosity", progress=False)
