"""Commands that are killed at random instants: nothing finished is lost, and the end is that of an uninterrupted run.

    python tests/kills.py                20 instants each of `data`, and of `train` for two closures
    python tests/kills.py 100 data       100 instants of `data`

Each attempt is a forked process, so the libraries are imported once. The folder for the files is a temporary one.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import subgrid.closures.lasdi.training
import subgrid.closures.regression.training  # noqa: F401  forked processes need not import torch
from subgrid.commands import cli
from subgrid.ingest import files

CASE = """
title = "flow that lacks its noise"

[equation]
name = "burgers"
viscosity = 0.05
[grid]
shape = [32]
length = [1.0]
[time]
end = 0.4
step = 0.001
stepper = "rk4"
[initial]
kind = "gaussian"
centre = 0.4
width = 0.11
amplitude = 0.9
[output]
every = 0.01
[reference]
shape = [64]
step = 0.0005
[training]
trajectories = 3
validation = 1
start = 0.0
end = 0.2
every = 0.01
seed = 2
[sweep]
parameters = { "initial.width" = [0.1, 0.12] }
counts = [3]

[train.regression]
network = "cnn"
network_options = { width = 8, layers = 2 }
steps = 100
batch = 8
validate_every = 5
threads = 1

[train.lasdi]
modes = 6
latent = 2
widths = [8]
degree = 1
steps = 60
checkpoint_every = 4
stages = 1
stride = 2
threads = 1
"""
COMMANDS = {
    "data": ["data", "case.toml"],
    "regression": ["train", "case.toml", "--closure", "regression", "--out", "w.safetensors"],
    "lasdi": ["train", "case.toml", "--closure", "lasdi", "--out", "w.safetensors"],
}


def begin(command: str, place: Path) -> int:
    """Start a command in a folder, with a cache in it, as a forked process; its number."""
    place.mkdir(exist_ok=True)
    (place / "case.toml").write_text(CASE, encoding="utf-8")
    if process := os.fork():
        return process
    code = 1
    try:
        log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["SUBGRID_CACHE"] = str(place / "cache")
        os.chdir(place)
        files.CHECKPOINT_SECONDS = 0.0
        code = cli.execute(COMMANDS[command])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def finished(place: Path) -> dict[str, bytes]:
    """What lies finished in a folder: the files of entries of the cache that are done, runs of sweeps, and weights."""
    done = [f for mark in place.rglob("done.json") for f in mark.parent.iterdir() if f.name != "checkpoint.npz"]
    found = [*done, *place.rglob("sweep/*.npz"), *place.glob("*.safetensors")]
    return {str(f.relative_to(place)): f.read_bytes() for f in found}


def everything(place: Path) -> dict[str, bytes]:
    """All files of a folder but the log of this test; temporary files and locks, too, if there are any."""
    return {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("*") if f.name != "log" and f.is_file()}


def ended(process: int, place: Path) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == 0, f"exit code {code}: {(place / 'log').read_text()}"


def attack(command: str, instants: int, folder: Path) -> int:
    """Kill a command at random instants and run it to its end; the number of attempts that were killed.

    Raises AssertionError if something finished changes, or if the end differs from that of an uninterrupted run.
    """
    whole = folder / f"{command}-whole"
    began = time.monotonic()
    ended(begin(command, whole), whole)
    span, expected = time.monotonic() - began, everything(whole)
    chance, killed, rounds = random.Random(command), 0, 0
    while killed < instants:
        place, before = folder / f"{command}-{rounds}", dict[str, bytes]()
        rounds += 1
        for _ in range(1 + chance.randrange(4)):  # kills of one after the other, then to the end
            process = begin(command, place)
            time.sleep(span * chance.random())
            os.kill(process, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
            now = finished(place)
            assert {k: now.get(k) for k in before} == before, "something finished was lost"
            before = now
        ended(begin(command, place), place)
        found = everything(place)
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        assert not (differing := [k for k in found if found[k] != expected[k]]), differing
        assert not (place / "log").read_text().count("damaged"), (place / "log").read_text()
    return killed


def main() -> None:
    instants = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        for command in sys.argv[2:] or COMMANDS:
            killed = attack(command, instants, Path(folder))
            print(f"{command}: killed at {killed} instants; the same files at the end", flush=True)


if __name__ == "__main__":
    main()
