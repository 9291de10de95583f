"""The reduced-order model: latent dynamics, stages, weights and leaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from subgrid.closures.lasdi.closure import Lasdi
from subgrid.closures.lasdi.model import LatentModel
from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import Training, fit
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.commands import cli
from subgrid.ingest.prepare import prepare
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check
from subgrid.solver.closure import ClosureError

OPTIONS = {
    "modes": 10,
    "latent": 3,
    "widths": [16],
    "degree": 1,
    "steps": 150,
    "stages": 3,
    "stage_fit": "descent",
    "stage_widths": [16, 16],
    "stage_kappa": 10,
    "stage_steps": 120,
    "learning_rate": 0.01,
    "stage_learning_rate": 0.01,
    "checkpoint_every": 50,
    "stride": 2,
}
ORIGIN = {"training_case": "", "training_command": ""}
CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"start": 0.25, "end": 0.45, "step": 0.005, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "ensemble": {"members": 2},
    "output": {"every": 0.01},
    "sweep": {"parameters": {"initial.width": [0.1, 0.12], "initial.amplitude": [0.8, 1.0]}, "counts": [3, 2]},
    "reference": {"shape": [32]},
    "compare": {"frontier": False},
    "train": {"lasdi": OPTIONS},
}


def case(closures=(), folder=Path(), **tables):
    return check(CASE | {"closure": list(closures)} | tables, "pulse.toml", folder)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield runs(case(), case().sweep.points())


@pytest.fixture(scope="module")
def weights(sweep, tmp_path_factory):
    """A file of weights, whose model is trained on six runs."""
    path = tmp_path_factory.mktemp("weights") / "pulse.safetensors"
    Lasdi.train(TrainingJob(OPTIONS, sweep, path, path.parent, Path(), ORIGIN, lambda *_: None))
    return path


def test_every_stage_reduces_the_training_residual(sweep, weights, tmp_path):
    """The mean square over all training snapshots falls with every stage."""
    model = LatentModel.load(weights)
    assert len(model.stages) == 2
    data = Training(sweep, TrainingOptions(**OPTIONS), tmp_path).data
    states = torch.from_numpy(sweep.states()).reshape(6, len(sweep.times), -1)
    z = model.latents(states[:, 0], sweep.parameters, data.step, len(sweep.times))
    left = [float((model.decode(z, k) - states).square().mean()) for k in (1, 2, 3)]
    assert left[2] < left[1] < left[0]
    assert left[1] < 0.5 * left[0]
    scores = model.about["scores"]
    error = (model.decode(z) - states).norm(dim=-1) / states.norm(dim=-1)
    assert float(error.max()) == pytest.approx(scores["stage_3"], rel=1e-3)


def test_a_stage_that_does_not_help_is_left_out(sweep, tmp_path):
    options = TrainingOptions(**OPTIONS | {"stage_learning_rate": 1e-30})
    assert fit(sweep, options, tmp_path).stages == []


def test_saved_weights_are_read_unchanged(weights, tmp_path):
    """Byte for byte, and with them the predictions."""
    model = LatentModel.load(weights)
    model.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()
    again = LatentModel.load(tmp_path / "again.safetensors")
    state, parameters = torch.rand(1, 32), np.array([[0.11, 0.9]])
    assert torch.equal(again.predict(state, parameters, 0.01, 9), model.predict(state, parameters, 0.01, 9))
    assert torch.equal(again.predict_std(state, parameters, 0.01, 9), model.predict_std(state, parameters, 0.01, 9))


class Killed(Exception):
    pass


@pytest.mark.parametrize(("step", "begun"), [(60, 50), (210, 200), (340, 320)])
def test_an_interrupted_training_ends_with_the_same_bytes(step, begun, sweep, weights, tmp_path):

    def kill(done, total, metrics):
        if done == step:
            raise Killed

    arguments = OPTIONS, sweep, tmp_path / "w.safetensors", tmp_path / "work", Path(), ORIGIN
    with pytest.raises(Killed):
        Lasdi.train(TrainingJob(*arguments, kill))
    steps = []
    Lasdi.train(TrainingJob(*arguments, lambda done, total, metrics: steps.append(done)))
    assert steps[0] == begun + 1
    assert (tmp_path / "w.safetensors").read_bytes() == weights.read_bytes()


def test_stages_can_be_added_or_left_out_and_another_training_is_refused(sweep, weights, tmp_path):
    fit(sweep, TrainingOptions(**OPTIONS | {"stages": 2}), tmp_path)
    steps = []
    more = fit(sweep, TrainingOptions(**OPTIONS), tmp_path, lambda done, total, metrics: steps.append(done))
    assert steps[0] == 150 + 120 + 1 and len(more.stages) == 2
    assert more.about["scores"] == LatentModel.load(weights).about["scores"]
    fewer = fit(sweep, TrainingOptions(**OPTIONS | {"stages": 2}), tmp_path, lambda *_: pytest.fail("trained again"))
    assert len(fewer.stages) == 1
    with pytest.raises(ValueError, match=r"options differ.*another directory"):
        fit(sweep, TrainingOptions(**OPTIONS | {"seed": 5}), tmp_path)


def test_too_few_runs_for_the_degree(sweep, tmp_path):
    with pytest.raises(ValueError, match="degree: 3 needs 10 runs or more, the sweep has 6"):
        fit(sweep, TrainingOptions(**OPTIONS | {"degree": 3}), tmp_path)


def simulation(weights, every=2, options=(), **tables):
    table = {"name": "lasdi", "weights": str(weights), "every": every} | dict(options)
    prepared = prepare(case([table], **tables), Path(), with_reference=False)
    return prepared.simulation(prepared.case.closure)


@pytest.mark.parametrize("stages", [None, 1])
def test_the_leap_is_the_prediction(weights, stages):
    """All members, at every output, from one call."""
    run = simulation(weights, options={"stages": stages} if stages else {})
    first, seen = run.state, []
    run.run(40, lambda n: 2 - n % 2, lambda n: seen.append(run.state), output_every=2)
    model = LatentModel.load(weights)
    predicted = model.predict(torch.from_numpy(first[:, 0]), np.array([[0.11, 0.9]] * 2), 0.01, 21, stages)
    assert run.closures[0].calls == 1
    assert np.array_equal(np.stack(seen)[1:, :, 0], predicted[:, 1:].double().numpy().swapaxes(0, 1))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"equation": CASE["equation"] | {"viscosity": 0.03}}, r"equation.viscosity = 0.02, the case has 0.03"),
        (
            {"equation": {"name": "burgers", "viscosity": 0.02}, "time": CASE["time"] | {"stepper": "etdrk2"}},
            "discretisation",
        ),
        (
            {"equation": {"name": "advection", "speed": 1.0}, "time": CASE["time"] | {"stepper": "etdrk2"}},
            "for the equation burgers",
        ),
        (
            {"grid": {"shape": [64], "length": [1.0]}, "reference": {"shape": [64]}},
            r"shape \[32\], the case has \[64\]",
        ),
        ({"grid": CASE["grid"] | {"length": [2.0]}}, r"length \[1.0\], the case has \[2.0\]"),
        ({"grid": CASE["grid"] | {"origin": [-1.0]}}, r"origin \[0.0\], the case has \[-1.0\]"),
        ({"initial": CASE["initial"] | {"centre": 0.6}}, r"initial.centre = 0.4, the case has 0.6"),
        ({"initial": {"kind": "sine"}, "sweep": None}, r"varies initial.width"),
        (
            {"initial": CASE["initial"] | {"width": 0.13}},
            r"width = 0.13 lies outside the training range \[0.1, 0.12\]",
        ),
    ],
)
def test_a_mismatch_of_weights_and_case_is_refused_by_name(weights, tables, message):
    if tables.get("sweep", 1) is None:
        tables = {"initial": tables["initial"], "sweep": {"parameters": {"initial.offset": [0, 1]}, "counts": [2]}}
    if "advection" in str(tables):
        tables["sweep"] = {"parameters": {"initial.offset": [0, 1]}, "counts": [2]}
        tables["initial"] = {"kind": "sine"}
    with pytest.raises(ClosureError, match=message):
        simulation(weights, **tables)


def test_parameters_outside_the_ranges_and_times_beyond_the_span_need_extrapolate(weights):
    longer = {"time": CASE["time"] | {"end": 0.65}}
    with pytest.raises(ClosureError, match=r"trained over a time of 0.2, which is over at t = 0.45"):
        simulation(weights, **longer).run(80)
    run = simulation(weights, options={"extrapolate": True, "reach": 50.0}, **longer)
    run.run(80)
    assert run.time == pytest.approx(0.65) and run.closures[0].calls == 2
    simulation(weights, options={"extrapolate": True}, initial=CASE["initial"] | {"width": 0.121})


def test_unstable_latents_are_an_error_with_the_eigenvalue(weights, tmp_path):
    model = LatentModel.load(weights)
    model.operator[0, 1:] += 40 * torch.eye(3)
    model.save(tmp_path / "wild.safetensors")
    with pytest.raises(ClosureError, match=r"unstable: eigenvalue \(?[34]\d"):
        simulation(tmp_path / "wild.safetensors").run(2)
    with pytest.raises(ClosureError, match="have 3 stages, not 4"):
        simulation(weights, options={"stages": 4})


def test_the_spread_is_that_of_the_gaussian_processes(weights):
    """It vanishes without residual coefficients."""
    model = LatentModel.load(weights)
    state, parameters = torch.from_numpy(np.ones((1, 32), np.float32)), np.array([[0.11, 0.9]])
    found = model.predict_std(state, parameters, 0.01, 21)
    assert found.shape == (1, 21, 32) and float(found[:, 0].max()) < 3e-3 < float(found.max())
    model.spread.residual.zero_()
    model.spread.kernel[:, :2] = -80.0
    assert float(model.predict_std(state, parameters, 0.01, 21).max()) < 3e-3


def test_from_a_case_to_a_comparison(tmp_path, monkeypatch, capsys):
    """Train from the command line, then compare: model, nearest training run and full solver from the same state."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    file, weights = tmp_path / "pulse.toml", tmp_path / "pulse.safetensors"
    file.write_text(tomli_w.dumps(CASE))
    assert cli.execute(["train", str(file), "--closure", "lasdi", "--out", str(weights), "--json"]) == cli.DONE
    rows = [{"name": "lasdi", "every": 2, "weights": str(weights), "label": "all"}]
    file.write_text(tomli_w.dumps(CASE | {"compare": {"frontier": False, "closures": rows}}))
    assert cli.execute(["compare", str(file), "--out", str(tmp_path / "out"), "--json"]) == cli.DONE
    found = {r["name"]: r for r in json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]}
    assert set(found) == {"none", "all", "nearest training run"}
    error = {name: max(row["relative_l2"]) for name, row in found.items()}
    assert error["none"] < 1e-12 < error["all"] < error["nearest training run"]
    assert found["nearest training run"]["note"] == "initial.width = 0.11, initial.amplitude = 0.8"
    assert (tmp_path / "out" / "report.html").is_file()
    capsys.readouterr()
    file.write_text(tomli_w.dumps({k: v for k, v in CASE.items() if k != "sweep"}))
    assert cli.execute(["train", str(file), "--closure", "lasdi"]) == cli.MISTAKE
    assert "training lasdi needs the table [sweep]" in capsys.readouterr().err
    file.write_text(tomli_w.dumps(CASE | {"train": {"lasdi": {"latents": 4}}}))
    assert cli.execute(["train", str(file), "--closure", "lasdi"]) == cli.MISTAKE
    assert "train.lasdi.latents" in capsys.readouterr().err


