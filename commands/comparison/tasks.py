"""The rows of a comparison and the runs of its frontier as tasks of the workers of a cluster.

A task is a function of the case and of indices, and writes a file of its own. It is not timed: others run beside it.
Costs are measured in the process of the command when no task runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import Cluster
from subgrid.ingest.pieces import Source, cache_at, case_of
from subgrid.ingest.prepare import Prepared, prepare
from subgrid.solver.backend.files import read_json, write_json

from ..progress import Bars, StoppingBars
from .cost import one_thread
from .folder import ComparisonFolder
from .frontier import PIECE, FrontierRun, Job, first_that_finishes
from .row_files import load_run, save_run
from .row_runs import makers, scored, truth_of
from .scores import Truth
from .search import Method
from .simulated_rows import classical, simulated


@dataclass(frozen=True)
class Tasks:
    """The tasks of one comparison. source: its case, with a step and named rows."""

    workers: Cluster
    source: Source
    bars: StoppingBars

    def rows(self, kept: ComparisonFolder, indices: Sequence[int]) -> Generator[int, None, None]:
        """Run, score and keep these rows; the index of each when its file is there."""
        tasks = [(self.source, str(cache()), i, str(kept.row(i))) for i in indices]
        kept.row(0).parent.mkdir(exist_ok=True)
        seen = _Seen(self.bars, len(tasks), "rows")
        for done, (i, _) in enumerate(self.workers.carry_out(_row, tasks, seen), 1):
            seen.done = done
            seen()
            yield indices[i]

    def ladder(
        self, prepared: Prepared, truth: Truth, members: tuple[int, ...], folder: Path, jobs: list[Job]
    ) -> list[FrontierRun | None]:
        """The runs of the frontier on one grid, each with the wall time of its steps, which no task disturbs."""
        tables = classical(prepared, simulated(prepared))
        tasks = []
        for job in jobs:
            closure = None if job.closure is None else tables.index(job.closure)
            what: dict[str, Any] = {"shape": list(job.grid.resolution), "closure": closure}
            what |= {"methods": [asdict(method) for method in job.methods], "members": list(members)}
            name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
            tasks.append((self.source, str(cache()), what, str(folder / f"{PIECE}{name}.npz")))
        seen = _Seen(self.bars, len(tasks), f"frontier, {'x'.join(map(str, jobs[0].grid.resolution))}")
        for done, _ in enumerate(self.workers.carry_out(_run_of_frontier, tasks, seen), 1):
            seen.done = done
        found: list[FrontierRun | None] = []
        for job, (*_, path) in zip(jobs, tasks, strict=True):
            piece = Path(path)
            if (chosen := read_json(piece.with_suffix(".json"))["method"]) is None:
                found.append(None)
                continue
            run = load_run(piece, truth.shapes(prepared), "Remedy: delete it")
            kept = FrontierRun(run, job.grid, job.methods[chosen], job.closure)
            clocked = kept.clocked(prepared, members)
            with one_thread():
                clocked.turn()
            run.seconds_per_time = clocked.cost[1]
            found.append(kept)
        return found


@dataclass
class _Seen:
    """Draws the progress of tasks while they run, and stops when the user asks for it."""

    bars: StoppingBars
    total: int
    what: str
    done: int = 0

    def __call__(self) -> None:
        self.bars(self.done, self.total, self.what)


def _opened(source: Source) -> tuple[Prepared, Truth, StoppingBars]:
    """The comparison in a worker; the reference is in the cache."""
    case = case_of(source)
    prepared = prepare(case, case.folder, with_reference=True)
    return prepared, truth_of(prepared), StoppingBars(Bars(quiet=True), lambda: False)


def _row(source: Source, cached: str, index: int, path: str) -> None:
    """Run and score a row, and write its file. Run by a worker."""
    with cache_at(Path(cached)):
        if Path(path).is_file():  # by a worker that was believed to be dead
            return
        prepared, truth, bars = _opened(source)
        run = scored(makers(prepared, bars)[index](), truth, prepared)
        run.seconds_per_time = 0.0
        save_run(Path(path), run)


def _run_of_frontier(source: Source, cached: str, what: dict[str, Any], path: str) -> None:
    """Run and score one closure on one grid of the ladder; the .json file beside the piece is written last.

    It has the index of the method that finished, or null. Run by a worker.
    """
    with cache_at(Path(cached)):
        mark = Path(path).with_suffix(".json")
        if mark.is_file() and (Path(path).is_file() or read_json(mark)["method"] is None):
            return
        prepared, truth, bars = _opened(source)
        closure = None if what["closure"] is None else classical(prepared, simulated(prepared))[what["closure"]]
        methods = tuple(Method(**entry) for entry in what["methods"])
        job = Job(prepared.grid.refined(tuple(what["shape"])), methods, closure)
        kept = first_that_finishes(prepared, truth, tuple(what["members"]), job, bars)
        if kept is not None:
            kept.run.seconds_per_time = 0.0
            save_run(Path(path), kept.run)
        write_json(mark, {"method": None if kept is None else methods.index(kept.method)})
