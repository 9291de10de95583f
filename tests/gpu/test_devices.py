"""Networks on a device: torch's "meta" device, whose tensors have no values, refuses to mix with the host's."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import problems
import pytest
import torch

from subgrid.closures.lam_slide.options import TrainingOptions as SlideOptions
from subgrid.closures.lam_slide.training import Training as SlideTraining
from subgrid.closures.lasdi.interpolated import InterpolatedModel, load
from subgrid.closures.lasdi.options import TrainingOptions as LasdiOptions
from subgrid.closures.lasdi.training import Training as LasdiTraining
from subgrid.closures.latent_diffusion.options import TrainingOptions as DiffusionOptions
from subgrid.closures.latent_diffusion.training import Training as DiffusionTraining
from subgrid.closures.mi2a import roll_outs
from subgrid.closures.mi2a.losses import MomentsInBasis
from subgrid.closures.mi2a.model import network
from subgrid.closures.mi2a.options import TrainingOptions as WaveOptions
from subgrid.closures.mi2a.training import Training as WaveTraining
from subgrid.closures.regression.options import TrainingOptions
from subgrid.closures.regression.rollout_training import RolloutTraining
from subgrid.closures.regression.training import Training
from subgrid.commands import cli
from subgrid.ingest.sweep import runs
from subgrid.ingest.training_set import dataset
from subgrid.solver.backend import Backend
from subgrid.solver.case.reading import check
from subgrid.solver.case.shipped import folder

META = "meta"
OTHERS = (*problems.LEAPS, *problems.ON_HOST, "none")
CALLED = [n for n, (_, closure, _, _) in problems.CLOSURES.items() if closure not in OTHERS]


@pytest.fixture
def without_autocast(monkeypatch):
    """The device has no bfloat16 to change to."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())


@pytest.mark.parametrize("name", CALLED)
def test_a_call_of_a_closure_neither_mixes_devices_nor_reads_values(name, without_autocast):
    run = problems.closure_run(name, Backend("torch", META))
    run.guard = "off"  # the guard reads one truth value
    run._call_closures(0, 20, lambda n: None, 0)
    run.advance(1)
    assert run.internal.device.type == META


@pytest.mark.parametrize("case", ["burgers-1d", "burgers-2d", "oscillator", "two-stream"])
def test_a_reduced_order_model_is_moved_with_all_its_tensors(case):
    weights = folder().parent / "closures" / "weights" / f"rom-{case}-lasdi.safetensors"
    model = load(weights).to(META)
    if isinstance(model, InterpolatedModel):  # it reads at which times windows begin
        windows = [t for w in model.windows for t in (w.centre, w.rotation, w.states)]
        tensors = [model.basis.mean, model.known, model.logarithms, model.times, model.runs, *windows]
        assert windows and {t.device.type for t in tensors} == {META}
        return
    points = len(model.basis.mean)
    states, parameters = torch.zeros(2, points, device=META), np.tile(model.ranges.mean(1), (2, 1))
    assert model.predict(states, parameters, 0.01, 5).device.type == META
    if model.spread is not None:
        assert model.predict_std(states, parameters, 0.01, 5, samples=2).device.type == META


def losses(training, *stages):
    """The gradients of a loss, computed on the device of the training."""
    for loss, module in stages:
        loss(3).backward()
        assert all(p.grad.device.type == META for p in module.parameters() if p.grad is not None)
        assert any(p.grad is not None for p in module.parameters())


def test_regression_is_trained_on_the_device(lame_flow, without_autocast):
    _, pairs = lame_flow(6)
    options = TrainingOptions(network="cnn", network_options={"width": 4, "layers": 2}, steps=4, batch=3)
    options = options.model_copy(update={"transfer_weight": 0.1, "features": "vorticity-velocity"})
    training = Training(
        *((s.astype(np.float32), t.astype(np.float32)) for s, t in (pairs.train, pairs.validation)),
        tuple(pairs.about["length"]),
        options,
        0.0,
        META,
    )
    losses(training, (training.loss, training.term))


def test_training_through_the_solver_is_on_the_device(lame_flow, without_autocast):
    _, pairs = lame_flow(6)
    rollout = {"start": "none", "unroll": 2, "every": 5, "steps": 2, "batch": 2, "windows": 2}
    network = {"width": 4, "layers": 2}
    options = TrainingOptions(network="cnn", network_options=network, steps=4, batch=3, rollout=rollout)
    weights = Training(
        *((s.astype(np.float32), t.astype(np.float32)) for s, t in (pairs.train, pairs.validation)),
        tuple(pairs.about["length"]),
        options,
    ).term.state_dict()
    training = RolloutTraining(pairs, {k: v.numpy() for k, v in weights.items()}, options, META)
    losses(training, (training.loss, training.term))


@pytest.mark.parametrize("latent", [{"kind": "fourier", "points": 8}, {"kind": "physical"}, {"kind": "autoencoder"}])
def test_latent_diffusion_is_trained_on_the_device(lame_flow, tmp_path, latent):
    _, pairs = lame_flow(6)
    options = DiffusionOptions(mean=None, latent=latent, score_steps=2, distil_steps=2, batch=3)
    training = DiffusionTraining(pairs, options, tmp_path, tmp_path, lambda *a: None, "cpu")
    training.device = META
    model = training.model.to(META)
    assert model.student is not None
    losses(training, (training.score_loss, model.denoiser), (training.distil_loss, model.student))


