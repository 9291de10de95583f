"""Runs of a case's own model over the parameters of [sweep], one file per run.

The files lie in the folder `sweep` of the cache; the name of a file is the hash of everything that its run depends on.
A finer grid of parameters therefore reuses the runs of a coarser one, and an interrupted sweep resumes with the missing
runs. A file contains `state` (time, field, *grid) in single precision, `time` and `request`, the content of the hash.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import NUMPY
from subgrid.solver.backend.files import read_arrays, write_arrays
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.ensemble import available_threads
from subgrid.solver.simulation.schedule import Collector

from .requests import cache, describe_equation, describe_initial, describe_stepper
from .trajectories import Progress

FORMAT = 1


def request(case: Case) -> dict[str, Any]:
    """Everything that the run of a case depends on. Only the first member is run."""
    return {
        "format": FORMAT,
        "equation": describe_equation(case.build_equation()),
        "grid": case.grid.model_dump(mode="json", exclude_defaults=True),
        "stepper": describe_stepper(case.time.stepper),
        "step": case.step,
        "cfl": case.time.cfl,
        "start": case.time.start,
        "steps": case.steps(),
        "every": interval(case),
        "initial": describe_initial(case.initial),
        "seed": case.ensemble.seed,
    }


def interval(case: Case) -> int:
    """Number of steps between the states that are kept."""
    return multiple((case.sweep and case.sweep.every) or case.output.every, case.step)


def _file(asked: dict[str, Any]) -> Path:
    text = json.dumps(asked, sort_keys=True)
    return cache() / "sweep" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npz"


@dataclass(frozen=True)
class Sweep:
    """Finished runs, one file each; `parameters` (run, parameter), with the parameters' `names`.

    about: the request of a run without the swept parameters, common to all runs. ranges: (low, high) of each parameter.
    """

    names: tuple[str, ...]
    ranges: NDArray[np.float64]
    parameters: NDArray[np.float64]
    files: tuple[Path, ...]
    times: NDArray[np.float64]
    about: dict[str, Any]
    case: Case

    @property
    def directory(self) -> Path:
        return self.files[0].parent

    def __len__(self) -> int:
        return len(self.files)

    def state(self, run: int) -> NDArray[np.float32]:
        """(time, field, *grid) of a run."""
        return read_arrays(self.files[run])["state"]

    def grown(self, points: NDArray) -> Sweep:
        """The sweep with runs at additional points (run, parameter), computed where the cache lacks them."""
        return runs(self.case, np.concatenate([self.parameters, np.reshape(points, (-1, len(self.names)))]))

    def starts(self, points: NDArray) -> NDArray[np.float32]:
        """Initial states (point, field, *grid) at points of the sweep, without running them."""
        assert self.case.sweep is not None
        varied = [self.case.varied(self.case.sweep.values(p)) for p in points]
        states = [initial_state(v.initial, v.build_equation(), v.grid.grid(), (0,), v.ensemble.seed)[0] for v in varied]
        return np.stack(states).astype(np.float32)

    def states(self) -> NDArray[np.float32]:
        """(run, time, field, *grid)."""
        return np.stack([self.state(i) for i in range(len(self))])


@plugin_errors()
def runs(case: Case, points: NDArray, progress: Progress = lambda done, total, what: None) -> Sweep:
    """The runs of a case at points (run, parameter) of its sweep; missing ones are computed, one thread per core.

    Raises ValueError for a case without [sweep], and BlowUp, with the parameters, for a run that fails.
    """
    if case.sweep is None:
        raise ValueError("the case has no [sweep] table")
    varied = [case.varied(case.sweep.values(p)) for p in points]
    files = tuple(_file(request(v)) for v in varied)
    todo = [(v, f) for v, f in zip(varied, files, strict=True) if not f.is_file()]
    if todo:
        files[0].parent.mkdir(parents=True, exist_ok=True)
    done = len(files) - len(todo)
    with ThreadPoolExecutor(available_threads()) as pool:
        futures = [pool.submit(_make, v, f) for v, f in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                progress(done, len(files), "sweep")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    about = request(case) | {"fields": [f.name for f in case.build_equation().fields]}
    for name in case.sweep.parameters:
        table, _, key = name.partition(".")
        about[table] = {k: v for k, v in about[table].items() if k != key}
    first = read_arrays(files[0])["time"] if files else np.empty(0)
    ranges = np.array(list(case.sweep.parameters.values()))
    return Sweep(tuple(case.sweep.parameters), ranges, np.asarray(points), files, first, about, case)


def _make(case: Case, file: Path) -> None:
    """Run a case to its end on one thread and write the kept states."""
    equation, grid = case.build_equation(), case.grid.grid()
    state = initial_state(case.initial, equation, grid, (0,), case.ensemble.seed)
    simulation = build_simulation(case, equation, grid, state, threads=1, backend=NUMPY)
    every, steps = interval(case), case.steps()
    try:
        kept = Collector(simulation, steps, every, lambda state: state[0].astype(np.float32)).run()
    except BlowUp as error:
        raise BlowUp(f"the run with {describe_initial(case.initial)}, {case.equation}: {error}") from None
    times = case.time.start + case.step * np.arange(0, steps + 1, every, dtype=np.float64)
    asked = np.array(json.dumps(request(case)))
    write_arrays(file, {"state": np.stack(kept), "time": times, "request": asked})