def test_stages_by_ridge_regression_are_saved_and_read(sweep, tmp_path):
    """With sixteen runs it reduces the error without steps of descent; with six, all at an edge, it is omitted."""
    options = TrainingOptions(**OPTIONS | {"stage_fit": "ridge", "stage_widths": [60], "stage_kappa": 0.7})
    assert fit(sweep, options, tmp_path / "six").stages == []
    table = CASE["sweep"] | {"counts": [4, 4]}
    more = runs(case(sweep=table), case(sweep=table).sweep.points())
    steps = []
    model = fit(more, options, tmp_path / "sixteen", lambda done, total, metrics: steps.append((done, total)))
    assert steps[-1] == (150, 150)
    scores = model.about["scores"]
    assert scores["stage_2"] < scores["stage_1"] and 0 < scores["stage_2_held_out"] < 1
    assert model.stages[0].decoder.kappa == 0.7
    model.about |= {"training_case": "", "training_command": ""}
    model.save(tmp_path / "w.safetensors")
    again, state = LatentModel.load(tmp_path / "w.safetensors"), torch.rand(1, 32)
    at = np.array([[0.11, 0.9]])
    assert torch.equal(again.predict(state, at, 0.01, 9), model.predict(state, at, 0.01, 9))


@pytest.mark.parametrize(("library", "form"), [("quadratic", "strong"), ("affine", "weak"), ("quadratic", "weak")])
def test_other_dynamics_are_trained_saved_and_read(library, form, sweep, tmp_path):
    """Spread, stability and predictions of the other libraries and forms."""
    options = TrainingOptions(**OPTIONS | {"library": library, "form": form, "stages": 1, "latent": 2})
    model = fit(sweep, options, tmp_path)
    assert model.operator.shape == (3, 6 if library == "quadratic" else 3, 2)
    assert model.about["scores"]["stage_1"] < 0.3
    model.about |= {"training_case": "", "training_command": ""}
    model.save(tmp_path / "w.safetensors")
    again, at = LatentModel.load(tmp_path / "w.safetensors"), np.array([[0.11, 0.9]])
    start = torch.from_numpy(sweep.state(0)[:1].reshape(1, -1))
    assert torch.equal(again.predict(start, at, 0.01, 21), model.predict(start, at, 0.01, 21))
    assert torch.isfinite(again.predict_std(start, at, 0.01, 21)).all()
