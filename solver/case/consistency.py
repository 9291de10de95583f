"""Contradictions between the tables of a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..backend import Precision
from ..equations.answers import admissible, exact_state
from ..equations.base import Equation
from ..equations.initial_state import InitialState
from ..equations.plugins import unknown
from ..time_stepping.schemes import STEPPERS, Split, compatible_schemes, fits, takes_courant_steps
from .entities import entity_mistakes, grid_mistakes
from .intervals import output_mistakes, sweep_mistakes, whole
from .output import OutputTable, selection_mistakes
from .precision import precision_mistakes
from .starts import TRIED_POINTS, attempts
from .sweep_design import SweepTable, numbers_of, with_entries
from .tables import ClosureTable, EnsembleTable, GridTable, ReferenceTable, TimeTable, TrainingTable
from .trials import fault_of_trial, initial_times, plugin_faults

LARGEST_STATE = 4 * 2**30  # bytes of one state; a larger one is treated as a typo


@dataclass
class Parts:
    """The tables of a case that could be read; None for a table that is missing or wrong."""

    equation: Equation | None = None
    grid: GridTable | None = None
    time: TimeTable | None = None
    initial: InitialState | None = None
    ensemble: EnsembleTable | None = None
    output: OutputTable | None = None
    reference: ReferenceTable | None = None
    training: TrainingTable | None = None
    sweep: SweepTable | None = None
    precision: Precision = "float64"
    given: frozenset[str] = frozenset()  # names of the tables in the file, valid or not
    fed_by_reference: tuple[tuple[str, ClosureTable], ...] = ()  # closures that need the reference, with their keys
    tables: tuple[ClosureTable, ...] = ()


def contradictions(parts: Parts) -> list[str]:
    """Every contradiction between tables. Checks whose tables could not be read are skipped."""
    found: list[str] = []
    for check in (
        _dimensions,
        _sizes,
        lambda p: entity_mistakes(p.grid, p.ensemble, p.equation, p.reference, p.training),
        _steppers,
        _steps,
        _fields,
        _parameters,
        _initial,
        _reference,
        _training,
        _sweep,
        _fed_by_reference,
        initial_times,
    ):
        found += check(parts)
    return found or list(precision_mistakes(parts)) or list(plugin_faults(parts))


def _dimensions(p: Parts) -> Iterator[str]:
    if not (p.equation and p.grid):
        return
    axes, wanted = len(p.grid.points), p.equation.dimensions
    if mistakes := list(grid_mistakes(p.equation, p.grid)):
        yield from mistakes
    elif axes not in wanted:
        yield f"grid.shape: {p.equation.name} needs {' or '.join(map(str, wanted))} axes, found {axes}"
    elif p.reference and p.reference.shape and len(p.reference.shape) != axes:
        yield f"reference.shape: expected {axes} axes, as in grid.shape, found {len(p.reference.shape)}"


def _sizes(p: Parts) -> Iterator[str]:
    sizes: list[tuple[str, tuple[int, ...], int, str]] = []
    if p.grid and p.ensemble:
        shapes = {"grid.shape": p.grid.shape, "grid.entities": p.grid.entities and (p.grid.entities,)}
        sizes += [(key, shape, p.ensemble.members, "members") for key, shape in shapes.items() if shape]
    if p.reference and p.reference.shape:
        sizes.append(("reference.shape", p.reference.shape, p.reference.trajectories, "trajectories"))
        if p.training and p.training.file is None:
            sizes.append(("training.trajectories", p.reference.shape, p.training.trajectories, "trajectories"))
    for key, shape, count, what in sizes:
        size = 8 * math.prod(shape) * count * len(p.equation.fields if p.equation else (1,))
        if size > LARGEST_STATE:
            amount = f"{size / 2**30:.3g} GiB" if size < 2**1000 else "far too much memory"
            yield (
                f"{key}: a state of {'x'.join(_digits(n) for n in shape)} points and {_digits(count)} {what} takes "
                f"{amount}, more than {LARGEST_STATE // 2**30} GiB. Remedy: use fewer points or {what}"
            )


def _digits(n: int) -> str:
    return str(n) if n < 10**12 else "very many"


def _steppers(p: Parts) -> Iterator[str]:
    if not p.equation:
        return
    equation = p.equation
    names = {"time.stepper": p.time.stepper if p.time else None}
    names["reference.stepper"] = p.reference.stepper if p.reference else None
    schemes = {name: STEPPERS.imported(name) for name in names.values() if name}
    for key, name in names.items():
        if name is None or (scheme := schemes[name]) is None:
            continue
        if not fits(scheme, equation.kind, equation.split):
            known = ", ".join(compatible_schemes(equation.kind, equation.split))
            yield f"{key}: {name} does not fit {equation.name}, which is {equation.kind}; expected one of: {known}"
        elif isinstance(scheme, Split) and (need := equation.split_need()):
            yield f"{key}: {name} needs {need}"
    scheme = schemes.get(p.time.stepper) if p.time else None
    if not p.time or p.time.cfl is None or scheme is None or not fits(scheme, equation.kind, equation.split):
        return
    if equation.kind == "particles":
        yield f"time.cfl: {equation.name} has no grid, so there is no Courant number. Remedy: set time.step instead"
    elif need := equation.courant_need():
        yield f"time.cfl: {need}"
    elif p.time.step is not None or equation.adaptive:
        if not takes_courant_steps(scheme, equation.kind):
            reason = "with time.step it" if p.time.step is not None else "as signal speeds may grow, it"
            yield (
                f"time.cfl: {reason} requires adaptive steps, which {p.time.stepper} does not support for "
                f"{equation.name}. Remedy: set time.step alone"
            )
        elif p.time.step is None and p.tables:
            yield "time.step: missing; with adaptive steps, closures are called at multiples of it. Remedy: set it"


def _steps(p: Parts) -> Iterator[str]:
    if p.time and p.output:
        yield from output_mistakes(p.time, p.output)


def _fields(p: Parts) -> Iterator[str]:
    names = [f.name for f in p.equation.fields] if p.equation else []
    if p.equation and p.reference:
        yield from (f"reference.unobserved: {unknown(f, names)}" for f in p.reference.unobserved if f not in names)
    if p.equation and p.output and p.grid and not any(_dimensions(p)) and not any(_sizes(p)):
        yield from selection_mistakes(p.output, p.equation, p.grid.grid())


def _parameters(p: Parts) -> Iterator[str]:
    """Mistakes in parameters of the equation that do not fit the grids of the case and of the reference."""
    if not (p.equation and p.grid) or len(p.grid.points) not in p.equation.dimensions:
        return
    shapes = [p.grid.points, *([p.reference.shape] if p.reference and p.reference.shape else [])]
    if any(len(s) != len(p.grid.points) or math.prod(s) > LARGEST_STATE // 8 for s in shapes):
        return
    for shape in shapes:
        faults = list(_trial("equation", lambda s=shape: p.equation.require(p.grid.grid().refined(s)), p))  # type: ignore
        yield from faults
        if faults:
            return


def _initial(p: Parts) -> Iterator[str]:
    reference = p.reference
    if p.initial and p.initial.kind == "reference":
        if "reference" not in p.given or (reference and reference.exact):
            yield 'initial.kind: "reference" needs a [reference] table with a shape. Remedy: set reference.shape'
        elif reference and reference.initial is None and reference.file is None:
            yield 'reference.initial: missing; with initial.kind = "reference" the reference needs an initial state'
        if p.time and p.time.cfl is not None and p.time.step is None:
            yield 'time.cfl: initial.kind = "reference" has no signal speed before the run. Remedy: set time.step'
    if reference and reference.initial and reference.initial.kind == "reference":
        yield "reference.initial.kind: a reference cannot start from itself. Remedy: choose another kind"
    if not (p.equation and p.grid and p.ensemble) or len(p.grid.points) not in p.equation.dimensions:
        return
    if any(_sizes(p)) or any(_parameters(p)):
        return
    grid = p.grid.grid()
    for key, attempt in attempts(p.equation, grid, p.ensemble.members, p.initial, reference):
        faults = list(_trial(key, attempt, p))
        yield from faults
        if faults:
            return
    if math.prod(grid.shape) > TRIED_POINTS:
        return
    if reference and reference.exact and p.initial and p.initial.kind != "reference" and p.time:
        exact = partial(exact_state, p.initial, p.equation, p.grid.grid(), p.time.end - p.time.start, (0,), 0)
        yield from _trial("reference.exact", exact, p)


def _trial(key: str, make: Callable[[], Any], p: Parts) -> Iterator[str]:
    """Mistakes in the state that `make` returns, or the exception that it raises."""
    try:
        with np.errstate(all="ignore"):
            made = make()
            finite = made is None or bool(np.isfinite(made).all())
            allowed = made is None or not finite or not p.equation or admissible(p.equation, made)
    except BaseException as error:
        yield fault_of_trial(key, error)
        return
    assert p.equation
    if made is None and key == "reference.exact" and p.initial:
        yield (
            f"reference.exact: the initial state {p.initial.kind or type(p.initial).__name__} has no closed form for "
            f"{p.equation.name} with these options. Remedy: set reference.shape instead"
        )
    elif not finite:
        yield f"{key}: the state is not finite. Remedy: use smaller values"
    elif not allowed:
        yield f"{key}: the state is not admissible for {p.equation.name}. Remedy: use values that the equation allows"


def _reference(p: Parts) -> Iterator[str]:
    reference = p.reference
    if reference is None:
        return
    if p.ensemble and p.ensemble.members % reference.trajectories:
        yield (
            f"ensemble.members: must be a multiple of reference.trajectories = {_digits(reference.trajectories)}, "
            f"found {_digits(p.ensemble.members)}"
        )
    if reference.shape is None:
        return
    if p.grid and p.equation and len(p.grid.points) == len(reference.shape):
        yield from shape_mistakes(reference.shape, p.grid.points, p.equation, reference.restrict)
    if not p.time:
        return
    start = p.time.start if reference.start is None else reference.start
    if start > p.time.start:
        yield f"reference.start: must not be later than time.start = {p.time.start:g}, found {start:g}"
    step = reference.step or p.time.step
    if step is not None:
        spans = {"reference.start: the span to time.start": p.time.start - start} if start < p.time.start else {}
        if reference.step is not None and p.output:
            spans["reference.step: output.every"] = p.output.every
            spans["reference.step: time.end - time.start"] = p.time.end - p.time.start
        yield from whole(spans, step)
        if reference.step is not None and p.time.step is not None:
            for every, label in {t.every: t.label for _, t in p.fed_by_reference}.items():
                yield from whole({f"reference.step: the interval of {label}": every * p.time.step}, step)
    if p.equation and p.equation.noise and p.equation.has("noise") and reference.step not in (None, p.time.step):
        yield "reference.step: must equal time.step if the model contains noise, because they share its increments"


def shape_mistakes(
    shape: tuple[int, ...], points: tuple[int, ...], equation: Equation, restrict: str, key: str = "reference.shape"
) -> Iterator[str]:
    """Why states of a shape cannot be restricted to the points of a case."""
    pairs = list(zip(shape, points, strict=True))
    on_grid = getattr(equation, "carrier", equation)  # of entities that a flow carries, the flow
    fine, coarse = ([*map(_digits, numbers)] for numbers in zip(*pairs, strict=True))
    found = f"found [{', '.join(fine)}] for grid.shape = [{', '.join(coarse)}]"
    if any(n < m for n, m in pairs):
        yield f"{key}: must be at least as fine as grid.shape, {found}"
    elif equation.kind == "particles" and not equation.carried and shape != points:
        yield f"{key}: must be the number of entities, [{coarse[0]}], found [{fine[0]}]"
    elif any(n % m for n, m in pairs) and (restrict == "subsample" or not on_grid.spectral):
        yield f"{key}: must be a whole multiple of grid.shape to be subsampled or averaged, {found}"


def _training(p: Parts) -> Iterator[str]:
    training, reference = p.training, p.reference
    if training is None:
        return
    if training.file is not None:
        if p.time and p.time.step is not None:
            spans = {"training.every": training.every, "training.end - training.start": training.end - training.start}
            yield from whole(spans, p.time.step)
        return
    if "reference" not in p.given or (reference and reference.exact):
        yield "training: needs a [reference] table with a shape, because the reference provides the data"
        return
    if reference and reference.file is not None:
        yield "training.file: missing; reference.file provides no training trajectories. Remedy: set training.file"
        return
    if reference is None or p.time is None:
        return
    if training.seed == reference.seed:
        yield f"training.seed: must differ from reference.seed = {reference.seed}, or they share trajectories"
    start = p.time.start if reference.start is None else reference.start
    if training.start < start:
        yield f"training.start: must not be earlier than the reference's start = {start:g}, found {training.start:g}"
    if step := reference.step or p.time.step:
        spans = {"training.every": training.every, "training.end - training.start": training.end - training.start}
        if training.start > start:
            spans["training.start: the span from the reference's start"] = training.start - start
        yield from whole(spans, step)


def _sweep(p: Parts) -> Iterator[str]:
    """Mistakes in the parameters of a sweep: each must be a number of its table, which accepts all its values."""
    if p.sweep is None:
        return
    tables = {"initial": p.initial, "equation": p.equation}
    if p.initial and p.initial.kind == "reference":
        yield "sweep: the runs of a sweep cannot start from the reference. Remedy: choose another initial.kind"
        return
    if p.output and p.time and (p.reference or "reference" not in p.given):
        yield from sweep_mistakes(p.sweep, p.time, p.output, p.reference)
    faults = False
    for name in p.sweep.parameters:
        where, _, key = name.partition(".")
        if where not in tables or not key:
            faults = True
            yield f"sweep.parameters.{name}: expected initial.KEY or equation.KEY"
        elif (model := tables[where]) is not None:
            numbers = list(numbers_of(model))
            if key not in numbers:
                faults = True
                yield f"sweep.parameters.{name}: {unknown(key, numbers) if numbers else 'there is no number to vary'}"
    if faults or not (p.initial and p.equation):
        return
    corners = len(p.sweep.corners())
    for i, point in enumerate([*p.sweep.corners(), *p.sweep.points(), *p.sweep.test_points()]):
        values = p.sweep.values(point)
        try:
            made = [
                type(model).model_validate(
                    with_entries(
                        model, {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{where}.")}
                    )
                )
                for where, model in (("initial", p.initial), ("equation", p.equation))
            ]
        except ValidationError as error:
            first = error.errors()[0]
            yield f"sweep.parameters: {first['loc'][0] if first['loc'] else ''}: {first['msg']}, at {values}"
            return
        small = p.grid and len(p.grid.points) in p.equation.dimensions and math.prod(p.grid.points) <= TRIED_POINTS
        if i < corners and small and p.grid:
            made.append(p.grid.grid())  # type: ignore[arg-type]
            faulty = list(_trial("sweep.parameters", lambda m=made: m[0].state(*m[1:], (0,), 0), p))  # type: ignore
            yield from (f"{fault}, at {values}" for fault in faulty)
            if faulty:
                return


def _fed_by_reference(p: Parts) -> Iterator[str]:
    if "reference" not in p.given or (p.reference and p.reference.exact):
        for key, table in p.fed_by_reference:
            if "reference" not in table.options:
                yield (
                    f"{key}: {table.label} needs a [reference] table with a shape. "
                    "Remedy: set reference.shape, or choose another closure"
                )
