"""The ladder of grids on which classical runs form the frontier, and their initial states."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.perturbation import perturbed
from subgrid.ingest.prepare import Prepared
from subgrid.ingest.restriction import Restrict, average_cells
from subgrid.solver.equations.answers import initial_state
from subgrid.solver.equations.tracers.equation import Tracers
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Transforms, resample

RUNGS = 5  # grids of the ladder, if the range holds so many
EXACT_RANGE = 4.0  # ratio of the finest grid to the case's where the reference is a closed form


def ladder(prepared: Prepared) -> list[Grid]:
    """Grids from the case's to half the reference's resolution, about evenly spaced in the logarithm.

    The number of points along each axis is a product of 2, 3 and 5, and the equation fits every grid. A particle
    system, and a reference of less than 9/4 of the case's resolution, leave the case's grid alone.
    """
    grid = prepared.grid
    if prepared.equation.kind == "particles" and not prepared.equation.carried:
        return [grid]
    reference = prepared.case.reference.shape if prepared.case.reference else None
    ratios = [a / b for a, b in zip(reference, grid.resolution, strict=True)] if reference else [2 * EXACT_RANGE]
    largest = min(ratios) / 2
    transforms = getattr(prepared.equation, "carrier", prepared.equation).spectral
    found = [grid]
    for wanted in np.geomspace(1.0, max(1.0, largest), RUNGS)[1:]:
        candidates = [g for g in _finer(prepared, largest) if g.resolution[-1] >= 9 / 8 * found[-1].resolution[-1]]
        if candidates:
            found.append(min(candidates, key=lambda g: _distance(g, wanted * grid.resolution[-1], transforms)))
    return found


def _distance(grid: Grid, wanted: float, transforms: bool) -> float:
    """Distance in the logarithm. With transforms, odd multiples of a small power of 2 are slow and count as farther."""
    n = grid.resolution[-1]
    return abs(math.log(n / wanted)) + (0.1 if transforms and n % 16 else 0.0)


def _finer(prepared: Prepared, largest: float) -> list[Grid]:
    shape, grids = prepared.grid.resolution, []
    for n in range(shape[-1] + 2, int(shape[-1] * largest + 1e-9) + 1, 2):
        points = tuple(round(s * n / shape[-1]) for s in shape)
        if smooth(n) and all(smooth(p) for p in points):
            grids.append(prepared.grid.refined(points))
    return [grid for grid in grids if _fits(prepared, grid)]


def _fits(prepared: Prepared, grid: Grid) -> bool:
    try:
        prepared.equation.require(grid)
    except ValueError:
        return False
    return True


def smooth(n: int) -> bool:
    """Whether n is a product of 2, 3 and 5."""
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def refined(prepared: Prepared, finer: Grid, members: tuple[int, ...]) -> NDArray:
    """Initial states (member, field, *finer): restricted from the reference's, or evaluated without a reference grid.

    members: numbers of the case's members, whose perturbations they have. Entities are the same on every grid.
    """
    case = prepared.case
    if finer.shape == prepared.grid.shape:  # entities are the same on every grid of a flow that carries them
        return prepared.state[list(members)]
    state = _unperturbed(prepared, finer, members)
    return perturbed(state, prepared.equation, finer, members, case.ensemble.seed, case.ensemble.perturbation)


def _unperturbed(prepared: Prepared, finer: Grid, members: tuple[int, ...]) -> NDArray:
    case = prepared.case
    if prepared.trajectories is None:
        return initial_state(case.initial, prepared.equation, finer, members, case.ensemble.seed)
    reference = case.reference
    assert reference is not None and reference.shape is not None
    restrict = Restrict(prepared.equation, finer.refined(reference.shape), prepared.grid, reference.restrict)
    states = restrict.onto(np.array(prepared.trajectories.fine), finer)
    return states[prepared.owner[list(members)]]


def of_entities(prepared: Prepared, finer: Grid, members: tuple[int, ...]) -> tuple[NDArray | None, NDArray | None]:
    """The arguments `mask` and `carrier` of a simulation, with the flow on a grid of the ladder."""
    mask, carrier = prepared.of_entities(members)
    flow, case = prepared.trajectories.carrier if prepared.trajectories else None, prepared.case
    if flow is None or finer.resolution == prepared.grid.resolution:
        return mask, carrier
    assert case.reference is not None and case.reference.shape is not None and finer.carrier is not None
    fine = finer.refined(case.reference.shape).carrier
    assert fine is not None and prepared.grid.carrier is not None
    assert isinstance(prepared.equation, Tracers)
    restrict = Restrict(prepared.equation.carrier, fine, prepared.grid.carrier, case.reference.restrict)
    return mask, restrict.onto(np.array(flow), finer.carrier)[prepared.owner[list(members)]]


def coarsened(prepared: Prepared, state: NDArray, finer: Grid) -> NDArray:
    """A state on a grid of the ladder, restricted to the case's grid as the reference is."""
    grid = prepared.grid
    if finer.shape == grid.shape:
        return state
    if not prepared.equation.spectral:
        return average_cells(state, grid.shape)
    reference = prepared.case.reference
    dealias = reference is not None and reference.restrict == "filter" and prepared.trajectories is not None
    cut = resample(Transforms(finer).to_spectrum(state), finer, grid, dealias=dealias)
    return Transforms(grid).to_physical(cut)