@pytest.mark.parametrize("predictor", ["pairs", "constant"])
@pytest.mark.parametrize("masked", [False, True])
def test_trajectories_of_entities_are_learned_on_the_device(tmp_path, monkeypatch, predictor, masked):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    tables = {
        "title": "particles",
        "equation": {"name": "charged-particles"},
        "grid": {"entities": 3},
        "time": {"end": 0.6, "step": 0.02, "stepper": "velocity-verlet"},
        "initial": {"kind": "charged-particles"},
        "output": {"every": 0.2},
        "reference": {"shape": [3], "trajectories": 1, "restrict": "subsample"},
        "training": {"trajectories": 4, "validation": 1, "start": 0.0, "end": 0.6, "every": 0.1},
    } | ({"ensemble": {"members": 2, "entities": [2, 3]}} if masked else {})
    options = {"past": 2, "future": 4, "window": 2, "predictor": predictor, "width": 8, "flow_width": 8, "batch": 2}
    data = dataset(check(tables, "particles.toml", tmp_path), lambda *a: None)
    training = SlideTraining(data, SlideOptions(**options), tmp_path / "work", device=META)
    training.normalise = lambda: None
    if predictor == "pairs":
        losses(training, (lambda step: training.predictor_loss(step, 3), training.model.predictor))
    training.predicted = torch.zeros(3, 2, 2, 4, 3, 3)
    losses(
        training,
        (training.first_loss, training.model.autoencoder),
        (training.second_loss, training.model.denoiser),
        (training.joint_loss, training.model.denoiser),
    )


def pulses(tmp_path, monkeypatch):
    """The runs of a small sweep."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    tables = {
        "title": "pulse",
        "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
        "grid": {"shape": [32], "length": [1.0]},
        "time": {"start": 0.25, "end": 0.45, "step": 0.005, "stepper": "ssp-rk2"},
        "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
        "output": {"every": 0.005},
        "sweep": {"parameters": {"initial.width": [0.1, 0.12]}, "counts": [3]},
    }
    case = check(tables, "pulse.toml", tmp_path)
    assert case.sweep is not None
    return runs(case, case.sweep.points(), lambda *a: None)


@pytest.mark.parametrize("form", ["strong", "weak"])
def test_a_reduced_order_model_is_trained_on_the_device(tmp_path, monkeypatch, form):
    data = pulses(tmp_path, monkeypatch)
    options = {
        "modes": 6,
        "latent": 3,
        "widths": [8],
        "degree": 1,
        "steps": 4,
        "form": form,
        "stride": 1,
        "trajectory_weight": 0.1,
    }
    training = LasdiTraining(data, LasdiOptions(**options), tmp_path / "work", device="cpu")
    training.device = META
    training.use(data)
    for part in (training.encoder, training.decoder):
        part.to(META)
    losses(training, (training.first_loss, training.decoder), (training.first_loss, training.encoder))


@pytest.mark.parametrize("kind", ["lstm", "luong", "mi2a"])
@pytest.mark.parametrize("compression", ["pod-fourier", "pod", "convolutional", "registered"])
def test_a_wave_model_is_trained_on_the_device(tmp_path, monkeypatch, compression, kind):
    data = pulses(tmp_path, monkeypatch)
    options = {"compression": compression, "latent": 3, "modes": 6, "widths": [8], "channels": [2, 4], "features": 4}
    options |= {"steps": 2, "validation": 3, "window": 4, "evolution": kind, "hidden": 4, "spans": [3]}
    training = WaveTraining(data, WaveOptions(**options), tmp_path / "work")
    training.z = torch.zeros((*training.c.shape[:2], 3))
    training.place(META)
    if compression in ("pod-fourier", "convolutional"):
        losses(training, (training.autoencoder_loss, training.compression))
    evolution = network(training.options.model_dump(), 0).to(META)
    moments = MomentsInBasis(training.compression.basis, training.largest)
    losses(training, (lambda step: roll_outs.loss(training, evolution, moments, step, 3), evolution))


def test_a_wave_model_on_a_device_has_the_weights_of_the_processor(tmp_path, monkeypatch):
    """What is trained returns to the processor, where the model is fitted and written."""
    data = pulses(tmp_path, monkeypatch)
    options = {"latent": 2, "modes": 6, "widths": [8], "frequencies": 4, "features": 4, "steps": 2, "validation": 3}
    options |= {"window": 4, "hidden": 4, "spans": [3], "span_steps": 2, "evolution": "mi2a"}
    moved = []
    place = WaveTraining.place
    monkeypatch.setattr(WaveTraining, "place", lambda self, device: (moved.append(device), place(self, device))[1])
    model = WaveTraining(data, WaveOptions(**options), tmp_path / "work", device="cpu:0").run()
    assert moved == ["cpu:0", "cpu", "cpu:0", "cpu"]
    assert {p.device.type for p in model.evolution.parameters()} == {"cpu"}


def test_a_device_that_is_not_there_is_refused_before_anything_is_computed(capsys):
    assert cli.execute(["train", "kolmogorov-demo", "--closure", "regression", "--device", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert "--device nowhere: not available here" in error and "Remedy: --device cpu" in error
