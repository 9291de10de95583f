"""`torchrun -m subgrid train`: one set of results, one message, and a checkpoint that one process goes on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subgrid.commands.cli import DONE, execute

CASE = """
title = "tiny"
equation = { name = "burgers", viscosity = 0.02 }
grid = { shape = [32], length = [6.0] }
time = { end = 0.8, step = 0.02, stepper = "etdrk2" }
initial = { kind = "reference" }
output = { every = 0.2 }
[reference]
shape = [128]
initial = { kind = "gaussian-random-field", exponent = 2.5, tau = 5.0, scale = 2.0 }
restrict = "filter"
[training]
trajectories = 12
validation = 4
start = 0.4
end = 1.2
every = 0.2
seed = 2
[train.regression]
network = "cnn"
network_options = { width = 8, layers = 3, cut = 10 }
steps = 300
threads = 1
validate_every = 10
batch = 9
"""
TRAIN = ["train", "case.toml", "--closure", "regression"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "case.toml").write_text(CASE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    return tmp_path


def torchrun(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "subgrid", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def log(name: str) -> list[dict]:
    (file,) = Path("cache").glob(f"training-*-{name}/training.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_interrupted_training_of_two_processes_goes_on_with_one(folder, capsys):
    """SIGTERM at the first checkpoint; the curve of validation is that of one process to 1e-5."""
    process = torchrun(*TRAIN, "--out", "two.safetensors")
    deadline = time.monotonic() + 200
    while not list(folder.glob("cache/training-*-two/last.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode != 0 and out == ""
    assert err.count("subgrid: ") == 1 and "subgrid: interrupted. Run the command again" in err
    begun = log("two")
    assert 0 < len(begun) < 30 and not Path("two.safetensors").exists()
    for name in ("two", "one"):
        assert execute([*TRAIN, "--out", f"{name}.safetensors"]) == DONE
    assert log("two")[: len(begun)] == begun
    for two, one in zip(log("two"), log("one"), strict=True):
        numbers = [[entry[key] for key in ("step", "loss", "valid_error")] for entry in (two, one)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_two_processes_write_one_result_and_say_once_what_is_wrong(folder):
    short = ["--set", "train.regression.steps=4", "--json"]
    out, err = (process := torchrun(*TRAIN, *short)).communicate(timeout=200)
    assert process.returncode == 0, err
    assert json.loads(out)["weights"] == "case-regression.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "case-regression.safetensors", "case.toml"]
    assert len(list(Path("cache").iterdir())) == 2  # the data, and the checkpoints of the first process
    process = torchrun(*TRAIN, "--set", "train.regression.batch=1", "--out", "small.safetensors")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1 and out == ""
    assert err.count("subgrid: ") == 1 and "a batch of 1 cannot be shared among 2 processes. Remedy: torchrun" in err


def test_other_commands_are_refused_under_torchrun():
    of_torchrun = {"TORCHELASTIC_RUN_ID": "test", "RANK": "0", "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "subgrid", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | of_torchrun)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("subgrid: torchrun is for `subgrid train` alone. Remedy: ")
