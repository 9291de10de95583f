"""The predicted memory of trainings against that of the command, and the refusal of what does not fit."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subgrid.closures.latent_diffusion import LatentDiffusion
from subgrid.closures.learning.options import batches, brief
from subgrid.closures.mi2a import MI2A
from subgrid.closures.regression import Regression
from subgrid.commands import short_training, training_memory
from subgrid.commands.cli import execute
from subgrid.commands.short_training import Size, TrainingMemory, Trial
from subgrid.commands.training_memory import Unknown, needs_of_training, predicted, require
from subgrid.ingest import stand_ins
from subgrid.ingest.pieces import source
from subgrid.ingest.prepare import silent, with_step
from subgrid.ingest.sweep import runs
from subgrid.ingest.training_set import dataset
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case

PAIRS = (
    "reference.shape=[64]", "time.start=0", "training.start=0", "training.end=0.05", "training.every=0.01",
    "train.regression.steps=3", "train.regression.validate_every=1",
)  # fmt: skip
WAVES = (
    "reference.shape=[96,96]", "training.trajectories=3", "training.validation=1", "training.end=0.1",
    "train.regression.rollout.steps=2", "train.regression.rollout.validate_every=1",
    "train.regression.rollout.windows=4",
)  # fmt: skip
TRAININGS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "one-step": (
        "burgers-forced",
        (*PAIRS, "training.trajectories=1800", "train.regression.batch=9000"),
        "one-step",
    ),
    "through the solver": ("shallow-water-coarse", (*WAVES, "train.regression.rollout.batch=16"), "rollout"),
}


def small(*changes: str, case: str = "burgers-forced") -> Case:
    return with_step(read(Path(case), [*PAIRS, "training.trajectories=6", "training.validation=2", *changes]))


def options_of(case: Case, objective: str = "one-step") -> dict[str, Any]:
    return case.train["regression"] | ({"objective": objective} if objective == "rollout" else {})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the largest memory is read from /proc")
@pytest.mark.parametrize("name", TRAININGS)
def test_the_predicted_memory_is_that_of_the_training(in_a_process_of_its_own, name, cache, tmp_path):
    """To 25 %, files included, which lie in memory where there is room; half of it is not libraries."""
    stem, changes, objective = TRAININGS[name]
    case = read(Path(stem), changes)
    dataset(with_step(case), silent)
    memory = predicted(case, "regression", options_of(case, objective))
    sets = [f"--set={text}" for text in changes]
    command = ["train", stem, "--closure", "regression", "--objective", objective, "--json", *sets]
    done = in_a_process_of_its_own(*command, "--out", str(tmp_path / "w.safetensors"))
    measured = int(done.stderr.split()[-1]) * 2**10
    assert memory.needed + memory.mapped == pytest.approx(measured, rel=0.25)
    assert measured > 6e8


def test_a_training_that_does_not_fit_is_refused_with_the_number(cache, tmp_path, capsys, monkeypatch):
    """In advance: no data are computed, and nothing is written."""
    monkeypatch.setattr(training_memory, "predicted", lambda *args: TrainingMemory(3 * 2**30, 2**30))
    monkeypatch.setattr(training_memory, "available", lambda: 2**21)
    sets = [f"--set={text}" for text in PAIRS]
    assert execute(["train", "burgers-forced", "--closure", "regression", *sets, "--out", str(tmp_path / "w")]) == 2
    said = capsys.readouterr().err
    assert "memory: the training of regression needs about 3.0 GiB, this machine has 0.0 GiB. Remedy: a smaller" in said
    assert not cache.exists() and not (tmp_path / "w").exists()
    assert execute(["check", "burgers-forced", "--memory", "--closure", "regression", *sets]) == 2
    assert "needs about 3.0 GiB" in capsys.readouterr().err


def test_the_processes_of_torchrun_on_a_machine_count_together(monkeypatch):
    asked = []

    def known(case, closure, options, processes):
        asked.append(processes)
        return TrainingMemory(2**30, 0)

    monkeypatch.setattr(training_memory, "predicted", known)
    monkeypatch.setattr(training_memory, "available", lambda: 3 * 2**29)
    monkeypatch.setattr(training_memory, "NEGLIGIBLE", 0.0)
    shown: list[tuple[int, int, str]] = []
    require(small(), "regression", Regression, options_of(small()), lambda *bar: shown.append(bar))
    assert shown == [(done, 1, "memory, by short trainings") for done in (0, 1)]
    monkeypatch.setattr(training_memory, "PROCESSES", 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"needs about 2.0 GiB in 2 processes, this machine has 1.5 GiB"):
        require(small(), "regression", Regression, options_of(small()))
    assert asked == [1, 4]


def test_small_trainings_and_unknown_memory_are_no_reason_to_refuse(monkeypatch, caplog):
    def unknown(*args):
        raise Unknown("no reason")

    monkeypatch.setattr(training_memory, "predicted", unknown)
    case = small()
    with caplog.at_level(logging.WARNING, logger="subgrid"):
        require(case, "regression", Regression, options_of(case))
        assert not caplog.records
        monkeypatch.setattr(training_memory, "available", lambda: 2**20)
        require(case, "regression", Regression, options_of(case))
    assert "the memory of the training of regression is not known in advance: no reason" in caplog.text
    with pytest.raises(ValueError, match="--memory: the memory of the training of regression is not known: no reason"):
        needs_of_training(case, "regression", Regression, options_of(case))


def test_check_prints_the_memory_of_a_training_as_json(capsys, monkeypatch):
    asked = []

    def known(case, closure, options):
        asked.append(options)
        return TrainingMemory(2**30, 2**29)

    monkeypatch.setattr(training_memory, "predicted", known)
    sets = [f"--set={text}" for text in WAVES]
    how = ["--closure", "regression", "--objective", "rollout", "--unroll", "6"]
    assert execute(["check", "shallow-water-coarse", *sets, "--memory", *how, "--json"]) == 0
    needs = json.loads(capsys.readouterr().out)["memory"]
    assert list(needs) == ["run", "reference", "training set", "training of regression"]
    assert needs["training of regression"] == "about 1.00 GiB of memory, 0.50 GiB of files where there is room"
    assert asked[0]["objective"] == "rollout" and asked[0]["rollout"]["unroll"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--closure", "regression"], "--closure regression: whose memory --memory predicts. Remedy: --memory"),
        (["--memory", "--closure", "spectral-viscosity"], "is not trained by gradient descent"),
        (["--memory", "--closure", "smagorinsky"], "has nothing to train"),
        (["--memory", "--closure", "regression", "--unroll", "3"], "has no rollout"),
        (["--memory", "--closure", "regression", "--set", "train.regression.steps=0"], "train.regression.steps"),
    ],
)
def test_wrong_questions_have_answers(arguments, message, capsys):
    assert execute(["check", "burgers-forced", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_a_short_training_cannot_do_is_said(monkeypatch, capsys):
    """The process that tries it passes the reason on, and its end is one."""
    case = small("train.regression.network_options={wings=3}")
    asked = {"source": source(case), "closure": "regression", "options": options_of(case), "processes": 1}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
    short_training.answer()
    assert "the cnn network has no option 'wings'" in json.loads(capsys.readouterr().out)["error"]
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unknown, match="a short training ended: without a message"):
        predicted(case, "regression", options_of(case))


@pytest.mark.parametrize(
    ("case", "found", "name", "changes"),
    [
        ("burgers-forced", Regression, "regression", ("training.trajectories=90000", "train.regression.batch=500000")),
        ("kolmogorov-les", Regression, "regression", ("grid.shape=[256,256]", "train.regression.batch=100")),
        ("mi2a-burgers", MI2A, "mi2a", ("grid.shape=[2048]", "sweep.counts=[500]", "train.mi2a.batch=4096")),
    ],
)
def test_a_sum_of_what_grows_with_the_sizes_is_extrapolated(case, found, name, changes, monkeypatch):
    """Measured numbers that are one, up to round-off, give its value at the sizes of the whole training."""
    trial = Trial(read(Path(case), changes), found, read(Path(case), changes).train[name])
    factors = (4e8, 500.0, 3.0, 8.0, 9e4)
    measured = []

    def linear(size: Size) -> list[int]:
        measured.append(size)
        most = sum(f * t for f, t in zip(factors, size.terms(), strict=True))
        return [10**8, int(most)]

    monkeypatch.setattr(trial, "measured", linear)
    memory = trial.predicted()
    whole = sum(f * t for f, t in zip(factors, trial.full.terms(), strict=True))
    expected = whole - (memory.mapped - 12 * trial.values if not trial.sweeps else 0)
    assert memory.needed == pytest.approx(expected, rel=1e-5)
    assert len(measured) > 3 and max(s.points * s.times * s.trained for s in measured) < 2**26


def test_a_batch_that_is_not_seen_beside_all_else_is_enlarged(monkeypatch):
    case = read(Path("burgers-forced"), ["train.regression.batch=4096", "train.regression.network_options.width=8"])
    trial = Trial(case, Regression, case.train["regression"])
    monkeypatch.setattr(short_training, "BATCH", 64 * 128)
    shares = []

    def hardly(size: Size) -> list[int]:
        shares.append(size.share)
        return [int(10**9 * (1 + 0.1 * size.share))]

    monkeypatch.setattr(trial, "measured", hardly)
    assert trial.predicted().needed == pytest.approx(1.1e9)
    assert shares == [1 / 64, 1 / 64, 1 / 32, 1 / 8, 1 / 2]  # the first loads libraries


def test_a_training_that_is_small_is_tried_as_it_is():
    trial = Trial(small(), Regression, options_of(small()))
    assert trial.sizes() == [trial.full] == [Size(64, 5, 4, 2, 20 / 128)]


def test_stand_ins_have_the_shapes_of_the_data(cache):
    case = small()
    real, stand_in = dataset(case, silent), stand_ins.training_set(case, (64,), 5, 4, 2)
    for name in ("train", "validation", "sequences"):
        shapes = [[a.shape for a in getattr(data, name)] for data in (real, stand_in)]
        assert shapes[0] == shapes[1]
        assert [a.dtype for a in getattr(real, name)] == [a.dtype for a in getattr(stand_in, name)]
    assert real.about == stand_in.about and real.model == stand_in.model
    swept = with_step(read(Path("mi2a-convection"), ["sweep.counts=[3]", "time.end=0.05", "grid.shape=[64]"]))
    assert swept.sweep is not None
    real, stand_in = runs(swept, swept.sweep.points()), stand_ins.sweep(swept, (64,), 3)
    assert real.states().shape == stand_in.states().shape and real.about == stand_in.about
    assert np.array_equal(real.times, stand_in.times) and real.names == stand_in.names
    assert len(stand_in.grown(stand_in.parameters[:1])) == 4
    assert stand_ins.sweep(swept, (128,), 3).states().shape == (3, 11, 1, 128)


def test_couplings_of_particles_are_constant_in_stand_ins():
    case = with_step(read(Path("lam-slide-springs")))
    states = stand_ins.training_set(case, (5,), 3, 4, 1).sequences[0]
    assert np.all(states[:, 1:, 6] == states[:, :1, 6]) and np.any(states[:, 1:, 0] != states[:, :1, 0])


def test_brief_options():
    table = {
        "steps": 500, "span_steps": (7, 1), "substeps": 4, "joint_steps": 0, "batch": 64, "span_batch": 2,
        "validate_every": 50, "learning_rate": 0.1, "snapshots": 100, "width": 9,
        "rollout": {"steps": 9, "every": 5, "batch": 8},
    }  # fmt: skip
    assert sorted(batches(table)) == [2, 8, 64]
    assert brief(table, 0.25, 0.5) == {
        "steps": 2, "span_steps": (2, 1), "substeps": 4, "joint_steps": 0, "batch": 16, "span_batch": 1,
        "validate_every": 1, "learning_rate": 1e-9, "snapshots": 50, "width": 9,
        "rollout": {"steps": 2, "every": 5, "batch": 2},
    }  # fmt: skip


def test_all_options_of_a_conditional_mean():
    """It is a training of its own, with numbers of steps that are to be few."""
    assert LatentDiffusion.all_options({"mean": {"network": "cnn"}})["mean"]["steps"] == 2000
    assert LatentDiffusion.all_options({"mean": {"start": "x"}})["mean"] == {"start": "x"}
    with pytest.raises(ValueError, match=r"latent-diffusion\.mean\.stepss"):
        LatentDiffusion.all_options({"mean": {"stepss": 3}})
