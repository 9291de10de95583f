"""Training through the solver reduces the error of the runs, resumes bit for bit, and refuses unsuitable problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from subgrid.closures.learning import weights_file
from subgrid.closures.learning.learned_term import NETWORKS, build
from subgrid.commands.cli import DONE, MISTAKE, execute

CASE: dict[str, Any] = {
    "title": "tiny",
    "equation": {"name": "burgers", "viscosity": 0.02},
    "grid": {"shape": [32], "length": [6.0]},
    "time": {"end": 0.8, "step": 0.02, "stepper": "etdrk2"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.2},
    "reference": {
        "shape": [128],
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 5.0, "scale": 2.0},
        "restrict": "filter",
    },
    "training": {"trajectories": 72, "validation": 8, "start": 0.4, "end": 1.2, "every": 0.2, "seed": 2},
    "train": {
        "regression": {
            "network": "cnn",
            "network_options": {"width": 16, "layers": 3, "cut": 10},
            "steps": 400,
            "threads": 1,
            "rollout": {
                "start": "one-step.safetensors",
                "unroll": 4,
                "every": 5,
                "steps": 20,
                "batch": 4,
                "validate_every": 5,
                "windows": 6,
                "learning_rate": 5e-3,
            },
        }
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the case and its one-step weights, the cache beside them."""
    folder = tmp_path_factory.mktemp("rollout")
    (folder / "tiny.toml").write_text(tomli_w.dumps(CASE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        assert train("--out", "one-step.safetensors") == DONE
        yield folder


def train(*arguments: str) -> int:
    return execute(["train", "tiny.toml", "--closure", "regression", "--json", *arguments])


def test_it_reduces_the_error_of_the_runs_and_resumes_bit_for_bit(place, monkeypatch, capsys):
    """The score is relative to the uncorrected model: 1 without a closure."""
    from subgrid.closures.learning.training import StagedTraining

    assert train("--objective", "rollout", "--out", "whole.safetensors") == DONE
    tensors, header = weights_file.load("whole.safetensors")
    log = next(place.glob("cache/training-*-whole/training.jsonl")).read_text().splitlines()
    errors = [json.loads(line)["valid_error"] for line in log]
    assert header["scores"]["rollout_error"] == min(errors) < 0.98 * errors[0]
    assert errors[0] < 1

    save, count = StagedTraining.save, 0

    def interrupt(self):
        nonlocal count
        save(self)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StagedTraining, "save", interrupt)
        assert train("--objective", "rollout", "--out", "parts.safetensors") == 130
    assert train("--objective", "rollout", "--out", "parts.safetensors") == DONE
    again, _ = weights_file.load("parts.safetensors")
    assert all(tensors[name].tobytes() == again[name].tobytes() for name in tensors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unroll", "4"], "the one-step objective has no rollout"),
        (["--objective", "rollout", "--unroll", "3"], "not a multiple of the 10 steps between samples"),
        (["--objective", "rollout", "--unroll", "8"], "longer than a training trajectory"),
        (["--objective", "rollout", "--set", "train.regression.rollout.start=none"], "there are no weights 'none'"),
        (["--objective", "rollout", "--set", "train.regression.rollout.segment=7"], "segment = 7 is not a multiple of"),
        (["--objective", "rollout", "--set", "train.regression.network=fno"], "network"),
        (["--objective", "rollout", "--set", "train.regression.rollout.stride=2"], "rollout.stride"),
    ],
)
def test_unsuitable_problems_and_options_are_refused(place, arguments, message, capsys):
    assert train(*arguments, "--out", "refused.safetensors") == MISTAKE
    assert message in capsys.readouterr().err
    assert not Path("refused.safetensors").exists()


def test_without_initial_weights_it_begins_at_the_uncorrected_model_and_segments_change_nothing(place, capsys):
    """The error of the uncorrected model is 1; networks of every kind begin there."""
    wide = ["--set", "train.regression.rollout={unroll=4,every=5,steps=20,batch=4,validate_every=5,windows=6}"]
    assert train("--objective", "rollout", "--out", "zero.safetensors", *wide) == DONE
    whole = [wide[0], wide[1].replace("unroll", "segment=20,unroll")]
    assert train("--objective", "rollout", "--out", "segment.safetensors", *whole) == DONE
    log = next(place.glob("cache/training-*-zero/training.jsonl")).read_text().splitlines()
    errors = [json.loads(line)["valid_error"] for line in log]
    assert min(errors) < 1
    found, expected = (weights_file.load(f"{name}.safetensors")[0] for name in ("segment", "zero"))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_term_is_zero_without_the_outermost_weights(kind):
    term = build(kind, {}, 1, 1)
    state = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 32))).float()
    assert term(state).abs().max() > 1e-3
    with torch.no_grad():
        for parameter in term.outermost():
            parameter.zero_()
    assert term(state).abs().max() == 0
    term(state).sum().backward()
    assert any(parameter.grad is not None for parameter in term.outermost())
