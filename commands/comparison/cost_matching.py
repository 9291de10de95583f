"""The uncorrected model on a finer grid of equal cost."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.prepare import Prepared
from subgrid.ingest.restriction import Restrict, average_cells
from subgrid.solver.case.base import multiple
from subgrid.solver.case.compare_rows import FINER_GRID
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.spectral import Transforms, resample

from ..progress import StoppingBars
from .rows import Run, follow

COST_SECONDS = 0.03  # lower bound on the wall time of a run that measures the cost of a grid


def finer_run(prepared: Prepared, runs: list[Run], bars: StoppingBars) -> Run:
    """The uncorrected model on the largest grid that costs no more than the corrected run, or on the smallest one.

    The corrected run is the first learned one that did not fail, single closures before sums; without one it is the
    costliest run. The step shrinks in proportion to the spacing, to a divisor of the intervals of outputs, unless the
    model contains noise. Without noise, and with a reference on a grid, one member of each trajectory is run: the
    others would be copies of it.
    """
    case, grid = prepared.case, prepared.grid
    learned = [r for r in runs if r.kind in ("learned", "sum") and not r.failed]
    learned.sort(key=lambda r: r.kind == "sum")
    corrected = learned[0] if learned else max(runs, key=lambda r: r.seconds_per_time)
    run = Run(FINER_GRID, "finer-grid")
    run.note = f"matched to the cost of {corrected.name!r}"
    try:
        with plugin_errors():
            finer = _finest(prepared, corrected.seconds_per_time)
            simulation = None if finer is None else _finer_simulation(prepared, finer)
    except (ValueError, BlowUp, PluginError) as error:  # an initial state of one resolution only, for instance
        run.failed = str(error)
        return run
    if finer is None or simulation is None:
        run.failed = "no grid between the case's and the reference's fits the case"
        return run
    run.name = f"{FINER_GRID} {'x'.join(map(str, finer.shape))}"

    def onto(state: NDArray) -> NDArray:
        coarse = _coarsen(prepared, state, finer, grid)
        return np.repeat(coarse, case.ensemble.members // len(coarse), axis=0)

    return follow(simulation, case, run, bars, onto)


def _finest(prepared: Prepared, affordable: float) -> Grid | None:
    """The largest grid that costs at most `affordable` wall seconds per unit of time, or the smallest one, if any."""
    finer = None
    for candidate in _finer_grids(prepared):
        cost = _cost(_finer_simulation(prepared, candidate))
        if finer is None or cost <= affordable:
            finer = candidate
        elif cost > 2 * affordable:  # a larger grid may cost less if its transforms are faster
            break
    return finer


def _finer_grids(prepared: Prepared) -> list[Grid]:
    """Grids of 9/8 of the case's points or more, up to the reference's, that the equation fits.

    The number of points along each axis is a product of 2, 3 and 5.
    """
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
    # A model with noise keeps the step, so that it shares the increments; an adaptive step follows the grid by itself.
    if prepared.equation.noise_law(prepared.grid) is None and case.time.cfl is None:
        ratio = finer.shape[-1] / prepared.grid.shape[-1]
        every = multiple(case.output.every, case.step)
        interval = case.output.every / (every // math.gcd(every, case.steps()))
        step = interval / math.ceil(interval / case.step * ratio - 1e-9)
    return build_simulation(case, prepared.equation, finer, _refined(prepared, finer), step=step)


def _refined(prepared: Prepared, finer: Grid) -> NDArray:
    """The initial state on a finer grid, restricted from the reference's, or evaluated there without one.

    With a reference on a grid and a model without noise it has one member per trajectory.
    """
    case = prepared.case
    if prepared.trajectories is None:
        members = tuple(range(case.ensemble.members))
        return initial_state(case.initial, prepared.equation, finer, members, case.ensemble.seed)
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
