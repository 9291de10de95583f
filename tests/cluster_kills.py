"""Workers and schedulers that are killed at random instants: the end is that of one process, and nothing is done twice.

    python tests/cluster_kills.py                 10 workers and 3 schedulers, for each command
    python tests/cluster_kills.py 3 1 sweep       3 workers and 1 scheduler, of `sweep`

A command has a Dask scheduler and two workers, each a forked process, so that the libraries are imported once. A worker
that was killed by SIGKILL is replaced. After the scheduler the same command is run again with another one; the workers
of the first end by themselves. Workers log the tasks that they finish: none is carried out again. The folder for the
files is a temporary one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from distributed.cli import dask_scheduler, dask_worker

from subgrid.commands import candidates, cli, member_blocks
from subgrid.commands.comparison import cost, frontier, tasks
from subgrid.commands.comparison.search import Method
from subgrid.commands.sweep import workers as sweep
from subgrid.ingest import pieces

CASE = """
title = "killed in a cluster"

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
kind = "reference"
[output]
every = 0.01
[reference]
shape = [48]
step = 0.0005
trajectories = 6
initial = { kind = "gaussian-random-field", exponent = 2.0, tau = 5.0 }
[ensemble]
members = 6
[training]
trajectories = 9
validation = 3
start = 0.0
end = 0.2
every = 0.01
seed = 2
[compare]
closures = ["oracle", "hyperviscosity", { name = "hyperviscosity", label = "strong", rate = 2.0 }]
"""
COMMANDS = {
    "data": ["data", "case.toml"],
    "sweep": ["sweep", "case.toml", "--vary", "equation.viscosity=0.03:0.06:32", "--out", "out"],
    "compare": ["compare", "case.toml", "--out", "out"],
    "run": ["run", "case.toml", "--out", "out", "--set", "ensemble.members=48"],
    "tune": ["tune", "case.toml", "--closure", "hyperviscosity", "--evaluations", "12", "--out", "tuned.toml"],
}
started: set[int] = set()  # processes that have not been waited for
OWN = ("log.jsonl", "summary.json", "inputs.json")  # files of a run with times, or paths of its cache
TIMES = ("git", "cpu_seconds_per_time", "wall_seconds_per_time", "speedup", "beyond", "command")


def fork(place: Path, log: str, work: Callable[[], int]) -> int:
    """Do the work in a forked process whose directory is `place`; its number."""
    if process := os.fork():
        started.add(process)
        return process
    started.clear()
    code = 1
    try:
        file = os.open(place / log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(place)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def command(name: str, place: Path, address: str | None) -> int:
    """Start a command in a folder, with a cache in it; the number of its process."""
    place.mkdir(exist_ok=True)
    (place / "case.toml").write_text(CASE, encoding="utf-8")
    shared = [] if address is None else ["--scheduler", address]
    begun = name == "run" and (place / "out" / "case.toml").exists()
    given = ["resume", "out"] if begun else COMMANDS[name]

    def work() -> int:
        os.environ["SUBGRID_CACHE"] = str(place / "cache")
        cost.TURNS, cost.TURN_SECONDS = 1, 0.001
        frontier.search = methods
        return cli.execute([*given, *shared])

    return fork(place, "log", work)


def methods(*_: Any) -> tuple[list[tuple[Method, list[Method]]], list[str]]:
    """In the place of the search for methods of the frontier, which depends on times."""
    return [(Method("rk4", 0.01), []), (Method("rk4", 0.005), []), (Method("etdrk4", 0.01), [])], ["rk4"]


@dataclass
class Farm:
    """A scheduler and two workers, whose directory and cache are not those of the command. made: the log of tasks."""

    place: Path
    made: Path
    address: str = ""
    scheduler: int = 0
    workers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{port}"
        options = ["--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show"]
        self.scheduler = fork(self.place, "scheduler", lambda: run(dask_scheduler.main, options))
        for _ in range(2):
            self.grow()

    def grow(self) -> None:
        options = [self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", "scratch"]

        def work() -> int:
            os.environ |= {"SUBGRID_CACHE": str(self.place / "cache"), "SUBGRID_THREADS": "1"}
            log_tasks(self.made)
            return run(dask_worker.main, options)

        self.workers.append(fork(self.place, "worker", work))

    def kill_worker(self, chance: random.Random) -> None:
        kill(self.workers.pop(chance.randrange(len(self.workers))))
        self.grow()

    def kill_scheduler(self) -> None:
        kill(self.scheduler)
        self.scheduler = 0

    def end(self) -> None:
        """Kill what is left: workers without a scheduler have ended, or they are at their last task."""
        for process in (self.scheduler, *self.workers):
            if process:
                kill(process)


def run(program: Any, options: list[str]) -> int:
    program.main(options, standalone_mode=False)
    return 0


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    started.discard(process)


def log_tasks(made: Path) -> None:
    """Have the tasks of this process append what they make to a file, unless it was there before."""

    def logged(task: Callable[..., Any], mark: Callable[..., Path]) -> Callable[..., Any]:
        def carried_out(*arguments: Any) -> Any:
            path = mark(*arguments)
            there = path.exists()
            answer = task(*arguments)
            if not there:
                with open(made, "a", encoding="utf-8") as file:
                    file.write(f"{path}\n")
            return answer

        return carried_out

    for module, name, mark in (
        (pieces, "_piece", lambda *a: Path(a[-1]) / "done.json"),
        (sweep, "_on_worker", lambda task, shared: task.folder / "summary.json"),
        (tasks, "_row", lambda *a: Path(a[-1])),
        (tasks, "_run_of_frontier", lambda *a: Path(a[-1]).with_suffix(".json")),
        (member_blocks, "carry_out", lambda *a: member_blocks.place_of(Path(a[0]), range(*a[1:3])) / "summary.json"),
        (candidates, "_candidate", lambda *a: Path(a[-1])),
    ):
        setattr(module, name, logged(getattr(module, name), mark))


def results(name: str, place: Path) -> dict[str, Any]:
    """What a command has written, without times."""
    if name == "data":
        return {str(f.relative_to(place)): f.read_bytes() for f in (place / "cache").rglob("*") if f.is_file()}
    if name == "sweep":
        return {str(f.relative_to(place)): f.read_bytes() for f in place.glob("out/*/fields.zarr/**/*") if f.is_file()}
    if name == "run":
        return {
            str(f.relative_to(place)): f.read_bytes()
            for f in place.glob("out/**/*")
            if f.is_file() and f.name not in OWN
        }
    if name == "tune":
        return {"tuned.toml": (place / "tuned.toml").read_bytes()}
    found = json.loads((place / "out" / "metrics.json").read_text(encoding="utf-8"))
    for entry in (found, *found["rows"], *found["frontier"]):
        for key in TIMES:
            entry.pop(key, None)
    for file in sorted((place / "out" / "rows").iterdir()):
        with np.load(file) as arrays:
            found[file.name] = {k: arrays[k].tobytes() for k in arrays.files if k != "row"}
    return found


def ended(process: int, place: Path, *codes: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    started.discard(process)
    assert code in codes, f"exit code {code}: {(place / 'log').read_text(encoding='utf-8')}"
    return code


def runs(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def lines(made: Path) -> list[str]:
    return made.read_text(encoding="utf-8").splitlines() if made.exists() else []


def attack(name: str, of_workers: int, of_schedulers: int, folder: Path) -> tuple[int, int]:
    """Kill workers and schedulers of a command at random instants and run it to its end; how many were killed.

    Raises AssertionError if a finished task is carried out again, or if the end differs from that of one process.
    """
    one = folder / f"{name}-one"
    ended(command(name, one, None), one, 0)
    expected = results(name, one)
    farm = Farm(folder / f"{name}-whole-farm", folder / f"{name}-whole-made")
    whole = folder / f"{name}-whole"
    began = time.monotonic()
    ended(command(name, whole, farm.address), whole, 0)
    span = time.monotonic() - began
    farm.end()
    assert results(name, whole) == expected
    count, chance, killed, schedulers, rounds = len(lines(farm.made)), random.Random(name), 0, 0, 0
    assert count == len(set(lines(farm.made))) > 4
    while killed < of_workers or schedulers < of_schedulers:
        place, made = folder / f"{name}-{rounds}", folder / f"{name}-{rounds}-made"
        farm = Farm(folder / f"{name}-{rounds}-farm", made)
        old: list[Farm] = []
        rounds += 1
        process = command(name, place, farm.address)
        for _ in range(min(3, of_workers - killed)):
            time.sleep(span * chance.uniform(0.0, 0.5))
            killed += (hit := runs(process))
            if hit:
                farm.kill_worker(chance)
        if schedulers < of_schedulers:
            time.sleep(span * chance.uniform(0.0, 0.3))
            schedulers += runs(process)
            farm.kill_scheduler()
            if code := ended(process, place, 0, 2, 3):
                said = (place / "log").read_text(encoding="utf-8")
                early = ["does not answer", "has no workers"]  # where it died before it could be used
                late = ["the scheduler is gone. Remedy: run the same command again", "is gone. Remedy: subgrid resume"]
                assert any(words in said for words in (early if code == 2 else late)) and "Traceback" not in said, said
                before = lines(made)
                old, farm = [farm], Farm(folder / f"{name}-{rounds}-next", made)
                ended(command(name, place, farm.address), place, 0)
                again = set(before) & set(lines(made)[len(before) :])
                assert not again, f"carried out again: {again}"
        else:
            ended(process, place, 0)
        farm.end()
        for earlier in old:
            earlier.end()
        found = results(name, place)
        differing = [key for key in {*found, *expected} if found.get(key) != expected.get(key)]
        assert not differing, differing
    return killed, schedulers


def main() -> None:
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    of_workers, of_schedulers = numbers if len(numbers) == 2 else (10, 3)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in [a for a in sys.argv[1:] if not a.isdigit()] or COMMANDS:
                killed, schedulers = attack(name, of_workers, of_schedulers, Path(folder))
                print(f"{name}: {killed} workers and {schedulers} schedulers killed; the same files at the end")
        finally:
            for process in list(started):
                kill(process)


if __name__ == "__main__":
    main()
