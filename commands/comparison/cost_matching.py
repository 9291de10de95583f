"""The finer grid of equal cost."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.ingest.restriction import Restrict, average_cells
from subgrid.solver.backend import select
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Transforms, resample

from ..progress import Bars
from .rows import Row, _follow

FINER_GRID = "finer grid"


COST_SECONDS = 0.03  # how long a run is, at least, that tells what a grid costs


def _finer_row(prepared: Prepared, rows: list[Row], bars: Bars, asked: Any) -> Row:
    """The uncorrected model on the largest grid that costs no more than the corrected run, or else on the next one up.

    The corrected run is the first learned row that did not fail, or the costliest row without one. The step shrinks in
    proportion to the spacing, down to a divisor of output.every, unless the model contains noise. Without noise, and
    with a reference on a grid, one member of each trajectory is run, and stands for the others.
    """
    case, grid = prepared.case, prepared.grid
    learned = [r for r in rows if r.kind not in ("none", "classical", "oracle") and not r.failed]
    learned.sort(key=lambda r: r.kind == "sum")
    corrected = learned[0] if learned else max(rows, key=lambda r: r.seconds_per_time)
    row = Row(FINER_GRID, "finer-grid", np.empty((0, *prepared.state.shape)))
    row.note = f"matched to the cost of {corrected.name!r}"
    finer = None
    for candidate in _finer_grids(prepared):
        cost = _cost(_finer_simulation(prepared, candidate))
        if finer is None or cost <= corrected.seconds_per_time:
            finer = candidate
        elif cost > 2 * corrected.seconds_per_time:  # not at the first: a rounder number of points may cost less
            break
    if finer is None:
        row.failed = "no grid that is finer, up to the reference's, fits the case"
        return row
    row.name = f"{FINER_GRID} {'x'.join(map(str, finer.shape))}"
    simulation = _finer_simulation(prepared, finer)

    def onto(state: NDArray) -> NDArray:
        coarse = _coarsen(prepared, state, finer, grid)
        return np.repeat(coarse, case.ensemble.members // len(coarse), axis=0)

    return _follow(simulation, case, row, bars, onto, asked)


def _finer_grids(prepared: Prepared) -> list[Grid]:
    """Grids from 9/8 of the case's up to the reference's that the equation fits, each axis a product of 2, 3 and 5."""
    shape = prepared.grid.shape
    reference = prepared.case.reference.shape if prepared.case.reference else None
    largest = max(a / b for a, b in zip(reference, shape, strict=True)) if reference else 16.0
    grids = []
    for n in range(shape[-1] + 2, int(shape[-1] * largest) + 1, 2):
        ratio = n / shape[-1]
        points = tuple(round(s * ratio) for s in shape)
        if ratio >= 9 / 8 and _smooth(n) and all(_smooth(p) for p in points):
            grids.append(prepared.grid.refined(points))
    return [grid for grid in grids if _fits(prepared, grid)]


def _fits(prepared: Prepared, grid: Grid) -> bool:
    try:
        prepared.equation.require(grid)
    except ValueError:
        return False
    return True


def _smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def _finer_simulation(prepared: Prepared, finer: Grid) -> Simulation:
    case = prepared.case
    step = case.step
    # a noisy model keeps the step, whose increments it shares, and adaptive steps see to themselves
    if prepared.equation.noise_law(prepared.grid) is None and case.time.cfl is None:
        ratio = finer.shape[-1] / prepared.grid.shape[-1]
        step = case.output.every / math.ceil(case.output.every / case.step * ratio - 1e-9)
    return Simulation(
        prepared.equation,
        finer,
        case.time.stepper,
        step,
        _refined(prepared, finer),
        start=case.time.start,
        seed=case.ensemble.seed,
        cfl=case.time.cfl,
        backend=select(case.backend),
    )


def _refined(prepared: Prepared, finer: Grid) -> NDArray:
    """The initial state on a finer grid: the reference's, or the initial condition's own.

    One member per trajectory of a reference on a grid if the model has no noise: the others would be copies, and cost
    for nothing.
    """
    case = prepared.case
    if prepared.trajectories is None:
        return case.initial.state(prepared.equation, finer, tuple(range(case.ensemble.members)), case.ensemble.seed)
    reference = case.reference
    assert reference is not None and reference.shape is not None
    restrict = Restrict(prepared.equation, finer.refined(reference.shape), prepared.grid, reference.restrict)
    noisy = prepared.equation.noise_law(prepared.grid) is not None
    copies = np.bincount(prepared.owner) if noisy else 1
    return np.repeat(restrict.onto(np.array(prepared.trajectories.fine), finer), copies, axis=0)


def _coarsen(prepared: Prepared, state: NDArray, finer: Grid, grid: Grid) -> NDArray:
    if not prepared.equation.spectral:
        return average_cells(state, grid.shape)
    dealias = prepared.case.reference is not None and prepared.case.reference.restrict == "filter"
    dealias = dealias and prepared.trajectories is not None
    cut = resample(Transforms(finer).to_spectrum(state), finer, grid, dealias=dealias)
    return Transforms(grid).to_physical(cut)


def _cost(simulation: Simulation) -> float:
    """Wall seconds per unit of time, from the fastest of five short runs."""
    simulation.advance(1)
    began = time.perf_counter()
    simulation.advance(1)
    steps = max(2, math.ceil(COST_SECONDS / (time.perf_counter() - began)))
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        simulation.advance(steps)
        best = min(best, (time.perf_counter() - began) / (steps * simulation.step))
    return best
