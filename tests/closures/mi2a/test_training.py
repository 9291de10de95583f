"""Training of a wave model: exact resume, one path for all evolutions, and options that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.mi2a import MI2A
from subgrid.closures.mi2a.completion import completed
from subgrid.closures.mi2a.correction import Correction
from subgrid.closures.mi2a.model import WaveModel
from subgrid.closures.mi2a.options import TrainingOptions
from subgrid.closures.mi2a.training import Training, fit
from subgrid.commands import cli
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check

ORIGIN = {"training_case": "", "training_command": ""}
OPTIONS: dict[str, Any] = {
    "modes": 8,
    "widths": [8],
    "frequencies": 4,
    "features": 20,
    "steps": 9,
    "window": 3,
    "validation": 3,
    "random_features": 20,
    "hidden": 4,
    "spans": [2, 4],
    "span_steps": 5,
    "span_batch": 4,
    "checkpoint_every": 3,
    "threads": 1,
    "seed": 3,
}
CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.12, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.01},
    "sweep": {"parameters": {"initial.width": [0.1, 0.12]}, "counts": [4]},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "multistep": {},
    "multistep with noise": {"window_noise": 0.01, "parameters": True},
    "attention correction": {"attention": True},
    "registered": {
        "compression": "registered",
        "latent": 3,
        "pattern_modes": 2,
        "errors": "latents",
        "evolution": "lstm",
    },
    "pod": {"compression": "pod", "latent": 4, "evolution": "lstm"},
    "lstm": {"evolution": "lstm", "psi": 0.5},
    "luong": {"evolution": "luong", "window_noise": 0.01},
    "mi2a": {"evolution": "mi2a", "parameters": True},
    "convolutional": {"compression": "convolutional", "channels": [2, 4], "evolution": "mi2a", "derivative": False},
}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        case = check(CASE, "pulse.toml", Path())
        yield runs(case, case.sweep.points())


def train(sweep, folder, progress=lambda *_: None, **changes):
    target = folder / "w.safetensors"
    MI2A.train(TrainingJob(OPTIONS | changes, sweep, target, folder / "work", folder, ORIGIN, progress))
    return target.read_bytes()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_killed_at_many_steps_ends_with_the_same_bytes(name, sweep, tmp_path):
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    calls: list[int] = []
    whole = train(sweep, tmp_path / "whole", lambda *_: calls.append(1), **VARIANTS[name])
    steps = {
        "multistep": 9,
        "multistep with noise": 9,
        "registered": 10,
        "pod": 10,
    }  # networks too
    assert len(calls) == steps.get(name, 19)
    for kill in (2, 3, 4) if len(calls) < 19 else (2, 3, 4, 5, 6):
        count = iter(range(1, 100))

        def die(done, total, metrics, at=kill, count=count):
            if next(count) == at:
                raise Killed

        with pytest.raises(Killed):
            train(sweep, tmp_path / "parts", die, **VARIANTS[name])
    assert train(sweep, tmp_path / "parts", **VARIANTS[name]) == whole
    train(sweep, tmp_path / "parts", lambda *_: pytest.fail("a finished training was repeated"), **VARIANTS[name])


@pytest.mark.parametrize("name", [*VARIANTS, "products"])
def test_weights_predict_after_they_are_read(name, sweep, tmp_path):
    train(sweep, tmp_path, **VARIANTS.get(name, {"compression": "pod", "latent": 4, "products": 3}))
    model = WaveModel.load(tmp_path / "w.safetensors")
    window = torch.from_numpy(sweep.states()[:2, : model.window]).flatten(2)
    predicted = model.predict(window, sweep.parameters[:2], 5)
    assert predicted.shape == (2, 5, 16) and torch.isfinite(predicted).all()
    model.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()


def test_a_correction_that_does_not_help_with_a_complete_decoder_is_left_out(sweep, tmp_path):
    training = Training(sweep, TrainingOptions(**OPTIONS), tmp_path)
    plain = training.run().evolution
    correction = Correction(training.z.shape[2], 2 * training.z.shape[2] - plain.unknown, 4)
    with torch.no_grad():
        for parameter in correction.parameters():
            parameter.fill_(0.5)
    _, kept, chosen = completed(training, replace(plain, correction=correction))
    assert kept.correction is None and np.isfinite(chosen["held_out"])


def test_evolutions_share_the_autoencoder_of_a_folder(sweep, tmp_path):
    """Their latents are equal bit for bit, and only the evolution is trained anew."""
    train(sweep, tmp_path)
    calls: list[int] = []
    train(sweep, tmp_path, lambda *_: calls.append(1), evolution="lstm")
    assert len(calls) == 10
    with pytest.raises(ValueError, match=r"holds another training \(options differ\): train in another directory"):
        train(sweep, tmp_path, kappa=3.0)


def test_a_trained_model_beats_the_mean_and_reports_its_reconstruction(sweep, tmp_path):
    options = TrainingOptions(**OPTIONS | {"steps": 300, "learning_rate": 0.01, "noise": 0.005})
    scores = fit(sweep, options, tmp_path).about["scores"]
    states = sweep.states()
    variance = float(((states - states.mean((0, 1))) ** 2).mean() / np.abs(states).max() ** 2)
    assert scores["projection"] <= scores["reconstruction"] < 0.05 * variance
    assert scores["rollout"] < 0.5 * variance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": 2}, "train.mi2a.latents: Extra inputs"),
        ({"spans": [4, 2]}, "spans must increase"),
        ({"validation": 9}, "train.mi2a.validation: of 4 runs none is held out. Remedy"),
        (
            {"evolution": "mi2a", "spans": [40]},
            "a roll-out of 40 need 43 states of each run, found 13",
        ),
        ({"pattern_modes": 2}, 'pattern_modes and errors = "latents" need compression = "registered"'),
        ({"products": 2}, 'products need compression = "pod" and evolution = "multistep"'),
        ({"compression": "pod", "products": 2, "attention": True}, "with products there is no attention"),
        ({"compression": "convolutional", "channels": [2] * 6}, "cannot be halved 6 times"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(change, message, tmp_path, monkeypatch, one_message):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "case.toml").write_text(tomli_w.dumps(CASE | {"train": {"mi2a": OPTIONS | change}}), encoding="utf-8")
    assert cli.execute(["train", "case.toml", "--closure", "mi2a", "--out", "w.safetensors"]) == 2
    assert message in " ".join(one_message().split())
    assert not list(tmp_path.glob("*.safetensors"))
