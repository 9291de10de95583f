"""Contradictions about the entities of a case, and the flow that carries them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..equations.base import Equation
from ..equations.tracers.equation import Tracers
from ..initial.run import Run
from ..time_stepping.schemes import STEPPERS, compatible_schemes, fits, known_stepper, takes_courant_steps
from .grid_table import GridTable
from .tables import EnsembleTable, ReferenceTable, TrainingTable


def grid_mistakes(equation: Equation, grid: GridTable) -> Iterator[str]:
    """Whether [grid] has entities, and the grid of a flow, exactly if the equation has."""
    particles = equation.kind == "particles"
    if equation.carried:
        if grid.entities is None or grid.shape is None:
            yield (
                f"grid.{'entities' if grid.entities is None else 'shape'}: {equation.name} needs grid.entities, and "
                "grid.shape and grid.length of the flow that carries them"
            )
    elif grid.entities is not None and (grid.shape or grid.length or grid.origin):
        yield "grid.entities: replaces grid.shape, grid.length and grid.origin. Remedy: remove them"
    elif particles != (grid.entities is not None):
        wrong = "needs grid.entities, not grid.shape" if particles else "needs grid.shape and grid.length, not entities"
        yield f"grid.{'shape' if particles else 'entities'}: {equation.name} {wrong}"


def entity_mistakes(
    grid: GridTable | None,
    ensemble: EnsembleTable | None,
    equation: Equation | None,
    reference: ReferenceTable | None,
    training: TrainingTable | None,
) -> Iterator[str]:
    """Whether ensemble.entities fits grid.entities, and no flow is missing that carries entities of files."""
    counts = ensemble.entities if ensemble else None
    if counts is not None and grid is not None:
        if grid.entities is None:
            yield "ensemble.entities: the equation has no entities. Remedy: leave ensemble.entities out"
        elif max(counts) > grid.entities:
            yield (
                f"ensemble.entities: {max(counts)} is more than grid.entities = {grid.entities}. "
                "Remedy: raise grid.entities"
            )
    if isinstance(equation, Tracers):
        yield from _carrier_mistakes(equation)
    for key, table in (("reference", reference), ("training", training)):
        if isinstance(equation, Tracers) and table is not None and table.file is not None:
            yield (
                f"{key}.file: {equation.name} need their flow, which the data lack. Remedy: reference.shape, and for a "
                "flow that another run made equation.stored"
            )


def _carrier_mistakes(equation: Tracers) -> Iterator[str]:
    """Whether the stepper of the flow exists and fits it, and a stored flow is the run of one."""
    carrier, name = equation.carrier, equation.carrier_stepper
    try:
        scheme = STEPPERS[known_stepper(name)]
    except (ValueError, KeyError) as error:
        yield f"equation.carrier_stepper: {error}"
        return
    if not fits(scheme, carrier.kind, carrier.split):
        known = ", ".join(compatible_schemes(carrier.kind, carrier.split))
        yield f"equation.carrier_stepper: {name} does not fit {carrier.name}; expected one of: {known}"
    elif equation.carrier_cfl is not None and not takes_courant_steps(scheme, carrier.kind):
        yield f"equation.carrier_cfl: {name} takes no steps by Courant number for {carrier.name}. Remedy: leave it out"
    if equation.stored is not None:
        try:
            Run(path=equation.stored).outputs(Path())
        except ValueError as error:
            yield f"equation.stored: {str(error).removeprefix('path: ')}"
