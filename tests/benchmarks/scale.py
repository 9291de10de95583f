"""Workers of Dask against threads and processes of one machine: the same bytes, and the time.

    python tests/benchmarks/scale.py                       a sweep of 1,000 runs, a training set of 32 trajectories
    python tests/benchmarks/scale.py --runs 20 --trajectories 4 --workers 1 2

Efficiency is the time of the command without workers, on the cores that it may use, over that with as many workers as
cores. The start of the workers, which takes a few seconds, is measured by a command that finds everything done, and is
left out of the second figure. Run it on an idle machine; on another one the efficiency in CPU seconds, of all processes
of the commands, is less disturbed. TMPDIR=/dev/shm leaves out the waits for the disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CASE = """
title = "a short run"
[equation]
name = "kolmogorov"
viscosity = 2e-3
[grid]
shape = [48, 48]
length = [6.283185307179586, 6.283185307179586]
[time]
end = 1.0
step = 0.005
stepper = "etdrk4"
[initial]
kind = "gaussian-random-field"
exponent = 2.5
tau = 7.0
[output]
every = 0.5
[reference]
shape = [192, 192]
[training]
trajectories = 32
validation = 1
start = 0.0
end = 4.0
every = 0.1
seed = 7
"""


def subgrid(place: Path, *arguments: str) -> NDArray:
    """Run a command with a cache in a folder; its wall seconds, and the CPU seconds of all its processes."""
    began = clocks()
    code = "from subgrid.commands.entry import main; main()"
    environment = os.environ | {"SUBGRID_CACHE": str(place / "cache")}
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return clocks() - began


def clocks() -> NDArray:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def contents(place: Path, pattern: str) -> dict[str, bytes]:
    return {str(f.relative_to(place)): f.read_bytes() for f in place.glob(pattern) if f.is_file()}


def measured(name: str, folder: Path, command: list[str], pattern: str, workers: list[int]) -> None:
    """Time a command without workers and with each number of them, and compare the bytes of its files."""
    found: dict[int, tuple[NDArray, NDArray]] = {}
    expected: dict[str, bytes] = {}
    for number in (0, *workers):
        place = folder / f"{name}-{number}"
        place.mkdir()
        (place / "case.toml").write_text(CASE, encoding="utf-8")
        shared = [] if number == 0 else ["--workers", str(number)]
        taken = subgrid(place, *command, *shared)
        again = subgrid(place, *command, *shared)  # everything is there: what a start takes
        found[number] = taken, taken - again
        files = contents(place, pattern)
        expected = expected or files
        assert files and files.keys() == expected.keys(), sorted(files.keys() ^ expected.keys())
        different = [file for file in files if files[file] != expected[file]]
        assert not different, different[:3]
        what = f"{number} workers" if number else "threads or processes"
        wall, cpu = (f"{a:.1f} s, {a - b:.1f} s without the start" for a, b in zip(taken, again, strict=True))
        print(f"{name}, {what}: {wall}; CPU {cpu}; {len(files)} files", flush=True)
    cores = len(os.sched_getaffinity(0))
    if cores in found:
        whole, net = (a / b for a, b in zip(found[0], found[cores], strict=True))
        for kind, place in (("wall", 0), ("CPU", 1)):
            figures = f"{whole[place]:.2f}, {net[place]:.2f} without the start"
            print(f"{name}, {cores} workers: efficiency by {kind} seconds {figures}; the same bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of shorter runs, say")
    given = parser.parse_args()
    changes = [word for change in given.set for word in ("--set", change)]
    sweep = ["sweep", "case.toml", "--vary", f"equation.viscosity=0.002:0.01:{given.runs}", "--out", "out", *changes]
    data = ["data", "case.toml", "--set", f"training.trajectories={given.trajectories}", *changes]
    with tempfile.TemporaryDirectory() as folder:
        measured("training set", Path(folder), data, "cache/**/*", given.workers)
        measured("sweep", Path(folder), sweep, "out/*/fields.zarr/**/*", given.workers)


if __name__ == "__main__":
    main()
