"""Runs of a case's own model, or of its reference, over the parameters of [sweep], one file per run.

The files lie in the folder `sweep` of the cache; the name of a file is the hash of everything that its run depends on.
A finer grid of parameters therefore reuses the runs of a coarser one, and an interrupted sweep resumes with the missing
runs. A file contains `state` (time, field, *grid) in single precision, `time` and `request`, the content of the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend import NUMPY, available_threads
from subgrid.solver.backend.files import DamagedFile, read_arrays, remove_temporary, write_arrays
from subgrid.solver.case.base import multiple
from subgrid.solver.case.sweep_design import with_entries
from subgrid.solver.case.tables import Case, ReferenceTable
from subgrid.solver.equations import Equation
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.grid import Grid
from subgrid.solver.initial.checked import checked_state
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

from .cache import LOG, cache, locked, say_waiting
from .files import verify_once
from .given_runs import describe_run, run_of_data, states_of_run
from .requests import describe_equation, describe_initial, describe_stepper
from .restriction import Restrict
from .trajectories import Progress

FORMAT = 1


def request(case: Case) -> dict[str, Any]:
    """Everything that the run of a case depends on. Only the first member is run."""
    closed_form = {"exact": True} if case.sweep and case.sweep.exact else {}
    source = _reference(case)
    step = case.step if source is None else source.step or case.step
    fine = {} if source is None else {"reference": {"shape": source.shape, "restrict": source.restrict}}
    return (
        closed_form
        | fine
        | {
            "format": FORMAT,
            "equation": describe_equation(case.build_equation()),
            "grid": case.grid.model_dump(mode="json", exclude_defaults=True),
            "stepper": describe_stepper((source and source.stepper) or case.time.stepper),
            "step": step,
            "cfl": (source and source.cfl) or case.time.cfl,
            "start": case.time.start,
            "steps": multiple(case.time.end - case.time.start, step),
            "every": multiple(_kept(case), step),
            "initial": describe_initial(case.initial),
            "seed": case.ensemble.seed,
        }
        | ({} if (run := run_of_data(case)) is None else {"data": describe_run(case, run)})
    )


def _reference(case: Case) -> ReferenceTable | None:
    """The table of which the runs of the sweep are restrictions, if they are."""
    return case.reference if case.sweep and case.sweep.reference else None


def _kept(case: Case) -> float:
    """Time between the states that are kept."""
    return (case.sweep and case.sweep.every) or case.output.every


def interval(case: Case) -> int:
    """Number of steps of the case between the states that are kept."""
    return multiple(_kept(case), case.step)


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
        return _read(self.files[run])["state"]

    def grown(self, points: NDArray) -> Sweep:
        """The sweep with runs at additional points (run, parameter), computed where the cache lacks them."""
        return runs(self.case, np.concatenate([self.parameters, np.reshape(points, (-1, len(self.names)))]))

    def starts(self, points: NDArray) -> NDArray[np.float32]:
        """Initial states (point, field, *grid) at points of the sweep, without running them."""
        assert self.case.sweep is not None
        varied = [self.case.varied(self.case.sweep.values(p)) for p in points]
        return np.stack([_restriction(v)(_start(v)[2])[0] for v in varied]).astype(np.float32)

    def states(self) -> NDArray[np.float32]:
        """(run, time, field, *grid)."""
        return np.stack([self.state(i) for i in range(len(self))])


@plugin_errors()
def runs(case: Case, points: NDArray, progress: Progress = lambda done, total, what: None) -> Sweep:
    """The runs of a case at points (run, parameter) of its sweep; missing ones are computed, one thread per core.

    One process at a time computes a run; another one waits and then uses the result. Damaged files are computed again,
    and the logger "subgrid" says so.

    Raises ValueError for a case without [sweep], and BlowUp, with the parameters, for a run that fails.
    """
    if case.sweep is None:
        raise ValueError("the case has no [sweep] table")
    varied = [case.varied(case.sweep.values(p)) for p in points]
    files = tuple(_file(request(v)) for v in varied)
    for v, file in zip(varied, files, strict=True):
        if not file.is_file():
            equation, grid, _ = _start(v)  # before anything is written
            if case.sweep.exact:
                _closed_form(v, equation, grid, case.time.end - case.time.start)
    wait = say_waiting(f"runs of this sweep in {cache() / 'sweep'}")
    with ThreadPoolExecutor(available_threads()) as pool:
        missing = pool.map(lambda file: not _finished(file, LOG.debug), files)
        todo = [(v, f) for v, f, absent in zip(varied, files, missing, strict=True) if absent]
        done = len(files) - len(todo)
        futures = [pool.submit(_provide, v, f, wait) for v, f in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                progress(done, len(files), "sweep")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    first = _read(files[0])["time"] if files else np.empty(0)
    ranges = np.array(list(case.sweep.parameters.values()))
    return Sweep(tuple(case.sweep.parameters), ranges, np.asarray(points), files, first, common(case), case)


def common(case: Case) -> dict[str, Any]:
    """What all runs of a sweep depend on: the request of a run without the swept parameters, and the fields."""
    assert case.sweep is not None
    about = request(case) | {"fields": [f.name for f in case.build_equation().fields]}
    for name in case.sweep.parameters:
        table, _, key = name.partition(".")
        if "." in key:
            about[table] = with_entries(about[table], {key: None})
        else:
            about[table] = {k: v for k, v in about[table].items() if k != key}
    return about


def unfinished(case: Case, points: NDArray) -> list[int]:
    """Indices of the points (run, parameter) whose run the cache lacks."""
    assert case.sweep is not None
    files = [_file(request(case.varied(case.sweep.values(p)))) for p in points]
    return [i for i, file in enumerate(files) if not _finished(file, LOG.debug)]


def provide(case: Case, point: NDArray) -> None:
    """Compute the run at a point of the sweep, unless the cache has it. Raises BlowUp, with the parameters."""
    assert case.sweep is not None
    varied = case.varied(case.sweep.values(point))
    _provide(varied, _file(request(varied)), say_waiting(f"runs of this sweep in {cache() / 'sweep'}"))


def _start(case: Case) -> tuple[Equation, Grid, NDArray[np.float64]]:
    """Equation, grid and the initial state (1, field, *grid) of a run. Raises ValueError, with the parameters."""
    equation, grid = case.build_equation(), case.grid.grid()
    if (source := _reference(case)) is not None and source.shape is not None:
        equation, grid = equation.complete(), grid.refined(source.shape)
    try:
        return equation, grid, checked_state(case.initial, equation, grid, (0,), case.ensemble.seed)
    except ValueError as error:
        raise ValueError(f"{error} (the run with {describe_initial(case.initial)}, {case.equation})") from error


def _restriction(case: Case) -> Callable[[NDArray], NDArray]:
    """States of a run (member, field, *its grid) on the grid of the case."""
    if (source := _reference(case)) is None or source.shape is None:
        return lambda state: state
    grid = case.grid.grid()
    return Restrict(case.build_equation().complete(), grid.refined(source.shape), grid, source.restrict)


def _closed_form(case: Case, equation: Equation, grid: Grid, t: float) -> NDArray[np.float64]:
    """The exact solution (1, field, *grid) a time t after the start. Raises ValueError if no closed form is known."""
    found = case.initial.exact(equation, grid, t, (0,), case.ensemble.seed)
    if found is None:
        raise ValueError(
            f"sweep.exact: no closed form is known a time of {t:g} after the start for {equation.name} and "
            f"initial.kind = {case.initial.kind!r}. Remedy: sweep.exact = false"
        )
    return found


def _finished(file: Path, say: Callable[[str], None]) -> bool:
    """Whether the file contains an intact run; for a damaged one, say(why not)."""
    try:
        if file.is_file():
            verify_once(file, _intact)
            return True
    except DamagedFile as error:
        say(f"{error}. This run is computed again")
    except OSError:  # said when the file is written
        pass
    return False


def _intact(file: Path) -> bool:
    """Whether the file contains the states of its request, whose hash is its name, all of them finite."""
    try:
        arrays = _read(file)
        asked = json.loads(str(arrays["request"]))
        if _file(asked).name != file.name:
            return False
        state, count = arrays["state"], asked["steps"] // asked["every"] + 1
        form = len(state) == len(arrays["time"]) == count and state.dtype == np.float32
        return form and bool(np.isfinite(state).all())
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DamagedFile):
            raise
        return False


def _read(file: Path) -> dict[str, NDArray]:
    return read_arrays(file, largest=file.stat().st_size)  # the arrays are not compressed


def _provide(case: Case, file: Path, wait: Callable[[], None]) -> None:
    """Compute a run, unless another process or thread has done so meanwhile."""
    with locked(file.with_suffix(".lock"), wait, temporary=True):
        if not _finished(file, LOG.warning):
            remove_temporary(file.parent, of=file.name)
            _make(case, file)


def _make(case: Case, file: Path) -> None:
    """Run a case to its end on one thread and write the kept states. Raises BlowUp, with the parameters."""
    found = request(case)
    every, steps, step = found["every"], found["steps"], found["step"]
    times = case.time.start + step * np.arange(0, steps + 1, every, dtype=np.float64)
    asked = np.array(json.dumps(found))
    if (run := run_of_data(case)) is not None:
        given = states_of_run(case, run, times).astype(np.float32)
        write_arrays(file, {"state": given, "time": times, "request": asked})
        return
    equation, grid, state = _start(case)
    restrict, source = _restriction(case), _reference(case)

    def single(state: NDArray) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            kept = restrict(state)[0].astype(np.float32)
        if not np.isfinite(kept).all():
            raise BlowUp("the state is not finite in single precision")
        return kept

    try:
        if case.sweep and case.sweep.exact:
            spans = step * np.arange(0, steps + 1, every, dtype=np.float64)
            kept = [single(_closed_form(case, equation, grid, t)) for t in spans]
        else:
            of_reference = {} if source is None else {"stepper": source.stepper, "step": step, "cfl": source.cfl}
            simulation = build_simulation(case, equation, grid, state, threads=1, backend=NUMPY, **of_reference)
            kept = Collector(simulation, steps, every, single).run()
    except BlowUp as error:
        raise BlowUp(f"the run with {describe_initial(case.initial)}, {case.equation}: {error}") from None
    write_arrays(file, {"state": np.stack(kept), "time": times, "request": asked})
