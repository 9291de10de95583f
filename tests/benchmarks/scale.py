"""Workers of Dask against threads and processes of one machine: the same bytes, and the time.

    python tests/benchmarks/scale.py                       a sweep of 1,000 runs, a training set of 32 trajectories
    python tests/benchmarks/scale.py --runs 20 --trajectories 4 --workers 1 2

Efficiency is the time of the command without workers, on the cores that it may use, over that with as many workers as
cores. The start of the workers, which takes a few seconds, is measured by a command that finds everything done, and is
left out of the second figure. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def subgrid(place: Path, *arguments: str) -> float:
    """Run a command with a cache in a folder; its wall seconds."""
    began = time.perf_counter()
    code = "from subgrid.commands.entry import main; main()"
    environment = os.environ | {"SUBGRID_CACHE": str(place / "cache")}
    subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - began


def contents(place: Path, pattern: str) -> dict[str, bytes]:
    return {str(f.relative_to(place)): f.read_bytes() for f in place.glob(pattern) if f.is_file()}


def measured(name: str, folder: Path, command: list[str], pattern: str, workers: list[int]) -> None:
    """Time a command without workers and with each number of them, and compare the bytes of its files."""
    found: dict[int, tuple[float, float]] = {}
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
        print(f"{name}, {what}: {taken:.1f} s, {taken - again:.1f} s without the start; {len(files)} files", flush=True)
    cores = len(os.sched_getaffinity(0))
    if cores in found:
        whole, net = (a / b for a, b in zip(found[0], found[cores], strict=True))
        print(
            f"{name}, {cores} workers: efficiency {whole:.2f}, {net:.2f} without the start; the same bytes", flush=True
        )


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
