"""Prediction of the peak memory of a case, from steps of the same problem on small grids."""

from __future__ import annotations

import math
import os
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np

from subgrid.ingest.files import block_size
from subgrid.ingest.missing_term import missing_term
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import Request, reference_request, training_request
from subgrid.ingest.restriction import Restrict
from subgrid.solver.backend import NUMPY
from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Equation
from subgrid.solver.equations.forcing import FileForcing
from subgrid.solver.grid import Grid
from subgrid.solver.initial.checked import checked_state
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.diagnostics import Diagnostics
from subgrid.solver.simulation.schedule import Schedule

SMALL, LARGER = 16384, 65536  # points of the small grids
MEMBERS = (1, 3)
STEPS = 4  # a multistep history is full, and the first output is written


@dataclass(frozen=True)
class Part:
    """A part of a command: its largest memory in arrays, and the data that it writes to the disk, in bytes."""

    name: str
    arrays: int
    disk: int


def predict(case: Case) -> list[Part]:
    """The parts of the commands `run` and `data` for a case with a resolved step.

    The memory of a part is fitted, as a + b points + c members points, to what arrays take at most in steps on small
    grids of the same proportions: with the stepper, the right-hand side, the restriction and the missing term, and
    without closures. A reference and a training set have one block of trajectories in memory at a time, and write their
    states to files, which do not count.
    Raises ValueError for tracers.
    """
    equation, grid = case.build_equation(), case.grid.grid()
    if equation.carried:
        raise ValueError(f"--memory: not for {equation.name}, whose flow is not counted. Remedy: check without it")
    parts = [Part("run", _fitted(case, equation, grid, None, case.ensemble.members), 0)]
    requests: dict[str, Request] = {}
    if case.reference is not None and case.reference.shape is not None and case.reference.file is None:
        requests["reference"] = reference_request(case)
        if case.training is not None and case.training.file is None:
            requests["training set"] = training_request(case)
    for name, request in requests.items():
        fine, disk = grid.refined(request.reference_shape), _on_disk(request, equation, grid)
        arrays = _fitted(case, equation.complete(), fine, request, block_size(request))
        parts.append(Part(name, arrays, disk))
    return parts


def _on_disk(request: Request, equation: Equation, grid: Grid) -> int:
    """Bytes of the files of a request."""
    values, fields = math.prod(grid.shape) * request.trajectories, len(equation.fields)
    total = 8 * Schedule(*request.state_steps).count * values * fields
    if request.term_steps is not None:
        total += 4 * Schedule(*request.term_steps).count * values * fields
    if request.fine_at is not None:
        total += 8 * math.prod(request.reference_shape) * request.trajectories * fields
    return total


def _fitted(case: Case, equation: Equation, grid: Grid, request: Request | None, members: int) -> int:
    small = [scaled(grid, points) for points in (SMALL, LARGER)]
    places = [(small[0], MEMBERS[0]), (small[1], MEMBERS[0]), (small[0], MEMBERS[1]), (small[1], MEMBERS[1])]
    found = [_measured(case, equation, g, request, m) for g, m in places]
    terms = [[1.0, g.points, m * g.points] for g, m in places]
    (a, b, c), *_ = np.linalg.lstsq(np.array(terms), np.array(found, dtype=np.float64))
    return int(max(found[0], a + b * grid.points + c * members * grid.points))


def scaled(grid: Grid, points: int) -> Grid:
    """The grid with about this number of points, in its proportions, and even numbers along its axes."""
    if grid.points <= points:
        return grid
    factor = (points / grid.points) ** (1 / grid.dimensions)
    return grid.refined(tuple(max(8, 2 * round(n * factor / 2)) for n in grid.shape))


def _for_any_grid(equation: Equation) -> Equation:
    """The equation without a forcing from a file, which fits the grid of the case alone."""
    return equation.model_copy(update={"forcing": None}) if isinstance(equation.source, FileForcing) else equation


def _measured(case: Case, equation: Equation, grid: Grid, request: Request | None, members: int) -> int:
    """The peak of arrays in a few steps, in bytes."""
    coarse = grid if equation.kind == "particles" else grid.refined(tuple(max(4, n // 2) for n in grid.shape))
    equation, model = _for_any_grid(equation), _for_any_grid(case.build_equation())
    numbers = tuple(range(members))
    initial = case.initial if case.reference is None else case.reference.initial or case.initial

    def work() -> None:
        try:
            state = checked_state(initial, equation, grid, numbers, case.ensemble.seed)
        except ValueError:  # of a file, say, which fits the grid of the case alone
            state = np.ones((members, len(equation.fields), *grid.shape))
        options: dict[str, Any] = (
            {} if request is None else {"stepper": request.stepper, "step": request.step, "cfl": request.cfl}
        )
        run = build_simulation(case, equation, grid, state, members=numbers, backend=NUMPY, **options)
        run.run(STEPS)
        if request is None:
            run.diagnostics = Diagnostics(run, case.output.diagnostics)
            kept = [run.state, run.diagnostics.measure()]
        else:
            restrict = Restrict(equation, grid, coarse, request.restrict)
            kept = [restrict(run.state)]
            if request.term_steps is not None:
                kept.append(missing_term(model, restrict, run)(run.state))
        run.checkpoint()
        assert kept

    work()  # compiles, and fills caches
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident() -> int:
    """Bytes of this process in memory: the interpreter, the libraries of a run, and compiled code."""
    import zarr  # noqa: F401

    from . import run  # noqa: F401

    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def needs(case: Case) -> dict[str, str]:
    """The peak memory of each part of a case in words. Raises ValueError, with the number, if one does not fit."""
    parts, base, most = predict(with_step(case)), resident(), available()
    for part in parts:
        if base + part.arrays > most:
            raise ValueError(
                f"memory: the {part.name} needs about {(base + part.arrays) / 2**30:.1f} GiB, this machine has "
                f"{most / 2**30:.1f} GiB. Remedy: fewer members or trajectories, or a smaller grid"
            )
    words = "about {:.2f} GiB of memory, {:.2f} GiB on disk in the cache"
    return {part.name: words.format((base + part.arrays) / 2**30, part.disk / 2**30) for part in parts}
