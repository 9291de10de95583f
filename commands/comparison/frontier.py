"""The cost-error frontier: uncorrected and classical runs on a ladder of grids, with the best stepper and step of each.

It answers what the error of a closure would cost without it. The runs start from the same initial states as the rows of
the comparison and are scored against the same reference, which is never one of them. They are kept in the cache, grid
by grid; their cost is measured anew beside the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.ingest.requests import cache, describe_equation, describe_initial, describe_stepper, reference_request
from subgrid.solver.backend.files import DamagedFile, FolderLock, read_json, write_json
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case, ClosureTable
from subgrid.solver.closure import PluginError
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp, Simulation

from ..progress import StoppingBars
from . import search as searching
from .cost import Clocked, one_thread
from .judgement import RANKED, samples
from .ladder import coarsened, ladder
from .row_files import load_run, save_run
from .rows import Run, follow
from .samples import as_error
from .scores import Truth, score
from .search import Method, search

FORMAT = 2
UNCORRECTED = "none"
PIECE = "piece-"  # files of runs that workers have made, until the runs of their grid are kept


@dataclass(frozen=True)
class FrontierRun:
    """A scored run of the frontier, and what is needed to run it again."""

    run: Run
    grid: Grid
    method: Method
    closure: ClosureTable | None

    def clocked(self, prepared: Prepared, members: tuple[int, ...]) -> Clocked:
        """The run, for the measurement of its cost."""
        case, step = prepared.case, self.method.step
        return Clocked(
            lambda: _simulation(prepared, self.grid, self.method, members, self.closure, threads=1),
            multiple(case.time.end - case.time.start, step),
            multiple(case.output.every, step),
        )


@dataclass(frozen=True)
class Job:
    """A run on one grid: a closure or none, with the first of the methods that finishes."""

    grid: Grid
    methods: tuple[Method, ...]
    closure: ClosureTable | None


Runner = Callable[[Prepared, Truth, tuple[int, ...], Path, list[Job]], Iterable[FrontierRun | None]]


def frontier(
    prepared: Prepared,
    truth: Truth,
    members: tuple[int, ...],
    classical: list[ClosureTable],
    bars: StoppingBars,
    runner: Runner | None = None,
) -> list[FrontierRun]:
    """The scored runs of the frontier, from the cache or computed.

    members: one of each trajectory, or all of them if they differ. classical: closures, tuned on the case's grid, that
    are also run on the ladder, up to the grid where a cheaper run beats them in every score. A run that fails is
    repeated with the next shorter step; one that fails with every step is left out. runner: carries out the runs on a
    grid in the place of this process, which then searches methods while none runs.
    """
    folder = cache() / f"frontier-{_key(prepared, members, classical)}"
    folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(folder, wait=lambda: bars(0, 1, "frontier", "waiting for another process")):
        return _Ladder(prepared, truth, members, classical, bars, folder, runner).runs()


class _Ladder:
    """The runs on each grid, kept in `folder`: plan.json lists those of the finished grids, N.npz holds run N."""

    def __init__(
        self,
        prepared: Prepared,
        truth: Truth,
        members: tuple[int, ...],
        classical: list[ClosureTable],
        bars: StoppingBars,
        folder: Path,
        runner: Runner | None = None,
    ) -> None:
        self._prepared, self._truth, self._members = prepared, truth, members
        self._classical, self._bars, self._folder, self._runner = classical, bars, folder, runner

    def runs(self) -> list[FrontierRun]:
        grids = ladder(self._prepared)
        found, steppers, window, done = self._kept()
        trajectories = self._truth.states.shape[1]
        each = self._members[:: len(self._members) // trajectories]
        if window is None:
            window = self._window(each)
        for i in range(done, len(grids)):
            grid = grids[i]
            closures = self._unbeaten(found, grids[i - 1]) if i else self._classical
            seen = partial(self._seen, i, len(grids))
            with one_thread():
                methods, good = search(self._prepared, grid, self._truth.states, each, window, steppers, seen)
            steppers = good or steppers
            jobs = [
                Job(grid, (method, *shorter), closure)
                for j, (method, shorter) in enumerate(methods)
                for closure in ((None, *closures) if j == 0 else (None,))
            ]
            found += [kept for kept in self._carried_out(jobs) if kept is not None]
            for n, kept in enumerate(found):
                if not (self._folder / f"{n}.npz").is_file():
                    save_run(self._folder / f"{n}.npz", kept.run)
            self._keep(found, steppers, window, i + 1)
            for piece in self._folder.glob(f"{PIECE}*"):
                piece.unlink(missing_ok=True)
        return found

    def _carried_out(self, jobs: list[Job]) -> Iterable[FrontierRun | None]:
        of = self._prepared, self._truth, self._members
        if self._runner is not None and jobs:
            return self._runner(*of, self._folder, jobs)
        return [first_that_finishes(*of, job, self._bars) for job in jobs]

    def _unbeaten(self, found: list[FrontierRun], grid: Grid) -> list[ClosureTable]:
        """The closures that are run on finer grids: those that no cheaper run on this grid beats in every score.

        One that costs MOST_COST times the cheapest run is left out too: a finer grid costs less.
        """
        runs = [kept for kept in found if kept.grid.resolution == grid.resolution]
        most = searching.MOST_COST * min((kept.run.seconds_per_time for kept in runs), default=0.0)
        errors = [self._errors(kept.run) for kept in runs]

        def beaten(i: int) -> bool:
            cost = runs[i].run.seconds_per_time
            cheaper = [j for j, kept in enumerate(runs) if j != i and kept.run.seconds_per_time < cost]
            return cost > most or any((errors[j] <= errors[i]).all() for j in cheaper)

        return [table for i, kept in enumerate(runs) if (table := kept.closure) is not None and not beaten(i)]

    def _errors(self, run: Run) -> NDArray[np.float64]:
        """Every score that has a speed-up, as an error; 0 for one that does not exist."""
        scored = samples(run, self._truth, min(self._prepared.grid.cuts) - 1)
        assert scored is not None
        means = scored.mean()
        return np.nan_to_num([float(as_error(name, np.array(means[name]))) for name in RANKED])

    def _seen(self, done: int, total: int, text: str) -> None:
        self._bars(done, total, "frontier", text)

    def _window(self, members: tuple[int, ...]) -> int:
        """Number of outputs of the search, from a run of the case's own model."""
        run = follow(self._prepared.simulation((), members=members), self._prepared.case, Run("", "none"), self._bars)
        assert run.states is not None
        case = self._prepared.case
        # the last interval may be shorter than the others
        regular = 1 + int((case.time.end - case.time.start) / case.output.every + 1e-9)
        return searching.window(score(run.states, self._truth, self._prepared)["relative_l2"][:regular])

    def _kept(self) -> tuple[list[FrontierRun], list[str] | None, int | None, int]:
        """What an earlier comparison kept; nothing if it is damaged."""
        path = self._folder / "plan.json"
        if not path.is_file():
            return [], None, None, 0
        try:
            plan = read_json(path)
            shapes = self._truth.shapes(self._prepared)
            found = []
            for n, entry in enumerate(plan["runs"]):
                grid = self._prepared.grid.refined(tuple(entry["shape"]))
                closure = None if entry["closure"] is None else self._classical[entry["closure"]]
                run = load_run(self._folder / f"{n}.npz", shapes, "")
                found.append(FrontierRun(run, grid, Method(**entry["method"]), closure))
            return found, plan["steppers"], plan["window"], plan["grids"]
        except (DamagedFile, FileNotFoundError, KeyError, IndexError, TypeError):
            for left in (path, *self._folder.glob("*.npz")):
                left.unlink(missing_ok=True)
            return [], None, None, 0

    def _keep(self, found: list[FrontierRun], steppers: list[str] | None, window: int, grids: int) -> None:
        entries = [
            {
                "shape": list(kept.grid.resolution),
                "method": asdict(kept.method),
                "closure": None if kept.closure is None else self._classical.index(kept.closure),
            }
            for kept in found
        ]
        plan = {"runs": entries, "steppers": steppers, "window": window, "grids": grids}
        write_json(self._folder / "plan.json", plan)


