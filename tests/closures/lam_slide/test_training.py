"""Training of a model of trajectories: exact resume, what it learns, and options and data that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from subgrid.closures.lam_slide import LamSlide
from subgrid.closures.lam_slide.losses import turns
from subgrid.closures.lam_slide.model import TrajectoryModel
from subgrid.closures.lam_slide.options import TrainingOptions
from subgrid.closures.lam_slide.predictor import constant_velocity
from subgrid.closures.lam_slide.training import Training, fit
from subgrid.closures.lam_slide.transformer import TransformerPredictor
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.commands import cli
from subgrid.ingest.prepare import silent
from subgrid.ingest.training_set import dataset
from subgrid.solver.case.reading import check

ORIGIN = {"training_case": "", "training_command": ""}
TABLES: dict[str, Any] = {
    "reference": {"shape": [5], "trajectories": 2, "seed": 50, "restrict": "subsample"},
    "training": {"trajectories": 20, "validation": 4, "start": 0.0, "end": 0.9, "every": 0.1},
}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def data(particles, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield dataset(check(particles | TABLES, "particles.toml", Path()), silent)


@pytest.fixture
def train(data, small):
    def run(folder, progress=lambda *_: None, **changes):
        target = folder / "w.safetensors"
        LamSlide.train(TrainingJob(small | changes, data, target, folder / "work", folder, ORIGIN, progress))
        return target.read_bytes()

    return run


@pytest.mark.parametrize("predictor", ["pairs", "constant", "rest", "transformer"])
def test_a_training_killed_at_many_steps_ends_with_the_same_bytes(predictor, train, tmp_path):
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    calls: list[int] = []
    whole = train(tmp_path / "whole", lambda *_: calls.append(1), predictor=predictor)
    assert len(calls) == {"pairs": 16, "constant": 11, "rest": 11, "transformer": 15}[predictor]
    for kill in (2, 3, 4, 3) if predictor in ("pairs", "transformer") else (2, 3, 4):
        count = iter(range(1, 100))

        def die(done, total, metrics, at=kill, count=count):
            if next(count) == at:
                raise Killed

        with pytest.raises(Killed):
            train(tmp_path / "parts", die, predictor=predictor)
        torch.rand(3)  # the state of the global generator does not matter
    assert train(tmp_path / "parts", predictor=predictor) == whole
    train(tmp_path / "parts", lambda *_: pytest.fail("a finished training was repeated"), predictor=predictor)


@pytest.mark.parametrize("predictor", ["pairs", "constant", "transformer"])
def test_losses_are_those_of_the_real_entities(predictor, data, small, tmp_path):
    """With a fifth entity that is not real they are those of the other four, and so are the scales."""
    options = TrainingOptions(**small | {"predictor": predictor, "dropout": 0.0})
    four = tuple(s[..., :4] for s in data.sequences)
    masks = tuple(np.tile(np.arange(5) < 4, (len(s), 1)) for s in data.sequences)
    trainings = [
        Training(replace(data, sequences=four), options, tmp_path / "four"),
        Training(replace(data, masks=masks), options, tmp_path / "five"),
    ]
    known = trainings[0].identifiers(np.random.default_rng(0), 6)
    for training, count in zip(trainings, (4, 5), strict=True):
        more = torch.cat([known, training.model.pool[:6, None]], 1)[:, :count]
        training.identifiers = lambda *_, more=more: more
        if predictor == "transformer":
            training.measure(training.model.predictor)
        training.normalise()
    torch.testing.assert_close(trainings[0].model.scale, trainings[1].model.scale)
    for loss in ("first_loss", "second_loss", "joint_loss"):
        torch.testing.assert_close(*(getattr(t, loss)(3) for t in trainings), rtol=1e-4, atol=1e-5)
    if predictor == "pairs":
        torch.testing.assert_close(*(t.predictor_loss(3, 2) for t in trainings))
    if predictor == "transformer":
        torch.testing.assert_close(*(t.transformer_loss(3, t.model.predictor) for t in trainings))


def test_a_training_set_knows_how_many_entities_are_real(particles, small, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    tables = {"training": TABLES["training"] | {"trajectories": 5, "validation": 2}}
    tables["ensemble"] = particles["ensemble"] | {"entities": [3, 5]}
    found = dataset(check(particles | TABLES | tables, "particles.toml", Path()), silent)
    assert [m.sum(1).tolist() for m in found.masks] == [[3, 5, 3], [5, 3]]
    model, header = fit(found, TrainingOptions(**small), tmp_path / "work")
    assert model.classes == [-1.0, 1.0]  # without the zeros of placeholders
    assert all(np.isfinite(value) for value in header["scores"].values())


def test_batches_in_the_plane_stay_in_it():
    found = turns(np.random.default_rng(0), 50, "plane")
    np.testing.assert_allclose(found @ found.swapaxes(1, 2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-6)
    assert (found[:, 2] == [0, 0, 1]).all() and set(np.sign(np.linalg.det(found))) == {-1.0, 1.0}


def test_training_lowers_every_loss_and_reports_its_errors(data, small, tmp_path):
    rates = {"span_learning_rate": 0.02, "learning_rate": 0.01}
    longer = {"steps": 120, "flow_steps": 6, "spans": [2], "span_steps": [60]}
    options = TrainingOptions(**small | longer | rates)
    training = Training(data, options, tmp_path)
    _, header = training.run()
    for stage in ("span 2", "first stage"):
        losses = [entry["loss"] for entry in training.training.log if entry["stage"] == stage]
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert header["scores"].keys() >= {"reconstruction_ade", "predictor_ade", "one_ade", "ten_fde"}
    assert all(0 < value < 1 for value in header["scores"].values())


def test_training_lowers_the_loss_of_the_transformer_below_that_of_its_baseline(data, small, tmp_path):
    options = {"predictor": "transformer", "transformer_steps": 150, "transformer_learning_rate": 0.02}
    training = Training(data, TrainingOptions(**small | options), tmp_path)
    network = training.model.predictor
    assert isinstance(network, TransformerPredictor)
    training.run()
    losses = [entry["loss"] for entry in training.training.log if entry["stage"] == "transformer"]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2])
    x, c = training.states[:, :6, :3].transpose(2, 3), training.states[:, 0, 6]
    with torch.no_grad():
        found = network(x[:, :2], c, 4)[0]
    learned, free = ((a - x[:, 2:]).norm(dim=-1).mean() for a in (found, constant_velocity(x[:, :2], 4)))
    assert learned < 0.9 * free


def test_a_model_is_trained_for_the_interval_of_its_frames_and_for_their_couplings(data, small, tmp_path):
    model, header = fit(data, TrainingOptions(**small), tmp_path / "work")
    assert model.interval == pytest.approx(0.1) and model.classes == [-1.0, 1.0]
    model.save(tmp_path / "w.safetensors", header | ORIGIN)
    read, _ = TrajectoryModel.load(tmp_path / "w.safetensors")
    assert {k: v.shape for k, v in read.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": 2}, "train.lam-slide.latent: Extra inputs"),
        ({"window": 3}, "window must divide past and future"),
        ({"future": 20}, "2 frames given and 20 predicted need 22 states of each trajectory, found 9. Remedy: a later"),
        ({"identifiers": 4}, "a pool of 4 identifiers for 5 entities. Remedy: identifiers = 5, or more"),
        ({"dimension": 9}, "dimension must be at least identifiers"),
        ({"spans": [9]}, "spans needs one of span_steps each"),
        ({"heads": 3}, "heads must divide width"),
        (
            {"baseline": "rest"},
            'train.lam-slide: baseline = "rest" is what a transformer corrects, and predictor is "pairs". Remedy: '
            'predictor = "transformer", or predictor = "rest"',
        ),
        ({"predictor": "transformer", "transformer_width": 9}, "heads must divide transformer_width"),
        ({"predictor": "rest", "residual_axes": "heading"}, 'Remedy: baseline = "constant" and a predictor other than'),
        (
            {"predictor": "pair"},
            "train.lam-slide.predictor: Input should be 'constant', 'rest', 'pairs' or 'transformer'",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    change, message, particles, small, tmp_path, monkeypatch, one_message
):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    case = particles | TABLES | {"train": {"lam-slide": small | change}}
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case), encoding="utf-8")
    assert cli.execute(["train", "case.toml", "--closure", "lam-slide", "--out", "w.safetensors"]) == 2
    assert message in " ".join(one_message().split())
    assert not list(tmp_path.glob("*.safetensors"))
