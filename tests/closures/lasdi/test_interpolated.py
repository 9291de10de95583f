"""Latent dynamics that depend on time: the interpolation of runs, their files, and their leaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subgrid.closures.lasdi.closure import Lasdi
from subgrid.closures.lasdi.interpolated import InterpolatedModel, correlation, inverse, load
from subgrid.closures.lasdi.interpolation import left_out, likeliest
from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.packed import packed, unpacked
from subgrid.closures.lasdi.training import fit
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.ingest.prepare import prepare
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check
from subgrid.solver.closure import ClosureError

OPTIONS: dict[str, Any] = {"library": "time", "modes": 20, "energy": 1e-12, "exact_modes": 8, "windows": 4}
OPTIONS |= {"window_modes": 8, "time_energy": 1e-12}
ORIGIN = {"training_case": "", "training_command": ""}
CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"start": 0.25, "end": 0.45, "step": 0.005, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.01},
    "sweep": {"parameters": {"initial.width": [0.1, 0.12], "initial.amplitude": [0.8, 1.0]}, "counts": [4, 4]},
}


def case(**tables):
    return check(CASE | tables, "pulse.toml", Path())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield runs(case(), case().sweep.points())


@pytest.fixture(scope="module")
def model(sweep, tmp_path_factory):
    return fit(sweep, TrainingOptions(**OPTIONS), tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def unseen(sweep):
    return runs(case(), np.array([[0.107, 0.87], [0.115, 0.95]]))


def flat(sweep, i):
    return torch.from_numpy(sweep.state(i)).reshape(len(sweep.times), -1)


def errors(found, true):
    return ((found - true).norm(dim=-1) / true.norm(dim=-1)).max()


def test_runs_between_those_of_training_are_predicted(model, unseen, sweep):
    """To 3e-4, a thirtieth of the distance to the nearest training run."""
    true = torch.stack([flat(unseen, i) for i in range(2)])
    found = model.predict(true[:, 0], unseen.parameters, 0.01, 21)
    assert errors(found, true) < 3e-4
    nearest = torch.stack([flat(sweep, case().sweep.nearest(p)) for p in unseen.parameters])
    assert errors(nearest, true) > 0.01
    one = model.predict(true[1:, 0], unseen.parameters[1:], 0.01, 21)
    assert torch.allclose(one, found[1:], atol=1e-6)


def test_windows_decode_as_the_basis_does(model, unseen):
    z = model.latents(flat(unseen, 0)[:1], unseen.parameters[:1], 0.01, 21)
    whole = model.basis.states(model.decoded(z))
    assert len(model.windows) == 4 and errors(model.decode(z), whole) < 3e-4
    buffer = torch.empty(21, 32)
    assert torch.equal(model.decode(z, out=buffer), model.decode(z)) and torch.equal(buffer[None], model.decode(z))


def test_times_between_those_of_training_and_rates(model, unseen):
    """Cubic interpolation in time; the rate of change is its derivative."""
    start, parameters = flat(unseen, 0)[:1], unseen.parameters[:1]
    often = model.latents(start, parameters, 0.0025, 81)
    assert errors(model.decode(often)[:, ::4], model.predict(start, parameters, 0.01, 21)) < 1e-5
    states, rate = model.with_rate(often[:, 42], parameters)
    ahead, behind = (model.basis.states(model.decoded(often[:, i])) for i in (43, 41))
    assert errors(rate, (ahead - behind) / 0.005) < 2e-3
    assert torch.allclose(states, model.basis.states(model.decoded(often[:, 42])))


def test_a_leap_goes_on_from_the_state_that_it_starts_at(model, unseen):
    """c(t) = E(u(t_0)) + q(t) - q(t_0): a part added to the state stays."""
    run = flat(unseen, 0)
    part = 0.01 * model.basis.modes[:, 0]
    z = model.latents(run[7:8] + part, unseen.parameters[:1], 0.01, 14, start=0.07)
    assert z[0, :, -1] == pytest.approx(0.07 + 0.01 * np.arange(14), abs=1e-6)
    assert errors(model.basis.states(model.decoded(z))[0] - part, run[7:]) < 3e-4


def test_the_file_is_small_and_nearly_exact(model, unseen, tmp_path):
    """Eight bits for the modes of small energy."""
    model.about |= ORIGIN
    model.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert isinstance(again, InterpolatedModel)
    start = flat(unseen, 0)[:1]
    found = [m.predict(start, unseen.parameters[:1], 0.01, 21) for m in (model, again)]
    assert errors(*found) < 1e-3
    overlap = again.basis.modes.T @ again.basis.modes
    assert torch.allclose(overlap, torch.eye(len(overlap)), atol=1e-5)
    again.save(tmp_path / "b.safetensors")
    rows = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    off = np.abs(unpacked("x", packed("x", rows, 2)) - rows).max(1) / np.abs(rows).max(1)
    assert off[:2].max() < 5e-4 < off[2:].max() <= 0.5 / 127 + 1e-6


def test_lengths_maximise_the_likelihood_and_left_out_errors_are_those_of_a_fit_without_the_run():
    generator = torch.Generator().manual_seed(0)
    known = 2 * torch.rand((12, 2), generator=generator, dtype=torch.float64) - 1
    values = torch.stack([(k * known[:, 0] + known[:, 1]).sin() for k in (1.0, 1.5, 2.0)], 1)
    values -= values.mean(0)
    for kernel in ("gaussian", "matern"):
        logarithms = likeliest(known, values, kernel)

        def loss(x, kernel=kernel):
            k = torch.linalg.inv(inverse(known, x, kernel))
            return 12 * torch.log((values * torch.linalg.solve(k, values)).sum()) + torch.logdet(k)

        for i in range(2):
            for way in (-0.3, 0.3):
                assert loss(logarithms + way * torch.eye(3, dtype=torch.float64)[i]) > loss(logarithms) - 1e-6
        found = left_out(known, values, logarithms, kernel)
        others = torch.arange(12) != 3
        weights = correlation(known[3:4], known[others], logarithms, kernel) @ inverse(
            known[others], logarithms, kernel
        )
        assert found[3].numpy() == pytest.approx((values[3] - weights @ values[others])[0].numpy(), rel=1e-4, abs=1e-9)


def test_the_spread_is_zero_at_runs_and_largest_between(model, sweep, unseen):
    start = flat(sweep, 5)[:1]
    at_run = model.relative_spread(start, sweep.parameters[5:6], 0.01, 21)
    between = model.relative_spread(flat(unseen, 0)[:1], unseen.parameters[:1], 0.01, 21)
    assert at_run.max() < between.max() < 0.01
    full = model.predict_std(flat(unseen, 0)[:1], unseen.parameters[:1], 0.01, 21)
    states = model.predict(flat(unseen, 0)[:1], unseen.parameters[:1], 0.01, 21)
    assert full.norm(dim=-1) / states.norm(dim=-1) == pytest.approx(between, rel=1e-3)


@pytest.mark.parametrize("acquisition", ["spread", "residual"])
def test_a_greedy_design_adds_runs_until_there_are_enough(acquisition, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    table = {k: v for k, v in CASE["sweep"].items() if k != "counts"}
    greedy = case(sweep=table | {"design": "greedy", "runs": 7, "candidate_counts": [5, 5]})
    found = fit(runs(greedy, greedy.sweep.points()), TrainingOptions(**OPTIONS, acquisition=acquisition), tmp_path)
    points = np.array(found.about["points"])
    assert len(points) == len(np.unique(points, axis=0)) == 7 and len(found.about["spreads"]) == 3
    assert points[:4].tolist() == greedy.sweep.corners().tolist()
    true = flat(runs(greedy, np.array([[0.11, 0.9]])), 0)
    assert errors(found.predict(true[:1], np.array([[0.11, 0.9]]), 0.01, 21)[0], true) < 2e-3


@pytest.fixture
def simulate(sweep, tmp_path):
    path = tmp_path / "pulse.safetensors"
    Lasdi.train(TrainingJob(OPTIONS, sweep, path, tmp_path, Path(), ORIGIN, lambda *_: None))

    def start(table=None, **tables):
        row = {"name": "lasdi", "weights": "pulse.safetensors", "every": 2} | (table or {})
        made = check(CASE | {"closure": [row]} | tables, "pulse.toml", tmp_path)
        prepared = prepare(made, tmp_path, with_reference=False)
        return prepared.simulation(prepared.case.closure), prepared.simulation([])

    return start


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"mode": "alternating", "leap": 10, "solve": 4},
        {"trust": "residual", "tolerance": 0.5},
        {"trust": "spread", "tolerance": 0.1},
    ],
)
def test_leaps_follow_the_solver(table, simulate):
    run, alone = simulate(table)
    for simulation in (run, alone):
        simulation.run(40)
    off = np.linalg.norm(run.state - alone.state) / np.linalg.norm(alone.state)
    assert 0 < off < 1e-3 and run.closures[0].declined == 0


def test_beyond_the_span_there_is_an_error_or_the_solver(simulate):
    longer = CASE["time"] | {"end": 0.55}
    run, _ = simulate({"extrapolate": True}, time=longer)
    with pytest.raises(ClosureError, match=r'of 0.2, .* Remedy: an earlier time.end, or trust = "residual"$'):
        run.run(60)
    run, _ = simulate({"trust": "residual", "tolerance": 0.5}, time=longer)
    run.run(60)
    assert run.closures[0].declined == 20
    with pytest.raises(ClosureError, match=r"trained from t = 0.25, the case starts at 0"):
        simulate({}, time=CASE["time"] | {"start": 0.0, "end": 0.2})


def test_leading_coefficients_are_the_latent_trajectories(simulate, unseen):
    run, _ = simulate(initial=CASE["initial"] | {"width": 0.107, "amplitude": 0.87})
    found = run.closures[0].closure.latent_trajectories(unseen.state(0), 0.01)
    assert {k: v.shape for k, v in found.items()} == dict.fromkeys(("encoded", "predicted", "deviation"), (21, 5))
    assert found["predicted"] == pytest.approx(found["encoded"], abs=0.02)


def test_options_that_contradict_each_other():
    with pytest.raises(ValueError, match="library \"time\" needs a basis, 'mlp' has none"):
        TrainingOptions(library="time", autoencoder="mlp")
    with pytest.raises(ValueError, match='acquisition: "residual" is for library'):
        TrainingOptions(acquisition="residual")


def test_a_model_on_its_own_device_keeps_its_inverted_kernel(model):
    """A closure moves the model to the device of the run: on the same one nothing is computed again."""
    _ = model.precision
    assert model.to("cpu") is model
    elsewhere = model.to("meta")
    assert elsewhere.runs.device.type == "meta" and "precision" not in elsewhere.__dict__