def first_that_finishes(
    prepared: Prepared, truth: Truth, members: tuple[int, ...], job: Job, bars: StoppingBars
) -> FrontierRun | None:
    """The scored run of a job; None if the closure or the equation is not for its grid, or if all methods fail."""
    for method in job.methods:
        run = Run(_name(job.grid, method, job.closure), "none" if job.closure is None else "classical")
        try:
            simulation = _simulation(prepared, job.grid, method, members, job.closure)
        except (PluginError, BlowUp, ValueError):
            return None
        follow(simulation, prepared.case, run, bars, lambda state: coarsened(prepared, state, job.grid))
        if run.failed is None:
            assert run.states is not None
            alike = prepared.case.ensemble.members // len(members)
            run.scores = score(np.repeat(run.states, alike, axis=1), truth, prepared)
            run.states = None
            return FrontierRun(run, job.grid, method, job.closure)
    return None


def _simulation(
    prepared: Prepared,
    grid: Grid,
    method: Method,
    members: tuple[int, ...],
    closure: ClosureTable | None,
    threads: int | None = None,
) -> Simulation:
    closures = []
    if closure is not None:
        every = max(1, round(closure.every * prepared.case.step / method.step))
        closures = [replace(closure.couple(prepared.folder), every=every)]
    return method.simulation(prepared, grid, members, threads, closures)


def _name(grid: Grid, method: Method, closure: ClosureTable | None) -> str:
    shape = "x".join(map(str, grid.resolution))
    step = f"h = {method.step:.3g}" if method.cfl is None else f"cfl = {method.cfl:g}"
    return f"{closure.label if closure else UNCORRECTED} {shape}, {method.stepper}, {step}"


def _key(prepared: Prepared, members: tuple[int, ...], classical: list[ClosureTable]) -> str:
    """The name of what the frontier depends on: the reference, the model, the outputs, the members, the closures."""
    case: Case = prepared.case
    content: dict[str, Any] = {
        "format": FORMAT,
        "equation": describe_equation(prepared.equation),
        "grid": case.grid.model_dump(mode="json"),
        "time": case.time.model_dump(mode="json") | {"stepper": describe_stepper(case.time.stepper)},
        "every": case.output.every,
        "initial": describe_initial(case.initial),
        "ensemble": case.ensemble.model_dump(mode="json"),
        "members": members,
        "threshold": case.compare.correlation_threshold,
        "classical": [table.model_dump(mode="json") for table in classical],
        "search": {k: v for k, v in vars(searching).items() if k.isupper() and isinstance(v, (int, float, tuple))},
    }
    if prepared.trajectories is not None:
        content["reference"] = asdict(replace(reference_request(case), term_steps=None))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
